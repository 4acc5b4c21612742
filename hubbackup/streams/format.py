"""What a stored file is: its name's suffix, what makes it of a plain dump, and what makes a plain dump of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial

from hubbackup.streams.codecs import CODECS, GZIP, Codec, Decoder, Encoder, MemberEncoder


@dataclass(frozen=True, slots=True)
class Format:
    """What a backup's file is. Encryption, once there is some, is its second field, and plugs in here alone:
    its suffix follows the codec's, its encoder follows the codec's, its decoder comes before the codec's."""

    codec: Codec

    @classmethod
    def of(cls, file_name: str) -> Format | None:
        """What a file of this name says that it is; None for a suffix that no format has."""
        for codec in CODECS.values():
            if file_name.endswith(codec.suffix):
                return _interned(codec)
        return None

    @property
    def suffix(self) -> str:
        """The end of the file's name."""
        return self.codec.suffix

    def compressor(self, level: int) -> MemberEncoder:
        """The first of what the plain dump passes to become the file."""
        return MemberEncoder(partial(self.codec.encoder, level))

    def encoders(self) -> list[Encoder]:
        """What it passes after that, one after the other."""
        return []

    def decoder(self) -> Decoder:
        """Makes the plain dump of one file, and demands of its bytes what its name says."""
        return self.codec.decoder()

    def written(self, level: int) -> str:
        """As the manifest says it: `gzip:1`."""
        return f"{self.codec.word}:{level}"


DEFAULT_FORMAT = Format(GZIP)
"""What the users' guide reads by `gunzip`: the format of a backup, unless the settings say otherwise."""


@lru_cache(maxsize=64)
def _interned(codec: Codec) -> Format:
    """One object for each, so that a listing of a hundred thousand names holds few."""
    return Format(codec)
