"""What backups there are: names, manifests, and the merged view over the stores.

A backup is a file whose name is exactly ours, and the manifest beside it, written last; without the manifest
the file is *unproven*. Order and age come from the manifest's time, and from the name where there is none;
never from mtime, which a copy changes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import MAXYEAR, UTC, datetime
from typing import Any, Literal
from urllib.parse import quote, unquote
from zoneinfo import ZoneInfo

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from hubbackup.errors import NotFoundError, NotProvenError, UsageError
from hubbackup.stores import Entry, Store

MANIFEST_SUFFIX = ".manifest.json"
BACKUP_SUFFIX = ".sql.gz"
MANIFEST_MAX_BYTES = 64 << 20
NAME = re.compile(r"(?P<database>[A-Za-z0-9_.%-]+)_backup_(?P<time>[0-9]{8}_[0-9]{6})\.sql\.gz", re.ASCII)
TIME_FORMAT = "%Y%m%d_%H%M%S"
SHA256 = "sha256"
"""S3 metadata: of the backup, where it is known when the upload begins, and always of its manifest."""
READERS = 8
"""Manifests that are only in S3 are fetched by so many threads."""


@dataclass(frozen=True)
class BackupName:
    """A backup's file name, in its parts: `hub_chantier_backup_20260208_030000.sql.gz`."""

    database: str
    local_time: datetime
    """As the name has it: no zone, whole seconds."""

    def __str__(self) -> str:
        return f"{self.stem}{BACKUP_SUFFIX}"

    @property
    def stem(self) -> str:
        """The name without `.sql.gz`. Characters outside `A-Za-z0-9_.-` are percent-encoded, a leading dot too."""
        encoded = quote(self.database, safe="").replace("~", "%7E")
        if encoded.startswith("."):
            encoded = "%2E" + encoded[1:]
        return f"{encoded}_backup_{self.local_time.strftime(TIME_FORMAT)}"

    @property
    def manifest(self) -> str:
        """The name of the manifest beside it."""
        return f"{self.stem}{MANIFEST_SUFFIX}"

    @classmethod
    def parse(cls, text: str) -> BackupName | None:
        """The parts of a name that is exactly ours, else None: what it gives back must render to `text` again."""
        found = NAME.fullmatch(text)
        if found is None:
            return None
        try:
            database = unquote(found["database"], errors="strict")
            name = cls(database, datetime.strptime(found["time"], TIME_FORMAT))
        except ValueError:
            return None
        # Year 9999 has no time left for the way to UTC.
        return name if str(name) == text and name.local_time.year < MAXYEAR else None

    @classmethod
    def of_manifest(cls, text: str) -> BackupName | None:
        """The backup that a manifest's file name belongs to, or None."""
        if not text.endswith(MANIFEST_SUFFIX):
            return None
        return cls.parse(text.removesuffix(MANIFEST_SUFFIX) + BACKUP_SUFFIX)


class Manifest(BaseModel):
    """The JSON beside a backup: schema `hubbackup.manifest/1`, see docs/manifest.md. Times are UTC."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    manifest_schema: Literal["hubbackup.manifest/1"] = "hubbackup.manifest/1"
    name: str
    database: str
    run_id: str
    started_at: AwareDatetime
    finished_at: AwareDatetime
    dump_seconds: float
    verify_seconds: float
    plain_bytes: int
    stored_bytes: int
    sha256: str
    compression: str
    verified: Literal["full", "hash"]
    server_version: str
    pg_dump_version: str
    system_identifier: str
    rows: dict[str, int]
    table_count: int
    large_objects: int
    extensions: tuple[str, ...]
    roles: tuple[str, ...] = ()
    properties: dict[str, Any]
    globals_sql: str = ""
    """What `pg_dumpall --globals-only` wrote: roles and memberships, passwords only where they were asked for."""
    hubbackup_version: str
    warnings: tuple[str, ...] = ()
    """Why this backup is suspicious, though it passed every hard check; empty where it is plausible."""

    def to_json(self) -> bytes:
        """UTF-8, indented, for people too."""
        return self.model_dump_json(indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes, *, name: str) -> Manifest:
        """Raises NotProvenError where `data` is no manifest of the backup `name`."""
        try:
            manifest = cls.model_validate_json(data)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise NotProvenError(f"the manifest of {name} is not valid: {where} {first['msg']}") from error
        parsed = BackupName.parse(name)
        if manifest.name != name or (parsed is not None and parsed.database != manifest.database):
            raise NotProvenError(f"the manifest beside {name} belongs to {manifest.name} of {manifest.database}")
        return manifest


@dataclass(frozen=True)
class Backup:
    """A backup as the stores hold it. `copies` maps a store's name to the file there."""

    name: BackupName
    started_at: datetime
    manifest: Manifest | None
    copies: dict[str, Entry] = field(default_factory=dict)
    manifests_in: frozenset[str] = frozenset()
    problem: str = ""
    """Why there is no manifest to trust: missing, or what is wrong with it."""

    @property
    def proven(self) -> bool:
        """It has a manifest that is valid and its own."""
        return self.manifest is not None

    def good_in(self, store: str) -> bool:
        """A proven backup whose file and manifest are both in `store`, with the manifest's size."""
        copy = self.copies.get(store)
        return (
            self.manifest is not None
            and copy is not None
            and store in self.manifests_in
            and copy.size_bytes == self.manifest.stored_bytes
        )


def list_backups(stores: Iterable[Store], zone: ZoneInfo) -> list[Backup]:
    """Every backup in `stores`, merged by name, oldest first. Names that are not exactly ours are passed over.

    A name's time is read in `zone` where no manifest tells better. Raises StoreError's kinds.
    """
    files: dict[BackupName, dict[str, Entry]] = {}
    manifests: dict[BackupName, dict[str, Store]] = {}
    for store in stores:
        for entry in store.entries():
            name = BackupName.parse(entry.name)
            if name is not None:
                files.setdefault(name, {})[store.name] = entry
                continue
            owner = BackupName.of_manifest(entry.name)
            if owner is not None:
                manifests.setdefault(owner, {})[store.name] = store
    with ThreadPoolExecutor(READERS) as pool:
        found = pool.map(lambda item: _load(item[0], item[1], manifests.get(item[0], {}), zone), files.items())
        return sorted(found, key=lambda backup: (backup.started_at, str(backup.name)))


def _load(name: BackupName, copies: dict[str, Entry], manifests: dict[str, Store], zone: ZoneInfo) -> Backup:
    backup = Backup(
        name,
        name.local_time.replace(tzinfo=zone).astimezone(UTC),
        None,
        copies,
        frozenset(manifests),
        "it has no manifest",
    )
    for store in sorted(manifests.values(), key=lambda store: store.name != "local"):
        try:
            manifest = read_manifest(store, name)
        except NotFoundError:
            continue
        except NotProvenError as error:
            backup = replace(backup, problem=str(error))
            continue
        return replace(backup, manifest=manifest, started_at=manifest.started_at, problem="")
    return backup


def read_manifest(store: Store, name: BackupName) -> Manifest:
    """Raises NotFoundError, NotProvenError, StoreError's kinds."""
    with store.open(name.manifest) as stream:
        return Manifest.from_json(stream.read(MANIFEST_MAX_BYTES), name=str(name))


def write_manifest(store: Store, manifest: Manifest) -> None:
    """Publish the manifest beside its backup, which makes the backup exist in `store`."""
    name = BackupName.parse(manifest.name)
    if name is None:
        raise UsageError(f"{manifest.name} is no name of a backup")
    with store.create(name.manifest, {SHA256: manifest.sha256}) as draft:
        draft.write(manifest.to_json())
        draft.commit()


def printable_rows(rows: Mapping[str, int]) -> dict[str, int]:
    """A census's rows as a manifest holds them: a table's name that is no UTF-8 has its bytes escaped."""
    return {
        name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"): count
        for name, count in rows.items()
    }


def of_database(backups: Iterable[Backup], database: str) -> Iterator[Backup]:
    """Those of one database."""
    return (backup for backup in backups if backup.name.database == database)
