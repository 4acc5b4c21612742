"""The members of a stored file, digested while the proof reads the whole, so that one can be read alone later."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from hubbackup.streams.codecs import Member

DIGEST_BYTES = 32


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
