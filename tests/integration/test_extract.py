"""`hubbackup extract`: one table's rows out of a backup, beside what the server itself says of them."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator

import pytest

from tests.support import forked
from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.odd_tables import PLAIN, TABLES
from tests.support.program import Program, for_server


@pytest.fixture(scope="module", params=["postgres16", "postgres18"])
def server(request: pytest.FixtureRequest) -> EmbeddedPostgres:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, EmbeddedPostgres)
    return found


@pytest.fixture(scope="module")
def program(server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with server.temporary_database() as database:
        server.psql(TABLES, database=database)
        made = for_server(server, database, tmp_path_factory.mktemp("extract"))
        made.backup()
        yield made


@pytest.fixture(scope="module")
def name(program: Program) -> str:
    return next(path.name for path in program.backups.iterdir() if path.name.endswith(".sql.gz"))


def run(program: Program, *arguments: str) -> tuple[int, bytes, str]:
    """Exit code, stdout byte for byte, and stderr."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = forked.start(["extract", *arguments], program.env(), program.directory, out.fileno(), err.fileno())
        code = process.wait(60)
        assert code is not None
        out.seek(0)
        err.seek(0)
        return code, out.read(), err.read().decode()


def extracted(program: Program, *arguments: str) -> bytes:
    code, out, said = run(program, *arguments)
    assert code == 0, said
    return out


def copied(server: EmbeddedPostgres, database: str, what: str, options: str) -> bytes:
    argv = [str(server.bin_dir / "psql"), "-XqAt", "-d", database, "-c", f"COPY {what} TO STDOUT {options}"]
    return subprocess.run(argv, env=server.env(), check=True, capture_output=True).stdout


def test_csv_is_what_the_server_writes(program: Program, server: EmbeddedPostgres, name: str) -> None:
    """Byte for byte `COPY … (FORMAT csv, HEADER)`: NULL, empty strings, quotes, line ends, a lone `\\.`."""
    for table in PLAIN:
        wanted = copied(server, program.database, table, "(FORMAT csv, HEADER)")
        assert extracted(program, name, "--table", table) == wanted, table


def test_copy_is_what_the_dump_holds(program: Program, server: EmbeddedPostgres, name: str) -> None:
    """COPY's own text, ready to be loaded again by `\\copy`."""
    for table in PLAIN:
        assert extracted(program, name, "--table", table, "--format", "copy") == copied(
            server, program.database, table, ""
        )


def test_rows_of_a_partitioned_table_come_together(program: Program, server: EmbeddedPostgres, name: str) -> None:
    """Of all its partitions, in its own order of columns, whatever theirs is; one without partitions has a header."""
    wanted = copied(server, program.database, "(SELECT * FROM pointages)", "(FORMAT csv, HEADER)")
    assert extracted(program, name, "--table", "pointages") == wanted
    plain = copied(server, program.database, "(SELECT * FROM pointages)", "")
    assert extracted(program, name, "--table", "pointages", "--format", "copy") == plain
    assert extracted(program, name, "--table", "unparted") == b"a,b\n"
    assert extracted(program, name, "--table", "pointages_2026", "--columns", "qui") == copied(
        server, program.database, "(SELECT qui FROM pointages_2026)", "(FORMAT csv, HEADER)"
    )


def test_columns_are_chosen_by_name(program: Program, server: EmbeddedPostgres, name: str) -> None:
    """In the order asked for, in both forms; names as psql takes them."""
    odd = '"od d"."t ""x"" ;"'
    for table, columns in (
        ("chantiers", "note, id"),
        (odd, '"é", "a,b"'),
        ("pointages", "heures, jour"),
        ("one", "A"),
    ):
        rows = f"(SELECT {columns} FROM {table})"
        asked = ("--table", table, "--columns", columns)
        assert extracted(program, name, *asked) == copied(server, program.database, rows, "(FORMAT csv, HEADER)")
        assert extracted(program, name, *asked, "--format", "copy") == copied(server, program.database, rows, "")


@pytest.mark.parametrize(
    ("asked", "code", "said"),
    [
        (("--table", "chantier"), 2, "nearest names there: public.chantiers"),
        (("--table", "seen"), 2, "public.seen is a view"),
        (("--table", "kept"), 2, "public.kept is a materialized view"),
        (("--table", "one", "--columns", "b"), 2, "public.one has no column b"),
        (("--table", "chantiers", "--columns", "nome"), 2, "nearest names there: nom"),
        (("--table", "one", "--columns", "a,a"), 2, "named twice"),
        (("--table", "one", "--columns", "a,"), 2, "not a list of columns"),
        (("--table", "one", "--columns", "a", "--format", "sql"), 2, "--columns can't go with --format sql"),
        (("--table", "one", "--format", "xml"), 2, "xml"),
        (("--table", "one", "--output", "no/such/file"), 2, "can't be written: No such file or directory"),
        (("--table", "one", "--output", "."), 2, "is there already"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_can_not_be_is_refused(
    program: Program, name: str, asked: tuple[str, ...], code: int, said: str
) -> None:
    """One sentence with the next step, exit code 2, nothing on stdout and no file."""
    before = program.files()
    found, out, errors = run(program, name, *asked)
    assert (found, out) == (code, b""), errors
    assert said in errors
    assert program.files() == before


def test_sql_makes_the_table_anew(program: Program, server: EmbeddedPostgres, name: str) -> None:
    """By psql alone, in an empty database, without one error: the same rows, the same DDL, and what it needs."""
    for table in (*PLAIN, "pointages", "unparted"):
        sql = extracted(program, name, "--table", table, "--format", "sql")
        with server.temporary_database("fresh") as fresh:
            loaded(server, fresh, sql)
            for options in ("", "(FORMAT csv, HEADER)"):
                what = f"(SELECT * FROM {'ONLY ' if table == 'ancestor' else ''}{table})"
                assert copied(server, fresh, what, options) == copied(server, program.database, what, options), table
            assert ddl(server, fresh, table) == ddl(server, program.database, table) - left_out(sql), table


def loaded(server: EmbeddedPostgres, database: str, sql: bytes) -> None:
    argv = [str(server.bin_dir / "psql"), "-Xq", "-v", "ON_ERROR_STOP=1", "-d", database]
    done = subprocess.run(argv, input=sql, env=server.env(), check=False, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b""), sql.decode(errors="replace")


def ddl(server: EmbeddedPostgres, database: str, table: str) -> set[str]:
    """The statements by which pg_dump makes one table, but for owners and the position of sequences."""
    argv = [str(server.bin_dir / "pg_dump"), "--no-owner", "-d", database, "-t", table]
    text = subprocess.run(argv, env=server.env(), check=True, capture_output=True, text=True).stdout
    lines = [line for line in text.splitlines() if not line.startswith(("--", "\\restrict", "\\unrestrict"))]
    return {" ".join(one.split()) for one in "\n".join(lines).split(";\n")}


def left_out(sql: bytes) -> set[str]:
    start = "-- Left out: "
    named = {line.removeprefix(start).rstrip(";") for line in sql.decode().splitlines() if line.startswith(start)}
    return named | {
        "COMMENT ON CONSTRAINT of_chantier ON public.devis IS 'left out too'",
        "COMMENT ON TRIGGER fires ON public.devis IS 'left out as well'",
    }


def test_sql_names_what_it_leaves_out(program: Program, name: str) -> None:
    """Foreign keys to other tables, triggers, what hangs below another table: as comments; a key to itself stays."""
    sql = extracted(program, name, "--table", "devis", "--format", "sql").decode()
    comments = [line for line in sql.splitlines() if line.startswith("--")]
    assert any(
        "ADD CONSTRAINT of_chantier FOREIGN KEY (chantier) REFERENCES public.chantiers" in one for one in comments
    )
    assert any("CREATE TRIGGER fires" in one for one in comments)
    assert "\nALTER TABLE ONLY public.devis\n    ADD CONSTRAINT devis_parent_fkey" in sql
    alone = extracted(program, name, "--table", "pointages_2025", "--format", "sql").decode()
    assert "-- Left out: ALTER TABLE ONLY public.pointages ATTACH PARTITION public.pointages_2025" in alone
    heir = extracted(program, name, "--table", "heir", "--format", "sql").decode()
    assert "-- Made too, without its rows: public.ancestor, which it inherits from" in heir


def test_sequences_go_on_where_they_were(program: Program, server: EmbeddedPostgres, name: str) -> None:
    """The next row of the new table gets the number that the old one would have given it."""
    sql = extracted(program, name, "--table", "chantiers", "--format", "sql")
    with server.temporary_database("fresh") as fresh:
        loaded(server, fresh, sql)
        asked = "INSERT INTO chantiers (nom) VALUES ('next') RETURNING id, num, other"
        assert server.psql(asked, database=fresh).split("\n")[0] == "9|15|9"


def test_a_file_is_there_whole_or_not_at_all(program: Program, server: EmbeddedPostgres, name: str) -> None:
    """Its owner's alone; one that is there is left as it is; a failure leaves nothing."""
    target = program.directory / "one.csv"
    code, out, said = run(program, name, "--table", "one", "--output", "one.csv")
    assert (code, out) == (0, b"")
    assert f"8 rows of public.one from {name} in {program.backups} are in one.csv" in said
    assert target.stat().st_mode & 0o777 == 0o600
    assert target.read_bytes() == copied(server, program.database, "one", "(FORMAT csv, HEADER)")
    before = set(program.directory.iterdir())
    target.write_text("mine")
    code, _, said = run(program, name, "--table", "one", "--output", "one.csv")
    assert (code, target.read_text()) == (2, "mine")
    assert "is there already" in said
    target.unlink()
    assert set(program.directory.iterdir()) == before - {target}
