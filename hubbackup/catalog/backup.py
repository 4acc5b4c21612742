"""What a backup is: its name, its manifest, its marks, and the copies that the stores hold.

A backup is a file whose name is exactly ours, and the manifest beside it, written last; without the manifest
the file is *unproven*. Order and age come from the manifest's time, and from the name where there is none;
never from mtime, which a copy changes. `listing` finds what there is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import MAXYEAR, UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from functools import lru_cache
from typing import Any, Literal
from urllib.parse import quote, unquote

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError
from pydantic_core import from_json

from hubbackup.catalog.index import DumpIndex
from hubbackup.catalog.left_out import LeftOut
from hubbackup.catalog.origin import Origin, SigningKey
from hubbackup.errors import NotProvenError, UsageError
from hubbackup.stores import Entry, Store
from hubbackup.streams.age import is_sealed, seal_text
from hubbackup.streams.age_keys import Identities, Recipient
from hubbackup.streams.format import DEFAULT_FORMAT, Encryption, Format

MANIFEST_SUFFIX = ".manifest.json"
LONG_ROWS = 10_000
PURPOSE = "hubbackup.manifest/1"
"""Of a manifest's signature; the same for all schemas, since what is signed names its own."""
BASE = re.compile(r"(?P<database>[A-Za-z0-9_.%-]+)_backup_(?P<time>[0-9]{8}_[0-9]{6})", re.ASCII)
"""Of a backup's name, before the suffix of its format."""
CLOCK_TOLERANCE = timedelta(hours=1)
"""Two clocks may differ by this much; a backup that is younger than now by more is from the future."""
SHA256 = "sha256"
"""S3 metadata: of the backup, where it is known when the upload begins, and always of its manifest."""
SEALED = "sealed"
"""Of a sealed backup's `properties`: all of them, as JSON, armored."""
OPEN_PROPERTIES = ("encoding", "size_bytes")
"""What stays to be read beside it."""
YEARS = range(1000, MAXYEAR)
"""Four digits, with room for the conversion to UTC."""


class Mark(StrEnum):
    """What is known of a backup beyond its manifest, as a small file beside it: that it is there says it.

    A file each, since a store never overwrites: made and removed whole, in each store for itself.
    """

    PINNED = "pinned"
    """The operator's: never pruned from any store, whichever store holds the mark."""
    ACCEPTED = "accepted"
    """The operator's: suspicious, and yet the normal that the next backups are measured by."""
    BAD = "bad"
    """The verification's: the copy in this store failed it. Says nothing of another store's."""
    UNRESTORABLE = "unrestorable"
    """The schema drill's: it is whole, and a server refused its schema. Whichever store holds the mark."""


@dataclass(frozen=True, slots=True)
class BackupName:
    """A backup's file name, in its parts: `hub_chantier_backup_20260208_030000.sql.gz`."""

    database: str
    local_time: datetime
    """As the name has it: no zone, whole seconds."""
    format: Format = DEFAULT_FORMAT

    def __str__(self) -> str:
        return f"{self._base}{self.format.suffix}"

    @property
    def stem(self) -> str:
        """What the names of manifest and marks begin with: its own name, without the suffix of the default format.

        So a `.sql.zst` and a `.sql.gz` of one second, as somebody makes them who packs a backup anew, share nothing.
        """
        return self._base if self.format == DEFAULT_FORMAT else str(self)

    @property
    def _base(self) -> str:
        """Characters outside `A-Za-z0-9_.-` are percent-encoded, a leading dot too."""
        time = self.local_time  # not by strftime: a listing renders a hundred thousand names
        clock = f"{time.hour:02}{time.minute:02}{time.second:02}"
        return f"{_encoded(self.database)}_backup_{time.year:04}{time.month:02}{time.day:02}_{clock}"

    @property
    def manifest(self) -> str:
        """The name of the manifest beside it."""
        return f"{self.stem}{MANIFEST_SUFFIX}"

    def mark(self, mark: Mark) -> str:
        """The name of a mark's file beside it."""
        return f"{self.stem}.{mark}"

    def started_at(self, zone: tzinfo) -> datetime:
        """The name's time in UTC, read in `zone`; the manifest's time is exact, where there is one."""
        return self.local_time.replace(tzinfo=zone).astimezone(UTC)

    @classmethod
    def parse(cls, text: str) -> BackupName | None:
        """The parts of a name that is exactly ours, else None: what it gives back must render to `text` again."""
        file_format = Format.of(text)
        return cls._of(text[: -len(file_format.suffix)], file_format) if file_format is not None else None

    @classmethod
    def owner_of(cls, text: str) -> BackupName | None:
        """The backup that a file belongs to as file, manifest or mark; None where it is not exactly ours."""
        found = split(text)
        return cls.of_stem(found[0]) if found is not None else None

    @classmethod
    def of_stem(cls, stem: str) -> BackupName | None:
        """The backup whose manifest and marks begin so; None where it is not exactly ours."""
        file_format = Format.of(stem)
        if file_format is None or file_format == DEFAULT_FORMAT:
            return cls._of(stem, DEFAULT_FORMAT)
        return cls._of(stem[: -len(file_format.suffix)], file_format)

    @classmethod
    def _of(cls, base: str, file_format: Format) -> BackupName | None:
        found = BASE.fullmatch(base)
        if found is None:
            return None
        time = found["time"]
        year, month, day = int(time[:4]), int(time[4:6]), int(time[6:8])
        try:
            local_time = datetime(year, month, day, int(time[9:11]), int(time[11:13]), int(time[13:]))
            name = cls(_decoded(found["database"]), local_time, file_format)
        except ValueError:
            return None
        return name if year in YEARS and name._base == base else None


ITSELF = ""
"""The role of the backup's own file, in `split`."""
ROLES = (MANIFEST_SUFFIX, *(f".{mark}" for mark in Mark))
"""Of the files beside it: what follows the stem in their names."""


def split(text: str) -> tuple[str, str] | None:
    """Stem and role of a file whose name looks like one of ours, else None."""
    for role in ROLES:
        if text.endswith(role):
            return text[: -len(role)], role
    file_format = Format.of(text)
    if file_format is None:
        return None
    return (text[: -len(file_format.suffix)] if file_format == DEFAULT_FORMAT else text), ITSELF


@lru_cache(maxsize=1024)
def _encoded(database: str) -> str:
    encoded = quote(database, safe="").replace("~", "%7E")
    return f"%2E{encoded[1:]}" if encoded.startswith(".") else encoded


@lru_cache(maxsize=1024)
def _decoded(encoded: str) -> str:
    """Cached so that a long listing holds a database's name once. Raises ValueError."""
    return unquote(encoded, errors="strict")


class Manifest(BaseModel):
    """The JSON beside a backup: schema `hubbackup.manifest/2`, see docs/manifest.md. Times are UTC."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    manifest_schema: Literal["hubbackup.manifest/1", "hubbackup.manifest/2"] = "hubbackup.manifest/2"
    name: str
    database: str
    run_id: str
    started_at: AwareDatetime
    finished_at: AwareDatetime
    dump_seconds: float
    verify_seconds: float
    plain_bytes: int
    stored_bytes: int
    sha256: str
    compression: str
    encryption: Literal["none", "age"] = "none"
    recipients: tuple[str, ...] = ()
    """The fingerprints of the keys that open a sealed backup."""
    verified: Literal["full", "hash"]
    server_version: str
    pg_dump_version: str
    system_identifier: str
    rows: dict[str, int]
    table_count: int
    large_objects: int
    extensions: tuple[str, ...]
    roles: tuple[str, ...] = ()
    materialized_views: dict[str, int | None] = {}
    """Rows by name, at about the time of the dump; None where they were not counted."""
    properties: dict[str, Any]
    globals_sql: str = ""
    """What `pg_dumpall --globals-only` wrote: roles and memberships, passwords only where they were asked for."""
    schema_digest: str = ""
    """Of all that the dump holds but its data; empty in older manifests."""
    index: str = ""
    """Where its tables stand, packed (`catalog/index.py`); empty in manifests of schema 1."""
    hubbackup_version: str
    left_out: LeftOut | None = None
    """What it was made without; None where nothing was to be left out."""
    warnings: tuple[str, ...] = ()
    """Why this backup is suspicious, though it passed every hard check; empty where it is plausible."""
    hmac: str = ""
    """The signature of all the other fields (`catalog/origin.py`); empty where there was no key."""

    def dump_index(self) -> DumpIndex | None:
        """The index, unpacked; None where there is none. Raises NotProvenError where it is not valid."""
        return DumpIndex.from_text(self.index, self.name) if self.index else None

    @property
    def encoding(self) -> str:
        """The database's, by PostgreSQL's name; empty where the manifest doesn't tell."""
        return str(self.properties.get("encoding", ""))

    def demand(self, typed: str) -> None:
        """Raise UsageError where `typed` means a table that this backup was made without."""
        if self.left_out is not None:
            self.left_out.refuse(typed, self.name, self.rows, self.encoding)

    @property
    def without(self) -> str:
        """What was left out, in a sentence's words; empty where nothing was."""
        return self.left_out.sentence(self.encoding) if self.left_out is not None else ""

    def sealed(self, recipients: Sequence[Recipient]) -> Manifest:
        """The same without anything to read of roles, settings and comments, for whom the file is sealed."""
        keys = [one.key for one in recipients]
        kept = {name: self.properties[name] for name in OPEN_PROPERTIES if name in self.properties}
        changes: dict[str, Any] = {
            "encryption": Encryption.AGE.value,
            "recipients": tuple(one.fingerprint for one in recipients),
            "properties": kept | {SEALED: seal_text(json.dumps(self.properties, default=str), keys)},
            "globals_sql": seal_text(self.globals_sql, keys) if self.globals_sql else "",
        }
        return self.model_copy(update=changes)

    def opened(self, identities: Identities) -> Manifest:
        """The same with what was sealed in it to be read. Raises NotProvenError where that is broken, UsageError."""
        changes: dict[str, Any] = {}
        try:
            if is_sealed(self.globals_sql):
                changes["globals_sql"] = identities.open_text(self.globals_sql)
            if SEALED in self.properties:
                changes["properties"] = json.loads(identities.open_text(str(self.properties[SEALED])))
        except (NotProvenError, ValueError) as error:
            raise NotProvenError(f"what is sealed in the manifest of {self.name} can't be read: {error}") from error
        return self.model_copy(update=changes)

    def signed(self, key: SigningKey) -> Manifest:
        """The same with our signature."""
        return self.model_copy(update={"hmac": key.sign(json.loads(self.to_json()), PURPOSE)})

    def to_json(self) -> bytes:
        """UTF-8, indented, for people too, where it is not too long for them anyway."""
        return self.model_dump_json(indent=1 if len(self.rows) < LONG_ROWS else None).encode()

    @classmethod
    def from_json(cls, data: bytes, *, name: str) -> Manifest:
        """Raises NotProvenError where `data` is not a manifest of the backup `name`."""
        return cls.of_document(parse_document(data, name), name=name)

    @classmethod
    def of_document(cls, document: Any, *, name: str) -> Manifest:
        """Raises NotProvenError where the parsed JSON is not a manifest of the backup `name`."""
        try:
            manifest = cls.model_validate(document)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise NotProvenError(f"the manifest of {name} is not valid: {where} {first['msg']}") from error
        parsed = BackupName.parse(name)
        if manifest.name != name or (parsed is not None and parsed.database != manifest.database):
            raise NotProvenError(f"the manifest beside {name} belongs to {manifest.name} of {manifest.database}")
        return manifest


def parse_document(data: bytes, name: str) -> Any:
    """The JSON of a manifest, parsed once: what is judged is what is used. Raises NotProvenError."""
    try:
        return from_json(data)
    except ValueError as error:
        raise NotProvenError(f"the manifest of {name} is not valid: {error!s:.120}") from error


@dataclass(frozen=True)
class Doubt:
    """Why a backup does not count as good, though it is whole: nothing relies on it, and it stops every removal.

    `word` is for lists, `state` for a sentence ("NAME is …"), `why` the reason, `remedy` what to do about it.
    """

    word: str
    state: str
    why: str
    remedy: str


@dataclass(frozen=True)
class Backup:
    """A backup as the stores hold it. `copies` maps a store's name to the file there."""

    name: BackupName
    started_at: datetime
    manifest: Manifest | None
    copies: Mapping[str, Entry] = field(default_factory=dict)
    manifests_in: frozenset[str] = frozenset()
    problem: str = ""
    """Why there is no manifest to trust: missing, foreign, or what is wrong with it."""
    marks: Mapping[Mark, frozenset[str]] = field(default_factory=dict)
    """The stores that hold each mark; a mark that no store holds is left out."""
    refused_because: str = ""
    """What the schema drill said of one that is unrestorable, where that can be read."""
    unreadable: bool = False
    """It has a manifest that could not be read now: not good, and yet not known to be anything else."""
    origin: Origin = Origin.UNPROVEN
    foreign_in: frozenset[str] = frozenset()
    """The stores whose manifest was read, and is foreign."""

    @property
    def proven(self) -> bool:
        """It has a manifest that is valid, its own, and ours."""
        return self.manifest is not None and self.origin.trusted

    @property
    def foreign(self) -> bool:
        """It has a manifest, and not one of ours."""
        return self.origin is Origin.FOREIGN

    @property
    def pinned(self) -> bool:
        """The operator keeps it forever."""
        return Mark.PINNED in self.marks

    @property
    def suspicious(self) -> bool:
        """It was found implausible when it was made, and the operator has not accepted it."""
        warned = self.manifest is not None and bool(self.manifest.warnings)
        return warned and self.proven and Mark.ACCEPTED not in self.marks

    @property
    def unrestorable(self) -> bool:
        """A server refused its schema when that was tried, and no drill of it has passed since."""
        return Mark.UNRESTORABLE in self.marks

    @property
    def doubts(self) -> tuple[Doubt, ...]:
        """Why it does not count as good, though it is whole, the worst first; none where it counts.

        The one answer for `--latest`, drills, retention, `check`, page and list.
        """
        found = []
        if self.unrestorable:
            why = self.refused_because or "a drill of its schema failed"
            remedy = (
                f"mend the schema, then hubbackup backup; to try this one again: hubbackup drill --schema {self.name}"
            )
            found.append(Doubt("unrestorable", "unrestorable", why, remedy))
        if self.manifest is not None and self.suspicious:
            remedy = f"look into the database; if this is right: hubbackup accept {self.name}"
            why = "; ".join(self.manifest.warnings)
            found.append(Doubt("suspicious", "suspicious, and not accepted", why, remedy))
        return tuple(found)

    def from_future(self, now: datetime) -> bool:
        """It was made while the clock was ahead, or the clock is behind now: its age says nothing."""
        return self.started_at > now + CLOCK_TOLERANCE

    def stranger(self, now: datetime) -> str:
        """Why it is never the newest, whatever it says: it is foreign, or from the future; else empty.

        The one answer for `--latest`, `check`, page and alerts.
        """
        if self.foreign:
            return self.problem
        if self.manifest is not None and self.from_future(now):
            return f"from the future: it was made at {self.started_at:%Y-%m-%d %H:%M} UTC"
        return ""

    def bad_in(self, store: str) -> bool:
        """The last verification of the copy in `store` found it damaged."""
        return store in self.marks.get(Mark.BAD, ())

    def archived_in(self, store: str) -> bool:
        """The copy in `store` rests in an archive class: it has to be thawed before it is read."""
        return store in self.copies and self.copies[store].archived

    def good_in(self, store: str) -> bool:
        """A proven backup whose file and manifest are both in `store`, with the manifest's size, not marked bad."""
        copy = self.copies.get(store)
        return (
            self.manifest is not None
            and self.proven
            and copy is not None
            and store in self.manifests_in
            and store not in self.foreign_in
            and copy.size_bytes == self.manifest.stored_bytes
            and not self.bad_in(store)
        )

    def counts_in(self, store: str) -> bool:
        """Good in `store`, and nothing is in doubt about it: what retention relies on."""
        return self.good_in(store) and not self.doubts


def write_manifest(store: Store, manifest: Manifest) -> None:
    """Publish the manifest beside its backup, which makes the backup exist in `store`."""
    put_manifest(store, manifest, manifest.to_json())


def put_manifest(store: Store, manifest: Manifest, data: bytes, *, replacing: bool = False) -> None:
    """As `write_manifest`, of one that was read as `data`; `replacing`: in the place of what has its name."""
    name = BackupName.parse(manifest.name)
    if name is None:
        raise UsageError(f"{manifest.name} is not a name of a backup")
    # Dated before its backup: in the guide's `ls -lt | head -2` the backup comes first.
    labels = {SHA256: manifest.sha256}
    with store.create(name.manifest, labels, dated=manifest.started_at, replacing=replacing) as draft:
        draft.write(data)
        draft.commit()


def printable_rows(rows: Mapping[str, int]) -> dict[str, int]:
    """A census's rows as a manifest holds them."""
    return {printable(name): count for name, count in rows.items()}


def printable(name: str) -> str:
    """A table's name as a manifest holds it: where it is not UTF-8, its bytes are escaped."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
