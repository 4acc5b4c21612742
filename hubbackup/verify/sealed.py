"""Whether a sealed backup can be opened here: found out from its first bytes, before anything long is begun."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import BinaryIO

from hubbackup.catalog.backup import Manifest
from hubbackup.errors import NotProvenError
from hubbackup.streams.age import header_of
from hubbackup.streams.age_keys import Identities
from hubbackup.streams.format import Format


def is_sealed(name: str) -> bool:
    """Whether it takes a private key to read a file of this name."""
    file_format = Format.of(name)
    return file_format is not None and file_format.sealed


Opener = Callable[[], AbstractContextManager[BinaryIO]]
"""Opens a file, or its first bytes: `HEADER_BYTES` of them are enough."""


def demand_key(name: str, opener: Opener, manifest: Manifest | None, identities: Identities) -> None:
    """Raises IdentityError where the backup `name` is sealed, and no key at hand opens it.

    Also NotProvenError where its header is damaged, UsageError where a file of keys is of no use, StoreError.
    """
    if is_sealed(name):
        recipients = manifest.recipients if manifest is not None else ()
        header = read_header(name, opener)
        with _damage_of(name):
            identities.demand(name, header, recipients)


def read_header(name: str, opener: Opener) -> bytes:
    """The header of a sealed file. Raises NotProvenError, StoreError."""
    with opener() as stream, _damage_of(name):
        return header_of(stream)


@contextmanager
def _damage_of(name: str) -> Iterator[None]:
    """Names the file in what its header's reader says."""
    try:
        yield
    except NotProvenError as error:
        raise NotProvenError(f"{name} is damaged: {error}") from error
