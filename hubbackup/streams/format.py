"""What a stored file is: its name's suffix, what makes it of a plain dump, and what makes a plain dump of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache, partial

from hubbackup.streams.age import SUFFIX, AgeEncoder, SealedDecoder
from hubbackup.streams.age_keys import NO_IDENTITIES, Identities, Recipient
from hubbackup.streams.codecs import CODECS, GZIP, Codec, Decoder, MemberEncoder, OpenEncoder


class Encryption(StrEnum):
    """What keeps a file from being read."""

    NONE = "none"
    AGE = "age"
    """Sealed for public keys: whoever has one of their private keys opens it."""


@dataclass(frozen=True, slots=True)
class Format:
    """What a backup's file is: compressed by `codec`, and then, where it is sealed, encrypted."""

    codec: Codec
    encryption: Encryption = Encryption.NONE

    @classmethod
    def of(cls, file_name: str) -> Format | None:
        """What a file of this name says that it is; None for a suffix that no format has."""
        sealed = file_name.endswith(SUFFIX)
        compressed = file_name[: -len(SUFFIX)] if sealed else file_name
        for codec in CODECS.values():
            if compressed.endswith(codec.suffix):
                return _interned(codec, Encryption.AGE if sealed else Encryption.NONE)
        return None

    @property
    def sealed(self) -> bool:
        """Whether it takes a private key to read it."""
        return self.encryption is not Encryption.NONE

    @property
    def suffix(self) -> str:
        """The end of the file's name."""
        return f"{self.codec.suffix}{SUFFIX if self.sealed else ''}"

    def compressor(self, level: int) -> MemberEncoder:
        """The first of what the plain dump passes to become the file."""
        return MemberEncoder(partial(self.codec.encoder, level))

    def encoders(self, recipients: Sequence[Recipient] = ()) -> list[OpenEncoder]:
        """What it passes after that, one after the other. A sealed file needs `recipients`."""
        return [AgeEncoder([one.key for one in recipients])] if self.sealed else []

    def decoder(self, identities: Identities = NO_IDENTITIES) -> Decoder:
        """Makes the plain dump of one file, and demands of its bytes what its name says.

        Raises UsageError where it is sealed and a file of keys is of no use.
        """
        return SealedDecoder(identities.keys(), self.codec.decoder()) if self.sealed else self.codec.decoder()

    def written(self, level: int) -> str:
        """As the manifest says it: `gzip:1`."""
        return f"{self.codec.word}:{level}"


DEFAULT_FORMAT = Format(GZIP)
"""What the users' guide reads by `gunzip`: the format of a backup, unless the settings say otherwise."""


@lru_cache(maxsize=64)
def _interned(codec: Codec, encryption: Encryption) -> Format:
    """One object for each, so that a listing of a hundred thousand names holds few."""
    return Format(codec, encryption)
