"""What LocalStore promises beyond the contract of every store: the directory, the disk, and what others put there."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from hubbackup.errors import ExistsError, NotFoundError, StoreDeniedError, StoreError
from hubbackup.stores.local import LocalStore
from hubbackup.streams.growing_file import SourceFailedError

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    directory = tmp_path / "store"
    directory.mkdir()
    return LocalStore(directory)


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file outside of the store that nothing may touch."""
    path = tmp_path / "victim"
    path.write_bytes(b"precious")
    return path


def put(store: LocalStore, name: str, data: bytes = b"data") -> None:
    with store.create(name) as draft:
        draft.write(data)
        draft.commit()


def in_a_small_file_system(script: str, directory: Path) -> str:
    """Run a script whose working directory is a tmpfs of 1 MiB; returns what it printed."""
    if shutil.which("unshare") is None:
        pytest.skip("no `unshare`, so no small file system")
    mount = 'mount -t tmpfs -o size=1m none "$1" && cd "$1" && exec "$2" -c "$3"'
    done = subprocess.run(
        ["unshare", "--mount", "--map-root-user", "sh", "-c", mount, "-", directory, sys.executable, script],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no small file system: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_full_disk_is_told_with_figures_and_leaves_the_old_files(tmp_path: Path) -> None:
    """ENOSPC is StoreFullError with the free bytes; the draft is removed, and what was there can still be read."""
    printed = in_a_small_file_system(
        """
from pathlib import Path
from hubbackup.errors import StoreFullError
from hubbackup.stores.local import LocalStore
store = LocalStore(Path.cwd())
with store.create("old") as draft:
    draft.write(b"o" * 300_000)
    draft.commit()
try:
    with store.create("new") as draft:
        for _ in range(100):
            draft.write(b"n" * 64_000)
except StoreFullError as error:
    print(error, "|", error.remedy)
print(sorted(path.name for path in Path.cwd().iterdir()), store.open("old").__enter__().read() == b"o" * 300_000)
print(store.free_bytes() > 500_000)
""",
        tmp_path,
    )
    first, second, third = printed.splitlines()
    assert "0 of 1,048,576 bytes are free" in first
    assert "BACKUP_RETENTION_DAYS" in first
    assert second == "['old'] True"
    assert third == "True"


def test_a_read_only_file_system_is_denied(tmp_path: Path) -> None:
    """EROFS is StoreDeniedError, names the directory and says how it is mounted."""
    printed = in_a_small_file_system(
        """
import subprocess
from pathlib import Path
from hubbackup.errors import StoreDeniedError
from hubbackup.stores.local import LocalStore
subprocess.run(["mount", "-o", "remount,ro", str(Path.cwd())], check=True)
try:
    LocalStore(Path.cwd()).create("new")
except StoreDeniedError as error:
    print(error, "|", error.remedy)
""",
        tmp_path,
    )
    assert str(tmp_path) in printed
    assert "Read-only file system" in printed
    assert "read-write" in printed


@pytest.fixture
def as_nobody(tmp_path: Path) -> Iterator[None]:
    """Root may write anywhere, so it becomes someone else for a while."""
    tmp_path.chmod(0o500)
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.usefixtures("as_nobody")
def test_a_directory_without_permission_is_denied(tmp_path: Path) -> None:
    """EACCES is StoreDeniedError and names the directory and the user."""
    with pytest.raises(StoreDeniedError, match=str(tmp_path)) as raised:
        LocalStore(tmp_path).create("new")
    assert str(os.geteuid()) in raised.value.remedy


def test_a_missing_directory_is_told_as_such(tmp_path: Path) -> None:
    """Every call that needs the directory names it and the way to make it."""
    store = LocalStore(tmp_path / "not-mounted")
    for call in (lambda: store.create("a"), lambda: list(store.entries()), store.remove_leftovers, store.free_bytes):
        with pytest.raises(NotFoundError, match="not-mounted") as raised:
            call()
        assert "mkdir" in raised.value.remedy


def test_a_file_is_readable_by_its_owner_only(store: LocalStore) -> None:
    """Draft and file have mode 0600, whatever the umask."""
    previous = os.umask(0)
    try:
        with store.create("a") as draft:
            assert stat.S_IMODE(draft.path.stat().st_mode) == 0o600
            draft.commit()
    finally:
        os.umask(previous)
    assert stat.S_IMODE((store.directory / "a").stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["a", "a.partial"])
def test_a_symlink_where_a_file_would_go_is_never_followed(store: LocalStore, victim: Path, name: str) -> None:
    """A link at the final or the draft's name is ExistsError; link and victim stay as they were."""
    link = store.directory / name
    link.symlink_to(victim)
    with pytest.raises(ExistsError, match=name):
        put(store, "a")
    assert store.remove_leftovers() == []
    assert link.readlink() == victim
    assert victim.read_bytes() == b"precious"


def test_a_dangling_symlink_creates_nothing_elsewhere(store: LocalStore, tmp_path: Path) -> None:
    """A link to what does not exist yet is not written through."""
    (store.directory / "a.partial").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ExistsError):
        put(store, "a")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("with_links", [True, False])
def test_what_appears_at_the_final_name_meanwhile_is_not_overwritten(
    store: LocalStore, victim: Path, with_links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file, or a link, that someone puts there while the draft is written stays; `commit` is ExistsError."""
    if not with_links:
        monkeypatch.setattr(os, "link", refuse_links)
    for number, make in enumerate((lambda path: path.write_bytes(b"foreign"), lambda path: path.symlink_to(victim))):
        name = f"contested-{number}"
        with store.create(name) as draft:
            draft.write(b"ours")
            make(store.directory / name)
            with pytest.raises(ExistsError):
                draft.commit()
        assert (store.directory / name).read_bytes() in (b"foreign", b"precious")
        assert not draft.path.exists()
    assert victim.read_bytes() == b"precious"


def test_a_draft_that_was_replaced_is_neither_published_nor_removed(store: LocalStore) -> None:
    """Whoever swaps the `.partial` gets an error from `commit`, and keeps what he put there."""
    with store.create("a") as draft:
        draft.write(b"ours")
        draft.path.unlink()
        draft.path.write_bytes(b"theirs")
        with pytest.raises(StoreError, match="replaced"):
            draft.commit()
    assert draft.path.read_bytes() == b"theirs"
    assert list(store.entries()) == []


def test_only_whole_regular_files_are_seen(store: LocalStore, victim: Path) -> None:
    """Links, directories, pipes, hidden files, drafts and names that no store takes are not listed."""
    put(store, "a")
    (store.directory / "link").symlink_to(victim)
    (store.directory / "directory").mkdir()
    os.mkfifo(store.directory / "pipe")
    for name in (".hidden", "b.partial", "line\nbreak", os.fsdecode(b"not-utf8-\xff")):
        (store.directory / name).write_bytes(b"x")
    assert [entry.name for entry in store.entries()] == ["a"]
    for name in ("link", "directory", "pipe"):
        with pytest.raises(NotFoundError):
            store.stat(name)
        with pytest.raises(NotFoundError):
            store.open(name)
        with pytest.raises(StoreError, match="left alone"):
            store.delete(name)
    assert victim.read_bytes() == b"precious"


def test_clean_removes_our_drafts_only(tmp_path: Path, victim: Path) -> None:
    """Regular `.partial` files of ours go; links, directories, hidden and foreign ones stay."""
    store = LocalStore(tmp_path, is_ours=lambda name: name.endswith(".sql.gz"))
    (tmp_path / "dead.sql.gz.partial").write_bytes(b"x")
    (tmp_path / "film.mkv.partial").write_bytes(b"x")
    (tmp_path / ".sql.gz.partial").write_bytes(b"x")
    (tmp_path / "link.sql.gz.partial").symlink_to(victim)
    (tmp_path / "directory.sql.gz.partial").mkdir()
    put(store, "whole.sql.gz")
    before = {path.name for path in tmp_path.iterdir()}
    assert store.remove_leftovers() == ["dead.sql.gz.partial"]
    assert before - {path.name for path in tmp_path.iterdir()} == {"dead.sql.gz.partial"}
    assert store.remove_leftovers() == []


def test_a_hundred_thousand_files_are_listed_in_seconds() -> None:
    """A listing costs one look at each file (in seconds of this process, whatever else the machine does)."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        for number in range(100_000):
            os.mknod(f"{name}/{number:06}.sql.gz")
        started = time.process_time()
        names = [entry.name for entry in LocalStore(Path(name)).entries()]
        assert time.process_time() - started < 5
    assert names == [f"{number:06}.sql.gz" for number in range(100_000)]


def test_a_listing_does_not_end_early_with_its_directory(store: LocalStore) -> None:
    """A file that vanishes meanwhile is left out; a directory that vanishes is an error, not the end of the list."""
    for name in "abcd":
        put(store, name)
    entries = store.entries()
    assert next(entries).name == "a"
    store.delete("b")
    assert next(entries).name == "c"
    shutil.rmtree(store.directory)
    with pytest.raises(NotFoundError, match="does not exist"):
        next(entries)


def test_after_sync_the_draft_can_be_read_back_and_not_written(store: LocalStore) -> None:
    """`sync` fixes the bytes: they are at `path`, followers finish, and a later write is an error."""
    with store.create("a") as draft:
        draft.write(b"data")
        assert draft.growing.wait_for(1) == (4, False)
        draft.sync()
        assert draft.path.read_bytes() == b"data"
        assert draft.size_bytes == 4
        assert draft.growing.wait_for(10) == (4, True)
        with pytest.raises(StoreError):
            draft.write(b"more")
        draft.commit()
        assert draft.path == draft.growing.path == store.directory / "a"


def test_followers_of_an_aborted_draft_are_told(store: LocalStore) -> None:
    """Leaving the block without `commit` ends every wait on the file with SourceFailedError, also after `sync`."""
    with store.create("a") as draft:
        draft.write(b"data")
        draft.sync()
    with pytest.raises(SourceFailedError):
        draft.growing.wait_for(1)
    with pytest.raises(SourceFailedError):
        draft.growing.open()


def test_a_name_that_may_not_survive_a_power_cut_is_not_published(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the directory can't be synced, `commit` fails and no name is left."""
    with store.create("a") as draft:
        draft.write(b"data")
        draft.sync()

        def fail(descriptor: int) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(StoreError, match="could not be synced"):
            draft.commit()
    assert list(store.directory.iterdir()) == []


def test_a_disk_that_is_full_only_at_the_sync_publishes_nothing(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ENOSPC or EDQUOT that comes as late as fsync still fails the draft."""
    with store.create("a") as draft:
        draft.write(b"data")

        def fail(descriptor: int) -> None:
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(StoreError, match="durable"):
            draft.commit()
    assert list(store.directory.iterdir()) == []


def test_an_unreadable_disk_is_a_store_error(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """OSErrors of reading leave as StoreError, too: a directory's descriptor stands in for a broken disk."""
    put(store, "a")
    with store.open("a") as file:
        descriptor = os.open(store.directory, os.O_RDONLY)
        os.dup2(descriptor, file.fileno())
        os.close(descriptor)
        with pytest.raises(StoreError, match="could not give back"):
            file.read()


def refuse_links(*arguments: object, **options: object) -> None:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o000])
@pytest.mark.parametrize("mode", [0o600, 0o640])
def test_a_published_file_has_the_mode_that_is_set(tmp_path: Path, mode: int, umask: int) -> None:
    """Whatever the umask is; and before it is proven and published, it is its owner's alone."""
    before = os.umask(umask)
    try:
        with LocalStore(tmp_path, mode=mode).create("name") as draft:
            draft.write(b"data")
            draft.sync()
            assert stat.S_IMODE(draft.path.stat().st_mode) == 0o600
            draft.commit()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "name").stat().st_mode) == mode


def test_a_file_can_be_dated(store: LocalStore) -> None:
    """The date is there when the name is; the entry tells it too."""
    dated = datetime(2026, 2, 8, 3, tzinfo=UTC)
    with store.create("name", dated=dated) as draft:
        draft.write(b"data")
        assert draft.commit().modified_at == dated
    assert store.stat("name").modified_at == dated
