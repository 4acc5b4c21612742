"""What the person who typed a command sees: the answer once, a failure once; and JSON where nobody looks on."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.program import Program, for_server
from tests.support.s3 import S3Server
from tests.support.terminal import on_terminal

STEPS = {
    "1": ("prove ", "load ", "indexes and constraints ", "compare ", "statistics "),
    "2": ("prove ", "load: 0 of 1 tables, 0 of 0 indexes", "compare ", "statistics "),
}
"""Of a restore, by how many sessions load."""
ABSENT = "the database absent does not exist"


@pytest.fixture(scope="module")
def database(postgres18: EmbeddedPostgres) -> Iterator[str]:
    with postgres18.temporary_database() as name:
        postgres18.psql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS i", database=name)
        yield name


@pytest.fixture
def program(postgres18: EmbeddedPostgres, database: str, tmp_path: Path) -> Program:
    return for_server(postgres18, database, tmp_path)


def without_bucket(program: Program, s3: S3Server) -> Program:
    settings = {
        "S3_BACKUP_BUCKET": "no-such-bucket",
        "S3_ENDPOINT_URL": s3.endpoint_url,
        "AWS_ACCESS_KEY_ID": s3.access_key_id,
        "AWS_SECRET_ACCESS_KEY": "secret-of-the-test",
    }
    return replace(program, settings={**program.settings, **settings})


def test_a_success_is_shown_once(program: Program) -> None:
    """A backup typed on a terminal answers with one line; the log file has the run all the same."""
    log = program.directory / "hubbackup.log"
    seen = on_terminal(program, "backup", LOG_FILE=str(log))
    assert seen.code == 0
    (line,) = seen.lines
    assert re.fullmatch(r"Backup termine: \S+\.sql\.gz \([0-9.]+ kB, 1 tables, 1000 rows\) in local", line)
    events = [json.loads(line)["event"] for line in log.read_text().splitlines()]
    assert events[0] == "backup.started"
    assert events[-1] == "backup.finished"


def test_a_failure_is_shown_once_with_its_remedy(program: Program) -> None:
    """One sentence and what to do, and the closing line only in the log file."""
    log = program.directory / "hubbackup.log"
    seen = on_terminal(program, "backup", POSTGRES_DB="absent", LOG_FILE=str(log))
    assert seen.code == 1
    assert len(seen.lines) == 2
    assert seen.lines[0].startswith("hubbackup: ")
    assert ABSENT in seen.lines[0]
    assert seen.lines[1].startswith("  what to do: ")
    assert json.loads(log.read_text().splitlines()[-1])["event"] == "backup.failed"


def test_a_missing_directory_is_shown_once(program: Program) -> None:
    """Where the store that fails is the only one, no warning comes before the failure."""
    shutil.rmtree(program.backups)
    seen = on_terminal(program, "backup")
    assert seen.code == 1
    assert [line.split(":")[0] for line in seen.lines] == ["hubbackup", "  what to do"]


def test_a_copy_that_lacks_is_shown_once_with_its_remedy(program: Program, s3: S3Server) -> None:
    """A degraded backup: the guide's sentence with what to do, the answer, and the cause not a second time."""
    seen = on_terminal(without_bucket(program, s3), "backup")
    assert seen.code == 3, seen.lines
    warnings = [line.partition(": ")[0] for line in seen.lines if not line.startswith("  what to do: ")]
    assert warnings == ["warning", "AVERTISSEMENT", "Backup termine"], seen.lines
    assert seen.lines[0].startswith("warning: could not list the unfinished uploads: ")
    assert re.match(r"AVERTISSEMENT: Echec upload S3: .*there is no bucket no-such-bucket", seen.lines[-3])
    assert seen.lines[-2].startswith("  what to do: ")


def test_a_damaged_copy_is_in_the_answer_and_not_in_a_log_line(program: Program) -> None:
    """`verify` names the copy in its list and in the failure, as it does where nobody looks on."""
    assert on_terminal(program, "backup").code == 0
    name = next(name for name in program.files() if name.endswith(".sql.gz"))
    data = bytearray((program.backups / name).read_bytes())
    data[len(data) // 2] ^= 1
    (program.backups / name).write_bytes(data)
    seen = on_terminal(program, "verify")
    assert seen.code == 1
    assert [line.split()[0] for line in seen.lines] == ["bad", "hubbackup:", "what"]


def test_marks_are_answered_by_a_sentence(program: Program) -> None:
    """`pin` and `unpin` say what the backup is now, and where."""
    name = program.backup().name
    assert on_terminal(program, "pin", name).lines == [f"{name} is pinned in local"]
    assert on_terminal(program, "unpin", name).lines == [f"{name} is no longer pinned in local"]


def test_a_warning_is_a_sentence(program: Program) -> None:
    """A misspelt setting is named before the answer, without a time, fields, or JSON."""
    warning, answer = on_terminal(program, "backup", BACKUP_RETENTION_DAY="30").lines
    assert re.fullmatch(r"warning: BACKUP_RETENTION_DAY .*did you mean BACKUP_RETENTION_DAYS\?", warning)
    assert answer.startswith("Backup termine: ")


def test_debug_shows_everything(program: Program) -> None:
    """LOG_LEVEL=debug shows each line of the log on the terminal too, for people."""
    seen = on_terminal(program, "backup", LOG_LEVEL="debug")
    assert any("backup.started" in line for line in seen.lines)
    assert any("backup.finished" in line for line in seen.lines)
    assert not any(line.startswith("{") for line in seen.lines)


@pytest.mark.parametrize("wanted", ["json", "console"])
def test_a_pipe_gets_every_line(program: Program, wanted: str) -> None:
    """Where stderr is not a terminal the log is what LOG_FORMAT says, by default JSON: scripts read it."""
    done = program.run("backup", LOG_FORMAT=wanted)
    assert done.out.startswith("Backup termine: ")
    if wanted == "json":
        assert [event["event"] for event in done.events][-1] == "backup.finished"
        assert done.sentences == []
    else:
        assert done.events == []
        assert "backup.finished" in done.err


@pytest.mark.parametrize(("settings", "code"), [({}, 0), ({"POSTGRES_DB": "absent"}, 1)])
def test_one_document_on_stdout_alone(program: Program, settings: dict[str, str], code: int) -> None:
    """With `--json`, stdout holds one document, of a success and of a failure; the terminal at most the failure."""
    seen = on_terminal(program, "backup", "--json", stdout_piped=True, **settings)
    assert json.loads(seen.piped)["exit_code"] == seen.code == code
    assert len(seen.lines) == 2 * code, seen.lines


def test_one_document_where_all_is_a_terminal(program: Program) -> None:
    """`hubbackup backup --json` typed: what is on the terminal is the document."""
    seen = on_terminal(program, "backup", "--json")
    assert json.loads("\n".join(seen.lines))["exit_code"] == seen.code == 0


def test_the_list_fits_the_terminal(program: Program) -> None:
    """At 80 columns each backup is one line with its whole name, and the header too; a pipe has every column."""
    name = program.backup().name
    header, row = on_terminal(program, "list", columns=80).lines
    assert header.split()[:4] == ["NAME", "AGE", "SIZE", "COPIES"]
    assert row.startswith(f"{name}  ")
    assert max(len(header), len(row)) <= 80
    assert len(program.run("list").out.splitlines()[0].split()) == 10


def test_an_empty_list_says_so(program: Program) -> None:
    """Not a header alone: that there is none yet, where it was looked for, and what to type. JSON stays a list."""
    for seen in (on_terminal(program, "list").lines, program.run("list").out.splitlines()):
        assert seen == [f"no backups yet in {program.backups}", "  to take one now: hubbackup backup"]
    assert program.run("list", "--json").document == []


@pytest.mark.parametrize("jobs", sorted(STEPS))
def test_every_part_of_a_restore_is_seen_at_work(program: Program, jobs: str) -> None:
    """The proof and the load in bytes, and that the server is busy: never a still terminal; then only the answer."""
    program.backup()
    into = f"{program.database}_seen"
    try:
        seen = on_terminal(program, "restore", "--latest", "--into", into, "--yes", "--jobs", jobs)
    finally:
        program.drop(into)
    assert seen.code == 0
    places = [seen.written.index(f"\x1b[2K{step}") for step in STEPS[jobs]]
    assert places == sorted(places)
    assert "0.0/? bytes" not in seen.written
    told = ["backup", "database"] + ["load"] * (jobs != "1")
    assert [line.split()[0] for line in seen.lines] == [*told, seen.lines[-1].split()[0]]


def test_a_verification_is_seen_at_work(program: Program) -> None:
    """Its bytes, and nothing of that stays."""
    name = program.backup().name
    seen = on_terminal(program, "verify")
    assert "\x1b[2Kverify local " in seen.written
    assert [line.split()[:2] for line in seen.lines] == [["ok", name]]


def test_remedies_are_those_of_the_scripts(program: Program) -> None:
    """Whoever typed ./scripts/… is told what to type there: in errors, in their JSON, in the table and the answer."""
    called = {"HUBBACKUP_CALLED_AS": "./scripts/hubbackup"}
    done = program.run("restore", "--json", **called)
    assert done.document["remedy"] == "./scripts/hubbackup list has the names"
    assert "what to do: ./scripts/hubbackup list" in done.err
    shown = program.run("status", **called).out
    assert "now: ./scripts/hubbackup backup" in shown
    program.backup()
    try:
        again = program.run("restore", "--latest", "--yes", **called)
        assert "To go back: ./scripts/restore.sh --undo" in again.out
        assert program.run("restore", "--undo", "--yes").code == 0
    finally:
        program.drop(*program.derived("before"))
