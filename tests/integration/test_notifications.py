"""Notifications against real servers: mail as it is received, sinks that refuse or hang, the spool, the heartbeat."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from hubbackup.app import App
from hubbackup.config.load import load_settings
from hubbackup.errors import HubbackupError, SettingsError, ToolError
from hubbackup.jobs.run import Outcome, Run
from hubbackup.notify import sinks as notify
from hubbackup.notify.heartbeat import Pinger
from hubbackup.notify.sinks import Post, Sinks
from hubbackup.notify.spool import Message, Spool
from hubbackup.streams.cancel import Cancel
from tests.support.jobs import Doing, a_backup, done
from tests.support.sinks import HttpSink, MailSink, http_sink, mail_sink, until

CANARY = "canary-Mot2Passe"


@pytest.fixture
def mail() -> Iterator[MailSink]:
    with mail_sink() as sink:
        yield sink


@pytest.fixture
def http() -> Iterator[HttpSink]:
    with http_sink() as sink:
        yield sink


@pytest.fixture
def heart() -> Iterator[HttpSink]:
    with http_sink() as sink:
        yield sink


class Place:
    """An App in a directory of its own, whose runs do what the test says; `lines` is its log."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.lines: list[dict[str, Any]] = []

    def app(self, **environ: str) -> App:
        def collect(_logger: Any, _method: str, event: dict[str, Any]) -> Any:
            self.lines.append(event)
            raise structlog.DropEvent

        log = structlog.wrap_logger(None, processors=[collect], wrapper_class=structlog.stdlib.BoundLogger)
        values = {"POSTGRES_DB": "hub_chantier", "BACKUP_DIR": str(self.directory), "POSTGRES_PASSWORD": CANARY}
        return App(load_settings({**values, "NOTIFICATION_HOST": "srv1", **environ}), cancel=Cancel(), log=log)

    def events(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["event"] == event]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def failing(run: Run) -> Outcome[Any]:
    with run.stage("dump"):
        raise ToolError(f"the server refuses {CANARY}", remedy="check POSTGRES_PASSWORD")


def fail(app: App) -> None:
    with pytest.raises(ToolError):
        app.run(Doing(failing))


def succeed(app: App) -> Outcome[Any]:
    return app.run(Doing(lambda run: a_backup()))


def test_a_mail_arrives(place: Place, mail: MailSink) -> None:
    """One mail for one failure, readable as plain text, with everything in it and no secret; and one recovery."""
    app = place.app(NOTIFICATION_URLS=mail.apprise_url)
    fail(app)
    (received,) = mail.mails
    assert received["subject"] == "ALERTE: backup of hub_chantier on srv1 failed"
    assert "admin@hub-chantier.fr" in received["to"]
    text = received.get_body(("plain",)).get_content()  # type: ignore[attr-defined]
    assert "Cause:         the server refuses ********" in text
    assert "What to do:    check POSTGRES_PASSWORD" in text
    assert CANARY.encode() not in mail.raw[0]
    succeed(app)
    succeed(app)
    assert [found["subject"].partition(":")[0] for found in mail.mails] == ["ALERTE", "OK"]


def test_a_hostile_name_begins_no_header(place: Place, mail: MailSink, http: HttpSink) -> None:
    """A database's name is text in the subject, of one line, whatever stands in it."""
    name = "evil\r\nBcc: spy@example.org\r\n\r\nbody"
    urls = f"{mail.apprise_url} {http.apprise_url}"
    fail(place.app(NOTIFICATION_URLS=urls, POSTGRES_DB=name, NOTIFICATION_HOST="srv1\nX-Evil: 1"))
    (received,) = mail.mails
    title = "ALERTE: backup of evil Bcc: spy@example.org body on srv1 X-Evil: 1 failed"
    assert (received["subject"], http.titles) == (title, [title])
    assert received["bcc"] is received["x-evil"] is None


def test_every_success_where_it_is_wanted(place: Place, http: HttpSink) -> None:
    """NOTIFICATION_LEVEL=all."""
    succeed(place.app(NOTIFICATION_URLS=http.apprise_url, NOTIFICATION_LEVEL="all"))
    assert http.titles == ["OK: backup of hub_chantier on srv1 succeeded"]


def test_a_refused_message_waits_and_comes_later(
    place: Place, http: HttpSink, mail: MailSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sink answers 500: the other has the message at once and once, the first when it is well again."""
    http.status = 500
    urls = f"{http.apprise_url}, {mail.apprise_url}"
    app = place.app(NOTIFICATION_URLS=urls)
    fail(app)
    (failed,) = place.events("notify.failed")
    assert list(failed["sinks"]) == ["json#1"]
    assert "500" in failed["sinks"]["json#1"]
    assert len(mail.raw) == 1
    http.status = 200
    restarted = place.app(NOTIFICATION_URLS=urls)
    monkeypatch.setattr(Message, "is_due", lambda self, now: True)
    restarted.notifier.post.start()
    until(lambda: place.events("notify.sent")[1:])
    restarted.notifier.post.stop(5)
    assert len(http.titles) == 2
    assert len(mail.raw) == 1
    assert restarted.notifier.spool.waiting() == []


def test_why_a_sink_does_not_answer_is_told_without_its_token(place: Place) -> None:
    """Where apprise itself only says that there was an error; an address may hold a token too short to be masked."""
    app = place.app(NOTIFICATION_URLS="json://127.0.0.1:9/short-1/T1JJ3T3L2")
    fail(app)
    (failed,) = place.events("notify.failed")
    assert "Connection refused" in failed["sinks"]["json#1"]
    assert "T1JJ3T3L2" not in str(place.lines)
    assert "short-1" not in str(place.lines)


@pytest.mark.parametrize("status", [301, 302, 303])
def test_a_redirect_that_loses_the_message_is_a_refusal(
    place: Place, http: HttpSink, heart: HttpSink, status: int
) -> None:
    """The POST would become a GET without its body, and whoever answers that would count: the target is named,
    without its path, which may hold a token; the message waits."""
    http.status, http.location = status, f"{heart.url}/token-7f3a"
    fail(place.app(NOTIFICATION_URLS=http.apprise_url))
    assert heart.requests == []
    assert not place.events("notify.sent")
    (failed,) = place.events("notify.failed")
    assert f"it redirects ({status}) to http at 127.0.0.1:{heart.port}" in failed["sinks"]["json#1"]
    assert "token-7f3a" not in str(place.lines)
    assert len(list((place.directory / ".hubbackup" / "spool").glob("*.json"))) == 1


@pytest.mark.parametrize("status", [307, 308])
def test_a_redirect_that_keeps_the_message_is_followed(
    place: Place, http: HttpSink, heart: HttpSink, status: int
) -> None:
    """The POST arrives there whole."""
    http.status, http.location = status, f"{heart.url}/hook"
    fail(place.app(NOTIFICATION_URLS=http.apprise_url))
    assert len(heart.titles) == 1
    assert place.events("notify.sent")


def test_a_hanging_sink_delays_a_command_for_its_budget_only(
    place: Place, http: HttpSink, mail: MailSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result of the run is its own; the well sink has the message; the rest waits in the spool."""
    monkeypatch.setattr(notify, "COMMAND_SECONDS", 0.7)
    http.status = 0
    app = place.app(NOTIFICATION_URLS=f"{http.apprise_url} {mail.apprise_url}")
    began_at = time.monotonic()
    fail(app)
    assert time.monotonic() - began_at < 5
    assert len(mail.raw) == 1
    assert [message.sent_to for message in app.notifier.spool.waiting()] == [("mailto#2",)]
    assert succeed(app).exit_code == 0


def test_a_hanging_sink_delays_no_run_of_the_daemon(place: Place, http: HttpSink) -> None:
    """There the post is another thread; ten failing runs in a row take no time, and one attempt hangs, not ten."""
    http.status = 0
    app = place.app(NOTIFICATION_URLS=http.apprise_url)
    app.notifier.post.start()
    began_at = time.monotonic()
    for _ in range(10):
        fail(app)
    assert time.monotonic() - began_at < 3
    until(lambda: http.requests)
    assert len(http.requests) == 1
    assert len(app.notifier.spool.waiting()) == 10


def test_a_broken_state_directory_sends_all_the_same(place: Place, http: HttpSink, tmp_path: Path) -> None:
    """Where nothing can be written, the message goes straight out."""
    spool = Spool(tmp_path / "file" / "spool")
    (tmp_path / "file").write_text("")
    Post(spool, Sinks([http.apprise_url]), place.app().log).send(Message("failure", "disk full", "b"))
    assert http.titles == ["disk full"]
    assert spool.waiting() == []


def test_an_old_message_is_given_up(place: Place, http: HttpSink) -> None:
    """After three days it is dropped, and that is an error in the log."""
    app = place.app(NOTIFICATION_URLS=http.apprise_url)
    app.notifier.spool.add(Message("failure", "old", "b", created_at=datetime(2026, 1, 1, tzinfo=UTC)))
    app.notifier.post.deliver()
    assert http.requests == []
    assert [line["message"] for line in place.events("notify.dropped")] == ["message given up: old"]


@pytest.mark.parametrize(
    "urls",
    [f"nosuch://{CANARY}", CANARY, f"json://localhost, {CANARY}://x", f"mailto://{CANARY}", f"https:/{CANARY}"],
)
def test_a_bad_url_is_exit_2_before_anything_is_done(place: Place, urls: str) -> None:
    """The setting is named, its value is not shown, and no run began."""
    with pytest.raises(SettingsError, match="NOTIFICATION_URLS") as caught:
        place.app(NOTIFICATION_URLS=urls).run(Doing(lambda run: pytest.fail("it began")))
    assert CANARY not in str(caught.value) + caught.value.remedy
    assert place.lines == []


def test_what_is_wrong_with_a_url_is_told_in_one_sentence(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    """Apprise's own complaint, without a word of the URL, and no second line of its log beside it."""
    for mode, shown in (("tls", "tls"), (CANARY, "…")):
        with pytest.raises(SettingsError) as caught:
            place.app(NOTIFICATION_URLS=f"mailtos://me:{CANARY}@host.example.org?mode={mode}").run(Doing(failing))
        assert str(caught.value) == (
            "NOTIFICATION_URLS: number 1 (mailtos://…) is not a URL that apprise can send to:"
            f" the secure mode specified ({shown}) is invalid"
        )
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("url", [f"ftp://{CANARY}", CANARY, f"file:///{CANARY}", "https://"])
def test_a_bad_heartbeat_url(place: Place, url: str) -> None:
    """Only http and https; never shown."""
    with pytest.raises(SettingsError, match="HEARTBEAT_URL") as caught:
        succeed(place.app(HEARTBEAT_URL=url))
    assert CANARY not in str(caught.value)


def test_the_heartbeat(place: Place, heart: HttpSink) -> None:
    """Start and success, start and fail; degraded is a failure; other kinds of runs are silent."""
    app = place.app(HEARTBEAT_URL=f"{heart.url}/uuid-{CANARY}?x=1")
    succeed(app)
    fail(app)
    app.run(Doing(lambda run: a_backup(problems=("no copy in s3",))))
    app.run(Doing(lambda run: done(), "prune"))
    path = f"/uuid-{CANARY}"
    ends = ["", "/fail", "/fail"]
    assert heart.paths == [url for end in ends for url in (f"{path}/start?x=1", f"{path}{end}?x=1")]


def test_the_heartbeat_is_one_of_all_databases(place: Place, heart: HttpSink) -> None:
    """A good run of one of several is no success while another's last one has failed, or is older than the schedule
    promises; it is one where the others are well."""
    app = place.app(HEARTBEAT_URL=heart.url, BACKUP_DATABASES="a,b", BACKUP_SCHEDULE="0 * * * *")
    history, now = app.state.history, datetime.now(UTC)

    def ends() -> list[str]:
        heart.requests.clear()
        app.run(Doing(lambda run: a_backup(database="a")), database="a")
        return heart.paths[1:]

    assert ends() == ["/"]  # none of b is due yet
    history.add("backup", "r1", now, 1.0, 1, {"database": "b"})
    assert ends() == ["/fail"]
    history.add("backup", "r2", now, 1.0, 0, {"database": "b"})
    assert ends() == ["/"]
    history.add("backup", "r3", now, 1.0, 1, {"cause": "no socket"})
    assert ends() == ["/fail"]
    history.add("backup", "r4", now - timedelta(hours=4), 1.0, 0, {"database": "b"})
    assert ends() == ["/fail"]


def test_a_dead_heartbeat_is_silent(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is logged without its address, after a few attempts, and the run knows nothing of it."""
    monkeypatch.setattr("hubbackup.notify.heartbeat.PAUSE_SECONDS", 0.01)
    app = place.app(HEARTBEAT_URL=f"http://127.0.0.1:9/{CANARY}")
    assert succeed(app).exit_code == 0
    (start, end) = place.events("heartbeat.failed")
    assert (start["ping"], end["ping"]) == ("start", "success")
    assert CANARY not in str(place.lines)


def test_a_hanging_heartbeat_delays_no_run(place: Place, heart: HttpSink, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line waits for it briefly, once, at its end."""
    monkeypatch.setattr("hubbackup.notify.alerts.LAST_PING_SECONDS", 0.3)
    heart.status = 0
    began_at = time.monotonic()
    assert succeed(place.app(HEARTBEAT_URL=heart.url)).exit_code == 0
    assert time.monotonic() - began_at < 3


def test_pings_keep_their_order_and_never_pile_up(place: Place, heart: HttpSink) -> None:
    """A slow switch loses pings rather than memory."""
    pinger = Pinger(heart.url, place.app().log)
    for number in range(30):
        pinger.ping(str(number))
    pinger.drain(10)
    numbers = [int(path[1:]) for path in heart.paths]
    assert numbers == sorted(numbers)
    assert numbers[0] == 0


def test_drills_prunes_and_restores_alert_too(place: Place, http: HttpSink) -> None:
    """Every kind of run that fails is told, by its name."""
    app = place.app(NOTIFICATION_URLS=http.apprise_url)
    for kind in ("drill", "prune", "restore", "verify"):
        with pytest.raises(HubbackupError):
            app.run(Doing(failing, kind))
    assert [title.split()[1] for title in http.titles] == ["drill", "prune", "restore", "verify"]
