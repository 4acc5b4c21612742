"""The schema drill: what can't be restored is known the same night, kept, marked, and counts for nothing."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.containers import drill_containers, postgres_container, psql_in
from tests.support.docker_proxy import docker_proxy
from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.program import Done, Program, for_container, for_server

TABLES = (
    "CREATE TABLE chantiers (id int PRIMARY KEY, ville text); INSERT INTO chantiers VALUES (1, 'Lyon'), (2, 'Gap');"
)
BROKEN = """
CREATE FUNCTION incremented(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + 1';
CREATE FUNCTION rank(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT incremented($1)';
CREATE INDEX by_rank ON chantiers (rank(id));
"""
"""In the live database the name is found by search_path; a restore has none."""
WHY = "CREATE INDEX by_rank ON public.chantiers USING btree (public.rank(id)): function incremented(integer) does not"
MENDED = "ALTER FUNCTION rank(int) SET search_path = public;"


@pytest.fixture
def hub(postgres16: EmbeddedPostgres, tmp_path: Path) -> Iterator[Program]:
    """A database whose schema is tried in a scratch database of the same server, which was chosen by name."""
    before = set(postgres16.psql("SELECT datname FROM pg_database").splitlines())
    with postgres16.temporary_database("hub_chantier") as database:
        postgres16.psql(TABLES, database=database)
        yield for_server(postgres16, database, tmp_path, DRILL_TARGET="database", BACKUP_SCHEMA_DRILL="true")
    assert set(postgres16.psql("SELECT datname FROM pg_database").splitlines()) == before


def events(done: Done, name: str) -> list[dict[str, Any]]:
    return [event for event in done.events if event["event"] == name]


def marks(hub: Program) -> list[str]:
    return sorted(path.name for path in hub.backups.glob("*.unrestorable"))


def listed(hub: Program) -> dict[str, list[str]]:
    """The words of doubt about each backup."""
    found = json.loads(hub.run("list", "--json").out)
    return {one["name"]: [doubt["word"] for doubt in one["doubts"]] for one in found}


def test_a_schema_that_restores_is_tried_once(hub: Program) -> None:
    """After the first backup, and after one whose schema is new; rows and sequences are no reason."""
    passed = [events(hub.run("backup", "--json"), "schema_drill.passed") for _ in range(2)]
    assert [len(found) for found in passed] == [1, 0]
    hub.psql("INSERT INTO chantiers VALUES (3, 'Die')", database=hub.database)
    assert not events(hub.run("backup", "--json"), "schema_drill.passed")
    hub.psql("ALTER TABLE chantiers ADD COLUMN rue text", database=hub.database)
    assert events(hub.run("backup", "--json"), "schema_drill.passed")
    assert marks(hub) == []


def test_a_schema_is_tried_again_after_a_week(hub: Program) -> None:
    """The server's image may have changed."""
    hub.run("backup", "--json")
    state = hub.backups / ".hubbackup" / "schemas.json"
    proofs = json.loads(state.read_text())
    proof = proofs[hub.database]
    proof["passed_at"] = proof["passed_at"].replace("202", "201", 1)
    state.write_text(json.dumps(proofs))
    assert events(hub.run("backup", "--json"), "schema_drill.passed")


def test_a_schema_that_is_refused(hub: Program) -> None:
    """Exit 3 with the statement, the reason and the remedy; kept, marked, listed; nothing is pruned."""
    good = hub.backup().name
    old = hub.redate(good, timedelta(days=30))
    hub.psql(BROKEN, database=hub.database)
    done = hub.run("backup", "--json")
    assert done.code == 3, done.said
    name = str(done.document["name"])
    assert done.document["unrestorable"].startswith(WHY)
    assert "RESTORE_SEARCH_PATH" in done.document["remedy"]
    assert "ALTER FUNCTION … SET search_path" in done.document["remedy"]
    assert [problem.split(": CREATE")[0] for problem in done.document["problems"]] == [
        "this backup can't be restored"
    ]
    assert done.event("schema_drill.refused")["cause"].startswith(WHY)
    assert done.document["pruned"] == []
    assert done.event("prune.frozen")["name"] == name
    assert marks(hub) == [name.replace(".sql.gz", ".unrestorable")]
    assert listed(hub) == {old: [], good: [], name: ["unrestorable"]}
    assert (hub.backups / name).is_file()
    checked = hub.run("check")
    assert (checked.code, f"unrestorable: {WHY}" in checked.out) == (2, True), checked.said
    status = json.loads(hub.run("status", "--json").out)
    assert status["verdict"] == "critical"
    assert any(WHY in finding["text"] for finding in status["findings"])


def test_latest_passes_over_it_and_a_mended_schema_ends_it(hub: Program) -> None:
    """`--latest` and the drill take the last that restores, and say so; what the remedy says works as it stands."""
    good = hub.backup().name
    hub.psql(BROKEN, database=hub.database)
    refused = str(hub.run("backup", "--json").document["name"])
    for command in (["restore", "--latest", "--into", "elsewhere", "--yes"], ["drill"]):
        done = hub.run(*command, "--json")
        assert (done.code, done.document["name"]) == (0, good), done.said
        assert f"{refused} is passed over: it is unrestorable: {WHY}" in done.event("source.skipped")["message"]
    hub.drop("elsewhere")
    assert hub.run("restore", refused, "--into", "elsewhere", "--yes").code == 1
    hub.psql(MENDED, database=hub.database)
    done = hub.run("backup", "--json")
    assert done.code == 0, done.said
    assert not events(done, "prune.frozen")
    assert hub.run("drill", "--json").document["name"] == done.document["name"]


def test_a_drill_of_it_that_passes_takes_the_mark_away(hub: Program) -> None:
    """As does one of the schema, with the mark in whichever store; a schema that is refused stays marked, exit 1."""
    name = hub.backup().name
    mark = hub.backups / name.replace(".sql.gz", ".unrestorable")
    for command in (["drill", "--schema", name], ["drill", name]):
        mark.write_text('{"why": "it was the image"}')
        assert listed(hub) == {name: ["unrestorable"]}
        done = hub.run(*command)
        assert done.code == 0, done.said
        assert marks(hub) == []
    hub.psql(BROKEN, database=hub.database)
    refused = str(hub.run("backup", "--json").document["name"])
    mark = hub.backups / refused.replace(".sql.gz", ".unrestorable")
    mark.unlink()
    done = hub.run("drill", "--schema", refused)
    assert done.code == 1, done.said
    assert "CREATE INDEX by_rank" in done.err
    assert WHY in json.loads(mark.read_text())["why"]


@pytest.mark.parametrize(
    "schema",
    [
        "CREATE MATERIALIZED VIEW m AS SELECT 1 / count(*) AS n FROM chantiers;",
        "CREATE MATERIALIZED VIEW m AS SELECT 1 / count(*) FROM chantiers; CREATE MATERIALIZED VIEW n AS TABLE m;",
        "CREATE FUNCTION no_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'frozen'; END $$;"
        "CREATE EVENT TRIGGER frozen ON ddl_command_start EXECUTE FUNCTION no_ddl();",
        "CREATE TABLE ddl_log (tag text); CREATE FUNCTION log_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$"
        " BEGIN INSERT INTO public.ddl_log VALUES (tg_tag); END $$;"
        "CREATE EVENT TRIGGER audit ON ddl_command_end EXECUTE FUNCTION log_ddl();",
        "SELECT lo_from_bytea(0, 'abc'); COMMENT ON TABLE chantiers IS 'REFRESH MATERIALIZED VIEW x; COPY';",
    ],
    ids=["a view divides by no rows", "a view of it", "DDL is forbidden", "DDL is logged", "large objects"],
)
def test_what_needs_rows_or_fires_on_ddl_is_no_reason(hub: Program, schema: str) -> None:
    """A schema that restores with its rows is not called unrestorable for want of them."""
    hub.psql(schema, database=hub.database)
    done = hub.run("backup", "--json")
    hub.psql("DROP EVENT TRIGGER IF EXISTS frozen; DROP EVENT TRIGGER IF EXISTS audit;", database=hub.database)
    assert done.code == 0, done.said
    assert events(done, "schema_drill.passed")


def test_a_view_that_finds_a_name_no_more_is_refused(hub: Program) -> None:
    """Also where it is computed only at the end of a restore."""
    hub.psql(
        "CREATE FUNCTION incremented(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + 1';"
        "CREATE FUNCTION rank(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT incremented($1)';"
        "CREATE MATERIALIZED VIEW ranks AS SELECT rank(id) FROM chantiers;",
        database=hub.database,
    )
    done = hub.run("backup", "--json")
    assert done.code == 3, done.said
    assert done.document["unrestorable"].startswith(
        "REFRESH MATERIALIZED VIEW public.ranks: function incremented(integer) does not exist"
    )


def test_over_libpq_a_role_of_its_own_tries_it(hub: Program) -> None:
    """Without anybody's choice the database's code never runs as a superuser in the live server."""
    hub.psql("CREATE ROLE lecture; GRANT SELECT ON chantiers TO lecture;", database=hub.database)
    unasked = hub.but(DRILL_TARGET="")
    try:
        done = unasked.run("backup", "--json")
        assert done.code == 0, done.said
        assert events(done, "schema_drill.passed")
        hub.psql(BROKEN, database=hub.database)
        done = unasked.run("backup", "--json")
        assert (done.code, done.document["unrestorable"].startswith(WHY)) == (3, True), done.said
    finally:
        hub.psql("DROP OWNED BY lecture; DROP ROLE lecture;", database=hub.database)
    assert not hub.psql("SELECT rolname FROM pg_roles WHERE rolname ~ 'hubbackup'")


def test_what_takes_a_superuser_is_not_tried_unasked(hub: Program) -> None:
    """It is said once, is no problem, and costs one try a day."""
    hub.psql("CREATE FUNCTION f() RETURNS int LANGUAGE internal AS 'int4pl'", database=hub.database)
    unasked = hub.but(DRILL_TARGET="")
    first, second = (unasked.run("backup", "--json") for _ in range(2))
    assert (first.code, second.code) == (0, 0), first.said
    skipped = first.event("schema_drill.skipped")
    assert skipped["level"] == "warning"
    assert "nobody but the superuser" in skipped["cause"]
    assert "DRILL_TARGET=database" in skipped["remedy"]
    assert not events(second, "schema_drill.skipped")
    state = unasked.backups / ".hubbackup" / "schemas.json"
    proofs = json.loads(state.read_text())
    proof = proofs[unasked.database]
    proof["skipped_at"] = proof["skipped_at"].replace("202", "201", 1)
    state.write_text(json.dumps(proofs))
    again = unasked.run("backup", "--json")
    assert again.event("schema_drill.skipped")["level"] == "info"
    assert hub.run("drill", "--schema").code == 0, "DRILL_TARGET=database chooses it"


def test_the_search_path_of_a_load_is_that_of_its_schema_drill(hub: Program) -> None:
    """What RESTORE_SEARCH_PATH lets restore is not called unrestorable."""
    hub.psql(BROKEN, database=hub.database)
    done = hub.run("backup", "--json", RESTORE_SEARCH_PATH="public")
    assert done.code == 0, done.said
    assert events(done, "schema_drill.passed")
    assert hub.run("restore", "--latest", "--into", "elsewhere", "--yes", RESTORE_SEARCH_PATH="public").code == 0
    hub.drop("elsewhere")


def test_it_can_be_switched_off(hub: Program) -> None:
    """Then no backup is tried, and none is marked."""
    hub.psql(BROKEN, database=hub.database)
    done = hub.run("backup", "--json", BACKUP_SCHEMA_DRILL="false")
    assert done.code == 0, done.said
    assert marks(hub) == []


# ------------------------------------------------------------------------------------------------------------- docker


@pytest.fixture(scope="module")
def container(docker_engine: str) -> Iterator[str]:
    with postgres_container() as name:
        psql_in(name, TABLES)
        yield name


def test_a_throwaway_server_tries_it(container: str, tmp_path: Path) -> None:
    """With the roles of the backup, a tablespace, and nothing left behind; once for one schema."""
    docker = ["docker", "exec", "--user=postgres", container, "mkdir", "-p", "/tmp/fast"]
    subprocess.run(docker, check=True, capture_output=True)
    psql_in(container, "CREATE ROLE lecture; GRANT SELECT ON chantiers TO lecture;")
    psql_in(container, "CREATE TABLESPACE fast LOCATION '/tmp/fast'")
    psql_in(container, "CREATE TABLE quick (id int) TABLESPACE fast;")
    hub = for_container(container, tmp_path, BACKUP_SCHEMA_DRILL="true")
    first, second = (hub.run("backup", "--json") for _ in range(2))
    assert (first.code, second.code) == (0, 0), first.said
    assert [len(events(done, "schema_drill.passed")) for done in (first, second)] == [1, 0], first.said
    assert drill_containers(container) == []


def test_no_server_to_be_had_is_no_problem_of_the_backup(container: str, tmp_path: Path) -> None:
    """An engine that makes no containers for us: a warning with its words, exit 0, no mark; the next day again."""
    hub = for_container(container, tmp_path, BACKUP_SCHEMA_DRILL="true")
    with docker_proxy() as proxy:
        proxy.forbidden = "POST .*/containers/create"
        first, second = (hub.run("backup", "--json", DOCKER_HOST=proxy.url) for _ in range(2))
        by_hand = hub.run("drill", "--schema", DOCKER_HOST=proxy.url)
    assert (first.code, second.code, by_hand.code) == (0, 0, 1), first.said
    assert "forbidden here" in first.event("schema_drill.skipped")["cause"]
    assert not events(second, "schema_drill.skipped")
    assert "forbidden here" in by_hand.err
    assert marks(hub) == []


def test_a_kill_in_the_middle_leaves_no_server(container: str, tmp_path: Path) -> None:
    """The backup is published already; what is left of the drill goes with the next run that needs one."""
    hub = for_container(container, tmp_path, BACKUP_SCHEMA_DRILL="true")
    process = hub.fork("backup", output=tmp_path / "killed")
    deadline = time.monotonic() + 60
    while not drill_containers(container):
        assert time.monotonic() < deadline, (tmp_path / "killed").read_text()
        threading.Event().wait(0.05)
    process.kill()
    assert len(list(hub.backups.glob("*.manifest.json"))) == 1
    assert marks(hub) == []
    done = hub.run("drill", "--schema")
    assert done.code == 0, done.said
    assert drill_containers(container) == []


# ----------------------------------------------------------------------------------------------------------- in place


def test_in_place_drops_nothing_for_what_cannot_be_restored(hub: Program) -> None:
    """One sentence with the statement and the remedy; the live database is as it was, and no backup was taken."""
    hub.psql(BROKEN, database=hub.database)
    refused = str(hub.run("backup", "--json").document["name"])
    files = set(hub.files())
    done = hub.run("restore", refused, "--in-place", "--yes")
    assert done.code == 1, done.said
    assert f"--in-place has not dropped the live database, since {refused} can't be restored: {WHY}" in done.err
    assert "RESTORE_SEARCH_PATH" in done.err
    assert set(hub.files()) == files
    assert hub.psql("SELECT count(*) FROM chantiers", database=hub.database) == "2"


def test_in_place_drops_nothing_that_could_not_be_brought_back(hub: Program) -> None:
    """The live database's own schema is tried too, by its safety backup; `--untried` leaves that to the operator."""
    good = hub.backup().name
    hub.psql(BROKEN, database=hub.database)
    done = hub.run("restore", good, "--in-place", "--yes")
    assert done.code == 1, done.said
    assert f"since the live database's own schema can't be restored: {WHY}" in done.err
    assert hub.psql("SELECT count(*) FROM chantiers", database=hub.database) == "2"
    assert not hub.derived("loaded")
    done = hub.run("restore", good, "--in-place", "--untried", "--yes")
    assert done.code == 0, done.said


def test_in_place_without_a_server_to_try_it_in(hub: Program) -> None:
    """`--yes` alone is not enough then: it takes `--untried`, or somebody on a terminal who reads it."""
    hub.psql("CREATE FUNCTION f() RETURNS int LANGUAGE internal AS 'int4pl'", database=hub.database)
    name = hub.backup().name
    (hub.backups / ".hubbackup" / "schemas.json").unlink()
    unasked = hub.but(DRILL_TARGET="")
    done = unasked.run("restore", name, "--in-place", "--yes")
    assert done.code == 2, done.said
    assert "whether the schema restores could not be tried: nobody but the superuser" in done.err
    assert "add --untried" in done.err
    assert hub.psql("SELECT count(*) FROM chantiers", database=hub.database) == "2"
    assert unasked.run("restore", name, "--in-place", "--untried", "--yes").code == 0
    assert unasked.run("restore", name, "--untried", "--yes").code == 2


def test_after_the_drop_nothing_is_dropped(hub: Program) -> None:
    """What only the rows show comes too late: what was loaded stays under the name that is said, also through the
    remedy, which works as it is typed."""
    hub.psql(
        "CREATE FUNCTION fine(int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN"
        " IF current_setting('hub.broken', true) = 'yes' THEN RAISE 'row refused'; END IF; RETURN true; END $$;"
        "ALTER TABLE chantiers ADD CHECK (fine(id));",
        database=hub.database,
    )
    name = hub.backup().name
    hub.psql("INSERT INTO chantiers VALUES (3, 'Die')", database=hub.database)
    hub.psql("ALTER ROLE CURRENT_USER SET hub.broken = 'yes'")
    try:
        done = hub.run("restore", name, "--in-place", "--yes")
    finally:
        hub.psql("ALTER ROLE CURRENT_USER RESET hub.broken")
    assert done.code == 1, done.said
    assert "row refused" in done.err
    (kept,) = hub.derived("loaded")
    assert f"what was loaded is kept as {kept}" in done.err
    assert hub.database not in hub.databases()
    assert done.event("restore.kept")["kept"] == kept
    remedy = done.err.strip().splitlines()[-1].split("safety backup: hubbackup ")[1].split()
    again = hub.run(*remedy)
    assert again.code == 0, again.said
    assert hub.psql("SELECT count(*) FROM chantiers", database=hub.database) == "3"
    assert hub.derived("loaded") == [kept], "no later restore takes it for a leftover"
    hub.drop(kept)
