"""Of several client tools on a machine, those that fit the server: as in the image, a directory for each major."""

from __future__ import annotations

from pathlib import Path

import pytest

from hubbackup.postgres.session import Connection
from hubbackup.postgres.tool_sets import ToolSet, fitting, with_fitting_tools
from hubbackup.runners import run
from hubbackup.runners.direct import DirectRunner
from hubbackup.streams.cancel import Cancel
from tests.support.embedded_postgres import EmbeddedPostgres, bin_dir_of


@pytest.fixture
def places(tmp_path: Path) -> tuple[str, ...]:
    """The tools of 16 and 18, as the image has them; of 17 there is half a set."""
    for major in (16, 18):
        directory = tmp_path / f"postgresql/{major}"
        directory.mkdir(parents=True)
        (directory / "bin").symlink_to(bin_dir_of(major))
    (tmp_path / "postgresql/17/bin").mkdir(parents=True)
    (tmp_path / "postgresql/17/bin/pg_dump").touch(0o755)
    return (f"{tmp_path}/postgresql/*/bin",)


def major_of_tools(server: EmbeddedPostgres, database: str, places: tuple[str, ...]) -> str:
    """What is called for this server, by its own word."""
    connection = Connection(server.user, server.password, server.host, server.port)
    runner = with_fitting_tools(DirectRunner(cancel=Cancel()), connection, database, places)
    said = {run(copy, [tool, "--version"], {}).split(b") ")[1][:2] for copy in (runner, runner.detached())
            for tool in ("pg_dump", "psql")}  # fmt: skip
    (major,) = said
    return major.decode()


def test_the_servers_own(
    postgres16: EmbeddedPostgres,
    postgres18: EmbeddedPostgres,
    places: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each server gets the tools of its own major, whatever PATH has, also before its database is there."""
    for path in ("/nonexistent", f"{bin_dir_of(18)}", f"{bin_dir_of(16)}"):
        monkeypatch.setenv("PATH", path)
        assert major_of_tools(postgres16, "postgres", places) == "16"
        assert major_of_tools(postgres18, "not there yet", places) == "18"


def test_what_is_there_without_a_choice(
    postgres16: EmbeddedPostgres, places: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A server that doesn't answer leaves PATH's tools, and without any there the newest; no directory: PATH's."""
    monkeypatch.setenv("PATH", str(bin_dir_of(16)))
    assert major_of_tools(postgres16, "postgres", (f"{tmp_path}/none/*",)) == "16"
    nowhere = Connection("nobody", host="127.0.0.1", port=9)
    asked = with_fitting_tools(DirectRunner(cancel=Cancel()), nowhere, "postgres", places)
    assert b" 16." in run(asked, ["psql", "--version"], {})
    monkeypatch.setenv("PATH", "/nonexistent")
    asked = with_fitting_tools(DirectRunner(cancel=Cancel()), nowhere, "postgres", places)
    assert b" 18." in run(asked, ["psql", "--version"], {})


def test_which_one_fits() -> None:
    """The own one, of two the first; else the next newer, whose dump is complete; else the newest."""
    path, *others = (ToolSet(16), ToolSet(15, "a"), ToolSet(16, "b"), ToolSet(18, "c"))
    assert [fitting([path, *others], major).path for major in (14, 15, 16, 17, 18, 19)] == [
        "a",
        "a",
        "",
        "c",
        "c",
        "c",
    ]
