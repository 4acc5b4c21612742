"""Which hosts are near, and what the others have to prove."""

from __future__ import annotations

from pathlib import Path

import pytest

from hubbackup.postgres import transport
from hubbackup.postgres.transport import Tls, authorities, is_near


@pytest.mark.parametrize(
    "host",
    [
        *(
            "",
            "/run/postgresql",
            "@abstract",
            "localhost",
            "127.0.0.1",
            "::1",
            "db",
            "hub-db",
            "10.0.3.7",
            "192.168.1.2",
        ),
        *("fe80::1%eth0", "fd00::7", "db.default.svc", "db.default.svc.cluster.local", "host.docker.internal"),
        *("nas.lan", "DB.LOCAL", "db.localhost.", "db,10.0.3.7"),
    ],
)
def test_near(host: str) -> None:
    """A socket, an address of no public network, a name that nobody else gives: as libpq does it by itself."""
    assert is_near(host)
    assert Tls().for_host(host, {}) == Tls()


@pytest.mark.parametrize(
    "host",
    [
        *("hub.abc123.eu-west-3.rds.amazonaws.com", "51.159.8.1", "2001:41d0::1", "db.example.com.", "svc.example"),
        *("db,hub.rdb.fr-par.scw.cloud", "localhost.example.com", "local.host.io"),
    ],
)
def test_far(host: str) -> None:
    """Any other, also as one of several: its certificate has to be for its name, by authorities that are known."""
    assert not is_near(host)
    assert Tls().for_host(host, {"SSL_CERT_FILE": __file__}) == Tls("verify-full", __file__)


def test_what_is_set_stays() -> None:
    """A mode or a file that the operator has chosen is never replaced."""
    for mode in ("disable", "require", "verify-ca"):
        assert Tls(mode).for_host("db.example.com", {}) == Tls(mode)
    assert Tls("", "/ca.pem", "/c", "/k").for_host("db.example.com", {}) == Tls("verify-full", "/ca.pem", "/c", "/k")
    assert Tls("verify-full").for_host("db", {"SSL_CERT_FILE": __file__}) == Tls("verify-full", __file__)


def test_whose_word_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """libpq's own file, then what OpenSSL is told, then the machine's bundle, then wherever OpenSSL looks."""
    bundle, own = tmp_path / "bundle.crt", tmp_path / ".postgresql/root.crt"
    monkeypatch.setattr(transport, "BUNDLES", ("/nonexistent", str(bundle)))
    environ = {"HOME": str(tmp_path), "SSL_CERT_FILE": "/nonexistent"}
    assert authorities(environ) == "system"
    bundle.touch()
    assert authorities(environ) == str(bundle)
    assert authorities({**environ, "SSL_CERT_FILE": __file__}) == __file__
    own.parent.mkdir()
    own.touch()
    assert authorities(environ) == ""
