"""Sealed backups on the real way: made with public keys alone, opened by their private keys and by nothing else."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.age import KINDS, PASSPHRASE, PROTECTED, PROTECTED_PUBLIC, Pair, make_pair, opened
from tests.support.containers import drill_containers, postgres_container, psql_in
from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.moments import wait_until
from tests.support.program import Done, Program, for_container, for_server
from tests.support.s3 import S3Server
from tests.support.terminal import at_terminal

TABLES = """
CREATE TABLE chantiers (id int PRIMARY KEY, ville text);
INSERT INTO chantiers VALUES (1, 'Lyon'), (2, 'Gap');
CREATE TABLE devis (id int PRIMARY KEY, chantier int REFERENCES chantiers, prix numeric);
INSERT INTO devis SELECT g, 1 + g % 2, g FROM generate_series(1, 5000) g;
COMMENT ON DATABASE :"database" IS 'the canary in the comment';
ALTER DATABASE :"database" SET app.secret = 'the canary in the settings';
"""
CANARY = b"the canary in the"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def pair(keys: Path) -> Pair:
    """The key that backups are sealed for."""
    return make_pair(keys, name="own")


@pytest.fixture(scope="module")
def other(keys: Path) -> Pair:
    """Somebody else's."""
    return make_pair(keys, name="other")


@pytest.fixture
def open_hub(postgres16: EmbeddedPostgres, tmp_path: Path) -> Iterator[Program]:
    """A small database, whose backups are not sealed yet."""
    with postgres16.temporary_database("hub_chantier") as database:
        postgres16.psql(TABLES, database=database, variables={"database": database})
        settings = {"DRILL_TARGET": "database", "BACKUP_SCHEMA_DRILL": "true"}
        hub = for_server(postgres16, database, tmp_path, **settings)
        yield hub
        hub.drop(*hub.derived("before"), f"{database}_new")


@pytest.fixture
def hub(open_hub: Program, pair: Pair) -> Program:
    """The same, sealed; no private key is on it."""
    return open_hub.but(BACKUP_ENCRYPT_RECIPIENTS=pair.public)


def rows(hub: Program, database: str) -> str:
    return hub.psql("SELECT count(*), sum(prix) FROM devis", database=database).strip()


def refused(done: Done, *said: str) -> None:
    """Nothing was done, and one sentence says why."""
    assert done.code == 2, done.said
    (sentence,) = [line for line in done.sentences if line.startswith("hubbackup: ")]
    for words in said:
        assert words in sentence


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
@pytest.mark.parametrize("kind", KINDS)
def test_age_and_psql_restore_it_without_us(open_hub: Program, keys: Path, kind: str, codec: str) -> None:
    """`age -d -i key FILE | gunzip | psql`, for each kind of key, and zstd by its own program's words."""
    own = make_pair(keys, kind, name=f"{kind}_{codec}")
    file = open_hub.but(BACKUP_COMPRESSION=codec).backup(BACKUP_ENCRYPT_RECIPIENTS=own.public)
    assert file.name.endswith({"gzip": ".sql.gz.age", "zstd": ".sql.zst.age"}[codec])
    assert file.stat().st_mode & 0o777 == 0o600
    new = f"{open_hub.database}_new"
    open_hub.psql(f'CREATE DATABASE "{new}"')
    if codec == "gzip":
        command = f"age -d -i {own.file} {file} | gunzip"
        plain = subprocess.run(["sh", "-c", command], check=True, capture_output=True).stdout
    else:
        from backports import zstd

        plain = zstd.decompress(opened(file.read_bytes(), own.file))
    open_hub.psql(plain.decode(), database=new)
    assert rows(open_hub, new) == rows(open_hub, open_hub.database) == "5000|12502500"


def test_nothing_of_the_data_is_in_clear(hub: Program, pair: Pair) -> None:
    """Neither in the file nor in the manifest; what stays to be read there is what docs/security.md says."""
    hub.psql("CREATE ROLE canary_role LOGIN PASSWORD 'the canary in the password'")
    try:
        file = hub.backup(BACKUP_GLOBALS="with-passwords")
    finally:
        hub.psql("DROP ROLE canary_role")
    stored = b"".join(path.read_bytes() for path in hub.backups.iterdir() if path.is_file())
    assert CANARY not in stored
    assert b"canary_role" not in stored
    manifest = hub.manifest(file.name)
    assert manifest.encryption == "age"
    assert manifest.recipients == (pair.fingerprint,)
    assert manifest.rows == {"public.chantiers": 2, "public.devis": 5000}
    assert set(manifest.properties) == {"encoding", "size_bytes", "sealed"}
    globals_sql = opened(manifest.globals_sql.encode(), pair.file)
    assert b"canary_role" in globals_sql
    properties = json.loads(opened(manifest.properties["sealed"].encode(), pair.file))
    assert properties["comment"] == "the canary in the comment"
    index = manifest.dump_index()
    assert index is not None
    assert index.digest_kind.startswith("hmac-")


def test_the_digests_of_two_backups_under_one_key_are_the_same(hub: Program) -> None:
    """So that an unchanged table is known to be unchanged; an open backup's digests are of another kind."""
    first, second = (hub.manifest(hub.backup().name).dump_index() for _ in range(2))
    plain = hub.manifest(hub.backup(BACKUP_ENCRYPT_RECIPIENTS="").name).dump_index()
    assert first is not None
    assert second is not None
    assert plain is not None
    assert [block.digest for block in first.tables] == [block.digest for block in second.tables]
    assert {block.digest for block in first.tables}.isdisjoint(block.digest for block in plain.tables)


def test_the_gate_says_what_it_could_not_look_at(hub: Program, pair: Pair, other: Pair) -> None:
    """Without a key the file is compared by its sha256; with one it is decoded whole; with a wrong one, a problem."""
    done = hub.run("backup", "--json")
    assert done.code == 0, done.said
    assert "not decoded: there is no private key here" in done.event("verify.sealed")["message"]
    assert hub.manifest(done.document["name"]).verified == "hash"
    done = hub.run("backup", "--json", BACKUP_IDENTITY_FILE=str(pair.file))
    assert done.code == 0, done.said
    assert "verify.sealed" not in done.err
    assert hub.manifest(done.document["name"]).verified == "full"
    done = hub.run("backup", "--json", BACKUP_IDENTITY_FILE=str(other.file))
    assert done.code == 3, done.said
    assert pair.fingerprint in done.event("verify.sealed")["message"]
    assert hub.manifest(done.document["name"]).verified == "hash"


def test_a_restore_with_the_key(hub: Program, pair: Pair) -> None:
    """By --identity, from stdin, or by BACKUP_IDENTITY_FILE: the database is as it was, with what is sealed of it."""
    name = hub.backup().name
    new = f"{hub.database}_new"
    with_key = hub.run("restore", name, "--into", new, "--yes", "--globals", "--identity", str(pair.file))
    assert with_key.code == 0, with_key.said
    assert rows(hub, new) == "5000|12502500"
    assert "canary in the settings" in hub.psql("SHOW app.secret", database=new)
    hub.drop(new)
    command = f"{sys.executable} -m hubbackup restore {name} --into {new} --yes --identity - < {pair.file}"
    piped = subprocess.run(["sh", "-c", command], env=hub.env(), capture_output=True, text=True, check=False)
    assert piped.returncode == 0, piped.stderr
    done = hub.run("restore", "--latest", "--yes", BACKUP_IDENTITY_FILE=str(pair.file))
    assert done.code == 0, done.said
    assert rows(hub, hub.database) == "5000|12502500"


@pytest.mark.parametrize("command", [["restore", "--latest", "--yes"], ["drill"], ["drill", "--schema"]])
def test_without_its_key_nothing_is_done(
    hub: Program, pair: Pair, other: Pair, keys: Path, command: list[str]
) -> None:
    """No key, or a wrong one: one sentence with the fingerprints that would open it, exit 2, no database is made."""
    second = make_pair(keys, "ed25519", name=f"second_{len(command)}_{command[0]}")
    hub = hub.but(BACKUP_ENCRYPT_RECIPIENTS=f"{pair.public},{second.public}")
    hub.backup()
    before = hub.databases()
    refused(hub.run(*command), "is sealed, and there is no private key here", pair.fingerprint, second.fingerprint)
    wrong = hub.run(*command, "--identity", str(other.file))
    refused(wrong, f"no key in {other.file}", other.fingerprint, pair.fingerprint, second.fingerprint)
    refused(hub.run(*command, BACKUP_IDENTITY_FILE=str(other.file)), pair.fingerprint)
    refused(hub.run(*command, "--identity", "/nowhere"), "--identity: /nowhere can't be read")
    public = keys / "public"
    public.write_text(pair.public)
    refused(hub.run(*command, "--identity", str(public)), "holds a public key")
    both = hub.run(*command, "--identity", str(other.file), "--identity", str(second.file))
    assert both.code == 0, both.said
    hub.drop(*hub.derived("before"))
    assert hub.databases() == before


def test_a_wrong_key_costs_no_download(hub: Program, s3: S3Server, pair: Pair, other: Pair) -> None:
    """From S3 the first bytes are enough to tell; with the key it is downloaded, proven and restored."""
    bucket = s3.bucket()
    hub = hub.but(**s3.settings(bucket))
    name = hub.backup().name
    assert f"backups/{name}" in s3.keys(bucket)
    assert f"backups/{name}.manifest.json" in s3.keys(bucket)
    command = ["restore", "--from-s3", name, "--into", f"{hub.database}_new", "--yes"]
    wrong = hub.run(*command, "--identity", str(other.file))
    refused(wrong, pair.fingerprint)
    assert "download" not in wrong.err
    done = hub.run(*command, "--identity", str(pair.file))
    assert done.code == 0, done.said
    assert rows(hub, f"{hub.database}_new") == "5000|12502500"


def test_verify_says_what_it_left_out(hub: Program, pair: Pair, other: Pair) -> None:
    """Without the key a copy is compared by its sha256, and a damaged one is found; with it, it is decoded whole."""
    file = hub.backup()
    done = hub.run("verify", file.name)
    assert done.code == 0, done.said
    assert "compared by its sha256, not decoded" in done.out
    assert pair.fingerprint in done.out
    (copy,) = hub.run("verify", "--json").document["copies"]
    assert copy["verdict"] == "ok"
    assert "there is no private key here" in copy["not_decoded"]
    (copy,) = hub.run("verify", "--json", "--identity", str(pair.file)).document["copies"]
    assert (copy["verdict"], copy["not_decoded"]) == ("ok", "")
    refused(hub.run("verify", file.name, "--identity", str(other.file)), pair.fingerprint)
    changed = bytearray(file.read_bytes())
    changed[-1] ^= 1
    file.write_bytes(changed)
    done = hub.run("verify", file.name)
    assert done.code == 1, done.said
    assert "its sha256 is not the one it was written with" in done.said


def test_a_schema_is_tried_without_a_key(hub: Program) -> None:
    """The night it changed, as of an open backup: its text was kept while the dump was made."""
    done = hub.run("backup", "--json")
    assert done.code == 0, done.said
    assert "2 tables" in done.event("schema_drill.passed")["message"]
    hub.psql(
        "CREATE FUNCTION one(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';"
        "CREATE FUNCTION two(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT one($1)';"
        "CREATE INDEX by_two ON chantiers (two(id));",
        database=hub.database,
    )
    done = hub.run("backup", "--json")
    assert done.code == 3, done.said
    assert "function one(integer) does not exist" in done.document["unrestorable"]


def test_old_backups_stay_readable_with_their_own_keys(open_hub: Program, pair: Pair, other: Pair) -> None:
    """A change of keys holds for new backups; `list` says which are sealed, and with what they open."""
    plain = open_hub.backup().name
    first = open_hub.backup(BACKUP_ENCRYPT_RECIPIENTS=pair.public).name
    second = open_hub.backup(BACKUP_ENCRYPT_RECIPIENTS=other.public).name
    listed: list[dict[str, Any]] = open_hub.run("list", "--json").document
    assert [(row["name"], row["encryption"], row["opens_with"], row["good_in"]) for row in listed] == [
        (plain, "none", [], ["local"]),
        (first, "age", [pair.fingerprint], ["local"]),
        (second, "age", [other.fingerprint], ["local"]),
    ]
    shown = open_hub.run("list").out.splitlines()
    assert [("sealed" in line) for line in shown if "_backup_" in line] == [False, True, True]
    for name, key in ((plain, None), (first, pair), (second, other)):
        options = ["--identity", str(key.file)] if key is not None else []
        done = open_hub.run("drill", name, *options)
        assert done.code == 0, done.said


def test_a_passphrase_is_asked_for_on_a_terminal(open_hub: Program, tmp_path: Path) -> None:
    """It is not shown as it is typed; without a terminal one sentence says that there is nobody to ask."""
    key = tmp_path / "protected.key"
    key.write_bytes(PROTECTED)
    name = open_hub.backup(BACKUP_ENCRYPT_RECIPIENTS=PROTECTED_PUBLIC).name
    refused(open_hub.run("drill", name, "--identity", str(key)), "has a passphrase, and there is no terminal")
    for typed, code in (("wrong", 2), (PASSPHRASE, 0)):
        with at_terminal(open_hub, "drill", name, "--identity", str(key)) as operator:
            operator.wait_for(f"Passphrase of {key}: ")
            operator.type(f"{typed}\n")
            assert operator.end() == code, operator.said
        assert typed not in operator.said
    done = open_hub.run("backup", BACKUP_ENCRYPT_RECIPIENTS=PROTECTED_PUBLIC, BACKUP_IDENTITY_FILE=str(key))
    assert done.code == 0, done.said
    assert "has a passphrase" in done.event("verify.sealed")["message"]


def test_a_drill_in_a_throwaway_server(docker_engine: str, tmp_path: Path, pair: Pair) -> None:
    """The schema without a key, the night it is new; all of it with the key, its roles out of the sealed manifest."""
    with postgres_container() as container:
        psql_in(container, "CREATE TABLE chantiers (id int); INSERT INTO chantiers VALUES (1); CREATE ROLE lecture;")
        psql_in(container, "GRANT SELECT ON chantiers TO lecture;")
        hub = for_container(container, tmp_path, BACKUP_SCHEMA_DRILL="true", BACKUP_ENCRYPT_RECIPIENTS=pair.public)
        done = hub.run("backup", "--json")
        assert done.code == 0, done.said
        assert "1 tables" in done.event("schema_drill.passed")["message"]
        refused(hub.run("drill"), pair.fingerprint)
        done = hub.run("drill", "--json", "--identity", str(pair.file))
        assert done.code == 0, done.said
        assert done.document["rows"] == 1
        assert drill_containers(container) == []


def test_stopped_in_the_middle(hub: Program, tmp_path: Path) -> None:
    """A sealed backup that gets SIGTERM ends within seconds, no thread holds it up, and nothing of it is left."""
    hub.psql("INSERT INTO devis SELECT g, 1, g FROM generate_series(5001, 500000) g", database=hub.database)
    process = hub.fork("backup", output=tmp_path / "said", BACKUP_RATE_LIMIT="500kB")
    wait_until(lambda: any(path.stat().st_size for path in hub.backups.glob("*.partial")), "a file that grows")
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 143, (tmp_path / "said").read_text()
    assert list(hub.files()) == []


def test_a_damaged_sealed_file_restores_nothing(hub: Program, pair: Pair) -> None:
    """Cut at a 64 KiB that age has authenticated, or changed in one bit: with a manifest, and without one."""
    hub.psql("INSERT INTO devis SELECT g, 1, random() FROM generate_series(5001, 40000) g", database=hub.database)
    file = hub.backup()
    whole, before = file.read_bytes(), hub.databases()
    command = ["restore", file.name, "--into", f"{hub.database}_new", "--yes", "--identity", str(pair.file)]
    middle = bytearray(whole)
    middle[len(whole) // 2] ^= 1
    header = bytearray(whole)
    header[100] ^= 1
    boundary = whole.index(b"\n--- ") + 49 + 16 + 65552
    for others in ([bytes(header)], []):  # which a key that opens it shows, where the manifest knows that it does
        for data in (whole[:boundary], bytes(middle), whole[:-1], whole + b"x", b"", *others):
            file.write_bytes(data)
            done = hub.run(*command)
            assert done.code == 1, done.said
            assert f"{file.name} is damaged" in done.said
            assert hub.databases() == before
        for manifest in hub.backups.glob("*.manifest.json"):
            manifest.unlink()
    file.write_bytes(whole)
    done = hub.run(*command)
    assert done.code == 0, done.said
    assert '"proven": false' in done.err


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ('hub "à côté"; --', "TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'"),
        ("chantier 東京 'été' 1234567890 1234567890 1234567890 12", ""),
        ("hub ascii", "TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'"),
    ],
)
def test_odd_names_and_encodings(
    postgres16: EmbeddedPostgres, tmp_path: Path, pair: Pair, name: str, options: str
) -> None:
    """Sealed, its schema tried without a key, verified and drilled with one, in French."""
    postgres16.create_database(name, options=options)
    try:
        table = "\"devis é 'x'\"" if "ASCII" not in options else "devis"
        postgres16.psql(f'CREATE TABLE {table} ("prix é" int); INSERT INTO {table} VALUES (1);', database=name)
        settings = {"DRILL_TARGET": "database", "BACKUP_SCHEMA_DRILL": "true"}
        hub = for_server(postgres16, name, tmp_path, **settings, BACKUP_ENCRYPT_RECIPIENTS=pair.public)
        done = hub.run("backup", "--json")
        assert done.code == 0, done.said
        assert done.event("schema_drill.passed")
        for command in (["verify", "--latest"], ["drill"]):
            done = hub.run(*command, "--identity", str(pair.file))
            assert done.code == 0, done.said
        refused(hub.run("drill"), pair.fingerprint)
    finally:
        hub.drop(name)


def test_looking_into_a_sealed_backup(hub: Program, pair: Pair, other: Pair) -> None:
    """What a manifest tells takes no key; rows and DDL take it, and are compared with the keyed digest."""
    first = hub.backup().name
    hub.psql("INSERT INTO chantiers VALUES (3, 'Die')", database=hub.database)
    second = hub.backup().name
    shown = hub.run("show", second, "--json")
    assert shown.code == 0, shown.said
    assert "public.devis" in shown.out
    compared = hub.run("diff", first, second)
    assert compared.code == 0, compared.said
    assert "chantiers" in compared.out
    key = ["--identity", str(pair.file)]
    found = hub.run("extract", second, "--table", "chantiers", *key)
    assert (found.code, found.out) == (0, "id,ville\n1,Lyon\n2,Gap\n3,Die\n"), found.said
    shown = hub.run("show", second, "--table", "chantiers", *key)
    assert "CREATE TABLE" in shown.out, shown.said
    hub.psql("DELETE FROM chantiers WHERE id = 3", database=hub.database)
    recovered = hub.run("recover", "chantiers", "--from", second, "--apply", "missing", "--yes", *key)
    assert recovered.code == 0, recovered.said
    assert hub.psql("SELECT count(*) FROM chantiers", database=hub.database).strip() == "3"
    for command in (["extract", second], ["recover", "--from", second]):
        table = ["--table", "chantiers"] if command[0] == "extract" else ["chantiers"]
        refused(hub.run(*command, *table), pair.fingerprint)
        refused(hub.run(*command, *table, "--identity", str(other.file)), pair.fingerprint)
