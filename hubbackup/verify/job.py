"""Reading copies again: `hubbackup verify`, and each day the copies that were read longest ago (docs/verify.md).

It holds no lock: it only reads, and hours of reading must not cost the night's backup. A copy that is pruned
meanwhile is passed over.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import ClassVar, Literal

from hubbackup.catalog.backup import Manifest, Mark
from hubbackup.catalog.marks import lift_bad, put_mark
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
from hubbackup.jobs.progress import Progress
from hubbackup.jobs.results import Result
from hubbackup.jobs.run import Outcome, Run
from hubbackup.streams.age import HEADER_BYTES
from hubbackup.streams.age_keys import NO_IDENTITIES, Identities
from hubbackup.verify.copies import KIND, Budget, Copy, Selection
from hubbackup.verify.reader import Expected, check_dump, check_file
from hubbackup.verify.sealed import demand_key

THAW_FIRST = "it rests in an archive class; hubbackup restore {name} --from {store} --thaw has it thawed"
PROVEN = ("ok", "bad")
"""The verdicts of copies that were read."""
ROTTEN = {errno.EIO, errno.EBADMSG, errno.EUCLEAN}
"""What a disk, or a file system with checksums, says of a block that it can't give back."""


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
        """How many are whole, with how many bytes; which have no manifest of ours; which were not decoded."""
        whole = [one.copy for one in self.copies if one.verdict == "ok"]
        facts: dict[str, object] = {
            "verified": len(whole),
            "bytes": sum(copy.size_bytes for copy in whole),
            "unproven": [str(one.copy.name) for one in self.copies if one.verdict == "unproven"],
        }
        if foreign := [str(one.copy.name) for one in self.copies if one.verdict == "foreign"]:
            facts["foreign"] = foreign
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


@dataclass(frozen=True)
class VerifyJob:
    """Reads the copies that `choose` gives, marks the damaged ones, and fails where there is one.

    What can't be read is passed over, and fails the run at its end: the other copies, and the other stores, are read.

    `decode`: also decode each and count its rows again; else its bytes are hashed, which finds all that changed
    since it was decoded.
    """

    choose: Callable[[Run], Selection]
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
            selection = self.choose(run)
        with run.stage("read"):
            found = self._look_at_each(run, selection)
        result = VerifyResult(tuple(found), selection.problems)
        failure = failure_of(result, fail_unproven=self.read_unproven)
        if failure is not None:
            raise VerifyFailedError(failure, result)
        return Outcome(f"verify finished: {_summary(result)}", result)

    def _look_at_each(self, run: Run, selection: Selection) -> list[CopyResult]:
        """What each copy showed, in their order; those that the budget does not admit are left to another day."""
        found: list[CopyResult] = []
        silent: set[str] = set()
        budget = selection.budget
        for copy in selection.copies:
            if copy.target.name not in silent:
                one = self._look(run, copy, silent, budget)
            elif budget is None:
                one = CopyResult(copy, "unread", "its store did not answer a moment ago")
            else:
                continue  # one that could not be read speaks for all that are due there
            if one is None:
                break
            found.append(one)
            self._record(run, one)
        return found

    def _look(self, run: Run, copy: Copy, silent: set[str], budget: Budget | None) -> CopyResult | None:
        """What reading it shows; its store joins the `silent` ones where it does not answer.

        None: it is one to be read, and the budget does not admit it.
        """
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
            if budget is not None and not budget.admits(copy):
                return None
            left_out = self._read(run, copy, judged.manifest, budget)
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

    def _read(self, run: Run, copy: Copy, manifest: Manifest | None, budget: Budget | None = None) -> str:
        """Returns what was left out; of the `budget` it takes what it has read, wherever it ends."""
        name = str(copy.name)
        # What was only hashed when it was made has never been decoded by us.
        decode = self.decode or manifest is None or manifest.verified == "hash"
        sealed = self._why_sealed(copy, manifest) if decode and copy.name.format.sealed else ""
        showing = run.progress(f"verify {copy.target.name}", copy.size_bytes)
        with showing as shown, _spending(budget, shown) as progress:
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
        if found.verdict in PROVEN:
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


@contextmanager
def _spending(budget: Budget | None, shown: Progress) -> Iterator[Progress]:
    """`shown`, and at the end, whichever, the budget is charged with what was read."""
    read_bytes = 0

    def progress(done_bytes: int, doing: str = "") -> None:
        nonlocal read_bytes
        read_bytes = done_bytes
        shown(done_bytes, doing)

    try:
        yield progress
    finally:
        if budget is not None:
            budget.spend(read_bytes)


def _summary(result: VerifyResult) -> str:
    """How many are whole, and how many are not known to be ours: where those are all, nothing was proven."""
    whole = sum(one.verdict == "ok" for one in result.copies)
    foreign = sum(one.verdict == "foreign" for one in result.copies)
    return f"{whole} copies are whole" + (f", {foreign} are not known to be ours" if foreign else "")


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
