"""What machines read of a run never changes by itself: closing line, record in the history, `--json` document."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.program import Program, for_server
from tests.support.s3 import S3Server

GOLDEN = Path(__file__).parent / "golden" / "run_documents.txt"
MEASURED = re.compile(r"seconds|bytes|pid$|process_start|age|rate")
"""Figures of another run are other figures: of these only the type counts."""
MADE_UP = (
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+(\+00:00|Z)"), "TIME"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?\+00:00"), "TIME"),
    (re.compile(r"\d{8}T\d{6}-[0-9a-f]{6}"), "RUN"),
    (re.compile(r"(?<=_backup_)\d{8}_\d{6}"), "TIME"),
    (re.compile(r"(?<=_before_)\d{8}_\d{6}"), "TIME"),
    (re.compile(r"127\.0\.0\.1:\d+"), "HOST"),
    (re.compile(r"port \d+"), "port N"),
    (re.compile(r"is damaged: [^\"(]*[^\"( ]"), "is damaged: WHY"),
)


@pytest.fixture
def program(postgres16: EmbeddedPostgres, s3: S3Server, tmp_path: Path) -> Iterator[Program]:
    with postgres16.temporary_database("documents") as database:
        postgres16.psql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS i", database=database)
        checks = {"DRILL_SQL": "SELECT count(*) FROM t", "DRILL_TARGET": "database"}
        yield for_server(postgres16, database, tmp_path, **checks, **s3.settings(s3.bucket()))


def steady(value: Any, program: Program, key: str = "") -> Any:
    """`value` with what differs from run to run taken out; types, names and order stay."""
    if isinstance(value, dict):
        return {steady(name, program): steady(one, program, name) for name, one in value.items()}
    if isinstance(value, list):
        return [steady(one, program, key) for one in value]
    if isinstance(value, str):
        for path, word in ((str(program.directory), "DIR"), (program.settings["POSTGRES_DB"], "DB")):
            value = value.replace(path, word)
        value = value.replace(program.settings["S3_BACKUP_BUCKET"], "BUCKET")
        for pattern, word in MADE_UP:
            value = pattern.sub(word, value)
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and MEASURED.search(key):
        return type(value).__name__
    return value


def told(program: Program, *arguments: str, **more: str) -> str:
    """Run a command with --json; returns all that a machine can read of it afterwards."""
    history = program.backups / ".hubbackup" / "history.jsonl"
    before = history.read_text().splitlines() if history.exists() else []
    done = program.run(*arguments, "--json", **more)
    closing = [event for event in done.events if re.search(r"\.(finished|failed)$", event["event"])]
    recorded = history.read_text().splitlines()[len(before) :]
    parts = [f"== {' '.join(arguments)} -> {done.code}"]
    parts += [f"log     {_line(event, program)}" for event in closing if event["event"] != "upload.failed"]
    parts += [f"history {_line(json.loads(line), program)}" for line in recorded]
    parts += [f"json    {_line(done.document, program)}"]
    return "\n".join(parts) + "\n"


def _line(document: Any, program: Program) -> str:
    return steady(json.dumps(steady(document, program), ensure_ascii=False), program)  # type: ignore[no-any-return]


def test_every_kind_of_run_is_told_as_ever(program: Program) -> None:
    """Every kind of run, well and failed: each name, each type, and each value that does not depend on the moment.

    What a new version changes here breaks somebody's alarm. UPDATE_GOLDEN=1 writes the file anew.
    """
    name = program.run("backup", "--json").document["name"]
    parts = [told(program, "backup"), told(program, "backup", "--no-upload-s3")]
    parts += [told(program, "backup", S3_SECRET_ACCESS_KEY="", S3_BACKUP_BUCKET="missing-bucket")]
    parts += [told(program, "backup", POSTGRES_PASSWORD="wrong")]
    parts += [told(program, "pin", name), told(program, "unpin", name), told(program, "accept", name)]
    parts += [told(program, "drill", name), told(program, "drill", "--store", "local", DRILL_SQL="SELECT 0")]
    parts += [told(program, "restore", name, "--yes"), told(program, "restore", "--undo", "--yes")]
    parts += [told(program, "restore", "--latest", "--in-place", "--yes")]
    parts += [told(program, "verify", name)]
    damaged = program.backups / name
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(bytes(data))
    parts += [told(program, "verify", name), told(program, "verify", "--all", "--store", "local")]
    parts += [told(program, "prune", "--dry-run"), told(program, "prune")]
    made = "\n".join(parts).replace(name, "THE_BACKUP")
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(made)
    assert made == GOLDEN.read_text()
