"""The daemon as its container runs it: a process that schedules, outlives failures, and stops when told to."""

from __future__ import annotations

import itertools
import secrets
import signal
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.daemon import NEVER, running
from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.moments import locked_table, wait_until
from tests.support.program import Program, beside, for_server
from tests.support.s3 import S3Server


@pytest.fixture
def database(postgres18: EmbeddedPostgres) -> Iterator[str]:
    with postgres18.temporary_database() as name:
        postgres18.psql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS i", database=name)
        yield name


@pytest.fixture
def program(postgres18: EmbeddedPostgres, database: str, tmp_path: Path) -> Program:
    return for_server(
        postgres18, database, tmp_path, BACKUP_SCHEDULE=NEVER, DRILL_SCHEDULE="off", BACKUP_ON_FIRST_START="false"
    )


def test_it_runs_on_schedule_one_run_at_a_time(program: Program) -> None:
    """The schedule fires again and again; each run has one closing line, none begins before the last one ended;
    all of stdout is JSON; the health check agrees; SIGTERM ends it with 143 and takes the heartbeat along."""
    with running(program, every_second=True) as daemon:
        assert daemon.wait_for("daemon.started")[0]["stores"] == [str(program.backups)]
        daemon.wait_for("backup.finished", 3)
        healthy = program.run("health")
        assert healthy.code == 0, healthy.out
        assert daemon.stop() == 143
        marks = [event for event in daemon.events() if event["event"].startswith("backup.") and "run_id" in event]
        runs = [list(events) for _, events in itertools.groupby(marks, key=lambda event: event["run_id"])]
        assert len({event["run_id"] for event in marks}) == len(runs) >= 3, "none begins before the last one ended"
        for events in runs[:-1]:
            assert [event["event"] for event in events] == ["backup.started", "backup.finished"]
        # The last one may have been stopped, at its very beginning or when its file was there already.
        *begun, ended = [event["event"] for event in runs[-1]]
        assert begun in ([], ["backup.started"])
        assert ended in ("backup.finished", "backup.failed")
        assert daemon.events()[-1]["event"] == "daemon.stopped"
        assert daemon.events()[-1]["clean"] is True
    assert program.run("health").code == 1
    made = {event["name"] for event in daemon.events("backup.finished")}
    stopped = {event["name"] for event in runs[-1] if event["event"] == "backup.started"} - made
    files = {part for name in made for part in (name, beside(name))}
    assert files <= program.files().keys() <= files | {part for name in stopped for part in (name, beside(name))}


def test_a_failing_run_does_not_end_it(program: Program, postgres18: EmbeddedPostgres) -> None:
    """It tells each failure once and tries again at the next slot; when the cause is gone, so is the failure."""
    late = f"late_{secrets.token_hex(4)}"
    with running(program, every_second=True, POSTGRES_DB=late) as daemon:
        failures = daemon.wait_for("backup.failed", 2)
        assert all(late in event["cause"] and event["exit_code"] == 1 for event in failures)
        assert len({event["run_id"] for event in failures}) == len(failures)
        postgres18.create_database(late)
        try:
            daemon.wait_for("backup.finished")
            assert daemon.stop() == 143
        finally:
            postgres18.drop_database(late)


def test_a_missed_run_is_caught_up_at_start(program: Program) -> None:
    """A slot passed while the daemon was down: one run at start, and with a fresh backup none."""
    first = program.run("backup", "--json").document["name"]
    old = program.redate(first, timedelta(days=2))
    for part in (first, beside(first)):
        (program.backups / part).unlink()
    with running(program, BACKUP_SCHEDULE="0 3 * * *") as daemon:
        assert daemon.wait_for("backup.catch_up")[0]["reason"] == "missed"
        daemon.wait_for("backup.finished")
        daemon.has_settled()
        assert len(daemon.events("backup.started")) == 1
    with running(program, BACKUP_SCHEDULE="0 0 1 1 *") as daemon:
        daemon.has_settled()
        assert daemon.events("backup.catch_up") == daemon.events("backup.started") == []
    assert old in program.files()


def test_another_databases_backup_is_no_reason_to_skip(program: Program, postgres18: EmbeddedPostgres) -> None:
    """A newer backup of another database in the same directory does not hide that ours was missed."""
    first = program.run("backup", "--json").document["name"]
    program.redate(first, timedelta(days=2))
    for part in (first, beside(first)):
        (program.backups / part).unlink()
    with postgres18.temporary_database("other") as other:
        assert program.run("backup", POSTGRES_DB=other).code == 0
        with running(program, BACKUP_SCHEDULE="0 3 * * *") as daemon:
            assert daemon.wait_for("backup.catch_up")
            daemon.wait_for("backup.finished")


def test_catching_up_can_be_turned_off(program: Program) -> None:
    """BACKUP_CATCH_UP=false waits for the next slot."""
    first = program.run("backup", "--json").document["name"]
    program.redate(first, timedelta(days=2))
    for part in (first, beside(first)):
        (program.backups / part).unlink()
    with running(program, BACKUP_SCHEDULE="0 3 * * *", BACKUP_CATCH_UP="false") as daemon:
        daemon.has_settled()
        assert daemon.events("backup.catch_up") == daemon.events("backup.started") == []


def test_the_first_start_takes_the_first_backup(program: Program) -> None:
    """Where no store has a backup, one is taken at once, and it is said; with the next start there is none.
    BACKUP_ON_FIRST_START=false waits for the slot; BACKUP_ON_START asks for one at every start."""
    with running(program, BACKUP_SCHEDULE="0 3 * * *") as daemon:
        daemon.has_settled()
        assert daemon.events("backup.catch_up") == daemon.events("backup.started") == []
    with running(program, BACKUP_SCHEDULE="0 3 * * *", BACKUP_ON_FIRST_START="true") as daemon:
        daemon.wait_for("backup.finished")
        assert daemon.events("backup.catch_up")[0]["reason"] == "first"
    with running(program, BACKUP_SCHEDULE="0 3 * * *", BACKUP_ON_FIRST_START="true") as daemon:
        daemon.has_settled()
        assert daemon.events("backup.catch_up") == daemon.events("backup.started") == []
    with running(program, BACKUP_ON_START="true") as daemon:
        daemon.wait_for("backup.finished")
        assert daemon.events("backup.catch_up")[0]["reason"] == "BACKUP_ON_START"


def test_sigterm_in_a_run_ends_it_in_time(program: Program, postgres18: EmbeddedPostgres, database: str) -> None:
    """`docker stop` in the middle of a dump: the run is told as stopped, leaves nothing, and the exit code is 143."""
    with locked_table(postgres18, database, "t"), running(program, BACKUP_ON_START="true") as daemon:
        wait_until(lambda: list(program.backups.glob("*.partial")), "the dump")
        clock = time.monotonic()
        assert daemon.stop() == 143
        assert time.monotonic() - clock < 8
        (closing,) = daemon.events("backup.failed")
        assert (closing["exit_code"], closing["stage"]) == (143, "dump")
        assert daemon.events()[-1]["clean"] is True
    assert program.files() == {}


def test_no_run_by_hand_begins_beside_the_daemons(
    program: Program, postgres18: EmbeddedPostgres, database: str
) -> None:
    """While the daemon's run is at work, a run by hand exits 4."""
    with locked_table(postgres18, database, "t"), running(program, BACKUP_ON_START="true"):
        wait_until(lambda: list(program.backups.glob("*.partial")), "the daemon's run")
        assert program.run("backup").code == 4


def test_a_slot_that_finds_a_run_by_hand_waits_for_its_end(
    program: Program, postgres18: EmbeddedPostgres, database: str
) -> None:
    """A long run by hand costs no backup: the slot that it overlaps is said once, and served when that run has ended.
    A stop meanwhile is as quick as ever, and leaves the slot to the next start."""
    first = program.backup().name
    program.redate(first, timedelta(days=2))
    for part in (first, beside(first)):
        (program.backups / part).unlink()
    with locked_table(postgres18, database, "t"):
        by_hand = program.start("backup")
        wait_until(lambda: list(program.backups.glob("*.partial")), "the run by hand")
        with running(program, BACKUP_SCHEDULE="0 3 * * *") as daemon:
            assert f"process {by_hand.pid}" in daemon.wait_for("backup.waiting")[0]["message"]
            clock = time.monotonic()
            assert daemon.stop() == 143
            assert time.monotonic() - clock < 8
        with running(program, BACKUP_SCHEDULE="0 3 * * *") as daemon:
            daemon.wait_for("backup.waiting")
            by_hand.send_signal(signal.SIGTERM)
            by_hand.communicate(timeout=20)
            wait_until(lambda: list(program.backups.glob("*.partial")), "the daemon's run")
            assert len(daemon.events("backup.waiting")) == 1
            assert daemon.events("backup.skipped") == daemon.events("backup.failed") == []


def test_a_slot_behind_its_own_run_is_skipped_aloud(
    program: Program, postgres18: EmbeddedPostgres, database: str
) -> None:
    """A run that takes longer than its schedule: each slot that it misses is said, and none is made up for."""
    with locked_table(postgres18, database, "t"), running(program, every_second=True) as daemon:
        skipped = daemon.wait_for("backup.skipped", 2)
        assert all("since the one before is still at work" in event["message"] for event in skipped)
        assert [event for event in daemon.events() if event["event"].startswith("library.")] == []
        assert daemon.stop() == 143


def test_on_a_new_server_an_empty_database_is_no_first_backup(program: Program, s3: S3Server) -> None:
    """S3 has backups of it, this disk none: a first one would be the newest, and the database may be empty still."""
    with_s3 = program.but(
        S3_BACKUP_BUCKET=s3.bucket(),
        S3_ENDPOINT_URL=s3.endpoint_url,
        AWS_ACCESS_KEY_ID=s3.access_key_id,
        AWS_SECRET_ACCESS_KEY="secret",
    )
    made = with_s3.backup()
    for part in (made, made.with_name(beside(made.name))):
        part.unlink()
    (program.backups / ".hubbackup" / "history.jsonl").unlink()
    with running(with_s3, BACKUP_ON_FIRST_START="true") as daemon:
        assert "restore first" in daemon.wait_for("backup.not_first")[0]["remedy"]
        daemon.has_settled()
        assert daemon.events("backup.started") == []


def test_sigint_is_130(program: Program) -> None:
    """Ctrl-C in a terminal ends it as well."""
    with running(program) as daemon:
        daemon.wait_for("daemon.started")
        assert daemon.stop(signal.SIGINT) == 130


def test_a_misspelt_setting_is_told_once(program: Program) -> None:
    """With the nearest name that there is; the daemon starts all the same."""
    with running(program, BACKUP_RETENTION_DAY="3") as daemon:
        daemon.wait_for("daemon.started")
        (warning,) = [event for event in daemon.events() if event["event"] == "settings.warning"]
        assert "did you mean BACKUP_RETENTION_DAYS?" in warning["message"]


def test_without_its_directory_it_stays_up(program: Program) -> None:
    """A store that is not there fails the runs and not the daemon: mounted later, it is used."""
    absent = program.directory / "absent"
    with running(program, every_second=True, BACKUP_DIR=str(absent)) as daemon:
        (failure, *_) = daemon.wait_for("backup.failed")
        assert f"{absent} does not exist" in failure["cause"]
        absent.mkdir()
        daemon.wait_for("backup.finished")
