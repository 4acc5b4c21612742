"""How the connection to a server is secured: which hosts are near, and what any other has to prove.

A near host is reached as libpq does it by itself (`prefer`): encrypted where the server offers it, nobody verified.
Any other has to show a certificate for its name, signed by an authority that is known here. Only the name decides,
never what it resolves to: who can forge the answer of a name server must not be able to do without a certificate.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

VERIFIED = "verify-full"
NEAR_ZONES = ("localhost", "local", "internal", "lan", "home.arpa", "svc")
"""Ends of names that are given within a machine, a house, a cluster, and by nobody else."""
BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""The machine's authorities in one file: Debian and Alpine, Red Hat, SUSE, BSD."""
OF_OPENSSL = "system"
"""What libpq from 16 on understands: wherever its OpenSSL looks by itself."""


@dataclass(frozen=True)
class Tls:
    """libpq's words for it, each empty where it is left to libpq."""

    mode: str = ""
    root_cert: str = ""
    cert: str = ""
    key: str = ""

    def env(self) -> dict[str, str]:
        """As libpq's variables; also those that are empty."""
        return {
            "PGSSLMODE": self.mode,
            "PGSSLROOTCERT": self.root_cert,
            "PGSSLCERT": self.cert,
            "PGSSLKEY": self.key,
        }

    @property
    def verified(self) -> bool:
        """Whether the server has to prove its name."""
        return self.mode == VERIFIED

    def for_host(self, host: str, environ: Mapping[str, str] | None = None) -> Tls:
        """The same, with what a host that is not near has to prove where nothing was said, and by whose word."""
        mode = self.mode or ("" if is_near(host) else VERIFIED)
        root_cert = self.root_cert
        if mode == VERIFIED and not root_cert:
            root_cert = authorities(os.environ if environ is None else environ)
        return Tls(mode, root_cert, self.cert, self.key)


def is_near(host: str) -> bool:
    """Whether every host of PGHOST is this machine, or in a network of one's own, by its name.

    A socket; an address of no public network; a name without a dot, as a service of compose has it, or in a zone
    that is nobody's.
    """
    return all(_is_near(one.strip()) for one in host.split(","))


def _is_near(host: str) -> bool:
    if not host or host[0] in "/@":
        return True
    try:
        return not ipaddress.ip_address(host.partition("%")[0]).is_global
    except ValueError:
        name = host.rstrip(".").lower()
        return "." not in name or any(name.endswith(f".{zone}") for zone in NEAR_ZONES)


def authorities(environ: Mapping[str, str]) -> str:
    """What PGSSLROOTCERT is to be for the machine's own authorities; empty where libpq finds a file by itself.

    As a file, since libpq before 16 knows no other way.
    """
    if os.path.isfile(Path(environ.get("HOME") or "/nonexistent") / ".postgresql/root.crt"):
        return ""
    named = environ.get("SSL_CERT_FILE", "")
    return next((path for path in (named, *BUNDLES) if path and os.path.isfile(path)), OF_OPENSSL)
