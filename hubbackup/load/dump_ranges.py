"""Parts of a proven backup's dump, for the sessions that load it: what is given out is what was proven.

A file that can be entered is read by each session for itself, a member at a time (`MemberRanges`). Of any other one
there is a single pass, which the sessions take turns at in the dump's own order (`StreamRanges`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Protocol

from hubbackup.errors import NotProvenError
from hubbackup.load.members import MemberRanges, Open
from hubbackup.load.proof import DumpProof
from hubbackup.streams.cancel import Cancel
from hubbackup.streams.codecs import Decoder
from hubbackup.streams.read_ahead import ReadAhead
from hubbackup.verify.reader import REMEDY, Expected, checked_chunks
from hubbackup.verify.source import Source


class Ranges(Protocol):
    """Reads parts of one dump."""

    in_order: bool
    """Only one at a time is read, and best in the dump's order."""

    def read(self, start: int, end: int) -> Iterator[bytes]:
        """The plain bytes [start, end). Caller's duty: commit nothing of them before the iteration has ended.

        Raises NotProvenError where they are not those that were proven.
        """
        ...

    def abandon(self) -> None:
        """Let go of the file."""
        ...

    def close(self) -> None:
        """Let go of the file; raises NotProvenError where one that was read in turns is not what was proven."""
        ...


class StreamRanges:
    """Reads the file from its start to its end. A contract of `Ranges`, for one thread at a time.

    What lies behind is read in another pass.
    """

    in_order = True

    def __init__(
        self, open_file: Open, expected: Expected, new_decoder: Callable[[], Decoder], name: str, cancel: Cancel
    ) -> None:
        self._open = open_file
        self._expected = expected
        self._new_decoder = new_decoder
        self._name = name
        self._cancel = cancel
        self._pass = ExitStack()
        self._chunks: Iterator[bytes] | None = None
        self._held = b""
        self._position = 0

    def read(self, start: int, end: int) -> Iterator[bytes]:
        if self._chunks is not None and start < self._position:
            self.close()
        if self._chunks is None:
            self._begin()
        while self._position < end:
            if not self._held:
                self._held = next(self._chunks or iter(()), b"")
                if not self._held:
                    raise NotProvenError(f"{self._name} is not any more what was proven", remedy=REMEDY)
            skipped = min(max(start - self._position, 0), len(self._held))
            stop = min(end - self._position, len(self._held))
            piece, self._held = self._held[skipped:stop], self._held[stop:]
            self._position += stop
            if piece:
                yield piece

    def _begin(self) -> None:
        stream = self._pass.enter_context(self._open())
        decoded = checked_chunks(stream, self._expected, self._new_decoder(), name=self._name, cancel=self._cancel)
        self._chunks = self._pass.enter_context(ReadAhead(decoded))
        self._held = b""
        self._position = 0

    def close(self) -> None:
        """Read what is left, for all of it to be compared."""
        with self._pass:
            for _ in self._chunks or ():
                pass
        self._chunks = None
        self._pass = ExitStack()

    def abandon(self) -> None:
        """Let go of the file."""
        self._pass.close()


def ranges_of(source: Source, proof: DumpProof, cancel: Cancel) -> Ranges:
    """How this backup is read in parts."""
    new_decoder = source.decoder
    if proof.members is not None:
        return MemberRanges(source.open, proof.members, new_decoder, source.name, cancel)
    return StreamRanges(source.open, proof.expected, new_decoder, source.name, cancel)
