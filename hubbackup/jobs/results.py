"""The result of each kind of run. The names are those of closing line, history and `--json`, and never change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Literal


@dataclass(frozen=True)
class Result:
    """The result of a run, beside its message and its problems. Sizes are bytes, times seconds."""

    def facts(self) -> dict[str, object]:
        """The fields by name, in their order, as JSON has them. One that is None is left out."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
            if value is not None
        }


@dataclass(frozen=True)
class BackupResult(Result):
    """A good backup, and where it is."""

    database: str
    name: str
    plain_bytes: int
    stored_bytes: int
    dump_seconds: float
    verify_seconds: float
    plain_bytes_per_second: int
    copies: tuple[str, ...]
    """The stores that hold it."""
    rows: int
    tables: int
    uploaded_late: tuple[str, ...] = ()
    """Earlier backups that S3 lacked until now."""
    pruned: tuple[str, ...] = ()
    """`store:name` of each copy that the retention removed."""
    dropped: tuple[str, ...] = ()
    """Databases that restores had put aside."""
    warnings: tuple[str, ...] = ()
    """Why it is suspicious."""
    unrestorable: str | None = None
    """Why a server refused its schema; None where none did."""
    remedy: str | None = None
    """What to do about that."""
    changes: str | None = None
    """What changed in the tables, in one sentence; None for the first backup."""
    changes_since: str | None = None
    """The backup that it was compared with."""
    left_out: str | None = None
    """What it was made without; None where nothing was left out."""
    unmatched: tuple[str, ...] | None = None
    """The patterns that match no table here; None where each does."""
    not_needed: bool | None = None
    """The run made nothing: this backup, of another daemon's, serves its slot."""


@dataclass(frozen=True)
class BackupsResult(Result):
    """What came of the backup of each of several databases: what a run of its own would say, and its exit code."""

    databases: tuple[dict[str, object], ...]


@dataclass(frozen=True)
class RestoreResult(Result):
    """A database as the backup has it."""

    name: str
    proven: bool
    """It had a manifest to be compared with."""
    database: str
    rows: int
    tables: int
    plain_bytes: int
    kept_as: str = ""
    """The name of what was live before; empty where nothing was."""
    kept_bytes: int = 0
    safety_backup: str = ""
    """The words after `hubbackup restore` that bring back what was dropped."""
    remarks: tuple[str, ...] = ()
    roles_created: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    """The tables whose rows were restored, where not all were (`--table`)."""
    load_seconds: float = 0.0
    """Rows, indexes and constraints alone, without proof, comparison and statistics."""
    retried_serially: str = ""
    """Why several sessions could not load it, so that one had to start over."""
    left_out: str | None = None
    """What the backup was made without, so that the database lacks it; None where it has everything."""


@dataclass(frozen=True)
class DatabaseEnding(Result):
    """What became of one database of a whole server."""

    database: str
    ending: Literal["restored", "present", "failed", "left out"]
    """`present`: a restore of before has made it, and it stays as it is."""
    name: str = ""
    """The backup's."""
    store: str = ""
    rows: int = 0
    tables: int = 0
    seconds: float = 0.0
    kept_as: str = ""
    """The name of the empty one that was there."""
    left_out: str | None = None
    """What the backup was made without."""
    cause: str = ""
    """Why it is not restored."""
    remedy: str = ""
    roles_created: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def is_there(self) -> bool:
        """Whether the server has it now."""
        return self.ending in ("restored", "present")


@dataclass(frozen=True)
class ServerRestoreResult(Result):
    """Every database of a server."""

    databases: tuple[DatabaseEnding, ...]
    restored: int
    """How many of them this run has restored."""
    rows: int
    tables: int
    roles_created: tuple[str, ...] = ()

    def facts(self) -> dict[str, object]:
        """As of every result; each database with its own fields that say something."""
        each = [
            {key: value for key, value in one.facts().items() if value or key == "database"} for one in self.databases
        ]
        return super().facts() | {"databases": each}


@dataclass(frozen=True)
class RecoverResult(Result):
    """The rows of a table in a backup beside the live ones, and what was brought back. Counts are of rows."""

    name: str
    database: str
    table: str
    rows: int
    """In the backup."""
    chosen: int
    """Those of them that the condition holds for."""
    missing: int
    different: int
    only_live: int
    inserted: int
    updated: int
    advanced: tuple[str, ...] = ()
    """Sequences that stood before an inserted value, with the value that they have now."""
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class UndoResult(Result):
    """A swap back."""

    database: str
    restored: str
    """The database that is live again."""
    kept_as: str = ""
    kept_bytes: int = 0


@dataclass(frozen=True)
class DrillResult(Result):
    """A backup that restores."""

    name: str
    store: str
    database: str
    place: str
    rto_seconds: float
    """Until the database was usable, fetching included."""
    load_seconds: float
    """Of that: rows, indexes and constraints."""
    rows: int
    tables: int
    checks: Mapping[str, str] = field(default_factory=dict)
    """The operator's own queries, and what they answered."""
    left_out: str | None = None
    """What the backup was made without; None where it has everything."""


@dataclass(frozen=True)
class AdoptResult(Result):
    """`store:name` of each copy whose manifest is signed as ours now."""

    adopted: tuple[str, ...]


@dataclass(frozen=True)
class SchemaDrillResult(Result):
    """A schema that restores."""

    name: str
    database: str
    place: str
    tables: int
    drill_seconds: float


@dataclass(frozen=True)
class MarkResult(Result):
    """The stores in which a backup was marked, or its mark removed."""

    name: str
    stores: tuple[str, ...]
