"""What people hear of a run for several databases: one message that names each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from hubbackup.errors import HubbackupError
from hubbackup.jobs.parts import Part, PartsFailedError
from hubbackup.jobs.results import BackupResult, Result
from hubbackup.jobs.run import Outcome
from hubbackup.notify.messages import LastGood, Place, rows_of, shown_last_good

NAMED = 3
"""Databases in a subject; of more the number is enough."""
DESCRIBED = 12
"""Failures that are described in one message."""


def parts_of(ending: Outcome[Result] | HubbackupError) -> tuple[Part, ...]:
    """How a run ended for each database, where it was for several."""
    return ending.parts if isinstance(ending, Outcome | PartsFailedError) else ()


def some_names(names: Sequence[str]) -> str:
    """`a, b, c and 2 more`."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def subject_of(parts: Sequence[Part]) -> str:
    """The databases that a subject names: those for which something is wrong, or else how many there are."""
    bad = [part.database for part in parts if part.exit_code or _warned(part)]
    if not bad:
        return f"{len(parts)} databases"
    return f"{some_names(bad)} ({len(bad)} of {len(parts)} databases)"


def rows_of_parts(
    parts: Sequence[Part], place: Place, last_good: Callable[[str], LastGood | None], now: datetime
) -> list[tuple[str, str]]:
    """What is wrong with each, what to do about it, and which are well."""
    rows: list[tuple[str, str]] = []
    bad = sorted((part for part in parts if part.exit_code or _warned(part)), key=lambda part: not part.failed)
    for part in bad[:DESCRIBED]:
        if isinstance(part.ending, HubbackupError):
            rows += [
                ("What failed", f"{part.database}, at the stage {part.stage}"),
                ("Cause", str(part.ending)),
                ("What to do", part.ending.remedy or "hubbackup doctor shows what is wrong and what to do"),
                ("Last good", shown_last_good(last_good(part.database), place, now)),
            ]
        else:
            rows += [("Database", part.database), *rows_of(part.ending)]
    if len(bad) > DESCRIBED:
        rows.append(("And more", f"{len(bad) - DESCRIBED} databases: hubbackup status names them"))
    well = [part.database for part in parts if part not in bad]
    if well:
        rows.append(("Backed up", f"{len(well)}: {', '.join(well)}" if len(parts) > len(well) else ", ".join(well)))
    return rows


def is_unrestorable(parts: Sequence[Part]) -> bool:
    """Whether a server refused the schema of one of them."""
    return any(made is not None and bool(made.unrestorable) for made in map(_made, parts))


def is_suspicious(parts: Sequence[Part]) -> bool:
    """Whether one of them looks unlike the ones before."""
    return any(map(_warned, parts))


def _made(part: Part) -> BackupResult | None:
    ending = part.ending
    return ending.result if isinstance(ending, Outcome) and isinstance(ending.result, BackupResult) else None


def _warned(part: Part) -> bool:
    made = _made(part)
    return made is not None and bool(made.warnings)
