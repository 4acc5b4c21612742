"""Three daemons with a directory each, one database, one bucket: each slot of the schedule is served once."""

from __future__ import annotations

import json
import secrets
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hubbackup.catalog.backup import BackupName
from tests.support.daemon import Daemon, running
from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.moments import locked_table, wait_until
from tests.support.program import Program, beside, for_server
from tests.support.s3 import S3Server
from tests.support.sinks import http_sink

SLOTS = 20
KILLED_AT, BACK_AT = 7, 9
"""The daemon that serves this slot is killed in the middle, and started again after that one."""
SHARED_CLOCK = """\
import os, time
from pathlib import Path
from datetime import datetime, timedelta

real = time.time

def wall():
    ahead, last = map(float, Path(os.environ["CLOCK"]).read_text().split())
    return min(real() + ahead, last)

class Shared(datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.fromtimestamp(wall(), tz)

import apscheduler.schedulers.base, apscheduler.triggers.interval, apscheduler.triggers.date
import hubbackup.backup.job, hubbackup.daemon.clock, hubbackup.daemon.scheduler
hubbackup.daemon.scheduler.Daemon._doctor = lambda self: None  # this is not about it, and it takes seconds
hubbackup.daemon.clock.Clock.__init__.__defaults__ = (wall, time.monotonic)
for module in (apscheduler.schedulers.base, hubbackup.backup.job, hubbackup.daemon.scheduler):
    module.datetime = Shared
"""
"""What decides which slot is due, and what a backup is called, asks one clock that the test sets for all: so a slot
comes when the last one is served, however busy the machine is."""
MINUTELY = {
    "BACKUP_SCHEDULE": "* * * * *",
    "BACKUP_ON_FIRST_START": "false",
    "DRILL_SCHEDULE": "off",
    "VERIFY_SCHEDULE": "off",
}
ENDS = ("backup.finished", "backup.not_needed", "backup.failed", "backup.crashed", "backup.skipped")


class Clock:
    """Minutes that pass when the test says so."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.slot = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=2)
        self._set(self.slot - timedelta(seconds=50))

    def next_slot(self) -> datetime:
        """The next minute begins now."""
        self.slot += timedelta(minutes=1)
        self._set(self.slot)
        return self.slot

    def _set(self, moment: datetime) -> None:
        """By no clock the next minute comes by itself, however long the machine takes for this one."""
        fresh = self.path.with_suffix(".new")
        last = moment.replace(second=58, microsecond=0).timestamp()
        fresh.write_text(f"{(moment - datetime.now(UTC)).total_seconds()} {last}")
        fresh.replace(self.path)


@pytest.fixture
def three(postgres18: EmbeddedPostgres, s3: S3Server, tmp_path: Path) -> Iterator[tuple[list[Program], str]]:
    """The program with three directories, and their bucket."""
    bucket = s3.bucket()
    clock = tmp_path / "clock"
    clock.write_text("0 inf")
    shared = {**MINUTELY, **s3.settings(bucket), "BACKUP_MANIFEST_KEY": secrets.token_hex(32), "CLOCK": str(clock)}
    with postgres18.temporary_database() as name:
        postgres18.psql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS i", database=name)
        yield [for_server(postgres18, name, tmp_path / str(i), **shared) for i in range(3)], bucket


def minutes(keys: list[str]) -> Counter[datetime]:
    """How many backups, with their manifests, there are of each minute."""
    names = {key.removeprefix("backups/") for key in keys}
    found = [parsed for name in names if (parsed := BackupName.parse(name)) and parsed.manifest in names]
    return Counter(one.local_time.replace(second=0, tzinfo=UTC) for one in found)


@dataclass
class Hosts:
    """Three hosts, and the daemon on each that is up."""

    programs: list[Program]
    clock: Clock
    up: dict[int, Daemon] = field(default_factory=dict)
    killed: list[Daemon] = field(default_factory=list)
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Hosts:
        for number in range(len(self.programs)):
            self.start(number)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def start(self, number: int) -> Daemon:
        """Start the daemon of one host."""
        self.up[number] = self._stack.enter_context(running(self.programs[number], before=SHARED_CLOCK))
        self.up[number].wait_for("daemon.started")
        return self.up[number]

    def kill_who_dumps(self) -> int:
        """SIGKILL the daemon that holds the lock, as soon as its pg_dump is at work; returns its host."""
        wait_until(lambda: self._dumping(), "a dump")
        (number,) = self._dumping()
        self.killed.append(self.up.pop(number))
        self.killed[-1].process.kill()
        self.killed[-1].process.wait()
        return number

    def _dumping(self) -> list[int]:
        return [number for number, program in enumerate(self.programs) if stage(program) == "dump"]

    @contextmanager
    def slot(self) -> Iterator[None]:
        """A new minute begins; at the end of the block every daemon that is up is done with it."""
        before = {number: ended(daemon) for number, daemon in self.up.items()}
        self.clock.next_slot()
        yield
        wait_until(
            lambda: all(ended(daemon) > before[number] for number, daemon in self.up.items()),
            f"the end of the slot of {self.clock.slot}",
            180,
        )

    def events(self, name: str = "") -> list[dict[str, Any]]:
        """Of all logs."""
        return [event for daemon in (*self.up.values(), *self.killed) for event in daemon.events(name)]


def ended(daemon: Daemon) -> int:
    """How many slots it is done with."""
    return sum(event["event"] in ENDS for event in daemon.events())


def stage(program: Program) -> str:
    """Where its run is."""
    try:
        return str(json.loads((program.backups / ".hubbackup/run.json").read_text())["stage"])
    except (OSError, ValueError):
        return ""


@pytest.mark.timeout(600)
def test_each_slot_is_served_once(
    three: tuple[list[Program], str], postgres18: EmbeddedPostgres, s3: S3Server
) -> None:
    """Over twenty slots there are twenty backups in the bucket, one of each; a daemon that comes too late says
    `backup.not_needed`, and none fails, is degraded, skips a slot or sends an alert. One is killed in the middle of
    its dump: another serves that slot. Back again, it removes what it had left, and catches up nothing."""
    programs, bucket = three
    clock = Clock(Path(programs[0].settings["CLOCK"]))
    slots = []
    with http_sink() as sink:
        programs = [one.but(NOTIFICATION_URLS=sink.apprise_url) for one in programs]
        with Hosts(programs, clock) as hosts:
            for number in range(SLOTS):
                if number == KILLED_AT:
                    with hosts.slot(), locked_table(postgres18, programs[0].database, "t"):
                        victim = hosts.kill_who_dumps()
                else:
                    with hosts.slot():
                        pass
                slots.append(clock.slot)
                if number == BACK_AT:
                    assert any(programs[victim].backups.glob("*.partial"))
                    back = hosts.start(victim)
                    assert back.wait_for("backup.catch_up")[0]["reason"] == "missed"
                    assert back.wait_for("backup.not_needed")[0]["exit_code"] == 0
                    assert back.events("leftovers.removed")
                    assert not any(programs[victim].backups.glob("*.partial"))
            events = hosts.events()
    assert minutes(s3.keys(bucket)) == Counter(slots)
    assert s3.unfinished(bucket) == []
    made = [event for event in events if event["event"] == "backup.finished"]
    assert len(made) == SLOTS
    assert [event for event in made if event["exit_code"]] == []
    assert [event for event in events if event["level"] == "error" or event["event"] in ENDS[2:]] == []
    assert len([event for event in events if event["event"] == "backup.not_needed"]) >= 2 * (SLOTS - 4)
    assert sink.titles == []
    for program in programs:
        check = program.run("check")
        assert check.code == 0, check.said
        assert program.run("status", "--json").document["last_run"]["result"] == "success"


def test_a_new_pod_knows_the_backups_of_the_others(
    three: tuple[list[Program], str], postgres18: EmbeddedPostgres, s3: S3Server
) -> None:
    """With an empty directory, and a slot that was missed while none was up: it catches up, measured by the last one
    in the bucket. Where that is of another server, it does not: this one may still wait for its restore."""
    (one, new, stranger), bucket = three
    made = one.run("backup", "--json", "--no-upload-s3")
    older = one.redate(made.document["name"], timedelta(hours=5))
    for name in (older, beside(older)):
        s3.client.put_object(Bucket=bucket, Key=f"backups/{name}", Body=(one.backups / name).read_bytes())
    hourly = {"BACKUP_SCHEDULE": "0 * * * *", "BACKUP_ON_FIRST_START": "true"}
    postgres18.psql(
        "DELETE FROM t WHERE i > 10; INSERT INTO t SELECT generate_series(1, 5000)", database=one.database
    )
    with running(new, **hourly) as daemon:
        assert daemon.wait_for("backup.catch_up")[0]["reason"] == "missed"
        (done,) = daemon.wait_for("backup.finished")
        assert done["changes_since"] == older
        assert done["exit_code"] == 0
    manifest = new.manifest(done["name"])
    moved = new.signed(manifest.model_copy(update={"system_identifier": "4711"}))
    s3.client.put_object(Bucket=bucket, Key=f"backups/{beside(done['name'])}", Body=moved.to_json())
    with running(stranger, **hourly) as daemon:
        daemon.wait_for("doctor.finished")
        assert daemon.events("backup.catch_up") == []
        assert daemon.events("backup.not_first")
