"""Page, metrics and health over real HTTP: read-only, locked where asked, silent about secrets, hard to break."""

from __future__ import annotations

import base64
import html
import http.client
import json
import logging
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest
import structlog

from hubbackup.app import App
from hubbackup.config.load import load_settings
from hubbackup.daemon.status_server import serve_status
from hubbackup.errors import SettingsError
from hubbackup.jobs.current import FILE_NAME, RunFile
from hubbackup.jobs.kinds import KINDS
from hubbackup.status.snapshot import AlertFacts, Aside, KeptDatabase
from hubbackup.streams.cancel import Cancel
from hubbackup.web.page import hash_of, script, stylesheet
from hubbackup.web.server import HEADERS, Login, StatusApp, StatusServer
from hubbackup.web.view import TITLES
from tests.support.hub_chantier import CANARY, NOW, S3_TIMEOUT, Site, a_month
from tests.support.screenshots import Served, a_run, served

HOSTILE = "<script>alert(1)</script>\"'&{{7*7}}\u202e\x1b[2J"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    site = a_month(tmp_path_factory.mktemp("month"))
    with served(site.snapshot()) as running:
        yield running


def ask(
    page: Served, path: str = "/", method: str = "GET", headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=10)
    connection.request(method, path, headers=headers or {})
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    return response.status, {name.lower(): value for name, value in response.getheaders()}, body


def test_the_page_tells_what_it_should(page: Served) -> None:
    """Verdict, next run, backups with copies and proof, drills, stores and what goes when."""
    status, headers, body = ask(page)
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    for words in (
        "All right.",
        "The last good backup is 6 h old and in both places.",
        "Mon 9 Feb, 03:00",
        "Read back whole",
        "Restored in a drill",
        "S3, later",
        "Failed at the stage prepare: the container of the service db is not running",
        "52.1 GB of 80.0 GB free",
        "hub_chantier_backup_20260109_030000.sql.gz",
        "31.0 days old, the policy keeps 30",
        "24 older",
    ):
        assert words in body
    assert CANARY not in body


@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz", "/icon.svg", "/nothing"])
def test_every_answer_has_the_safe_headers(page: Served, path: str) -> None:
    """Nothing may be loaded, framed, cached or guessed, and the server does not say what it runs on."""
    _, headers, _ = ask(page, path)
    for name, value in HEADERS:
        assert headers[name.lower()] == value
    assert headers["content-security-policy"] == (
        f"default-src 'none'; style-src '{hash_of(stylesheet())}'; script-src '{hash_of(script())}';"
        " connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    assert "server" not in headers


def test_head_is_get_without_the_body(page: Served) -> None:
    """The same length, no byte of it."""
    _, headers, body = ask(page)
    status, head, nothing = ask(page, method="HEAD")
    assert (status, head["content-length"], nothing) == (200, headers["content-length"], "")
    assert int(headers["content-length"]) == len(body.encode())


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz"])
def test_nothing_can_be_done(page: Served, method: str, path: str) -> None:
    """It only shows."""
    status, headers, _ = ask(page, path, method)
    assert (status, headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", ["/favicon.ico", "/../etc/passwd", "/metrics/", "/%2e%2e/", "/status.css"])
def test_there_is_nothing_else(page: Served, path: str) -> None:
    """No file is served."""
    assert ask(page, path)[0] == 404


def test_health_follows_the_daemon(page: Served) -> None:
    """200 while it schedules, 503 while not, and then the page says so too."""
    assert ask(page, "/healthz")[0] == 200
    page.health, alive = (False, "the daemon's last heartbeat is 400 s old: it is gone or stuck"), page.health
    try:
        status, _, body = ask(page, "/healthz")
        assert (status, "400 s old" in body) == (503, True)
        assert "No backup will start by itself" in ask(page)[2]
        assert "hubbackup_healthy 0.0" in ask(page, "/metrics")[2]
    finally:
        page.health = alive


def test_before_the_first_look(page: Served) -> None:
    """A daemon that has just started says so; health and metrics answer already."""
    page.snapshot, known = None, page.snapshot
    try:
        status, headers, _ = ask(page)
        assert (status, headers["retry-after"]) == (503, "5")
        assert ask(page, "/metrics")[2].count("# TYPE") == 1
        assert ask(page, "/healthz")[0] == 200
    finally:
        page.snapshot = known


class Tags(HTMLParser):
    """Every element and attribute of a document."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def test_hostile_names_are_only_text(tmp_path: Path) -> None:
    """A database, a cause and a store's answer made of markup stay text, and templates in them are not run."""
    site = Site(tmp_path, HOSTILE)
    site.add_backup(NOW)
    site.add_failure(NOW, cause=HOSTILE)
    site.s3.down = HOSTILE
    with served(site.snapshot()) as page:
        status, _, body = ask(page)
        metrics = ask(page, "/metrics")
    assert status == 200
    assert "{{7*7}}" in body
    tags = Tags()
    tags.feed(body)
    assert not {"img", "iframe", "object", "form", "a"} & {tag for tag, _ in tags.seen}
    assert [tag for tag, _ in tags.seen].count("script") == body.count("<script") == 1
    for _, attributes in tags.seen:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
    assert {attributes["href"] for tag, attributes in tags.seen if tag == "link"} == {"/icon.svg"}
    assert metrics[0] == 200


def test_runs_at_work_are_shown(page: Served) -> None:
    """Each in a line, one that tells no size too; the page reloads soon then, else every five minutes."""
    reload = '<main data-reload="{}">'
    assert reload.format(300) in ask(page)[2]
    page.at_work = (a_run(), a_run(kind="verify", stage="choose", done_bytes=0, total_bytes=0))
    try:
        body = ask(page)[2]
        assert "A backup has been running since" in body
        assert "stage dump: 396.0 MB of about 529.0 MB at 3.3 MB/s, about 40 s left" in body
        assert "A verification has been running since" in body
        assert '<p class="soft">stage choose</p>' in body
        assert reload.format(10) in body
    finally:
        page.at_work = ()


def test_a_hostile_run_is_only_text(page: Served) -> None:
    """Whatever stands in the file of the run at work, it is shown and not run; figures that lie break nothing."""
    page.at_work = (
        a_run(kind=HOSTILE, stage=HOSTILE, step=HOSTILE),
        a_run(total_bytes=-1, done_bytes=10**30, bytes_per_second=-5),
        a_run(stage="\ud800"),
    )
    try:
        status, _, body = ask(page)
        assert (status, "{{7*7}}" in body) == (200, True)
        tags = Tags()
        tags.feed(body)
        assert "img" not in {tag for tag, _ in tags.seen}
        assert [tag for tag, _ in tags.seen].count("script") == 1
    finally:
        page.at_work = ()


def test_trouble_is_told_once_and_unknown_is_not_missing(tmp_path: Path) -> None:
    """A row names each problem of its backup once; a copy in a store that does not answer is unknown."""
    site = Site(tmp_path)
    site.add_backup(NOW, stores=("local",), problems=("no roles in the backup",))
    site.s3.down = "no answer"
    with served(site.snapshot()) as page:
        body = ask(page)[2]
    table = body[body.index("<tbody>") : body.index("</tbody>")]
    assert table.count("no roles in the backup") == 1
    assert "S3: unknown" in table
    assert "S3: missing" not in table


def test_several_databases_are_kept_apart(tmp_path: Path) -> None:
    """Each database has its plots and its name in the table; the worst one decides."""
    one, other = Site(tmp_path, "one"), Site(tmp_path, "other")
    one.add_backup(NOW)
    with served(one.collector("one", "other").take(NOW)) as page:
        body = ask(page)[2]
        assert "There is no backup of other yet. The first is due" in body
    other.s3 = one.s3
    other.add_backup(NOW)
    with served(one.collector("one", "other").take(NOW)) as page:
        body = ask(page)[2]
    assert "The last good backups of all 2 databases are at most 0 min old and in both places." in body
    assert "Size as stored of other" in body


def test_a_database_of_which_only_backups_are_left(tmp_path: Path) -> None:
    """It is shown with what is kept of it, and is no reason to worry."""
    site = Site(tmp_path)
    site.add_backup(NOW)
    snapshot = replace(site.snapshot(), gone={"wiki": NOW - timedelta(days=40)})
    with served(snapshot) as page:
        body = ask(page)[2]
    assert "wiki" in body
    assert "gone from the server since" in body
    assert "All right." in body


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Served]:
    site = Site(tmp_path)
    site.add_backup(NOW)
    with served(site.snapshot(), Login("op\u00e9rateur", "p:\u00e4ss")) as page:
        yield page


def basic(text: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        basic("op\u00e9rateur:wrong"),
        basic("op\u00e9rateur:"),
        basic("wrong:p:\u00e4ss"),
        basic(""),
        {"Authorization": "Basic !!!"},
        {"Authorization": "Basic \u00e9"},
        {"Authorization": "Bearer x"},
        {"Authorization": ""},
    ],
)
@pytest.mark.parametrize("path", ["/", "/metrics", "/icon.svg", "/nothing"])
def test_without_the_password_nothing_is_seen(locked: Served, headers: dict[str, str], path: str) -> None:
    """401 for whatever is not the pair, and not even what there is can be asked."""
    status, answered, body = ask(locked, path, headers=headers)
    assert (status, answered["www-authenticate"]) == (401, 'Basic realm="hubbackup", charset="UTF-8"')
    assert "hub_chantier" not in body


def test_with_the_password_all_is_seen_and_health_needs_none(locked: Served) -> None:
    """The pair opens page and metrics; a health check can't carry one."""
    headers = basic("op\u00e9rateur:p:\u00e4ss")
    assert {ask(locked, path, headers=headers)[0] for path in ("/", "/metrics", "/icon.svg")} == {200}
    assert ask(locked, "/healthz")[0] == 200


def test_a_broken_page_is_an_answer_and_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """An error while a page is made is 500 without a word of it, and the next request works."""

    def broken() -> None:
        raise RuntimeError(CANARY)

    app = StatusApp(broken, lambda: (True, "alive"), structlog.stdlib.get_logger())
    with StatusServer(app, 0, host="127.0.0.1") as server:
        page = Served(None, port=server.port)
        status, _, body = ask(page)
        assert (status, CANARY in body) == (500, False)
        assert ask(page, "/healthz")[0] == 200


def test_large_requests_and_silent_visitors_do_no_harm(page: Served) -> None:
    """A body or a header too large is refused, and connections that say nothing leave room for others."""
    assert ask(page, headers={"X": "y" * 20_000})[0] == 431
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=10)
    connection.request("POST", "/", body=b"x" * 1000)
    assert connection.getresponse().status == 413
    silent = [socket.create_connection(("127.0.0.1", page.port)) for _ in range(20)]
    assert ask(page)[0] == 200
    for one in silent:
        one.close()


def app_for(tmp_path: Path, **environ: str) -> App:
    loaded = load_settings({"BACKUP_DIR": str(tmp_path), "POSTGRES_DB": "hub_chantier", **environ})
    return App(loaded, cancel=Cancel(), log=structlog.stdlib.get_logger())


def test_the_daemons_page_is_off_without_a_port_and_no_error_without_its_port(tmp_path: Path) -> None:
    """STATUS_PORT unset opens nothing; one that is taken is logged, and the daemon goes on."""
    events: list[str] = []

    def note(_: object, __: str, event: dict[str, object]) -> dict[str, object]:
        events.append(str(event["event"]))
        raise structlog.DropEvent

    app = app_for(tmp_path)
    app.log = structlog.wrap_logger(
        logging.getLogger("x"), processors=[note], wrapper_class=structlog.stdlib.BoundLogger
    )
    serve_status(app)
    assert events == []
    with socket.create_server(("0.0.0.0", 0)) as taken:
        other = app_for(tmp_path, STATUS_PORT=str(taken.getsockname()[1]))
        other.log = app.log
        serve_status(other)
    assert events == ["status.unavailable"]


def test_the_daemons_page_serves_what_the_directory_holds(tmp_path: Path) -> None:
    """From settings to page, which needs the login: a backup in BACKUP_DIR, and the run at work, not a killed one."""
    Site(tmp_path).add_backup(NOW, stores=("local",))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    stop = serve_status(app_for(tmp_path, STATUS_PORT=str(port), STATUS_USER="op", STATUS_PASSWORD=CANARY))
    page = Served(None, port=port)
    try:
        until = time.monotonic() + 10
        while (status := ask(page, headers=basic(f"op:{CANARY}"))[0]) == 503 and time.monotonic() < until:
            time.sleep(0.02)
        body = ask(page, headers=basic(f"op:{CANARY}"))[2]
        assert (status, "Sun 8 Feb" in body) == (200, True)
        assert "has been running" not in body
        state = tmp_path / ".hubbackup"
        running = RunFile(state / FILE_NAME, "backup", "r1", NOW)
        running.stage("dump")
        killed = json.loads((state / FILE_NAME).read_text()) | {"kind": "verify", "process_start": 1}
        (state / "run-1.json").write_text(json.dumps(killed))
        body = ask(page, headers=basic(f"op:{CANARY}"))[2]
        assert "A backup has been running since" in body
        assert "stage dump" in body
        assert "A verification" not in body
        assert CANARY not in body
        assert ask(page)[0] == 401
    finally:
        stop()
    with pytest.raises(OSError):
        ask(page)


@pytest.mark.parametrize(
    "environ", [{"STATUS_USER": "op"}, {"STATUS_PASSWORD": CANARY}, {"STATUS_USER": "a:b", "STATUS_PASSWORD": CANARY}]
)
def test_half_a_login_is_refused(tmp_path: Path, environ: dict[str, str]) -> None:
    """To serve without a password what was meant to have one would be silent."""
    with pytest.raises(SettingsError, match="STATUS_USER") as caught:
        app_for(tmp_path, **environ)
    assert CANARY not in str(caught.value)


def test_the_icon_has_the_verdicts_shape(page: Served) -> None:
    """The tab tells it too."""
    assert "<circle" in ask(page, "/icon.svg")[2]
    assert page.snapshot
    page.snapshot, known = replace(page.snapshot, backups=()), page.snapshot
    try:
        assert "#b42318" in ask(page, "/icon.svg")[2]
    finally:
        page.snapshot = known


def rows_of(body: str) -> str:
    return body[body.index("<tbody>") : body.index("</tbody>")]


def test_an_old_error_of_a_copy_that_came_later_is_gone(tmp_path: Path) -> None:
    """While the copy is missing, the reason stands with the copies; once it is there, it says nothing any more."""
    site = Site(tmp_path)
    site.add_backup(NOW, stores=("local",), problems=(S3_TIMEOUT,))
    with served(site.snapshot()) as page:
        table = rows_of(ask(page)[2])
    assert table.count(S3_TIMEOUT) == 1
    assert table.index(S3_TIMEOUT) < table.index("Read back whole")
    site = Site(tmp_path / "later")
    (tmp_path / "later").mkdir()
    site.add_backup(NOW, problems=(S3_TIMEOUT,), copies=("local",))
    with served(site.snapshot()) as page:
        table = rows_of(ask(page)[2])
    assert "S3, later" in table
    assert S3_TIMEOUT not in table


def test_what_changed_stands_with_the_backup(tmp_path: Path) -> None:
    """One line, as the log has it; what is in a table's name is only text."""
    site = Site(tmp_path)
    site.add_backup(NOW, changes='pointages +412, "<b>" -3, 41 tables unchanged')
    with served(site.snapshot()) as page:
        table = rows_of(ask(page)[2])
    assert 'pointages +412, "<b>" -3, 41 tables unchanged' in html.unescape(table)
    assert "<b>" not in table


def test_a_failed_run_has_its_own_remedy(tmp_path: Path) -> None:
    """At the top and in its row: what its error said to do, and not the doctor for everything."""
    site = Site(tmp_path)
    site.add_backup(NOW - timedelta(days=1))
    site.add_failure(NOW)
    with served(site.snapshot()) as page:
        body = ask(page)[2]
    assert body.count("<span>What to do:</span> docker compose -f docker-compose.prod.yml up -d db") == 2
    assert "hubbackup doctor" not in body


def test_databases_put_aside_are_shown(tmp_path: Path) -> None:
    """With their sizes and how to go back; where the server does not answer, that it is not known."""
    site = Site(tmp_path)
    site.kept = (KeptDatabase("hub_before_1", 5_000_000, "before"), KeptDatabase("hub_restore_2", 1000, "restore"))
    snapshot = site.snapshot()
    with served(snapshot) as page:
        body = ask(page)[2]
        for words in ("hub_before_1", "5.0 MB", "./scripts/restore.sh --undo", "hub_restore_2", "half-filled"):
            assert words in body
        page.snapshot = replace(snapshot, several=True)
        assert "./scripts/restore.sh --undo --database NAME" in ask(page)[2]
        page.snapshot = replace(snapshot, aside=Aside(problem="it does not answer"))
        assert "the server can't be asked. it does not answer" in ask(page)[2]
        page.snapshot = replace(snapshot, aside=Aside(()))
        assert "Databases put aside" not in ask(page)[2]


def test_whether_alerts_work_is_shown(tmp_path: Path) -> None:
    """Who is told, the last sent and the last failed; a failure that nothing followed is a warning at the top."""
    site = Site(tmp_path)
    site.add_backup(NOW)
    snapshot = site.snapshot()
    with served(snapshot) as page:
        assert "Nobody is told when a backup fails: set NOTIFICATION_URLS or HEARTBEAT_URL" in ask(page)[2]
        known = AlertFacts(sinks=("mailtos#1",), heartbeat=True)
        page.snapshot = replace(snapshot, alerts=known)
        body = ask(page)[2]
        assert "mailtos#1 and the dead man&#39;s switch" in body
        assert "./scripts/hubbackup notify-test" in body
        page.snapshot = replace(
            snapshot, alerts=replace(known, failed_at=NOW, failure="mailtos#1: refused", waiting=2)
        )
        body = ask(page)[2]
        assert "The last alert could not be sent (mailtos#1: refused); 2 wait." in body
        assert "Needs attention." in body
        page.snapshot = replace(
            snapshot, alerts=replace(known, failed_at=NOW, failure="refused", sent_at=NOW, sent="OK: test")
        )
        body = ask(page)[2]
        assert "All right." in body
        assert ", and one was sent since" in body
        assert "OK: test" in body


def test_each_kind_of_run_has_words() -> None:
    """What is at work is called by what it does."""
    assert TITLES.keys() == set(KINDS)
