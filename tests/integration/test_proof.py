"""Catalog, verify, pin, accept and catch-up as their users run them: real dumps, a directory and a bucket."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.program import Done, Program, beside, for_server
from tests.support.s3 import S3Server

# The daemon with its own jobs, each due once and now.
DUE_AT_ONCE = """
from hubbackup.__main__ import main
from hubbackup.daemon.scheduler import ScheduleTrigger
ScheduleTrigger.get_next_fire_time = lambda self, previous, now: now if previous is None else None
main()
"""


@pytest.fixture
def small(postgres18: EmbeddedPostgres) -> Iterator[str]:
    """A database of one's own: a table of 3000 rows, and a larger one."""
    with postgres18.temporary_database("small") as name:
        postgres18.psql(
            "CREATE TABLE users AS SELECT i, md5(i::text) AS word FROM generate_series(1, 3000) AS i;"
            "CREATE TABLE events AS SELECT i, md5(i::text) AS word FROM generate_series(1, 20000) AS i",
            database=name,
        )
        yield name


@pytest.fixture
def bucket(s3: S3Server) -> str:
    return s3.bucket()


@pytest.fixture
def program(postgres18: EmbeddedPostgres, small: str, s3: S3Server, bucket: str, tmp_path: Path) -> Program:
    """The program with both stores."""
    return for_server(
        postgres18,
        small,
        tmp_path,
        **s3.settings(bucket),
    )


def name_of(done: Done, code: int = 0) -> str:
    assert done.code == code, done.err
    return str(done.document["name"])


def flipped(data: bytes) -> bytes:
    changed = bytearray(data)
    changed[len(changed) // 2] ^= 1
    return bytes(changed)


def to_bucket(program: Program, s3: S3Server, bucket: str, name: str) -> None:
    for part in (name, beside(name)):
        s3.client.put_object(Bucket=bucket, Key=f"backups/{part}", Body=(program.backups / part).read_bytes())


def test_a_flipped_bit_is_found_in_each_store(program: Program, s3: S3Server, bucket: str) -> None:
    """verify exits 1 and names the copy and its store; the copy counts no more, and the next run makes S3's new."""
    name = name_of(program.run("backup", "--json"))
    done = program.run("verify", "--json")
    assert (done.code, [copy["verdict"] for copy in done.document["copies"]]) == (0, ["ok", "ok"])

    whole = program.files()[name]
    s3.client.put_object(Bucket=bucket, Key=f"backups/{name}", Body=flipped(whole))
    done = program.run("verify", name)
    assert done.code == 1
    assert f"bad       {name} in s3" in done.out
    assert f"ok        {name} in local" in done.out
    assert done.event("verify.failed")["level"] == "error"
    assert f"backups/{name.removesuffix('.sql.gz')}.bad" in s3.keys(bucket)
    (listed,) = program.run("list", "--json").document
    assert (listed["good_in"], listed["bad_in"]) == (["local"], ["s3"])

    second = name_of(program.run("backup", "--json"))
    assert s3.client.get_object(Bucket=bucket, Key=f"backups/{name}")["Body"].read() == whole
    assert not any(key.endswith(".bad") for key in s3.keys(bucket))
    (program.backups / second).write_bytes(flipped(program.files()[second]))
    done = program.run("verify", "--all", "--store", "local", "--json")
    assert done.code == 1
    assert {copy["name"]: copy["verdict"] for copy in done.document["copies"]} == {name: "ok", second: "bad"}
    assert second in done.document["message"]
    listed_first, listed_second = program.run("list", "--json").document
    assert listed_first["last_verified"].keys() == {"local", "s3"}
    assert listed_second["good_in"] == ["s3"]
    shown = program.run("list").out
    assert "local (BAD)" in shown
    # A restore takes the copy that is whole.
    restored = program.run("restore", "--latest", "--into", f"r_{secrets.token_hex(4)}", "--yes", "--json")
    assert restored.code == 0, restored.err


def test_a_pinned_backup_is_pruned_in_neither_store(program: Program, s3: S3Server, bucket: str) -> None:
    """Not by prune, not after a backup; unpinned, it goes. A pin is seen by whoever lists the bucket."""
    first = name_of(program.run("backup", "--json"))
    program.redate(first, timedelta(days=1))
    pinned, old = program.redate(first, timedelta(days=30)), program.redate(first, timedelta(days=31))
    for name in (pinned, old):
        to_bucket(program, s3, bucket, name)
    done = program.run("pin", pinned, "--json")
    assert (done.code, done.document["stores"]) == (0, ["local", "s3"])
    assert program.run("pin", pinned).code == 0
    name_of(program.run("backup", "--json"))
    program.run("prune")
    keys = s3.keys(bucket)
    assert (pinned in program.files(), f"backups/{pinned}" in keys) == (True, True)
    assert (old in program.files(), f"backups/{old}" in keys) == (False, False)
    assert [one["name"] for one in program.run("list", "--json").document if one["pinned"]] == [pinned]
    assert program.run("unpin", pinned).code == 0
    assert program.run("prune").code == 0
    assert not any(pinned.removesuffix(".sql.gz") in file for file in [*program.files(), *s3.keys(bucket)])


def test_a_pin_works_where_only_s3_has_the_backup(program: Program, s3: S3Server, bucket: str) -> None:
    """A fresh machine with an empty directory; and a name that nobody has is told."""
    name = name_of(program.run("backup", "--json"))
    for part in (name, beside(name)):
        (program.backups / part).unlink()
    done = program.run("pin", name, "--json")
    assert (done.code, done.document["stores"]) == (0, ["s3"])
    assert program.run("pin", f"{name[:-7]}.sql").code == 2
    done = program.run("pin", "other_backup_20200101_030000.sql.gz")
    assert (done.code, done.sentences[0]) == (1, done.sentences[0])
    assert "there is no other_backup_20200101_030000.sql.gz" in done.sentences[0]


def test_a_pin_without_s3_is_degraded_and_can_be_given_again(program: Program, s3: S3Server) -> None:
    """Pinned where it can be, exit 3, and the store that lacks it is named."""
    name = name_of(program.run("backup", "--json"))
    done = program.run("pin", name, "--json", S3_BACKUP_BUCKET="no-such-bucket")
    assert done.code in (0, 3)
    done = program.run("pin", name, "--json", S3_ENDPOINT_URL="http://127.0.0.1:1")
    assert (done.code, done.document["stores"]) == (3, ["local"])
    assert done.document["problems"]


def test_suspicious_then_accepted(program: Program, postgres18: EmbeddedPostgres, small: str) -> None:
    """A table that lost more than half of its rows: kept, told, rotation frozen in prune too; once accepted, rotation
    goes on and the next backup is measured by it."""
    first = name_of(program.run("backup", "--json"))
    program.redate(first, timedelta(days=1))
    old = program.redate(first, timedelta(days=30))
    postgres18.psql("DELETE FROM users WHERE i > 100", database=small)
    done = program.run("backup", "--json")
    suspicious = name_of(done)
    assert done.document["warnings"] == [f"public.users has 100 rows, {first} had 3000"]
    assert done.event("backup.suspicious")["level"] == "warning"
    assert done.event("prune.frozen")["name"] == suspicious
    table = program.run("prune", "--dry-run").out
    assert f"frozen: {suspicious} is suspicious" in table
    assert old in program.files()
    assert program.run("accept", first).code == 2
    assert program.run("accept", suspicious).code == 0
    done = program.run("backup", "--json")
    assert (done.document["warnings"], done.document["pruned"]) == ([], [f"local:{old}"])


def test_catch_up_uploads_what_the_policy_of_s3_keeps_oldest_first(
    program: Program, s3: S3Server, bucket: str
) -> None:
    """Only good ones within S3's own policy, oldest first, with their pins; a rotten local file is not spread."""
    done = program.run("backup", "--no-upload-s3", "--json")
    first = name_of(done)
    week, old = program.redate(first, timedelta(days=6)), program.redate(first, timedelta(days=9))
    rotten, pinned = program.redate(first, timedelta(days=3)), program.redate(first, timedelta(days=40))
    (program.backups / rotten).write_bytes(flipped(program.files()[rotten]))
    assert program.run("pin", pinned).code == 0
    assert s3.keys(bucket) == []
    done = program.run("backup", "--json", BACKUP_RETENTION_DAYS="60", S3_RETENTION_DAYS="7")
    name_of(done, code=3)
    assert done.document["uploaded_late"] == [pinned, week, first]
    assert any(rotten in problem for problem in done.document["problems"])
    stems = {key.removeprefix("backups/").partition(".")[0] for key in s3.keys(bucket)}
    assert not stems & {old.partition(".")[0], rotten.partition(".")[0]}
    assert f"backups/{pinned.removesuffix('.sql.gz')}.pinned" in s3.keys(bucket)


def test_weeks_and_months_are_kept_by_each_stores_own_policy(program: Program, s3: S3Server, bucket: str) -> None:
    """Local keeps days, S3 also months; the dry run shows both plans with their reasons."""
    first = name_of(program.run("backup", "--json"))
    made = [program.redate(first, timedelta(days=days)) for days in (1, 40, 80)]
    for name in made:
        to_bucket(program, s3, bucket, name)
    document = program.run("prune", "--dry-run", "--json", S3_KEEP_MONTHS="12").document
    decided = {(one["store"], one["name"]): (one["action"], one["reason"]) for one in document["decisions"]}
    assert document["policies"] == {"local": "7 days, at least 1", "s3": "7 days, 12 months, at least 1"}
    assert [decided["local", name][0] for name in made] == ["keep", "remove", "remove"]
    assert [decided["s3", name][0] for name in made] == ["keep", "keep", "keep"]
    assert decided["s3", made[2]][1].startswith("the newest good one of month ")


def test_the_daemon_reads_old_copies_again_and_tells_the_rotten_one(program: Program) -> None:
    """On VERIFY_SCHEDULE: the old copy that rotted is an error in the log, and is marked."""
    first = name_of(program.run("backup", "--no-upload-s3", "--json"))
    old = program.redate(first, timedelta(days=2))
    (program.backups / old).write_bytes(flipped(program.files()[old]))
    process = program.start("daemon", code=DUE_AT_ONCE, VERIFY_DAILY_BYTES="1MB", DRILL_SCHEDULE="off")
    try:
        assert process.stdout is not None
        found = next(line for text in process.stdout if (line := json.loads(text))["event"].startswith("verify.f"))
    finally:
        process.terminate()
        process.wait(timeout=15)
    assert (found["event"], found["level"], found["exit_code"]) == ("verify.failed", "error", 1)
    assert f"{old} is damaged" in found["cause"]
    assert f"{old.removesuffix('.sql.gz')}.bad" in program.files()


@pytest.mark.parametrize(("value", "code"), [("2 GiB", 0), ("0", 0), ("many", 2), ("-1", 2), ("5 lightyears", 2)])
def test_the_budget_is_a_size(program: Program, value: str, code: int) -> None:
    """As people write it; what is none is refused by name."""
    done = program.run("config", VERIFY_DAILY_BYTES=value)
    assert done.code == code
    assert ("VERIFY_DAILY_BYTES" in done.err) == (code == 2)
