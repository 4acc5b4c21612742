"""`hubbackup check`: each state of the backups, as one line and the exit code that Nagios knows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from hubbackup.catalog.backup import Backup, BackupName, Manifest, Mark
from hubbackup.catalog.origin import Origin
from hubbackup.errors import StoreError, UsageError
from hubbackup.jobs.history import RunRecord
from hubbackup.status.nagios import PluginOutput, StoreView, assess, parse_age, worst_of
from hubbackup.stores import Entry
from hubbackup.stores.memory import MemoryStore
from tests.support.backups import put_backup, target_of

NOW = datetime(2026, 2, 9, 9, 0, tzinfo=UTC)
# https://nagios-plugins.org/doc/guidelines.html#AEN201
PERFORMANCE = re.compile(r"('[^'=|]+'=-?[\d.]+(s|B|)?(;[\d.]*){0,4}( |$))+")


def backup(hours: float = 6, warnings: tuple[str, ...] = ()) -> Backup:
    started_at = NOW - timedelta(hours=hours)
    name = BackupName("hub", started_at.replace(tzinfo=None, microsecond=0))
    manifest = Manifest.model_construct(name=str(name), started_at=started_at, stored_bytes=1234, warnings=warnings)
    return Backup(name, started_at, manifest, origin=Origin.OURS)


def ended(exit_code: int, **facts: Any) -> RunRecord:
    """The last run of the history."""
    return RunRecord("backup", "r1", NOW - timedelta(hours=6), 9.0, exit_code, **facts)


def ask(
    *stores: StoreView, last_run: RunRecord | None = None, max_age: timedelta | None = timedelta(hours=26)
) -> Any:
    answer = assess("hub", stores, last_run, deadline=None, max_age=max_age, now=NOW)
    line = str(answer)
    assert "\n" not in line
    text, _, performance = line.partition(" | ")
    assert "|" not in text
    assert not performance or PERFORMANCE.fullmatch(performance), performance
    return answer


def test_all_is_well() -> None:
    """A young good backup in each store: OK, with age, size and counts."""
    young = backup()
    answer = ask(StoreView("local", young, 2), StoreView("s3", young, 1), last_run=ended(0))
    assert answer.code == 0
    assert str(answer) == (
        "BACKUP OK - hub_backup_20260209_030000.sql.gz is 6 h old (in local, s3)"
        " | 'age'=21600s;;93600;0 'size'=1234B;;;0 'good_local'=2;;;0 'good_s3'=1;;;0"
    )


def test_none_at_all_is_critical() -> None:
    """Without a good backup nothing else counts."""
    assert ask(StoreView("local"), last_run=ended(0)).code == 2


def test_the_first_one_is_waited_for() -> None:
    """A warning until it is late; with an age that was asked for, or after a failure, critical."""

    def answer(hours: int, last_run: RunRecord | None = None, max_age: timedelta | None = None) -> PluginOutput:
        deadline = NOW + timedelta(hours=hours)
        return assess("hub", [StoreView("local")], last_run, deadline=deadline, max_age=max_age, now=NOW)

    assert str(answer(1)).startswith("BACKUP WARNING - there is no backup of hub yet, the first is to come")
    assert answer(-1).code == 2
    assert answer(1, last_run=ended(1)).code == 2
    assert answer(1, max_age=timedelta(hours=26)).code == 2


def test_too_old_is_critical_with_the_cause() -> None:
    """The line says how old, how old it may be, and why the last run failed."""
    answer = ask(StoreView("local", backup(30), 1), last_run=ended(1, cause="disk | full\nreally"))
    assert answer.code == 2
    assert "30 h old, more than 26 h; the last run failed: disk / full really" in str(answer)


def test_an_age_over_its_limit_reads_so() -> None:
    """Told in days, 50 hours and a limit of 49 would both be 2 d, and the line would make no sense."""
    answer = ask(StoreView("local", backup(50), 1), max_age=timedelta(hours=49))
    assert "is 50 h old, more than 49 h" in str(answer)


def test_the_schedule_gives_the_limit() -> None:
    """Without --max-age, the backup may be as old as the schedule's deadline lets it be."""
    late = assess("hub", [StoreView("local", backup(30), 1)], None, deadline=NOW, max_age=None, now=NOW)
    assert late.code == 0
    hour = timedelta(hours=1)
    assert (
        assess("hub", [StoreView("local", backup(30), 1)], None, deadline=NOW - hour, max_age=None, now=NOW).code == 2
    )


@pytest.mark.parametrize(
    ("stores", "last_run", "said"),
    [
        ([StoreView("local", backup(), 1), StoreView("s3", backup(30), 1)], None, "s3 lacks it"),
        ([StoreView("local", backup(), 1), StoreView("s3", problem="no key")], None, "s3 can't be read: no key"),
        ([StoreView("local", backup(6, ("half as big",)), 1)], None, "suspicious: half as big"),
        ([StoreView("local", backup(), 1)], ended(1, cause="no socket"), "the last run failed: no socket"),
        ([StoreView("local", backup(), 1)], ended(3, problems=("no roles",)), "degraded: no roles"),
    ],
)
def test_a_doubt_is_a_warning(stores: list[StoreView], last_run: RunRecord | None, said: str) -> None:
    """A young good backup with something wrong beside it: WARNING, and what it is."""
    answer = ask(*stores, last_run=last_run)
    assert answer.code == 1
    assert said in str(answer)


def test_another_daemons_backup_is_not_missing_here() -> None:
    """The last run stepped back for it: it is in the bucket, and on another host's disk."""
    stores = [StoreView("local", backup(30), 1, remote=False), StoreView("s3", backup(), 2)]
    stepped_back = ended(0, not_needed=True, name=str(backup().name))
    assert ask(*stores, last_run=stepped_back).code == 0
    assert "local lacks it" in str(ask(*stores, last_run=ended(0)))


def test_a_backup_that_does_not_restore_is_critical() -> None:
    """However young it is."""
    refused = replace(backup(), marks={Mark.UNRESTORABLE: frozenset({"local"})}, refused_because="no function f")
    answer = ask(StoreView("local", refused, 1), last_run=ended(0))
    assert answer.code == 2
    assert "unrestorable: no function f" in str(answer)


def test_what_cannot_be_seen_is_unknown() -> None:
    """Where a store can't be read and no other has a good backup, nobody knows."""
    answer = ask(StoreView("local", problem="no such directory"), StoreView("s3"))
    assert answer.code == 3
    assert "no such directory" in str(answer)


class Counting(MemoryStore):
    """Counts the manifests that are read."""

    opened = 0

    def open(self, name: str, **part: Any):  # type: ignore[no-untyped-def]
        self.opened += 1
        return super().open(name, **part)


def test_few_manifests_are_read() -> None:
    """However many backups there are: it is asked every few minutes, and in S3 each manifest is a request."""
    store = Counting("s3")
    made = [put_backup(store, "hub", datetime(2026, 2, 9, 3) - timedelta(days=days)) for days in range(100)]
    put_backup(store, "other", datetime(2026, 2, 9, 4))
    view = StoreView.of(target_of(store), "hub", ZoneInfo("UTC"), NOW)
    assert view.newest is not None
    assert (view.newest.name, view.good, view.problem) == (made[0], 100, "")
    assert store.opened <= 16


@pytest.mark.parametrize("harm", ["bad", "cut", "manifest lost", "manifest broken"])
def test_a_damaged_newest_does_not_count(harm: str) -> None:
    """The newest good one is older then, and where there is none other, none is counted."""
    store = MemoryStore("local")
    newest = put_backup(store, "hub", datetime(2026, 2, 9, 3))
    if harm == "bad":
        store.files[newest.mark(Mark.BAD)] = b""
    elif harm == "cut":
        store.files[str(newest)] = b"x"
    elif harm == "manifest lost":
        del store.files[newest.manifest]
    else:
        store.files[newest.manifest] = b"{"
    assert StoreView.of(target_of(store), "hub", ZoneInfo("UTC"), NOW) == StoreView("local")
    older = put_backup(store, "hub", datetime(2026, 2, 8, 3))
    view = StoreView.of(target_of(store), "hub", ZoneInfo("UTC"), NOW)
    assert view.newest is not None
    assert view.newest.name == older


def test_a_store_that_fails_is_told() -> None:
    """Its error is the view's problem."""

    class Gone(MemoryStore):
        def entries(self) -> Iterator[Entry]:
            raise StoreError("no such bucket")

    assert StoreView.of(target_of(Gone("s3")), "hub", ZoneInfo("UTC"), NOW) == StoreView(
        "s3", problem="no such bucket"
    )


@pytest.mark.parametrize(
    ("text", "seconds"), [("26h", 93600), ("90m", 5400), ("2d", 172800), ("60", 60), (" 5S ", 5)]
)
def test_ages(text: str, seconds: int) -> None:
    """Hours, minutes, days, seconds."""
    assert parse_age(text).total_seconds() == seconds


@pytest.mark.parametrize("text", ["", "0", "0h", "-1h", "h", "1w", "1.5h", "9999999999d", "٣h"])
def test_no_age(text: str) -> None:
    """Anything else is told, not guessed."""
    with pytest.raises(UsageError):
        parse_age(text)


def test_of_several_databases_the_worst_counts() -> None:
    """One line that names what is wrong first, with the figures of each; what is known to be bad is worse than what
    is not known."""
    found = {
        "a": PluginOutput(0, "fine", "'age'=1s;;;0 'size'=2B;;;0"),
        "b": PluginOutput(3, "no answer"),
        "c d='|": PluginOutput(2, "none", "'good_local'=0;;;0"),
    }
    said = worst_of(found)
    assert said.code == 2
    assert said.text == "c d='|: none; b: no answer; well: a"
    assert said.performance == "'a age'=1s;;;0 'a size'=2B;;;0 'c d___ good_local'=0;;;0"
    assert worst_of({"a": found["a"], "b": found["a"]}).text == "2 databases are well: a, b"
