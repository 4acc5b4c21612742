"""Sealing: the bytes of a file as the program `age` encrypts them, and back again.

By pyrage, the Rust implementation of age. A sealed file is read from its start, and says by its own end that it is
whole: each 64 KiB are authenticated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from hubbackup.errors import NotProvenError
from hubbackup.streams.push_pipe import PushPipe

if TYPE_CHECKING:
    from hubbackup.streams.codecs import Decoder

SUFFIX = ".age"
MAGIC = b"age-encryption.org/v1\n"
ARMOR = "-----BEGIN AGE ENCRYPTED FILE-----"
HEADER_BYTES = 64 << 10
"""The header of a file for more than sixty of the largest ssh keys."""
NO_KEY = "No matching keys found"
"""As pyrage says it."""
PROBE = bytes(64)
"""Stands for the data behind a header, where only the header is of interest."""


class AgeEncoder:
    """Seals one file for everybody who has one of the `recipients`' private keys. Memory stays flat."""

    def __init__(self, recipients: Sequence[Any]) -> None:
        """`recipients` are pyrage's."""
        import pyrage

        keys = list(recipients)
        self._pipe = PushPipe(lambda reader, writer: pyrage.encrypt_io(reader, writer, keys))

    def encode(self, data: bytes) -> bytes:
        return self._pipe.push(data)

    def finish(self) -> bytes:
        last = self._pipe.finish()
        self._pipe.close()
        return last

    def close(self) -> None:
        self._pipe.close()


class AgeDecoder:
    """Opens one sealed file from its start. Raises NotProvenError where it is not whole, or not for `keys`."""

    def __init__(self, keys: Sequence[Any]) -> None:
        """`keys` are pyrage's identities."""
        import pyrage

        self._errors = (pyrage.DecryptError, OSError)
        identities = list(keys)
        self._pipe = PushPipe(lambda reader, writer: pyrage.decrypt_io(reader, writer, identities))

    def decode(self, data: bytes | memoryview) -> bytes:
        """What `data` completes."""
        try:
            return self._pipe.push(data)
        except self._errors as error:
            raise _broken(error) from error

    def finish(self) -> bytes:
        """The last bytes, which only the end of the file gives."""
        try:
            return self._pipe.finish()
        except self._errors as error:
            raise _broken(error) from error
        finally:
            self._pipe.close()

    def close(self) -> None:
        self._pipe.close()


class SealedDecoder:
    """The plain dump of a sealed file: opened by `keys`, then decoded by `inner`."""

    def __init__(self, keys: Sequence[Any], inner: Decoder) -> None:
        self._age = AgeDecoder(keys)
        self._inner = inner
        self._ended = False

    def pieces(self, data: bytes | memoryview) -> Iterator[bytes]:
        if opened := self._age.decode(data):
            yield from self._inner.pieces(opened)

    def rest(self) -> Iterator[bytes]:
        self._ended = True
        if opened := self._age.finish():
            yield from self._inner.pieces(opened)
        yield from self._inner.rest()

    def finish(self) -> None:
        if not self._ended:
            raise NotProvenError("the sealed data was not read to its end")
        self._inner.finish()

    def close(self) -> None:
        self._age.close()
        self._inner.close()


def header_of(stream: BinaryIO) -> bytes:
    """The header of a sealed file, which says whose keys open it. Raises NotProvenError for a file without one."""
    found = bytearray()
    while len(found) < HEADER_BYTES and (data := stream.read(4096)):
        found += data
        end = found.find(b"\n---")
        if end >= 0 and (line_end := found.find(b"\n", end + 1)) >= 0:
            if not found.startswith(MAGIC):
                break
            return bytes(found[: line_end + 1])
    raise NotProvenError("it is not sealed by age, though its name says so")


def opens(header: bytes, keys: Sequence[Any]) -> bool:
    """Whether one of `keys` opens the file of this header. Raises NotProvenError for a header that is broken."""
    import pyrage

    try:
        pyrage.decrypt(header + PROBE, list(keys))
    except pyrage.DecryptError as error:
        said = str(error)
        if said == NO_KEY:
            return False
        if said != "decryption error":
            raise _broken(error) from error
    return True


def seal_text(text: str, recipients: Sequence[Any]) -> str:
    """A short text sealed, as text again (armored)."""
    import pyrage

    sealed: bytes = pyrage.encrypt(text.encode(), list(recipients), armored=True)
    return sealed.decode("ascii")


def open_text(sealed: str, keys: Sequence[Any]) -> str:
    """What was sealed so. Raises NotProvenError where it is broken, or not for `keys`."""
    import pyrage

    try:
        opened: bytes = pyrage.decrypt(sealed.encode(), list(keys))
        return opened.decode()
    except (pyrage.DecryptError, UnicodeDecodeError) as error:
        raise _broken(error) from error


def is_sealed(text: str) -> bool:
    """Whether this text is what `seal_text` makes."""
    return text.startswith(ARMOR)


def _broken(error: Exception) -> NotProvenError:
    if str(error) == NO_KEY:
        return NotProvenError("no key at hand opens it")
    return NotProvenError(f"the sealed data is broken or cut short: {str(error).splitlines()[0]}")
