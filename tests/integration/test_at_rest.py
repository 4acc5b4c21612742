"""BACKUP_COMPRESSION=zstd and BACKUP_RATE_LIMIT, as their users run them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from hubbackup.streams.codecs import ZSTD
from tests.support.containers import postgres_container, psql_in
from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.fingerprint import diff, fingerprint
from tests.support.program import Program, beside, for_container, for_server
from tests.support.s3 import S3Server
from tests.support.sample import load_sample

CHECKSUM = 0b100
"""Of a zstd frame's descriptor, its fifth byte (RFC 8878, 3.1.1.1.1)."""


def unpacked(data: bytes) -> bytes:
    """What `zstd -dc` prints."""
    decoder = ZSTD.decoder()
    plain = b"".join(decoder.pieces(data))
    decoder.finish()
    return plain


def made(program: Program, **settings: str) -> str:
    """The name of a new backup."""
    done = program.run("backup", "--json", **settings)
    assert done.code == 0, done.err
    return str(done.document["name"])


def restored(program: Program, *which: str, into: str) -> None:
    done = program.run("restore", *which, "--into", into, "--yes", "--json")
    assert done.code == 0, done.err


def test_zstd_at_rest_serves_every_command(postgres: EmbeddedPostgres, s3: S3Server, tmp_path: Path) -> None:
    """A `.sql.zst` is a backup like any other, also by a pg_dump that has no zstd: both stores, proof, restores,
    drill, rotation; and a change of the setting leaves the older backups in use."""
    with postgres.temporary_database("hub") as database:
        load_sample(postgres.psql, database, 0.5)
        bucket = s3.bucket()
        program = for_server(
            postgres,
            database,
            tmp_path,
            **s3.settings(bucket),
            BACKUP_COMPRESSION="zstd",
            DRILL_TARGET="database",
        )
        name = made(program)
        assert name.endswith(".sql.zst")
        assert sorted(program.files()) == sorted([name, beside(name)])
        assert sorted(s3.keys(bucket)) == sorted([f"backups/{name}", f"backups/{beside(name)}"])
        assert program.manifest(name).compression == "zstd:1"
        before = fingerprint(postgres.psql, database)
        for number, which in enumerate((["--latest"], ["--from-s3", name], [str(program.backups / name)])):
            into = f"{database}_{number}"
            restored(program, *which, into=into)
            try:
                assert diff(before, fingerprint(postgres.psql, into), properties=False) == []
            finally:
                postgres.psql(f"DROP DATABASE {into}")
        assert program.run("verify", "--all").code == 0
        assert program.run("drill", "--latest").code == 0
        assert program.run("check").code == 0
        assert program.run("status", "--json").document["last_good"] == name
        gzip_twin = name.removesuffix(".zst") + ".gz"
        assert program.run("pin", gzip_twin).code == 1
        assert program.run("pin", name).code == 0
        assert program.run("unpin", gzip_twin).code == 1
        assert program.run("list", "--json").document[0]["pinned"]
        assert program.run("unpin", name).code == 0

        old = program.redate(name, timedelta(days=30))
        gzip_name = made(program, BACKUP_COMPRESSION="gzip")
        assert gzip_name.endswith(".sql.gz")
        assert old not in program.files()
        assert beside(old) not in program.files()
        listed = program.run("list", "--json").document
        assert [(one["name"], one["good_in"]) for one in listed] == [
            (one, ["local", "s3"]) for one in (name, gzip_name)
        ]


@pytest.mark.parametrize("harm", ["cut", "flipped", "trailing"])
def test_a_damaged_zstd_backup_is_refused(postgres18: EmbeddedPostgres, tmp_path: Path, harm: str) -> None:
    """verify names it, restore does not begin; the same file without a manifest, too."""
    with postgres18.temporary_database("hub") as database:
        postgres18.psql(
            "CREATE TABLE t AS SELECT i, md5(i::text) FROM generate_series(1, 20000) i", database=database
        )
        program = for_server(postgres18, database, tmp_path, BACKUP_COMPRESSION="zstd")
        name = made(program)
        path = program.backups / name
        data = bytearray(path.read_bytes())
        if harm == "cut":
            del data[-1:]
        elif harm == "trailing":
            data += b"\0"
        else:
            data[len(data) // 2] ^= 1
        path.write_bytes(data)
        done = program.run("verify", "--all")
        assert done.code == 1
        assert name in done.err
        assert program.run("restore", name, "--into", "other", "--yes").code == 1
        (program.backups / beside(name)).unlink()
        done = program.run("restore", name, "--into", "other", "--yes")
        assert done.code == 1, done.err
        assert postgres18.psql("SELECT count(*) FROM pg_database WHERE datname = 'other'").strip() == "0"


@pytest.fixture(scope="module")
def container(docker_engine: str) -> Iterator[str]:
    """A server whose pg_dump has zstd, with a table of 5 MB, reached by exec alone."""
    with postgres_container() as name:
        rows = "SELECT i, md5(i::text) || md5((-i)::text) AS noise FROM generate_series(1, 80000) AS i"
        psql_in(name, f"CREATE TABLE t AS {rows};")
        yield name


def test_zstd_over_the_engine_is_packed_anew(container: str, tmp_path: Path) -> None:
    """At the level that was asked for, with a checksum, and in frames of which each can be entered."""
    program = for_container(container, tmp_path, BACKUP_COMPRESSION="zstd")
    sizes = {}
    for level in ("1", "15"):
        name = made(program, BACKUP_COMPRESSION_LEVEL=level)
        stored = program.files()[name]
        manifest = program.manifest(name)
        assert manifest.compression == f"zstd:{level}"
        assert manifest.rows == {"public.t": 80000}
        assert manifest.plain_bytes == len(unpacked(stored))
        assert stored[4] & CHECKSUM
        index = manifest.dump_index()
        assert index is not None
        for member in index.members:
            assert unpacked(stored[member.stored_offset :]) == unpacked(stored)[member.plain_offset :]
        sizes[level] = len(stored)
    assert sizes["15"] != sizes["1"]
    assert program.run("verify", "--all").code == 0
    restored(program, "--latest", into="again")


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_the_rate_limit_paces_the_database(container: str, tmp_path: Path, compression: str) -> None:
    """A dump of 5 MB at 2 MB a second takes its time over exec, is whole, and its tail is not lost at the engine."""
    program = for_container(container, tmp_path, BACKUP_COMPRESSION=compression, BACKUP_RATE_LIMIT="2MB")
    done = program.run("backup", "--json")
    assert done.code == 0, done.err
    facts = done.document
    assert facts["plain_bytes"] > 5_000_000
    assert facts["dump_seconds"] > 1.2
    assert facts["rows"] == 80000
