"""Where `hubbackup extract` reads: S3 by Range requests, files without an index, sealed, foreign and damaged ones."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hubbackup.catalog.backup import BackupName, Mark
from tests.support.age import Pair, make_pair
from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.moments import full_pipe, wait_until
from tests.support.program import Program, beside, for_server
from tests.support.proxy import FaultProxy, Seen
from tests.support.s3 import S3Server
from tests.support.terminal import on_terminal

TABLES = r"""
CREATE TABLE alpha AS SELECT g AS id, md5(g::text) AS a, repeat('x', 50) AS b FROM generate_series(1, 130000) g;
CREATE TABLE bravo AS SELECT g AS id, md5(g::text) AS a FROM generate_series(1, 32000) g;
CREATE TABLE charlie AS SELECT g AS id, md5(g::text) AS a FROM generate_series(1, 130000) g;
CREATE TABLE delta (id int, words text);
INSERT INTO delta VALUES (1, E'\x1b[31mred'), (2, E'tab\there'), (3, E'\u202eevil');
"""


@dataclass
class Site:
    """A backup on the disk and in a bucket that is reached through a proxy."""

    program: Program
    name: str
    bucket: str
    proxy: FaultProxy
    server: EmbeddedPostgres

    def copied(self, what: str, options: str = "(FORMAT csv, HEADER)") -> str:
        argv = [str(self.server.bin_dir / "psql"), "-XqAt", "-d", self.program.database]
        argv += ["-c", f"COPY {what} TO STDOUT {options}"]
        return subprocess.run(argv, env=self.server.env(), check=True, capture_output=True, text=True).stdout

    def other(self, directory: Path, **settings: str) -> Program:
        """Another BACKUP_DIR, with the same key and a copy of the backup."""
        backups = directory / "backups"
        shutil.copytree(self.program.backups, backups)
        return Program(directory, {**self.program.settings, **settings})


@pytest.fixture(scope="module")
def site(postgres16: EmbeddedPostgres, s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with postgres16.temporary_database() as database, FaultProxy(s3.endpoint_url) as proxy:
        postgres16.psql(TABLES, database=database)
        bucket = s3.bucket()
        settings = s3.settings(bucket) | {"S3_ENDPOINT_URL": proxy.url}
        program = for_server(postgres16, database, tmp_path_factory.mktemp("from"), **settings)
        yield Site(program, program.backup().name, bucket, proxy, postgres16)


def fetched(seen: list[Seen], name: str) -> list[tuple[int, int | None]]:
    """The parts of the backup's file that were asked for; the end is None where it is the file's."""
    asked = [one.headers.get("range", "bytes=0-") for one in seen if one.path.endswith(name) and one.method == "GET"]
    parts = [one.removeprefix("bytes=").partition("-") for one in asked]
    return [(int(start), int(end) + 1 if end else None) for start, _, end in parts]


def test_from_s3_only_the_tables_own_members_are_fetched(site: Site) -> None:
    """Counted at the bucket: of a table of a twentieth of the backup no other byte, and no request for the whole."""
    site.proxy.forget()
    done = site.program.run("extract", site.name, "--table", "bravo", "--store", "s3")
    assert done.code == 0, done.err
    assert done.out == site.copied("bravo")
    (part,) = fetched(site.proxy.seen, site.name)
    manifest = site.program.manifest(site.name)
    index = manifest.dump_index()
    assert index is not None
    (block,) = index.blocks_of("public.bravo")
    behind = index.leaving(block.end)
    assert behind is not None
    assert part == (index.entry(block.offset).stored_offset, behind.stored_offset)
    assert behind.stored_offset - part[0] < manifest.stored_bytes / 9
    assert not list((site.program.backups / ".hubbackup").glob("download-*"))


def test_from_s3_sql_needs_the_schema_too(site: Site) -> None:
    """Besides the rows, what stands before and behind all data: still a small part of the file."""
    site.proxy.forget()
    done = site.program.run("extract", site.name, "--table", "bravo", "--store", "s3", "--format", "sql")
    assert done.code == 0, done.err
    assert site.copied("bravo", "") in done.out
    assert len(fetched(site.proxy.seen, site.name)) == 3
    assert site.program.run("extract", site.name, "--table", "bravo", "--format", "sql").out == done.out


def test_the_nearest_copy_is_read(site: Site, s3: S3Server, tmp_path: Path) -> None:
    """The one on the disk, where it is good; else the one in the bucket, also where the disk's is marked damaged."""
    site.proxy.forget()
    assert site.program.run("extract", site.name, "--table", "delta").code == 0
    assert fetched(site.proxy.seen, site.name) == []
    parsed = BackupName.parse(site.name)
    assert parsed is not None
    other = site.other(tmp_path)
    (other.backups / parsed.mark(Mark.BAD)).write_text("{}")
    done = other.run("extract", site.name, "--table", "delta")
    assert done.code == 0
    assert len(fetched(site.proxy.seen, site.name)) == 1
    assert done.out == site.copied("delta")
    local = other.run("extract", site.name, "--table", "delta", "--store", "local")
    assert (local.code, local.out) == (0, done.out)
    assert "was found damaged when it was last verified in local" in local.err


@pytest.mark.parametrize("store", ["local", "s3"])
def test_a_file_without_an_index_is_read_through(site: Site, s3: S3Server, tmp_path: Path, store: str) -> None:
    """A manifest of before, and none at all: the same rows, from S3 without a download to the disk."""
    other = site.other(tmp_path)
    manifest = site.program.manifest(site.name)
    before = manifest.model_copy(update={"index": "", "manifest_schema": "hubbackup.manifest/1"})
    old = site.program.signed(before).to_json()
    wanted = site.copied("bravo")
    (other.backups / beside(site.name)).write_bytes(old)
    if store == "s3":
        bucket = s3.bucket()
        other = other.but(S3_BACKUP_BUCKET=bucket)
        s3.client.put_object(
            Bucket=bucket, Key=f"backups/{site.name}", Body=(site.program.backups / site.name).read_bytes()
        )
        s3.client.put_object(Bucket=bucket, Key=f"backups/{beside(site.name)}", Body=old)
    done = other.run("extract", site.name, "--table", "bravo", "--store", store)
    assert (done.code, done.out) == (0, wanted), done.err
    (other.backups / beside(site.name)).unlink()
    if store == "s3":
        s3.client.delete_object(Bucket=bucket, Key=f"backups/{beside(site.name)}")
    done = other.run("extract", site.name, "--table", "bravo", "--store", store)
    assert (done.code, done.out) == (0, wanted), done.err
    assert "has no manifest" in done.err


def test_any_file_is_read_by_its_path(site: Site, tmp_path: Path) -> None:
    """Under any name, in any directory, as `restore FILE` takes it; and its dump is proven whole before."""
    copy = tmp_path / "from old server.sql.gz"
    copy.write_bytes((site.program.backups / site.name).read_bytes())
    done = site.program.run("extract", str(copy), "--table", "delta")
    assert (done.code, done.out) == (0, site.copied("delta"))
    with copy.open("r+b") as file:
        file.truncate(copy.stat().st_size - 100)
    done = site.program.run("extract", str(copy), "--table", "delta")
    assert (done.code, done.out) == (1, "")
    assert "is damaged" in done.err
    done = site.program.run("extract", str(tmp_path / "absent.sql.gz"), "--table", "delta")
    assert (done.code, done.out) == (1, "")


@pytest.mark.parametrize("store", ["local", "s3"])
def test_damaged_rows_are_never_taken_for_whole(site: Site, s3: S3Server, tmp_path: Path, store: str) -> None:
    """A changed byte where the table stands: exit code 1, and no file. Other tables can be read all the same."""
    other = site.other(tmp_path)
    index = site.program.manifest(site.name).dump_index()
    assert index is not None
    (block,) = index.blocks_of("public.bravo")
    damaged = bytearray((site.program.backups / site.name).read_bytes())
    damaged[index.entry(block.offset).stored_offset + 5_000] ^= 0xFF
    (other.backups / site.name).write_bytes(damaged)
    if store == "s3":
        bucket = s3.bucket()
        other = other.but(S3_BACKUP_BUCKET=bucket)
        for name in (site.name, beside(site.name)):
            body = (other.backups / name).read_bytes()
            s3.client.put_object(Bucket=bucket, Key=f"backups/{name}", Body=body)
    before = set(other.directory.iterdir())
    done = other.run("extract", site.name, "--table", "bravo", "--store", store, "--output", "rows.csv")
    assert done.code == 1
    assert f"{site.name} is damaged" in done.err
    assert set(other.directory.iterdir()) == before
    assert other.run("extract", site.name, "--table", "bravo", "--store", store).code == 1
    assert other.run("extract", site.name, "--table", "delta", "--store", store).out == site.copied("delta")


def test_a_foreign_backup_is_refused(site: Site, tmp_path: Path) -> None:
    """Unless it is asked for; then it is said."""
    other = site.other(tmp_path, BACKUP_MANIFEST_KEY="another key, of somebody else, long enough")
    done = other.run("extract", site.name, "--table", "delta")
    assert (done.code, done.out) == (2, "")
    assert "--foreign" in done.err
    done = other.run("extract", site.name, "--table", "delta", "--foreign")
    assert (done.code, done.out) == (0, site.copied("delta"))
    assert f"{site.name} is foreign" in done.err


def test_what_speaks_against_a_backup_is_said(site: Site, tmp_path: Path) -> None:
    """Suspicious, unrestorable: the rows come all the same, with a warning."""
    other = site.other(tmp_path)
    manifest = site.program.manifest(site.name)
    doubted = site.program.signed(manifest.model_copy(update={"warnings": ("half of the rows are gone",)}))
    (other.backups / beside(site.name)).write_bytes(doubted.to_json())
    parsed = BackupName.parse(site.name)
    assert parsed is not None
    (other.backups / parsed.mark(Mark.UNRESTORABLE)).write_text('{"why": "a view is broken"}')
    done = other.run("extract", site.name, "--table", "delta")
    assert (done.code, done.out) == (0, site.copied("delta"))
    assert "half of the rows are gone" in done.err
    assert "a view is broken" in done.err


def test_a_sealed_backup_is_read_with_its_key(site: Site, tmp_path: Path) -> None:
    """From its start; its rows are compared by the keyed digests, and without the key nothing is written."""
    pair: Pair = make_pair(tmp_path, name="own")
    sealed = Program(tmp_path, {**site.program.settings, "BACKUP_ENCRYPT_RECIPIENTS": pair.public})
    name = sealed.backup().name
    assert name.endswith(".age")
    for store in ("local", "s3"):
        done = sealed.run("extract", name, "--table", "bravo", "--store", store, "--identity", str(pair.file))
        assert (done.code, done.out) == (0, site.copied("bravo")), done.err
        done = sealed.run("extract", name, "--table", "bravo", "--store", store)
        assert (done.code, done.out) == (2, "")
        assert pair.fingerprint in done.err


def test_a_terminal_obeys_nothing_that_is_in_a_row(site: Site) -> None:
    """Colours and what turns the order of reading are escaped there; in a pipe and in a file all is as it was."""
    seen = on_terminal(site.program, "extract", site.name, "--table", "delta")
    assert seen.code == 0
    assert r"1,\x1b[31mred" in seen.lines
    assert "\x1b[31m" not in seen.written
    assert "\u202e" not in seen.written
    assert "\x1b[31m" in on_terminal(site.program, "extract", site.name, "--table", "delta", stdout_piped=True).piped


def test_a_reader_that_leaves_ends_it(site: Site) -> None:
    """`extract | head`: no traceback, no message."""
    script = f'"{sys.executable}" -m hubbackup extract {site.name} --table alpha 2>errors | head -n 3'
    done = subprocess.run(
        ["sh", "-c", script], env=site.program.env(), cwd=site.program.directory, capture_output=True, check=True
    )
    assert done.stdout.decode().splitlines() == site.copied("alpha").splitlines()[:3]
    assert "Traceback" not in (site.program.directory / "errors").read_text()
    assert "what to do" not in (site.program.directory / "errors").read_text()


def test_a_stop_leaves_no_file(site: Site, tmp_path: Path) -> None:
    """SIGTERM while it waits for its reader; and half-way through a file, of which nothing is left."""
    with full_pipe() as writer:
        process = subprocess.Popen(
            [sys.executable, "-m", "hubbackup", "extract", site.name, "--table", "alpha"],
            env=site.program.env(),
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=writer,
            stderr=subprocess.DEVNULL,
        )
        wait_until(lambda: handles_sigterm(process.pid), "it handles signals")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 143
    code = (
        "import os, signal, sys; from hubbackup.dump import copy_csv; made = copy_csv.csv_lines\n"
        "def lines(*words):\n    os.kill(os.getpid(), signal.SIGTERM); yield from made(*words)\n"
        "from hubbackup.contents import extract; extract.csv_lines = lines\n"
        "from hubbackup.cli import run; sys.exit(run())"
    )
    process = site.program.start("extract", site.name, "--table", "alpha", "--output", "alpha.csv", code=code)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143, said
    assert not [path for path in site.program.directory.iterdir() if "alpha" in path.name]


def handles_sigterm(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(next(line for line in status.splitlines() if line.startswith("SigCgt")).split()[1], 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


def test_a_full_disk_is_one_sentence(site: Site) -> None:
    """Exit code 1, nothing left behind."""
    script = f'"{sys.executable}" -m hubbackup extract {site.name} --table alpha > /dev/full'
    done = subprocess.run(
        ["sh", "-c", script], env=site.program.env(), cwd=site.program.directory, capture_output=True, check=False
    )
    assert done.returncode == 1
    assert "the answer could not be written: No space left on device" in done.stderr.decode()


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "EUC_JP"])
def test_rows_keep_the_encoding_of_their_database(
    postgres16: EmbeddedPostgres, tmp_path: Path, encoding: str
) -> None:
    """Byte for byte as the server writes them in that encoding; names can be typed in the terminal's."""
    letters = "漢" if encoding == "EUC_JP" else "é"
    with postgres16.temporary_database("made") as unused:
        database = f"{unused}_{encoding.lower()}"
        postgres16.create_database(
            database, options=f"TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'"
        )
        try:
            sql = f"""CREATE TABLE "t{letters}" (id int, "c{letters}" text);
                INSERT INTO "t{letters}" VALUES (1, '{letters},{letters}'), (2, NULL), (3, '{letters}\\t');"""
            postgres16.psql(sql, database=database)
            program = for_server(postgres16, database, tmp_path)
            name = program.backup().name
            argv = [str(postgres16.bin_dir / "psql"), "-XqAt", "-d", database]
            argv += ["-c", f"SET client_encoding = '{encoding}'; COPY \"t{letters}\" TO STDOUT (FORMAT csv, HEADER)"]
            wanted = subprocess.run(argv, env=postgres16.env(), check=True, capture_output=True).stdout
            for more in ((), ("--columns", f'id, "c{letters}"')):
                done = program.run("extract", name, "--table", f'"t{letters}"', "--output", "out.csv", *more)
                assert done.code == 0, done.err
                assert (tmp_path / "out.csv").read_bytes() == wanted
                (tmp_path / "out.csv").unlink()
        finally:
            postgres16.drop_database(database)
