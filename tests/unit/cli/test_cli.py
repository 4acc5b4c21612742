"""The command line: exit codes, help, one JSON document, and what it does not load."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
import structlog

from hubbackup import cli, errors
from hubbackup.cli.commands import COMMANDS, LazyCommand
from hubbackup.health import PATH_VARIABLE, beat
from hubbackup.jobs.state_file import write_json
from hubbackup.shown_text import Secrets
from hubbackup.units import human_age, human_bytes

HEAVY = {"structlog", "rich", "boto3", "botocore", "docker", "pydantic", "apscheduler", "requests", "isal"}


@pytest.fixture(autouse=True)
def own_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each command as if it had the process to itself: no settings, its own directories, signals put back."""
    for name in list(os.environ):
        if name.startswith(("BACKUP_", "S3_", "POSTGRES_", "AWS_", "DB_", "LOG_", "PG", "TZ")):
            monkeypatch.delenv(name)
    (tmp_path / "backups").mkdir()
    monkeypatch.setenv("BACKUP_DIR", str(tmp_path / "backups"))
    monkeypatch.setenv(PATH_VARIABLE, str(tmp_path / "run"))
    root = logging.getLogger()
    handlers, level, raising = root.handlers[:], root.level, logging.raiseExceptions
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    root.handlers[:], logging.raiseExceptions = handlers, raising
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.reset_defaults()


def modules_after(*arguments: str) -> set[str]:
    """The top-level modules that a real process has loaded by the time it ends."""
    script = (
        "import atexit, sys; from hubbackup.__main__ import main; sys.argv[1:] = sys.argv[1:]\n"
        "atexit.register(lambda: print('MODULES', *{name.split('.')[0] for name in sys.modules})); main()"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
    return set(done.stdout.rpartition("MODULES ")[2].split())


@pytest.mark.parametrize("arguments", [["health"], ["--help"], ["--version"]])
def test_light_commands_load_nothing_heavy(arguments: list[str]) -> None:
    """HEALTHCHECK runs `hubbackup health` every minute: neither it nor the help loads an SDK."""
    loaded = modules_after(*arguments)
    assert "hubbackup" in loaded
    assert loaded & HEAVY == set()


def test_a_command_loads_what_it_needs(tmp_path: Path) -> None:
    """A list of backups loads nothing that restores one, nor the renderer of tracebacks that structlog would load:
    half of a short command's time is its imports. Then garbage is collected again."""
    script = (
        "import atexit, gc, sys; from hubbackup.__main__ import main\n"
        "atexit.register(lambda: print('MODULES', gc.isenabled(), *sys.modules)); main()"
    )
    environment = {"POSTGRES_DB": "app", "BACKUP_DIR": str(tmp_path), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-c", script, "list"], capture_output=True, text=True, env=environment, check=True
    )
    collects, *loaded = done.stdout.rpartition("MODULES ")[2].split()
    assert collects == "True"
    assert "hubbackup.catalog.listing" in loaded
    rooms = {name.split(".")[1] for name in loaded if name.startswith("hubbackup.")}
    assert rooms.isdisjoint({"restore", "load", "recover", "retention", "contents", "web"})
    assert "rich" not in {name.split(".")[0] for name in loaded}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_summary_is_the_first_line_of_the_help(name: str) -> None:
    """`hubbackup --help` shows for each command, without importing it, what its own help begins with: on one line."""
    place, summary = COMMANDS[name]
    command = LazyCommand(name, place, summary).load()
    assert command.name == name
    assert command.help is not None
    assert command.help.splitlines()[0] == summary
    assert len(summary) <= 63, "of the 80 columns of a terminal"


def test_only_the_command_that_is_called_is_imported() -> None:
    """The help of one command imports that command's module, and the help of all imports none."""
    script = (
        "import atexit, sys; from hubbackup.__main__ import main\n"
        "atexit.register(lambda: print(*sorted(n for n in sys.modules if n.startswith('hubbackup.')))); main()"
    )
    commands = {f"hubbackup.cli.{place.partition(':')[0]}" for place, _ in COMMANDS.values()}
    for words, expected in ((["--help"], set()), (["config", "--help"], {"hubbackup.cli.config"})):
        done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=True)
        assert set(done.stdout.splitlines()[-1].split()) & commands == expected


def test_the_version_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    """`hubbackup --version`: the installed version, and nothing else."""
    assert cli.run(["--version"]) == 0
    assert capfd.readouterr().out == f"hubbackup {version('hubbackup')}\n"


def test_health_does_without_the_command_line_too() -> None:
    """Not even typer is loaded for a health check."""
    assert not modules_after("health") & {"typer", "rich", "structlog"}


def test_every_exit_code_is_in_the_help(capfd: pytest.CaptureFixture[str]) -> None:
    """The one table of exit codes is in `--help`, and has the code of every error there is."""
    assert cli.run(["--help"]) == 0
    shown = " ".join(capfd.readouterr().out.split())
    codes = set(re.findall(r"\b(\d+)\b", shown.partition("Exit codes:")[2].partition("Options:")[0]))
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    of_errors = {str(kind.exit_code) for kind in kinds if isinstance(getattr(kind, "exit_code", None), int)}
    of_stops = {str(errors.StoppedError(number).exit_code) for number in (signal.SIGTERM, signal.SIGINT)}
    assert codes >= of_errors | of_stops | {"0", "3"}


def test_without_a_word_the_help_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    """`hubbackup` alone tells what there is."""
    assert cli.run([]) == 0
    shown = capfd.readouterr().out
    assert all(re.search(rf"^  {name} +{re.escape(text)}$", shown, re.M) for name, (_, text) in COMMANDS.items())


@pytest.mark.parametrize(
    "arguments", [["nosuch"], ["backup", "--nosuch"], ["prune", "extra"], ["list", "--store"], ["--nosuch"]]
)
def test_bad_usage_is_exit_2(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    """A command line that means nothing is one sentence with the next step, and no traceback."""
    assert cli.run(arguments) == 2
    shown = capfd.readouterr()
    assert shown.out == ""
    assert re.fullmatch(r"hubbackup: .+\n  what to do: hubbackup --help\n", shown.err)


@pytest.mark.parametrize(
    "arguments",
    [
        ["backup", "--json"],
        ["backup", "--upload-s3", "--json"],
        ["list", "--json", "--store", "tape"],
        ["list", "--json", "--store", "s3"],
        ["status", "--json"],
        ["backup", "--json", "--nosuch"],
    ],
)
def test_a_failure_has_one_json_document_too(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    """With `--json`, whoever reads stdout learns of a failure there: code, kind, sentence and remedy."""
    code = cli.run(arguments)
    shown = capfd.readouterr()
    document = json.loads(shown.out)
    assert document["exit_code"] == code == 2
    assert document["error"] in ("SettingsError", "UsageError")
    assert document["message"] in shown.err
    assert document["remedy"]


def test_lists_of_nothing_are_empty(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first backup every reading command answers, in JSON too."""
    monkeypatch.setenv("POSTGRES_DB", "hub")
    for arguments in (["list"], ["status"], ["prune"], ["prune", "--dry-run"]):
        assert cli.run(arguments) == 0
    capfd.readouterr()
    for arguments, expected in (
        (["list", "--json"], []),
        (["prune", "--json"], {"dry_run": False, "policies": {"local": "7 days, at least 1"}, "decisions": []}),
    ):
        assert cli.run(arguments) == 0
        assert json.loads(capfd.readouterr().out) == expected
    assert cli.run(["status", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["last_good"] is None


def test_a_missing_directory_is_told(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is not there is exit 1 with what to do, not an empty list."""
    monkeypatch.setenv("BACKUP_DIR", "/nonexistent/backups")
    assert cli.run(["list"]) == 1
    assert "/nonexistent/backups does not exist" in capfd.readouterr().err


def test_config_hides_secrets(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`hubbackup config` shows every setting and its origin, a secret as asterisks, in both forms."""
    monkeypatch.setenv("POSTGRES_PASSWORD", "canari-7f3a")
    monkeypatch.setenv("BACKUP_RETENTION_DAY", "30")
    assert cli.run(["config"]) == 0
    text = capfd.readouterr()
    assert cli.run(["config", "--json"]) == 0
    rows = json.loads(capfd.readouterr().out)
    assert rows["POSTGRES_PASSWORD"] == {"value": "********", "origin": "environment"}
    assert rows["BACKUP_RETENTION_DAYS"] == {"value": "7", "origin": "default"}
    assert "canari" not in text.out + text.err
    assert "did you mean BACKUP_RETENTION_DAYS?" in text.err


def test_health_tells_the_daemon(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The health command's exit code is the heartbeat's."""
    assert cli.run(["health"]) == 1
    write_json(tmp_path / "run" / "health.json", beat("tomorrow"))
    assert cli.run(["health"]) == 0
    assert "tomorrow" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (429e6, "429.0 MB"), (5e12, "5.0 TB")]
)
def test_sizes_for_people(size: float, text: str) -> None:
    """Powers of 1000, as disks are sold."""
    assert human_bytes(int(size)) == text


@pytest.mark.parametrize(("age", "text"), [(-5, "0 min"), (300, "5 min"), (3 * 3600, "3 h"), (12 * 86400, "12 d")])
def test_ages_for_people(age: float, text: str) -> None:
    """The largest unit that says enough."""
    assert human_age(age) == text


def test_a_fault_of_the_program_shows_where_and_no_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], secrets: Secrets
) -> None:
    """LOG_LEVEL=debug shows the traceback, without the secrets and escapes that it quotes; the sentence comes too."""
    secrets.add(["s3cret"])

    def broken(*_: object) -> str:
        raise RuntimeError("s3cret \x1b[2J")

    monkeypatch.setattr(cli, "command_line", broken)
    monkeypatch.setenv("LOG_LEVEL", "debug")
    assert cli.run(["health"]) == errors.EXIT_FAILED
    said = capsys.readouterr().err
    assert "in broken" in said
    assert r"hubbackup: internal error: RuntimeError: ******** \x1b[2J" in said
    assert "s3cret " not in said.replace('"s3cret ', "")  # but for this test's own line of code
    assert "\x1b" not in said
