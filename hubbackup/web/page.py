"""The status page: a snapshot and its verdict as one HTML document that loads nothing else.

The template gets plain texts, and escapes every one of them.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from hubbackup.jobs.current import AtWork
from hubbackup.shown_text import mask, printable
from hubbackup.status.snapshot import Snapshot
from hubbackup.status.verdict import Level, Verdict
from hubbackup.web.days import last_days
from hubbackup.web.view import SHOWN_REMOVALS, View

TEMPLATES = Path(__file__).parent / "templates"
SHOWN_BACKUPS = 7
"""Rows of the table before the rest is folded away: a week of nights."""
MOST_DATABASES = 4
"""Of more the week is folded away, too."""
MOST_BACKUPS = 120
RELOAD_SECONDS = 300
RELOAD_AT_WORK_SECONDS = 10
WORDS = {Level.OK: "ok", Level.WARNING: "warning", Level.CRITICAL: "critical"}


@functools.cache
def stylesheet() -> str:
    """The page's style, as it stands between the tags."""
    return (TEMPLATES / "status.css").read_text(encoding="utf-8")


@functools.cache
def script() -> str:
    """The page's script, as it stands between the tags."""
    return (TEMPLATES / "status.js").read_text(encoding="utf-8")


@functools.cache
def hash_of(text: str) -> str:
    """How the Content-Security-Policy names the one style and the one script that it allows."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _shown(value: object) -> object:
    """What stands in for each value, before it is escaped for HTML; the page's own style stays as it is."""
    return printable(mask(value)) if isinstance(value, str) and not isinstance(value, Markup) else value


@functools.cache
def _template() -> Template:
    # Every value is escaped, whatever the file is called; an unknown name is an error, not a hole in the page.
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("status.html")


def render(
    snapshot: Snapshot,
    verdict: Verdict,
    now: datetime,
    at_work: Sequence[AtWork] = (),
    typable: Callable[[str], str] = str,
) -> str:
    """The whole document at `now` (aware), with the runs `at_work`; its reader can type its commands."""
    view = View(snapshot, now, typable)
    days = last_days(snapshot, now)
    rows = list(view.rows())
    shown = SHOWN_BACKUPS * min(len(snapshot.databases), MOST_DATABASES)
    return _template().render(
        style=Markup(stylesheet()),  # noqa: S704 - our own text
        script=Markup(script()),  # noqa: S704
        typable=typable,
        days=days,
        good_days=sum(day.good for day in days),
        known_days=sum(day.state != "none" for day in days),
        alerts=view.alerts(),
        kept=view.kept(),
        kept_problem=snapshot.aside.problem,
        undo=typable("hubbackup restore --undo" + " --database NAME" * snapshot.several),
        verdict=verdict,
        state=WORDS[verdict.level],
        words=WORDS,
        databases=snapshot.databases,
        work=view.work(at_work),
        reload_seconds=RELOAD_AT_WORK_SECONDS if at_work else RELOAD_SECONDS,
        facts=view.facts(),
        rows=rows[:shown],
        older=rows[shown:MOST_BACKUPS],
        plots=view.plots(),
        drills=view.drills(),
        next_drill=view.next_drill(),
        stores=view.stores(),
        removals=view.removals(),
        removals_more=max(0, len(snapshot.leaving) - SHOWN_REMOVALS),
        version=snapshot.version,
        taken=view.time(snapshot.taken_at),
        zone=snapshot.schedule.time_zone,
        schedule=snapshot.schedule.expression,
    )


def icon(level: Level) -> str:
    """The tab's icon: the verdict's colour and shape."""
    shapes = {
        Level.OK: '<circle cx="8" cy="8" r="7" fill="#1a7f37"/><path d="M4.5 8.5l2.5 2.5 4.5-5" stroke="#fff"',
        Level.WARNING: '<path d="M8 1l7.5 14H.5z" fill="#b87800"/><path d="M8 6v4.5M8 12.2v.8" stroke="#fff"',
        Level.CRITICAL: '<path d="M1 1h14v14H1z" fill="#b42318"/><path d="M5 5l6 6m0-6l-6 6" stroke="#fff"',
    }
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">{shapes[level]}'
        ' stroke-width="2" fill="none"/></svg>'
    )
