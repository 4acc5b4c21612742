"""The catalog: names that are exactly ours, manifests that own their backup, the merged view over stores."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbackup.catalog.backup import (
    Backup,
    BackupName,
    Manifest,
    Mark,
    printable_rows,
    write_manifest,
)
from hubbackup.catalog.listing import list_backups, scan
from hubbackup.errors import ExistsError, NotFoundError, NotProvenError
from hubbackup.stores import is_flat_name
from hubbackup.stores.memory import MemoryStore
from hubbackup.streams.codecs import CODECS, ZSTD, Codec
from hubbackup.streams.format import DEFAULT_FORMAT, Encryption, Format
from tests.support.backups import target_of

TIME = datetime(2026, 2, 8, 3, 0, 0)
NAME = BackupName("hub_chantier", TIME)
PARIS = ZoneInfo("Europe/Paris")
# PostgreSQL's names: any text without NUL, 63 bytes long at most.
databases = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1).filter(
    lambda name: len(name.encode()) <= 63
)
formats = st.sampled_from([Format(codec, encryption) for codec in CODECS.values() for encryption in Encryption])
times = st.datetimes(datetime(1970, 1, 1), datetime(2199, 1, 1)).map(lambda time: time.replace(microsecond=0))


def manifest_of(name: BackupName, **changes: Any) -> Manifest:
    facts: dict[str, Any] = {
        "name": str(name),
        "database": name.database,
        "run_id": "20260208T020000-1a2b3c",
        "started_at": datetime(2026, 2, 8, 2, 0, 0, tzinfo=UTC),
        "finished_at": datetime(2026, 2, 8, 2, 0, 9, tzinfo=UTC),
        "dump_seconds": 8.5,
        "verify_seconds": 0.5,
        "plain_bytes": 100,
        "stored_bytes": 4,
        "sha256": "0" * 64,
        "compression": "gzip:1",
        "verified": "full",
        "server_version": "17.6",
        "pg_dump_version": "17.6",
        "system_identifier": "7400000000000000000",
        "rows": {"public.a": 1, 'public."é b"': 0},
        "table_count": 2,
        "large_objects": 0,
        "extensions": ("pgcrypto",),
        "properties": {"owner": "hub"},
        "hubbackup_version": "0.1.0",
    }
    return Manifest(**(facts | changes))


def put(store: MemoryStore, name: BackupName, data: bytes = b"data", **changes: Any) -> Manifest:
    store.publish(str(name), data, {})
    manifest = manifest_of(name, **({"stored_bytes": len(data)} | changes))
    write_manifest(store, manifest)
    return manifest


def test_the_name_is_the_guides() -> None:
    """The file name that the users have in their guide, and the manifest's beside it."""
    assert str(NAME) == "hub_chantier_backup_20260208_030000.sql.gz"
    assert NAME.manifest == "hub_chantier_backup_20260208_030000.manifest.json"
    zst = BackupName("hub_chantier", TIME, Format(ZSTD))
    assert str(zst) == "hub_chantier_backup_20260208_030000.sql.zst"
    assert zst.manifest == "hub_chantier_backup_20260208_030000.sql.zst.manifest.json"


@given(databases, times, formats)
def test_any_database_has_a_name_that_leads_back(database: str, time: datetime, file_format: Format) -> None:
    """For any database name and format there is one file name: plain ASCII, taken by every store, and read back
    exactly; so are the names of its manifest and its marks."""
    name = BackupName(database, time, file_format)
    assert re.fullmatch(r"[A-Za-z0-9_.%-]+", str(name))
    assert BackupName.parse(str(name)) == name
    for text in (str(name), name.manifest, *(name.mark(mark) for mark in Mark)):
        assert is_flat_name(text)
        assert BackupName.owner_of(text) == name


@given(databases, times)
def test_files_of_two_formats_share_nothing(database: str, time: datetime) -> None:
    """Of one database and one second, as somebody makes them who packs a backup anew: each has its own manifest."""
    names = [BackupName(database, time, Format(codec)) for codec in CODECS.values()]
    files = {text for name in names for text in (str(name), name.manifest, *(name.mark(mark) for mark in Mark))}
    assert len(files) == len(names) * (2 + len(Mark))


@pytest.mark.parametrize("kind", [".manifest.json", *(f".{mark}" for mark in Mark)])
def test_a_manifest_of_nobody_has_no_owner(kind: str) -> None:
    """What stands beside a `.sql.gz` leaves that suffix out; written with it, it belongs to no backup."""
    assert BackupName.owner_of(f"{NAME.stem}{kind}") == NAME
    assert BackupName.owner_of(f"{NAME.stem}{DEFAULT_FORMAT.suffix}{kind}") is None


@pytest.mark.parametrize(
    "database",
    ["a b", "a/b", "../../etc", ".hidden", "..", "-rf", "a%b", "a%2Fb", "é", "a\nb", "~x", "host=evil dbname=x",
     "x_backup_20260101_000000", 'q"\'$`', "日本"],
)  # fmt: skip
def test_a_hostile_name_has_a_harmless_file(database: str) -> None:
    """No directory, no hidden file, no separator comes of a database's name; and no two share a file."""
    text = str(BackupName(database, TIME))
    assert re.fullmatch(r"[A-Za-z0-9_%-][A-Za-z0-9_.%-]*", text)
    parsed = BackupName.parse(text)
    assert parsed is not None
    assert parsed.database == database


@given(databases, databases, times)
def test_two_databases_never_share_a_file(one: str, other: str, time: datetime) -> None:
    """Distinct databases have distinct files at the same second."""
    assert (one == other) == (str(BackupName(one, time)) == str(BackupName(other, time)))


@pytest.mark.parametrize(
    "foreign",
    [
        "hub_chantier_backup_20260208_030000.sql",
        "hub_chantier_backup_20260208_030000.sql.lz4",
        "hub_chantier_backup_20260208_030000.gz",
        "hub_chantier_backup_20260208_030000.sql.gz.sql.gz",
        "hub_chantier_backup_20260208_030000.sql.gz.partial",
        "hub_chantier_backup_20260208_030000.sql.gz.bak",
        "hub_chantier_backup_20260208_030000.sql.gz\n",
        " hub_chantier_backup_20260208_030000.sql.gz",
        "hub_chantier_backup_20260208_0300.sql.gz",
        "hub_chantier_backup_20260230_030000.sql.gz",
        "hub_chantier_backup_20260208_250000.sql.gz",
        "hub_chantier_backup_20260208_030060.sql.gz",
        "hub_chantier_backup_00000208_030000.sql.gz",
        "hub_chantier_backup_09990208_030000.sql.gz",
        "hub_chantier_backup_99991231_235959.sql.gz",
        "hub_chantier_backup_\uff12\uff100260208_030000.sql.gz",
        "_backup_20260208_030000.sql.gz",
        "a%2_backup_20260208_030000.sql.gz",
        "a%2f_backup_20260208_030000.sql.gz",
        "a%41_backup_20260208_030000.sql.gz",
        "%FF_backup_20260208_030000.sql.gz",
        ".x_backup_20260208_030000.sql.gz",
        "é_backup_20260208_030000.sql.gz",
        "a b_backup_20260208_030000.sql.gz",
        "hub_chantier_BACKUP_20260208_030000.sql.gz",
        "hub_chantier.sql.gz",
        "",
    ],
)
def test_a_lookalike_is_not_ours(foreign: str) -> None:
    """What does not render to itself again is somebody else's file: never listed, never pruned."""
    assert BackupName.parse(foreign) is None


@given(st.from_regex(r"[a-zA-F0-9%._~ -]{1,8}_backup_[0-9]{8}_[0-2][0-9][0-5][0-9]{3}\.sql\.gz", fullmatch=True))
def test_whatever_parses_renders_to_itself(text: str) -> None:
    """`parse` never gives a name to a text that is another name's."""
    name = BackupName.parse(text)
    assert name is None or str(name) == text


def test_a_manifest_is_read_as_it_was_written() -> None:
    """Every field of the manifest comes back, the times aware."""
    manifest = manifest_of(NAME, warnings=("half the size",))
    read = Manifest.from_json(manifest.to_json(), name=str(NAME))
    assert read == manifest
    assert read.started_at.tzinfo is not None
    assert json.loads(manifest.to_json())["manifest_schema"] == "hubbackup.manifest/2"


def test_a_manifest_of_before_stays_what_it_was() -> None:
    """Schema 1, without an index: it is read, and written again under its own schema."""
    document = json.loads(manifest_of(NAME).to_json()) | {"manifest_schema": "hubbackup.manifest/1"}
    del document["index"]
    read = Manifest.from_json(json.dumps(document).encode(), name=str(NAME))
    assert read.dump_index() is None
    assert json.loads(read.to_json())["manifest_schema"] == "hubbackup.manifest/1"


def test_a_later_manifest_may_say_more() -> None:
    """A field that this version does not know is passed over, so that an older program reads a newer manifest."""
    document = json.loads(manifest_of(NAME).to_json()) | {"added_later": [1, 2]}
    assert Manifest.from_json(json.dumps(document).encode(), name=str(NAME)) == manifest_of(NAME)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"name": "other_backup_20260208_030000.sql.gz"}, "belongs to other_backup"),
        ({"database": "other"}, "belongs to .* of other"),
        ({"manifest_schema": "hubbackup.manifest/3"}, "not valid: manifest_schema"),
        ({"sha256": None}, "not valid: sha256"),
        ({"plain_bytes": "many"}, "not valid: plain_bytes"),
        ({"started_at": "2026-02-08T03:00:00"}, "not valid: started_at"),
        ({"rows": ["public.a"]}, "not valid: rows"),
    ],
)
def test_a_manifest_of_another_backup_is_refused(changes: dict[str, Any], complaint: str) -> None:
    """A manifest proves its own backup only, and only where every field is what it should be."""
    document = json.loads(manifest_of(NAME).to_json()) | changes
    with pytest.raises(NotProvenError, match=complaint):
        Manifest.from_json(json.dumps(document).encode(), name=str(NAME))


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"{}", manifest_of(NAME).to_json()[:-20]])
def test_what_is_no_manifest_is_not_proven(data: bytes) -> None:
    """A torn, empty or foreign file beside a backup leaves it unproven, whatever bytes it has."""
    with pytest.raises(NotProvenError, match="not valid"):
        Manifest.from_json(data, name=str(NAME))


def test_names_of_tables_that_are_no_utf8_stay_apart() -> None:
    """Two tables of a LATIN1 database keep two entries through the manifest's JSON."""
    names = [raw.decode("utf-8", "surrogateescape") for raw in (b"public.\xe9", b"public.\xea")]
    rows = printable_rows({names[0]: 1, names[1]: 2})
    manifest = manifest_of(NAME, rows=rows)
    assert Manifest.from_json(manifest.to_json(), name=str(NAME)).rows == {"public.\\xe9": 1, "public.\\xea": 2}


def test_a_file_with_its_manifest_is_good() -> None:
    """A backup is the file and its manifest together; its time is the manifest's, not the name's."""
    store = MemoryStore("local")
    manifest = put(store, NAME, started_at=datetime(2026, 2, 8, 2, 0, 3, tzinfo=UTC))
    (backup,) = list_backups([target_of(store)], PARIS)
    assert backup.proven
    assert backup.good_in("local")
    assert not backup.good_in("s3")
    assert backup.started_at == manifest.started_at


def test_a_file_without_a_manifest_is_unproven() -> None:
    """Its time is then the name's, read in the configured zone."""
    store = MemoryStore("local")
    store.publish(str(NAME), b"data", {})
    (backup,) = list_backups([target_of(store)], PARIS)
    assert not backup.proven
    assert not backup.good_in("local")
    assert backup.started_at == datetime(2026, 2, 8, 2, 0, tzinfo=UTC)
    assert backup.problem == "it has no manifest"


def test_a_broken_manifest_says_why() -> None:
    """The listing tells what is wrong with a manifest, and goes on with the others."""
    store = MemoryStore("local")
    store.publish(str(NAME), b"data", {})
    store.publish(NAME.manifest, b"{", {})
    put(store, BackupName("hub_chantier", TIME + timedelta(days=1)))
    first, second = list_backups([target_of(store)], PARIS)
    assert "not valid" in first.problem
    assert (first.proven, second.proven) == (False, True)


def test_a_file_of_another_size_is_not_good() -> None:
    """A copy that is cut, or grew, is not counted as one."""
    store = MemoryStore("local")
    put(store, NAME)
    store.files[str(NAME)] = b"dat"
    (backup,) = list_backups([target_of(store)], PARIS)
    assert backup.proven
    assert not backup.good_in("local")


def test_a_manifest_elsewhere_does_not_make_a_copy_good() -> None:
    """Each store stands for itself: an object whose manifest never came is an unfinished copy."""
    local, s3 = MemoryStore("local"), MemoryStore("s3")
    put(local, NAME)
    s3.publish(str(NAME), b"data", {})
    (backup,) = list_backups([target_of(local), target_of(s3)], PARIS)
    assert sorted(backup.copies) == ["local", "s3"]
    assert backup.good_in("local")
    assert not backup.good_in("s3")


def test_the_manifest_of_either_store_will_do() -> None:
    """A backup that is only in S3 is listed with S3's manifest."""
    local, s3 = MemoryStore("local"), MemoryStore("s3")
    put(s3, NAME)
    (backup,) = list_backups([target_of(local), target_of(s3)], PARIS)
    assert backup.good_in("s3")


def test_the_listing_is_by_time_and_leaves_foreign_files_out() -> None:
    """Oldest first, by the manifest's time; what is not exactly ours is not there at all."""
    store = MemoryStore("local")
    late, early = BackupName("b", TIME), BackupName("a", TIME + timedelta(hours=1))
    put(store, late, started_at=datetime(2026, 2, 9, tzinfo=UTC))
    put(store, early, started_at=datetime(2026, 2, 7, tzinfo=UTC))
    for foreign in ("notes.txt", "x_backup_20260208_030000.sql", "x_backup_99991231_235959.sql.gz"):
        store.publish(foreign, b"", {})
    found = list_backups([target_of(store)], ZoneInfo("America/New_York"))
    assert [backup.name for backup in found] == [early, late]
    assert [backup.name for backup in list_backups([target_of(store)], PARIS, "b")] == [late]


def test_a_manifest_alone_is_no_backup() -> None:
    """Without its file there is nothing to restore."""
    store = MemoryStore("local")
    put(store, NAME)
    store.delete(str(NAME))
    assert list_backups([target_of(store)], PARIS) == []


def test_manifests_are_read_and_never_overwritten() -> None:
    """A target finds what `write_manifest` put there, and a second writing is refused."""
    store = MemoryStore("local")
    manifest = put(store, NAME)
    assert target_of(store).manifest(NAME).manifest == manifest
    with pytest.raises(ExistsError):
        write_manifest(store, manifest)
    with pytest.raises(NotFoundError):
        target_of(store).manifest(BackupName("other", TIME))


def test_a_backup_without_copies_is_good_nowhere() -> None:
    """An empty record claims nothing."""
    backup = Backup(NAME, datetime(2026, 2, 8, tzinfo=UTC), manifest_of(NAME))
    assert not backup.good_in("local")


@pytest.mark.parametrize("codec", CODECS.values(), ids=list(CODECS))
def test_a_sealed_backups_names_lead_there_and_back(codec: Codec) -> None:
    """File, manifest and marks; beside an open backup of the same second they share nothing."""
    name = BackupName("hub", datetime(2026, 2, 8, 3), Format(codec, Encryption.AGE))
    assert str(name) == f"hub_backup_20260208_030000{codec.suffix}.age"
    assert BackupName.parse(str(name)) == name
    assert name.manifest == f"{name}.manifest.json"
    opened = replace(name, format=Format(codec))
    assert BackupName.parse(str(opened)) == opened != name
    for role in (name.manifest, *(name.mark(mark) for mark in Mark), str(name)):
        assert BackupName.owner_of(role) == name
    assert BackupName.of_stem(name.stem) == name
    store = MemoryStore("local")
    files = [str(one) for one in (name, opened)] + [one.manifest for one in (name, opened)]
    store.files = dict.fromkeys([*files, name.mark(Mark.PINNED)], b"")
    found = {listed.name: listed for listed in scan([store])}
    assert found.keys() == {name, opened}
    assert all(listed.published_in("local") for listed in found.values())
    assert [one for one, listed in found.items() if listed.marks] == [name]
