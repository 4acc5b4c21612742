"""Which schema of a database was last shown to restore, and what that says of its backups.

The proof is a small file of ours; that a server refused a schema is a mark beside the backup, in every store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from hubbackup.catalog.backup import BackupName, Mark
from hubbackup.catalog.marks import drop_mark, put_mark
from hubbackup.catalog.target import Target
from hubbackup.errors import NotFoundError, StoreError
from hubbackup.jobs.state_file import read_json, write_json

REFUSED = "this backup can't be restored"
"""The beginning of the problem that a run has with it."""
PROVEN_FOR = timedelta(days=6, hours=12)
"""A week of nights, each a little earlier or later: the server's image may change as well as the schema."""
TRY_AGAIN_AFTER = timedelta(hours=20)
"""Where no server could be had: once a day, however often there is a backup."""


@dataclass(frozen=True)
class SchemaProof:
    """What is known of one database: the last schema that restored, and the last time that none could be tried."""

    digest: str = ""
    name: str = ""
    """The backup it was tried with."""
    passed_at: datetime | None = None
    skipped_at: datetime | None = None
    skipped_because: str = ""

    def holds(self, digest: str, now: datetime) -> bool:
        """Whether this very schema restored not long ago; a time in the future is a clock that was set back."""
        recent = self.passed_at is not None and timedelta() <= now - self.passed_at < PROVEN_FOR
        return bool(digest) and self.digest == digest and recent

    def due(self, digest: str, now: datetime) -> bool:
        """Whether it should be tried now, after a backup."""
        waits = self.skipped_at is not None and timedelta() <= now - self.skipped_at < TRY_AGAIN_AFTER
        return not self.holds(digest, now) and not waits


@dataclass(frozen=True)
class SchemaVerdict:
    """What came of a backup's schema: it was shown to restore (now or lately), refused, or could not be tried."""

    state: Literal["proven", "refused", "untried"]
    why: str = ""
    remedy: str = ""


class SchemaProofs:
    """The proofs of all databases, over restarts. What can't be written is tried again the next time."""

    def __init__(self, path: Callable[[], Path]) -> None:
        """`path` is called each time: the state directory may move."""
        self._path = path

    def of(self, database: str) -> SchemaProof:
        """What is known of `database`."""
        found = self._read().get(database)
        if not isinstance(found, dict):
            return SchemaProof()
        return SchemaProof(
            _text(found.get("digest")),
            _text(found.get("name")),
            _time(found.get("passed_at")),
            _time(found.get("skipped_at")),
            _text(found.get("skipped_because")),
        )

    def passed(self, database: str, digest: str, name: str, now: datetime) -> None:
        """A server took the schema `digest` of the backup `name`."""
        self._write(database, {"digest": digest, "name": name, "passed_at": now.astimezone(UTC).isoformat()})

    def skipped(self, database: str, why: str, now: datetime) -> None:
        """There was no server to try it in."""
        known = self._read().get(database)
        known = known if isinstance(known, dict) else {}
        self._write(database, {**known, "skipped_at": now.astimezone(UTC).isoformat(), "skipped_because": why[:1000]})

    def _read(self) -> dict[str, Any]:
        found = read_json(self._path())
        return found if isinstance(found, dict) else {}

    def _write(self, database: str, facts: dict[str, str]) -> None:
        try:
            write_json(self._path(), {**self._read(), database: facts})
        except (OSError, ValueError):
            return


def mark_unrestorable(targets: Sequence[Target], name: BackupName, why: str, now: datetime) -> list[str]:
    """Mark the backup in each of `targets` that holds it; returns a sentence for each one that can't be marked."""
    return _in_each(targets, name, lambda target: put_mark(target.store, name, Mark.UNRESTORABLE, why=why, now=now))


def mark_restorable(targets: Sequence[Target], name: BackupName) -> list[str]:
    """Take that mark from each of `targets`; returns a sentence for each one where that fails."""
    return _in_each(targets, name, lambda target: drop_mark(target.store, name, Mark.UNRESTORABLE))


def _in_each(targets: Sequence[Target], name: BackupName, do: Callable[[Target], None]) -> list[str]:
    problems = []
    for target in targets:
        try:
            target.store.stat(str(name))
            do(target)
        except NotFoundError:
            continue
        except StoreError as error:
            problems.append(f"the mark of {name} in {target.describe()} is not as it should be: {error}")
    return problems


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _time(value: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(value)).astimezone(UTC)
    except ValueError:
        return None
