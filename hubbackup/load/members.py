"""The members of a stored file, digested while the proof reads the whole, so that one can be read alone later."""

from __future__ import annotations

import hashlib
import io
import sys
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO

from hubbackup.errors import NotProvenError
from hubbackup.streams.cancel import Cancel
from hubbackup.streams.codecs import Decoder, Member
from hubbackup.streams.growing_file import CHUNK_BYTES
from hubbackup.verify.reader import REMEDY

DIGEST_BYTES = 32
SMALL_BYTES = 2 << 20
"""Of a member: one is cut off behind each MiB, unless a table's rows are more."""
HELD_MEMBERS = 4
Open = Callable[[], AbstractContextManager[BinaryIO]]


@dataclass(frozen=True)
class MemberProof:
    """The members of a file, each with the sha256 of its stored bytes, as the proof has read them."""

    members: tuple[Member, ...]
    digests: bytes
    """Of one after the other."""
    stored_bytes: int

    def digest(self, number: int) -> bytes:
        """Of one."""
        return self.digests[number * DIGEST_BYTES : (number + 1) * DIGEST_BYTES]

    def end(self, number: int) -> int:
        """Where its stored bytes end."""
        return self.members[number + 1].stored_offset if number + 1 < len(self.members) else self.stored_bytes


class MemberDigests(io.RawIOBase):
    """A stored file that is read through, whose members are digested on the way."""

    def __init__(self, stream: BinaryIO, members: Sequence[Member]) -> None:
        super().__init__()
        self._stream = stream
        self._members = tuple(members)
        self._digests = bytearray()
        self._digest = hashlib.sha256()
        self._position = 0
        self._number = 0

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(size)
        view = memoryview(data)
        while view:
            end = self._end
            part = view if end is None else view[: end - self._position]
            self._digest.update(part)
            self._position += len(part)
            view = view[len(part) :]
            if self._position == end:
                self._next()
        return data

    @property
    def _end(self) -> int | None:
        after = self._number + 1
        return self._members[after].stored_offset if after < len(self._members) else None

    def _next(self) -> None:
        self._digests += self._digest.digest()
        self._digest = hashlib.sha256()
        self._number += 1

    def proof(self) -> MemberProof | None:
        """Once all was read; None where the members are not those of this file."""
        if self._number + 1 != len(self._members):
            return None
        return MemberProof(self._members, bytes(self._digests) + self._digest.digest(), self._position)


class MemberRanges:
    """Reads from the nearest member on. A contract of `dump_ranges.Ranges`, for several threads at once.

    A few small members are held: each has many small tables, which are asked for one by one.
    """

    in_order = False

    def __init__(
        self, open_file: Open, proof: MemberProof, new_decoder: Callable[[], Decoder], name: str, cancel: Cancel
    ) -> None:
        self._open = open_file
        self._proof = proof
        self._new_decoder = new_decoder
        self._name = name
        self._cancel = cancel
        self._held: OrderedDict[int, bytes] = OrderedDict()
        """Plain members, the one that was asked for last at the end."""
        self._too_large: set[int] = set()
        self._lock = threading.Lock()

    def read(self, start: int, end: int) -> Iterator[bytes]:
        members = self._proof.members
        first = bisect_right(members, start, key=lambda member: member.plain_offset) - 1
        reached = start
        with self._open() as stream:
            for number in range(first, len(members)):
                if members[number].plain_offset >= end:
                    break
                for piece in self._member(stream, number, start, end):
                    reached += len(piece)
                    yield piece
        if reached != end:
            raise self._changed()

    def _member(self, stream: BinaryIO, number: int, start: int, end: int) -> Iterator[bytes]:
        member = self._proof.members[number]
        held = self._small(stream, number)
        if held is None:
            stream.seek(member.stored_offset)
            yield from self._decoded(stream, number, start, end)
        elif piece := held[max(start - member.plain_offset, 0) : max(end - member.plain_offset, 0)]:
            yield piece

    def _small(self, stream: BinaryIO, number: int) -> bytes | None:
        """All of a small member; None for a large one."""
        with self._lock:
            if number in self._held:
                self._held.move_to_end(number)
                return self._held[number]
            stored_bytes = self._proof.end(number) - self._proof.members[number].stored_offset
            if number in self._too_large or stored_bytes > SMALL_BYTES:
                return None
        pieces, plain_bytes = [], 0
        stream.seek(self._proof.members[number].stored_offset)
        for piece in self._decoded(stream, number, 0, sys.maxsize):
            pieces.append(piece)
            plain_bytes += len(piece)
            if plain_bytes > SMALL_BYTES:
                with self._lock:
                    self._too_large.add(number)
                return None
        with self._lock:
            self._held[number] = b"".join(pieces)
            while len(self._held) > HELD_MEMBERS:
                self._held.popitem(last=False)
            return self._held[number]

    def _decoded(self, stream: BinaryIO, number: int, start: int, end: int) -> Iterator[bytes]:
        member, decoder, digest = self._proof.members[number], self._new_decoder(), hashlib.sha256()
        position, left = member.plain_offset, self._proof.end(number) - member.stored_offset
        while left:
            self._cancel.check()
            data = stream.read(min(CHUNK_BYTES, left))
            if not data:
                raise self._changed()
            left -= len(data)
            digest.update(data)
            if position >= end:  # the rest of the member is read for its digest alone
                continue
            for plain in decoder.pieces(data):
                piece = plain[max(start - position, 0) : max(end - position, 0)]
                position += len(plain)
                if piece:
                    yield piece
        if digest.digest() != self._proof.digest(number):
            raise self._changed()

    def abandon(self) -> None:
        """Nothing is open."""

    def close(self) -> None:
        """Nothing is open."""

    def _changed(self) -> NotProvenError:
        return NotProvenError(f"{self._name} is not any more what was proven", remedy=REMEDY)
