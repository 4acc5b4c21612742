"""Catching up: local backups that a remote target lacks are uploaded after a good backup, oldest first.

What is damaged or foreign there stays until the good copy is whole, and goes in one step; nothing is deleted before,
so that a key that may not delete is enough.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hubbackup.backup.upload import TICK_SECONDS, report_remark
from hubbackup.catalog.backup import SHA256, Backup, Manifest, Mark, put_manifest
from hubbackup.catalog.listing import Listed, newest, read_backups
from hubbackup.catalog.manifests import read_bytes
from hubbackup.catalog.marks import lift_bad, put_mark
from hubbackup.catalog.origin import SigningKey
from hubbackup.catalog.target import LocalTarget, Target
from hubbackup.errors import (
    HubbackupError,
    NotFoundError,
    NotProvenError,
    StoreDeniedError,
    StoreError,
    StoreFullError,
    StoreSilentError,
)
from hubbackup.jobs.progress import Progress
from hubbackup.jobs.run import Run
from hubbackup.retention.policy import Candidate, by_policy, wanted
from hubbackup.retention.prune import reader
from hubbackup.stores import Draft, Entry
from hubbackup.stores.local import LocalStore
from hubbackup.streams.growing_file import GrowingFile
from hubbackup.verify.reader import Expected, check_file

COPIED_MARKS = (Mark.PINNED, Mark.ACCEPTED, Mark.UNRESTORABLE)
"""Those that are true of the backup, whichever copy of it."""
LISTING_LAG = timedelta(hours=1)
"""How long an object may be there without being listed; some servers take seconds."""
LOOKED_AT = 32
"""Copies whose own manifest is read in each run, the newest: of others `verify` finds what was put in their place."""
MOST_FAILURES = 3
"""After so many the others wait for the next run."""


@dataclass(frozen=True)
class CaughtUp:
    """What a catch-up did: the names uploaded, and a sentence for each that failed."""

    uploaded: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class CatchUp:
    """Copies the good backups of one database from the disk to a target that lacks them and would keep them.

    `listed` is what `targets`, the local one among them, hold of it; `now` is in the operator's time zone.
    """

    local: LocalTarget
    targets: Sequence[Target]
    listed: Sequence[Listed]
    zone: ZoneInfo
    now: datetime
    made: str = ""
    """The backup of this run: what was uploaded moments ago is not missing, whatever a listing shows."""
    key: SigningKey | None = None
    """Signs what was made before there was a key: it is hashed before it is copied, and comes from our own disk."""
    budget_seconds: float = 1800.0
    """For each target. Once it is over no further upload begins; one that has begun goes on to its end."""

    def __call__(self, run: Run, target: Target) -> CaughtUp:
        """Upload to `target`, oldest first, until the time budget is used up. Raises StoppedError."""
        problems: list[str] = []
        missing = self._missing(run, target, problems)
        deadline = time.monotonic() + self.budget_seconds
        uploaded: list[str] = []
        unlisted: list[str] = []
        with run.stage("catch up"):
            for number, (backup, manifest) in enumerate(missing):
                if time.monotonic() > deadline:
                    left = len(missing) - number
                    problems.append(
                        f"{left} backups wait to be uploaded to {target.describe()}: no time left in this run"
                    )
                    break
                try:
                    found = self._copy(run, backup, manifest, target)
                except StoreError as error:
                    problems.append(f"{manifest.name}: {error}")
                    # No permission, no room, no answer: every further one would fail the same way.
                    hopeless = isinstance(error, StoreDeniedError | StoreFullError | StoreSilentError)
                    if hopeless or len(problems) >= MOST_FAILURES:
                        break
                except HubbackupError as error:
                    run.cancel.check()
                    problems.append(f"{manifest.name}: {error}")
                else:
                    if found is None:
                        uploaded.append(manifest.name)
                    elif self.now - found.modified_at > LISTING_LAG and target.name not in backup.copies:
                        unlisted.append(manifest.name)
        if unlisted:
            problems.append(
                f"{target.describe()} does not list {len(unlisted)} backups that are there, such as {unlisted[0]}:"
                " they are not pruned"
            )
        return CaughtUp(tuple(uploaded), tuple(problems))

    def _missing(self, run: Run, target: Target, problems: list[str]) -> list[tuple[Backup, Manifest]]:
        """What is good on the disk, not good in `target` (or not ours there), and would be kept there.

        Beside what others have put there, too: of two hosts' backups of a week it keeps the newer one.
        """
        here = [one for one in self.listed if self.local.name in one.copies]
        candidates: dict[str, Candidate] = {}
        lacking = set()
        for backup in read_backups(here, self.targets, self.zone):  # there may be many: little is held of each
            name, good = str(backup.name), backup.good_in(self.local.name)
            counts = backup.counts_in(self.local.name) or backup.counts_in(target.name)
            candidates[name] = Candidate(name, backup.started_at, counts, backup.pinned)
            expired = target.has_expired(backup.started_at, self.now)  # it was there, and would go again
            if good and not backup.good_in(target.name) and name != self.made and not expired:
                lacking.add(name)
        kept = wanted(list(candidates.values()), target.policy, self.now)
        if kept & lacking:
            kept &= self._wanted_beside_others(target, candidates)
        replaced = self._replaced(run, target, kept - lacking, problems)
        names = kept & lacking | replaced
        found = read_backups([one for one in here if str(one.name) in names], self.targets, self.zone)
        with_manifest = [(one, one.manifest) for one in found if one.manifest is not None]
        return sorted(with_manifest, key=lambda pair: pair[0].started_at)

    def _wanted_beside_others(self, target: Target, ours: Mapping[str, Candidate]) -> set[str]:
        """What the policy keeps of `ours` and of all that `target` has.

        Of what is there alone those manifests are read that the answer rests on.
        """
        theirs = {str(one.name): one for one in self.listed if target.name in one.copies}
        unread = {name: one for name, one in theirs.items() if name not in ours}
        candidates = dict(ours)
        for name, one in unread.items():
            published, pinned = one.published_in(target.name), Mark.PINNED in one.marks
            candidates[name] = Candidate(name, one.name.started_at(self.zone), published, pinned)
        load = reader(self.targets, self.zone)
        while True:
            decisions = by_policy(list(candidates.values()), target.policy, self.now)
            rests_on = [one.candidate.name for one in decisions if not one.settled and one.candidate.name in unread]
            if not rests_on:
                return {one.candidate.name for one in decisions if one.keep}
            for backup in load([unread.pop(name) for name in rests_on]):
                name, counts = str(backup.name), backup.counts_in(target.name)
                candidates[name] = Candidate(name, backup.started_at, counts, backup.pinned, backup.foreign)

    def _replaced(self, run: Run, target: Target, names: Container[str], problems: list[str]) -> set[str]:
        """Of the newest copies in `target` those whose own manifest there is foreign: somebody has put them there.

        A local backup is read by its manifest on the disk, so that nobody else would look at theirs.
        """
        there = [one for one in self.listed if target.name in one.manifests_in and str(one.name) in names]
        chosen, _ = newest(there, LOOKED_AT)
        found = {str(one.name): one.problem for one in read_backups(chosen, [target], self.zone) if one.foreign}
        for name, problem in found.items():
            problems.append(f"{name} in {target.describe()} was not ours any more ({problem}): ours replaces it")
            remedy = "find out who can write there"
            run.log.warning("copy.foreign", message=problems[-1], name=name, store=target.name, remedy=remedy)
        return set(found)

    def _copy(self, run: Run, backup: Backup, manifest: Manifest, target: Target) -> Entry | None:
        """One backup from the disk to `target`. Raises HubbackupError.

        Returns the copy that is there already, though no listing shows it.
        """
        marked = backup.bad_in(target.name)
        if (found := _whole_copy(target, backup, manifest)) and not (marked and _is_marked(target, backup, found)):
            if marked:
                lift_bad(run, target.store, backup.name)
            return found
        _upload(run, backup, manifest, self.local.store, target, self.key)
        if manifest.hmac:  # as it is on the disk: a newer version may have written fields that we don't know
            data = read_bytes(self.local, backup.name)
        else:
            data = (manifest.signed(self.key) if self.key is not None else manifest).to_json()
        put_manifest(target.store, manifest, data, replacing=target.name in backup.manifests_in)
        if marked:  # it described the copy that is replaced
            lift_bad(run, target.store, backup.name)
        return None


def _upload(
    run: Run, backup: Backup, manifest: Manifest, local: LocalStore, target: Target, key: SigningKey | None
) -> None:
    """The file and its marks: hashed first, so that a rotten copy is not spread. Raises HubbackupError.

    It takes the place of what is listed there: a damaged copy, or an upload that died before its end.
    """
    with local.open(manifest.name) as stream, run.progress("verify local", manifest.stored_bytes) as progress:
        check_file(stream, Expected.of(manifest), name=manifest.name, cancel=run.cancel, progress=progress)
    for mark in COPIED_MARKS:  # before the copy is there, so that it is never there without them
        if mark in backup.marks and target.name not in backup.marks[mark]:
            why = backup.refused_because if mark is Mark.UNRESTORABLE else "copied with the backup"
            put_mark(target.store, backup.name, mark, why=why, now=datetime.now(UTC), key=key)
    with (
        target.store.create(
            manifest.name, {SHA256: manifest.sha256}, replacing=target.name in backup.copies
        ) as draft,
        run.progress("upload", manifest.stored_bytes) as progress,
        _watched(draft, progress),
    ):
        draft.follow(GrowingFile.complete(local.directory / manifest.name))
        draft.commit()  # a small file is sent only here
        report_remark(run, target, draft)
    if backup.pinned:
        target.keep_from_rules(manifest.name, True)


def _whole_copy(target: Target, backup: Backup, manifest: Manifest) -> Entry | None:
    """The copy in `target`, where it is whole with its manifest, which is ours. Raises StoreError.

    Under the same name there may be one that another daemon made in the same second: as good as ours.
    """
    try:
        found = target.store.stat(manifest.name)
        theirs = target.manifest(backup.name)
    except (NotFoundError, NotProvenError):
        return None
    there = theirs.manifest
    same = there.sha256 == manifest.sha256 or (there.run_id != manifest.run_id and not there.warnings)
    return found if same and found.size_bytes == there.stored_bytes and theirs.trusted else None


def _is_marked(target: Target, backup: Backup, found: Entry) -> bool:
    """Whether the mark `bad` is of this copy, and not of one that it has replaced, under a key that could not remove
    the mark. Raises StoreError."""
    try:
        return target.store.stat(backup.name.mark(Mark.BAD)).modified_at >= found.modified_at
    except NotFoundError:
        return False


@contextmanager
def _watched(draft: Draft, progress: Progress) -> Iterator[None]:
    """While the block sends, report to `progress` what the draft has taken, also in the middle of a part that hangs.

    A small file is held and sent as one request at the commit, so that it counts as taken before it is sent.
    """
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(TICK_SECONDS):
            progress(draft.size_bytes)

    watcher = threading.Thread(target=look, name="upload-progress", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
