"""Whatever answers at the endpoint: an answer that S3 would not give is an error with a sentence, never more."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from botocore.awsrequest import AWSResponse

from hubbackup.errors import NotFoundError, StoreDeniedError, StoreError
from hubbackup.stores.s3 import S3Store
from tests.support import proxy as faults
from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.program import for_server
from tests.support.proxy import Exchange, Fault, FaultProxy, Predicate
from tests.support.s3 import QUICK, S3Server

PARTS_BYTES = 60_000
HTML = b"<html><head><title>Hotel</title></head><body><p>Log in</p></body></html>"
ATOM = b'<?xml version="1.0"?><feed xmlns="http://www.w3.org/2005/Atom"><title>x</title></feed>'


@pytest.fixture(scope="module")
def bucket(s3: S3Server) -> str:
    return s3.bucket()


@pytest.fixture(scope="module")
def shared_proxy(s3: S3Server) -> Iterator[FaultProxy]:
    with FaultProxy(s3.endpoint_url) as running:
        yield running


@pytest.fixture(scope="module")
def shared_store(s3: S3Server, shared_proxy: FaultProxy, bucket: str) -> S3Store:
    return s3.store(bucket, endpoint_url=shared_proxy.url)


@pytest.fixture
def proxy(s3: S3Server, shared_proxy: FaultProxy, bucket: str) -> FaultProxy:
    """The proxy without faults, before a bucket without objects."""
    shared_proxy.forget()
    for key in s3.keys(bucket):
        s3.client.delete_object(Bucket=bucket, Key=key)
    return shared_proxy


@pytest.fixture
def store(shared_store: S3Store, proxy: FaultProxy) -> S3Store:
    return shared_store


def put(store: S3Store, data: bytes, name: str = "dump.sql.gz") -> None:
    with store.create(name) as draft:
        draft.write(data)
        draft.commit()


def read(store: S3Store, name: str = "dump.sql.gz") -> bytes:
    with store.open(name) as file:
        return file.read()


WORKS: dict[str, Callable[[S3Store], object]] = {
    "list": lambda store: list(store.entries()),
    "stat": lambda store: store.stat("dump.sql.gz"),
    "read": read,
    "put a small file": lambda store: put(store, b"x", "new"),
    "put in parts": lambda store: put(store, b"x" * PARTS_BYTES, "new"),
    "end unfinished uploads": lambda store: store.remove_leftovers(),
    "look": lambda store: store.look(),
}


def ended(work: str, store: S3Store) -> StoreError | None:
    """Why the work failed, None where it did not."""
    try:
        WORKS[work](store)
    except StoreError as error:
        return error
    return None


def without(*names: str) -> Fault:
    """Pass on, without these headers of the answer."""

    def fault(exchange: Exchange) -> None:
        status, headers, body = exchange.forward()
        lowered = {name.lower() for name in names}
        exchange.send_response_only(status)
        sent = {key.lower() for key, _ in headers if key.lower() not in lowered}
        for key, value in headers:
            if key.lower() in sent and key.lower() not in {"transfer-encoding", "connection"}:
                exchange.send_header(key, value)
        exchange.send_header("Connection", "close")
        exchange.end_headers()
        exchange.close_connection = True
        if exchange.command != "HEAD":
            exchange.wfile.write(body)

    return fault


def page(status: int, body: bytes, *headers: tuple[str, str]) -> Fault:
    """The same answer to everything, as a portal has it."""

    def fault(exchange: Exchange) -> None:
        exchange.request_body()
        exchange.reply(status, [("Content-Type", "text/html"), *headers], body)

    return fault


DATED = [("Last-Modified", "Sun, 08 Feb 2026 03:00:07 GMT"), ("ETag", '"5e1c-61d"')]
PORTALS = {
    "HTML": page(200, HTML),
    "HTML as a static file": page(200, HTML, *DATED),
    "nothing": page(200, b""),
    "foreign XML": page(200, ATOM, *DATED),
    "no content": page(204, b""),
    "301 without a place": page(301, b""),
    "301": page(301, HTML, ("Location", "http://login.hotel.example/start?token=hunter2")),
    "302": page(302, HTML, ("Location", "http://login.hotel.example/start?token=hunter2")),
    "303": page(303, HTML, ("Location", "/elsewhere")),
    "307": page(307, HTML, ("Location", "http://login.hotel.example/start?token=hunter2")),
    "308": page(308, HTML, ("Location", "http://login.hotel.example/start?token=hunter2")),
    "402": page(402, HTML),
    "404": page(404, HTML),
    "418": page(418, ATOM),
}


@pytest.mark.parametrize("work", WORKS)
@pytest.mark.parametrize("portal", PORTALS)
def test_whoever_answers_instead_of_s3_is_named_as_such(
    s3: S3Server, store: S3Store, proxy: FaultProxy, bucket: str, portal: str, work: str
) -> None:
    """Every kind of work ends with a sentence of ours and a remedy; nothing is believed, and no secret is told."""
    put(store, os.urandom(10))
    proxy.fault(PORTALS[portal])
    error = ended(work, store)
    if error is None:
        # Of a static file only what is read shows what it is: it is no manifest, and has another sha256.
        assert work in ("read", "stat")
    else:
        assert str(error).startswith("could not ") or isinstance(error, NotFoundError)
        assert error.remedy
        assert "exists already" not in str(error)
        assert "hunter2" not in str(error) + error.remedy
        assert "redirects" in str(error) or not portal.startswith("30")
    proxy.mend()
    assert s3.keys(bucket) == ["backups/dump.sql.gz"]


FOREIGN_STEPS: dict[str, Predicate] = {
    "begin": faults.is_begin,
    "part": faults.is_part(2),
    "complete": faults.is_complete,
    "upload list": faults.is_upload_list,
}


@pytest.mark.parametrize("body", [b"", HTML, ATOM, b'{"error": "not S3"}'], ids=["nothing", "HTML", "Atom", "JSON"])
@pytest.mark.parametrize("step", ["begin", "complete", "upload list"])
def test_a_step_that_is_answered_by_something_else(
    s3: S3Server, store: S3Store, proxy: FaultProxy, bucket: str, step: str, body: bytes
) -> None:
    """A 200 with another body is not a success, in the middle of an upload either."""
    proxy.fault(page(200, body), when=FOREIGN_STEPS[step])
    with pytest.raises(StoreError, match=r"could not .*(not one of an S3 server|answered 500)") as raised:
        WORKS["end unfinished uploads" if step == "upload list" else "put in parts"](store)
    assert "S3_ENDPOINT_URL" in raised.value.remedy
    assert s3.keys(bucket) == []


@pytest.mark.parametrize(
    ("when", "headers"),
    [
        (faults.is_part(2), ("ETag",)),
        (faults.is_head, ("Content-Length",)),
        (faults.is_get, ("Content-Length",)),
        (faults.is_head, ("ETag", "Last-Modified")),
    ],
    ids=["a part's ETag", "a head's size", "an object's size", "a head's ETag and time"],
)
def test_what_an_answer_must_have(
    store: S3Store, proxy: FaultProxy, when: Predicate, headers: tuple[str, ...]
) -> None:
    """Without it nothing can be proven: that is said, and no KeyError."""
    put(store, os.urandom(10))
    proxy.fault(without(*headers), when=when)
    errors = [ended(work, store) for work in ("put in parts", "stat", "read")]
    (error, *_) = [error for error in errors if error is not None]
    assert "the answer is not one of an S3 server (" in str(error)
    assert "S3_ENDPOINT_URL" in error.remedy


@pytest.mark.parametrize("when", [faults.is_head, faults.is_get, faults.is_put, faults.is_complete])
@pytest.mark.parametrize("headers", [("ETag",), ("Last-Modified",)], ids=["ETag", "time"])
def test_what_an_answer_may_lack(
    store: S3Store, proxy: FaultProxy, when: Predicate, headers: tuple[str, ...]
) -> None:
    """A file is put, proven by its size, and read, where a server leaves these out."""
    proxy.fault(without(*headers), when=when)
    for size in (8, PARTS_BYTES):
        data = os.urandom(size)
        put(store, data, f"file{size}")
        assert store.stat(f"file{size}").size_bytes == size
        assert read(store, f"file{size}") == data


def test_a_refused_read_leaves_nothing_behind(
    store: S3Store, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not an exception in a destructor either, which Python would print over the sentence."""
    put(store, b"x")
    proxy.fault(faults.answer(403, "InvalidObjectState"), when=faults.is_get)
    heard: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", heard.append)
    with pytest.raises(StoreError, match="InvalidObjectState"):
        read(store)
    gc.collect()
    assert heard == []


def test_a_broken_download_without_an_etag_is_not_pieced_together(store: S3Store, proxy: FaultProxy) -> None:
    """Nothing says then that the rest is of the same object."""
    put(store, os.urandom(400_000))

    def cut(exchange: Exchange) -> None:
        status, headers, body = exchange.forward()
        exchange.head(status, [one for one in headers if one[0].lower() != "etag"], len(body))
        exchange.wfile.write(body[:300_000])
        exchange.close_connection = True

    proxy.fault(cut, when=faults.is_get, times=1)
    with pytest.raises(StoreError, match="no ETag to go on by"):
        read(store)


# -- a HEAD has no body, so no cause


SKEWED = faults.answer(403, "RequestTimeTooSkewed", "The difference between the request time and the current time")
ELSEWHERE = (
    b'<?xml version="1.0"?><Error><Code>AuthorizationHeaderMalformed</Code><Message>the region is wrong</Message>'
    b"<Region>eu-west-3</Region></Error>"
)


@pytest.mark.parametrize("work", ["stat", "put a small file"])
@pytest.mark.parametrize(
    ("fault", "said", "remedy"),
    [
        (SKEWED, "RequestTimeTooSkewed", "clock"),
        (page(400, ELSEWHERE), "AuthorizationHeaderMalformed", "AWS_DEFAULT_REGION=eu-west-3"),
        (faults.answer(403, "InvalidAccessKeyId", "no such key"), "InvalidAccessKeyId", "AWS_ACCESS_KEY_ID"),
        (faults.answer(403, "SignatureDoesNotMatch"), "SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"),
        (page(407, HTML), "407", ""),
    ],
    ids=["clock", "region", "key", "secret", "proxy"],
)
def test_the_cause_of_a_refused_head_is_asked_for(
    store: S3Store, proxy: FaultProxy, work: str, fault: Fault, said: str, remedy: str
) -> None:
    """The server's own code, and the remedy for that, where a HEAD alone gives a bare number."""
    proxy.fault(fault)
    with pytest.raises(StoreError, match=said) as raised:
        WORKS[work](store)
    assert remedy in raised.value.remedy


def test_a_head_that_is_refused_for_what_is_not_there(store: S3Store, proxy: FaultProxy) -> None:
    """Where the GET knows better, that counts: there is no such object."""
    proxy.fault(page(403, b""), when=faults.is_head)
    with pytest.raises(NotFoundError):
        store.stat("nothing")


def test_a_redirect_at_aws_does_not_go_round_in_circles() -> None:
    """botocore asks for the bucket's region, is redirected, and asks again: once is enough."""
    store = S3Store("bucket", region="eu-west-3", access_key_id="a", secret_access_key="b", limits=QUICK)
    asked: list[str] = []

    def redirect(request: object, **rest: object) -> AWSResponse:
        asked.append(request.method)  # type: ignore[attr-defined]
        return AWSResponse("", 301, {"location": "http://login.example/"}, Raw())

    store._client.meta.events.register("before-send.s3", redirect)
    with pytest.raises(StoreError, match=r"redirects to login.example \(301\)"):
        store.stat("dump.sql.gz")
    assert len(asked) < 10


class Raw:
    """The empty body of an answer, as urllib3 has it."""

    def stream(self, *_: object, **__: object) -> Iterator[bytes]:
        return iter([b""])


# -- the program


@pytest.mark.parametrize("portal", ["HTML", "301", "foreign XML", "nothing"])
def test_the_local_copy_is_restored_whatever_answers_at_the_endpoint(
    postgres18: EmbeddedPostgres, s3: S3Server, proxy: FaultProxy, bucket: str, tmp_path: Path, portal: str
) -> None:
    """`restore --latest` and `verify --all` use the local copy, and a backup is degraded, with the reason."""
    with postgres18.temporary_database("answers") as name:
        postgres18.psql("CREATE TABLE a AS SELECT generate_series(1, 10) i;", database=name)
        program = for_server(postgres18, name, tmp_path, **(s3.settings(bucket) | {"S3_ENDPOINT_URL": proxy.url}))
        proxy.fault(PORTALS[portal])
        done = program.run("backup", "--json")
        assert done.code == 3, done.said
        assert done.document["copies"] == ["local"]
        assert "internal error" not in done.said
        restored = program.run("restore", "--latest", "--into", f"{name}_again", "--yes", "--json")
        program.drop(f"{name}_again")
        assert restored.code == 0, restored.said
        verified = program.run("verify", "--all", "--json")
        assert [one["verdict"] for one in verified.document["copies"]] == ["ok"]
        assert "internal error" not in restored.said + verified.said


def test_a_denied_read_names_the_right(store: S3Store, proxy: FaultProxy) -> None:
    """A key that may not get objects is told so at once."""
    put(store, b"x")
    proxy.fault(faults.answer(403, "AccessDenied"), when=faults.is_get)
    with pytest.raises(StoreDeniedError) as raised:
        read(store)
    assert "get" in raised.value.remedy
