"""Adopting backups: what was made before manifests were signed, or elsewhere, is read through and signed as ours.

The manifest is replaced in one step, so that at no moment a backup is without one. The file itself is not touched.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from hubbackup.catalog.backup import PURPOSE, SHA256, BackupName, parse_document
from hubbackup.catalog.listing import scan
from hubbackup.catalog.manifests import Judged, read_bytes
from hubbackup.catalog.origin import FIELD, Origin, SigningKey
from hubbackup.catalog.target import Target
from hubbackup.catalog.typed_name import REMEDY, parse_name
from hubbackup.errors import HubbackupError, NotFoundError, NotProvenError, StoreError
from hubbackup.jobs.kinds import RunKind
from hubbackup.jobs.results import AdoptResult
from hubbackup.jobs.run import Outcome, Run
from hubbackup.verify.reader import Expected, check_file


@dataclass(frozen=True)
class Stranger:
    """A copy that is to be adopted, and why it is foreign."""

    name: BackupName
    target: Target
    judged: Judged


@dataclass(frozen=True)
class AdoptJob:
    """Signs the manifests of `typed`, or of every earlier backup, in each target that holds one that is not ours.

    `confirm` is shown the foreign ones before anything is read, and raises UsageError where they are not wanted.
    """

    typed: Sequence[str]
    targets: Sequence[Target]
    find_key: Callable[[], SigningKey]
    confirm: Callable[[Sequence[Stranger]], None]
    kind: ClassVar[RunKind] = "adopt"
    needs_lock: ClassVar[bool] = True

    def __call__(self, run: Run) -> Outcome[AdoptResult]:
        """Raises UsageError, NotFoundError where there is no such backup, and what is wrong where none was adopted.

        One that could not be read, or is not what its manifest says, stays as it was, and is a problem of the run.
        """
        key = self.find_key()
        problems: list[str] = []
        with run.stage("choose"):
            chosen = self._named(problems) if self.typed else list(self._earlier(problems))
        foreign = [one for one in chosen if one.judged.origin is Origin.FOREIGN]
        if foreign:
            self.confirm(foreign)
        adopted: list[str] = []
        failures: list[HubbackupError] = []
        with run.stage("read"):
            for one in chosen:
                run.cancel.check()
                try:
                    _adopt(run, one, key)
                    adopted.append(f"{one.target.name}:{one.name}")
                except HubbackupError as error:
                    run.cancel.check()
                    failures.append(error)
        if failures and not adopted:
            raise failures[0]
        problems += [f"not adopted: {error}" for error in failures]
        return Outcome(_said(adopted), AdoptResult(tuple(adopted)), tuple(problems))

    def _named(self, problems: list[str]) -> list[Stranger]:
        names = list(dict.fromkeys(parse_name(typed, self.targets) for typed in self.typed))
        found: list[Stranger] = []
        for name in names:
            held = list(self._copies(name, problems))
            if not held:
                where = ", ".join(target.describe() for target in self.targets)
                raise NotFoundError(f"there is no {name} with a manifest in {where}", remedy=REMEDY)
            found += held
        return [one for one in found if one.judged.origin is not Origin.OURS]

    def _copies(self, name: BackupName, problems: list[str]) -> Iterator[Stranger]:
        for target in self.targets:
            try:
                target.store.stat(str(name))
                yield Stranger(name, target, target.manifest(name))
            except NotFoundError:
                continue
            except StoreError as error:
                problems.append(f"{name} in {target.describe()}: {error}")

    def _earlier(self, problems: list[str]) -> Iterator[Stranger]:
        for target in self.targets:
            try:
                for listed in scan([target]):
                    if target.name not in listed.manifests_in:
                        continue
                    try:
                        judged = target.manifest(listed.name)
                    except (NotFoundError, NotProvenError):
                        continue
                    if judged.origin is Origin.EARLIER:
                        yield Stranger(listed.name, target, judged)
            except StoreError as error:
                problems.append(f"{target.describe()} was left out: {error}")


def _adopt(run: Run, one: Stranger, key: SigningKey) -> None:
    """Read the file through against the manifest, then sign exactly that manifest. Raises HubbackupError."""
    name, target = str(one.name), one.target
    data = read_bytes(target, one.name)
    document = parse_document(data, name)
    manifest = one.judged.manifest.of_document(document, name=name)
    with target.open(name) as stream, run.progress(f"adopt {target.name}", manifest.stored_bytes) as progress:
        check_file(stream, Expected.of(manifest), name=name, cancel=run.cancel, progress=progress)
    # Of the document, not of what we understand of it: a newer version may have written more.
    signed = document | {FIELD: key.sign(document, PURPOSE)}
    text = json.dumps(signed, indent=1, ensure_ascii=False).encode()
    target.store.replace(one.name.manifest, text, {SHA256: manifest.sha256}, dated=manifest.started_at)
    run.log.info("adopt.signed", message=f"adopted: {name}", name=name, store=target.name)


def _said(adopted: Sequence[str]) -> str:
    if not adopted:
        return "adopt finished: there was nothing to adopt"
    return f"adopt finished: {len(adopted)} {'copy is' if len(adopted) == 1 else 'copies are'} ours now"
