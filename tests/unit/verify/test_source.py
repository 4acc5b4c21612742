"""Where a backup is read from: what is chosen, what is refused, and that nothing downloaded stays behind."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO
from zoneinfo import ZoneInfo

import pytest

from hubbackup.catalog.backup import BackupName, Mark
from hubbackup.catalog.marks import put_mark
from hubbackup.catalog.target import LocalTarget, Policy, Target
from hubbackup.errors import HubbackupError, NotFoundError, NotProvenError, StoreError, StoreFullError, UsageError
from hubbackup.jobs.progress import logged
from hubbackup.jobs.run import Run
from hubbackup.logs import setup as logs
from hubbackup.stores import Entry
from hubbackup.stores.local import LocalStore
from hubbackup.streams.cancel import Cancel
from hubbackup.verify.selector import BackupSelector, find
from hubbackup.verify.source import SCRATCH_PREFIX, Source

UTC_ZONE = ZoneInfo("UTC")
NAME = "hub_backup_20260208_030000.sql.gz"
OLDER = "hub_backup_20260207_030000.sql.gz"


IN_S3 = BackupSelector("hub", file=NAME, store="s3")


class Remote:
    """A directory that stands in for S3; `down` makes it unreadable, `broken` cuts each file's bytes off."""

    name = "s3"
    remote = True

    def __init__(self, directory: Path) -> None:
        self._store = LocalStore(directory)
        self.directory = directory
        self.down = self.broken = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def entries(self) -> Iterator[Entry]:
        if self.down:
            raise StoreError("S3 does not answer")
        return iter(self._store.entries())

    @contextmanager
    def open(self, name: str, **part: Any) -> Iterator[BinaryIO]:
        with self._store.open(name, **part) as stream:
            yield Broken() if self.broken and name.endswith(".gz") else stream


class Broken(io.BytesIO):
    """A download whose connection is lost."""

    def read(self, size: int | None = -1) -> bytes:
        raise StoreError("the connection was lost")


@pytest.fixture
def stores(tmp_path: Path) -> tuple[LocalStore, Remote]:
    for name in ("local", "remote", "scratch"):
        (tmp_path / name).mkdir()
    return LocalStore(tmp_path / "local"), Remote(tmp_path / "remote")


def put(store: LocalStore | Remote, name: str, /, data: bytes = b"data", **changes: Any) -> None:
    """A backup with its manifest."""
    (store.directory / name).write_bytes(data)
    time = datetime.strptime(name.split("_backup_")[1][:15], "%Y%m%d_%H%M%S").replace(tzinfo=UTC)
    manifest: dict[str, Any] = {
        "name": name,
        "database": name.split("_backup_")[0],
        "run_id": "r",
        "started_at": time.isoformat(),
        "finished_at": time.isoformat(),
        "dump_seconds": 1,
        "verify_seconds": 1,
        "plain_bytes": 1,
        "stored_bytes": len(data),
        "sha256": "0" * 64,
        "compression": "gzip:1",
        "verified": "full",
        "server_version": "17.6",
        "pg_dump_version": "17.6",
        "system_identifier": "7",
        "rows": {},
        "table_count": 0,
        "large_objects": 0,
        "extensions": [],
        "properties": {},
        "hubbackup_version": "0",
    }
    beside = store.directory / name.replace(".sql.gz", ".manifest.json")
    beside.write_text(json.dumps(manifest | changes))


@contextmanager
def found(stores: tuple[LocalStore, Remote], selector: BackupSelector, *, s3: bool = True) -> Iterator[Source]:
    run = Run("restore", "r", Cancel(), logs.get_logger(), logged(logs.get_logger(), "restore"))
    chosen: list[Target] = [LocalTarget("the local store", stores[0], Policy(7))]
    if s3:
        chosen.append(Target("S3", stores[1], Policy(7)))  # type: ignore[arg-type]
    with find(run, selector, chosen, UTC_ZONE, stores[0].directory.parent / "scratch") as source:
        yield source


def scratch(stores: tuple[LocalStore, Remote]) -> list[Path]:
    return list((stores[0].directory.parent / "scratch").iterdir())


def test_latest_is_the_newest_good_one(stores: tuple[LocalStore, Remote]) -> None:
    """By the manifest's time; a file whose size is not its manifest's, or that has none, is passed over."""
    put(stores[0], OLDER)
    put(stores[0], NAME, stored_bytes=99)
    (stores[0].directory / "hub_backup_20260209_030000.sql.gz").write_bytes(b"unproven")
    with found(stores, BackupSelector("hub")) as source:
        assert source.name == OLDER
        assert source.open().read() == b"data"


def test_latest_passes_over_the_suspicious_and_those_from_the_future(
    stores: tuple[LocalStore, Remote], capsys: pytest.CaptureFixture[str]
) -> None:
    """An emptied database, or a clock that was ahead, is never what `--latest` restores; by its name it can be."""
    put(stores[0], OLDER)
    put(stores[0], NAME, warnings=["public.t has 0 rows, before it had 9000"])
    ahead = "hub_backup_20990101_030000.sql.gz"
    put(stores[0], ahead)
    logs.configure(level="info", log_format="json", stream=sys.stderr)
    with found(stores, BackupSelector("hub")) as source:
        assert source.name == OLDER
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    skipped = {line["name"]: line["message"] for line in lines if line["event"] == "source.skipped"}
    assert skipped.keys() == {NAME, ahead}
    assert "it is suspicious: public.t has 0 rows" in skipped[NAME]
    assert "from the future" in skipped[ahead]
    for name in (NAME, ahead):
        with found(stores, BackupSelector("hub", file=name)) as source:
            assert source.name == name
    (stores[0].directory / NAME.replace(".sql.gz", ".accepted")).write_bytes(b"")
    with found(stores, BackupSelector("hub")) as source:
        assert source.name == NAME


def test_latest_passes_over_the_unrestorable(
    stores: tuple[LocalStore, Remote], capsys: pytest.CaptureFixture[str]
) -> None:
    """Whichever store has the mark; the log says why, and by its name it can be had, with that reason."""
    put(stores[0], OLDER)
    put(stores[0], NAME)
    name = BackupName.parse(NAME)
    assert name is not None
    put_mark(stores[0], name, Mark.UNRESTORABLE, why="no function f", now=datetime.now(UTC))
    logs.configure(level="info", log_format="json", stream=sys.stderr)
    with found(stores, BackupSelector("hub")) as source:
        assert source.name == OLDER
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    (skipped,) = [line["message"] for line in lines if line["event"] == "source.skipped"]
    assert skipped == f"{NAME} is passed over: it is unrestorable: no function f"
    with found(stores, BackupSelector("hub", file=NAME)) as source:
        assert source.unrestorable == "no function f"


def test_the_local_copy_comes_first(stores: tuple[LocalStore, Remote]) -> None:
    """Where both stores have it, nothing is downloaded; where only S3 has it, it is, and removed afterwards."""
    for store in stores:
        put(store, OLDER)
    with found(stores, BackupSelector("hub")) as source:
        assert source.where == stores[0].describe()
        assert scratch(stores) == []
    put(stores[1], NAME, b"newer, in S3 alone")
    with found(stores, BackupSelector("hub")) as source:
        assert (source.name, source.where) == (NAME, stores[1].describe())
        assert source.open().read() == b"newer, in S3 alone"
        assert len(scratch(stores)) == 1
    assert scratch(stores) == []


def test_a_store_that_is_down_is_passed_over(stores: tuple[LocalStore, Remote]) -> None:
    """S3 down and a good local copy: it is taken. Both unreadable: the reason is told."""
    put(stores[0], NAME)
    stores[1].down = True
    with found(stores, BackupSelector("hub")) as source:
        assert source.name == NAME
    (stores[0].directory / NAME).unlink()
    with pytest.raises(NotFoundError, match="no good backup of hub"), found(stores, BackupSelector("hub")):
        pass


@pytest.mark.parametrize(
    ("selector", "kind", "cause"),
    [
        (BackupSelector("hub"), NotFoundError, "there is no good backup of hub"),
        (BackupSelector("hub", file="absent.sql.gz"), NotFoundError, "absent.sql.gz"),
        (
            BackupSelector("hub", file="/nowhere/absent.sql.gz"),
            NotFoundError,
            "the directory /nowhere does not exist",
        ),
        (BackupSelector("hub", file="."), HubbackupError, "not a file name"),
        (IN_S3, NotFoundError, "hub_backup"),
        (BackupSelector("hub", store="s3", file=f"../{NAME}"), UsageError, "is not in "),
        (BackupSelector("hub", store="s3", file=f"{NAME}\0"), UsageError, "is not a name of a backup"),
    ],
)
def test_what_is_not_there(
    stores: tuple[LocalStore, Remote], selector: BackupSelector, kind: type[Exception], cause: str
) -> None:
    """Told by its name."""
    with pytest.raises(kind, match=cause), found(stores, selector):
        pass


def test_s3_that_is_not_configured(stores: tuple[LocalStore, Remote]) -> None:
    """--from-s3 without a bucket is exit 2, and names the setting."""
    with (
        pytest.raises(UsageError, match="the store s3 is not configured") as caught,
        found(stores, IN_S3, s3=False),
    ):
        pass
    assert "set S3_BACKUP_BUCKET" in caught.value.remedy


def test_from_one_store(stores: tuple[LocalStore, Remote]) -> None:
    """A store that is named is the only one that is looked into, for a name and for the newest; for no other word."""
    put(stores[0], OLDER, b"here")
    for name in (OLDER, NAME):
        put(stores[1], name, b"in S3")
    for file, store, data in ((OLDER, "s3", b"in S3"), (OLDER, "local", b"here"), ("", "local", b"here")):
        with found(stores, BackupSelector("hub", file=file, store=store)) as source:
            assert (source.name, source.open().read()) == (OLDER, data)
    with found(stores, BackupSelector("hub", store="s3")) as source:
        assert source.name == NAME
    with pytest.raises(NotFoundError), found(stores, BackupSelector("hub", file=NAME, store="local")):
        pass
    with (
        pytest.raises(UsageError, match="tape is not configured"),
        found(stores, BackupSelector("hub", store="tape")),
    ):
        pass


def test_another_databases_backup(stores: tuple[LocalStore, Remote]) -> None:
    """Refused, by its manifest and by its bare name; not where it goes into a database of its own."""
    put(stores[0], NAME)
    (stores[0].directory / OLDER).write_bytes(b"unproven")
    for file in (NAME, OLDER):
        refused = pytest.raises(UsageError, match="is a backup of the database hub, not of other")
        with refused, found(stores, BackupSelector("other", file=file)):
            pass
        with found(stores, BackupSelector("other", file=file, any_database=True)) as source:
            assert source.name == file
    renamed = "other_backup_20260208_030000.sql.gz"
    put(stores[0], renamed, database="hub", name=NAME)
    with pytest.raises(NotProvenError, match="belongs to"), found(stores, BackupSelector("other", file=renamed)):
        pass


def test_a_link_is_no_backup(stores: tuple[LocalStore, Remote], tmp_path: Path) -> None:
    """A symbolic link in the directory leads nowhere."""
    (tmp_path / "secret").write_bytes(b"secret")
    (stores[0].directory / NAME).symlink_to(tmp_path / "secret")
    with pytest.raises(NotFoundError), found(stores, BackupSelector("hub", file=NAME)):
        pass


def test_too_little_room_to_download(stores: tuple[LocalStore, Remote], monkeypatch: pytest.MonkeyPatch) -> None:
    """Told before the first byte, with what is needed."""
    put(stores[1], NAME)
    monkeypatch.setattr(LocalStore, "free_bytes", lambda store: 1000)
    with (
        pytest.raises(StoreFullError, match="has 1,000 free"),
        found(stores, IN_S3),
    ):
        pass
    assert scratch(stores) == []


def test_a_download_that_breaks_leaves_nothing(stores: tuple[LocalStore, Remote]) -> None:
    """Nor does one that was killed, for longer than to the next restore."""
    put(stores[1], NAME)
    stores[1].broken = True
    (stores[0].directory.parent / "scratch" / f"{SCRATCH_PREFIX}killed").mkdir()
    with (
        pytest.raises(StoreError, match="connection was lost"),
        found(stores, IN_S3),
    ):
        pass
    assert scratch(stores) == []
