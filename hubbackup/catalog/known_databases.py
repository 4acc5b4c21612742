"""The databases that a server is known to have, where all of them are backed up: which are new, and which are gone.

Kept in a small file of ours, so that what vanished is noticed, and its backups are not pruned away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from hubbackup.jobs.state_file import read_json, write_json


@dataclass(frozen=True)
class Seen:
    """How the databases of now differ from those that were known. At the first look nothing is new."""

    new: tuple[str, ...] = ()
    """Not known until now, or gone until now."""
    gone: tuple[str, ...] = ()


class KnownDatabases:
    """What is known over restarts. What can't be written is noticed anew the next time."""

    def __init__(self, path: Callable[[], Path]) -> None:
        """`path` is called each time: the state directory may move."""
        self._path = path

    def there(self) -> tuple[str, ...]:
        """The databases of the last look, in order of their names; nothing where there never was one."""
        return tuple(sorted(name for name, gone_at in self._read().items() if gone_at is None))

    def gone(self) -> dict[str, datetime]:
        """Those that were there once, and since when they are not."""
        return {name: gone_at for name, gone_at in self._read().items() if gone_at is not None}

    def compare(self, names: Iterable[str]) -> Seen:
        """What is new among the databases of now, and which of the known ones are not there any more."""
        known, now = self._read(), set(names)
        if not known:
            return Seen()
        new = sorted(name for name in now if known.get(name, datetime.min) is not None)
        return Seen(
            tuple(new), tuple(sorted(name for name, gone_at in known.items() if gone_at is None and name not in now))
        )

    def keep(self, names: Iterable[str], forgotten: Callable[[str], bool], now: datetime) -> None:
        """The databases of now. What is `forgotten`, since it was left out on purpose, is not gone."""
        there = set(names)
        kept = {name: gone_at or now for name, gone_at in self._read().items() if not forgotten(name)}
        facts: dict[str, datetime | None] = {**kept, **dict.fromkeys(there)}
        try:
            write_json(
                self._path(),
                {name: gone_at and gone_at.astimezone(UTC).isoformat() for name, gone_at in facts.items()},
            )
        except OSError:
            return

    def _read(self) -> dict[str, datetime | None]:
        found = read_json(self._path())
        if not isinstance(found, dict):
            return {}
        return {name: _time(text) for name, text in found.items()}


def _time(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text)).astimezone(UTC)
    except ValueError:
        return None
