"""What the status page's template shows, in words and figures that are ready to print. `view` makes them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Time:
    """A moment as people read it, and as machines do."""

    text: str
    iso: str
    away: str
    """`6 h ago`, `in 18 h`."""


@dataclass(frozen=True)
class Row:
    """One line of the table: a backup, or a run that gave none."""

    time: Time
    state: str
    database: str
    name: str
    stored: str = ""
    plain: str = ""
    rows: str = ""
    took: str = ""
    copies: tuple[tuple[str, str], ...] = ()
    """(store, `good`, `late`, `missing`, `bad` or, where the store does not answer, `unknown`)."""
    proof: str = ""
    note: str = ""
    changes: str = ""
    """What is different in its tables since the backup before it."""
    lacking: str = ""
    """Why copies are missing still."""
    remedy: str = ""
    commands: tuple[tuple[str, str], ...] = ()
    """(what it does, the command)."""


@dataclass(frozen=True)
class Work:
    """A run at work. `percent`: how much of it is done, where that is known."""

    what: str
    since: Time
    how_far: str
    percent: int | None


@dataclass(frozen=True)
class Drill:
    """A restore drill. `rto`: how long it took to have a usable database; `load`: of that, the load."""

    time: Time
    good: bool
    word: str
    name: str
    store: str
    rto: str
    load: str
    note: str


@dataclass(frozen=True)
class Disk:
    """How full the disk of a store is."""

    used_percent: int
    text: str


@dataclass(frozen=True)
class Attempt:
    """An alert that was taken, or one that was not: `what` is its title, or why."""

    time: Time
    what: str


@dataclass(frozen=True)
class AlertsView:
    """Who is told, and whether that works."""

    told: str
    sent: Attempt | None
    failed: Attempt | None
    failing: bool
    waiting: int


@dataclass(frozen=True)
class KeptView:
    """A database beside the live ones."""

    name: str
    size: str
    what: str


@dataclass(frozen=True)
class Holdings:
    """A store: what is wrong with it (`problem`, `remedy`), and what it holds."""

    name: str
    where: str
    problem: str
    remedy: str
    keeps: str
    count: int
    unproven: int
    bytes: str
    newest: Time | None
    oldest: Time | None
    disk: Disk | None


@dataclass(frozen=True)
class NextRemoval:
    """A backup that a coming run will remove."""

    time: Time
    name: str
    store: str
    reason: str
