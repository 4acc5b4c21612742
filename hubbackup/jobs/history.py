"""The record of past runs: one JSON object a line, in a file beside the backups, bounded in length."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from hubbackup.errors import EXIT_DEGRADED, EXIT_INTERRUPTED, EXIT_STOPPED, EXIT_SUCCESS
from hubbackup.jobs.parts import badness
from hubbackup.jobs.state_file import write_text
from hubbackup.shown_text import sentence

KEEP_LINES = 1000
KEEP_EACH = 30
"""Of each kind of run of each database, whatever else there was: half a year of weekly drills."""
KEEP_TIMES = 5
"""All of that is at most so many times `keep_lines`, however many databases there were."""
ALONE_SECONDS = 5.0
"""For another process to end its writing."""
TRIM_BYTES = 1 << 20
NAMES = {"name", "database", "store", "stores", "copies", "restored", "kept_as", "safety_backup", "unproven"}
"""Facts that hold names of ours or of the operator's."""
RESULTS = ("success", "degraded", "failed", "stopped")


class RunRecord(NamedTuple):
    """One recorded run, of any kind. Empty or None: a run of this kind, or of an earlier version, did not record it.

    Texts are as they were written: a database's name may hold bytes that no terminal can show. No frozen
    dataclass, which takes ten times as long to make: there may be twenty thousand of them.
    """

    kind: str
    run_id: str
    started_at: datetime
    """In UTC."""
    seconds: float
    exit_code: int
    stage: str = ""
    """Where it failed."""
    cause: str = ""
    """Why it failed."""
    remedy: str = ""
    """What its error said to do."""
    problems: tuple[str, ...] = ()
    """What was not as it should be, though it did not fail."""
    database: str = ""
    name: str = ""
    """The backup that it made or used."""
    store: str = ""
    copies: tuple[str, ...] = ()
    """The stores that the run left a good copy in."""
    plain_bytes: int | None = None
    stored_bytes: int | None = None
    rto_seconds: float | None = None
    load_seconds: float | None = None
    ok: bool = True
    """False where a drill of an earlier version came to its end and found a difference."""
    warnings: tuple[str, ...] = ()
    """Why its backup is suspicious."""
    changes: str = ""
    """What changed in its tables since the backup before it."""
    not_needed: bool = False
    """It made nothing: the backup that it names, of another daemon's, served its slot."""

    @classmethod
    def parse(cls, line: str) -> RunRecord | None:
        """One line of the file, its types checked: it is on the operators' disk. None where they are wrong."""
        try:
            facts = json.loads(line)
            started_at = datetime.fromisoformat(facts["started_at"])
            if started_at.tzinfo is None:
                return None
            started_at = started_at.astimezone(UTC)
            kind, run_id = facts["kind"], facts["run_id"]
            exit_code, seconds = int(facts["exit_code"]), float(facts["seconds"])
            told = {name: read(facts[name]) for name, read in OPTIONAL.items() if name in facts}
        except (TypeError, KeyError, ValueError, OverflowError, RecursionError):
            return None
        if not isinstance(kind, str) or not isinstance(run_id, str):
            return None
        return cls(kind, run_id, started_at, seconds, exit_code, **told)

    @property
    def finished(self) -> bool:
        """It came to its end: what it made is there."""
        return self.exit_code in (EXIT_SUCCESS, EXIT_DEGRADED)

    def is_about(self, database: str) -> bool:
        """Whether it says something of `database`: each does where none is named, and one that names none."""
        return not database or self.database in ("", database)

    @property
    def result(self) -> str:
        """One of RESULTS."""
        if self.exit_code in (EXIT_STOPPED, EXIT_INTERRUPTED):
            return "stopped"
        if not self.finished or not self.ok:
            return "failed"
        return "degraded" if self.exit_code == EXIT_DEGRADED else "success"


def whole_runs(records: Iterable[RunRecord]) -> Iterator[RunRecord]:
    """The runs in their order: the records that one run for several databases has left are one, the worst counts."""
    for _, group in itertools.groupby(records, lambda record: (record.kind, record.run_id)):
        mine = list(group)
        yield mine[0] if len(mine) == 1 else _whole_of(mine)


def _whole_of(records: Sequence[RunRecord]) -> RunRecord:
    worst = max(records, key=lambda record: badness(record.exit_code))
    of = [record for record in records if record.exit_code == worst.exit_code]
    causes = [f"{record.database}: {record.cause}" for record in of if record.cause]
    return worst._replace(
        started_at=min(record.started_at for record in records),
        seconds=round(sum(record.seconds for record in records), 3),
        cause="; ".join(causes),
        problems=tuple(f"{record.database}: {problem}" for record in records for problem in record.problems),
        warnings=tuple(f"{record.database}: {warning}" for record in records for warning in record.warnings),
        database="",
        name="",
        not_needed=all(record.not_needed for record in records),
    )


class History:
    """Appends runs and reads them back. A history that can't be written never fails a run.

    It keeps the newest `keep_lines`, and beside them the last few of each kind of each database: a hundred backups
    may lie between two drills.
    """

    def __init__(self, path: Path, *, keep_lines: int = KEEP_LINES, trim_bytes: int = TRIM_BYTES) -> None:
        self._path = path
        self._keep_lines = keep_lines
        self._trim_bytes = trim_bytes
        self._trim_above = trim_bytes

    def add(
        self,
        kind: str,
        run_id: str,
        started_at: datetime,
        seconds: float,
        exit_code: int,
        facts: Mapping[str, object],
    ) -> None:
        """Append one run."""
        record = {
            "kind": kind,
            "run_id": run_id,
            "started_at": started_at.isoformat(),
            "seconds": seconds,
            "exit_code": exit_code,
            **{name: _safe(name, fact) for name, fact in facts.items()},
        }
        try:
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            with _alone(self._path.parent):
                self._append(json.dumps(record, default=str) + "\n")
                if self._path.stat().st_size > self._trim_above:
                    self._trim()
        except OSError:
            return

    def stamp(self) -> tuple[int, int]:
        """Another value after each run that was added; cheap to ask for."""
        try:
            figures = self._path.stat()
        except OSError:
            return (0, 0)
        return (figures.st_mtime_ns, figures.st_size)

    def runs(self) -> Iterator[RunRecord]:
        """The recorded runs, oldest first; a line that makes no sense is skipped, such as one cut by a crash."""
        for _, record in self._lines():
            yield record

    def last(self, kind: str, database: str = "") -> RunRecord | None:
        """The newest run of one kind, or None; with a `database`, what it came to for that one."""
        newest = None
        for record in self.runs():
            if record.kind == kind and record.is_about(database):
                newest = record
        return newest

    def _lines(self) -> Iterator[tuple[str, RunRecord]]:
        """Each line that makes sense, and what it says."""
        try:
            lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return
        for line in lines:
            record = RunRecord.parse(line)
            if record is not None:
                yield line, record

    def _append(self, line: str) -> None:
        with self._path.open("ab+") as stream:
            if stream.tell() > 0:
                stream.seek(-1, os.SEEK_END)
                torn = stream.read(1) != b"\n"  # by a crash or a full disk: only that line is lost, not this one
            else:
                torn = False
            stream.write((b"\n" if torn else b"") + line.encode())

    def _trim(self) -> None:
        lines, whose = [], []
        for line, record in self._lines():
            lines.append(line)
            whose.append((record.kind, record.database))
        kept = [lines[index] for index in kept_of(whose, self._keep_lines)]
        write_text(self._path, "\n".join(kept) + "\n")
        # What is to be kept may be more than that by itself: it must not be read again at each run.
        self._trim_above = max(self._trim_bytes, self._path.stat().st_size * 5 // 4)


def kept_of(whose: Sequence[tuple[str, str]], keep_lines: int) -> list[int]:
    """Which of these records to keep, oldest first, each given by its kind and database: the newest, and the last of
    each. Where that is too much, each has as many as the others.
    """
    older = max(0, len(whose) - keep_lines)
    later = Counter(whose[older:])
    ranked = []
    for index in range(older - 1, -1, -1):
        later[whose[index]] += 1
        if later[whose[index]] <= KEEP_EACH:
            ranked.append((later[whose[index]], -index))
    ranked.sort()
    return sorted(-index for _, index in ranked[: keep_lines * (KEEP_TIMES - 1)]) + list(range(older, len(whose)))


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Keep other processes from writing a history there, for as long as one is rewritten: a verification holds no run
    lock. Where the directory can't be locked, or another one does not let go of it, it is done all the same.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + ALONE_SECONDS
        while time.monotonic() < deadline:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.01)
            except OSError:
                break
        yield
    finally:
        os.close(descriptor)


def _safe(name: str, fact: object) -> object:
    """Sentences and answers of a database without secrets; names as they are, since backups are found by them."""
    if name in NAMES:
        return fact
    if isinstance(fact, str):
        return sentence(fact)
    if isinstance(fact, list | tuple):
        return [_safe(name, one) for one in fact]
    if isinstance(fact, dict):
        return {sentence(str(key)): _safe(name, one) for key, one in fact.items()}
    return fact


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: object) -> tuple[str, ...]:
    return tuple(str(one) for one in value) if isinstance(value, list) else ()


def _sentence(value: object) -> str:
    """Also of what an earlier version wrote, or somebody who can write on that disk."""
    return sentence(value) if isinstance(value, str) else ""


def _sentences(value: object) -> tuple[str, ...]:
    return tuple(sentence(str(one)) for one in value) if isinstance(value, list) else ()


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


OPTIONAL: dict[str, Callable[[object], Any]] = {
    "stage": _text,
    "cause": _sentence,
    "remedy": _sentence,
    "problems": _sentences,
    "database": _text,
    "name": _text,
    "store": _text,
    "copies": _texts,
    "plain_bytes": _whole,
    "stored_bytes": _whole,
    "rto_seconds": _number,
    "load_seconds": _number,
    "ok": lambda value: value is not False,
    "warnings": _sentences,
    "changes": _sentence,
    "not_needed": lambda value: value is True,
}
"""How each field that not every run tells is read: a value of a wrong type is as good as none."""
