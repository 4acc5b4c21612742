"""Alerts: what is news, and what its one message says."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import structlog

from hubbackup.errors import HubbackupError, InternalError, SettingsError, StoppedError, ToolError, UsageError
from hubbackup.jobs.history import History, RunRecord
from hubbackup.jobs.parts import Part, PartsFailedError
from hubbackup.jobs.run import Outcome, guarded
from hubbackup.notify.alerts import Alerts, news_of, trouble_before
from hubbackup.notify.messages import LastGood, Place
from hubbackup.notify.spool import Message
from hubbackup.shown_text import Secrets
from hubbackup.streams.cancel import Cancel
from tests.support.jobs import Doing, a_backup, done

GOOD = a_backup()
DEGRADED = a_backup(problems=("no copy in s3: 503",))
NOT_NEEDED = a_backup(not_needed=True)
SUSPICIOUS = a_backup(warnings=("half as big",))


@pytest.mark.parametrize(
    ("kind", "result", "level", "news"),
    [
        ("backup", GOOD, "problems", None),
        ("backup", GOOD, "all", "success"),
        ("backup", NOT_NEEDED, "all", None),
        ("backup", DEGRADED, "problems", "degraded"),
        ("backup", SUSPICIOUS, "problems", "suspicious"),
        ("backup", ToolError("x"), "problems", "failed"),
        ("backup", SettingsError("x"), "problems", "failed"),
        ("backup", InternalError(ValueError("x")), "problems", "failed"),
        ("backup", StoppedError(15), "problems", "failed"),
        ("backup", StoppedError(2), "all", None),
        ("restore", UsageError("not confirmed"), "all", None),
        ("restore", HubbackupError("x"), "problems", "failed"),
        ("verify", HubbackupError("x"), "problems", "failed"),
        ("drill", UsageError("x"), "problems", "failed"),
        ("prune", HubbackupError("x"), "problems", "failed"),
        ("pin", HubbackupError("no such backup"), "all", None),
        ("accept", done(), "all", None),
    ],
)
def test_news(kind: str, result: Any, level: str, news: str | None) -> None:
    """Problems are; success only where it is wanted; what was typed wrong, or Ctrl-C, never."""
    assert news_of(kind, result, None, level) == news


def record(kind: str, number: int, exit_code: int, **facts: Any) -> RunRecord:
    return RunRecord(kind, f"r{number}", datetime(2026, 2, number, 3, tzinfo=UTC), 1.0, exit_code, **facts)


def test_trouble_is_what_came_since_the_last_good_run() -> None:
    """Counted by kind, without runs that were nobody's business."""
    records = [
        record("backup", 1, 1, cause="old"),
        record("backup", 2, 0),
        record("backup", 3, 1, cause="first"),
        record("drill", 4, 0),
        record("backup", 5, 130, cause="Ctrl-C"),
        record("backup", 6, 3, problems=("no copy",)),
        record("backup", 7, 0, warnings=("half",)),
        record("backup", 8, 0),
    ]
    trouble = trouble_before(records, "backup", "r8")
    assert trouble is not None
    assert (trouble.count, trouble.since.day, trouble.cause) == (3, 3, "half")
    assert trouble_before([*records, record("backup", 9, 0)], "backup", "r9") is None
    assert trouble_before(records, "drill", "r9") is None
    assert trouble_before([record("restore", 1, 2, cause="typed wrong")], "restore", "r2") is None


class Office:
    """Runs jobs under `guarded`, with Alerts looking on."""

    def __init__(self, directory: Path, level: str = "problems") -> None:
        self.directory = directory
        self.messages: list[Message] = []
        self.was_silent = False
        self.databases: list[str] = []
        self.history = History(directory / "state" / "history.jsonl")
        self.alerts = Alerts(
            send=lambda message: self.messages.append(message.safe()),
            level=level,
            history=self.history,
            place=lambda database: Place("srv1", "hub_chantier", ZoneInfo("Europe/Paris")),
            last_good=lambda database: LastGood("hub_x.sql.gz", datetime.now(UTC) - timedelta(hours=27)),
            next_run=lambda: datetime(2026, 2, 10, 2, 0, tzinfo=UTC),
            on_good=lambda database: self.was_silent,
            databases=lambda: self.databases,
        )

    @property
    def titles(self) -> list[str]:
        """The first word of each."""
        return [message.title.partition(":")[0] for message in self.messages]

    def run(self, result: Outcome[Any] | Exception, kind: str = "backup", database: str = "") -> None:
        def body(run: Any) -> Outcome[Any]:
            with run.stage("dump"):
                if isinstance(result, Exception):
                    raise result
                return result

        log = structlog.wrap_logger(None, processors=[self._drop], wrapper_class=structlog.stdlib.BoundLogger)
        lock = self.directory / "state" / "lock"
        try:
            guarded(
                Doing(body, kind),
                lock=lock,
                cancel=Cancel(),
                log=log,
                history=self.history,
                observers=[self.alerts],
                database=database,
            )
        except type(result):  # type: ignore[misc]
            pass

    @staticmethod
    def _drop(_logger: Any, _method: str, _event: Any) -> Any:
        raise structlog.DropEvent


def test_a_failure_says_all_that_is_needed(tmp_path: Path, secrets: Secrets) -> None:
    """What failed, at which stage, why, what to do, the last good backup with its age, host, database, run."""
    secrets.add(["s3cret"])
    office = Office(tmp_path)
    office.run(ToolError("the server refuses s3cret", remedy="check POSTGRES_PASSWORD"))
    (message,) = office.messages
    assert (message.kind, message.title) == ("failure", "ALERTE: backup of hub_chantier on srv1 failed")
    for line in (
        "What failed:   backup, at the stage dump",
        "Cause:         the server refuses ********",
        "What to do:    check POSTGRES_PASSWORD",
        "Last good:     hub_x.sql.gz, 27 h old (",
        "Next backup:   2026-02-10 03:00:00 CET",
        "Host:          srv1",
    ):
        assert line in message.body
    assert "s3cret" not in message.body


def test_nothing_in_a_message_is_obeyed(tmp_path: Path) -> None:
    """What a server says forges neither a mail's header nor a row of the message, moves no cursor, and is cut."""
    office = Office(tmp_path)
    office.run(ToolError("no\r\nBcc: x@y\nLast good:     a minute old\x1b[2J\u202e " + "word " * 400, remedy="a\nb"))
    (message,) = office.messages
    (cause,) = (line for line in message.body.splitlines() if line.startswith("Cause:"))
    assert cause.startswith(r"Cause:         no Bcc: x@y Last good:     a minute old\x1b[2J\u202e word word")
    assert cause.endswith("word…")
    assert len(cause.encode()) < 1100
    assert sum(line.startswith("Last good:") for line in message.body.splitlines()) == 1
    assert message.body.isprintable() or set(filter(lambda c: not c.isprintable(), message.body)) == {"\n"}


def test_recovery_is_told_once(tmp_path: Path) -> None:
    """After failures the first good run says so, with how long it lasted; the next one says nothing."""
    office = Office(tmp_path)
    office.run(ToolError("no server"))
    office.run(ToolError("no server"))
    office.run(GOOD)
    office.run(GOOD)
    assert [message.title.partition(":")[0] for message in office.messages] == ["ALERTE", "ALERTE", "OK"]
    assert office.messages[2].title == "OK: backup of hub_chantier on srv1 works again"
    assert "2 runs ended badly since" in office.messages[2].body
    assert "Last good" not in office.messages[2].body


def test_recovery_needs_no_history(tmp_path: Path) -> None:
    """On a full disk no run is recorded; the daemon remembers all the same."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "history.jsonl").mkdir()
    office = Office(tmp_path)
    office.run(ToolError("disk full"))
    office.run(GOOD)
    office.run(GOOD)
    assert [message.kind for message in office.messages] == ["failure", "success"]


@pytest.mark.parametrize("recorded", [True, False])
def test_one_database_does_not_recover_for_another(tmp_path: Path, recorded: bool) -> None:
    """A drill of one that passes ends no trouble of another; when that passes it is told once, with its own cause."""
    if not recorded:
        (tmp_path / "state" / "history.jsonl").mkdir(parents=True)
    office = Office(tmp_path)
    office.run(ToolError("no role"), "drill", "a")
    office.run(a_backup(database="b"), "drill", "b")
    assert office.titles == ["ALERTE"]
    office.run(a_backup(database="a"), "drill", "a")
    office.run(a_backup(database="a"), "drill", "a")
    assert office.titles == ["ALERTE", "OK"]
    assert "no role" in office.messages[1].body


@pytest.mark.parametrize("recorded", [True, False])
def test_a_run_of_one_database_ends_no_trouble_of_the_others(tmp_path: Path, recorded: bool) -> None:
    """Somebody backs up one that is well while another fails each night: nothing works again until that one does."""
    if not recorded:
        (tmp_path / "state" / "history.jsonl").mkdir(parents=True)
    office = Office(tmp_path)
    office.run(of_each(a=a_backup(database="a"), b=ToolError("no room"), c=ToolError("no room")))
    office.run(a_backup(database="a"), database="a")
    assert office.titles == ["ALERTE"]
    office.run(a_backup(database="b"), database="b")
    assert office.titles == ["ALERTE", "OK"]
    assert "one run ended badly" in office.messages[1].body
    office.run(of_each(a=a_backup(database="a"), b=a_backup(database="b"), c=a_backup(database="c")))
    office.run(of_each(a=a_backup(database="a"), b=a_backup(database="b"), c=a_backup(database="c")))
    assert office.titles == ["ALERTE", "OK", "OK"]
    assert "c: no room" in office.messages[2].body


def test_a_run_that_failed_as_a_whole_was_trouble_of_each(tmp_path: Path) -> None:
    """Before any database was begun; each of them recovers by itself."""
    office = Office(tmp_path)
    office.run(ToolError("no socket"))
    office.run(a_backup(database="a"), database="a")
    office.run(of_each(a=a_backup(database="a"), b=a_backup(database="b")))
    assert office.titles == ["ALERTE", "OK", "OK"]
    assert "b: no socket" in office.messages[2].body


def test_what_is_not_backed_up_any_more_is_no_trouble(tmp_path: Path) -> None:
    """A database that failed is taken out of the settings: the next run of all that are left ends the alarm, once. A
    run of some of them does not."""
    office = Office(tmp_path)
    office.databases = ["a", "b"]
    office.run(of_each(a=a_backup(database="a"), b=a_backup(database="b"), gone=ToolError("no such database")))
    office.databases = ["a", "b", "c"]
    office.run(of_each(a=a_backup(database="a"), b=a_backup(database="b")))
    office.run(of_each(a=a_backup(database="a"), gone=ToolError("no such database")))
    assert office.titles == ["ALERTE", "ALERTE"]
    for _ in range(2):
        office.run(of_each(a=a_backup(database="a"), b=a_backup(database="b"), c=a_backup(database="c")))
    assert office.titles == ["ALERTE", "ALERTE", "OK"]
    assert "gone: no such database" in office.messages[2].body


def of_each(**endings: Outcome[Any] | HubbackupError) -> Outcome[Any] | HubbackupError:
    """How a run for several databases ends."""
    parts = tuple(Part(name, datetime.now(UTC), 1.0, ending) for name, ending in endings.items())
    if any(part.failed for part in parts):
        return PartsFailedError("no backup of some", parts)
    return replace(done(), parts=parts)


def test_recovery_from_silence_is_told(tmp_path: Path) -> None:
    """No run had failed, but an alarm for silence was on."""
    office = Office(tmp_path)
    office.was_silent = True
    office.run(GOOD)
    assert office.messages[0].title == "OK: backup of hub_chantier on srv1 works again"


def test_degraded_and_suspicious(tmp_path: Path) -> None:
    """Warnings of their own, each with its reason and what to do."""
    office = Office(tmp_path)
    office.run(DEGRADED)
    office.run(SUSPICIOUS)
    degraded, suspicious = office.messages
    assert (degraded.kind, suspicious.kind) == ("warning", "warning")
    assert "What is wrong: no copy in s3: 503" in degraded.body
    assert "Suspicious:    half as big" in suspicious.body


def test_what_changed_is_a_line_of_the_nightly_message(tmp_path: Path) -> None:
    """With the backup that it is compared with; of the first backup there is none."""
    changes = {"changes": "pointages +412, devis -3, 41 tables unchanged", "changes_since": "y.sql.gz"}
    office = Office(tmp_path, level="all")
    office.run(a_backup(**changes))
    office.run(a_backup())
    told, first = office.messages
    assert "Changes:       pointages +412, devis -3, 41 tables unchanged (since y.sql.gz)\n" in told.body
    assert "Changes" not in first.body


def test_a_fault_of_the_program_is_told_too(tmp_path: Path) -> None:
    """An exception that is none of ours has a closing record and a message like any other."""
    office = Office(tmp_path)
    office.run(ZeroDivisionError("oops"))
    assert "internal error: ZeroDivisionError: oops" in office.messages[0].body
    (run,) = office.history.runs()
    assert (run.exit_code, run.stage) == (1, "dump")
