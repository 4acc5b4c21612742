"""`make demo` keeps its promises: it shows a whole backup and leaves nothing behind, however it ends."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECONDS = 120


class Scene:
    """A place to run the demo in: its own TMPDIR, by whose name whatever is left behind is found."""

    def __init__(self, tmp: Path) -> None:
        self.tmp = tmp

    def start(self, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "scripts.demo", "--megabytes", "1"],
            cwd=ROOT,
            env=os.environ | {"TMPDIR": str(self.tmp), "PYTHONPATH": str(ROOT)} | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def left_behind(self) -> list[str]:
        """Files in TMPDIR, and processes that have its name in their environment or command line."""
        for _ in range(20):  # a process that is just ending may take a moment
            if not (found := self._seen()):
                break
            time.sleep(0.1)
        return found

    def _seen(self) -> list[str]:
        found = [str(path) for path in self.tmp.iterdir()]
        for process in Path("/proc").glob("[0-9]*"):
            try:
                command = (process / "cmdline").read_bytes()
                if str(self.tmp).encode() in command + (process / "environ").read_bytes():
                    found.append(f"process {process.name}: {command.replace(bytes(1), b' ').decode()}")
            except OSError:  # ended meanwhile, or another user's
                continue
        return found


@pytest.fixture
def scene() -> Iterator[Scene]:
    # Not pytest's tmp_path: the server's user, and a unix socket's path, don't get in there.
    directory = Path(tempfile.gettempdir()) / f"hubdemo-{secrets.token_hex(4)}"
    directory.mkdir()
    directory.chmod(0o755)
    try:
        yield Scene(directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def test_the_demo_shows_a_whole_backup_and_leaves_nothing(scene: Scene) -> None:
    """It exits 0, having backed up, proven, restored, compared and refused; no process and no file is left."""
    with scene.start() as process:
        said, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, said
    for promise in (
        "Backup termine: hub_chantier_backup_",
        "in local, s3",
        "the same three times",
        "no difference",
        "downloaded and hashed",
        "cut.sql.gz is damaged",
        "the dump is not proven whole: it ends inside",
        "the servers are stopped, the temporary files are gone",
    ):
        assert promise in said, said
    assert "\x1b" not in said, "colour belongs on a terminal only"
    assert scene.left_behind() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["1. A database", "S3 (moto)", "$ hubbackup backup", "$ gunzip -c"])
def test_a_stopped_demo_leaves_nothing(scene: Scene, number: signal.Signals, moment: str) -> None:
    """Ctrl-C (which reaches every process of the terminal) and SIGTERM end it at any step, and tidily."""
    with scene.start() as process:
        assert process.stdout is not None
        said = ""
        while moment not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        said += process.communicate(timeout=SECONDS)[0]
    assert process.returncode == 128 + number, said
    assert "nothing is left running" in said
    assert "Traceback" not in said
    assert scene.left_behind() == []


def test_a_failed_demo_says_so_and_leaves_nothing(scene: Scene, tmp_path: Path) -> None:
    """Where gunzip finds a fault, the demo fails: exit code 1, the reason, and nothing left."""
    gunzip = tmp_path / "gunzip"
    gunzip.write_text("#!/bin/sh\necho 'gunzip: broken' >&2\nexit 1\n")
    gunzip.chmod(0o755)
    clock = time.monotonic()
    with scene.start(PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}") as process:
        said, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 1, said
    assert "The demo failed: gunzip -t" in said
    assert "gunzip: broken" in said
    assert "Traceback" not in said
    assert scene.left_behind() == []
    assert time.monotonic() - clock < SECONDS
