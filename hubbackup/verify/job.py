"""Reading copies again: `hubbackup verify`, and each day the copies that were read longest ago (docs/verify.md).

It holds no lock: it only reads, and hours of reading must not cost the night's backup. A copy that is pruned
meanwhile is passed over.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import ClassVar, Literal
from zoneinfo import ZoneInfo

from hubbackup.catalog.backup import BackupName, Manifest, Mark
from hubbackup.catalog.listing import Listed, Scanned, newest_first_of, scan_each
from hubbackup.catalog.marks import lift_bad, put_mark
from hubbackup.catalog.target import Target
from hubbackup.catalog.typed_name import REMEDY, parse_name
from hubbackup.errors import (
    EXIT_FAILED,
    EXIT_SUCCESS,
    ArchivedError,
    HubbackupError,
    NotFoundError,
    NotProvenError,
    StoreError,
    StoreSilentError,
    UsageError,
)
from hubbackup.jobs.history import History
from hubbackup.jobs.kinds import RunKind
from hubbackup.jobs.results import Result
from hubbackup.jobs.run import Outcome, Run
from hubbackup.streams.age import HEADER_BYTES
from hubbackup.streams.age_keys import NO_IDENTITIES, Identities
from hubbackup.verify.reader import Expected, check_dump, check_file
from hubbackup.verify.sealed import demand_key

THAW_FIRST = "it rests in an archive class; hubbackup restore {name} --from {store} --thaw has it thawed"
ROTTEN = {errno.EIO, errno.EBADMSG, errno.EUCLEAN}
"""What a disk, or a file system with checksums, says of a block that it can't give back."""
KIND = "verify.copy"
"""Of the records in the history of copies: one for each copy that was read."""


@dataclass(frozen=True)
class Copy:
    """One backup in one target. `proven_at`: when it was last found whole, at the latest when it was made."""

    name: BackupName
    target: Target
    size_bytes: int
    published: bool
    """A manifest is beside it: without one there is nothing to compare it with."""
    marked_bad: bool
    proven_at: datetime
    archived: bool = False
    """It rests in an archive class, and can be read only where it was thawed."""


@dataclass(frozen=True)
class Choice:
    """The copies to read, and a sentence for each store that can't be listed, so that none of its copies is here."""

    copies: Sequence[Copy] = ()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class CopyResult:
    """What reading a copy showed: it is as it was written, damaged, not ours, without a manifest, or unreadable.

    An archived one was not read: that is neither a proof nor a failure.
    """

    copy: Copy
    verdict: Literal["ok", "bad", "foreign", "unproven", "unread", "gone", "archived"]
    problem: str = ""
    left_out: str = ""
    """What could not be looked at, and why: a sealed copy is not decoded without its key."""
    rotten: bool = False
    """It is unread since the disk itself can't give it back."""


@dataclass(frozen=True)
class VerifyResult(Result):
    """What was found of each copy, in the order in which they were read; `problems` of stores without a list."""

    copies: tuple[CopyResult, ...]
    problems: tuple[str, ...] = ()

    def facts(self) -> dict[str, object]:
        """How many are whole, with how many bytes; which have no manifest; which are sealed, and were not decoded."""
        whole = [one.copy for one in self.copies if one.verdict == "ok"]
        facts: dict[str, object] = {
            "verified": len(whole),
            "bytes": sum(copy.size_bytes for copy in whole),
            "unproven": [str(one.copy.name) for one in self.copies if one.verdict == "unproven"],
        }
        if archived := [str(one.copy.name) for one in self.copies if one.verdict == "archived"]:
            facts["archived"] = archived
        if left_out := [str(one.copy.name) for one in self.copies if one.left_out]:
            facts["not_decoded"] = left_out
        return facts


class VerifyFailedError(HubbackupError):
    """Copies are damaged, or could not be read: `cause` says which, `result` what was found of every copy."""

    def __init__(self, cause: HubbackupError, result: VerifyResult) -> None:
        super().__init__(str(cause), remedy=cause.remedy)
        self.cause = cause
        self.result = result

    @property
    def kind(self) -> str:
        """The cause's."""
        return self.cause.kind


def copies_of(
    listed: Iterable[Listed], targets: Sequence[Target], zone: ZoneInfo, proven_at: Mapping[tuple[str, str], datetime]
) -> list[Copy]:
    """Every copy in `targets`; `proven_at` tells by target and file name when one was last found whole."""
    found = []
    for one in listed:
        for target in targets:
            entry = one.copies.get(target.name)
            if entry is None:
                continue
            made_at = one.name.started_at(zone)
            found.append(
                Copy(
                    one.name,
                    target,
                    entry.size_bytes,
                    target.name in one.manifests_in,
                    target.name in one.marks.get(Mark.BAD, ()),
                    max(made_at, proven_at.get((target.name, str(one.name)), made_at)),
                    entry.archived,
                )
            )
    return found


def last_proven(history: History) -> dict[tuple[str, str], datetime]:
    """When each copy, by target and file name, was last found whole."""
    found = {}
    for record in history.runs():
        if record.kind == KIND and record.exit_code == EXIT_SUCCESS:
            found[record.store, record.name] = record.started_at
    return found


def due(copies: Sequence[Copy], budget_bytes: int, now: datetime, last_read_at: datetime | None) -> list[Copy]:
    """The copies to read today: those proven longest ago, as many as fit into the budget.

    A copy larger than a day's budget is read once it is the oldest, alone, when the days without any reading have
    saved up its size. So over time the budget holds, and no copy is too large to be read.
    """
    left = budget_bytes
    chosen: list[Copy] = []
    for copy in sorted(copies, key=lambda copy: (copy.proven_at, str(copy.name), copy.target.name)):
        if not copy.published or copy.marked_bad or copy.archived or now - copy.proven_at < timedelta(hours=12):
            continue
        if copy.size_bytes <= left:
            chosen.append(copy)
            left -= copy.size_bytes
        elif not chosen and budget_bytes:
            saved_up = last_read_at is None or now - last_read_at >= timedelta(days=copy.size_bytes / budget_bytes)
            return [copy] if saved_up else []
        else:
            break
    return chosen


def due_copies(
    targets: Sequence[Target], zone: ZoneInfo, history: History, budget_bytes: int, now: datetime
) -> Choice:
    """Those in `targets` that are due. Raises StoreError where no target can be listed."""
    proven_at = last_proven(history)
    found = scan_each(targets).or_raise()
    copies = copies_of(found.listed, found.stores, zone, proven_at)
    return Choice(due(copies, budget_bytes, now, max(proven_at.values(), default=None)), _unlisted(found))


def _unlisted(found: Scanned[Target]) -> tuple[str, ...]:
    return tuple(f"the copies in {target.name} are not read: {error}" for target, error in found.failed)


@dataclass(frozen=True)
class CopySelector:
    """What the operator asks to be read: the copies of `name`, of `everything`, or else of the newest backup.

    Of `database` alone, where one is named.
    """

    name: str = ""
    everything: bool = False
    database: str = ""

    def copies(self, targets: Sequence[Target], zone: ZoneInfo, databases: Sequence[str]) -> Choice:
        """The newest backup is that of each of `databases`: one of them without any does not keep back the others.

        Raises UsageError, NotFoundError where there is no such backup, StoreError where nothing can be listed.
        """
        if self.name or self.everything or len(databases) == 1:
            return self._copies(targets, zone, databases[0])
        copies: list[Copy] = []
        problems: dict[str, None] = {}
        for database in databases:
            try:
                found = self._copies(targets, zone, database)
            except NotFoundError as error:
                problems[str(error)] = None
                continue
            copies += found.copies
            problems |= dict.fromkeys(found.problems)
        return Choice(copies, tuple(problems))

    def _copies(self, targets: Sequence[Target], zone: ZoneInfo, database: str) -> Choice:
        wanted = parse_name(self.name, targets) if self.name else None
        every = self.database or None
        scope = every if self.everything else wanted.database if wanted is not None else database
        found = scan_each(targets, scope).or_raise()
        listed = found.listed
        if not self.everything:
            where = ", ".join(target.describe() for target in targets)
            if wanted is None:
                newest = newest_first_of(listed, found.stores, zone)
                wanted = next(
                    (one.name for one in newest if one.proven and not one.from_future(datetime.now(UTC))), None
                )
            listed = [one for one in listed if one.name == wanted]
            if not listed and found.failed:
                raise found.failed[-1][1]
            if not listed:
                what = f"backup of {database}" if wanted is None else str(wanted)
                raise NotFoundError(f"there is no {what} in {where}", remedy=REMEDY)
        return Choice(copies_of(listed, found.stores, zone, {}), _unlisted(found))


@dataclass(frozen=True)
class VerifyJob:
    """Reads the copies that `choose` gives, marks the damaged ones, and fails where there is one.

    What can't be read is passed over, and fails the run at its end: the other copies, and the other stores, are read.

    `decode`: also decode each and count its rows again; else its bytes are hashed, which finds all that changed
    since it was decoded.
    """

    choose: Callable[[Run], Choice]
    history: History
    decode: bool
    read_unproven: bool = False
    identities: Identities = NO_IDENTITIES
    """What opens sealed copies."""
    must_open: bool = False
    """Whether they are keys that somebody has named for just this."""
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    kind: ClassVar[RunKind] = "verify"
    needs_lock: ClassVar[bool] = False

    def __call__(self, run: Run) -> Outcome[VerifyResult]:
        """Raises VerifyFailedError where a copy is damaged, or else where one could not be read; StoreError."""
        with run.stage("choose"):
            choice = self.choose(run)
        found: list[CopyResult] = []
        silent: set[str] = set()
        with run.stage("read"):
            for copy in choice.copies:
                if copy.target.name in silent:
                    found.append(CopyResult(copy, "unread", "its store did not answer a moment ago"))
                else:
                    found.append(self._look(run, copy, silent))
                self._record(run, found[-1])
        result = VerifyResult(tuple(found), choice.problems)
        failure = failure_of(result, fail_unproven=self.read_unproven)
        if failure is not None:
            raise VerifyFailedError(failure, result)
        whole = sum(one.verdict == "ok" for one in found)
        return Outcome(f"verify finished: {whole} copies are whole", result)

    def _look(self, run: Run, copy: Copy, silent: set[str]) -> CopyResult:
        """What reading it shows; its store joins the `silent` ones where it does not answer."""
        name = str(copy.name)
        try:
            if not copy.published:
                left_out = self._read(run, copy, None) if self.read_unproven else ""
                return CopyResult(copy, "unproven", "it has no manifest to compare it with", left_out)
            if copy.archived and copy.target.store.stat(name).archived:
                return CopyResult(
                    copy, "archived", f"not read: {THAW_FIRST.format(name=name, store=copy.target.name)}"
                )
            judged = copy.target.manifest(copy.name)
            if not judged.trusted and not self.read_unproven:
                return CopyResult(copy, "foreign", judged.doubt)
            left_out = self._read(run, copy, judged.manifest)
            if not judged.trusted:
                return CopyResult(copy, "foreign", f"it is as its manifest says, but {judged.doubt}", left_out)
        except NotFoundError:
            return CopyResult(copy, "gone", "it was removed meanwhile")
        except NotProvenError as error:
            return CopyResult(copy, "bad", str(error))
        except StoreError as error:
            run.cancel.check()
            if isinstance(error, StoreSilentError):
                silent.add(copy.target.name)
            problem = f"{name} could not be read: {error}"
            return CopyResult(copy, "unread", problem, rotten=is_rotten(error))
        return CopyResult(copy, "ok", left_out=left_out)

    def _read(self, run: Run, copy: Copy, manifest: Manifest | None) -> str:
        """Returns what was left out."""
        name = str(copy.name)
        # What was only hashed when it was made has never been decoded by us.
        decode = self.decode or manifest is None or manifest.verified == "hash"
        sealed = self._why_sealed(copy, manifest) if decode and copy.name.format.sealed else ""
        with run.progress(f"verify {copy.target.name}", copy.size_bytes) as progress:
            if decode and not sealed:
                decoder = copy.name.format.decoder(self.identities)
                opened = partial(copy.target.open, name)
                check_dump(opened, manifest, decoder, name=name, cancel=run.cancel, progress=progress)
            elif manifest is not None:
                with copy.target.open(name) as stream:
                    check_file(stream, Expected.of(manifest), name=name, cancel=run.cancel, progress=progress)
        return sealed

    def _why_sealed(self, copy: Copy, manifest: Manifest | None) -> str:
        """Why a sealed copy can't be decoded here; empty where it can.

        Raises UsageError where the operator has named a key for it that does not open it, or a file without one.
        """
        name = str(copy.name)
        try:
            demand_key(name, partial(copy.target.open, name, end=HEADER_BYTES), manifest, self.identities)
        except UsageError as error:
            if self.must_open:
                raise
            compared = "compared by its sha256, not decoded" if manifest is not None else "not decoded"
            return f"{compared}: {error}"
        return ""

    def _record(self, run: Run, found: CopyResult) -> None:
        """Keep what was found: in the history, as a mark in the store, and a damaged one in the log at once."""
        copy, now = found.copy, self.now()
        if found.verdict in ("ok", "bad"):
            code = EXIT_SUCCESS if found.verdict == "ok" else EXIT_FAILED
            facts = {"store": copy.target.name, "name": str(copy.name), "problem": found.problem}
            self.history.add(KIND, run.run_id, now, 0.0, code, facts)
        try:
            if found.verdict == "bad":
                run.log.error(
                    "verify.bad",
                    message=f"damaged backup: {found.problem}",
                    name=str(copy.name),
                    store=copy.target.name,
                )
                put_mark(copy.target.store, copy.name, Mark.BAD, why=found.problem, now=now)
            elif found.verdict == "ok" and copy.marked_bad:
                lift_bad(run, copy.target.store, copy.name)
        except HubbackupError as error:  # a dying disk is read-only: the finding stands without its mark
            run.log.warning("mark.failed", message=str(error), name=str(copy.name), store=copy.target.name)


def is_rotten(error: StoreError) -> bool:
    """Whether the disk itself says that it can't give back what was written there."""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in ROTTEN


def failure_of(result: VerifyResult, *, fail_unproven: bool) -> HubbackupError | None:
    """What is wrong with the copies; of several things the worst, with every copy that it is true of."""
    by_verdict: dict[str, list[CopyResult]] = {}
    for one in result.copies:
        by_verdict.setdefault(one.verdict, []).append(one)
    bad, unread, gone, archived = (by_verdict.get(one, []) for one in ("bad", "unread", "gone", "archived"))
    if bad:
        which = bad[0].copy.name if len({one.copy.name for one in bad}) == 1 else "--all"
        return NotProvenError(
            "; ".join(f"{one.problem} (in {one.copy.target.describe()})" for one in bad),
            remedy="they no longer count as backups; hubbackup list shows where there is another copy, from which"
            f" hubbackup verify {which} --repair mends them",
        )
    if len(gone) == len(result.copies) > 0:
        return NotFoundError("; ".join(f"{one.copy.name}: {one.problem}" for one in gone))
    if len(archived) == len(result.copies) > 0:
        sentence = f"{archived[0].copy.name} in {archived[0].copy.target.describe()} was {archived[0].problem}"
        return ArchivedError(sentence)
    unlisted = "; ".join(result.problems)
    if unread:
        sentence = f"{len(unread)} copies could not be read: {unread[0].problem}"
        return StoreError(f"{sentence}; {unlisted}" if unlisted else sentence)
    if unlisted:
        return StoreError(unlisted, remedy="hubbackup doctor shows what is wrong with the store")
    unproven = by_verdict.get("unproven", [])
    if unproven and fail_unproven:
        return NotProvenError("; ".join(f"{one.copy.name} is unproven: {one.problem}" for one in unproven))
    return None
