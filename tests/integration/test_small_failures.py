"""A small failure stays small: what can't be read, listed or believed is reported, and everything else goes on."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support import proxy as faults
from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.program import Done, Program, beside, for_server
from tests.support.proxy import Fault, FaultProxy, Predicate
from tests.support.s3 import S3Server

DAY = timedelta(days=1)
# As AWS answers a GET of what a lifecycle rule has moved to Glacier.
ARCHIVED = faults.answer(403, "InvalidObjectState", "The operation is not valid for the object's storage class")
HTML = b"<html><head><title>Portal</title></head><body><p>Log in</p></body></html>"


@pytest.fixture(scope="module")
def small(postgres18: EmbeddedPostgres) -> Iterator[str]:
    """A database of two tables; nobody changes it."""
    with postgres18.temporary_database("small") as name:
        postgres18.psql("CREATE TABLE a AS SELECT generate_series(1, 100) i;", database=name)
        yield name


@pytest.fixture(scope="module")
def shared_proxy(s3: S3Server) -> Iterator[FaultProxy]:
    with FaultProxy(s3.endpoint_url) as running:
        yield running


@pytest.fixture
def proxy(shared_proxy: FaultProxy) -> FaultProxy:
    shared_proxy.forget()
    return shared_proxy


@pytest.fixture
def bucket(s3: S3Server) -> str:
    return s3.bucket()


@pytest.fixture
def program(
    postgres18: EmbeddedPostgres, small: str, s3: S3Server, proxy: FaultProxy, bucket: str, tmp_path: Path
) -> Program:
    """The program, whose S3 is behind the proxy."""
    settings = s3.settings(bucket) | {"S3_ENDPOINT_URL": proxy.url}
    return for_server(postgres18, small, tmp_path, **settings)


def is_get_of(name: str) -> Predicate:
    return lambda seen: faults.is_get(seen) and seen.path.endswith(f"/{name}")


def old_in_s3(program: Program, s3: S3Server, bucket: str, name: str, age: timedelta) -> str:
    """A copy of the backup `name`, older by `age`, in S3 alone."""
    old = program.redate(name, age)
    for part in (old, beside(old)):
        path = program.backups / part
        s3.client.put_object(Bucket=bucket, Key=f"backups/{part}", Body=path.read_bytes())
        path.unlink()
    return old


def good(done: Done, code: int = 0) -> str:
    assert done.code == code, done.said
    return str(done.document["name"])


# -- one object that can't be read


def test_an_archived_manifest_is_a_fact_about_one_backup(
    program: Program, s3: S3Server, proxy: FaultProxy, bucket: str
) -> None:
    """The run is as good as ever and prunes both stores; `list`, `verify --all`, `check` and `status` go on."""
    first = program.backup().name
    frozen = old_in_s3(program, s3, bucket, first, 2 * DAY)
    gone = old_in_s3(program, s3, bucket, first, 30 * DAY)
    local_gone = program.redate(first, 31 * DAY)
    proxy.fault(ARCHIVED, when=is_get_of(beside(frozen)))

    done = program.run("backup", "--json")
    second = good(done)
    assert done.document["copies"] == ["local", "s3"]
    assert sorted(done.document["pruned"]) == sorted([f"s3:{gone}", f"local:{local_gone}"])

    listed = program.run("list", "--json")
    assert listed.code == 0, listed.said
    told = {one["name"]: one for one in listed.document}
    assert list(told) == [frozen, first, second]
    assert (told[frozen]["good_in"], told[second]["good_in"]) == ([], ["local", "s3"])
    assert "InvalidObjectState" in told[frozen]["problem"]

    verified = program.run("verify", "--all", "--json")
    assert verified.code == 1, verified.said
    verdicts = {(one["name"], one["store"]): one["verdict"] for one in verified.document["copies"]}
    assert verdicts == {(frozen, "s3"): "unread"} | {
        (name, store): "ok" for name in (first, second) for store in ("local", "s3")
    }
    assert "have S3 restore it first" in verified.said or "InvalidObjectState" in verified.said
    assert program.run("check").code == 0
    assert program.run("prune").code == 0


def test_the_newest_manifest_archived_is_said_by_a_restore_of_the_latest(
    program: Program, s3: S3Server, proxy: FaultProxy, bucket: str
) -> None:
    """`restore --latest` takes the good local copy, and names what it passes over."""
    name = program.backup().name
    newer = old_in_s3(program, s3, bucket, name, -timedelta(seconds=30))
    proxy.fault(ARCHIVED, when=is_get_of(beside(newer)))
    target = f"restored_{secrets.token_hex(4)}"
    done = program.run("restore", "--latest", "--into", target, "--yes", "--json")
    program.drop(target)
    assert done.code == 0, done.said
    assert done.document["name"] == name
    assert done.event("source.skipped")["name"] == newer


# -- a listing that fails, while all else works


def change_listing(body: bytes) -> Fault:
    """Answer a listing with another text, status 200."""
    return faults.with_body(lambda real: body)


def cut_page(exchange: faults.Exchange) -> None:
    status, headers, body = exchange.forward()
    exchange.reply(status, headers, body[: len(body) // 2])


LISTINGS = {
    "403": faults.answer(403, "AccessDenied", "Access Denied"),
    "500": faults.answer(500, "InternalError"),
    "501": faults.answer(501, "NotImplemented"),
    "reset": faults.reset,
    "HTML": change_listing(HTML),
    "a cut page": cut_page,
    "nothing": change_listing(b""),
    "foreign XML": change_listing(b'<?xml version="1.0"?><feed xmlns="http://www.w3.org/2005/Atom"></feed>'),
    "an error in a 200": change_listing(faults.error_body("InternalError")),
    "a page without its end": change_listing(b"<ListBucketResult><Name>x</Name></ListBucketResult>"),
}


@pytest.mark.parametrize("kind", LISTINGS)
def test_a_listing_that_fails_degrades_the_run(
    program: Program, s3: S3Server, proxy: FaultProxy, bucket: str, kind: str
) -> None:
    """The copy is in S3, and what isn't done because of it is said: exit 3. The local store is pruned."""
    first = program.backup().name
    old = program.redate(first, 30 * DAY)
    proxy.fault(LISTINGS[kind], when=faults.is_list)
    done = program.run("backup", "--json")
    second = good(done, code=3)
    assert done.document["copies"] == ["local", "s3"]
    (problem,) = done.document["problems"]
    assert problem.startswith("s3 can't be listed, so nothing is pruned or caught up there: could not list")
    assert done.event("store.unlisted")["store"] == "s3"
    assert done.document["pruned"] == [f"local:{old}"]
    assert f"backups/{second}" in s3.keys(bucket)


@pytest.mark.parametrize("kind", ["403", "HTML"])
def test_other_commands_go_on_without_the_list(
    program: Program, s3: S3Server, proxy: FaultProxy, bucket: str, kind: str
) -> None:
    """`list`, `verify --all` and `prune` do the local store's part, and say what is left."""
    name = program.backup().name
    recent, old = program.redate(name, DAY), program.redate(name, 30 * DAY)
    proxy.fault(LISTINGS[kind], when=faults.is_list)

    listed = program.run("list")
    assert listed.code == 3, listed.said
    assert name in listed.out
    assert "s3 is not listed whole: could not list" in listed.err
    alone = program.run("list", "--store", "s3")
    assert alone.code == 1, alone.said
    assert "could not list" in alone.err

    verified = program.run("verify", "--all", "--json")
    assert verified.code == 1, verified.said
    assert {(one["name"], one["verdict"]) for one in verified.document["copies"]} == {
        (one, "ok") for one in (name, recent, old)
    }
    assert "the copies in s3 are not read: could not list" in verified.document["message"]

    pruned = program.run("prune")
    assert pruned.code == 3, pruned.said
    assert "nothing is pruned in s3: could not list" in pruned.err
    assert old not in program.files()
    assert name in program.files()


def test_listings_that_lag_behind_are_no_trouble(program: Program, proxy: FaultProxy) -> None:
    """Objects appear in listings only later: neither this run's backup nor the last one's is taken for missing."""
    first = program.backup().name
    proxy.fault(change_listing(EMPTY), when=faults.is_list)
    done = program.run("backup", "--json")
    second = good(done)
    assert done.document["uploaded_late"] == []
    put = [seen.path.rpartition("/")[2] for seen in proxy.seen if faults.is_put(seen)]
    assert sorted(put) == sorted([first, beside(first), second, beside(second)])


EMPTY = b"<ListBucketResult><Name>b</Name><KeyCount>0</KeyCount><IsTruncated>false</IsTruncated></ListBucketResult>"


def test_a_black_hole_is_given_up_once(program: Program, proxy: FaultProxy) -> None:
    """An S3 that takes everything and says nothing costs a bounded time, once: the local copy is good, and what
    needs no S3 is done."""
    first = program.backup().name
    old = program.redate(first, 30 * DAY)
    proxy.forget()
    proxy.fault(faults.black_hole)
    started = time.monotonic()
    done = program.run("backup", "--json", S3_TIMEOUT_SECONDS="5")
    good(done, code=3)
    assert done.document["copies"] == ["local"]
    assert done.document["pruned"] == [f"local:{old}"]
    verified = program.run("verify", "--all", "--json", S3_TIMEOUT_SECONDS="5")
    assert {one["verdict"] for one in verified.document["copies"]} == {"ok"}
    assert program.run("list", S3_TIMEOUT_SECONDS="5").code == 3
    assert time.monotonic() - started < 40  # by the defaults of botocore and of the steps: minutes
