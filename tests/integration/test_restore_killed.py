"""Whatever dies at whatever moment of a restore, the live database is wholly the old one or wholly the new one.

Killed are the program (kill -9 and SIGTERM), psql, and the server, each at random points, while one session loads and
while several do. HUBBACKUP_KILL_POINTS sets how many; the default is what the whole test suite has time for.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.fingerprint import Fingerprint, diff, fingerprint
from tests.support.forked import Forked
from tests.support.program import DATABASE, Program, for_server
from tests.support.sample import SMALL

POINTS = int(os.environ.get("HUBBACKUP_KILL_POINTS", "50"))
KINDS = {"kill": 45, "stop": 25, "psql": 20, "server": 10}
"""What dies, and in how many of a hundred restores."""
JOBS = ("1", "3")
"""Sessions that load: by the serial loader, and by the parallel one."""
DAMAGE = "DELETE FROM utilisateurs; DROP TABLE utilisateurs; UPDATE chantiers SET note = 'damaged';"


@dataclass
class Scene:
    """A server of its own, a backup, and the live database in one of two states."""

    server: EmbeddedPostgres
    hub: Program
    log: Path
    good: Fingerprint
    damaged: Fingerprint
    seconds: float = 0.0

    def live(self) -> str:
        """`new` or `old`; anything between the two fails."""
        found = fingerprint(self.hub.psql, DATABASE)
        if found == self.good:
            return "new"
        assert diff(self.damaged, found) == [], "the live database is neither the old nor the new one"
        return "old"

    def reset(self, state: str) -> None:
        """Back to the damaged state, if a restore got through; what it put aside goes."""
        if state == "new":
            self.hub.psql(DAMAGE, database=DATABASE)
        self.hub.drop(*self.hub.derived("before"))


@pytest.fixture(scope="module", params=JOBS)
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    directory = tmp_path_factory.mktemp("backups")
    # The default of the tests' servers forgets a commit that it has confirmed, when it is killed.
    with EmbeddedPostgres(16, configuration={"synchronous_commit": "on"}) as server:
        server.create_database(DATABASE)
        hub = for_server(server, DATABASE, directory).but(RESTORE_JOBS=request.param)
        hub.psql(SMALL, database=DATABASE)
        hub.psql("CREATE ROLE hub_absent; GRANT SELECT ON chantiers TO hub_absent", database=DATABASE)
        good = fingerprint(hub.psql, DATABASE)
        hub.backup()
        hub.psql(DAMAGE, database=DATABASE)
        scene = Scene(server, hub, directory / "log", good, fingerprint(hub.psql, DATABASE))
        for _ in range(2):  # the first one starts the process that the others are forked from
            started = time.monotonic()
            process = start(scene)
            process.wait(60)
            scene.seconds = time.monotonic() - started
            assert process.poll() == 0, scene.log.read_text()
            scene.reset("new")
        yield scene


def start(scene: Scene) -> Forked:
    return scene.hub.fork("restore", "--latest", "--yes", output=scene.log)


def plan() -> list[str]:
    """What dies at each of the points, well mixed."""
    chooser = random.Random(33)
    kinds = [kind for kind, share in KINDS.items() for _ in range(max(1, round(share * POINTS / 100)))]
    chooser.shuffle(kinds)
    return kinds


def test_a_death_at_any_point_leaves_the_old_or_the_new_database(scene: Scene) -> None:
    """At each random point; a stop ends in time; a leftover is named, and removed by the next restore."""
    chooser = random.Random(34)
    outcomes: Counter[tuple[str, str, int | None]] = Counter()
    named = missed = 0
    points = plan()
    while points:
        # Anywhere, and every third one about the swap, which is short and at the end.
        share = chooser.uniform(0.8, 1.05) if len(points) % 3 == 0 else chooser.uniform(0.0, 1.0)
        started = time.monotonic()
        process = start(scene)
        process.wait(share * scene.seconds)
        kind = points.pop() if process.poll() is None else "missed"
        if kind == "missed":  # it was quicker than the last ones: no point, but a better measure
            missed += 1
            scene.seconds = (scene.seconds + time.monotonic() - started) / 2
            assert missed < 3 * POINTS, "the restores end before they can be killed"
        else:
            strike(scene, process, kind)
            process.wait(30)
            assert process.poll() is not None, f"{kind}: the restore does not end"
            if process.poll() == 0:
                scene.seconds *= 1.02
        if kind == "server":
            scene.server.kill()
            scene.server.start()
        wait_until_no_session(scene)  # a psql that has its whole script may still be swapping
        state = scene.live()
        outcomes[kind, state, process.poll()] += 1
        if process.poll() == 0:
            assert state == "new", scene.log.read_text()
        left = scene.hub.derived("restore")
        assert len(left) <= 1, left
        if left and not named:
            assert f"kept        {left[0]}, " in scene.hub.run("status").out
            named += 1
        scene.reset(state)
    print(f"\n{sum(outcomes.values()) - missed} points: {dict(outcomes)}")
    assert {kind for kind, _, _ in outcomes} >= set(KINDS)
    assert "old" in {state for _, state, _ in outcomes}
    assert named, "no death left anything: the points are badly chosen"
    last = scene.hub.run("restore", "--latest", "--yes")
    assert last.code == 0, last.said
    assert scene.live() == "new"
    assert scene.hub.derived("restore") == []


def strike(scene: Scene, process: Forked, kind: str) -> None:
    """Kill it. A process that has ended by itself is none to be killed."""
    with contextlib.suppress(ProcessLookupError):
        if kind == "kill":
            os.kill(process.pid, signal.SIGKILL)
        elif kind == "stop":
            os.kill(process.pid, signal.SIGTERM)
            process.wait(10)
            assert process.poll() is not None, "a stop must end within ten seconds"
        elif kind == "psql":
            for pid in children(process.pid):
                os.kill(pid, signal.SIGKILL)
        else:
            scene.server.kill()


def children(parent: int) -> list[int]:
    """The processes that it has started."""
    found: list[int] = []
    for task in Path(f"/proc/{parent}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(pid) for pid in task.read_text().split()]
    return found


def wait_until_no_session(scene: Scene) -> None:
    """A killed program's psql sees the end of its input, and goes."""
    deadline = time.monotonic() + 10
    while scene.hub.sessions():
        assert time.monotonic() < deadline, scene.hub.sessions()
        time.sleep(0.1)


def test_the_roles_that_stand_in_go_with_a_killed_restore(scene: Scene) -> None:
    """--no-owner's stand-ins are removed after a stop, and those of a killed restore by the next one."""
    scene.reset(scene.live())
    scene.hub.psql("DROP OWNED BY hub_absent", database=DATABASE)
    scene.hub.drop(*scene.hub.derived("restore"))
    scene.hub.psql("DROP ROLE hub_absent")
    for number in (signal.SIGTERM, signal.SIGKILL):
        process = scene.hub.fork("restore", "--latest", "--no-owner", "--yes", output=scene.log)
        wait_for_role(scene, process)
        os.kill(process.pid, number)
        process.wait(15)
        if number == signal.SIGTERM:
            assert process.poll() == 143, scene.log.read_text()
            assert role_exists(scene) == "f"
            assert scene.hub.derived("restore") == []
    assert role_exists(scene) == "t"
    done = scene.hub.run("restore", "--latest", "--no-owner", "--yes")
    assert done.code == 0, done.said
    assert role_exists(scene) == "f"


def role_exists(scene: Scene) -> str:
    return scene.hub.psql("SELECT count(*) > 0 FROM pg_roles WHERE rolname = 'hub_absent'")


def wait_for_role(scene: Scene, process: Forked) -> None:
    while role_exists(scene) == "f":
        assert process.poll() is None, scene.log.read_text()
