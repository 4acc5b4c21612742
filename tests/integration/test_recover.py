"""Recover: one table's rows of a backup beside today's, and back where they were, on real servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.program import DATABASE, Done, Program, for_server
from tests.support.terminal import at_terminal

Make = Callable[..., Program]
BASE = """
CREATE TABLE chantiers (id serial PRIMARY KEY, nom text NOT NULL, note text);
INSERT INTO chantiers (nom, note) SELECT 'chantier ' || g, nullif(g % 3, 0)::text FROM generate_series(1, 100) g;
"""


@contextmanager
def made(
    server: EmbeddedPostgres,
    directory: Path,
    sql: str,
    options: str = "TEMPLATE template0",
    database: str = DATABASE,
) -> Iterator[Program]:
    hub = for_server(server, database, directory)
    before = hub.databases()
    server.create_database(database, options=options)
    try:
        server.psql(sql, database=database)
        hub.backup()
        yield hub
    finally:
        hub.drop(*(hub.databases() - before))


@pytest.fixture
def make(postgres: EmbeddedPostgres, tmp_path: Path) -> Iterator[Make]:
    """The program, a database of this SQL, and a backup of it; then what happened since."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def start(sql: str = BASE, since: str = "", **options: str) -> Program:
            hub = stack.enter_context(made(postgres, tmp_path, sql, **options))
            if since:
                hub.psql(since, database=DATABASE)
            return hub

        yield start


def rows(hub: Program, query: str) -> list[str]:
    return hub.psql(query, database=hub.database).splitlines()


def recovered(hub: Program, *arguments: str) -> dict[str, Any]:
    done = hub.run("recover", *arguments, "--yes", "--json")
    assert done.code == 0, done.said
    assert hub.sessions() == []
    document = done.document
    assert isinstance(document, dict)
    return document


def refused(hub: Program, *arguments: str, code: int = 2, untouched: str = "") -> Done:
    """It ends with this code and a sentence, and what the query shows is as before."""
    before = rows(hub, untouched) if untouched else []
    done = hub.run("recover", *arguments, "--yes")
    assert done.code == code, done.said
    assert "Traceback" not in done.err
    assert hub.sessions() == []
    if untouched:
        assert rows(hub, untouched) == before
    return done


def counts(found: dict[str, Any]) -> tuple[int, ...]:
    return tuple(found[name] for name in ("missing", "different", "only_live", "inserted", "updated"))


# ------------------------------------------------------------------------------------------- what was found, and done

EMPTIED = """
DELETE FROM chantiers WHERE id <= 30;
UPDATE chantiers SET nom = upper(nom) WHERE id BETWEEN 50 AND 52;
UPDATE chantiers SET note = NULL WHERE id = 52;
INSERT INTO chantiers (nom) VALUES ('new');
"""


def test_without_apply_nothing_is_changed(make: Make) -> None:
    """Missing, different and only live are counted and shown, 20 of each at most; nothing is written."""
    hub = make(since=EMPTIED)
    before = rows(hub, "SELECT * FROM chantiers ORDER BY id")
    done = hub.run("recover", "chantiers")
    assert done.code == 0, done.said
    assert "public.chantiers has 100 rows" in done.out
    assert "missing    30 rows" in done.out
    assert "    id 1, nom chantier 1, note 1\n" in done.out
    assert "    … and 10 more\n" in done.out
    assert "different  3 rows (live -> backup): nom in 3 rows, note in 1 row\n" in done.out
    assert "    52: nom CHANTIER 52 -> chantier 52, note NULL -> 1\n" in done.out
    assert "only live  1 row" in done.out
    assert "--apply missing" in done.out
    assert rows(hub, "SELECT * FROM chantiers ORDER BY id") == before
    found = recovered(hub, "chantiers")
    assert counts(found) == (30, 3, 1, 0, 0)
    assert found["key"] == ["id"]
    assert len(found["missing_sample"]) == 20
    assert found["different_sample"][2] == {
        "key": {"id": "52"},
        "columns": {
            "nom": {"backup": "chantier 52", "live": "CHANTIER 52"},
            "note": {"backup": "1", "live": None},
        },
    }
    assert found["only_live_sample"] == [{"id": "101", "nom": "new", "note": None}]


def test_apply_missing_then_changed(make: Make) -> None:
    """`missing` inserts and touches no row that is there; `changed` sets back what differs; what is new stays; a
    second time there is nothing to do."""
    hub = make(since=EMPTIED)
    name = hub.files()
    found = recovered(hub, "chantiers", "--apply", "missing")
    assert counts(found) == (30, 3, 1, 30, 0)
    assert rows(hub, "SELECT count(*), count(*) FILTER (WHERE nom LIKE 'CH%') FROM chantiers") == ["101|3"]
    assert counts(recovered(hub, "chantiers", "--apply", "changed")) == (0, 3, 1, 0, 3)
    backed = "SELECT count(*) FROM chantiers WHERE nom = 'chantier ' || id AND note IS NOT DISTINCT FROM"
    assert rows(hub, f"{backed} nullif(id % 3, 0)::text") == ["100"]
    assert rows(hub, "SELECT nom FROM chantiers WHERE id = 101") == ["new"]
    done = hub.run("recover", "chantiers", "--apply", "changed", "--yes")
    assert done.code == 0, done.said
    assert "nothing was changed" in done.out
    assert hub.files().keys() == name.keys()


def test_the_closing_line_has_the_counts_and_no_row(make: Make) -> None:
    """The log tells how many rows, and never what is in them."""
    hub = make(since=EMPTIED)
    done = hub.run("recover", "chantiers", "--apply", "changed", "--yes")
    last = done.event("recover.finished")
    assert (last["inserted"], last["updated"], last["table"]) == (30, 3, "public.chantiers")
    assert "chantier 1" not in done.err


TYPES = """
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TYPE pair AS (a int, b text);
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TABLE everything (id int PRIMARY KEY, b bool, i2 int2, n numeric, f4 real, f8 float8, t text, v varchar(5),
  c char(4), raw bytea, at timestamptz, d date, took interval, j json, jb jsonb, ints int[], texts text[],
  p pair, m mood, dom positive, r int4range, ip inet, u uuid, bits bit(3), pt point, ps pair[], ts tsvector);
INSERT INTO everything (id) VALUES (2), (3), (4);
INSERT INTO everything VALUES (1, true, 1, 1.10, 'NaN', '-0', E'a\\tb\\n\\\\.', 'é', 'x', '\\xdeadbeef',
  '2026-02-08 03:00+01',
  '0044-03-15 BC', '1 year -2 days', '{"b":1,  "a":2}', '{"b":1, "a":2}', '[2:3]={1,NULL}', '{"",NULL,"N"}',
  '(1,"x, y")', 'sad', 5, '[1,5)', '::1', '00000000-0000-0000-0000-000000000001', '101', '(1,2)',
  ARRAY[ROW(1,'x')::pair], 'a:1 b:2');
UPDATE everything SET f8 = 0.1::float8 + 0.2, t = '' WHERE id = 3;
"""


def test_every_type_compares_as_it_is_written(make: Make) -> None:
    """Equal values of every kind are equal, also NULL, NaN and json; of changed ones each is seen, also where the
    type's own `=` sees no difference (1.10 and 1.1, -0 and 0) or where it has none (json, point)."""
    hub = make(TYPES)
    assert counts(recovered(hub, "everything")) == (0, 0, 0, 0, 0)
    before = rows(hub, "SELECT e::text FROM everything e ORDER BY id")
    hub.psql(
        """UPDATE everything SET b = NULL, i2 = 2, n = 1.1, f4 = 1, f8 = 0, t = 'x', v = 'e', c = 'y', raw = '',
        at = '2026-02-08 03:00+02', d = '2026-02-08', took = '363 days', j = '{"a":2, "b":1}', jb = '{"b":1}',
        ints = '{1,NULL}', texts = '{NULL,"","N"}', p = '(1,"x,y")', m = 'ok', dom = 6, r = '[1,6)',
        ip = '::2', u = '00000000-0000-0000-0000-000000000002', bits = '111', pt = '(1,3)',
        ps = ARRAY[ROW(2,'x')::pair], ts = 'a:1' WHERE id = 1;
        UPDATE everything SET f8 = 0.3 WHERE id = 3; UPDATE everything SET t = '' WHERE id = 4""",
        database=DATABASE,
    )
    found = recovered(hub, "everything", "--apply", "changed")
    assert counts(found) == (0, 3, 0, 0, 3)
    assert found["differing"] == dict.fromkeys(found["differing"], 1) | {"f8": 2, "t": 2}
    assert len(found["differing"]) == 26
    assert rows(hub, "SELECT e::text FROM everything e ORDER BY id") == before
    hub.psql("DELETE FROM everything", database=DATABASE)
    assert counts(recovered(hub, "everything", "--apply", "missing")) == (4, 0, 0, 4, 0)
    assert rows(hub, "SELECT e::text FROM everything e ORDER BY id") == before


def test_identity_generated_and_sequences(make: Make) -> None:
    """An identity keeps the backup's numbers, generated columns are the server's, and each sequence behind a column
    that got a larger number goes on behind it; one that is further stays."""
    hub = make(
        """CREATE SEQUENCE shared INCREMENT -5 START -5;
        CREATE TABLE a (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n int GENERATED BY DEFAULT AS IDENTITY,
          s serial, down int DEFAULT nextval('shared'), twice int GENERATED ALWAYS AS (s * 2) STORED);
        INSERT INTO a SELECT FROM generate_series(1, 40);""",
        since="TRUNCATE a RESTART IDENTITY; ALTER SEQUENCE shared RESTART; SELECT setval('a_n_seq', 1000);",
    )
    found = recovered(hub, "a", "--apply", "missing")
    assert counts(found) == (40, 0, 0, 40, 0)
    assert sorted(found["advanced"]) == ["public.a_id_seq: 40", "public.a_s_seq: 40", "public.shared: -200"]
    hub.psql("INSERT INTO a DEFAULT VALUES", database=DATABASE)
    assert rows(hub, "SELECT * FROM a WHERE id IN (40, 41) ORDER BY id") == ["40|40|40|-200|80", "41|1001|41|-205|82"]


def test_columns_that_came_and_went(make: Make) -> None:
    """What is not in the live table any more is left out, what is new gets its default or keeps what it has, what is
    generated now is the server's: each is said."""
    hub = make(
        "CREATE TABLE t (id int PRIMARY KEY, gone text, nom text, doubled int);"
        "INSERT INTO t SELECT g, 'gone', 'n' || g, 0 FROM generate_series(1, 5) g;",
        since="ALTER TABLE t DROP gone, ADD fresh text DEFAULT 'fresh', DROP doubled,"
        " ADD doubled int GENERATED ALWAYS AS (id * 2) STORED;"
        "DELETE FROM t WHERE id = 1; UPDATE t SET nom = 'x', fresh = 'mine' WHERE id = 2",
    )
    found = recovered(hub, "t", "--apply", "changed")
    assert counts(found) == (1, 1, 0, 1, 1)
    assert rows(hub, "SELECT * FROM t WHERE id < 3 ORDER BY id") == ["1|n1|fresh|2", "2|n2|mine|4"]
    said = " ".join(found["remarks"])
    for words in ("left out: gone", "not in the backup: fresh", "left to the server: doubled"):
        assert words in said


def test_a_type_that_changed_since(make: Make) -> None:
    """What can be read as the new type is; what can't is named with its row, and nothing is done."""
    hub = make(
        "CREATE TABLE t (id int PRIMARY KEY, a int, b text); INSERT INTO t VALUES (1, 7, '8'), (2, 9, 'ten')",
        since="DELETE FROM t; ALTER TABLE t ALTER a TYPE text, ALTER b TYPE int USING 0",
    )
    done = refused(hub, "t", "--apply", "missing", code=1, untouched="SELECT * FROM t")
    assert "does not fit public.t as it is now (row 2, column b)" in done.err
    assert "22P02" in done.err
    hub.psql("ALTER TABLE t ALTER b TYPE text", database=DATABASE)
    assert counts(recovered(hub, "t", "--apply", "missing")) == (2, 0, 0, 2, 0)


def test_shapes_that_are_rare(make: Make) -> None:
    """Tables named as our own aliases, keys of arrays, enums and NaN, a key alone, one that is deferred; more columns
    than a join can have, and a rule in the way, are said."""
    wide = ", ".join(f"c{number} int" for number in range(1599))
    hub = make(
        f"""CREATE TABLE b (l int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, b int, f int, at int, missing int);
        CREATE TYPE en AS ENUM ('x', 'y');
        CREATE TABLE l (k float8, e en, a int[], v int, PRIMARY KEY (k, e, a)); CREATE TABLE f (id int PRIMARY KEY);
        CREATE TABLE wide (id int PRIMARY KEY, {wide}); CREATE TABLE ruled (id int PRIMARY KEY);
        INSERT INTO b VALUES (1, 1, 1, 1, 1), (2, 2, 2, 2, 2); INSERT INTO f VALUES (1), (2);
        INSERT INTO l VALUES ('NaN', 'x', '{{1,NULL}}', 1), (0, 'y', '{{}}', 2);
        INSERT INTO wide (id) VALUES (1); INSERT INTO ruled VALUES (1)""",
        since="DELETE FROM b WHERE l = 1; UPDATE b SET b = 9; DELETE FROM l WHERE k = 0; UPDATE l SET v = 0;"
        "DELETE FROM f WHERE id = 1; DELETE FROM ruled; CREATE RULE r AS ON INSERT TO ruled DO INSTEAD NOTHING;",
    )
    for table, expected in {"b": (1, 1, 0, 1, 1), "l": (1, 1, 0, 1, 1), "f": (1, 0, 0, 1, 0)}.items():
        assert counts(recovered(hub, table, "--apply", "changed")) == expected
        assert counts(recovered(hub, table)) == (0, 0, 0, 0, 0)
    assert "has 1600 columns, 800 can be compared" in refused(hub, "wide").err
    assert "can't go back into public.ruled" in refused(hub, "ruled", "--apply", "missing", code=1).err


# --------------------------------------------------------------------------------------- what the live table demands

REFERRING = """
CREATE TABLE parents (id int PRIMARY KEY, mail text UNIQUE, n int CHECK (n < 100), boss int REFERENCES parents);
CREATE TABLE children (id int PRIMARY KEY, parent int REFERENCES parents DEFERRABLE INITIALLY DEFERRED);
INSERT INTO parents SELECT g, 'm' || g, g, nullif(g, 9) + 1 FROM generate_series(1, 9) g WHERE g < 10;
INSERT INTO children SELECT g, g FROM generate_series(1, 9) g;
"""


@pytest.mark.parametrize(
    ("since", "table", "code", "named"),
    [
        ("DELETE FROM children; DELETE FROM parents WHERE id = 1", "children", "23503", "(parent)=(1)"),
        ("DELETE FROM children; DELETE FROM parents WHERE id = 1; UPDATE parents SET mail = 'm1' WHERE id = 2",
         "parents", "23505", "(mail)=(m1)"),
        ("DELETE FROM children; DELETE FROM parents WHERE id = 1; ALTER TABLE parents ADD CHECK (n > 1)",
         "parents", "23514", "(1, m1, 1, 2)"),
        ("DELETE FROM children; DELETE FROM parents WHERE id = 1; ALTER TABLE parents ADD z int NOT NULL DEFAULT 1;"
         "ALTER TABLE parents ALTER z DROP DEFAULT", "parents", "23502", '"z"'),
    ],
)  # fmt: skip
def test_a_row_that_can_not_go_in_is_named(make: Make, since: str, table: str, code: str, named: str) -> None:
    """Foreign keys (deferred ones too), unique ones, CHECK and NOT NULL are checked, for a superuser as well; the row
    is named with the server's SQLSTATE, and nothing is changed."""
    hub = make(REFERRING, since=since)
    done = refused(hub, table, "--apply", "missing", code=1, untouched=f"SELECT * FROM {table} ORDER BY id")
    assert f"a row can't go back into public.{table}" in done.err
    assert f"SQLSTATE {code}" in done.err
    assert named in done.err
    assert "nothing was changed" in done.err


def test_rows_that_need_one_another(make: Make) -> None:
    """Rows of one table that refer to each other, and a value that moved to another row, go back in one step."""
    hub = make(
        REFERRING,
        since="DELETE FROM children; UPDATE parents SET boss = NULL; DELETE FROM parents WHERE id IN (1, 5);"
        "UPDATE parents SET mail = 'm1', boss = 2 WHERE id = 2",
    )
    assert counts(recovered(hub, "parents", "--apply", "changed")) == (2, 6, 0, 2, 6)
    assert rows(hub, "SELECT count(*) FROM parents WHERE mail = 'm' || id AND boss = id + 1") == ["8"]
    assert counts(recovered(hub, "children", "--apply", "missing")) == (9, 0, 0, 9, 0)


TRIGGERS = """
CREATE TABLE audit (what text);
CREATE TABLE t (id int PRIMARY KEY, n int, touched text);
INSERT INTO t SELECT g, g, 'then' FROM generate_series(1, 5) g;
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO audit VALUES (TG_OP || ' ' || NEW.id); RETURN NULL; END $$;
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF NEW.id = 4 THEN NEW.touched := 'now'; END IF; RETURN NEW; END $$;
CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF NEW.id = 2 THEN RETURN NULL; END IF; RETURN NEW; END $$;
CREATE TRIGGER note AFTER INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION touch();
"""


def test_triggers_fire_as_for_any_insert(make: Make) -> None:
    """The table's triggers fire, and find by the database's search_path what they name; a row that one of them
    changed is reported."""
    hub = make(TRIGGERS, since="DELETE FROM t WHERE id < 3; UPDATE t SET n = 0 WHERE id = 4; TRUNCATE audit")
    found = recovered(hub, "t", "--apply", "changed")
    assert counts(found) == (2, 1, 0, 2, 1)
    assert rows(hub, "SELECT what FROM audit ORDER BY 1") == ["INSERT 1", "INSERT 2", "UPDATE 4"]
    assert "1 rows are not as the backup has them: triggers of the table changed them" in found["remarks"]


def test_a_trigger_that_keeps_a_row_out(make: Make) -> None:
    """Fewer rows than were promised: all is rolled back, and said."""
    since = "DELETE FROM t WHERE id < 3; CREATE TRIGGER keep BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION keep()"
    hub = make(TRIGGERS, since=since)
    done = refused(hub, "t", "--apply", "missing", code=1, untouched="SELECT * FROM t ORDER BY id")
    assert "1 of 2 would have been inserted" in done.err
    assert "nothing was changed" in done.err


# ------------------------------------------------------------------------------------------------------ the question

QUESTION = "Type yes to go on: "


@pytest.mark.parametrize(
    "meanwhile",
    [
        "INSERT INTO chantiers VALUES (1, 'somebody else''s')",
        "UPDATE chantiers SET nom = 'changed again' WHERE id = 50",
        "DELETE FROM chantiers WHERE id = 51",
    ],
)
def test_rows_that_change_while_it_is_asked(make: Make, meanwhile: str) -> None:
    """What was promised can't be kept: nothing is written, and it is said."""
    hub = make(since=EMPTIED)
    with at_terminal(hub, "recover", "chantiers", "--apply", "changed") as operator:
        operator.wait_for(QUESTION)
        assert "This will insert 30 rows and set back 3 rows in public.chantiers" in operator.said
        hub.psql(meanwhile, database=DATABASE)
        before = rows(hub, "SELECT * FROM chantiers ORDER BY id")
        operator.type("yes\n")
        assert operator.end() == 1, operator.said
    assert "nothing was changed" in operator.said
    assert rows(hub, "SELECT * FROM chantiers ORDER BY id") == before


@pytest.mark.parametrize(("typed", "code"), [("yes\n", 0), ("y\n", 2), ("\x04", 2), ("\x03", 130)])
def test_what_is_typed(make: Make, typed: str, code: int) -> None:
    """Only `yes` goes on; anything else changes nothing."""
    hub = make(since=EMPTIED)
    with at_terminal(hub, "recover", "chantiers", "--apply", "missing") as operator:
        operator.wait_for(QUESTION)
        operator.type(typed)
        assert operator.end() == code, operator.said
    assert rows(hub, "SELECT count(*) FROM chantiers") == ["101" if code == 0 else "71"]
    assert hub.sessions() == []


def test_killed_at_the_question(make: Make) -> None:
    """The server takes the session back by itself; nothing was changed, no table of ours is left."""
    hub = make(since=EMPTIED)
    with at_terminal(hub, "recover", "chantiers", "--apply", "missing") as operator:
        operator.wait_for(QUESTION)
        operator.process.kill()
        operator.process.wait()
    hub.psql(
        "DO $$ BEGIN FOR i IN 1..200 LOOP EXIT WHEN NOT EXISTS (SELECT FROM pg_stat_activity WHERE"
        " application_name LIKE 'hubbackup-%'); PERFORM pg_sleep(0.05); PERFORM pg_stat_clear_snapshot(); END LOOP;"
        " END $$"
    )
    assert hub.sessions() == []
    assert rows(hub, "SELECT count(*) FROM chantiers") == ["71"]
    assert rows(hub, "SELECT count(*) FROM pg_class WHERE relname LIKE 'hubbackup%'") == ["0"]


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        (["chantiers", "--apply", "missing"], "nobody is there to confirm this"),
        (["chantiers", "--apply", "all", "--yes"], "--apply takes missing or changed"),
        (["chantiers", "--from", "x", "--latest"], "not both"),
        (["chantiers", "--key", " "], "--key is empty"),
        (["chantiers", "--where", ""], "it is empty"),
        ([], "TABLE"),
    ],
)
def test_wrong_usage_is_refused_before_anything(tmp_path: Path, arguments: list[str], cause: str) -> None:
    """Exit 2 with a sentence. There is no server here: whatever would ask one ends with exit 1."""
    nowhere = {"POSTGRES_DB": DATABASE, "BACKUP_SOURCE": "direct", "PGHOST": "127.0.0.1", "PGPORT": "1"}
    done = Program(tmp_path, nowhere).run("recover", *arguments)
    assert done.code == 2, done.said
    assert cause in done.err


# ------------------------------------------------------------------------------------------------ keys and conditions

KEYS = """
CREATE TABLE keyed (a int NOT NULL, b text NOT NULL, c int, j json, UNIQUE (b, a) INCLUDE (c));
CREATE UNIQUE INDEX ON keyed (c); CREATE UNIQUE INDEX ON keyed (a) WHERE a > 2;
CREATE UNIQUE INDEX ON keyed (lower(b));
INSERT INTO keyed SELECT g, 'b' || g, g, '{}' FROM generate_series(1, 5) g;
CREATE TABLE bare (a int, b text); INSERT INTO bare VALUES (1, 'x'), (2, 'y'), (2, 'z'), (NULL, 'n');
"""


def test_a_table_without_a_primary_key(make: Make) -> None:
    """A unique index will do whose columns are NOT NULL, and which is neither partial nor on an expression."""
    hub = make(KEYS, since="DELETE FROM keyed WHERE a = 3; UPDATE keyed SET c = 0 WHERE a = 4")
    found = recovered(hub, "keyed", "--apply", "changed")
    assert found["key"] == ["b", "a"]
    assert counts(found) == (1, 1, 0, 1, 1)


def test_what_is_not_null_only_from_now_on(postgres18: EmbeddedPostgres, tmp_path: Path) -> None:
    """From PostgreSQL 18, rows with a NULL may stand in a column that is NOT NULL but NOT VALID: such a unique index
    is no key, and neither is one WITHOUT OVERLAPS. Both are said to be none, and not that there is none."""
    tables = """
        CREATE TABLE later (a int, b int); CREATE UNIQUE INDEX ON later (a);
        INSERT INTO later VALUES (NULL, 1), (2, 2); ALTER TABLE later ADD CONSTRAINT filled NOT NULL a NOT VALID;
        CREATE TABLE booked (place int4range, at int4range, PRIMARY KEY (place, at WITHOUT OVERLAPS));
        INSERT INTO booked VALUES ('[1,2)', '[1,9)');"""
    with made(postgres18, tmp_path, tables) as hub:
        for table in ("later", "booked"):
            said = refused(hub, table).err
            assert f"the table {table} has no key that its rows can be compared by" in said
            assert "NOT VALID" in said
            assert "WITHOUT OVERLAPS" in said
        assert "1 rows have a NULL in it" in refused(hub, "later", "--key", "a").err
        hub.psql("DELETE FROM later WHERE a IS NULL; ALTER TABLE later VALIDATE CONSTRAINT filled", database=DATABASE)
        found = recovered(hub, "later")
        assert found["key"] == ["a"]
        assert counts(found) == (1, 0, 0, 0, 0)


def test_rows_from_before_a_key(make: Make) -> None:
    """Rows of the backup that have a NULL where there is a key by now are missing, however many: none is taken for
    another. They can't go in, and the rest can."""
    hub = make(
        "CREATE TABLE t (a int, b int); INSERT INTO t VALUES (1, 1), (2, 2), (NULL, 3), (NULL, 4);",
        since="DELETE FROM t WHERE a IS NULL OR a = 2; ALTER TABLE t ADD PRIMARY KEY (a)",
    )
    assert counts(recovered(hub, "t")) == (3, 0, 0, 0, 0)
    assert "23502" in refused(hub, "t", "--apply", "missing", code=1, untouched="TABLE t").err
    found = recovered(hub, "t", "--where", "a IS NOT NULL", "--apply", "missing")
    assert counts(found) == (1, 0, 0, 1, 0)


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        (["bare"], "no key that its rows can be compared by"),
        (["bare", "--key", "a"], "1 keys stand in several rows"),
        (["bare", "--key", "nope"], "the backup has no column nope"),
        (["bare", "--key", "a,"], "not a list of columns"),
        (["keyed", "--key", "j"], "have no order"),
    ],
)
def test_what_is_no_key(looked_at: Program, arguments: list[str], cause: str) -> None:
    """Exit 2, and --key is named or what is wrong with it."""
    assert cause in refused(looked_at, *arguments).err


def test_a_key_that_is_typed(make: Make) -> None:
    """--key takes the place of one that the table lacks, as long as it tells rows apart on both sides."""
    hub = make(KEYS, since="DELETE FROM bare WHERE b = 'y'; UPDATE bare SET a = 9 WHERE b = 'z'")
    found = recovered(hub, "bare", "--key", "B", "--apply", "changed")
    assert counts(found) == (1, 1, 0, 1, 1)
    assert rows(hub, "SELECT * FROM bare ORDER BY b") == ["|n", "1|x", "2|y", "2|z"]
    hub.psql("INSERT INTO bare VALUES (5, 'z')", database=DATABASE)
    done = refused(hub, "bare", "--key", "b")
    assert "rows of the live table apart" in done.err


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("id < 11", (10, 0, 0)),
        ("chantiers.id < 11 OR nom = 'new'", (10, 0, 1)),
        ("(id IN (50, 51)) AND nom ~ E'chantier \\\\d' AND $x$a)$x$ = 'a)'", (0, 2, 0)),
        ('"note" IS NULL', (10, 1, 1)),
        ("true", (30, 3, 1)),
        ("id = (SELECT 5)", (1, 0, 0)),
    ],
)
def test_a_condition(looked_at: Program, condition: str, expected: tuple[int, ...]) -> None:
    """It chooses among the backup's rows, and among the live ones those that only live there."""
    found = recovered(looked_at, "chantiers", "--where", condition)
    assert counts(found)[:3] == expected


@pytest.mark.parametrize(
    ("condition", "cause"),
    [
        ("id <", "syntax error"),
        ("nope = 1", '"nope" does not exist'),
        ("id", "must be type boolean"),
        ("id, true", "must be type boolean"),
        ("f(id)", "its schema"),
        ("id = 'x'", "invalid input syntax"),
        ("true); DELETE FROM chantiers; SELECT (true", "not one condition"),
        ("true) OR (true", "not one condition"),
        ("true) UNION SELECT 1 FROM (SELECT 1) x WHERE (true", "not one condition"),
        ("true -- all", "a comment"),
        ("true /* all */", "a comment"),
        ("(true", "a parenthesis is not closed"),
        ("nom = 'x", "a string in it has no end"),
        ('"nom', "a quoted name in it has no end"),
        ("nom = :'USER'", "syntax error"),
        ("true \\! touch x", "syntax error"),
    ],
)
def test_what_is_no_condition(looked_at: Program, condition: str, cause: str) -> None:
    """Whatever is not one boolean expression is exit 2 with the reason, and nothing is run of it."""
    asked = ["chantiers", "--where", condition, "--apply", "missing"]
    done = refused(looked_at, *asked, untouched="SELECT * FROM chantiers ORDER BY id")
    assert cause in done.err, done.said


# ------------------------------------------------------------------------------------------ which table, which backup

SHAPES = """
CREATE TABLE plain (id int PRIMARY KEY); INSERT INTO plain VALUES (1);
CREATE VIEW seen AS SELECT * FROM plain;
CREATE MATERIALIZED VIEW kept AS SELECT * FROM plain;
CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing;
CREATE FOREIGN TABLE far (id int) SERVER nowhere;
CREATE TABLE gone (id int PRIMARY KEY);
CREATE TABLE turned (id int PRIMARY KEY);
"""
RESHAPED = "DROP TABLE gone, turned; CREATE VIEW turned AS SELECT 1 AS id"


@pytest.fixture(scope="module")
def looked_at(postgres18: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """One database for all that only look, or are refused."""
    with made(postgres18, tmp_path_factory.mktemp("backups"), BASE + KEYS + SHAPES, database="looked_at") as hub:
        hub.psql(EMPTIED + RESHAPED, database=hub.database)
        yield hub


@pytest.mark.parametrize(
    ("table", "cause", "remedy"),
    [
        ("seen", "public.seen is a view", ""),
        ("kept", "public.kept is a materialized view", ""),
        ("far", "public.far is a foreign table", ""),
        ("plane", "there is no table plane in looked_at_backup_", "public.plain"),
        ("gone", "the live database has no table public.gone", "--into NEW --table public.gone"),
        ("turned", "in the live database public.turned is a view", ""),
    ],
)
def test_what_has_no_rows_to_bring_back(looked_at: Program, table: str, cause: str, remedy: str) -> None:
    """Views of both kinds, foreign tables, unknown ones and ones that are gone: exit 2, and what to do."""
    done = refused(looked_at, table)
    assert cause in done.err
    assert remedy in done.err


PARTED = """
CREATE TABLE parts (id int, at date, n int, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE parts_2 (n int, at date NOT NULL, id int NOT NULL);
ALTER TABLE parts ATTACH PARTITION parts_2 FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
CREATE TABLE parts_3 PARTITION OF parts FOR VALUES FROM ('2026-03-01') TO ('2026-04-01') PARTITION BY LIST (id);
CREATE TABLE parts_3a PARTITION OF parts_3 DEFAULT;
INSERT INTO parts SELECT g, '2026-01-01'::date + g, g FROM generate_series(1, 80) g;
"""


def test_a_partitioned_table_is_its_leaves(make: Make) -> None:
    """All of its partitions together, whatever the order of their columns; a row whose partition is gone is named."""
    hub = make(PARTED, since="DELETE FROM parts WHERE id % 2 = 0; UPDATE parts SET n = 0 WHERE id = 33")
    found = recovered(hub, "parts", "--apply", "changed")
    assert counts(found) == (40, 1, 0, 40, 1)
    assert rows(hub, "SELECT count(*), sum(n), count(*) FILTER (WHERE at = '2026-01-01'::date + id) FROM parts") == [
        "80|3240|80"
    ]
    hub.psql("DROP TABLE parts_2", database=DATABASE)
    done = refused(hub, "parts", "--apply", "missing", code=1, untouched="SELECT * FROM parts ORDER BY id")
    assert "no partition of relation" in done.err
    hub.psql("DELETE FROM parts_3", database=DATABASE)
    assert counts(recovered(hub, "public.parts_3a", "--apply", "missing"))[3] == 22


def test_children_that_inherit_are_tables_of_their_own(make: Make) -> None:
    """What a table has by itself is compared with what it has by itself."""
    hub = make(
        "CREATE TABLE up (id int PRIMARY KEY); CREATE TABLE down (PRIMARY KEY (id)) INHERITS (up);"
        "INSERT INTO up VALUES (1); INSERT INTO down VALUES (2), (3)",
        since="DELETE FROM ONLY up",
    )
    assert counts(recovered(hub, "up", "--apply", "missing")) == (1, 0, 0, 1, 0)
    assert rows(hub, "SELECT count(*) FROM up") == ["3"]


NAMES = [
    ('"Odd ""one"" \\ \'x\' :n $$"', '"Odd ""one"" \\ \'x\' :n $$"'),
    ("é" * 31 + "x", "É".lower() * 31 + "x"),
    ('"b"', "b"),
    ('"pg_class"', "public.pg_class"),
    ('"{a,b} 100%s \n"', '"{a,b} 100%s \n"'),
]


@pytest.mark.parametrize(("name", "typed"), NAMES)
def test_any_name(make: Make, name: str, typed: str) -> None:
    """Of tables and columns: quotes, spaces, backslashes, 63 bytes, what psql or format() take for theirs."""
    sql = f"CREATE TABLE public.{name} (id int PRIMARY KEY, {name} text, at text, missing text);"
    hub = make(
        sql + f"INSERT INTO public.{name} SELECT g, 'x', 'y', 'z' FROM generate_series(1, 9) g;",
        since=f"DELETE FROM public.{name} WHERE id = 1; UPDATE public.{name} SET {name} = NULL, at = '' WHERE id = 2",
    )
    found = recovered(hub, typed, "--apply", "changed", "--where", f"{name} = 'x'")
    assert counts(found) == (1, 1, 0, 1, 1)
    assert rows(hub, f"SELECT count(*) FROM public.{name} WHERE {name} = 'x' AND at = 'y'") == ["9"]


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_other_encodings(make: Make, postgres: EmbeddedPostgres, encoding: str) -> None:
    """Names and values in a database that is not in UTF-8, and in one that knows no encoding."""
    hub = make(
        'CREATE TABLE "Été" (id int PRIMARY KEY, "é" text); INSERT INTO "Été" VALUES (1, \'à\'), (2, \'ü\')',
        since='UPDATE "Été" SET "é" = \'ù\' WHERE id = 1; DELETE FROM "Été" WHERE id = 2',
        options=f"TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'",
    )
    found = recovered(hub, "Été", "--apply", "changed", "--where", "\"é\" <> 'x'")
    assert found["differing"] == {"é": 1}
    assert found["different_sample"][0]["columns"] == {"é": {"backup": "à", "live": "ù"}}
    assert rows(hub, 'SELECT * FROM "Été" ORDER BY id') == ["1|à", "2|ü"]


def test_bytes_that_are_no_text(make: Make) -> None:
    """In SQL_ASCII a value or a name may be any bytes: they come back as they were."""
    hub = make(
        "SET client_encoding = 'SQL_ASCII'; CREATE TABLE t (id int PRIMARY KEY, raw text);"
        "INSERT INTO t VALUES (1, E'\\xe9\\xff'); DO $$ BEGIN EXECUTE E'ALTER TABLE t ADD \"\\xe9\" text'; END $$;",
        since="DELETE FROM t",
        options="TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'",
    )
    assert counts(recovered(hub, "t", "--apply", "missing")) == (1, 0, 0, 1, 0)
    assert rows(hub, "SELECT encode(raw::bytea, 'hex') FROM t") == ["e9ff"]


def test_a_backup_of_another_major(
    postgres16: EmbeddedPostgres, postgres18: EmbeddedPostgres, tmp_path: Path
) -> None:
    """Rows that 16 dumped go back into the table on 18."""
    with made(postgres16, tmp_path, BASE) as old:
        for path in old.backups.iterdir():
            if path.is_file():
                path.touch()
    with made(postgres18, tmp_path, BASE) as hub:
        hub.psql("DELETE FROM chantiers WHERE id > 90", database=DATABASE)
        name = min(name for name in hub.files() if name.endswith(".sql.gz"))
        assert hub.manifest(name).server_version.startswith("16")
        assert counts(recovered(hub, "chantiers", "--from", name, "--apply", "missing")) == (10, 0, 0, 10, 0)


def test_a_damaged_backup_is_not_used(make: Make) -> None:
    """A flipped byte is found before the database is asked for anything."""
    hub = make(since=EMPTIED)
    [path] = hub.backups.glob("*.sql.gz")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    done = refused(hub, "chantiers", "--from", path.name, "--apply", "missing", code=1)
    assert "is damaged" in done.err
    assert rows(hub, "SELECT count(*) FROM chantiers") == ["71"]


# --------------------------------------------------------------------------------------------------- rights and traps


def test_a_role_without_rights(make: Make, postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    """No temporary tables, no right to read, rows that row security hides, no right to write: each is said, and
    nothing is half done."""
    hub = make(
        BASE + "ALTER TABLE chantiers ENABLE ROW LEVEL SECURITY; CREATE POLICY few ON chantiers USING (id < 50);"
        "CREATE ROLE plain LOGIN PASSWORD 'plain-password';"
        f"REVOKE TEMPORARY ON DATABASE {DATABASE} FROM PUBLIC",
        since=EMPTIED,
    )
    plain = hub.but(POSTGRES_USER="plain", POSTGRES_PASSWORD="plain-password")
    grant = lambda sql: hub.psql(sql, database=DATABASE)  # noqa: E731
    try:
        assert "may not make temporary tables" in refused(plain, "chantiers", code=1).err
        grant(f"GRANT TEMPORARY ON DATABASE {DATABASE} TO plain")
        assert "row-level security" in refused(plain, "chantiers", code=1).err
        grant("ALTER ROLE plain BYPASSRLS")
        assert "permission denied" in refused(plain, "chantiers", code=1).err
        grant("GRANT SELECT ON chantiers TO plain")
        assert counts(recovered(plain, "chantiers")) == (30, 3, 1, 0, 0)
        assert "can't be written" in refused(plain, "chantiers", "--apply", "missing", code=1).err
        grant("GRANT INSERT ON chantiers TO plain")
        found = recovered(plain, "chantiers", "--apply", "missing")
        assert counts(found) == (30, 3, 1, 30, 0)
        assert "chantiers_id_seq can't be looked at" in " ".join(found["remarks"])
    finally:
        grant("DROP OWNED BY plain; DROP ROLE plain")


TRAPS = """
CREATE FUNCTION sprung() RETURNS boolean LANGUAGE plpgsql AS
  $$ BEGIN RAISE EXCEPTION 'sprung'; END $$;
CREATE FUNCTION eq(int, int) RETURNS boolean LANGUAGE sql AS 'SELECT sprung()';
CREATE FUNCTION eqt(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT sprung()';
CREATE FUNCTION eqi(tid, tid) RETURNS boolean LANGUAGE sql AS 'SELECT sprung()';
CREATE OPERATOR = (FUNCTION = eq, LEFTARG = int, RIGHTARG = int);
CREATE OPERATOR = (FUNCTION = eqt, LEFTARG = text, RIGHTARG = text);
CREATE OPERATOR = (FUNCTION = eqi, LEFTARG = tid, RIGHTARG = tid);
CREATE FUNCTION left(text, int) RETURNS text LANGUAGE sql AS 'SELECT sprung()::text';
CREATE FUNCTION row_text(public.t) RETURNS text LANGUAGE sql AS 'SELECT sprung()::text';
CREATE FUNCTION mood_text(public.mood) RETURNS text LANGUAGE sql AS 'SELECT sprung()::text';
CREATE CAST (public.t AS text) WITH FUNCTION row_text(public.t) AS IMPLICIT;
CREATE CAST (public.mood AS text) WITH FUNCTION mood_text(public.mood) AS IMPLICIT;
"""
SETTRAP = f"""
ALTER DATABASE {DATABASE} SET search_path = traps, pg_catalog, public;
ALTER DATABASE {DATABASE} SET default_transaction_read_only = on;
ALTER DATABASE {DATABASE} SET DateStyle = 'German';
ALTER DATABASE {DATABASE} SET extra_float_digits = -10;
ALTER DATABASE {DATABASE} SET statement_timeout = '1ms';
ALTER DATABASE {DATABASE} SET transform_null_equals = on;
"""


def test_other_peoples_objects_are_not_run(make: Make) -> None:
    """Functions, operators and casts of the database's users that a careless query would run are not run, whatever
    its search_path and settings are; dates and floats compare exactly."""
    hub = make(
        "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TABLE t (id int PRIMARY KEY, at date, f float8, m mood);"
        "INSERT INTO t SELECT g, '2026-02-01'::date + g, g / 7.0, 'ok' FROM generate_series(1, 20) g;"
        "CREATE SCHEMA traps; SET search_path = traps, pg_catalog;" + TRAPS,
        since="DELETE FROM t WHERE id < 5; UPDATE t SET f = f + 1e-15, at = at + 1, m = 'sad' WHERE id = 9;"
        + SETTRAP,
    )
    quiet = "SET default_transaction_read_only = off;"
    found = recovered(hub, "t", "--apply", "changed")
    assert counts(found) == (4, 1, 0, 4, 1)
    assert found["differing"] == {"at": 1, "f": 1, "m": 1}
    exact = "SET search_path = pg_catalog; SELECT pg_catalog.count(*) FROM public.t WHERE f = id / 7.0::float8"
    assert rows(hub, quiet + exact)[-1] == "20"
