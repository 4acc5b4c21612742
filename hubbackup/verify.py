"""Read a stored file through and prove it: sha256 and size, and by default every gzip member decoded.

Gate and restore share this one reading path, so that what was proved at the backup is what a restore demands.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import BinaryIO

from hubbackup.codecs import GzipDecoder
from hubbackup.errors import NotProvenError
from hubbackup.report.progress import Progress, silent
from hubbackup.stream import CHUNK_BYTES, Cancel


@dataclass(frozen=True)
class Expected:
    """What the file must be: sizes in bytes, sha256 in hex of the stored file. `plain_bytes` None: don't decode."""

    stored_bytes: int
    sha256: str
    plain_bytes: int | None


def read_through(
    stream: BinaryIO, expected: Expected, *, name: str, cancel: Cancel, progress: Progress = silent
) -> None:
    """Raises NotProvenError naming `name` and the first thing that is not as expected."""
    digest = hashlib.sha256()
    decoder = GzipDecoder() if expected.plain_bytes is not None else None
    stored_bytes = plain_bytes = 0
    try:
        while data := stream.read(CHUNK_BYTES):
            cancel.check()
            digest.update(data)
            stored_bytes += len(data)
            if decoder is not None:
                plain_bytes += len(decoder.decode(data))
                if plain_bytes > (expected.plain_bytes or 0):
                    raise NotProvenError(f"it decodes to more than the {expected.plain_bytes} bytes expected")
            progress(stored_bytes)
        if stored_bytes != expected.stored_bytes:
            raise NotProvenError(f"it has {stored_bytes} bytes, {expected.stored_bytes} were expected")
        if decoder is not None:
            decoder.finish()
            if plain_bytes != expected.plain_bytes:
                raise NotProvenError(f"it decodes to {plain_bytes} bytes, {expected.plain_bytes} were expected")
        if digest.hexdigest() != expected.sha256:
            raise NotProvenError("its sha256 is not the one it was written with")
    except NotProvenError as error:
        raise NotProvenError(f"{name} is damaged: {error}", remedy="use an older backup, or another copy") from error
