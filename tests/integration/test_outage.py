"""An outage played from end to end by the real daemon and the real commands, and the alarm for silence."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any
from urllib.request import urlopen

import pytest
import structlog

from hubbackup.app import App
from hubbackup.config.load import load_settings
from hubbackup.daemon.watchdog import watch
from hubbackup.logs.setup import get_logger
from hubbackup.status.verdict import HEADLINES, Level
from hubbackup.streams.cancel import Cancel
from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.moments import full_pipe, locked_table
from tests.support.program import finish, for_server
from tests.support.sinks import HttpSink, MailSink, http_sink, mail_sink, until

ROOT = Path(__file__).parents[2]
NEVER = "0 3 29 2 *"


@pytest.fixture
def server() -> Iterator[EmbeddedPostgres]:
    """A server of this test's own, since it is stopped."""
    with EmbeddedPostgres(18) as found:
        found.create_database("hub_chantier")
        found.psql("CREATE TABLE t AS SELECT generate_series(1, 100) i;", database="hub_chantier")
        yield found


@pytest.fixture
def mail() -> Iterator[MailSink]:
    with mail_sink() as sink:
        yield sink


@pytest.fixture
def heart() -> Iterator[HttpSink]:
    with http_sink() as sink:
        yield sink


class Service:
    """The daemon as a process, its output in a file, and the program for the commands beside it."""

    def __init__(self, server: EmbeddedPostgres, directory: Path, **settings: str) -> None:
        self.directory = directory
        self.program = for_server(
            server,
            "hub_chantier",
            directory,
            BACKUP_SCHEDULE=NEVER,
            BACKUP_ON_START="true",
            LOG_FILE=str(directory / "hub-chantier-backup.log"),
            NOTIFICATION_HOST="srv1",
            TZ="Europe/Paris",
            **settings,
        )

    def start(self, output: IO[bytes] | int | None = None, **changes: str) -> subprocess.Popen[bytes]:
        with (self.directory / "stdout").open("ab") as file:
            return subprocess.Popen(
                [sys.executable, "-m", "hubbackup", "daemon"],
                env=self.program.env(**changes),
                cwd=self.directory,
                stdout=file if output is None else output,
                stderr=file,
            )

    def stop(self, daemon: subprocess.Popen[bytes]) -> None:
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(timeout=15) == 143

    def logs(self, event: str = "", file: str = "stdout") -> list[dict[str, Any]]:
        """The events in a log; a line that is just being written is not read yet."""
        whole = (self.directory / file).read_text().rpartition("\n")[0]
        lines = [json.loads(line) for line in whole.splitlines()]
        return [line for line in lines if event in ("", line["event"])]


def test_an_outage_from_end_to_end(server: EmbeddedPostgres, mail: MailSink, heart: HttpSink, tmp_path: Path) -> None:
    """Database stopped: mail, fail ping, doctor in the log, check critical, page red. Back: all well, told once."""
    port = free_port()
    service = Service(
        server,
        tmp_path,
        NOTIFICATION_URLS=mail.apprise_url,
        HEARTBEAT_URL=f"{heart.url}/uuid",
        STATUS_PORT=str(port),
    )
    server.stop()
    daemon = service.start()
    until(lambda: service.logs("notify.sent"))
    until(lambda: service.logs("doctor.finished"))
    check = service.program.run("check")
    until(lambda: headline(port) == HEADLINES[Level.CRITICAL])
    service.stop(daemon)
    (failed,) = service.logs("backup.failed")
    assert [line["check"] for line in service.logs("doctor.failed")] == ["login"]
    assert (check.code, check.out.count("\n")) == (2, 1)
    assert check.out.startswith("BACKUP CRITICAL - there is no good backup of hub_chantier")
    until(lambda: heart.paths == ["/uuid/start", "/uuid/fail"])
    (alert,) = mail.mails
    assert alert["subject"] == "ALERTE: backup of hub_chantier on srv1 failed"
    assert failed["cause"].split("(")[0].strip() in alert.get_body(("plain",)).get_content()  # type: ignore[attr-defined]

    server.start()
    daemon = service.start(PGPORT=str(server.port), BACKUP_RETENTION_DAYS="3")
    until(lambda: service.logs("notify.sent")[1:])
    service.program = service.program.but(PGPORT=str(server.port))
    check = service.program.run("check")
    status = service.program.run("status", "--json")
    until(lambda: headline(port) == HEADLINES[Level.OK])
    service.stop(daemon)
    assert check.code == 0, check.said
    assert status.document["at_work"] is None
    assert [found["subject"].partition(":")[0] for found in mail.mails] == ["ALERTE", "OK"]
    until(lambda: heart.paths[2:] == ["/uuid/start", "/uuid"])
    (changed,) = service.logs("settings.changed")
    assert {"name": "BACKUP_RETENTION_DAYS", "before": "7", "now": "3"} in changed["changes"]
    assert [line["event"] for line in service.logs(file="hub-chantier-backup.log")] == [
        line["event"] for line in service.logs()
    ]
    everything = (tmp_path / "stdout").read_text() + b"".join(mail.raw).decode()
    assert server.password not in everything
    assert f"{heart.port}/uuid" not in everything


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def headline(port: int) -> str:
    """What the status page says at its top."""
    with contextlib.suppress(OSError), urlopen(f"http://127.0.0.1:{port}/", timeout=5) as page:
        found = re.search(r"<h1[^>]*>(.*?)</h1>", page.read().decode(), re.DOTALL)
        return re.sub(r"<[^>]*>", "", found[1]).strip() if found else ""
    return ""


def test_a_blocked_log_stops_no_backup(server: EmbeddedPostgres, tmp_path: Path) -> None:
    """Nobody reads the daemon's output: the pipe fills, and the backup is made all the same."""
    service = Service(server, tmp_path)
    with full_pipe() as writer:
        daemon = service.start(writer)
        until(lambda: list((tmp_path / "backups").glob("*.manifest.json")))
        until(lambda: "backup.finished" in (tmp_path / "hub-chantier-backup.log").read_text())
        service.stop(daemon)


def test_a_closed_log_stops_no_backup(server: EmbeddedPostgres, tmp_path: Path) -> None:
    """Whoever read the output has gone."""
    service = Service(server, tmp_path)
    reader, writer = os.pipe()
    os.close(reader)
    daemon = service.start(writer)
    os.close(writer)
    until(lambda: list((tmp_path / "backups").glob("*.manifest.json")))
    service.stop(daemon)


def test_silence_is_an_alarm(tmp_path: Path) -> None:
    """No run ever failed, there is just no backup: told after the first night, once a day, again the next day."""
    lines: list[dict[str, Any]] = []

    def collect(_logger: Any, _method: str, event: dict[str, Any]) -> Any:
        lines.append(event)
        raise structlog.DropEvent

    log = structlog.wrap_logger(None, processors=[collect], wrapper_class=structlog.stdlib.BoundLogger)
    start = datetime(2026, 2, 8, 12, 0, tzinfo=UTC)
    with http_sink() as sink:
        values = {"POSTGRES_DB": "hub_chantier", "BACKUP_DIR": str(tmp_path), "NOTIFICATION_URLS": sink.apprise_url}
        told = []
        for hours in range(72):
            app = App(load_settings(values), cancel=Cancel(), log=log)  # a new process each hour
            watch(app, start + timedelta(hours=hours))
            told.append(len(sink.titles))
        host = app.notifier.place().host
    first = told.index(1)
    assert first == 18, "the backup of three o'clock is missed two hours later, and told at the next look"
    assert told[first + 23] == 1
    assert (told[first + 24], told[-1]) == (2, 3)
    assert sink.titles[0] == f"ALERTE: no good backup of hub_chantier on {host} in time"
    assert {line["event"] for line in lines} >= {"backup.overdue"}


def unlistable(backups: Path) -> None:
    """A file that stands where the directory was: root reads any directory."""
    backups.write_text("")


@pytest.mark.parametrize("break_it", [lambda backups: None, unlistable], ids=["missing", "not a directory"])
def test_silence_is_an_alarm_where_the_disk_cannot_be_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, break_it: Callable[[Path], None]
) -> None:
    """A disk that is gone proves no backup: each of several databases is told of once a day, as with an empty one."""
    monkeypatch.setenv("HUBBACKUP_RUNTIME_DIR", str(tmp_path / "runtime"))
    break_it(tmp_path / "backups")
    start = datetime(2026, 2, 8, 12, 0, tzinfo=UTC)
    values = {"BACKUP_DATABASES": "a,b", "BACKUP_DIR": str(tmp_path / "backups")}
    with http_sink() as sink:
        for hours in range(72):
            app = App(
                load_settings(values | {"NOTIFICATION_URLS": sink.apprise_url}), cancel=Cancel(), log=get_logger()
            )
            watch(app, start + timedelta(hours=hours))
        assert [title.partition(" on ")[0] for title in sink.titles] == ["ALERTE: no good backup of a"] * 3
        assert all("Others, too:   b" in body["message"] for _, _, body in sink.requests if body)


class Shell:
    """scripts/check-backup-alert.sh with a `docker` and a `mail` of the test's own in PATH."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.write("mail", 'cat > "$OUT/mailed"; echo "$@" >> "$OUT/mailed"')
        self.answer(0, "BACKUP OK - fine")

    def write(self, name: str, text: str) -> None:
        path = self.directory / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def answer(self, code: int, text: str, state: str = "running", log: str = "") -> None:
        inspect = f'[ "$1" = container ] && {{ echo {state}; exit 0; }}'
        said = f'echo "{log}" >&2\n' if log else ""
        self.write("docker", f'{inspect}\necho "$@" > "$OUT/argv"\necho "{text}"\n{said}exit {code}')

    def run(self, *words: str, **environ: str) -> tuple[int, str]:
        path = f"{self.directory}{os.pathsep}{os.environ['PATH']}"
        env = {"PATH": path, "OUT": str(self.directory), **environ}
        argv = [str(ROOT / "scripts" / "check-backup-alert.sh"), *words]
        done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
        assert done.stderr == ""
        return done.returncode, done.stdout


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def test_the_script_passes_on_what_check_says(shell: Shell, tmp_path: Path) -> None:
    """OK: exit 0 and silence, which cron mails to nobody, whoever ADMIN_EMAIL is; its options go to check."""
    assert shell.run("--max-age", "30h", ADMIN_EMAIL="admin@x.fr") == (0, "")
    assert (tmp_path / "argv").read_text().split()[-4:] == ["hubbackup", "check", "--max-age", "30h"]
    assert not (tmp_path / "mailed").exists()


@pytest.mark.parametrize(("code", "word"), [(1, "WARNING"), (2, "CRITICAL"), (3, "UNKNOWN")])
def test_the_script_raises_the_alarm(shell: Shell, tmp_path: Path, code: int, word: str) -> None:
    """One line ALERTE, the exit code, and a mail where somebody is named."""
    shell.answer(code, f"BACKUP {word} - bad")
    assert shell.run() == (code, f"ALERTE: BACKUP {word} - bad\n")
    assert not (tmp_path / "mailed").exists()
    shell.run(ADMIN_EMAIL="admin@x.fr")
    assert (tmp_path / "mailed").read_text() == (
        f"ALERTE: BACKUP {word} - bad\n-s Hub Chantier - Backup Failed admin@x.fr\n"
    )


def test_the_alarm_is_one_line_whatever_the_program_logs(shell: Shell) -> None:
    """Off a terminal `check` logs JSON on stderr, such as of a misspelt setting: the verdict is what is mailed."""
    shell.answer(2, "BACKUP CRITICAL - bad", log='{\\"message\\": \\"BACKUP_RETENTON_DAYS is no setting\\"}')
    assert shell.run() == (2, "ALERTE: BACKUP CRITICAL - bad\n")


@pytest.mark.parametrize(("code", "text", "state"), [(1, "", "exited"), (126, "OCI runtime exec failed", "running")])
def test_a_service_that_is_down_is_critical(shell: Shell, code: int, text: str, state: str) -> None:
    """Without an answer of the program, the backups are not well."""
    shell.answer(code, text, state)
    found, printed = shell.run()
    assert found == 2
    assert printed.startswith("ALERTE: ")


def test_a_run_is_seen_from_a_second_terminal(server: EmbeddedPostgres, tmp_path: Path) -> None:
    """While a backup waits for a lock, `status` shows it; killed, it shows that; the next run clears it."""
    program = Service(server, tmp_path).program
    run_file = program.backups / ".hubbackup" / "run.json"
    with locked_table(server, "hub_chantier", "t"):
        backup = program.start("backup")
        until(lambda: run_file.exists() and '"dump"' in run_file.read_text())
        shown = program.run("status", "--json").document["at_work"]
        assert (shown["kind"], shown["stage"], shown["pid"], shown["alive"]) == ("backup", "dump", backup.pid, True)
        backup.kill()
        finish(backup)
        assert "was killed at the stage dump" in program.run("status").out
    assert program.run("backup").code == 0
    assert "at work" not in program.run("status").out
