"""What restores of ours have loaded: from then on it is what the next backup of that database is measured by.

Without it a restore on a new server, or of an older state, makes every later backup look like a database half lost.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hubbackup.catalog.backup import Manifest
from hubbackup.jobs.state_file import read_json, write_json


@dataclass(frozen=True)
class Loaded:
    """The figures of what was restored, as a manifest has them. `name`: the backup it came from."""

    name: str
    plain_bytes: int
    table_count: int
    rows: Mapping[str, int]


class Restored:
    """The last restore of each database, in a small file. Never raises: without it a backup is only suspicious."""

    def __init__(self, path: Callable[[], Path]) -> None:
        """`path` is called each time: the state directory may move."""
        self._path = path

    def note(self, database: str, loaded: Loaded, at: datetime) -> None:
        """`database` is now what was loaded."""
        noted = self._read()
        arrival = {key: value for key, value in _entry(noted, database).items() if key == "arrival"}
        self._write(noted | {database: {"at": at.astimezone(UTC).isoformat(), **asdict(loaded), **arrival}})

    def arriving(self, database: str, name: str, place: str, at: datetime) -> None:
        """What was loaded from the backup `name` is about to become `database`.

        `place` tells that very database from every other one, as `Server.place_of` has it.
        """
        noted = self._read()
        arrival = {"name": name, "place": place, "at": at.astimezone(UTC).isoformat()}
        self._write(noted | {database: {**_entry(noted, database), "arrival": arrival}})

    def whence(self, database: str, place: str) -> str:
        """The backup from which a restore of ours has made the database of that `place`; empty where none has."""
        arrival = _entry(self._read(), database).get("arrival")
        if not isinstance(arrival, dict) or not place or arrival.get("place") != place:
            return ""
        return str(arrival.get("name", ""))

    def forget(self, database: str) -> None:
        """The restore was undone."""
        noted = self._read()
        if noted.pop(database, None) is not None:
            self._write(noted)

    def measure(self, database: str, last: Manifest, system_identifier: str) -> Manifest:
        """What a backup from this server is measured by: `last`, the last normal one, or what was restored since."""
        noted = self._read().get(database)
        try:
            if noted is None or datetime.fromisoformat(noted["at"]) <= last.started_at:
                return last
            figures = {name: noted[name] for name in ("name", "plain_bytes", "table_count", "rows")}
            return Manifest.model_validate(last.model_dump() | figures | {"system_identifier": system_identifier})
        except (KeyError, TypeError, ValueError):
            return last

    def _read(self) -> dict[str, Any]:
        noted = read_json(self._path())
        return noted if isinstance(noted, dict) else {}

    def _write(self, noted: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            write_json(self._path(), noted)


def _entry(noted: Mapping[str, Any], database: str) -> dict[str, Any]:
    found = noted.get(database)
    return found if isinstance(found, dict) else {}
