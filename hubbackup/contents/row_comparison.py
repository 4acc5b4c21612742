"""Two sets of a table's rows compared, in memory that does not grow with them.

Rows that both have cancel each other out as they pass, as long as they come in about the same order: what PostgreSQL
leaves alone stays where it is. What finds no partner soon goes to files without a name, split by the rows' keys, and
is compared there, one file after the other.
"""

from __future__ import annotations

import errno
import pickle
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import IO, Literal

from hubbackup.errors import StoreFullError

Row = bytes
"""As COPY writes it: fields with tabs between."""
Change = Literal["added", "removed", "changed"]
BATCH_ROWS = 2000
BATCH_BYTES = 2 << 20
WINDOW_BYTES = 24 << 20
"""Of rows that wait for their partner in memory."""
FILES = 128
"""Of what is spilled, a file's share is in memory at a time."""
OVERHEAD_BYTES = 150
"""About what Python needs for a row beside its bytes."""


@dataclass(frozen=True)
class Difference:
    """A row that one side lacks (None), or that has the same key and another content."""

    change: Change
    before: Row | None = None
    after: Row | None = None


@dataclass
class Tally:
    """How many rows there are on each side, and how many of them both have."""

    before: int = 0
    after: int = 0
    same: int = 0


@dataclass
class RowComparison:
    """Compares rows of the same columns. `key`: the places of the columns that tell one row from another; none: rows
    are compared as a whole, each as often as it is there.

    `scratch`: a directory with room for what differs. `check` is called again and again, to stop by an exception.
    """

    key: Sequence[int]
    scratch: Path
    check: Callable[[], None] = lambda: None
    window_bytes: int = WINDOW_BYTES
    files: int = FILES
    tally: Tally = field(default_factory=Tally)

    def differences(self, before: Iterable[Row], after: Iterable[Row]) -> Iterator[Difference]:
        """Each once, in no certain order. `tally` is right when all are taken. Raises StoreFullError."""
        with ExitStack() as stack:
            spill = _Spill(stack, self.scratch, self.files, self._key_of)
            window = _Window(self.window_bytes)
            for first, second in _batches(iter(before), iter(after)):
                self.check()
                self.tally.before += len(first)
                self.tally.after += len(second)
                self.tally.same += window.take(first, second)
                if window.size_bytes > self.window_bytes:
                    spill.add(window)
            if not spill.used:
                yield from self._compared(window.waiting[0], window.waiting[1])
                return
            spill.add(window)
            for part in spill.parts():
                self.check()
                window = _Window(0)
                for first, second in part:
                    self.tally.same += window.take(first, second)
                yield from self._compared(window.waiting[0], window.waiting[1])

    def _key_of(self, row: Row) -> Row:
        if not self.key:
            return row
        fields = row.split(b"\t")
        return b"\t".join([fields[place] for place in self.key])

    def _compared(self, before: dict[Row, int], after: dict[Row, int]) -> Iterator[Difference]:
        """Of rows that are on one side only, each with how often."""
        if not self.key:
            yield from (Difference("removed", before=row) for row, times in before.items() for _ in range(times))
            yield from (Difference("added", after=row) for row, times in after.items() for _ in range(times))
            return
        by_key: dict[Row, list[Row]] = {}
        for row, times in before.items():
            by_key.setdefault(self._key_of(row), []).extend([row] * times)
        for row, times in after.items():
            olds = by_key.get(self._key_of(row), [])
            for _ in range(times):
                yield Difference("changed", olds.pop(0), row) if olds else Difference("added", after=row)
        yield from (Difference("removed", before=row) for olds in by_key.values() for row in olds)


def _batches(before: Iterator[Row], after: Iterator[Row]) -> Iterator[tuple[list[Row], list[Row]]]:
    """As many rows of either side as long as both have some, and not too many bytes."""
    first: list[Row] = []
    second: list[Row] = []
    size_bytes = 0
    for old, new in zip_longest(before, after):
        for row, rows in ((old, first), (new, second)):
            if row is not None:
                rows.append(row)
                size_bytes += len(row)
        if len(first) >= BATCH_ROWS or len(second) >= BATCH_ROWS or size_bytes > BATCH_BYTES:
            yield first, second
            first, second, size_bytes = [], [], 0
    if first or second:
        yield first, second


class _Window:
    """Rows of either side that have not met their like."""

    def __init__(self, limit_bytes: int) -> None:
        self.waiting: tuple[dict[Row, int], dict[Row, int]] = ({}, {})
        self.size_bytes = 0
        self._counts = limit_bytes > 0

    def take(self, before: Sequence[Row], after: Sequence[Row]) -> int:
        """Rows that come in now; returns how many pairs there were."""
        pairs = 0
        if before == after:
            return len(before)
        for mine, theirs, rows in ((*self.waiting, before), (*self.waiting[::-1], after)):
            for row in rows:
                others = theirs.get(row)
                if others is None:
                    mine[row] = mine.get(row, 0) + 1
                    self.size_bytes += self._counts and len(row) + OVERHEAD_BYTES
                    continue
                pairs += 1
                if others == 1:
                    del theirs[row]
                    self.size_bytes -= self._counts and len(row) + OVERHEAD_BYTES
                else:
                    theirs[row] = others - 1
        return pairs

    def clear(self) -> None:
        """Forget all of them."""
        for side in self.waiting:
            side.clear()
        self.size_bytes = 0


@contextmanager
def room_in(scratch: Path) -> Iterator[None]:
    """Raises StoreFullError where what is written inside finds no room."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StoreFullError(
            f"there is no room in {scratch} for the rows that differ",
            remedy="make room there; hubbackup diff without --table needs none",
        ) from error


class _Spill:
    """Files without a name, which are gone whatever becomes of the process."""

    def __init__(self, stack: ExitStack, scratch: Path, count: int, key_of: Callable[[Row], Row]) -> None:
        self._stack = stack
        self._scratch = scratch
        self._count = count
        self._key_of = key_of
        self._files: list[IO[bytes]] = []

    @property
    def used(self) -> bool:
        """Whether anything was put there."""
        return bool(self._files)

    def add(self, window: _Window) -> None:
        """Put the rows that wait there, and forget them."""
        shares: list[tuple[list[Row], list[Row]]] = [([], []) for _ in range(self._count)]
        for side, rows in enumerate(window.waiting):
            for row, times in rows.items():
                place = zlib.crc32(self._key_of(row)) % self._count
                shares[place][side].extend([row] * times)
        with room_in(self._scratch):
            while len(self._files) < self._count:
                self._files.append(self._stack.enter_context(tempfile.TemporaryFile(dir=self._scratch)))  # noqa: SIM115
            for file, share in zip(self._files, shares, strict=True):
                if any(share):
                    pickle.dump(share, file, pickle.HIGHEST_PROTOCOL)
            for file in self._files:
                file.flush()
        window.clear()

    def parts(self) -> Iterator[Iterator[tuple[list[Row], list[Row]]]]:
        """Each file's rows of both sides, in pieces: all rows of one key are in one file."""
        for file in self._files:
            file.seek(0)
            yield self._pieces(file)
            file.close()

    def _pieces(self, file: IO[bytes]) -> Iterator[tuple[list[Row], list[Row]]]:
        while True:
            try:
                yield pickle.load(file)  # noqa: S301 - of this process's own file, which has no name
            except EOFError:
                return
