"""What others write leaves the program at many edges: none shows a secret, none lets a terminal obey."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import pytest
import structlog

from hubbackup.app import App
from hubbackup.config.load import load_settings
from hubbackup.status import metrics
from hubbackup.status.verdict import judge
from hubbackup.streams.cancel import Cancel
from hubbackup.web import page
from tests.support import proxy as s3_faults
from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.program import DATABASE, Done, Program, for_server
from tests.support.proxy import FaultProxy
from tests.support.s3 import S3Server
from tests.support.sinks import HttpSink, http_sink
from tests.support.terminal import on_terminal

PASSWORD = "canari-P/ss'w ord"
SECRET_KEY = "canari/Cl3+Secrete="
CANARIES = {
    "POSTGRES_PASSWORD": PASSWORD,
    "AWS_ACCESS_KEY_ID": "CANARIACCESSKEY",
    "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    "STATUS_PASSWORD": "canari-status",
    "BACKUP_MANIFEST_KEY": "canari-manifest-key-0123456789abcdef",
    "endpoint": "canari-endpoint",
    "webhook": "canari-webhook-token",
    "heartbeat": "3f1c2b6e-0000-4000-8000-cacacacacaca",
}
TRICKS = "\x1b[2J\x1b]0;owned\x07\x9b1A\u202e\u2028\rOK"
TABLE = f"sneaky{TRICKS} {PASSWORD}\nbackup finished: all is well"
LONG = "and so on " * 300


def leaks(text: str) -> list[str]:
    """The canaries in a text, also as others write them."""
    forms = {form for one in CANARIES.values() for form in (one, quote(one), quote(one, safe=""), json.dumps(one))}
    return sorted(form for form in forms if form.strip('"') in text)


def obeyed(text: str) -> set[str]:
    """What of a text a terminal would obey, or not show."""
    return {hex(ord(one)) for one in text if unicodedata.category(one) in ("Cc", "Cf", "Zl", "Zp", "Cs")} - {"0xa"}


@dataclass
class Place:
    """Every secret is a canary; a role that may not read a sneaky table; an S3 that echoes secrets."""

    program: Program
    sink: HttpSink
    log: Path

    def files(self) -> Iterator[tuple[str, str]]:
        """Everything that it has written."""
        for path in (self.log, *self.program.backups.rglob("*")):
            if path.is_file():
                yield str(path), path.read_bytes().decode("utf-8", "surrogateescape")


@pytest.fixture(scope="module")
def place(postgres18: EmbeddedPostgres, s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("edges")
    quoted = PASSWORD.replace("'", "''")
    postgres18.psql(f"CREATE ROLE lecteur LOGIN PASSWORD '{quoted}'")
    postgres18.create_database(DATABASE)
    postgres18.psql("CREATE TABLE t (a int); GRANT SELECT ON t TO lecteur", database=DATABASE)
    with FaultProxy(s3.endpoint_url) as proxy, http_sink() as sink:
        log = directory / "hub.log"
        program = for_server(
            postgres18,
            DATABASE,
            directory,
            **{name: value for name, value in CANARIES.items() if name.isupper()},
            POSTGRES_USER="lecteur",
            BACKUP_GLOBALS="false",
            STATUS_USER="operator",
            S3_BACKUP_BUCKET=s3.bucket(),
            AWS_DEFAULT_REGION="us-east-1",
            S3_ENDPOINT_URL=proxy.url.replace("://", f"://user:{CANARIES['endpoint']}@"),
            NOTIFICATION_URLS=f"json://127.0.0.1:{sink.port}/{CANARIES['webhook']}",
            NOTIFICATION_LEVEL="all",
            HEARTBEAT_URL=f"{sink.url}/{CANARIES['heartbeat']}",
            LOG_FILE=str(log),
            LOG_LEVEL="debug",
        )
        try:
            said = f"denied{TRICKS.translate({0x1B: ' ', 0x07: ' '})} for {SECRET_KEY}, CANARIACCESSKEY: {LONG}"
            assert program.run("backup").code in (0, 3)
            proxy.fault(s3_faults.answer(403, "AccessDenied", said))
            postgres18.psql(f'CREATE TABLE "{TABLE}" ()', database=DATABASE)
            yield Place(program, sink, log)
        finally:
            program.drop(DATABASE)
            postgres18.psql("DROP ROLE lecteur")


COMMANDS = (
    ("backup",),
    ("backup", "--json"),
    ("list",),
    ("list", "--json"),
    ("verify", "--all"),
    ("verify", "--all", "--json"),
    ("status",),
    ("status", "--json"),
    ("check",),
    ("prune", "--dry-run"),
    ("doctor",),
    ("doctor", "--json"),
    ("config",),
    ("config", "--json"),
    ("notify-test",),
    ("restore", "--latest", "--yes"),
    ("drill",),
    ("show\x1b[2J",),
    ("restore", f"no{TRICKS}{PASSWORD}.sql.gz"),
)


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: ascii(" ".join(words))[1:40])
def test_no_command_shows_a_secret_or_is_obeyed(place: Place, words: tuple[str, ...]) -> None:
    """Answers, tables, JSON, errors, the log on stderr and at the level debug: whatever server and S3 say."""
    done: Done = place.program.run(*words)
    assert "Traceback" not in done.out + done.err
    assert "internal error" not in done.out + done.err
    assert leaks(done.out + done.err) == []
    assert obeyed(done.out + done.err) == set()
    if "--json" in words:
        json.loads(done.out)


def test_a_failed_backup_names_the_table_in_one_bounded_line(place: Place) -> None:
    """The cause can be read, forges no second line, and has a kilobyte at most, wherever it stands."""
    done = place.program.run("backup", "--json")
    assert done.code == 1
    cause = done.event("backup.failed")["cause"]
    assert r"sneaky\x1b[2J\x1b]0;owned\x07\x9b1A\u202e\u2028 OK ********" in cause
    assert len(cause.encode()) <= 1024
    assert not any(line.startswith("backup finished") for line in (done.out + done.err).splitlines())
    history = [json.loads(line) for line in place.program.backups.joinpath(".hubbackup/history.jsonl").open()]
    assert history[-1]["cause"] == cause


def test_nothing_written_or_sent_has_a_secret(place: Place) -> None:
    """History, state, manifests, backups' marks, the log file; messages of failures as they arrive."""
    for words in (("backup",), ("drill",), ("notify-test",)):
        place.program.run(*words)
    for name, text in place.files():
        assert leaks(text) == [], name
        if name.endswith((".json", ".jsonl", ".log")):
            assert obeyed(text) == set(), name
    assert any("failed" in title for title in place.sink.titles)
    for _, _, body in place.sink.requests:
        if body:
            for text in (body["title"], body["message"]):
                assert leaks(text) == []
                assert obeyed(text) == set()


@pytest.fixture
def snapshot_of(place: Place, monkeypatch: pytest.MonkeyPatch) -> Callable[[], tuple[str, str]]:
    """The page and the metrics of the place, as its daemon would serve them."""

    def take() -> tuple[str, str]:
        app = App(load_settings(place.program.env()), cancel=Cancel(), log=structlog.stdlib.get_logger())
        now = datetime.now(UTC)
        snapshot = app.collector().take(now)
        verdict = judge(snapshot, now, healthy=True, health_sentence=f"alive{TRICKS}{PASSWORD}")
        return (
            page.render(snapshot, verdict, now),
            metrics.exposition(snapshot, verdict, healthy=True, now=now).decode(),
        )

    return take


def test_the_page_shows_none_either(place: Place, snapshot_of: Callable[[], tuple[str, str]]) -> None:
    """A failed run's cause and a store's problem are on it, escaped and masked; also of a history by another hand."""
    place.program.run("backup")
    path = place.program.backups / ".hubbackup" / "history.jsonl"
    record = json.loads(path.read_text().splitlines()[-1])
    record |= {"run_id": "20990101T000000-ffffff", "cause": f"{PASSWORD}{TRICKS}{LONG}", "stage": f"s{TRICKS}"}
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")
    shown, measured = snapshot_of()
    assert r"\x1b[2J" in shown
    for text in (shown, measured):
        assert leaks(text) == []
        assert obeyed(text) == set()
    for words in (("status",), ("check",), ("status", "--json")):
        done = place.program.run(*words)
        assert leaks(done.out + done.err) == []
        assert obeyed(done.out + done.err) == set()


@pytest.mark.parametrize("words", [("backup",), ("doctor",), ("status",), ("restore", "--latest", "--yes")])
def test_a_terminal_is_told_the_same(place: Place, words: tuple[str, ...]) -> None:
    """With sentences, colours and bars: no escape of others' and no secret."""
    said = on_terminal(place.program, *words).written
    assert leaks(said) == []
    for trick in ("\x1b[2J", "\x1b]0", "\x07", "\x9b", "\u202e", "\u2028"):
        assert trick not in said
