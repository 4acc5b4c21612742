"""A second bucket: each copy at the same time, each with its own failure, catch-up and retention."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hubbackup.app import App
from hubbackup.config.load import load_settings
from hubbackup.jobs.lock import locked
from hubbackup.logs.setup import get_logger
from hubbackup.status.metrics import exposition
from hubbackup.streams.cancel import Cancel
from hubbackup.verify.job import VerifyFailedError
from hubbackup.web.view import View
from tests.support import proxy as faults
from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.program import Done, Program, beside, for_server
from tests.support.proxy import Exchange, FaultProxy
from tests.support.s3 import S3Server
from tests.support.sinks import until

QUICK = {"s3": "S3_TIMEOUT_SECONDS", "mirror": "S3_MIRROR_TIMEOUT_SECONDS"}


@pytest.fixture(scope="module")
def database(postgres18: EmbeddedPostgres) -> Iterator[str]:
    """A small one that nobody changes; two megabytes that don't shrink, so that its upload has parts."""
    with postgres18.temporary_database("mirrored") as name:
        postgres18.psql(
            "CREATE TABLE t AS SELECT i, sha512(i::text::bytea) AS noise FROM generate_series(1, 20000) i",
            database=name,
        )
        yield name


@pytest.fixture
def first(s3: S3Server) -> Iterator[FaultProxy]:
    """The way to the first bucket."""
    with FaultProxy(s3.endpoint_url) as proxy:
        yield proxy


@pytest.fixture
def second(s3: S3Server) -> Iterator[FaultProxy]:
    """The way to the mirror."""
    with FaultProxy(s3.endpoint_url) as proxy:
        yield proxy


@pytest.fixture
def buckets(s3: S3Server) -> tuple[str, str]:
    return s3.bucket(), s3.bucket()


@pytest.fixture
def program(
    postgres18: EmbeddedPostgres,
    database: str,
    s3: S3Server,
    first: FaultProxy,
    second: FaultProxy,
    buckets: tuple[str, str],
    tmp_path: Path,
) -> Program:
    where = s3.settings(buckets[0]) | {"S3_ENDPOINT_URL": first.url}
    mirror = {"S3_MIRROR_BACKUP_BUCKET": buckets[1], "S3_MIRROR_ENDPOINT_URL": second.url, "S3_MIRROR_PREFIX": "far"}
    return for_server(postgres18, database, tmp_path, **where, **mirror, BACKUP_SCHEMA_DRILL="false")


def backup(program: Program, code: int = 0) -> tuple[str, Done]:
    done = program.run("backup", "--json")
    assert done.code == code, done.said
    return str(done.document["name"]), done


def copies(program: Program) -> dict[str, list[str]]:
    return {one["name"]: one["good_in"] for one in program.run("list", "--json").document}


def test_each_backup_is_in_both_buckets_at_once(
    program: Program, first: FaultProxy, second: FaultProxy, s3: S3Server, buckets: tuple[str, str]
) -> None:
    """Both uploads are under way together, and a slow one holds up nothing of the other; both copies are the local
    file, byte for byte, with its manifest; `list`, `verify`, `show`, `status`, metrics and page know the mirror."""
    begun, published = threading.Event(), threading.Event()

    def after(event: threading.Event) -> faults.Fault:
        def fault(exchange: Exchange) -> None:
            assert event.wait(30)
            faults.pass_on(exchange)

        return fault

    def telling(event: threading.Event, first_of_all: faults.Fault) -> faults.Fault:
        def fault(exchange: Exchange) -> None:
            event.set()
            first_of_all(exchange)

        return fault

    first.fault(after(begun), when=faults.is_part())  # the first waits for a part of the second
    second.fault(telling(begun, after(published)), when=faults.is_part())  # and that until all of the first is there
    first.fault(telling(published, faults.pass_on), when=lambda seen: faults.is_put(seen) and "manifest" in seen.path)
    name, done = backup(program)
    assert begun.is_set()
    assert published.is_set()
    assert done.document["copies"] == ["local", "s3", "mirror"]
    for bucket, prefix in zip(buckets, ("backups", "far"), strict=True):
        assert sorted(s3.keys(bucket)) == sorted(f"{prefix}/{one}" for one in (name, beside(name)))
        for one in (name, beside(name)):
            stored = s3.client.get_object(Bucket=bucket, Key=f"{prefix}/{one}")["Body"].read()
            assert stored == program.files()[one]
    assert copies(program) == {name: ["local", "mirror", "s3"]}
    for store in ("s3", "mirror"):
        asked, other = (second, first) if store == "mirror" else (first, second)
        other.forget()
        verified = program.run("verify", "--store", store, "--json").document["copies"]
        assert [(one["store"], one["verdict"]) for one in verified] == [(store, "ok")]
        assert other.seen == []
        asked.forget()
    assert f"s3://{buckets[1]}/far" in program.run("show", name, "--store", "mirror").out
    status = program.run("status", "--json").document
    assert list(status["stores"]) == ["local", "s3", "mirror"]
    now = datetime.now(UTC)
    snapshot = App(load_settings(program.env()), cancel=Cancel(), log=get_logger()).collector().take(now)
    assert b'store="mirror"' in exposition(snapshot, None, healthy=True, now=now)
    (row,) = View(snapshot, now).rows()
    assert row.copies == (("local", "good"), ("S3", "good"), ("S3 mirror", "good"))


@pytest.mark.parametrize("dead", ["s3", "mirror", "both"])
def test_a_dead_bucket_costs_its_own_copy_alone(
    program: Program, first: FaultProxy, second: FaultProxy, dead: str
) -> None:
    """Exit 3 within that bucket's own patience; the run names the copy that is missing, and the French line that the
    guide greps for says which; the next run uploads just what is missing there."""
    lost = ["s3", "mirror"] if dead == "both" else [dead]
    for store, proxy in (("s3", first), ("mirror", second)):
        if store in lost:
            proxy.fault(faults.black_hole)
    began = time.monotonic()
    patience = {variable: "5" if store in lost else "300" for store, variable in QUICK.items()}
    name, done = backup(program.but(**patience), code=3)
    assert time.monotonic() - began < 40  # the minute of who waits 300 s has not passed
    assert done.document["copies"] == ["local", *(store for store in ("s3", "mirror") if store not in lost)]
    assert [one.partition(":")[0] for one in done.document["problems"]] == [f"no copy in {one}" for one in lost]
    said = {one["store"]: one for one in done.events if one["event"] == "upload.failed"}
    assert sorted(said) == sorted(lost)
    words = {"s3": "AVERTISSEMENT: Echec upload S3: ", "mirror": "AVERTISSEMENT: Echec upload S3 (mirror): "}
    for store in lost:
        assert said[store]["message"].startswith(words[store])
        variable = "S3_ENDPOINT_URL" if store == "s3" else "S3_MIRROR_ENDPOINT_URL"
        assert variable in said[store]["remedy"] or "hubbackup doctor" in said[store]["remedy"]

    first.forget()
    second.forget()
    if dead == "mirror":
        check = program.run("check")
        assert check.code == 1
        assert "mirror" in check.out
    later, done = backup(program)
    assert done.document["uploaded_late"] == [name] * len(lost)
    assert copies(program) == {one: ["local", "mirror", "s3"] for one in (name, later)}
    begun = {"s3": first.count(faults.is_begin), "mirror": second.count(faults.is_begin)}
    assert begun == {store: 2 if store in lost else 1 for store in begun}


def test_each_bucket_has_its_own_retention(program: Program, s3: S3Server, buckets: tuple[str, str]) -> None:
    """S3_MIRROR_RETENTION_DAYS where it differs; `prune` names the store of each copy."""
    program = program.but(S3_RETENTION_DAYS="30", S3_MIRROR_RETENTION_DAYS="90")
    name, _ = backup(program)
    old, older = program.redate(name, timedelta(days=20)), program.redate(name, timedelta(days=60))
    for one in (old, older):
        for bucket, prefix in zip(buckets, ("backups", "far"), strict=True):
            for part in (one, beside(one)):
                s3.client.put_object(Bucket=bucket, Key=f"{prefix}/{part}", Body=program.files()[part])
    decisions = program.run("prune", "--json").document["decisions"]
    gone = {(one["store"], one["name"]) for one in decisions if one["action"] == "remove"}
    assert gone == {("local", old), ("local", older), ("s3", older)}
    assert copies(program) == {name: ["local", "mirror", "s3"], old: ["mirror", "s3"], older: ["mirror"]}


def test_a_backup_comes_back_from_the_mirror(
    program: Program, first: FaultProxy, postgres18: EmbeddedPostgres
) -> None:
    """With this disk emptied and the first vendor gone: extracted, verified and restored from the second one."""
    name, _ = backup(program)
    for path in program.backups.glob("mirrored*"):
        path.unlink()
    first.fault(faults.reset)
    rows = program.run("extract", name, "--table", "t", "--store", "mirror", "--format", "csv")
    assert rows.code == 0, rows.said
    assert rows.out.count("\n") == 20001
    copy = f"{program.database}_copy"
    done = program.run("restore", name, "--from", "mirror", "--into", copy, "--yes", "--json")
    assert done.code == 0, done.said
    assert postgres18.psql("SELECT count(*) FROM t", database=copy).strip() == "20000"
    program.drop(copy)


# -- repair


def flip(data: bytes) -> bytes:
    """As long as before, one bit other in the middle."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def damage_local(program: Program, name: str) -> bytes:
    path = program.backups / name
    path.write_bytes(flip(path.read_bytes()))
    return path.read_bytes()


def test_damaged_copies_are_repaired(program: Program, s3: S3Server, buckets: tuple[str, str]) -> None:
    """The disk's from S3, the mirror's from the disk; said as it is read and as JSON; a second verification is well.
    Where no copy is good, exit 1, each is named, and nothing has changed."""
    name, _ = backup(program)
    whole = program.files()[name]
    damage_local(program, name)
    s3.client.put_object(Bucket=buckets[1], Key=f"far/{name}", Body=b"half")
    assert program.run("verify", name).code == 1
    done = program.run("verify", name, "--repair", "--json")
    assert done.code == 0, done.said
    repaired = done.document["repaired"]
    assert [(one["store"], one["from"]) for one in repaired] == [("local", "s3"), ("mirror", "local")]
    assert done.document["not_repaired"] == []
    assert done.event("repair.finished")["repaired"] == [f"local:{name}", f"mirror:{name}"]
    assert done.event("verify.failed")["exit_code"] == 1
    assert program.files() == program.files() | {name: whole}
    assert len(program.files()) == 2  # no mark, no .partial
    assert s3.client.get_object(Bucket=buckets[1], Key=f"far/{name}")["Body"].read() == whole
    assert copies(program) == {name: ["local", "mirror", "s3"]}
    assert program.run("verify", name).code == 0

    damage_local(program, name)
    done = program.run("verify", name, "--repair")
    assert done.code == 0
    assert f"repaired  {name} in local, from s3" in done.out

    rotten = damage_local(program, name)
    for bucket, prefix in zip(buckets, ("backups", "far"), strict=True):
        s3.client.put_object(Bucket=bucket, Key=f"{prefix}/{name}", Body=rotten)
    done = program.run("verify", name, "--repair", "--json")
    assert done.code == 1
    assert [one["store"] for one in done.document["not_repaired"]] == ["local", "s3", "mirror"]
    assert "no other store has a good copy" in done.document["message"]
    assert program.files()[name] == rotten


def test_a_repair_that_is_killed_leaves_what_was_there(program: Program, first: FaultProxy, tmp_path: Path) -> None:
    """kill -9 while the good copy comes: the damaged one is as it was, still marked; the next repair does it. While
    another run is at work: exit 4, nothing done."""
    name, _ = backup(program)
    whole, rotten = program.files()[name], damage_local(program, name)
    first.fault(faults.drip_body, when=lambda seen: faults.is_get(seen) and seen.path.endswith(name))
    process = program.fork("verify", name, "--store", "local", "--repair", output=tmp_path / "out")
    partial = program.backups / f"{name}.partial"
    until(partial.exists)
    process.kill()
    assert process.wait(10) is not None
    assert program.files()[name] == rotten
    assert partial.exists()
    first.mend()
    assert copies(program)[name] == ["mirror", "s3"]
    with locked(program.backups / ".hubbackup" / "lock"):
        done = program.run("verify", name, "--store", "local", "--repair")
        assert done.code == 4, done.said
        assert program.files()[name] == rotten
    done = program.run("verify", name, "--store", "local", "--repair")
    assert done.code == 0, done.said
    assert program.files()[name] == whole
    assert not partial.exists()


def test_the_daily_verification_repairs_where_it_may(program: Program) -> None:
    """VERIFY_REPAIR: what is found damaged is mended the same night, and the verification fails and alerts all the
    same; without it the copy stays as it was found, marked."""
    program = program.but(BACKUP_RETENTION_DAYS="0")
    name, _ = backup(program)
    old = program.redate(name, timedelta(days=2))
    backup(program)  # uploads it
    rotten = damage_local(program, old)
    for setting, mended in (("false", False), ("true", True)):
        app = App(load_settings(program.env(VERIFY_REPAIR=setting)), cancel=Cancel(), log=get_logger())
        with pytest.raises(VerifyFailedError):
            app.verify_due()
        assert (program.files()[old] != rotten) == mended
        assert copies(program)[old] == (["local", "mirror", "s3"] if mended else ["mirror", "s3"])
        assert [record.kind for record in app.state.history.runs()].count("repair") == mended
        for mark in program.backups.glob("*.bad"):
            mark.unlink()
        (program.backups / ".hubbackup" / "verified.jsonl").unlink()  # so that it has its turn again
