"""The documents name what the program has: every setting, command, option, exit code, event and manifest field."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest

from hubbackup import errors
from hubbackup.catalog.backup import Manifest
from hubbackup.cli import EXIT_CODES
from hubbackup.cli.commands import COMMANDS, LazyCommand
from hubbackup.config.settings import Settings, is_secret
from hubbackup.streams.codecs import CODECS
from scripts import rooms
from tests.support.documents import DOCUMENTS, fenced

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
KINDS = defaultdict(lambda: ("backup", "drill", "verify"))
RUNS = (
    *("backup", "restore", "recover", "drill", "schema_drill", "verify", "repair", "prune", "undo"),
    *("pin", "unpin", "accept", "adopt", "lifecycle"),
)
KINDS["finished"] = KINDS["failed"] = RUNS
KINDS["progress"] = ("backup", "restore", "recover", "drill", "verify", "repair")
"""The jobs that an event id made of a job's kind stands for, by its last word."""
EVENT = re.compile(
    r"\b(?:debug|info|warning|error|exception|level)\(\s*f?\"([a-z_{}]+\.[a-z_]+)\"|f\"(\{kind\}\.progress)\""
    r"|\b(?:event|failed)(?:: str = |=)\"([a-z_]+\.[a-z_]+)\""
)


def text_of(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def rows_of(name: str) -> dict[str, list[str]]:
    """The cells of each table row of a document, by each name in `backquotes` in its first cell."""
    rows: dict[str, list[str]] = {}
    for line in text_of(name).splitlines():
        if line.startswith("|"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            rows |= dict.fromkeys(re.findall(r"`([^`]+)`", cells[0]), cells)
    return rows


def shown(value: object) -> str:
    """A default as a user would write it."""
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)


def test_every_setting_has_its_row() -> None:
    """docs/settings.md has each setting of the program with its true default, and none that the program has not."""
    rows = rows_of("settings.md")
    assert rows.keys() == {name.upper() for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        _, default, meaning = rows[name.upper()]
        expected = "" if is_secret(name) else shown(field.default)
        assert default.strip("`") == expected, name
        assert meaning
        assert ("*secret*" in meaning) == is_secret(name)


def test_every_codec_is_offered() -> None:
    """docs/settings.md has each codec's word, suffix and levels, docs/manifest.md how a manifest says it."""
    _, _, meaning = rows_of("settings.md")["BACKUP_COMPRESSION"]
    _, _, levels = rows_of("settings.md")["BACKUP_COMPRESSION_LEVEL"]
    written = rows_of("manifest.md")["compression"][-1]
    for codec in CODECS.values():
        assert f"`{codec.word}` (`{codec.suffix}`)" in meaning
        assert re.search(rf"{codec.word}\b[^;]*\b{codec.levels[0]}\b[^;]*\b{codec.levels[-1]}\b", levels), codec
        assert f"`{codec.word}:`" in written


def test_every_command_and_option_is_named() -> None:
    """docs/cli.md has each command, each of its options, and none that there is not."""
    text = text_of("cli.md")
    commands = {name: LazyCommand(name, place, "").load() for name, (place, _) in COMMANDS.items()}
    assert set(re.findall(r"^`hubbackup ([a-z][a-z-]*)", text, re.MULTILINE)) == commands.keys()
    for name, command in commands.items():
        entries = re.findall(rf"^`hubbackup {name}\b.*?(?=^`hubbackup|\Z)", text, re.MULTILINE | re.DOTALL)
        named = set(re.findall(r"--[a-z0-9-]+", " ".join(entries)))
        options = {opt for parameter in command.params for opt in (*parameter.opts, *parameter.secondary_opts)}
        assert named == {option for option in options if option.startswith("--")} - {"--help"}, name


def test_every_exit_code_has_its_row() -> None:
    """The table of docs/cli.md is that of `--help`, and has the codes of every error."""
    rows = [line.strip("| ").split(" | ") for line in text_of("cli.md").splitlines() if re.match(r"\| \d", line)]
    assert dict(rows) == EXIT_CODES
    documented = {int(code) for row in EXIT_CODES for code in re.findall(r"\d+", row)}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert documented >= {kind.exit_code for kind in kinds if isinstance(getattr(kind, "exit_code", None), int)}


def logged_events() -> set[str]:
    """Every event id in the source; one that is made of a job's kind stands for each job."""
    found = set()
    for path in (ROOT / "hubbackup").rglob("*.py"):
        for match in EVENT.finditer(path.read_text(encoding="utf-8")):
            event = match[1] or match[2] or match[3]
            found |= {event.replace("{kind}", kind) for kind in KINDS[event.rpartition(".")[2]]}
    return found


def test_every_event_is_documented() -> None:
    """docs/logs.md has each event id that the source logs, and none that is logged nowhere."""
    documented = {name for name in rows_of("logs.md") if re.fullmatch(r"[a-z_]+\.[a-z_]+", name)}
    assert logged_events() - documented == set()
    assert documented - logged_events() == set()


def test_every_field_of_the_manifest_is_documented() -> None:
    """docs/manifest.md has each field, and none that is not written."""
    fields = [name for name in rows_of("manifest.md") if re.fullmatch(r"[a-z_0-9]+", name)]
    assert set(fields) == set(Manifest.model_fields)


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))], ids=lambda path: path.name
)
def test_links_lead_somewhere(path: Path) -> None:
    """A relative link in a document is a file that is there."""
    for target in re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8")):
        if not re.match(r"[a-z]+:", target):
            assert (path.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS)
def test_settings_that_are_shown_exist(document: str) -> None:
    """Each line of a document's `.env` blocks names a setting, its file, or a variable of the compose file."""
    compose = set(re.findall(r"\$\{([A-Z_]+)", (ROOT / "docker-compose.backup.yml").read_text(encoding="utf-8")))
    settings = {name.upper() for name in Settings.model_fields}
    for block in fenced(document, "dotenv"):
        for name in re.findall(r"^(?:# )?([A-Z0-9_]+)=", block.text, re.MULTILINE):
            assert name.removesuffix("_FILE") in settings or name in settings | compose, block


def test_the_picture_of_the_rooms_is_the_code_s() -> None:
    """docs/architecture.md shows the rooms, floors and arrows that the imports make now."""
    assert rooms.drawn() in text_of("architecture.md"), "python -m scripts.rooms --write"
