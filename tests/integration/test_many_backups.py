"""The program on a backlog that nobody pruned for years: what it holds of each backup is little."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from hubbackup.catalog.backup import BackupName
from hubbackup.stores.local import LocalStore
from tests.support.backups import manifest_of, put_backup
from tests.support.program import Program, finish

FIRST = datetime(2021, 1, 1, 3)
MANY = 6_000
# `ru_maxrss` is of no use: a child inherits its parent's. VmHWM is the program's own.
TOLD_AT_THE_END = """
import atexit, sys
atexit.register(lambda: print([line for line in open("/proc/self/status") if "VmHWM" in line][0], file=sys.stderr))
from hubbackup.__main__ import main
main()
"""


def fill(directory: Path, backups: int) -> Program:
    """So many backups, with manifests of 25 KB each, as a database of a few hundred tables has them."""
    directory.mkdir()
    store = LocalStore(directory)
    first = put_backup(store, "hub", FIRST)
    data = (directory / str(first)).read_bytes()
    rows = {f"public.a_table_with_a_long_name_{number}": 1000 * number for number in range(500)}
    text = manifest_of(first, data, rows=rows).to_json().decode()
    for number in range(1, backups):
        name = BackupName("hub", FIRST + timedelta(hours=number))
        started_at = f"{name.local_time.isoformat()}Z"
        own = text.replace(str(first), str(name)).replace(f"{FIRST.isoformat()}Z", started_at)
        (directory / str(name)).write_bytes(data)
        (directory / name.manifest).write_text(own)
    return Program(directory.parent, {"BACKUP_DIR": str(directory), "POSTGRES_DB": "hub", "POSTGRES_PASSWORD": "x"})


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Program:
    return fill(tmp_path_factory.mktemp("few") / "backups", 50)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Program:
    return fill(tmp_path_factory.mktemp("many") / "backups", MANY)


@pytest.mark.parametrize(
    ("command", "bytes_each"),
    [
        (("list", "--json"), 2000),
        (("list", "--limit", "0"), 2000),
        (("prune", "--dry-run", "--json"), 2500),
        (("status", "--json"), 10_000),
        (("check",), 1500),
    ],
    ids=lambda given: given[0] if isinstance(given, tuple) else "",
)
def test_little_is_held_of_each_backup(
    few: Program, many: Program, command: tuple[str, ...], bytes_each: int
) -> None:
    """A few kilobytes at most, where its manifest alone has twenty-five and takes far more once it is read."""
    peaks = []
    for program in (few, many):
        done = finish(program.start(*command, code=TOLD_AT_THE_END))
        peaks.append(int(done.err.rpartition("VmHWM:")[2].split()[0]) * 1024)
        assert done.out
    assert peaks[1] - peaks[0] < MANY * bytes_each
