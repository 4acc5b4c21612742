"""Settings that are edited while the daemon runs, or wrong from the start: never silently ignored, never its end."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.daemon import NEVER, running
from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.moments import locked_table, wait_until
from tests.support.program import Program, beside, for_server
from tests.support.sinks import HttpSink, http_sink

SECRET = "canari-7f3a9b1c"


@pytest.fixture
def database(postgres18: EmbeddedPostgres) -> Iterator[str]:
    with postgres18.temporary_database() as name:
        postgres18.psql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS i", database=name)
        yield name


class EnvFile:
    """.env.production, edited as an editor does it: another file under the same name."""

    def __init__(self, path: Path, **settings: str) -> None:
        self.path = path
        self.settings = settings
        self.edit()

    def edit(self, **changes: str) -> None:
        self.settings |= changes
        fresh = self.path.with_suffix(".new")
        fresh.write_text("".join(f"{name}={value}\n" for name, value in self.settings.items() if value))
        fresh.replace(self.path)


@pytest.fixture
def env_file(tmp_path: Path, database: str) -> EnvFile:
    return EnvFile(
        tmp_path / ".env.production",
        POSTGRES_DB=database,
        BACKUP_SCHEDULE=NEVER,
        DRILL_SCHEDULE="off",
        BACKUP_ON_FIRST_START="false",
    )


@pytest.fixture
def program(postgres18: EmbeddedPostgres, database: str, tmp_path: Path, env_file: EnvFile) -> Program:
    return for_server(postgres18, database, tmp_path, BACKUP_ENV_FILE=str(env_file.path))


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    with http_sink() as made:
        yield made


def page(port: int) -> tuple[int, str]:
    """The status page's code and text; 0 where it does not answer yet."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_an_edit_is_taken_up(program: Program, env_file: EnvFile) -> None:
    """Within the minute, without a restart: the log names what changed (a secret without its value), the daemon goes
    by the new schedule, and its process is the same."""
    with running(program) as daemon:
        assert daemon.wait_for("daemon.started")[0]["schedule"] == NEVER
        env_file.edit(BACKUP_SCHEDULE="30 2 * * *", POSTGRES_PASSWORD=SECRET)
        changed = daemon.wait_for("settings.changed")[0]
        assert {change["name"] for change in changed["changes"]} == {"BACKUP_SCHEDULE", "POSTGRES_PASSWORD"}
        started = daemon.wait_for("daemon.started", 2)[1]
        assert started["schedule"] == "30 2 * * *"
        assert "T02:30:00" in started["next_run"]
        assert "T02:30:00" in program.run("health").out
        assert daemon.stop() == 143
        assert SECRET not in "".join(daemon.lines)


def test_a_run_has_the_settings_of_its_moment(program: Program, env_file: EnvFile) -> None:
    """An edit that comes just before a slot counts for it, though the daemon looked at it last a while ago."""
    rarely = "hubbackup.daemon.scheduler.LOOK_SECONDS = 3600\n"
    with running(program, before=rarely, every_second=True) as daemon:
        daemon.wait_for("backup.finished")
        env_file.edit(BACKUP_COMPRESSION="zstd")
        wait_until(
            lambda: any(event["name"].endswith(".sql.zst") for event in daemon.events("backup.finished")),
            "a run with the new setting",
        )


def test_a_run_at_work_is_not_disturbed(
    program: Program, env_file: EnvFile, postgres18: EmbeddedPostgres, database: str
) -> None:
    """It ends as it began; until then `health` and doctor say which settings wait for its end."""
    env_file.edit(BACKUP_ON_START="true")
    with running(program) as daemon:
        with locked_table(postgres18, database, "t"):
            wait_until(lambda: list(program.backups.glob("*.partial")), "the run")
            env_file.edit(BACKUP_RETENTION_DAYS="3")
            daemon.wait_for("settings.changed")
            wait_until(lambda: "BACKUP_RETENTION_DAYS" in program.run("health").out, "the remark")
            assert program.run("health").code == 0
            assert len(daemon.events("daemon.started")) == 1
        daemon.wait_for("daemon.started", 2)
        assert [event["exit_code"] for event in daemon.wait_for("backup.finished")] == [0]
        wait_until(lambda: "BACKUP_RETENTION_DAYS" not in program.run("health").out, "no remark")


def test_a_lowered_retention_frees_the_disk_now(program: Program, env_file: EnvFile) -> None:
    """Not after the next good backup, which may lack the room: at the edit, and at a start after an edit."""
    made = program.backup().name
    young, old, older = (program.redate(made, timedelta(hours=hours)) for hours in (20, 40, 60))
    with running(program) as daemon:
        daemon.wait_for("doctor.finished")
        env_file.edit(BACKUP_RETENTION_DAYS="2")
        assert daemon.wait_for("prune.finished")[0]["removed"] == [f"local:{older}"]
    env_file.edit(BACKUP_RETENTION_DAYS="1")
    with running(program) as daemon:
        assert daemon.wait_for("prune.finished")[0]["removed"] == [f"local:{old}"]
        daemon.has_settled()
    assert program.files().keys() == {made, beside(made), young, beside(young)}


def test_a_bad_edit_is_refused_aloud(program: Program, env_file: EnvFile, sink: HttpSink) -> None:
    """The old settings stay in force; the log, one alert, `health`, the page and each command name the variable; and
    once it is mended nothing has to be restarted."""
    port = free_port()
    env_file.edit(NOTIFICATION_URLS=sink.apprise_url, STATUS_PORT=str(port), BACKUP_ON_FIRST_START="true")
    with running(program) as daemon:
        daemon.wait_for("backup.finished")
        env_file.edit(BACKUP_SCHEDULE="never")
        refused = daemon.wait_for("settings.refused")[0]
        assert "BACKUP_SCHEDULE=never" in refused["message"]
        wait_until(lambda: "BACKUP_SCHEDULE=never" in program.run("health").out, "the heartbeat's remark")
        assert program.run("health").code == 0
        wait_until(lambda: "BACKUP_SCHEDULE=never" in page(port)[1], "the page")
        for command in ("backup", "status", "doctor"):
            done = program.run(command)
            assert (done.code, "BACKUP_SCHEDULE=never" in done.err) == (2, True)
        done = program.run("check")
        assert (done.code, "BACKUP_SCHEDULE=never" in done.out) == (3, True)
        env_file.edit(BACKUP_SCHEDULE="never ever")
        daemon.wait_for("settings.refused", 2)
        wait_until(lambda: len(sink.titles) == 2, "an alert for each")
        env_file.edit(BACKUP_SCHEDULE=NEVER)
        daemon.wait_for("settings.accepted")
        assert len(daemon.events("daemon.started")) == 1, "nothing had changed in the end"
        assert daemon.stop() == 143
    assert all("settings of hubbackup" in title for title in sink.titles)


def test_a_file_that_vanishes_changes_nothing(program: Program, env_file: EnvFile) -> None:
    """Not what was set by it: that would be a backup without S3, or of nothing."""
    with running(program) as daemon:
        daemon.wait_for("daemon.started")
        env_file.path.unlink()
        assert "is gone" in daemon.wait_for("settings.refused")[0]["message"]
        env_file.edit()
        daemon.wait_for("settings.accepted")
        assert daemon.events("settings.changed") == []


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"BACKUP_SCHEDULE": "never"}, "BACKUP_SCHEDULE=never"),
        ({"POSTGRES_DB": ""}, "POSTGRES_DB is not set"),
        ({"NOTIFICATION_URLS": "nonsense"}, "NOTIFICATION_URLS"),
        ({"AWS_ACCESS_KEY_ID": "AK"}, "AWS_SECRET_ACCESS_KEY"),
        ({"POSTGRES_PASSWORD_FILE": "/nowhere/at/all"}, "POSTGRES_PASSWORD_FILE"),
    ],
)
def test_bad_settings_at_the_start_are_said_until_they_are_mended(
    program: Program, env_file: EnvFile, wrong: dict[str, str], words: str
) -> None:
    """The daemon stays up, unhealthy, and says what is wrong; the mended file is taken up by itself."""
    right = {name: env_file.settings.get(name, "") for name in wrong}
    program.settings.pop("POSTGRES_DB")
    env_file.edit(**wrong)
    with running(program) as daemon:
        refused = daemon.wait_for("settings.refused")[0]
        assert words in refused["message"]
        assert refused["level"] == "error"
        health = program.run("health")
        assert (health.code, words in health.out) == (1, True)
        env_file.edit(**right)
        daemon.wait_for("daemon.started")
        assert program.run("health").code == 0
        assert len(daemon.events("settings.refused")) == 1, "once, and then each hour"


def test_bad_settings_at_the_start_reach_people(program: Program, env_file: EnvFile, sink: HttpSink) -> None:
    """By the page and by an alert, where the settings for these can be read."""
    port = free_port()
    env_file.edit(NOTIFICATION_URLS=sink.apprise_url, STATUS_PORT=str(port), BACKUP_RETENTION_DAYS="a week")
    with running(program) as daemon:
        daemon.wait_for("settings.refused")
        wait_until(lambda: "BACKUP_RETENTION_DAYS=a week" in page(port)[1], "the page")
        assert page(port)[0] == 503
        wait_until(lambda: sink.titles, "the alert")
        assert daemon.stop() == 143
    assert program.run("health").code == 1


def test_a_stop_ends_it_while_it_waits_for_settings(program: Program, env_file: EnvFile) -> None:
    """As any daemon: 143."""
    env_file.edit(TZ="Mars/Olympus")
    with running(program) as daemon:
        daemon.wait_for("settings.refused")
        assert daemon.stop() == 143
