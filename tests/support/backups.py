"""Backups in any store, without a database: a file and a manifest that fit together."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from hubbackup.app.manifest_key import ManifestKey
from hubbackup.catalog.backup import PURPOSE, BackupName, Manifest, write_manifest
from hubbackup.catalog.target import Policy, Target
from hubbackup.errors import StoreError, StoreSilentError
from hubbackup.stores import Entry, Store
from hubbackup.stores.memory import MemoryStore

DUMP = b"""--
-- PostgreSQL database dump
--

-- Dumped from database version 17.6
-- Dumped by pg_dump version 17.6

COPY public.a (i) FROM stdin;
1
2
\\.

--
-- PostgreSQL database dump complete
--

"""


class FaultyStore(MemoryStore):
    """Gives all but the files in `faults`, and no list where `unlisted` says why not; `asked` is what was opened."""

    def __init__(self, name: str = "s3", *, remote: bool = True) -> None:
        super().__init__(name, remote=remote)
        self.faults: dict[str, StoreError] = {}
        self.unlisted: StoreError | None = None
        self.asked: list[str] = []

    def open(self, name: str, **part: Any) -> AbstractContextManager[BinaryIO]:
        self.asked.append(name)
        if name in self.faults:
            raise self.faults[name]
        return super().open(name, **part)

    def entries(self) -> Iterator[Entry]:
        if self.unlisted is not None:
            raise self.unlisted
        yield from super().entries()


def archived() -> StoreError:
    """As S3 says it of an object that a lifecycle rule has moved to an archive class."""
    return StoreError("could not read it: the server answered InvalidObjectState")


def silence() -> StoreSilentError:
    """As S3Store says it of a server that does not answer."""
    return StoreSilentError("could not read it: no answer within the time", transient=True)


def manifest_of(name: BackupName, data: bytes, **changes: Any) -> Manifest:
    """The manifest that `data`, a gzip of DUMP, would have got."""
    started_at = name.started_at(UTC)  # type: ignore[arg-type]
    facts: dict[str, Any] = {
        "name": str(name),
        "database": name.database,
        "run_id": "20260208T020000-1a2b3c",
        "started_at": started_at,
        "finished_at": started_at,
        "dump_seconds": 1.0,
        "verify_seconds": 0.1,
        "plain_bytes": len(DUMP),
        "stored_bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "compression": "gzip:1",
        "verified": "full",
        "server_version": "17.6",
        "pg_dump_version": "17.6",
        "system_identifier": "7400000000000000000",
        "rows": {"public.a": 2},
        "table_count": 1,
        "large_objects": 0,
        "extensions": (),
        "properties": {},
        "hubbackup_version": "0.1.0",
    }
    return Manifest(**(facts | changes))


def target_of(store: Store, policy: Policy | None = None) -> Target:
    """`store` as a target that keeps everything, or what `policy` keeps."""
    return Target(f"the store {store.name}", store, policy or Policy(days=0))


def key_in(directory: Path, given: str = "") -> ManifestKey:
    """The key that the program has for a BACKUP_DIR."""
    return ManifestKey(directory / ".hubbackup", given, has_backups=lambda: False)


def signed_text(directory: Path, document: dict[str, Any], given: str = "") -> str:
    """A manifest that was changed, as the program itself would have written and signed it."""
    key = key_in(directory, given).trust().key
    rest = {name: value for name, value in document.items() if name != "hmac"}
    return json.dumps(rest | {"hmac": key.sign(rest, PURPOSE)} if key is not None else rest)


def put_file(store: Store, name: str, data: bytes) -> None:
    """A whole file."""
    with store.create(name) as draft:
        draft.write(data)
        draft.commit()


def put_backup(store: Store, database: str, when: datetime, **changes: Any) -> BackupName:
    """A good backup of `when` (UTC), unless `changes` to its manifest make it another."""
    name = BackupName(database, when.replace(tzinfo=None))
    data = gzip.compress(DUMP, mtime=0)
    put_file(store, str(name), data)
    write_manifest(store, manifest_of(name, data, **changes))
    return name


def plain_of(file: Path) -> bytes:
    """A backup's dump."""
    return gzip.decompress(file.read_bytes())


def unproven(directory: Path, plain: bytes, name: str = "from_elsewhere.sql.gz") -> Path:
    """A dump as a file without a manifest, whose gzip is right."""
    path = directory / name
    path.write_bytes(gzip.compress(plain, 1))
    return path
