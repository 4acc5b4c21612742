"""Reading a manifest: what the file beside a backup says, and whose it is. The one place where that is decided."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC
from typing import Protocol

from hubbackup.catalog.backup import PURPOSE, BackupName, Manifest, Mark, parse_document
from hubbackup.catalog.origin import Origin, Put, Trust
from hubbackup.errors import NotProvenError, StoreError
from hubbackup.stores import Readable

MANIFEST_MAX_BYTES = 4 << 20
"""A larger one in a bucket is not read, whoever put it there: of ten thousand tables a manifest has a megabyte."""
LOCAL_MANIFEST_MAX_BYTES = 64 << 20
"""On our own disk, where nobody else writes: a million tables have their backups, too."""
READ_BYTES = 64 << 10
MARK_PURPOSE = "hubbackup.mark/1"
MARK_BYTES = 4 << 10
"""Of a mark that is read; a reason is kept short."""


@dataclass(frozen=True)
class Judged:
    """A manifest, and whose it is. `doubt`: why it is foreign."""

    manifest: Manifest
    origin: Origin
    doubt: str = ""

    @property
    def trusted(self) -> bool:
        """It can stand for a backup of ours."""
        return self.origin.trusted


class Repository(Readable, Protocol):
    """A place where backups rest, with what is believed of the manifests there: a `Target`, or a view of one."""

    def manifest(self, name: BackupName) -> Judged:
        """The manifest beside the backup. Raises NotFoundError, NotProvenError, StoreError."""
        ...

    def vouches(self, name: BackupName, mark: Mark) -> bool:
        """Whether the mark that is there is one of ours: where others can write, one that is signed."""
        ...


def read_manifest(store: Readable, name: BackupName, trust: Trust, put_at: Put = None) -> Judged:
    """The manifest beside the backup, and whose it is.

    `put_at`: see `Trust.origin_of`. Raises NotFoundError, NotProvenError, StoreError.
    """
    return judge(read_bytes(store, name), name, trust, put_at)


def judge(data: bytes, name: BackupName, trust: Trust, put_at: Put = None) -> Judged:
    """A manifest's bytes, parsed and judged. Raises NotProvenError, and what `put_at` raises."""
    document = parse_document(data, str(name))
    manifest = Manifest.of_document(document, name=str(name))
    times = manifest.started_at, name.started_at(UTC)
    origin = trust.origin_of(document, PURPOSE, times, put_at)
    return Judged(manifest, origin, trust.why_foreign(document) if origin is Origin.FOREIGN else "")


def read_bytes(store: Readable, name: BackupName) -> bytes:
    """The manifest as it is stored. Raises NotFoundError, NotProvenError where it is too large, StoreError."""
    found, limit = bytearray(), MANIFEST_MAX_BYTES if store.remote else LOCAL_MANIFEST_MAX_BYTES
    with store.open(name.manifest) as stream:
        # Not by one `read`, which allocates as much as it may return.
        while data := stream.read(READ_BYTES):
            found += data
            if len(found) > limit:
                raise NotProvenError(f"the manifest of {name} is too large: more than {limit:,} bytes")
    return bytes(found)


def is_signed(store: Readable, name: BackupName, mark: Mark, trust: Trust) -> bool:
    """Whether a mark carries our signature; one that can't be read does not."""
    try:
        with store.open(name.mark(mark)) as stream:
            note = json.loads(stream.read(MARK_BYTES))
    except (StoreError, ValueError, RecursionError):
        return False
    ours = isinstance(note, dict) and (note.get("mark"), note.get("backup")) == (str(mark), str(name))
    return ours and trust.key is not None and trust.key.signed(note, MARK_PURPOSE)
