"""`python -m bench --restore`: a restore beside psql and pg_restore, on a fast server and on one as it comes."""

from __future__ import annotations

import contextlib
import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench import goals, report, restores, shapes
from bench.figures import Goal
from bench.measure import BenchError, OutOfTimeError, Stopwatch
from bench.plan import RestorePart, RestorePlan
from bench.program import Workbench
from bench.rounds import Rounds, run_rounds
from bench.servers import RESTORING, STOCK, postgres_container, s3_server

FAST_SERVER, STOCK_SERVER = "fast", "stock"
SERVERS = {
    FAST_SERVER: "fsync off, wal_level=minimal, max_wal_size 8 GB, shared_buffers 512 MB",
    STOCK_SERVER: "PostgreSQL's own settings: fsync, wal_level=replica, max_wal_size 1 GB, shared_buffers 128 MB",
}


@dataclass(frozen=True)
class Group:
    """One shape of data, restored on one server."""

    shape: str
    server: str


class RestoreSession:
    """One run of the bench of restores."""

    def __init__(self, plan: RestorePlan, watch: Stopwatch, machine: dict[str, Any], before: Path | None) -> None:
        self._plan = plan
        self._watch = watch
        self._before = before
        self.machine = machine
        self.groups: dict[Group, Rounds] = {}
        self.notes: list[str] = []
        self.broken = False

    def run(self) -> None:
        """Measure everything that there is time for. Raises BenchError where nothing can be measured at all."""
        with contextlib.ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hubbackup-bench-")))
            watch = self._watch
            fast, stock = (stack.enter_context(postgres_container(watch, each)) for each in (RESTORING, STOCK))
            self.machine["postgresql"] = fast.version
            s3 = stack.enter_context(s3_server(directory))
            bench = Workbench(watch, fast, s3, directory)
            servers = {FAST_SERVER: bench, STOCK_SERVER: replace(bench, container=stock)}
            for each in servers.values():
                stack.callback(restores.remove_drill_servers, each)
            try:
                for part in self._plan.parts:
                    self._measure(part, servers)
            except OutOfTimeError:
                self._note("time was up before everything was measured")

    def _measure(self, part: RestorePart, servers: dict[str, Workbench]) -> None:
        bench, watch = servers[FAST_SERVER], self._watch
        watch.say(f"{part.shape}: loading some {part.megabytes:.0f} MB into PostgreSQL {bench.container.version}")
        database = shapes.load(part.shape, bench.container.psql, part.megabytes)
        kept = restores.make(bench, database, "kept")
        earlier = None
        if self._before is not None:
            old = replace(bench, program=self._before)
            earlier = restores.make(old, database, "kept-before")
        restores.make_directory_dump(bench, database)
        restores.copy_directory_dump(bench, servers[STOCK_SERVER])
        # What is restored needs no original; a drill asks it what its server is like.
        bench.container.psql(f"DROP DATABASE {database}")
        for each in servers.values():
            each.container.psql(f"CREATE DATABASE {database}")
        for server, rounds, until in (
            (FAST_SERVER, part.fast_rounds, part.fast_until_seconds),
            (STOCK_SERVER, part.stock_rounds, part.stock_until_seconds),
        ):
            if not rounds:
                continue
            found = self.groups[Group(part.shape, server)] = Rounds()
            there = servers[server]
            before = restores.Restores(replace(there, program=self._before), earlier) if earlier else None
            found_ways = restores.ways(
                restores.Restores(there, kept), before, with_drill=server == STOCK_SERVER or part.stock_rounds == 0
            )
            watch.say(f"{part.shape}: on the {server} server")
            try:
                run_rounds(there, found_ways, rounds, until, found, restores.PSQL)
            except BenchError as error:
                self.broken = True
                self._note(str(error))
            self.broken |= found.broken
        for each in servers.values():
            each.container.psql(f"DROP DATABASE {database}")

    def _note(self, text: str) -> None:
        self.notes.append(text)
        self._watch.say(text)

    def _goals(self) -> dict[Group, list[Goal]]:
        return {
            group: goals.of_restores_of(group.shape, found.rounds)
            + (goals.of_drills(found.rounds) if group.server == STOCK_SERVER else [])
            for group, found in self.groups.items()
        }

    def markdown(self) -> str:
        """The report."""
        self.machine["load_at_end"] = os.getloadavg()[0]
        found, parts, notes = self._goals(), [report.machine(self.machine)], list(self.notes)
        for group, rounds in self.groups.items():
            notes += [f"{group.shape}, {group.server}: {note}" for note in rounds.notes]
            if rounds.rounds:
                parts += [
                    f"### {report.restore_title(group.shape, rounds.rounds)}; {SERVERS[group.server]}",
                    report.restores(rounds.rounds),
                    report.goals(found[group]),
                ]
        if notes:
            parts += ["### Notes", "\n".join(f"- {note}" for note in notes)]
        return "\n\n".join(parts) + "\n"

    def as_json(self) -> dict[str, Any]:
        """Every figure."""
        return {
            "machine": self.machine,
            "seconds": round(self._watch.elapsed_seconds),
            "notes": self.notes,
            "groups": [
                {
                    "shape": group.shape,
                    "server": group.server,
                    "goals": [goal.as_json() for goal in self._goals()[group]],
                    "notes": rounds.notes,
                    "rounds": report.as_json(rounds.rounds),
                }
                for group, rounds in self.groups.items()
            ],
        }
