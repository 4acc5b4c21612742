"""The zoo: a database with one of each kind of object, made by `zoo.sql`, and an extension that has tables."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support import Psql
from tests.support.containers import psql_of

SCRIPT = Path(__file__).with_suffix(".sql")
EXTENSION = "zoo_extension"
EXTENSION_SCRIPT = SCRIPT.with_name(f"{EXTENSION}.sql")
CONTROL = "comment = 'has rows of its own'\ndefault_version = '1'\nrelocatable = false\nschema = public\n"
TABLESPACE = "zoo space"


def install_extension(container: str) -> None:
    """Put the extension's files where the server of a container looks for them."""
    find = "dirname $(find / -xdev -name plpgsql.control | head -1)"
    home = _in(container, "sh", "-c", find).strip()
    for name, text in ((".control", CONTROL), ("--1.sql", EXTENSION_SCRIPT.read_text(encoding="utf-8"))):
        _in(container, "sh", "-c", f"cat > {home}/{EXTENSION}{name}", text=text)


def make_tablespace(container: str) -> None:
    """A tablespace of the server in a container."""
    _in(container, "sh", "-c", "mkdir -p /tmp/zoo && chown postgres /tmp/zoo")
    make = f"CREATE TABLESPACE \"{TABLESPACE}\" LOCATION '/tmp/zoo'"
    psql_of(container)(make)


def _in(container: str, *command: str, text: str = "") -> str:
    """What a command in the container prints, given `text`."""
    argv = ["docker", "exec", "-i", container, *command]
    return subprocess.run(argv, input=text, check=True, capture_output=True, text=True).stdout


def load(psql: Psql, database: str, *, rows: int = 400, extension: str = "", tablespace: str = "") -> None:
    """Fill an empty database; without an extension or a tablespace where none is named."""
    variables = {"rows": str(rows)}
    if extension:
        variables["extension"] = extension
    if tablespace:
        variables["tablespace"] = tablespace
    psql(SCRIPT.read_text(encoding="utf-8"), database=database, variables=variables)
