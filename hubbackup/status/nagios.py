"""`hubbackup check`: one line and an exit code as Nagios and its like read them, decided purely from facts."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from hubbackup.catalog.backup import Backup
from hubbackup.catalog.listing import newest_first_of, scan
from hubbackup.catalog.manifests import Repository
from hubbackup.catalog.schema_proofs import REFUSED
from hubbackup.errors import NAGIOS_CRITICAL, NAGIOS_OK, NAGIOS_UNKNOWN, NAGIOS_WARNING, StoreError, UsageError
from hubbackup.jobs.history import RunRecord
from hubbackup.shown_text import mask, printable
from hubbackup.units import human_age

BADNESS = (NAGIOS_OK, NAGIOS_WARNING, NAGIOS_UNKNOWN, NAGIOS_CRITICAL)
"""The codes in ascending order: what is known to be bad is worse than what is not known."""
WORDS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
NAMED = 3
"""Strangers that are named; of the others the number is enough."""
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class StoreView:
    """What one configured store shows of the database: its newest good backup, and how many look good by the listing.

    `problem`: why it can't be read.
    """

    name: str
    newest: Backup | None = None
    good: int = 0
    problem: str = ""
    remote: bool = field(default=True, compare=False)
    strangers: tuple[str, ...] = ()
    """Younger than the newest good one, and not ours, or from the future: a sentence each."""

    @classmethod
    def of(cls, store: Repository, database: str, zone: ZoneInfo, now: datetime) -> StoreView:
        """One listing and a few manifests: it is asked every few minutes, of however many backups."""
        try:
            listed = list(scan([store], database))
        except StoreError as error:
            return cls(store.name, problem=str(error), remote=store.remote)
        problem = ""
        strangers: list[str] = []
        for backup in newest_first_of(listed, [store], zone):
            if backup.unreadable:
                problem = problem or backup.problem
            elif strange := backup.stranger(now):
                strangers.append(f"{store.name} holds {backup.name}, which is {strange}")
            elif backup.good_in(store.name):
                good = sum(one.published_in(store.name) for one in listed) - len(strangers)
                return cls(store.name, backup, good, problem, store.remote, tuple(strangers))
        return cls(store.name, problem=problem, remote=store.remote, strangers=tuple(strangers))


@dataclass(frozen=True)
class PluginOutput:
    """The exit code, the sentence, and the performance data."""

    code: int
    text: str
    performance: str = ""

    def __str__(self) -> str:
        # One line, whatever a cause holds; a bar would begin the performance data.
        text = printable(" ".join(mask(self.text).replace("|", "/").split()))
        return f"BACKUP {WORDS[self.code]} - {text}" + (f" | {self.performance}" if self.performance else "")


def parse_age(text: str) -> timedelta:
    """`26h`, `90m`, `2d`, `3600` (seconds). Raises UsageError."""
    found = re.fullmatch(r"(\d{1,9})([smhd]?)", text.strip().lower(), re.ASCII)
    if found is None or int(found[1]) == 0:
        raise UsageError(f"{text!r} is not an age", remedy="write it as 26h, 90m, 2d or 93600s")
    return timedelta(seconds=int(found[1]) * UNITS[found[2] or "s"])


def assess(
    database: str,
    stores: Sequence[StoreView],
    last_run: RunRecord | None,
    *,
    deadline: datetime | None,
    max_age: timedelta | None,
    now: datetime,
) -> PluginOutput:
    """The state of the backups of `database`. `last_run` is the last backup run of the history.

    `max_age` is how old the last good backup may be; where it is None, `deadline` is when the next one is missed.
    """
    unreadable = [store for store in stores if store.problem]
    found = [store.newest for store in stores if store.newest is not None]
    newest = max(found, key=lambda backup: backup.started_at, default=None)
    counts = [f"'good_{store.name}'={store.good};;;0" for store in stores if not store.problem]
    if newest is None:
        if unreadable:
            return PluginOutput(NAGIOS_UNKNOWN, "; ".join(f"{store.name}: {store.problem}" for store in unreadable))
        strangers = _strangers(stores)
        if last_run is None and deadline is not None and now <= deadline and max_age is None:
            sentence = f"there is no backup of {database} yet, the first is to come"
            return PluginOutput(NAGIOS_WARNING, "; ".join([sentence, *strangers]), " ".join(counts))
        none = "; ".join([f"there is no good backup of {database}", *strangers])
        return PluginOutput(NAGIOS_CRITICAL, none, " ".join(counts))
    age = now - newest.started_at
    limit = max_age if max_age is not None else (deadline - newest.started_at if deadline is not None else None)
    size_bytes = newest.manifest.stored_bytes if newest.manifest is not None else 0
    threshold = f";;{limit.total_seconds():.0f}" if limit is not None else ";;"
    performance = [f"'age'={max(0.0, age.total_seconds()):.0f}s{threshold};0", f"'size'={size_bytes}B;;;0", *counts]
    shown = f"{newest.name} is {_hours(age)} old"
    if limit is not None and age > limit:
        cause = f"; the last run failed: {last_run.cause}" if last_run and last_run.cause else ""
        return PluginOutput(NAGIOS_CRITICAL, f"{shown}, more than {_hours(limit)}{cause}", " ".join(performance))
    doubts = _doubts(newest, stores, last_run)
    code = NAGIOS_CRITICAL if newest.unrestorable else NAGIOS_WARNING if doubts else NAGIOS_OK
    copies = ", ".join(
        store.name for store in stores if store.newest is not None and store.newest.name == newest.name
    )
    return PluginOutput(code, "; ".join([f"{shown} (in {copies})", *doubts]), " ".join(performance))


def worst_of(outputs: Mapping[str, PluginOutput]) -> PluginOutput:
    """One answer for several databases, as bad as the worst of them; those that are not well are named first."""
    order = sorted(outputs, key=lambda name: (-BADNESS.index(outputs[name].code), name))
    code = outputs[order[0]].code
    well = [name for name in order if outputs[name].code == NAGIOS_OK]
    texts = [f"{name}: {outputs[name].text}" for name in order if name not in well]
    if well:
        texts.append(f"well: {', '.join(well)}" if texts else f"{len(well)} databases are well: {', '.join(well)}")
    performance = (
        datum.replace("'", f"'{_label(name)} ", 1)
        for name in sorted(outputs)
        for datum in outputs[name].performance.split()
    )
    return PluginOutput(code, "; ".join(texts), " ".join(performance))


def _label(database: str) -> str:
    """The name without what would end a label, or the line."""
    return re.sub(r"['=|]", "_", printable(database))


def _doubts(newest: Backup, stores: Sequence[StoreView], last_run: RunRecord | None) -> list[str]:
    """What is not as it should be, though a good backup is young enough."""
    doubts = []
    for store in stores:
        if store.problem:
            doubts.append(f"{store.name} can't be read: {store.problem}")
        elif not store.remote and last_run and last_run.not_needed:
            continue  # it is another daemon's, which has it on its own disk
        elif store.newest is None or store.newest.name != newest.name:
            doubts.append(f"{store.name} lacks it")
    doubts += [f"{doubt.word}: {doubt.why}" for doubt in newest.doubts] + _strangers(stores)
    if last_run and not last_run.finished:
        doubts.append(f"the last run failed: {last_run.cause or f'exit code {last_run.exit_code}'}")
    elif last_run and (problems := [one for one in last_run.problems if not one.startswith(REFUSED)]):
        doubts.append(f"the last run is degraded: {'; '.join(problems)}")
    return doubts


def _strangers(stores: Sequence[StoreView]) -> list[str]:
    found = [one for store in stores for one in store.strangers]
    more = [f"and {len(found) - NAMED} more"] if len(found) > NAMED else []
    return found[:NAMED] + more


def _hours(span: timedelta) -> str:
    """Never in days: an age and the limit that it is over would read alike."""
    return human_age(span.total_seconds(), days_from=math.inf)
