"""The lifecycle rules that the settings ask for, and how they go into a bucket beside those of others.

Pure. A rule can't leave out a suffix, so what tells a backup from its manifest and marks is a tag; whether the vendor
has kept that filter is read back. Ours are recognised by their ids; those of others are passed on as they came.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import LifecycleRuleOutputTypeDef

    S3Rule: TypeAlias = LifecycleRuleOutputTypeDef
else:
    S3Rule: TypeAlias = Mapping[str, Any]

BACKUPS, UPLOADS, VERSIONS = "hubbackup-backups", "hubbackup-uploads", "hubbackup-versions"
ABORT_DAYS = 2
"""After so long an unfinished upload has no process any more that could finish it."""
LONGEST_ID = 255


@dataclass(frozen=True)
class Terms:
    """How the bucket is to treat the backups under `prefix`; days of 0 ask for nothing."""

    prefix: str
    archive_after_days: int = 0
    archive_class: str = ""
    expire_after_days: int = 0
    hidden_after_days: int = 0
    """Of versions that a newer one, or a removal, has hidden: in a versioned bucket alone."""


@dataclass(frozen=True)
class Rule:
    """One of ours, as far as rules of ours go."""

    id: str
    prefix: str
    tag: tuple[str, str] | None = None
    archive: tuple[int, str] | None = None
    """Days, and the class."""
    expire_days: int = 0
    hidden_days: int = 0
    abort_days: int = 0

    def to_s3(self) -> dict[str, Any]:
        """As S3 takes it."""
        filter_: dict[str, Any] = {"Prefix": self.prefix}
        if self.tag is not None:
            tag = {"Key": self.tag[0], "Value": self.tag[1]}
            filter_ = {"And": {"Prefix": self.prefix, "Tags": [tag]}} if self.prefix else {"Tag": tag}
        rule: dict[str, Any] = {"ID": self.id, "Status": "Enabled", "Filter": filter_}
        if self.archive is not None:
            rule["Transitions"] = [{"Days": self.archive[0], "StorageClass": self.archive[1]}]
        if self.expire_days:
            rule["Expiration"] = {"Days": self.expire_days}
        if self.hidden_days:
            rule["NoncurrentVersionExpiration"] = {"NoncurrentDays": self.hidden_days}
            rule["Expiration"] = {"ExpiredObjectDeleteMarker": True}  # what hid nothing any more
        if self.abort_days:
            rule["AbortIncompleteMultipartUpload"] = {"DaysAfterInitiation": self.abort_days}
        return rule

    def sentence(self) -> str:
        """What it does, for people."""
        place = self.prefix or "the whole bucket"
        done = []
        if self.archive is not None:
            done.append(f"to class {self.archive[1]} after {self.archive[0]} days")
        if self.expire_days:
            done.append(f"removed after {self.expire_days} days")
        if self.hidden_days:
            done.append(f"removed {self.hidden_days} days after they were hidden")
        if self.abort_days:
            done.append(f"ended after {self.abort_days} days")
        what = {BACKUPS: "backups", UPLOADS: "unfinished uploads", VERSIONS: "hidden versions"}
        tag = f", tagged {self.tag[0]}={self.tag[1]}" if self.tag is not None else ""
        return f"{what[self.id.partition(':')[0]]} under {place}{tag}: {', '.join(done)}"


def wanted(terms: Terms, tag: tuple[str, str]) -> tuple[Rule, ...]:
    """The rules that these terms ask for. `tag` is that of the backups' files."""
    rules = []
    if terms.archive_after_days or terms.expire_after_days:
        archive = (terms.archive_after_days, terms.archive_class) if terms.archive_after_days else None
        expire = terms.expire_after_days
        rules.append(Rule(rule_id(BACKUPS, terms.prefix), terms.prefix, tag, archive, expire))
    rules.append(Rule(rule_id(UPLOADS, terms.prefix), terms.prefix, abort_days=ABORT_DAYS))
    if terms.hidden_after_days:
        rules.append(Rule(rule_id(VERSIONS, terms.prefix), terms.prefix, hidden_days=terms.hidden_after_days))
    return tuple(rules)


def rule_id(kind: str, prefix: str) -> str:
    """By which a rule of ours is recognised; several prefixes of one bucket may each have theirs."""
    text = f"{kind}:{prefix}"
    if len(text) <= LONGEST_ID:
        return text
    return f"{kind}:{hashlib.sha256(prefix.encode()).hexdigest()}"


@dataclass(frozen=True)
class Difference:
    """What is to be changed in a bucket's configuration, and what others have there."""

    added: tuple[Rule, ...]
    changed: tuple[tuple[S3Rule, Rule], ...]
    removed: tuple[S3Rule, ...]
    kept: tuple[Rule, ...]
    others: tuple[S3Rule, ...]
    prefix: str

    @property
    def empty(self) -> bool:
        """The bucket has what is asked for."""
        return not (self.added or self.changed or self.removed)

    @property
    def overlaps(self) -> tuple[str, ...]:
        """A sentence for each rule of others that moves or removes what is under our prefix."""
        found = (_overlap(rule, self.prefix) for rule in self.others)
        return tuple(sentence for sentence in found if sentence)

    def merged(self) -> list[dict[str, Any]]:
        """The configuration to put: theirs as they came, in their order, then ours."""
        ours = sorted((*self.kept, *self.added, *(new for _, new in self.changed)), key=lambda rule: rule.id)
        return [*(dict(rule) for rule in self.others), *(rule.to_s3() for rule in ours)]


def difference(there: Sequence[S3Rule], terms: Terms, rules: Sequence[Rule]) -> Difference:
    """What has to be done so that the bucket, which has the rules `there`, has ours as well."""
    ids = {rule_id(kind, terms.prefix) for kind in (BACKUPS, UPLOADS, VERSIONS)}
    ours = {str(rule.get("ID", "")): rule for rule in there if rule.get("ID", "") in ids}
    new = {rule.id: rule for rule in rules}
    same = {rule.id for rule in rules if rule.id in ours and normal(ours[rule.id]) == normal(rule.to_s3())}
    return Difference(
        tuple(rule for rule in rules if rule.id not in ours),
        tuple((ours[rule.id], rule) for rule in rules if rule.id in ours and rule.id not in same),
        tuple(rule for id_, rule in ours.items() if id_ not in new),
        tuple(rule for rule in rules if rule.id in same),
        tuple(rule for rule in there if rule.get("ID", "") not in ids),
        terms.prefix,
    )


def takes_manifests(rule: S3Rule) -> bool:
    """Whether it is ours for backups, and has lost the tag that spares what is beside them."""
    return str(rule.get("ID", "")).startswith(f"{BACKUPS}:") and not filter_of(rule)[1]


def removes_hidden(there: Sequence[S3Rule], prefix: str) -> bool:
    """Whether a rule, of whoever, removes hidden versions of all that is under the prefix."""
    for rule in there:
        of, tags, sizes = filter_of(rule)
        whole = rule.get("Status") == "Enabled" and prefix.startswith(of) and not tags and sizes == (None, None)
        if whole and rule.get("NoncurrentVersionExpiration"):
            return True
    return False


def normal(rule: Mapping[str, Any]) -> tuple[object, ...]:
    """A rule such that two which mean the same are equal: vendors write a filter in several ways, and reorder."""
    prefix, tags, sizes = filter_of(rule)
    rest = {
        key: _frozen(value)
        for key, value in rule.items()
        if key not in ("Filter", "Prefix") and value not in ([], {}, None)
    }
    return prefix, tuple(sorted(tags)), sizes, tuple(sorted(rest.items(), key=lambda item: item[0]))


def filter_of(rule: Mapping[str, Any]) -> tuple[str, frozenset[tuple[str, str]], tuple[int | None, int | None]]:
    """What a rule applies to: the prefix, the tags, and between which sizes."""
    plain: Mapping[str, Any] = rule.get("Filter") or {}
    both: Mapping[str, Any] = plain.get("And") or plain
    prefix = both.get("Prefix") or plain.get("Prefix") or rule.get("Prefix") or ""
    tags = [*both.get("Tags", []), *([plain["Tag"]] if plain.get("Tag") else [])]
    return (
        str(prefix),
        frozenset((str(tag["Key"]), str(tag.get("Value", ""))) for tag in tags),
        (both.get("ObjectSizeGreaterThan"), both.get("ObjectSizeLessThan")),
    )


def _frozen(value: object) -> object:
    if isinstance(value, Mapping):
        # A false ExpiredObjectDeleteMarker, which some vendors add, asks for nothing.
        return tuple(sorted((key, _frozen(one)) for key, one in value.items() if one is not False))
    if isinstance(value, list | tuple):
        return tuple(sorted((_frozen(one) for one in value), key=repr))
    return value


def _overlap(rule: S3Rule, ours: str) -> str:
    """What a rule of others does to what is under our prefix; empty where nothing that matters."""
    prefix, tags, _ = filter_of(rule)
    if rule.get("Status") != "Enabled" or tags or not (prefix.startswith(ours) or ours.startswith(prefix)):
        return ""
    done = []
    for one in rule.get("Transitions", []):
        done.append(f"moves what is there to class {one.get('StorageClass')} {_when(one)}, manifests and marks too")
    expiration: Mapping[str, Any] = rule.get("Expiration", {})
    if expiration.get("Days") or expiration.get("Date"):
        done.append(f"removes what is there {_when(expiration)}, whatever the retention says")
    name = rule.get("ID") or "without an id"
    return f"the rule {name} of others, on {prefix or 'the whole bucket'}, {' and '.join(done)}" if done else ""


def _when(action: Mapping[str, Any]) -> str:
    if action.get("Date"):
        return f"on {action['Date']:%Y-%m-%d}" if hasattr(action["Date"], "strftime") else f"on {action['Date']}"
    return f"after {action.get('Days', 0)} days"
