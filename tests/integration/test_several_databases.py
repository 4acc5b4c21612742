"""Several databases in one run: each by itself, and none at the cost of another."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hubbackup.app import App
from hubbackup.config.load import load_settings
from hubbackup.daemon.watchdog import watch
from hubbackup.jobs.run import Outcome
from hubbackup.logs.setup import get_logger
from hubbackup.streams.cancel import Cancel
from tests.support.daemon import NEVER, running
from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.moments import locked_table, wait_until
from tests.support.program import Done, Program, beside, finish, for_server
from tests.support.s3 import S3Server
from tests.support.sinks import http_sink

LONG = "é" * 31 + "z"
"""63 bytes, the most that PostgreSQL takes."""
ODD = ('O\'Brien "quoted"', "a,b", "données d'été", LONG, "-leading dash", "dbname=x host=evil", "*")
SIDE = (
    "crm_before_20260208_030000",
    "crm_drill_20260208_030000",
    "crm_drill_20260208_030000_restore_20260208_030001",
)
"""As restores and drills of ours leave them."""
ROWS = {"shop": 104, "crm": 103}


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    """A server of one's own, since every database of it is backed up."""
    with EmbeddedPostgres(18) as server:
        for name in ("shop", "crm"):
            fill(server, name)
        yield server


@pytest.fixture
def program(server: EmbeddedPostgres, tmp_path: Path) -> Program:
    """POSTGRES_DB is `shop`; every database of the server but its own `postgres` is backed up."""
    return for_server(server, "shop", tmp_path, BACKUP_DATABASES="*", BACKUP_EXCLUDE_DATABASES="postgres")


def fill(server: EmbeddedPostgres, name: str) -> None:
    server.create_database(name)
    server.psql(f"CREATE TABLE t AS SELECT generate_series(1, {100 + len(name)}) AS i", database=name)


@contextmanager
def databases(server: EmbeddedPostgres, *names: str) -> Iterator[None]:
    """More of them, with a table each."""
    try:
        for name in names:
            fill(server, name)
        yield
    finally:
        for name in names:
            server.drop_database(name)


def in_settings(*names: str) -> str:
    """As BACKUP_DATABASES takes them."""
    return ",".join('"' + name.replace('"', '""') + '"' for name in names)


def ends(done: Done) -> dict[str, int]:
    """The exit code for each database."""
    return {one["database"]: one["exit_code"] for one in done.document["databases"]}


def history(program: Program, kind: str = "backup") -> list[dict[str, Any]]:
    lines = (program.backups / ".hubbackup" / "history.jsonl").read_text(encoding="utf-8").splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == kind]


def age(program: Program, name: str, days: int) -> str:
    """Make a backup older, as if it had been taken then."""
    old = program.redate(name, timedelta(days=days))
    for part in (name, beside(name)):
        (program.backups / part).unlink()
    return old


def names_of(done: Done) -> dict[str, str]:
    """The name of each database's backup."""
    return {one["database"]: one["name"] for one in done.document["databases"] if "name" in one}


def waiting(server: EmbeddedPostgres) -> str:
    """The backends of runs of ours that wait for a lock."""
    ours = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'hubbackup-%' AND wait_event_type = 'Lock'"
    return server.psql(ours).strip()


# -- one run


def test_each_database_has_a_backup_of_its_own(program: Program, server: EmbeddedPostgres) -> None:
    """Every database of the server, however it is called, has its own file, its own manifest with its own rows, and
    its own record; one line closes the run and names each. Templates, what restores and drills of ours have left,
    what takes no connections, and what is excluded are left out."""
    with databases(server, *ODD, *SIDE, "closed", "test_1"):
        server.psql("ALTER DATABASE closed ALLOW_CONNECTIONS false")
        done = program.run("backup", "--json", BACKUP_EXCLUDE_DATABASES="post?res,test_*")
        assert done.code == 0, done.said
        expected = {"shop", "crm", *ODD}
        assert ends(done) == dict.fromkeys(expected, 0)
        for database, name in names_of(done).items():
            manifest = program.manifest(name)
            assert (manifest.database, sum(manifest.rows.values())) == (database, 100 + len(database))
        assert {one["database"] for one in done.event("backup.finished")["databases"]} == expected
        records = history(program)
        assert {one["database"] for one in records} == expected
        assert len({one["run_id"] for one in records}) == 1
        some = {"BACKUP_DATABASES": in_settings(*ODD[:2]), "BACKUP_EXCLUDE_DATABASES": ""}
        listed = program.run("backup", "--json", **some)
        assert ends(listed) == dict.fromkeys(ODD[:2], 0)
        checked = program.run("check", BACKUP_EXCLUDE_DATABASES="post?res,test_*")
        assert checked.code == 0, checked.said
        assert all(name in checked.out for name in ODD)


def test_the_roles_of_the_server_are_read_once(program: Program, tmp_path: Path) -> None:
    """However many databases there are, pg_dumpall runs once, and each manifest has what it said."""
    tools, calls = tmp_path / "tools", tmp_path / "calls"
    tools.mkdir()
    real = program.settings["PATH"].split(":")[0]
    (tools / "pg_dumpall").write_text(f'#!/bin/sh\necho called >> {calls}\nexec {real}/pg_dumpall "$@"\n')
    (tools / "pg_dumpall").chmod(0o755)
    done = program.run("backup", "--json", PATH=f"{tools}:{program.settings['PATH']}")
    assert ends(done) == dict.fromkeys(ROWS, 0)
    roles = {program.manifest(name).globals_sql for name in names_of(done).values()}
    assert len(roles) == 1
    assert "CREATE ROLE" in roles.pop()
    assert calls.read_text() == "called\n"


def test_a_failure_of_one_stops_none_of_the_others(program: Program) -> None:
    """A database that is not there fails, the others are backed up, in S3 or not; exit code 1; closing line, record,
    alert, `status`, `check` and the doctor say which; the next good run ends the alarm with one message."""
    wanted = {"BACKUP_DATABASES": "shop,nosuch,crm", "BACKUP_EXCLUDE_DATABASES": ""}
    with http_sink() as sink:
        alerts = {"NOTIFICATION_URLS": sink.apprise_url}
        done = program.run("backup", "--json", **wanted, **alerts)
        assert done.code == 1
        assert ends(done) == {"shop": 0, "nosuch": 2, "crm": 0}
        assert "1 of 3 databases have no new backup: nosuch:" in done.event("backup.failed")["message"]
        (body,) = [body for _, _, body in sink.requests if body]
        assert "ALERTE: backup of nosuch (1 of 3 databases) on" in body["title"]
        assert "2: shop, crm" in body["message"]
        assert {one["database"]: one["exit_code"] for one in history(program)} == {"shop": 0, "nosuch": 2, "crm": 0}
        status = program.run("status", "--json", **wanted).document
        assert {one["database"]: bool(one["last_good"]) for one in status["databases"]} == {
            "shop": True,
            "nosuch": False,
            "crm": True,
        }
        assert any("The last run of nosuch" in one["text"] for one in status["findings"])
        checked = program.run("check", **wanted)
        assert checked.code == 2
        assert "nosuch: there is no good backup" in checked.out
        assert "well: crm, shop" in checked.out
        assert program.run("check", "--database", "crm", **wanted).code == 0
        doctor = program.run("doctor", "--json", **wanted).document["findings"]
        found = {one["name"]: one for one in doctor}
        assert (found["databases"]["status"], found["database"]["status"]) == ("fail", "fail")
        assert "nosuch" in found["database"]["sentence"]
        assert found["readable"]["status"] == "ok"
        good = program.run("backup", "--json", **alerts)
        assert good.code == 0
        assert [title.split(":")[0] for title in sink.titles] == ["ALERTE", "OK"]


def test_each_has_its_copy_in_the_bucket(program: Program, s3: S3Server) -> None:
    """Uploads, late ones too, are each database's own; a run that leaves S3 out is caught up for every one."""
    bucket = s3.bucket()
    first = program.run("backup", "--json", "--no-upload-s3", **s3.settings(bucket))
    assert first.code == 0, first.said
    second = program.run("backup", "--json", **s3.settings(bucket))
    assert second.code == 0, second.said
    assert all(one["copies"] == ["local", "s3"] for one in second.document["databases"])
    rules = program.run("lifecycle", "show", POSTGRES_DB="", S3_ARCHIVE_AFTER_DAYS="9", **s3.settings(bucket))
    assert rules.code == 0, rules.said
    names = {*names_of(first).values(), *names_of(second).values()}
    assert set(s3.keys(bucket)) == {f"backups/{part}" for name in names for part in (name, beside(name))}


def test_a_stop_keeps_what_was_backed_up_until_then(program: Program, server: EmbeddedPostgres) -> None:
    """SIGTERM in the second database: the first one's backup is good and recorded, of the second nothing is left, the
    others are not begun; exit code 143; no session stays on the server."""
    wanted = {"BACKUP_DATABASES": "crm,shop,postgres", "BACKUP_EXCLUDE_DATABASES": ""}
    with locked_table(server, "shop", "t"):
        process = program.start("backup", "--json", **wanted)
        wait_until(lambda: waiting(server), "pg_dump waits for the lock")
        process.send_signal(signal.SIGTERM)
        done = finish(process)
    assert done.code == 143, done.said
    assert ends(done) == {"crm": 0, "shop": 143}
    assert [(one["database"], one["exit_code"]) for one in history(program)] == [("crm", 0), ("shop", 143)]
    assert {name.split("_")[0] for name in program.files()} == {"crm"}
    assert program.sessions() == []


def test_sessions_of_a_killed_run_are_ended_whichever_database_they_are_in(
    program: Program, server: EmbeddedPostgres
) -> None:
    """A run that was killed while pg_dump waited in the last database: the next run ends that session first."""
    with locked_table(server, "shop", "t"):
        process = program.start("backup")
        wait_until(lambda: waiting(server), "pg_dump waits for the lock")
        process.kill()
        process.communicate()
        assert waiting(server), "nobody has told it"
        done = program.run("backup", "crm", "--json")
        assert done.code == 0, done.said
        wait_until(lambda: not waiting(server), "its end")


def test_a_pattern_of_tables_may_be_meant_for_one_of_them(program: Program, server: EmbeddedPostgres) -> None:
    """What is left out of one database need not be in the others; run and doctor say what matches in none of them."""
    with databases(server, "wiki"):
        server.psql("CREATE TABLE cache AS SELECT 1 AS i", database="wiki")
        leaving = {"BACKUP_EXCLUDE_TABLE_DATA": "cache"}
        done = program.run("backup", "wiki", "crm", "--json", **leaving)
        assert done.code == 0, done.said
        assert [one for one in done.events if one["event"] == "exclude.remark"] == []
        assert [one["rows"] for one in done.document["databases"]] == [104, 103]
        done = program.run("backup", "wiki", "crm", BACKUP_EXCLUDE_TABLE_DATA="nosuch,cache")
        said = "the pattern nosuch matches nothing in any of these databases: nothing is left out by it"
        assert done.event("exclude.remark")["message"] == said
        for pattern, status in (("cache", "ok"), ("nosuch", "warn")):
            doctor = program.run("doctor", "--json", BACKUP_EXCLUDE_TABLE_DATA=pattern).document["findings"]
            assert [one["status"] for one in doctor if one["name"] == "excluded tables"] == [status]


def test_a_hook_that_fails_is_the_whole_run_s(program: Program) -> None:
    """What no database has done (the command after the run) is a problem of the run: in its closing line, its exit
    code, each record and the alert, while every backup is good."""
    with http_sink() as sink:
        hook = {"BACKUP_POST_EXEC": "local:false", "NOTIFICATION_URLS": sink.apprise_url}
        done = program.run("backup", "--json", **hook)
        assert (done.code, ends(done)) == (3, dict.fromkeys(ROWS, 0))
        (problem,) = done.document["problems"]
        assert [(one["exit_code"], one["problems"]) for one in history(program)] == [(3, [problem])] * 2
        (body,) = [body for _, _, body in sink.requests if body]
        assert "is degraded" in body["title"]
        assert problem in body["message"]


# -- beside another daemon


def test_of_two_daemons_each_database_is_backed_up_by_one(
    program: Program, server: EmbeddedPostgres, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two daemons on two directories and one bucket: while one holds a database, the other's run for the same slot
    backs up the rest, waits for what becomes of that one, and steps back from it; a later one makes none."""
    monkeypatch.setenv("PATH", program.settings["PATH"])
    monkeypatch.setattr("hubbackup.backup.several.LOOK_SECONDS", 0.1)
    shared = {**s3.settings(s3.bucket()), "BACKUP_MANIFEST_KEY": "k" * 32}
    first = program.but(**shared)
    values = {**first.env(), "BACKUP_DIR": str(tmp_path / "other")}
    (tmp_path / "other").mkdir()
    other = App(load_settings(values), cancel=Cancel(), log=get_logger())
    slot = datetime.now(UTC)
    with ThreadPoolExecutor(1) as pool:
        with locked_table(server, "crm", "t"):
            process = first.start("backup", "crm")
            wait_until(lambda: waiting(server), "pg_dump waits for the lock")
            running_other = pool.submit(other.backup, slot=slot)
            wait_until(lambda: list((tmp_path / "other").glob("shop_*.manifest.json")), "the other database")
            assert not running_other.done()
        assert finish(process).code == 0
        outcome = running_other.result(60)
    assert (outcome.exit_code, outcome.not_needed) == (0, False)
    found = {part.database: isinstance(part.ending, Outcome) and part.ending.not_needed for part in outcome.parts}
    assert found == {"crm": True, "shop": False}
    again = other.backup(slot=slot)
    assert (again.exit_code, again.not_needed) == (0, True)
    made = [key for key in s3.keys(shared["S3_BACKUP_BUCKET"]) if key.endswith(".sql.gz")]
    assert sorted(key.split("_")[0] for key in made) == ["backups/crm", "backups/shop"]


# -- databases that come and go


def test_a_new_database_is_said_and_one_that_vanished_alerts_once(program: Program, server: EmbeddedPostgres) -> None:
    """A database that is new is backed up and logged. One that is gone is logged and alerted once; its backups are
    never pruned, by no run and by no `prune`, however old, until it is excluded; `status` shows it."""
    with http_sink() as sink:
        alerts = {"NOTIFICATION_URLS": sink.apprise_url}
        first = program.run("backup", "--json", **alerts)
        assert [one for one in first.events if one["event"] == "database.new"] == []
        with databases(server, "wiki"):
            second = program.run("backup", "--json", **alerts)
            assert second.event("database.new")["database"] == "wiki"
            old = [age(program, names_of(second)["wiki"], 40)]
            old.append(age(program, names_of(program.run("backup", "--json", **alerts))["wiki"], 30))
        gone = program.run("backup", "--json", **alerts)
        assert gone.code == 0
        assert gone.event("database.gone")["database"] == "wiki"
        assert [
            one for one in program.run("backup", "--json", **alerts).events if one["event"] == "database.gone"
        ] == []
        assert len([title for title in sink.titles if "wiki" in title]) == 1
        pruned = program.run("prune", "--json")
        assert pruned.code == 0, pruned.said
        reasons = {one["name"]: one["reason"] for one in pruned.document["decisions"] if one["database"] == "wiki"}
        assert reasons == dict.fromkeys(old, "frozen: its database is not on the server any more")
        assert "gone        wiki" in program.run("status").out
        assert program.run("status", "--database", "wiki").code == 0
        assert program.run("check").code == 0
        program.run("prune", BACKUP_EXCLUDE_DATABASES="wiki")
        assert old[0] not in program.files()
        assert old[1] in program.files(), "the newest good one"


def test_prune_is_of_what_is_backed_up_here(program: Program, server: EmbeddedPostgres) -> None:
    """Where nobody has noticed that a database vanished, as on another host of the same bucket, `prune` takes nothing
    of it, nor of one that is another's to back up: it says so, and what takes it. `--database` and `--all` do."""
    with databases(server, "wiki"):
        old = [age(program, names_of(program.run("backup", "--json"))["wiki"], days) for days in (40, 30)]
    (program.backups / ".hubbackup" / "databases.json").unlink()
    pruned = program.run("prune", "--json")
    assert pruned.code == 0, pruned.said
    reasons = {one["name"]: one["reason"] for one in pruned.document["decisions"] if one["database"] == "wiki"}
    assert reasons == dict.fromkeys(old, "frozen: its database is not backed up here")
    assert "hubbackup prune --database NAME" in program.run("prune").out
    alone = {"BACKUP_DATABASES": "", "BACKUP_EXCLUDE_DATABASES": ""}
    assert program.run("prune", "--database", "shop", **alone).code == 0
    assert program.run("prune", **alone).code == 0
    assert set(old) <= program.files().keys()
    assert program.run("prune", "--database", "nosuch").code == 2
    assert program.run("prune", "--database", "wiki", "--all").code == 2
    dry = program.run("prune", "--all", "--dry-run", "--json").document["decisions"]
    assert [one["name"] for one in dry if one["action"] == "remove"] == [old[0]]
    assert program.run("prune", "--database", "wiki").code == 0
    assert set(old) & program.files().keys() == {old[1]}, "the newest good one"


def test_what_vanished_is_brought_back_by_its_backups(program: Program, server: EmbeddedPostgres) -> None:
    """`restore --latest --database` makes a database that is gone anew, and the next run says that it is back."""
    with databases(server, "wiki"):
        assert program.run("backup").code == 0
    assert program.run("backup").code == 0
    try:
        back = program.run("restore", "--latest", "--database", "wiki", "--yes", "--json")
        assert (back.code, back.document["rows"]) == (0, 104), back.said
        assert program.run("backup", "--json").event("database.new")["database"] == "wiki"
    finally:
        server.drop_database("wiki")


def test_the_newest_backup_of_another_database_stays_whatever_is_pruned(program: Program) -> None:
    """Retention is each database's own: forty days old, the only one of `crm` stays when `shop` is backed up."""
    old = age(program, names_of(program.run("backup", "--json"))["crm"], 40)
    assert program.run("backup", "shop").code == 0
    assert program.run("prune").code == 0
    assert old in program.files()


# -- one of them


def test_databases_are_typed(program: Program) -> None:
    """`backup D…` is for these alone. One that the server has not: exit code 2, one sentence, nothing done; among
    others it fails by itself."""
    done = program.run("backup", "nosuch", "--json")
    assert done.code == 2
    assert done.document["message"] == "nosuch is no database of this server"
    assert program.files() == {}
    assert not (program.backups / ".hubbackup" / "history.jsonl").exists()
    assert program.run("backup", "crm", "--json").document["database"] == "crm"
    done = program.run("backup", "shop", "nosuch", "--json")
    assert done.code == 1
    assert ends(done) == {"shop": 0, "nosuch": 2}
    only = program.run("backup", "crm", "--json", BACKUP_DATABASES="", BACKUP_EXCLUDE_DATABASES="")
    assert only.document["database"] == "crm", "beside the one that is set"


def test_commands_are_about_one_database(program: Program) -> None:
    """`verify` reads each one's newest, with --database only that one's; drills take turns over the databases;
    `restore --latest --database` restores that one; a backup of another database is refused, with what to type; a
    name that is not backed up here is exit code 2."""
    names = names_of(program.run("backup", "--json"))
    verified = program.run("verify", "--json").document["copies"]
    assert {one["name"] for one in verified} == set(names.values())
    (one,) = program.run("verify", "--json", "--database", "crm").document["copies"]
    assert one["name"] == names["crm"]
    turns = [program.run("drill", "--json").document["database"] for _ in range(3)]
    assert turns == ["crm", "shop", "crm"]
    assert program.run("drill", "--json", "--database", "shop").document["name"] == names["shop"]
    assert [one["database"] for one in history(program, "drill")] == [*turns, "shop"]
    assert program.run("show", "--json", "--database", "crm").document["name"] == names["crm"]
    program.psql("DELETE FROM t", database="crm")
    recovered = program.run("recover", "t", "--database", "crm", "--key", "i", "--json")
    assert recovered.document["missing"] == ROWS["crm"], recovered.said
    diff = program.run("diff", names["crm"], "live", "--json")
    assert diff.code == 0, diff.said
    refused = program.run("restore", names["crm"], "--yes")
    assert refused.code == 2
    assert "--database crm" in refused.err
    restored = program.run("restore", "--latest", "--database", "crm", "--yes", "--json")
    assert (restored.code, restored.document["name"]) == (0, names["crm"]), restored.said
    assert program.psql("SELECT count(*) FROM t", database="crm").strip() == str(ROWS["crm"])
    program.drop(*(name for name in program.databases() if name.startswith("crm_")))
    for command in (["verify"], ["drill"], ["status"]):
        done = program.run(*command, "--database", "nosuch")
        assert done.code == 2
        assert "hubbackup: nosuch is not backed up here, and has no backup" in done.err
    assert program.run("check", "--database", "nosuch").code == 3


def test_a_command_that_could_mean_any_says_so(program: Program) -> None:
    """Where POSTGRES_DB is none of those that are backed up, a command that needs one asks for it."""
    done = program.run("show", BACKUP_DATABASES="crm,postgres", BACKUP_EXCLUDE_DATABASES="")
    assert done.code == 2
    assert done.sentences == [
        "hubbackup: several databases are backed up here",
        "  what to do: name one: --database NAME",
    ]


def test_a_restore_where_none_of_them_is_the_first(program: Program, server: EmbeddedPostgres) -> None:
    """Without POSTGRES_DB `--database`, or the backup's own name with `--into`, says enough; what goes back names the
    database too; the doctor and the bucket's rules are about all of them."""
    none = program.but(POSTGRES_DB="")
    before = none.databases()
    name = none.run("backup", "crm", "--json").document["name"]
    try:
        done = none.run("restore", "--latest", "--database", "crm", "--yes")
        assert done.code == 0, done.said
        assert "To go back: hubbackup restore --undo --database crm" in done.out
        assert "`hubbackup restore --undo --database crm` brings it back" in done.err
        for database, kept in (("crm", 1), ("shop", 0)):
            shown = none.run("status", "--database", database, "--json").document
            assert len(shown["kept_databases"]) == kept, database
        done = none.run("restore", "--latest", "--in-place", "--database", "crm", "--yes")
        assert done.code == 0, done.said
        assert re.search(r"To go back: hubbackup restore crm_backup_\S+ --database crm$", done.out, re.MULTILINE)
        assert none.run("restore", name, "--into", "beside", "--yes").code == 0
        asked = none.run("restore", "--latest", "--into", "beside2", "--yes")
        assert (asked.code, asked.sentences[1]) == (2, "  what to do: name the backup: hubbackup list")
    finally:
        none.drop(*(none.databases() - before))
    found = {one["name"]: one for one in none.run("doctor", "--json").document["findings"]}
    assert found["run lock"]["sentence"] == "crm, shop: runs lock the database against others, from wherever"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"BACKUP_DATABASES": "shop_*"}, "patterns are for BACKUP_EXCLUDE_DATABASES"),
        ({"BACKUP_EXCLUDE_DATABASES": "a,,b"}, "has an empty name"),
        ({"BACKUP_DATABASES": "shop,crm"}, "BACKUP_DATABASES is not *"),
    ],
)
def test_malformed_lists_are_refused(program: Program, settings: dict[str, str], sentence: str) -> None:
    """One sentence that names the variable, exit code 2, nothing done."""
    done = program.run("backup", **settings)
    assert done.code == 2
    assert len(done.sentences) == 2
    assert sentence in done.sentences[0]
    assert "BACKUP_" in done.sentences[0]
    assert program.files() == {}


def test_leaving_out_all_of_them_is_a_failure(program: Program) -> None:
    """A run that finds no database to back up is not a good one; a pattern that leaves nothing out is said."""
    done = program.run("backup", "--json", BACKUP_EXCLUDE_DATABASES="*")
    assert (done.code, done.document["message"]) == (2, "the server has no database to back up")
    doctor = program.run("doctor", "--json", BACKUP_EXCLUDE_DATABASES="nosuch*").document["findings"]
    (found,) = [one for one in doctor if one["name"] == "databases"]
    assert found["status"] == "warn"
    assert "nosuch*" in found["sentence"]


# -- the daemon


def test_the_daemon_starts_with_those_that_lack_a_backup(program: Program) -> None:
    """At its first start the daemon backs up every database, at a later one only those whose last slot was missed."""
    program = program.but(BACKUP_SCHEDULE="0 3 * * *", DRILL_SCHEDULE="off", VERIFY_SCHEDULE="off")
    with running(program) as daemon:
        assert daemon.wait_for("backup.catch_up")[0]["reason"] == "first"
        (ended,) = daemon.wait_for("backup.finished")
        made = {one["database"]: one["name"] for one in ended["databases"]}
        assert made.keys() == ROWS.keys()
        assert set(daemon.events("daemon.started")[0]["databases"]) == ROWS.keys()
        assert daemon.stop() == 143
    age(program, made["crm"], 3)
    with running(program) as daemon:
        assert daemon.wait_for("backup.catch_up")[0]["reason"] == "missed"
        assert daemon.wait_for("backup.finished")[0]["database"] == "crm"
        daemon.has_settled()
        assert len(daemon.events("backup.started")) == 1


def test_silence_about_one_of_them_is_an_alarm(program: Program) -> None:
    """Databases whose backups have stopped are overdue, though the others have theirs: one message for all, once a
    day; a database without any backup counts from when it was first looked at."""
    names = names_of(program.run("backup", "--json"))
    now = datetime.now(UTC)
    with http_sink() as sink:
        wanted = {"BACKUP_DATABASES": "crm,shop,wiki", "BACKUP_EXCLUDE_DATABASES": ""}
        values = program.but(NOTIFICATION_URLS=sink.apprise_url, **wanted).env()

        def look(hours: float) -> list[str]:
            """What was told at the look of a new process, in so many hours."""
            before = len(sink.titles)
            watch(App(load_settings(values), cancel=Cancel(), log=get_logger()), now + timedelta(hours=hours))
            return sink.titles[before:]

        assert look(0) == []
        age(program, names["crm"], 2)
        (told,) = look(0.1)
        assert "no good backup of crm on" in told
        assert look(0.2) == []
        (told,) = look(48)
        assert "no good backup of crm on" in told
        assert "Others, too:   shop, wiki" in sink.requests[-1][2]["message"]


def test_a_changed_list_is_taken_up_at_once(program: Program, tmp_path: Path) -> None:
    """The daemon takes up another BACKUP_DATABASES while it runs; what it can't use it refuses aloud."""
    file = tmp_path / ".env.production"
    file.write_text("BACKUP_DATABASES=shop\n")
    ours = ("BACKUP_DATABASES", "BACKUP_EXCLUDE_DATABASES")
    settings = {name: value for name, value in program.settings.items() if name not in ours}
    program = Program(tmp_path, settings, program.psql)
    quiet = {"BACKUP_SCHEDULE": NEVER, "DRILL_SCHEDULE": "off", "BACKUP_ON_FIRST_START": "false"}
    with running(program, BACKUP_ENV_FILE=str(file), **quiet) as daemon:
        assert daemon.wait_for("daemon.started")[0]["database"] == "shop"
        file.write_text("BACKUP_DATABASES=shop,crm\n")
        assert daemon.wait_for("daemon.started", 2)[1]["databases"] == ["shop", "crm"]
