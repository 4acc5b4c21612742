"""What a plain dump lacks, as `pg_dump --create` means it: settings before the load, rights exactly as they were."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.support.backups import signed_text
from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.fingerprint import diff, fingerprint
from tests.support.program import DATABASE, Program, for_server

SETTINGS = """
ALTER DATABASE :"name" SET timezone = 'Pacific/Auckland';
ALTER DATABASE :"name" SET default_text_search_config = 'pg_catalog.german';
ALTER DATABASE :"name" SET shop.branch = '7';
ALTER DATABASE :"name" SET search_path = "Filiale, Nord", public;
ALTER ROLE :"user" IN DATABASE :"name" SET shop.price = '50%';
ALTER DATABASE :"name" SET DateStyle = 'ISO, DMY';
"""
DEPENDENT = """
CREATE TABLE visits (at timestamptz, amount int, said text);
INSERT INTO visits VALUES ('2026-03-01 13:30+00', 3, 'die Häuser'), ('2026-03-01 10:00+00', 4, 'ein Haus');
CREATE MATERIALIZED VIEW days AS SELECT at::date AS day, sum(amount) FROM visits GROUP BY 1;
CREATE MATERIALIZED VIEW words AS SELECT to_tsvector(said)::text AS words FROM visits;
CREATE MATERIALIZED VIEW branch AS SELECT current_setting('shop.branch') AS b, current_setting('shop.price') AS p;
"""
HINDERING = """
ALTER DATABASE :"name" SET default_transaction_read_only = on;
ALTER DATABASE :"name" SET statement_timeout = '10min';
ALTER DATABASE :"name" SET default_transaction_isolation = 'serializable';
ALTER DATABASE :"name" SET session_replication_role = 'replica';
ALTER DATABASE :"name" SET array_nulls = off;
ALTER DATABASE :"name" SET lc_messages = 'C';
ALTER DATABASE :"name" CONNECTION LIMIT 0;
"""
OTHER_ROLES = """
DO $$
DECLARE role name;
BEGIN
    FOR role IN SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_' AND rolname <> current_user LOOP
        EXECUTE format('DROP ROLE %I', role);
    END LOOP;
END $$;
"""
CONFIG = """
SELECT unnest(setconfig) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = setdatabase
WHERE datname = :'name' ORDER BY 1;
"""
ACL = """
SELECT datacl IS NULL, datdba::regrole, (SELECT array_agg((grantee::regrole, privilege_type, is_grantable)
    ORDER BY grantee, privilege_type) FROM aclexplode(datacl)) FROM pg_database WHERE datname = :'name';
"""


@pytest.fixture(scope="module", params=[(16, "C"), (18, "C.UTF-8")], ids=["16", "18-UTF8"])
def hub(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A server with a database that each test makes anew."""
    major, locale = request.param
    with EmbeddedPostgres(major, locale=locale) as server:
        yield for_server(server, DATABASE, tmp_path_factory.mktemp("properties"))


def create(hub: Program, *scripts: str, options: str = "") -> None:
    """The database, with what the scripts make of it, each in a session of its own."""
    hub.drop(*(name for name in hub.databases() if name.startswith(DATABASE)))
    hub.psql(OTHER_ROLES)
    hub.psql(f'CREATE DATABASE :"name" TEMPLATE template0 {options}', variables={"name": DATABASE})
    variables = {"name": DATABASE, "user": hub.settings["POSTGRES_USER"]}
    for script in scripts:
        hub.psql(script, database=DATABASE, variables=variables)


def test_settings_come_before_the_load(hub: Program) -> None:
    """What a materialized view holds may depend on the time zone, the text search, a setting without a default."""
    create(hub, SETTINGS, DEPENDENT)
    good = fingerprint(hub.psql, DATABASE)
    assert "2026-03-02" in hub.psql("SELECT day FROM days", database=DATABASE)
    assert "'haus'" in hub.psql("SELECT words FROM words", database=DATABASE)
    name = hub.backup().name
    hub.drop(DATABASE)
    done = hub.run("restore", name, "--yes", "--json")
    assert done.code == 0, done.said
    assert done.document["remarks"] == []
    assert diff(good, fingerprint(hub.psql, DATABASE)) == []
    assert hub.psql("SELECT b, p FROM branch", database=DATABASE) == "7|50%"


def test_settings_that_would_hinder_the_load(hub: Program) -> None:
    """Read only, a millisecond for each statement, no connections: they come back, and hinder nothing."""
    create(hub, DEPENDENT.split("CREATE MATERIALIZED")[0])
    name_of = {"name": DATABASE}
    hub.psql("CREATE TABLE lists (a text[]); INSERT INTO lists VALUES ('{NULL,x}')", database=DATABASE)
    hub.psql(HINDERING, variables=name_of)
    name = hub.backup().name
    manifest = hub.backups / name.replace(".sql.gz", ".manifest.json")
    assert "statement_timeout=10min" in manifest.read_text()
    changed = json.loads(manifest.read_text().replace("statement_timeout=10min", "statement_timeout=1ms"))
    manifest.write_text(signed_text(hub.backups, changed))
    hub.drop(DATABASE)
    done = hub.run("restore", name, "--yes", "--json")
    assert done.code == 0, done.said
    assert done.document["remarks"] == []
    found = hub.psql(CONFIG, variables=name_of).split("\n")
    assert "statement_timeout=1ms" in found
    assert len(found) == HINDERING.count(" SET ")
    assert hub.psql("SELECT datconnlimit FROM pg_database WHERE datname = :'name'", variables=name_of) == "0"
    assert hub.psql("SELECT a[1] IS NULL FROM lists", database=DATABASE) == "t"


@pytest.mark.parametrize(
    "script",
    [
        "",
        'REVOKE ALL ON DATABASE :"name" FROM PUBLIC; REVOKE ALL ON DATABASE :"name" FROM :"user";',
        'REVOKE ALL ON DATABASE :"name" FROM PUBLIC;',
        'REVOKE TEMPORARY ON DATABASE :"name" FROM :"user";',
        'GRANT CREATE ON DATABASE :"name" TO pg_monitor WITH GRANT OPTION;',
        'GRANT CONNECT ON DATABASE :"name" TO pg_monitor; REVOKE CONNECT ON DATABASE :"name" FROM PUBLIC;',
    ],
)
def test_rights_exactly_as_they_were(hub: Program, script: str) -> None:
    """None at all is not the default ones: PUBLIC may not connect again after a restore."""
    create(hub, script)
    good = hub.psql(ACL, variables={"name": DATABASE})
    name = hub.backup().name
    hub.drop(DATABASE)
    done = hub.run("restore", name, "--yes", "--json")
    assert done.code == 0, done.said
    assert done.document["remarks"] == []
    assert hub.psql(ACL, variables={"name": DATABASE}) == good


@pytest.mark.parametrize(
    ("encoding", "text"), [("LATIN1", "café d'été"), ("EUC_JP", "現場の道具"), ("UTF8", "ça 現場")]
)
@pytest.mark.parametrize("way", ["--globals", "--no-owner", ""])
def test_other_encodings(hub: Program, encoding: str, text: str, way: str) -> None:
    """A database's comment, settings and the names of roles are bytes in the encoding of the session that wrote them:
    they come back as they were, a role included that no session in another encoding can name."""
    role = text.split(" ")[0]
    facts = """
        SELECT shobj_description(d.oid, 'pg_database'), datdba::regrole, pg_get_userbyid(relowner), setconfig, datacl
        FROM pg_database d LEFT JOIN pg_db_role_setting ON setdatabase = d.oid, pg_class
        WHERE datname = current_database() AND relname = 't'"""
    create(hub, options=f"ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'")
    made = f"""
        CREATE ROLE "{role}"; CREATE TABLE t AS SELECT '{text}'::text; ALTER TABLE t OWNER TO "{role}";
        COMMENT ON DATABASE :"name" IS $${text}, 100%$$; ALTER DATABASE :"name" SET shop.title = $${text}$$;
        GRANT CONNECT ON DATABASE :"name" TO "{role}"; ALTER DATABASE :"name" OWNER TO "{role}";
    """.replace(f"'{text}'", f"$${text}$$")
    session = "SET client_encoding = 'UTF8';"
    hub.psql(session + made, database=DATABASE, variables={"name": DATABASE})
    good = hub.psql(session + facts, database=DATABASE)
    assert text in good
    name = hub.backup().name
    again = hub.backup().name
    assert f'CREATE ROLE "{role}"' in hub.manifest(name).globals_sql.replace(f"ROLE {role};", f'ROLE "{role}";')
    if way:
        hub.psql(
            f'ALTER DATABASE :"name" OWNER TO CURRENT_USER; {session} DROP OWNED BY "{role}"; DROP ROLE "{role}"',
            database=DATABASE,
            variables={"name": DATABASE},
        )
    before = hub.psql("SELECT count(*) FROM pg_roles")
    done = hub.run("restore", again, *filter(None, [way]), "--yes", "--json")
    assert done.code == 0, done.said
    assert done.document["remarks"] == []
    found = hub.psql(session + facts, database=DATABASE)
    if way == "--no-owner":
        assert hub.psql("SELECT count(*) FROM pg_roles") == before
        assert text in found
        assert f"{role}=" not in found
    else:
        assert found == good


@pytest.mark.parametrize("owned", [True, False])
def test_roles_of_a_server_in_another_encoding(hub: Program, owned: bool) -> None:
    """Roles that were made in `postgres`, in UTF-8, come back byte for byte with a database in LATIN1, whether or not
    it needs them: another name would be one that no session in UTF-8 can read, a later backup's included."""
    create(hub, "CREATE TABLE t AS SELECT 1 a", options="ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'")
    made = ('gérant "du" chantier', "É…")
    for role in made:
        hub.psql('CREATE ROLE :"role"', variables={"role": role})
    if owned:
        own = "SELECT format('ALTER TABLE t OWNER TO %I', rolname) FROM pg_roles WHERE rolname ~ '^g.*r' \\gexec"
        hub.psql(own, database=DATABASE)
    names = "SELECT encode(rolname::text::bytea, 'hex') FROM pg_roles ORDER BY 1"
    good = hub.psql(names)
    name = hub.backup().name
    hub.drop(DATABASE)
    for role in made:
        hub.psql('DROP ROLE :"role"', variables={"role": role})
    try:
        done = hub.run("restore", name, "--globals", "--yes", "--json")
        assert done.code == 0, done.said
        assert hub.psql(names) == good
    finally:
        hub.drop(DATABASE, *hub.derived("before"))
        for role in made:
            hub.psql('DROP ROLE IF EXISTS :"role"', variables={"role": role})


def test_materialized_views_are_compared(hub: Program) -> None:
    """One that was out of date at the backup holds other rows after a restore: said, and no reason to fail."""
    made = '''
        CREATE TABLE t AS SELECT generate_series(1, 5) a;
        CREATE MATERIALIZED VIEW "frisch" AS SELECT a FROM t;
        CREATE MATERIALIZED VIEW "Alt, ""x""" AS SELECT a FROM t;
        CREATE MATERIALIZED VIEW leer AS SELECT a FROM t WITH NO DATA;
        INSERT INTO t VALUES (6); REFRESH MATERIALIZED VIEW frisch;'''
    create(hub, made)
    name = hub.backup().name
    assert hub.manifest(name).materialized_views == {
        "public.frisch": 6,
        'public."Alt, ""x"""': 5,
        "public.leer": None,
    }
    done = hub.run("restore", name, "--yes", "--json")
    assert done.code == 0, done.said
    (remark,) = done.document["remarks"]
    assert 'the materialized view public."Alt, ""x""" has 6 rows, at the backup it had 5' in remark


def test_rows_that_the_database_adds_itself(hub: Program) -> None:
    """An event trigger that writes down what is done: its rows from the load are a remark, those of the dump are all
    there."""
    made = """
        CREATE TABLE log (tag text);
        CREATE FUNCTION note() RETURNS event_trigger LANGUAGE plpgsql AS
            'BEGIN INSERT INTO public.log VALUES (tg_tag); END';
        CREATE MATERIALIZED VIEW m AS SELECT 1 AS a;
        CREATE EVENT TRIGGER audit ON ddl_command_end EXECUTE FUNCTION note();
        ALTER EVENT TRIGGER audit ENABLE ALWAYS;
        CREATE TABLE work (a int);"""
    create(hub, made)
    rows = int(hub.psql("SELECT count(*) FROM log", database=DATABASE))
    name = hub.backup().name
    for options in ([], ["--no-owner"]):
        done = hub.run("restore", name, "--yes", "--json", *options)
        assert done.code == 0, done.said
        assert int(hub.psql("SELECT count(*) FROM log", database=DATABASE)) >= rows
        assert all("public.log has" in remark for remark in done.document["remarks"])


def test_a_dropped_schema_public_stays_dropped(hub: Program) -> None:
    """Every new database has it, and pg_dump writes no DROP; one with another owner and other rights is as it was."""
    create(hub, "DROP SCHEMA public; CREATE SCHEMA app; CREATE TABLE app.t (n int); INSERT INTO app.t VALUES (1);")
    good = fingerprint(hub.psql, DATABASE)
    hub.backup()
    assert hub.run("restore", "--latest", "--yes").code == 0
    assert diff(good, fingerprint(hub.psql, DATABASE)) == []
    create(
        hub,
        "CREATE ROLE keeper; DROP SCHEMA public; CREATE SCHEMA public AUTHORIZATION keeper;"
        "GRANT CREATE ON SCHEMA public TO PUBLIC; COMMENT ON SCHEMA public IS 'ours'; CREATE TABLE public.t (n int);",
    )
    good = fingerprint(hub.psql, DATABASE)
    hub.backup()
    assert hub.run("restore", "--latest", "--yes").code == 0
    assert diff(good, fingerprint(hub.psql, DATABASE)) == []
