"""The snapshot's facts in the words of the status page: what a time, a size, a copy looks like is decided here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

from hubbackup.jobs.current import AtWork
from hubbackup.jobs.history import RunRecord
from hubbackup.status.snapshot import BackupFacts, Snapshot
from hubbackup.units import human_age, human_bytes, human_number, human_seconds, listed
from hubbackup.web.cells import AlertsView, Attempt, Disk, Drill, Holdings, KeptView, NextRemoval, Row, Time, Work
from hubbackup.web.commands import commands_of
from hubbackup.web.plot import Plot, Point, decimal_step, draw, time_step

SHOWN_REMOVALS = 6
TITLES: dict[str, str] = {
    "backup": "A backup",
    "restore": "A restore",
    "recover": "A recovery of rows",
    "undo": "The undoing of a restore",
    "drill": "A restore drill",
    "schema_drill": "A drill of a schema",
    "verify": "A verification",
    "repair": "A repair of damaged copies",
    "prune": "A removal of old backups",
    "pin": "The pinning of a backup",
    "unpin": "The unpinning of a backup",
    "accept": "The acceptance of a backup",
    "adopt": "An adoption of backups",
    "lifecycle": "A change of the bucket's rules",
}
"""How a run at work is called."""
SHOWN_DRILLS = 12
PLOT_DAYS = 90


class View:
    """The snapshot's facts in the words of the page."""

    def __init__(self, snapshot: Snapshot, now: datetime, typable: Callable[[str], str] = str) -> None:
        """`typable` words a text's commands as the page's reader types them."""
        self._snapshot = snapshot
        self._now = now
        self._typable = typable
        self._zone = snapshot.schedule.zone

    def time(self, moment: datetime) -> Time:
        """In the schedule's time zone; the year only where it isn't this one's."""
        local = moment.astimezone(self._zone)
        year = "" if local.year == self._now.astimezone(self._zone).year else f" {local.year}"
        away = (moment - self._now).total_seconds()
        words = f"in {human_age(away)}" if away > 0 else f"{human_age(-away)} ago"
        return Time(
            f"{local:%a} {local.day} {local:%b}{year}, {local:%H:%M}", moment.astimezone(UTC).isoformat(), words
        )

    def work(self, runs: Sequence[AtWork]) -> list[Work]:
        """The runs at work, each in a line."""
        return [
            Work(
                TITLES.get(run.kind, f"A run ({run.kind})"),
                self.time(run.since),
                run.how_far,
                min(99, 100 * run.done_bytes // run.total_bytes) if run.total_bytes > 0 else None,
            )
            for run in runs
        ]

    def facts(self) -> list[tuple[str, str, str]]:
        """The four figures that are asked for most: (what, value, detail)."""
        snapshot = self._snapshot
        good = [b for database in snapshot.databases if (b := snapshot.last_good(database))]
        newest = min(good, key=lambda backup: backup.started_at, default=None)
        found = [self._fact("Last good backup", newest.started_at if newest else None, "none yet")]
        found.append(self._fact("Next run", snapshot.schedule.next_after(self._now), "the schedule is never due"))
        drills = [run for run in snapshot.runs_of("drill") if run.result != "failed"]
        found.append(self._fact("Last successful drill", drills[0].started_at if drills else None, "none yet"))
        for store in snapshot.stores:
            if store.free_bytes is not None and store.size_bytes:
                share = f"{100 * store.free_bytes // store.size_bytes} % of {human_bytes(store.size_bytes)}"
                found.append(("Free disk", human_bytes(store.free_bytes), share))
        return found

    def _fact(self, what: str, moment: datetime | None, without: str) -> tuple[str, str, str]:
        if moment is None:
            return what, "\N{EN DASH}", without
        time = self.time(moment)
        return what, time.away, time.text

    def rows(self) -> Iterator[Row]:
        """Backups, and runs that gave none, the newest first."""
        made = {run.name: run for run in self._snapshot.runs_of("backup") if run.name and not run.not_needed}
        drilled = {run.name for run in self._snapshot.runs_of("drill") if run.result in ("success", "degraded")}
        entries: list[tuple[datetime, Row]] = [
            (backup.started_at, self._backup_row(backup, made.get(backup.name), backup.name in drilled))
            for backup in self._snapshot.backups
        ]
        entries += [
            (run.started_at, self._run_row(run))
            for run in self._snapshot.runs_of("backup")
            if run.result in ("failed", "stopped")
        ]
        return (row for _, row in sorted(entries, key=lambda entry: entry[0], reverse=True))

    def _backup_row(self, backup: BackupFacts, run: RunRecord | None, drilled: bool) -> Row:
        copies = self._copies(backup, run)
        damaged = [f"the copy in {self._snapshot.title(store)} is damaged" for store in backup.damaged_in]
        problem = backup.problem or ("its file is not what its manifest says" if not backup.good else "")
        if problem:
            state, proof = "unproven", "Foreign" if backup.foreign else "Unproven"
        else:
            whole = all(mark in ("good", "late", "unknown") for _, mark in copies)
            state = "good" if whole and not backup.warnings and not backup.unrestorable else "degraded"
            read_back = {"full": "Read back whole", "hash": "Hash compared"}.get(backup.verified, "Has a manifest")
            proof = "Unrestorable" if backup.unrestorable else "Restored in a drill" if drilled else read_back
        seconds = run.seconds if run else backup.dump_seconds
        problems = run.problems if run else ()
        of_copies = {one: store for one in problems if (store := self._lacking_store(one))}
        missing = {store for store, mark in copies if mark == "missing"}
        future = backup.from_future(self._now)
        notes = ["pinned: never pruned"] * backup.pinned + ["from the future"] * future
        notes += [one for one in problems if one not in of_copies]
        return Row(
            time=self.time(backup.started_at),
            state=state,
            database=backup.database,
            name=backup.name,
            stored=human_bytes(backup.stored_bytes),
            plain=human_bytes(backup.plain_bytes) if backup.plain_bytes is not None else "",
            rows=human_number(backup.rows) if backup.rows is not None else "",
            took=human_seconds(seconds) if seconds is not None else "",
            copies=tuple((self._short(name), mark) for name, mark in copies),
            proof=proof,
            note="; ".join(filter(None, (*notes, problem, *damaged, backup.unrestorable, *backup.warnings))),
            changes=run.changes if run else "",
            # Of a copy that came later the old reason says nothing any more.
            lacking="; ".join(one for one, store in of_copies.items() if store in missing),
            commands=commands_of(backup, self._snapshot, self._typable),
        )

    def _lacking_store(self, problem: str) -> str:
        """The store whose copy a run's problem is about; empty where it is about something else."""
        return next((one.name for one in self._snapshot.stores if problem.startswith(f"no copy in {one.name}:")), "")

    def _copies(self, backup: BackupFacts, run: RunRecord | None) -> list[tuple[str, str]]:
        """Where it is; and where its own run could not leave it, unless it came there later."""
        failed = run.result == "degraded" if run else False
        marks = dict.fromkeys(backup.not_good_in, "bad") | dict.fromkeys(backup.good_in, "good")
        for store in self._snapshot.stores:
            if store.problem:
                marks[store.name] = "unknown"
            elif failed and run and store.name not in run.copies:
                marks[store.name] = "late" if store.name in backup.good_in else "missing"
        return [(store.name, marks[store.name]) for store in self._snapshot.stores if store.name in marks]

    def _run_row(self, run: RunRecord) -> Row:
        stage = f" at the stage {run.stage}" if run.stage else ""
        word = "Stopped" if run.result == "stopped" else "Failed"
        note = f"{word}{stage}: {run.cause or 'no cause was recorded'}"
        return Row(
            self.time(run.started_at),
            run.result,
            run.database,
            "",
            took=human_seconds(run.seconds),
            note=note,
            remedy=self._typable(run.remedy),
        )

    def plots(self) -> list[Plot]:
        """Sizes and durations of the last months, from the record of runs, which outlives the backups."""
        since = self._now - timedelta(days=PLOT_DAYS)
        runs = [run for run in reversed(self._snapshot.runs_of("backup")) if run.started_at > since]
        drawn: list[Plot | None] = []
        for number, database in enumerate(self._snapshot.databases):
            mine = [run for run in runs if run.database in ("", database)]
            done = [run for run in mine if run.result in ("success", "degraded") and not run.not_needed]
            lost = [
                (run.started_at, f"{self.time(run.started_at).text}: failed")
                for run in mine
                if run.result == "failed"
            ]
            of = f" of {database}" if len(self._snapshot.databases) > 1 else ""
            for key, title, figure, words, axis, steps in (
                ("stored", "Size as stored", lambda run: run.stored_bytes, _bytes, _axis_bytes, decimal_step),
                ("plain", "Size as SQL", lambda run: run.plain_bytes, _bytes, _axis_bytes, decimal_step),
                ("time", "Duration of a run", lambda run: run.seconds, human_seconds, _axis_seconds, time_step),
            ):
                points = self._points(done, figure, words)
                drawn.append(draw(f"{key}{number}", f"{title}{of}", points, lost, axis, steps, self._zone))
        return [plot for plot in drawn if plot is not None]

    def _points(
        self, runs: Sequence[RunRecord], figure: Callable[[RunRecord], float | None], label: Callable[[float], str]
    ) -> tuple[Point, ...]:
        return tuple(
            Point(run.started_at, value, f"{self.time(run.started_at).text}: {label(value)}")
            for run in runs
            if (value := figure(run)) is not None
        )

    def drills(self) -> list[Drill]:
        """The last drills."""
        return [
            Drill(
                self.time(run.started_at),
                good=run.result in ("success", "degraded"),
                word={"success": "Passed", "degraded": "Passed", "stopped": "Stopped"}.get(run.result, "Failed"),
                name=run.name,
                store=self._short(run.store) if run.store else "",
                rto=human_seconds(run.rto_seconds) if run.rto_seconds is not None else "\N{EN DASH}",
                load=human_seconds(run.load_seconds) if run.load_seconds is not None else "",
                note="; ".join(filter(None, (run.cause, *run.problems))),
            )
            for run in self._snapshot.runs_of("drill")[:SHOWN_DRILLS]
        ]

    def next_drill(self) -> Time | None:
        """When the next one is due, where they are scheduled."""
        schedule = self._snapshot.drill_schedule
        due = schedule.next_after(self._now) if schedule else None
        return self.time(due) if due else None

    def _short(self, store: str) -> str:
        """A store's name in a cell: its title, but the plain word for this disk."""
        titles = (one.title for one in self._snapshot.stores if one.name == store and not one.on_disk)
        return next(titles, store).removeprefix("the ")

    def stores(self) -> list[Holdings]:
        """Each store's health and holdings."""
        found = []
        for store in self._snapshot.stores:
            held = self._snapshot.in_store(store.name)
            unproven = sum(1 for backup in self._snapshot.backups if store.name in backup.not_good_in)
            title = store.title.removeprefix("the ")
            disk = None
            if store.free_bytes is not None and store.size_bytes:
                used = max(0, store.size_bytes - store.free_bytes)
                free = f"{human_bytes(store.free_bytes)} of {human_bytes(store.size_bytes)} free"
                disk = Disk(round(100 * used / store.size_bytes), free)
            found.append(
                Holdings(
                    name=title[:1].upper() + title[1:],
                    where=store.where,
                    problem=store.problem,
                    remedy=store.remedy,
                    keeps=store.keeps,
                    count=len(held),
                    unproven=unproven,
                    bytes=human_bytes(sum(backup.stored_bytes for backup in held)),
                    newest=self.time(held[0].started_at) if held else None,
                    oldest=self.time(held[-1].started_at) if held else None,
                    disk=disk,
                )
            )
        return found

    def alerts(self) -> AlertsView:
        """Who is told of failures, and the last attempts."""
        facts = self._snapshot.alerts
        told = [*facts.sinks, *(["the dead man's switch"] if facts.heartbeat else [])]
        return AlertsView(
            told=listed(told),
            sent=Attempt(self.time(facts.sent_at), facts.sent) if facts.sent_at else None,
            failed=Attempt(self.time(facts.failed_at), facts.failure) if facts.failed_at else None,
            failing=facts.failing,
            waiting=facts.waiting,
        )

    def kept(self) -> list[KeptView]:
        """The databases beside the live ones, and those of which only backups are left."""
        gone = [
            KeptView(
                name,
                human_bytes(sum(one.stored_bytes for one in self._snapshot.backups if one.database == name)),
                f"gone from the server since {self.time(since).text}; its backups are kept",
            )
            for name, since in self._snapshot.gone.items()
        ]
        return gone + [
            KeptView(
                one.name,
                human_bytes(one.size_bytes),
                "what a restore replaced; --undo brings the newest back"
                if one.kind == "before"
                else "half-filled by a restore that was killed; the next one removes it",
            )
            for one in self._snapshot.aside.databases or ()
        ]

    def removals(self) -> list[NextRemoval]:
        """What is removed next."""
        return [
            NextRemoval(self.time(one.at), one.name, self._short(one.store), one.reason)
            for one in self._snapshot.leaving[:SHOWN_REMOVALS]
        ]


def _bytes(value: float) -> str:
    return human_bytes(round(value))


def _axis_bytes(value: float) -> str:
    """Round on an axis: `0`, `250 MB`."""
    return "0" if value == 0 else _bytes(value).replace(".0 ", " ")


def _axis_seconds(value: float) -> str:
    if value == 0:
        return "0"
    if value < 60:
        return f"{value:.0f} s"
    return f"{value / 60:.4g} min" if value < 3600 else f"{value / 3600:.4g} h"
