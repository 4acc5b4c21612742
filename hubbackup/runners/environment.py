"""What a tool on this machine gets of hubbackup's own environment.

No key of S3, no URL of an alert: psql runs what a file says. And of the variables of PostgreSQL's tools only those by
which the operator says how the way to the server is secured.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

INHERITED = frozenset(
    {
        *("PATH", "HOME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LD_LIBRARY_PATH"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "OPENSSL_CONF", "OPENSSL_MODULES"),
        *("KRB5_CONFIG", "KRB5CCNAME", "KRB5_CLIENT_KTNAME"),
    }
)
"""To be found and started, to write text, and what the libraries for TLS and Kerberos read; beside LC_*."""

_SECURES_THE_WAY = re.compile(
    r"PG(?:SSL[A-Z]*|GSS[A-Z]*|KRB[A-Z]*|REQUIRE[A-Z]*|OAUTH[A-Z]*|CHANNELBINDING|PASSFILE|SYSCONFDIR"
    r"|(?:MIN|MAX)PROTOCOLVERSION)"
)


def secures_the_way(name: str) -> bool:
    """Whether this variable says how a connection is encrypted, or how either side proves who it is.

    By families, so that a name of a coming version counts before it is known here.
    """
    return _SECURES_THE_WAY.fullmatch(name) is not None


def inherited(environment: Mapping[str, str]) -> dict[str, str]:
    """The part of `environment` that a tool gets. An empty value is none: libpq would take it for a wrong one."""
    return {
        name: value
        for name, value in environment.items()
        if value and (name in INHERITED or name.startswith("LC_") or secures_the_way(name))
    }
