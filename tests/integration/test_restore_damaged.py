"""A backup that is not whole, or not what it says it is, is refused before anything comes of what the server says.

Most points are tried on the job itself, for which there is no server: where it came to ask for one's answer, it would
fail for that. A dozen go through the whole program, with the live database's fingerprint compared.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from hubbackup.catalog.target import LocalTarget, Policy
from hubbackup.errors import ContainerError, HubbackupError, NotProvenError
from hubbackup.jobs.progress import logged
from hubbackup.jobs.run import Run
from hubbackup.load.proof import DumpProof, prove
from hubbackup.logs import setup as logs
from hubbackup.restore import job as restore_job
from hubbackup.restore.job import RestoreJob
from hubbackup.restore.preflight import Request
from hubbackup.runners import Runner
from hubbackup.stores.local import LocalStore
from hubbackup.streams.cancel import Cancel
from hubbackup.streams.codecs import CODECS
from hubbackup.verify.selector import BackupSelector, find
from tests.support.backups import key_in, plain_of, signed_text
from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.fingerprint import Fingerprint, diff, fingerprint
from tests.support.program import DATABASE, Program, finish, for_server
from tests.support.sample import load_sample

POINTS = int(os.environ.get("HUBBACKUP_CUT_POINTS", "300"))
"""Random points for each kind of damage."""
BOMB_BYTES = 10 << 30
WITH_300_MIB = ["prlimit", f"--data={300 << 20}"]


@dataclass(frozen=True)
class Scene:
    """A server with a live database, and a good backup of it to be damaged."""

    hub: Program
    name: str
    data: bytes
    plain: bytes
    manifest: bytes
    live: Fingerprint

    def put(self, data: bytes, *, manifest: bool) -> str:
        """The only backup there is: these bytes, under the good one's name."""
        file = self.hub.backups / self.name
        file.write_bytes(data)
        beside = file.with_name(self.name.replace(".sql.gz", ".manifest.json"))
        beside.unlink(missing_ok=True)
        if manifest:
            beside.write_bytes(self.manifest)
        return self.name

    def refusal(self, data: bytes, *, manifest: bool) -> str:
        """How the job refuses it. Fails where it does not, and where it wants to hear from the server."""
        with pytest.raises(HubbackupError) as caught:
            self.job(self.put(data, manifest=manifest))(run())
        return str(caught.value)

    def job(self, file: str) -> RestoreJob:
        targets = [local_target(self.hub.backups)]
        return RestoreJob(
            request=Request(DATABASE, replace=True),
            find_source=lambda run: find(
                run, BackupSelector(DATABASE, file=file), targets, ZoneInfo("UTC"), self.hub.backups / "scratch"
            ),
            open_runner=never,
            connection=lambda run_id: pytest.fail("a connection is wanted for a backup that is not proven"),
            confirm=lambda preview: None,
            safety_backup=lambda run: "",
        )


def local_target(directory: Path) -> LocalTarget:
    return LocalTarget("the local store", LocalStore(directory), Policy(days=7), key_in(directory).trust)


def never(cancel: Cancel) -> Runner:
    pytest.fail("a runner is wanted for a backup that is not proven")


def run() -> Run:
    return Run("restore", "a-run", Cancel(), logs.get_logger(), logged(logs.get_logger(), "restore"))


@pytest.fixture(scope="module")
def scene(postgres16: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    hub = for_server(postgres16, DATABASE, tmp_path_factory.mktemp("damaged"))
    postgres16.create_database(DATABASE)
    try:
        load_sample(postgres16.psql, DATABASE, 0.2)
        file = hub.backup()
        manifest = file.with_name(file.name.replace(".sql.gz", ".manifest.json")).read_bytes()
        live = fingerprint(hub.psql, DATABASE)
        yield Scene(hub, file.name, file.read_bytes(), plain_of(file), manifest, live)
    finally:
        hub.drop(DATABASE, *hub.derived("before"), *hub.derived("restore"))


def proof_of(scene: Scene, data: bytes) -> DumpProof:
    """What is proven of an unproven file."""
    name = scene.put(data, manifest=False)
    targets = [local_target(scene.hub.backups)]
    with find(run(), BackupSelector(DATABASE, file=name), targets, ZoneInfo("UTC"), Path("/nowhere")) as source:
        return prove(run(), source)


def numbers(count: int, below: int) -> Iterator[int]:
    """`count` numbers below a limit, the same in each run; the first and the last one are among them."""
    yield from (0, below - 1)
    yield from random.Random(3).choices(range(below), k=count - 2)


@pytest.mark.parametrize("manifest", [True, False], ids=["proven", "unproven"])
def test_a_file_cut_anywhere_is_refused(scene: Scene, manifest: bool) -> None:
    """At hundreds of random lengths, with the manifest and without it."""
    for length in numbers(POINTS, len(scene.data)):
        assert scene.refusal(scene.data[:length], manifest=manifest), length


def test_one_flipped_bit_is_refused(scene: Scene) -> None:
    """At hundreds of random bits of a proven backup."""
    for bit in numbers(POINTS, 8 * len(scene.data)):
        data = bytearray(scene.data)
        data[bit // 8] ^= 1 << bit % 8
        assert "damaged" in scene.refusal(bytes(data), manifest=True), bit


def test_one_flipped_bit_of_an_unproven_file_changes_nothing_or_is_refused(scene: Scene) -> None:
    """Without a manifest gzip's own checksum tells, but for what is not content: header, padding."""
    whole = proof_of(scene, scene.data).facts
    for bit in numbers(POINTS, 8 * len(scene.data)):
        data = bytearray(scene.data)
        data[bit // 8] ^= 1 << bit % 8
        try:
            facts = proof_of(scene, bytes(data)).facts
        except NotProvenError:
            continue
        assert facts == whole, bit
        assert facts.plain_bytes == len(scene.plain)


@pytest.mark.parametrize("where", ["anywhere", "at a line's end", "at a row's end"])
def test_half_a_dump_in_a_whole_gzip_is_refused(scene: Scene, where: str) -> None:
    """psql itself would take it, commit it and exit 0; at a row's end there is nothing that looks wrong."""
    plain = scene.plain
    lengths: Callable[[], list[int]] = {
        "anywhere": lambda: list(range(len(plain))),
        "at a line's end": lambda: [i + 1 for i, byte in enumerate(plain[:-1]) if byte == 10],
        "at a row's end": lambda: row_ends(plain),
    }[where]
    points = lengths()
    assert len(points) > 300
    for index in numbers(POINTS, len(points)):
        said = scene.refusal(gzip.compress(plain[: points[index]], 1), manifest=False)
        assert "not proven whole" in said, points[index]


def row_ends(plain: bytes) -> list[int]:
    """The ends of rows inside of COPY blocks."""
    ends, inside, position = [], False, 0
    for line in plain.splitlines(keepends=True):
        position += len(line)
        if inside and line != b"\\.\n":
            ends.append(position)
        inside = (inside or (line.startswith(b"COPY ") and line.endswith(b"FROM stdin;\n"))) and line != b"\\.\n"
    return ends


def joined(*parts: bytes) -> bytes:
    return b"".join(gzip.compress(part, 1) for part in parts)


def test_other_damage_is_refused(scene: Scene) -> None:
    """An empty file, no gzip, a member missing, what follows the end, a cluster's dump, another manifest."""
    plain, half = scene.plain, len(scene.plain) // 2
    for manifest in (True, False):
        for data in (
            b"",
            b"\n",
            plain,
            gzip.compress(b""),
            gzip.compress(plain[:half]),
            joined(plain[:half], plain[half:])[:-8],
            scene.data + b"\0",
            scene.data + b"garbage",
            joined(plain, b"DROP TABLE public.chantiers;\n"),
            gzip.compress(plain.replace(b"database dump\n", b"database cluster dump\n", 1)),
        ):
            assert scene.refusal(data, manifest=manifest)
    assert scene.refusal(joined(plain, plain), manifest=True)
    # The same dump, packed otherwise: whole, but not the file that the manifest was written for.
    assert "bytes" in scene.refusal(joined(plain[:half], plain[half:]), manifest=True)


def test_a_manifest_that_is_not_its_own_is_refused(scene: Scene) -> None:
    """Another database's backup under this one's name, and a manifest whose facts are not the file's."""
    document = json.loads(scene.manifest)
    for change in (
        {"database": "other"},
        {"name": "other_backup_20260101_000000.sql.gz"},
        {"sha256": "0" * 64},
        {"plain_bytes": document["plain_bytes"] - 1},
        {"rows": {}},
        {"properties": {}, "then": "the server is not changed either"},
    ):
        file = scene.put(scene.data, manifest=False)
        beside = scene.hub.backups / file.replace(".sql.gz", ".manifest.json")
        beside.write_text(signed_text(scene.hub.backups, document | change))
        done = scene.hub.run("restore", file, "--yes")
        assert done.code == 1, done.said
        assert diff(scene.live, fingerprint(scene.hub.psql, DATABASE)) == []
    # With its own manifest it is another database's backup, plainly.
    other = "other_backup_20260101_000000"
    (scene.hub.backups / f"{other}.sql.gz").write_bytes(scene.data)
    document |= {"database": "other", "name": f"{other}.sql.gz"}
    (scene.hub.backups / f"{other}.manifest.json").write_text(signed_text(scene.hub.backups, document))
    done = scene.hub.run("restore", f"{other}.sql.gz", "--yes")
    assert done.code == 2
    assert "is a backup of the database other, not of hub_chantier" in done.err


def test_a_file_that_changes_between_proof_and_load_is_not_swapped_in(scene: Scene) -> None:
    """What is loaded is what was proven, byte for byte, also where no manifest tells."""
    file = scene.hub.backups / scene.put(scene.data, manifest=False)
    other = gzip.compress(scene.plain.replace(b"\tLyon\t", b"\tNice\t"), 1)
    hub = scene.hub
    changing = "import sys\nfrom hubbackup import cli\nfrom hubbackup.restore.filling import Filling\n"
    changing += "fill = Filling.fill\n"
    changing += "def changed(self):\n    open(sys.argv[1], 'wb').write(open(sys.argv[2], 'rb').read())\n"
    changing += "    return fill(self)\nFilling.fill = changed\nsys.exit(cli.run(['restore', sys.argv[1], '--yes']))"
    replacement = scene.hub.backups / "replacement"
    replacement.write_bytes(other)
    done = finish(hub.start(str(file), str(replacement), code=changing))
    assert done.code == 1, done.said
    assert "is damaged" in done.err
    assert diff(scene.live, fingerprint(hub.psql, DATABASE)) == []
    assert hub.derived("restore") == hub.derived("before") == []


def test_a_gzip_bomb_is_refused_by_the_manifests_size(scene: Scene) -> None:
    """10 GB of zeros in 10 MB: refused at once, in memory that stays flat."""
    member = gzip.compress(bytes(64 << 20), 1)
    name = scene.put(member * (BOMB_BYTES // (64 << 20)), manifest=True)
    done = replace(scene.hub, before=WITH_300_MIB).run("restore", name, "--yes")
    assert done.code == 1, done.said
    assert "decodes to more than" in done.err
    assert diff(scene.live, fingerprint(scene.hub.psql, DATABASE)) == []


@pytest.mark.parametrize("start", [b"", b"--\n-- PostgreSQL database dump\n--\n\n"], ids=["zeros", "a header"])
def test_what_cannot_be_a_dump_is_judged_by_its_first_bytes(scene: Scene, start: bytes) -> None:
    """10 GB of zeros, also behind pg_dump's first lines: nothing is read that can't change the verdict."""
    member = gzip.compress(bytes(64 << 20), 1)
    data = joined(start) + member * (BOMB_BYTES // (64 << 20))
    clock = time.monotonic()
    said = scene.refusal(data, manifest=False)
    assert "does not start with pg_dump's header" in said
    assert time.monotonic() - clock < 3


@pytest.mark.parametrize("packed", [False, True], ids=["bare", "gzipped"])
def test_it_is_said_what_a_file_is_instead(scene: Scene, postgres16: EmbeddedPostgres, packed: bool) -> None:
    """pg_dump's other formats, a server's dump, and what else is found under a backup's name: said in words."""

    def tool(name: str, *options: str) -> bytes:
        argv = [str(postgres16.bin_dir / name), *options]
        return subprocess.run(argv, env=postgres16.env(), capture_output=True, check=True).stdout

    packer = CODECS["zstd"].encoder(1)
    others = {
        "pg_dump's custom format, which pg_restore reads": tool("pg_dump", "-Fc", DATABASE),
        "a tar archive": tool("pg_dump", "-Ft", DATABASE),
        "a dump of a whole server, by pg_dumpall": tool("pg_dumpall", "--globals-only"),
        "text in UTF-16": scene.plain.decode().encode("utf-16"),
        "line breaks were changed": scene.plain.replace(b"\n", b"\r\n"),
        "byte order mark": b"\xef\xbb\xbf" + scene.plain,
        "a web page": b"<!DOCTYPE html><title>Log in</title>",
        "XML, such as S3 answers": b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>',
        "JSON": scene.manifest,
        "zstd data": packer.encode(scene.plain) + packer.finish(),
        "zeros": bytes(100_000),
        "text that pg_dump did not write": "CREATE TABLE étagère ();\n".encode() * 100,
    }
    if packed:
        others["compressed twice"] = gzip.compress(scene.plain)
    else:
        others["a plain dump that is not compressed"] = scene.plain
    for kind, data in others.items():
        assert kind in scene.refusal(gzip.compress(data) if packed else data, manifest=False)
    assert "; it is" not in scene.refusal(random.Random(1).randbytes(100_000), manifest=False)


def test_a_dump_twice_in_one_file_fails_beside_the_live_database(scene: Scene) -> None:
    """Without a manifest it is whole enough to be tried; psql, whose key is ours, stops at the first one's end."""
    name = scene.put(joined(scene.plain, scene.plain), manifest=False)
    done = scene.hub.run("restore", name, "--yes")
    assert done.code == 1, done.said
    assert "wrong key" in done.err
    assert diff(scene.live, fingerprint(scene.hub.psql, DATABASE)) == []
    assert scene.hub.derived("restore") == []


def test_the_whole_program_refuses_a_dozen(scene: Scene) -> None:
    """Exit 1, the cause and the remedy named, the live database's fingerprint unchanged, no database made."""
    databases = scene.hub.databases()
    ends = row_ends(scene.plain)
    dozen = [(scene.data[:length], True) for length in numbers(4, len(scene.data))]
    dozen += [(scene.data[:length], False) for length in numbers(4, len(scene.data))]
    dozen += [(gzip.compress(scene.plain[: ends[index]], 1), False) for index in numbers(4, len(ends))]
    for data, manifest in dozen:
        done = scene.hub.run("restore", scene.put(data, manifest=manifest), "--yes")
        assert done.code == 1, done.said
        assert "damaged" in done.err
        assert "use an older backup, or another copy" in done.err
    assert scene.hub.databases() == databases
    assert diff(scene.live, fingerprint(scene.hub.psql, DATABASE)) == []


@pytest.mark.parametrize(("seconds", "asked"), [(60.0, 1), (0.0, 2)], ids=["a short proof", "a long one"])
def test_what_the_server_said_long_ago_is_asked_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, seconds: float, asked: int
) -> None:
    """It is asked while the file is proven. Where that took long, another container may be the database's by now."""
    monkeypatch.setattr(restore_job, "FRESH_SECONDS", seconds)
    times: list[str] = []

    def no_server(cancel: Cancel) -> Runner:
        times.append(threading.current_thread().name)
        raise ContainerError("the database's container is not running")

    job = replace(scene.job(scene.put(scene.data, manifest=True)), open_runner=no_server)
    with pytest.raises(ContainerError):
        job(run())
    assert times[0] == "look"
    assert len(times) == asked
