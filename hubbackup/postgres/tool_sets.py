"""Which of the client tools on this machine fit a server: those of its own major, where several are there.

A dump by a newer pg_dump is complete, but an older psql may not read it; so the server's own come first, then the
next newer ones.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hubbackup.dump.versions import major_of
from hubbackup.errors import HubbackupError, ToolError
from hubbackup.postgres import session
from hubbackup.postgres.databases import Databases
from hubbackup.postgres.messages import meaning_of
from hubbackup.postgres.session import Connection
from hubbackup.runners import run
from hubbackup.runners.direct import DirectRunner

ROOT = Path("/")
PLACES = ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin", "usr/libexec/postgresql[0-9]*")
"""From the root, a directory for each major: Debian's and this project's image, Red Hat's, Alpine's."""
_MAJOR = re.compile(r"(?:postgresql/?|pgsql-)(?P<major>[0-9]+)")


@dataclass(frozen=True)
class ToolSet:
    """The tools of one major, and the PATH that finds them first; empty for PATH as it is."""

    major: int
    path: str = ""


def in_directories(places: Sequence[str]) -> list[ToolSet]:
    """A set for each directory of a major that has a pg_dump and a psql."""
    found = []
    for directory in sorted(str(path) for place in places for path in ROOT.glob(place.lstrip("/"))):
        major = _MAJOR.search(directory)
        if major is not None and all(os.access(f"{directory}/{tool}", os.X_OK) for tool in ("pg_dump", "psql")):
            path = os.pathsep.join([directory, os.environ.get("PATH", os.defpath)])
            found.append(ToolSet(int(major["major"]), path))
    return found


def fitting(sets: Iterable[ToolSet], server_major: int) -> ToolSet:
    """The server's own, else the next newer, else the newest; of equal ones the first. There must be one."""
    sets = list(sets)
    newer = [one for one in sets if one.major >= server_major]
    return min(newer, key=lambda one: one.major) if newer else max(sets, key=lambda one: one.major)


def with_fitting_tools(
    runner: DirectRunner, connection: Connection, database: str, places: Sequence[str] | None = None
) -> DirectRunner:
    """`runner` with the tools that fit the server; of equal ones, those in PATH.

    The server is asked only where there is a choice. Where it doesn't answer, those in PATH stay, or the newest:
    whoever uses them is told why.
    """
    sets = in_directories(PLACES if places is None else places)
    if not sets:
        return runner
    first = runner
    if shutil.which("pg_dump") and shutil.which("psql"):
        on_path = _major_on_path(runner)
        if on_path == 0:  # they don't say what they are: then nobody else takes their place
            return runner
        sets.insert(0, ToolSet(on_path))
    else:
        first = runner.with_path(max(sets, key=lambda one: one.major).path)
    if len({one.major for one in sets}) > 1:
        with suppress(HubbackupError):
            return runner.with_path(fitting(sets, _major_of_server(first, connection, database)).path)
    return first


def _major_on_path(runner: DirectRunner) -> int:
    """Of the pg_dump in PATH; 0 where it doesn't tell."""
    with suppress(HubbackupError):
        said = run(runner, ["pg_dump", "--version"], {"LC_ALL": "C"}).decode(errors="replace")
        return major_of(said.partition(") ")[2])
    return 0


def _major_of_server(runner: DirectRunner, connection: Connection, database: str) -> int:
    """Asked in `database`, or where it is not there yet in another one. Raises HubbackupError."""
    question = "SHOW server_version_num;"
    try:
        answer = session.sql(runner, connection, database, question)
    except ToolError as error:
        meaning = meaning_of(error.stderr)
        if meaning is None or "3D000" not in meaning.codes:
            raise
        answer = Databases(runner, connection, database).sql(question)
    return int(answer) // 10000
