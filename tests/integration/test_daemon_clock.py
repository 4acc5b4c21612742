"""The daemon under a clock that somebody sets while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.daemon import NEVER, running
from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.program import Program, beside, for_server
from tests.support.sinks import http_sink, until

SET_CLOCK = """\\
import sys, time
from pathlib import Path
from datetime import datetime, timedelta

class Set(datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.now(tz) + timedelta(seconds=float(Path("clock").read_text()))

import apscheduler.schedulers.base, apscheduler.triggers.interval
import hubbackup.daemon.clock, hubbackup.daemon.scheduler, hubbackup.health
real = time.time
time.time = lambda: real() + float(Path("clock").read_text())
hubbackup.daemon.clock.Clock.__init__.__defaults__ = (time.time, time.monotonic)
for module in (apscheduler.schedulers.base, hubbackup.daemon.scheduler):
    module.datetime = Set
"""
"""All that decides what is due asks a clock that is as many seconds off as the file says."""
YEAR = 365 * 86400


@pytest.fixture
def program(postgres18: EmbeddedPostgres, tmp_path: Path) -> Iterator[Program]:
    (tmp_path / "clock").write_text("0")
    with postgres18.temporary_database() as name:
        postgres18.psql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS i", database=name)
        yield for_server(
            postgres18,
            name,
            tmp_path,
            BACKUP_SCHEDULE="* * * * *",
            DRILL_SCHEDULE="off",
            VERIFY_SCHEDULE="off",
            BACKUP_ON_FIRST_START="false",
        )


def set_clock(program: Program, seconds: float) -> None:
    fresh = program.directory / "clock.new"
    fresh.write_text(str(seconds))
    fresh.replace(program.directory / "clock")


def test_a_clock_that_was_ahead_at_the_start_freezes_nothing(program: Program) -> None:
    """Set right, the next run comes by the right time, and the health check goes on."""
    set_clock(program, YEAR)
    with running(program, before=SET_CLOCK) as daemon:
        daemon.wait_for("daemon.started")
        set_clock(program, 0)
        (jump,) = daemon.wait_for("clock.jumped")
        assert jump["seconds"] == pytest.approx(-YEAR, abs=5)
        assert "back" in jump["message"]
        daemon.wait_for("backup.finished", seconds=75)
        until(lambda: program.run("health").code == 0, seconds=20)  # the next beat


def test_a_backup_from_the_future_is_an_alert(program: Program) -> None:
    """Once a day, by name; and it counts for nothing, so `check` asks for a real one."""
    with http_sink() as sink:
        made = program.backup().name
        future = program.redate(made, timedelta(days=-365))
        for part in (made, beside(made)):
            (program.backups / part).unlink()
        often = "hubbackup.daemon.scheduler.WATCH_SECONDS = 0.5\n"
        with running(program, before=often, BACKUP_SCHEDULE=NEVER, NOTIFICATION_URLS=sink.apprise_url) as daemon:
            assert daemon.wait_for("backup.from_future")[0]["name"] == future
            until(lambda: sink.titles)
            daemon.has_settled()
            assert len(daemon.events("backup.from_future")) == 1
    assert "from the future" in sink.titles[0]
    assert program.run("check").code == 2


def test_slots_that_a_jump_passed_over_come_as_one(program: Program) -> None:
    """A machine that slept for a day: one run at once, and not 1440."""
    with running(program, before=SET_CLOCK, BACKUP_SCHEDULE="0 3 * * *") as daemon:
        daemon.wait_for("daemon.started")
        set_clock(program, 86400)
        assert daemon.wait_for("clock.jumped")[0]["seconds"] == pytest.approx(86400, abs=5)
        daemon.wait_for("backup.finished")
        daemon.wait_for("doctor.finished")
        set_clock(program, 3 * 86400)
        daemon.wait_for("backup.finished", 2)
        assert daemon.stop() == 143
        assert len(daemon.events("backup.finished")) == 2
