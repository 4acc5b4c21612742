"""The verdict: what is green, amber and red, in which words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from hubbackup.status.verdict import Level, Verdict, judge
from hubbackup.units import human_age, human_bytes, human_number, human_seconds, listed
from tests.support.hub_chantier import NOW, S3_TIMEOUT, Site

HOUR = timedelta(hours=1)
LAST_NIGHT = NOW - 6 * HOUR  # close to 03:00 in Paris


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def verdict_of(site: Site, later: timedelta = timedelta(0)) -> Verdict:
    return judge(site.snapshot(NOW), NOW + later)


def test_all_right_is_said_with_age_and_places(site: Site) -> None:
    """Green has one sentence: how old, and where."""
    site.add_backup(LAST_NIGHT)
    verdict = verdict_of(site)
    assert (verdict.level, verdict.headline, verdict.findings) == (Level.OK, "All right.", ())
    assert verdict.summary == "The last good backup is 6 h old and in both places."


def test_one_place_is_said_to_be_one(tmp_path: Path) -> None:
    """Without S3 all may be right, and the page does not hide that the backup is on the same server."""
    site = Site(tmp_path, with_s3=False)
    site.add_backup(LAST_NIGHT, stores=("local",))
    verdict = verdict_of(site)
    assert verdict.level == Level.OK
    assert verdict.summary == "The last good backup is 6 h old and on this server only."


def test_what_is_not_known_is_said(site: Site) -> None:
    """A store that does not answer may hold a copy: the page says neither yes nor no."""
    site.add_backup(LAST_NIGHT)
    site.s3.down = "no answer"
    summary = "The last good backup is 6 h old and in the local store; whether it is in S3 too is not known now."
    assert verdict_of(site).summary == summary


def test_another_daemons_backup_is_as_good_as_ours(site: Site) -> None:
    """The run here stepped back for it: all is right, though it is not on this disk."""
    name = site.add_backup(LAST_NIGHT, stores=("s3",))
    assert verdict_of(site).level == Level.WARNING
    site.add_run("backup", LAST_NIGHT + HOUR, 0.2, 0, name=str(name), copies=["s3"], not_needed=True)
    assert verdict_of(site).findings == ()


def failed_run(site: Site) -> None:
    site.add_failure(LAST_NIGHT + HOUR)


def stopped_run(site: Site) -> None:
    site.add_run("backup", LAST_NIGHT + HOUR, 3.0, 143, cause="stopped")


def failed_drill(site: Site) -> None:
    site.add_run("drill", LAST_NIGHT + HOUR, 40, 1, cause="public.chantiers has 3 rows, 412 were dumped")


def drill_with_a_difference(site: Site) -> None:
    site.add_run("drill", LAST_NIGHT + HOUR, 40, 0, ok=False)


def s3_down(site: Site) -> None:
    site.s3.down = "no answer"


def missing_copy(site: Site) -> None:
    site.add_backup(LAST_NIGHT + HOUR, stores=("local",), problems=(S3_TIMEOUT,))


def suspicious(site: Site) -> None:
    site.add_backup(LAST_NIGHT + HOUR, warnings=("the dump has 1 bytes, it had 9",))


def unrestorable(site: Site) -> None:
    name = site.add_backup(LAST_NIGHT + HOUR)
    mark = b'{"why": "CREATE INDEX i: function f() does not exist"}'
    site.s3.files[name.replace(".sql.gz", ".unrestorable")] = (len(mark), mark)


def damaged_copy(site: Site) -> None:
    name = site.add_backup(LAST_NIGHT - timedelta(days=1))
    site.s3.files[name.replace(".sql.gz", ".bad")] = (0, b"")


def degraded_otherwise(site: Site) -> None:
    site.add_backup(LAST_NIGHT + HOUR, problems=("no roles in the backup: permission denied",))


def unproven_only(site: Site) -> None:
    for path in site.local.directory.glob("*.json"):
        path.unlink()
    site.s3.files.clear()


@pytest.mark.parametrize(
    ("happens", "level", "sentence"),
    [
        (failed_run, Level.CRITICAL, "The last run, 5 h ago, failed at the stage prepare: the container of"),
        (stopped_run, Level.WARNING, "The last run, 5 h ago, was stopped before its end."),
        (failed_drill, Level.CRITICAL, "The last restore drill, 5 h ago, failed: public.chantiers has 3 rows"),
        (drill_with_a_difference, Level.CRITICAL, "The last restore drill, 5 h ago, failed."),
        (s3_down, Level.WARNING, "S3 can't be read: no answer."),
        (missing_copy, Level.WARNING, "The last good backup of hub_chantier is not in S3 (no copy in s3: could"),
        (
            unrestorable,
            Level.CRITICAL,
            "The last backup of hub_chantier can't be restored: CREATE INDEX i: function f() does not exist.",
        ),
        (suspicious, Level.WARNING, "The last backup of hub_chantier looks unlike the ones before: the dump has"),
        (damaged_copy, Level.WARNING, "A verification found the copy of hub_chantier_backup_20260207_030400.sql.gz"),
        (degraded_otherwise, Level.WARNING, "The last run, 5 h ago, was not complete: no roles in the backup"),
        (unproven_only, Level.CRITICAL, "There is no good backup of hub_chantier in any store."),
    ],
)
def test_what_is_wrong_is_said_once(site: Site, happens: Callable[[Site], None], level: Level, sentence: str) -> None:
    """One trouble is one finding, of its level, in a sentence that names it."""
    site.add_backup(LAST_NIGHT)
    happens(site)
    verdict = verdict_of(site)
    assert verdict.level == level
    assert [finding.text[: len(sentence)] for finding in verdict.findings] == [sentence]


def test_a_failure_is_over_with_the_next_success(site: Site) -> None:
    """What is put right is no longer told at the top."""
    failed_run(site)
    failed_drill(site)
    site.add_backup(LAST_NIGHT + 3 * HOUR)
    site.add_run("drill", LAST_NIGHT + 4 * HOUR, 40, 0, ok=True)
    assert verdict_of(site).level == Level.OK


def test_a_missed_night_turns_red_two_hours_late(site: Site) -> None:
    """The schedule decides, not a fixed age: due at 03:00, missing at 05:00."""
    site.add_backup(LAST_NIGHT)
    nearly = NOW.replace(hour=3, minute=55) + timedelta(days=1)  # 04:55 in Paris
    snapshot = replace(site.snapshot(NOW), taken_at=nearly)
    assert judge(snapshot, nearly).level == Level.OK
    verdict = judge(snapshot, nearly + timedelta(minutes=10))
    assert verdict.findings[0].text == "A backup of hub_chantier was due 2 h ago, and there is none."


def test_the_first_start_is_not_red(site: Site) -> None:
    """Where nothing was ever backed up: when the first one comes, or that it is being made. Red once it is late, or
    where a run was tried, or where a store can't be asked."""
    snapshot = site.snapshot(NOW)
    verdict = judge(snapshot, NOW)
    assert (verdict.level, verdict.headline) == (Level.WARNING, "Waiting for the first backup.")
    assert "The first is due 09 Feb 03:00 CET." in verdict.findings[0].text
    assert "is being made now" in judge(snapshot, NOW, busy=True).findings[0].text
    late = replace(snapshot, watched_since={snapshot.databases[0]: NOW - timedelta(days=2)})
    assert judge(late, NOW).level == Level.CRITICAL
    local, s3 = snapshot.stores
    assert judge(replace(snapshot, stores=(local, replace(s3, problem="no answer"))), NOW).level == Level.CRITICAL
    assert judge(snapshot, NOW, healthy=False, health_sentence="gone").headline == "Action needed."
    failed_run(site)
    assert verdict_of(site).level == Level.CRITICAL


def test_what_the_daemon_says_of_its_settings_is_shown(site: Site) -> None:
    """An edit that it refused is amber, however good the backups are."""
    site.add_backup(LAST_NIGHT)
    verdict = judge(site.snapshot(NOW), NOW, remark="the last edit of the settings can't be used: TZ=Mars")
    assert verdict.level == Level.WARNING
    assert verdict.findings[0].text == "The last edit of the settings can't be used: TZ=Mars."


def test_old_facts_and_a_dead_scheduler_are_said(site: Site) -> None:
    """The page never looks fresher than it is, and never calm while nothing is scheduled."""
    site.add_backup(LAST_NIGHT)
    assert "are 60 min old" in verdict_of(site, timedelta(minutes=59.9)).findings[0].text
    dead = judge(site.snapshot(NOW), NOW, healthy=False, health_sentence="the last heartbeat is 400 s old")
    assert dead.level == Level.CRITICAL
    assert dead.findings[0].text == "No backup will start by itself: the last heartbeat is 400 s old."


@pytest.mark.parametrize(("free_bytes", "level"), [(200, Level.OK), (149, Level.WARNING), (59, Level.CRITICAL)])
def test_a_disk_that_fills_is_told(site: Site, free_bytes: int, level: Level) -> None:
    """Room for fewer than three backups is amber, for none red."""
    site.add_backup(LAST_NIGHT, plain_bytes=500)
    snapshot = site.snapshot(NOW)
    local, s3 = snapshot.stores
    assert judge(replace(snapshot, stores=(replace(local, free_bytes=free_bytes), s3)), NOW).level == level


def test_all_stores_down_is_red(site: Site) -> None:
    """With no store to ask, the absence of a backup is told as far as it is known."""
    site.s3.down = "no answer"
    site.local.directory = site.local.directory / "absent"
    verdict = verdict_of(site)
    assert verdict.level == Level.CRITICAL
    assert any("in any store that answers" in finding.text for finding in verdict.findings)


def test_figures_in_words() -> None:
    """Sizes, ages, durations and lists as people read them."""
    assert [human_bytes(n) for n in (0, 999, 1000, 52_240_000, 3e12)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "52.2 MB",
        "3.0 TB",
    ]
    assert [human_age(s) for s in (-5, 59, 7200, 86400 * 3)] == ["0 min", "1 min", "2 h", "3 d"]
    assert [human_seconds(s) for s in (0.04, 9.99, 75, 7500)] == ["0.0 s", "10 s", "1 min 15 s", "2 h 05 min"]
    assert human_number(1234567).split("\u202f") == ["1", "234", "567"]
    assert [listed(words) for words in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]


def put(site: Site, database: str, *nights: int, refused: bool = False) -> None:
    """Its backups of so many nights ago."""
    site.database = database
    for night in nights:
        name = site.add_backup(LAST_NIGHT - timedelta(days=night), record=False)
        if refused:
            mark = b'{"why": "CREATE INDEX i: function f() does not exist"}'
            site.s3.files[name.replace(".sql.gz", ".unrestorable")] = (len(mark), mark)


def summary_of(site: Site, *databases: str) -> str:
    return judge(site.collector(*databases).take(NOW), NOW).summary


def test_a_backup_of_another_database_restores_none_of_this_one(site: Site) -> None:
    """Which backup is the last that can be restored is asked of each database by itself."""
    put(site, "b", 0)
    put(site, "a", 0, 1, refused=True)
    sentence = "The last backup of a is 6 h old and can't be restored; there is none that can."
    assert summary_of(site, "a", "b") == sentence
    put(site, "a", 2)
    sentence = "The last backup of a is 6 h old and can't be restored; the last that can is 2 d old."
    assert summary_of(site, "a", "b") == sentence
    put(site, "c", 0, refused=True)
    sentence = "The last backups of 2 of 3 databases can't be restored; of 1 of them there is none that can."
    assert summary_of(site, "a", "b", "c") == sentence
    put(site, "c", 1)
    sentence = "The last backups of 2 of 3 databases can't be restored; each of them has an older one that can."
    assert summary_of(site, "a", "b", "c") == sentence


def test_one_from_the_future_is_not_the_last_that_can_be_restored(site: Site) -> None:
    """It is never the newest, and nothing is said of it but that it is there."""
    put(site, "a", 0, refused=True)
    put(site, "a", -3)
    assert summary_of(site, "a", "b").endswith("can't be restored; there is none that can.")


def test_another_daemons_backup_of_one_of_several_is_as_good_as_ours(site: Site) -> None:
    """The run here stepped back for one database, and made the other's backup: both are as they should be."""
    site.database = "b"
    mine = site.add_backup(LAST_NIGHT, record=False)
    site.database = "a"
    theirs = site.add_backup(LAST_NIGHT, stores=("s3",), record=False)
    run = {"run_id": "r1", "started_at": LAST_NIGHT + HOUR, "seconds": 1.0, "exit_code": 0}
    site.history.add("backup", **run, facts={"database": "a", "name": theirs, "copies": ["s3"], "not_needed": True})
    site.history.add("backup", **run, facts={"database": "b", "name": mine, "copies": ["local", "s3"]})
    assert judge(site.collector("a", "b").take(NOW), NOW).findings == ()
