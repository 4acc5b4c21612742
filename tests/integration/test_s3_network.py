"""What stands between hubbackup and a bucket: an authority of one's own, a proxy, a vendor that refuses much."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import proxy as faults
from tests.support.authority import Authority
from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.program import Done, Program, for_server
from tests.support.proxy import Exchange, FaultProxy, Seen
from tests.support.s3 import S3Server
from tests.support.vendors import STRICTEST, Rules

CANARY = "canari-Mot2Passe"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A company's own, which signs for its servers."""
    return Authority(tmp_path_factory.mktemp("authority"), "company")


@pytest.fixture(scope="module")
def tls(s3: S3Server, authority: Authority) -> Iterator[FaultProxy]:
    """S3 over TLS, at `localhost`."""
    with FaultProxy(s3.endpoint_url, authority.give("localhost")) as server:
        yield server


@pytest.fixture
def hub(postgres16: EmbeddedPostgres, s3: S3Server, tmp_path: Path) -> Iterator[Program]:
    """A database with one table, and a bucket."""
    with postgres16.temporary_database("hub_chantier") as database:
        postgres16.psql("CREATE TABLE t (a int); INSERT INTO t VALUES (1), (2);", database=database)
        yield for_server(postgres16, database, tmp_path, **s3.settings(s3.bucket()))


def finding(program: Program, name: str) -> dict[str, str]:
    report = json.loads(program.run("doctor", "--json").out)
    return next(one for one in report["findings"] if one["name"] == name)


def nowhere(secret: str, program: Program, *runs: Done) -> None:
    """Not in what was printed or logged, and not on the disk."""
    texts = [run.said for run in runs]
    texts += [path.read_text(errors="replace") for path in program.directory.rglob("*") if path.is_file()]
    assert not [text for text in texts if secret in text]


def test_an_authority_of_ones_own(hub: Program, tls: FaultProxy, authority: Authority, tmp_path: Path) -> None:
    """Without S3_CA_BUNDLE the bucket is refused, and the remedy names that setting; with it the copy arrives. A file
    that is none costs a copy and never the backup. The mirror has a setting, and remedies, of its own."""
    hub = hub.but(S3_ENDPOINT_URL=tls.url, S3_TIMEOUT_SECONDS="5")
    refused = hub.run("backup")
    assert refused.code == 3
    assert "no trusted TLS connection" in refused.err
    assert "S3_CA_BUNDLE" in refused.event("upload.failed")["remedy"]
    believed = hub.but(S3_CA_BUNDLE=str(authority.root))
    done = believed.run("backup", "--json")
    assert (done.code, done.document["copies"]) == (0, ["local", "s3"])
    (tmp_path / "empty.pem").touch()
    for path, said in (("/nonexistent.pem", "can't be read: No such file"), (tmp_path / "empty.pem", "has no cert")):
        degraded = hub.run("backup", S3_CA_BUNDLE=str(path))
        assert degraded.code == 3
        assert said in degraded.err
    relative = hub.run("backup", S3_CA_BUNDLE="company.pem")
    assert (relative.code, "S3_CA_BUNDLE=company.pem (environment): is not an absolute path" in relative.err) == (
        2,
        True,
    )
    mirror = {name.replace("S3_", "S3_MIRROR_"): value for name, value in hub.settings.items() if name[:3] == "S3_"}
    mirrored = believed.but(**mirror, S3_MIRROR_PREFIX="mirror", S3_MIRROR_DEFAULT_REGION="us-east-1")
    (problem,) = [one for one in mirrored.run("backup").events if one["event"] == "upload.failed"]
    assert (problem["store"], "S3_MIRROR_CA_BUNDLE" in problem["remedy"]) == ("mirror", True)
    done = mirrored.run("backup", "--json", S3_MIRROR_CA_BUNDLE=str(authority.root))
    assert done.document["copies"] == ["local", "s3", "mirror"]


def test_a_proxy_with_a_login(hub: Program, s3: S3Server, tls: FaultProxy, authority: Authority) -> None:
    """HTTPS_PROXY is the only way out, and asks for a login: the copy goes through it, the doctor names it, and its
    password is nowhere, whether it is right or wrong. NO_PROXY leads around it."""
    right = f"Basic {base64.b64encode(f'hub:{CANARY}'.encode()).decode()}"

    def stranger(seen: Seen) -> bool:
        return seen.headers.get("proxy-authorization") != right

    def ask(exchange: Exchange) -> None:
        exchange.reply(407, [("Proxy-Authenticate", "Basic")], b"")

    with FaultProxy("http://127.0.0.1:9") as proxy:
        proxy.fault(ask, when=stranger)
        hub = hub.but(S3_ENDPOINT_URL=tls.url, S3_CA_BUNDLE=str(authority.root), S3_TIMEOUT_SECONDS="5")
        place = proxy.url.removeprefix("http://")
        through = hub.but(HTTPS_PROXY=f"http://hub:{CANARY}@{place}")
        done = through.run("backup", "--json")
        assert (done.code, done.document["copies"]) == (0, ["local", "s3"])
        assert proxy.count(lambda seen: seen.method == "CONNECT" and not stranger(seen)) >= 1
        assert finding(through, "bucket")["sentence"].endswith(f"(region us-east-1, by the proxy {place})")
        refused = through.run("backup", HTTPS_PROXY=f"http://hub:{CANARY}-wrong@{place}")
        assert refused.code == 3
        assert "HTTPS_PROXY" in refused.event("upload.failed")["remedy"]
        nowhere(CANARY, hub, done, refused, through.run("doctor"), through.run("config"))
        proxy.forget()
        around = through.run("backup", NO_PROXY="localhost", HTTPS_PROXY="http://127.0.0.1:9")
        assert (around.code, proxy.seen) == (0, [])


def test_the_strictest_vendor(hub: Program, s3: S3Server) -> None:
    """One that refuses all that any vendor refuses, known only by a host name for each bucket: doctor, backup, list
    and a restore from S3 work."""
    with FaultProxy(s3.endpoint_url) as proxy:
        Rules(STRICTEST, proxy)
        place = {"S3_ENDPOINT_URL": f"http://{STRICTEST.host}", "HTTP_PROXY": proxy.url}
        hub = hub.but(**place, S3_ADDRESSING_STYLE="virtual")
        report = json.loads(hub.run("doctor", "--json").out)["findings"]
        assert {one["name"]: one["status"] for one in report}.items() >= {
            "probe object": "ok",
            "left in S3": "ok",
        }.items()
        assert proxy.count(faults.is_part()) == 2
        name = hub.backup().name
        assert [one["name"] for one in json.loads(hub.run("list", "--json", "--store", "s3").out)] == [name]
        (hub.backups / name).unlink()
        restored = hub.run("restore", "--from-s3", name, "--yes")
        assert restored.code == 0, restored.said
        wrong = hub.run("list", S3_ADDRESSING_STYLE="host")
        assert (wrong.code, "must be auto or path or virtual" in wrong.err) == (2, True)
        hub.drop(*hub.derived("before"))
