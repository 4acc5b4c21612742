"""Adopting: what is read through and as its manifest says becomes ours; nothing else changes, whatever happens."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hubbackup.catalog.backup import PURPOSE, BackupName
from hubbackup.catalog.origin import Origin, SigningKey, Trust
from hubbackup.catalog.target import Target
from hubbackup.errors import NotFoundError, NotProvenError, StoreError, UsageError
from hubbackup.jobs.progress import silent
from hubbackup.jobs.results import AdoptResult
from hubbackup.jobs.run import Outcome, Run
from hubbackup.logs.setup import get_logger
from hubbackup.stores.memory import MemoryStore
from hubbackup.streams.cancel import Cancel
from hubbackup.verify.adopt import AdoptJob, Stranger
from tests.support.backups import put_backup, target_of

KEY = SigningKey(b"k" * 64)
SINCE = datetime(2026, 2, 8, tzinfo=UTC)
EARLY = datetime(2026, 2, 1, 3)
LATE = datetime(2026, 2, 9, 3)


def refuse(found: Sequence[Stranger]) -> None:
    raise UsageError(f"nobody agrees to {len(found)}")


def agree(found: Sequence[Stranger]) -> None:
    pass


def target(store: MemoryStore) -> Target:
    return replace(target_of(store), trust=lambda: Trust(KEY, SINCE))


def adopt(*stores: MemoryStore, typed: Sequence[str] = (), confirm: Any = refuse) -> Outcome[AdoptResult]:
    run = Run("adopt", "20260208T030000-1a2b3c", Cancel(), get_logger(), lambda what, total: nullcontext(silent))
    return AdoptJob(typed, [target(store) for store in stores], lambda: KEY, confirm)(run)


def origin(store: MemoryStore, name: BackupName) -> Origin:
    return target(store).manifest(name).origin


def test_all_of_before_are_signed_and_nothing_else() -> None:
    """Each is ours then; a foreign one stays what it is, and none of the files changes."""
    store = MemoryStore("local")
    early = [put_backup(store, "hub", EARLY + timedelta(days=days)) for days in range(3)]
    late = put_backup(store, "hub", LATE)
    files = {str(name): store.files[str(name)] for name in (*early, late)}
    done = adopt(store)
    assert done.result.adopted == tuple(f"local:{name}" for name in early)
    assert [origin(store, name) for name in (*early, late)] == [Origin.OURS] * 3 + [Origin.FOREIGN]
    assert {name: store.files[name] for name in files} == files
    assert adopt(store).result.adopted == ()


def test_a_foreign_one_needs_a_yes() -> None:
    """By its name alone, and nothing is read or changed where nobody agrees."""
    store = MemoryStore("local")
    name = put_backup(store, "hub", LATE)
    before = dict(store.files)
    with pytest.raises(UsageError, match="nobody agrees to 1"):
        adopt(store, typed=[str(name)])
    assert store.files == before
    assert adopt(store, typed=[str(name)], confirm=agree).result.adopted == (f"local:{name}",)
    assert origin(store, name) is Origin.OURS


def test_what_we_do_not_know_is_kept_and_signed() -> None:
    """A field of a newer version, and the layout of others, survive."""
    store = MemoryStore("local")
    name = put_backup(store, "hub", EARLY)
    document = json.loads(store.files[name.manifest]) | {"added_later": {"a": [1.5, None]}}
    store.files[name.manifest] = json.dumps(document).encode()
    adopt(store)
    signed = json.loads(store.files[name.manifest])
    assert signed["added_later"] == {"a": [1.5, None]}
    assert KEY.signed(signed, PURPOSE)


def test_one_that_is_not_what_it_says_is_left_alone() -> None:
    """The others are adopted; it is a problem that names it, and alone it is an error."""
    store = MemoryStore("local")
    good, bad = put_backup(store, "hub", EARLY), put_backup(store, "hub", EARLY + timedelta(days=1))
    store.files[str(bad)] = store.files[str(bad)][:-1] + b"\x7f"
    before = store.files[bad.manifest]
    done = adopt(store)
    assert done.result.adopted == (f"local:{good}",)
    assert [str(bad) in problem for problem in done.problems] == [True]
    assert store.files[bad.manifest] == before
    with pytest.raises(NotProvenError):
        adopt(store, typed=[str(bad)])


def test_each_store_s_own_copy_is_read() -> None:
    """A name is adopted wherever it is, and what can't be reached is a problem, not a stop."""

    class Down(MemoryStore):
        def stat(self, name: str) -> Any:
            raise StoreError("S3 does not answer")

    local, s3 = MemoryStore("local"), MemoryStore("s3", remote=False)
    name = put_backup(local, "hub", EARLY)
    put_backup(s3, "hub", EARLY)
    assert adopt(local, s3, typed=[str(name)]).result.adopted == (f"local:{name}", f"s3:{name}")
    other = put_backup(local, "hub", EARLY + timedelta(days=1))
    done = adopt(local, Down("s3"), typed=[str(other)])
    assert done.result.adopted == (f"local:{other}",)
    assert any("S3 does not answer" in problem for problem in done.problems)


def test_a_failed_writing_leaves_the_old_manifest() -> None:
    """At no moment a backup is without a manifest: what can't be replaced stays as it was."""

    class Full(MemoryStore):
        def replace(self, *arguments: Any, **options: Any) -> None:
            raise StoreError("no space left")

    store = Full("local")
    name = put_backup(store, "hub", EARLY)
    before = dict(store.files)
    with pytest.raises(StoreError, match="no space left"):
        adopt(store)
    assert store.files == before
    assert origin(store, name) is Origin.EARLIER


def test_a_name_that_is_not_there_is_said() -> None:
    """Also where the file is there and its manifest is not: there is nothing to read it against."""
    store = MemoryStore("local")
    name = put_backup(store, "hub", EARLY)
    del store.files[name.manifest]
    with pytest.raises(NotFoundError, match="with a manifest"):
        adopt(store, typed=[str(name)])
