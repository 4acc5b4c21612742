"""What is found before anything is touched, each with what to do about it."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from hubbackup.dump.census import DumpFacts
from hubbackup.dump.requirements import Requirements
from hubbackup.errors import HubbackupError, RunnerError, UnrestorableError, UsageError
from hubbackup.postgres.client import DatabaseProperties
from hubbackup.postgres.extensions import Extension
from hubbackup.postgres.server import Server, ServerDatabase
from hubbackup.postgres.session import Connection
from hubbackup.restore.preflight import Request, preflight
from hubbackup.runners import Exit
from hubbackup.streams.cancel import Cancel
from hubbackup.verify.source import Source

SOURCE = Source("a.sql.gz", "here", 1, None, None, lambda: io.BytesIO())
FACTS = DumpFacts(1_000_000, {}, "17.6", "17.6", ("vector",), 0, 1, (), ("api", "chef"))
SERVER = Server(
    "17.6",
    170006,
    "/data",
    {"hub": ServerDatabase("hub", 2_000_000, 3)},
    frozenset({"api", "chef", "postgres"}),
    {"vector": "0.8"},
    True,
)
REPLACE = Request("hub", replace=True)


@dataclass
class Disk:
    """A runner that knows `df` alone."""

    free_kilobytes: str = "9999999"
    name: str = "docker"
    identity: str = ""
    place: str = ""
    inherited: Mapping[str, str] = field(default_factory=dict)

    def detached(self) -> Disk:
        return self

    def under(self, cancel: Cancel) -> Disk:
        return self

    @contextmanager
    def start(self, argv: Sequence[str], env: Mapping[str, str], *, stdin: bool = False) -> Iterator[Any]:
        if not self.free_kilobytes:
            raise RunnerError("df is not installed here")
        assert argv[0] == "df"
        yield Answer(f"Filesystem 1024-blocks Used Available\n/dev/x 9 9 {self.free_kilobytes} 9% /\n".encode())


@dataclass
class Answer:
    text: bytes

    def chunks(self) -> Iterator[memoryview]:
        yield memoryview(self.text)

    def wait(self) -> Exit:
        return Exit(0, "")


def check(
    server: Server = SERVER,
    request: Request = REPLACE,
    facts: DumpFacts = FACTS,
    like: DatabaseProperties | None = None,
    disk: Disk | None = None,
    host: str = "",
) -> list[str]:
    return preflight(disk or Disk(), Connection("postgres", host=host), server, request, SOURCE, facts, like)


def test_nothing_in_the_way() -> None:
    """All is well, and an unproven file is named as such."""
    assert check() == ["this file is unproven, it has no manifest: its compression, header and trailer are right"]


def like(**changes: Any) -> DatabaseProperties:
    return DatabaseProperties(
        "hub", "17.6", 170006, "7", "chef", "UTF8", 1, changes.pop("catalog_row", {}), (), **changes
    )


def test_another_version_of_an_extension_is_a_remark() -> None:
    """Its rows and functions may still fit; who restores should know it."""
    (note,) = [note for note in check(like=like(extensions=(Extension("vector", "0.7"),))) if "vector" in note]
    assert note == "the extension vector was 0.7, and will be 0.8 here"


def test_an_extension_that_rests_elsewhere_is_a_remark() -> None:
    """pg_cron works in one database only."""
    server = replace(SERVER, extensions={"pg_cron": "1.6"}, homes={"pg_cron": "postgres"}, preloaded=None)
    notes = check(server=server, facts=replace(FACTS, extensions=("pg_cron",)))
    assert any("pg_cron works in the database postgres only (cron.database_name)" in note for note in notes)


@pytest.mark.parametrize(
    ("changes", "kind", "cause", "remedy"),
    [
        ({"request": Request("hub", replace=False)}, UsageError, "hub exists already", "a name that is free"),
        ({"server": replace(SERVER, may_create=False)}, HubbackupError, "may not create databases", "CREATEDB"),
        ({"server": replace(SERVER, version_num=160010)}, HubbackupError, "an older server", "--force"),
        ({"server": replace(SERVER, extensions={})}, UnrestorableError, "extensions vector", "install them"),
        ({"server": replace(SERVER, roles=frozenset({"api"}))}, HubbackupError, "on this server: chef", "--no-owner"),
        (
            {"like": like(grants=(("guest", "CONNECT", False),))},
            HubbackupError,
            "on this server: guest",
            "--no-owner",
        ),
        ({"request": replace(REPLACE, with_globals=True)}, UsageError, "has no globals", "without --globals"),
        ({"server": replace(SERVER, in_recovery=True)}, HubbackupError, "only lets read", "on the primary"),
        (
            {"server": replace(SERVER, has_icu=False), "like": like(catalog_row={"datlocprovider": "i"})},
            HubbackupError,
            "without ICU, which sorts text for the database's locale",
            "an image that has ICU",
        ),
        (
            {
                "server": replace(SERVER, has_icu=False),
                "facts": replace(FACTS, requirements=Requirements(icu_collations=frozenset({"public.fr"}))),
            },
            HubbackupError,
            "for the collation public.fr",
            "an image that has ICU",
        ),
        (
            {
                "server": replace(SERVER, extensions={"pg_cron": "1.6"}, preloaded=frozenset({"auto_explain"})),
                "facts": replace(FACTS, extensions=("pg_cron",)),
            },
            HubbackupError,
            "has not loaded pg_cron",
            "set shared_preload_libraries = 'auto_explain, pg_cron', and restart",
        ),
        (
            {
                "server": replace(SERVER, extensions={"timescaledb": "2.17"}),
                "facts": replace(FACTS, extensions=("timescaledb",)),
                "like": like(extensions=(Extension("timescaledb", "2.14"),)),
            },
            HubbackupError,
            "the backup's timescaledb is 2.14, this server makes 2.17",
            "an image with timescaledb 2.14",
        ),
        ({"disk": Disk("2343")}, HubbackupError, "needs some 2,400,000", "--in-place"),
    ],
)
def test_what_is_in_the_way(changes: dict[str, Any], kind: type[HubbackupError], cause: str, remedy: str) -> None:
    """Exit 2 for what was asked wrongly, 1 for what must be mended; both name what and how."""
    with pytest.raises(HubbackupError, match=cause) as caught:
        check(**changes)
    assert type(caught.value) is kind
    assert remedy in caught.value.remedy


@pytest.mark.parametrize(
    "changes",
    [
        {"server": replace(SERVER, version_num=180000)},
        {"server": replace(SERVER, version_num=160010), "request": replace(REPLACE, force=True)},
        {"server": replace(SERVER, roles=frozenset()), "request": replace(REPLACE, no_owner=True)},
        {"disk": Disk("2344")},
        {"disk": Disk("1"), "request": replace(REPLACE, force=True)},
        {"disk": Disk("1"), "request": replace(REPLACE, in_place=True)},
        {"disk": Disk("")},
        {"disk": Disk("nonsense")},
        {"disk": Disk("1", name="direct"), "host": "db.example.org"},
        {"disk": Disk("1"), "server": replace(SERVER, data_directory="")},
    ],
)
def test_what_is_not(changes: dict[str, Any]) -> None:
    """A newer server; what was forced; room that is there, or can't be known: a remote server's disk is not ours."""
    assert check(**changes)


@pytest.mark.parametrize("host", ["", "localhost", "127.0.0.1", "/run/postgresql"])
def test_the_disk_of_a_server_on_this_machine_counts(host: str) -> None:
    """Over libpq too, where the server is here."""
    with pytest.raises(HubbackupError, match="bytes free"):
        check(disk=Disk("1", name="direct"), host=host)


def test_room_that_a_leftover_takes() -> None:
    """What the restore removes first counts as free; another database's leftover does not."""
    for name, passes in (("hub_restore_20260101_000000", True), ("other_restore_20260101_000000", False)):
        databases = SERVER.databases | {name: ServerDatabase(name, 2_000_000, 0)}
        server = replace(SERVER, databases=databases)
        if passes:
            assert check(server=server, disk=Disk("1000"))
        else:
            with pytest.raises(HubbackupError, match="bytes free"):
                check(server=server, disk=Disk("1000"))


def test_what_a_rename_would_stumble_over() -> None:
    """Prepared transactions and a template are refused; slots are told of."""
    live = SERVER.databases["hub"]
    for change, cause in (
        ({"prepared": ("gid",)}, "prepared transactions: gid"),
        ({"is_template": True}, "template"),
    ):
        with pytest.raises(HubbackupError, match=cause):
            check(server=replace(SERVER, databases={"hub": replace(live, **change)}))
    notes = check(server=replace(SERVER, databases={"hub": replace(live, slots=("s1",))}))
    assert "the logical replication slots s1 stay with the old database" in notes
