"""The record of past runs: it survives crashes, stays bounded, and never fails a run."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hubbackup.jobs.history import KEEP_EACH, KEEP_LINES, KEEP_TIMES, OPTIONAL, History, RunRecord, whole_runs
from hubbackup.jobs.parts import badness
from hubbackup.restore.drill import next_database

START = datetime(2026, 2, 8, 3, tzinfo=UTC)
WHOLE = {"kind": "backup", "run_id": "r", "started_at": START.isoformat(), "seconds": 1.5, "exit_code": 0}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "history.jsonl"


def add(history: History, run_id: str, kind: str = "backup", **facts: object) -> None:
    history.add(kind, run_id, START, 1.5, 0, dict(facts))


def ids(history: History) -> list[str]:
    return [run.run_id for run in history.runs()]


def test_runs_come_back_in_order(path: Path) -> None:
    """What was added is read back, oldest first, with its facts."""
    history = History(path)
    add(history, "one", name="é\n")
    add(history, "two", kind="prune")
    assert ids(history) == ["one", "two"]
    last = history.last("backup")
    assert last is not None
    assert (last.run_id, last.name, last.started_at) == ("one", "é\n", START)
    assert history.last("restore") is None


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_torn_line_costs_no_other_run(path: Path, cut: int) -> None:
    """A crash in the middle of a line loses that run only: neither the one before nor the one after."""
    history = History(path)
    add(history, "before")
    add(history, "torn")
    path.write_bytes(path.read_bytes()[:-cut])
    add(history, "after")
    found = ids(history)
    assert found[0] == "before"
    assert found[-1] == "after"
    assert "torn" not in found or cut == 1  # without its newline alone, the line is whole


WRONG = [
    json.dumps(WHOLE | change).encode()
    for change in (
        {"started_at": 5},
        {"started_at": "never"},
        {"started_at": "2026-02-07T03:00:00"},
        {"started_at": "0001-01-01T00:00:00+14:00"},
        {"exit_code": None},
        {"exit_code": float("inf")},
        {"seconds": "long"},
        {"kind": 1},
        {"run_id": []},
        {"rto_seconds": 10**400},
    )
]
"""Whole lines with one value that can't be."""


@pytest.mark.parametrize("line", [b"\0\0\0", b"[1]", b"null", b"{}", b"\xff\xfe", b'{"kind": "backup"}', *WRONG])
def test_a_foreign_line_is_passed_over(path: Path, line: bytes) -> None:
    """Nobody who reads a run has to ask whether it has a time."""
    history = History(path)
    add(history, "before")
    with path.open("ab") as stream:
        stream.write(line + b"\n")
    add(history, "after")
    assert ids(history) == ["before", "after"]


def test_the_history_bounds_itself(path: Path) -> None:
    """A daemon of ten years keeps the newest thousand runs."""
    history = History(path, trim_bytes=130_000)
    for number in range(KEEP_LINES + 300):
        add(history, f"run{number}")
    found = ids(history)
    assert KEEP_LINES <= len(found) < KEEP_LINES + 300
    assert found[-1] == f"run{KEEP_LINES + 299}"
    assert all(json.loads(line) for line in path.read_text().splitlines())


def nights(history: History, databases: list[str], count: int, runs_a_day: int = 1) -> list[str]:
    """So many days of backups of each database, with a drill each week; returns the databases that were drilled."""
    drilled = []
    for night in range(count):
        for part in range(runs_a_day):
            for name in databases:
                at = START + timedelta(days=night, hours=part)
                history.add("backup", f"b{night}-{part}", at, 14.3, 0, {"database": name, **MADE})
        if night % 7 == 6:
            turn = next_database(databases, history.runs())
            drilled.append(turn)
            history.add("drill", f"d{night}", START + timedelta(days=night, hours=23), 52.1, 1, {"database": turn})
    return drilled


MADE = {"name": "hub_backup_20260208_030000.sql.gz", "plain_bytes": 512000, "stored_bytes": 51000, "rows": 31234}


@pytest.mark.parametrize(("many", "weeks", "runs_a_day"), [(20, 40, 1), (5, 12, 24)])
def test_each_of_several_databases_has_its_drill(path: Path, many: int, weeks: int, runs_a_day: int) -> None:
    """However many backups lie between two drills: each database has its turn, and its drill is remembered."""
    databases = [f"db{number:02}" for number in range(many)]
    history = History(path, trim_bytes=1 << 18)
    drilled = nights(history, databases, 7 * weeks, runs_a_day)
    assert [drilled.count(name) for name in databases] == [
        weeks // many + (number < weeks % many) for number in range(many)
    ]
    for name in databases:
        last = history.last("drill", name)
        assert last is not None
        assert (last.database, last.result) == (name, "failed")


def test_rare_runs_outlive_frequent_ones(path: Path) -> None:
    """The last runs of each kind and of each database are kept, in their order, however many others there were."""
    history = History(path, keep_lines=100, trim_bytes=1)
    for number in range(KEEP_EACH + 5):
        add(history, f"restore{number}", kind="restore", database="a")
        add(history, f"backup-b{number}", database="b")
    for number in range(299):
        add(history, f"backup-a{number}", database="a")
    add(History(path, keep_lines=100, trim_bytes=1), "backup-a299", database="a")
    found = list(history.runs())
    assert [run.run_id for run in found if run.kind == "restore"] == [
        f"restore{number}" for number in range(5, KEEP_EACH + 5)
    ]
    assert sum(run.database == "b" for run in found) == KEEP_EACH
    assert [run.run_id for run in found[-100:]] == [f"backup-a{number}" for number in range(200, 300)]


def test_ten_thousand_databases_do_not_unbind_it(path: Path) -> None:
    """Where every run is of another database, such as those of tests, the newest of each are kept up to a bound."""
    history = History(path, keep_lines=50, trim_bytes=1)
    add(history, "rare", kind="restore", database="tests0")
    for number in range(50 * (KEEP_TIMES + 2)):
        add(history, f"run{number}", database=f"tests{number}")
    add(History(path, keep_lines=50, trim_bytes=1), "last")
    found = ids(history)
    assert len(found) == 50 * KEEP_TIMES
    assert found[-2:] == [f"run{50 * (KEEP_TIMES + 2) - 1}", "last"]


def test_a_long_history_is_not_read_at_each_run(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all that is to be kept is longer than the file should be, it is trimmed when it is a quarter longer."""
    history = History(path, keep_lines=100, trim_bytes=1000)
    trims = []
    trim = history._trim
    monkeypatch.setattr(history, "_trim", lambda: (trims.append(1), trim()))
    for number in range(1000):
        add(history, f"run{number}")
    assert len(trims) < 50
    assert len(ids(history)) <= 126


def test_two_processes_lose_no_run_of_each_other(path: Path) -> None:
    """A verification has no lock: what it records while a backup trims the file is there afterwards."""
    script = (
        "import sys; from datetime import UTC, datetime; from pathlib import Path\n"
        "from hubbackup.jobs.history import History\n"
        "history = History(Path(sys.argv[1]), keep_lines=10_000, trim_bytes=1)\n"
        "for number in range(150):\n"
        "    history.add('verify', f'{sys.argv[2]}-{number}', datetime.now(UTC), 1.0, 0, {})"
    )
    writers = [subprocess.Popen([sys.executable, "-c", script, str(path), str(number)]) for number in range(3)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert sorted(ids(History(path))) == sorted(f"{one}-{number}" for one in range(3) for number in range(150))


def test_no_history_is_no_error(tmp_path: Path) -> None:
    """Where nothing can be read or written, a run goes on without a record."""
    (tmp_path / "file").write_text("")
    history = History(tmp_path / "file" / "history.jsonl")
    add(history, "lost")
    assert ids(history) == []
    assert history.last("backup") is None


EARLIER = """\
{"kind": "backup", "run_id": "20260207T020000-00000a", "started_at": "2026-02-07T03:00:00+01:00", "seconds": 14.3,\
 "exit_code": 3, "database": "hub", "name": "hub_backup_20260207_030000.sql.gz", "plain_bytes": 512,\
 "stored_bytes": 51, "dump_seconds": 9.1, "copies": ["local"], "rows": 3, "problems": ["no copy in s3: 503"]}
{"kind": "backup", "run_id": "20260207T030000-00000b", "started_at": "2026-02-07T03:00:00+00:00", "seconds": 2,\
 "exit_code": 1, "stage": "prepare", "cause": "no socket"}
{"kind": "drill", "run_id": "20260207T040000-00000c", "started_at": "2026-02-07T04:00:00Z", "seconds": 52.1,\
 "exit_code": 0, "ok": false, "store": "s3", "rto_seconds": 43}
{"kind": "restore", "run_id": "20260207T050000-00000d", "started_at": "2026-02-07T05:00:00Z", "seconds": 1,\
 "exit_code": 143}
{"kind": "prune", "run_id": "20260207T060000-00000e", "started_at": "2026-02-07T06:00:00Z", "seconds": 1,\
 "exit_code": 0, "removed": [], "of_a_later_version": {"x": 1}}
"""


def test_what_earlier_versions_wrote_is_read(path: Path) -> None:
    """A year of runs is not lost by an update: what they told is there, and what they didn't is empty."""
    path.parent.mkdir()
    path.write_text(EARLIER)
    backup, failed, drill, stopped, prune = History(path).runs()
    at = datetime(2026, 2, 7, 2, tzinfo=UTC)
    assert backup == RunRecord(
        "backup",
        "20260207T020000-00000a",
        at,
        14.3,
        3,
        problems=("no copy in s3: 503",),
        database="hub",
        name="hub_backup_20260207_030000.sql.gz",
        copies=("local",),
        plain_bytes=512,
        stored_bytes=51,
    )
    assert (failed.stage, failed.cause, failed.seconds) == ("prepare", "no socket", 2.0)
    assert (drill.store, drill.rto_seconds, drill.name, drill.copies) == ("s3", 43.0, "", ())
    results = [run.result for run in (backup, failed, drill, stopped, prune)]
    assert results == ["degraded", "failed", "failed", "stopped", "success"]


def test_what_is_kept_is_kept_as_it_was(path: Path) -> None:
    """Trimming loses no field of a line, of whichever version: not even one that this version doesn't know."""
    path.parent.mkdir()
    path.write_text(f"torn\n{EARLIER}")
    history = History(path, keep_lines=3, trim_bytes=10)
    add(history, "new")
    lines = path.read_text().splitlines()
    assert lines[:5] == EARLIER.splitlines()
    assert json.loads(lines[5])["run_id"] == "new"


def test_every_field_of_a_record_is_read() -> None:
    """A field that is added to the record and not to the reading would stay empty forever."""
    assert OPTIONAL.keys() == RunRecord._field_defaults.keys()


def test_a_run_for_several_databases_is_one(tmp_path: Path) -> None:
    """Each has its record, by which it is asked for; the whole is as bad as its worst, which it names."""
    history = History(tmp_path / "history.jsonl")
    now = datetime.now(UTC)
    history.add("backup", "r1", now, 1.0, 0, {"database": "a"})
    history.add("backup", "r2", now, 1.0, 0, {"database": "a", "problems": ["no copy"]})
    history.add("backup", "r2", now, 2.0, 1, {"database": "b", "cause": "no room"})
    history.add("backup", "r2", now, 3.0, 3, {"database": "c"})
    first, second = whole_runs(history.runs())
    assert (first.database, first.exit_code) == ("a", 0)
    assert (second.exit_code, second.seconds, second.cause) == (1, 6.0, "b: no room")
    assert second.problems == ("a: no copy",)
    found = {name: history.last("backup", name) for name in ("", "a", "b")}
    assert {name: (one.run_id, one.exit_code) for name, one in found.items() if one} == {
        "": ("r2", 3),
        "a": ("r2", 0),
        "b": ("r2", 1),
    }
    assert history.last("backup", "nosuch") is None


@pytest.mark.parametrize(
    ("codes", "worst"), [([0, 3, 0], 3), ([3, 4], 4), ([4, 2], 2), ([2, 1], 1), ([1, 143], 143), ([0], 0)]
)
def test_the_worst_exit_code_counts(codes: list[int], worst: int) -> None:
    """In the order in which somebody has to act."""
    assert max(codes, key=badness) == worst
