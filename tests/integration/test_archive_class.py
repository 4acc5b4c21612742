"""Archived copies: the backups alone are frozen; what tells of them can be read, and they can be thawed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hubbackup.errors import StoppedError
from hubbackup.lifecycle.thaw import ThawOrder, thaw
from hubbackup.streams.cancel import Cancel
from tests.support import proxy as faults
from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.program import Program, beside, for_server
from tests.support.proxy import FaultProxy, Seen
from tests.support.s3 import S3Server


@pytest.fixture
def program(postgres18: EmbeddedPostgres, s3: S3Server, tmp_path: Path) -> Iterator[Program]:
    with postgres18.temporary_database() as name:
        settings = s3.settings(s3.bucket()) | {"S3_STORAGE_CLASS": "GLACIER"}
        yield for_server(postgres18, name, tmp_path, **settings)


def classes(s3: S3Server, bucket: str) -> dict[str, str]:
    """The storage class of each object."""
    return {
        one["Key"].removeprefix("backups/"): one["StorageClass"]
        for one in s3.client.list_objects_v2(Bucket=bucket)["Contents"]
    }


def test_only_backups_are_frozen(program: Program, s3: S3Server) -> None:
    """Manifests, marks and the doctor's probes stay in the standard class: all that is read each day can be."""
    bucket = program.settings["S3_BACKUP_BUCKET"]
    first, second = program.backup().name, program.backup().name
    assert program.run("pin", first).code == 0
    found = classes(s3, bucket)
    assert {name: found.pop(name) for name in (first, second)} == {first: "GLACIER", second: "GLACIER"}
    assert {beside(first), beside(second)} <= found.keys()
    assert len(found) == 3
    assert set(found.values()) == {"STANDARD"}
    assert program.run("list", "--store", "s3", "--json").document[0]["good_in"] == ["s3"]
    assert program.run("prune", "--dry-run").code == 0
    checks = {one["name"]: one for one in program.run("doctor", "--json").document["findings"]}
    assert [one["sentence"] for one in checks.values() if one["status"] == "fail"] == []


def test_what_is_frozen_is_said(program: Program) -> None:
    """Everywhere, with what to do: the copy is neither proven nor damaged, and counts as a good one."""
    name = program.backup().name
    remedy = f"hubbackup restore {name} --from s3 --thaw"
    (listed,) = program.run("list", "--json").document
    assert (listed["good_in"], listed["archived_in"]) == (["local", "s3"], ["s3"])
    assert "local, s3 (archived)" in program.run("list").out
    both = program.run("verify", name, "--json")
    assert both.code == 0, both.said
    assert {one["store"]: one["verdict"] for one in both.document["copies"]} == {"local": "ok", "s3": "archived"}
    assert remedy in both.document["copies"][1]["problem"]
    for asked in (
        program.run("verify", name, "--store", "s3"),
        program.run("restore", name, "--from", "s3", "--into", "new", "--yes"),
        program.run("drill", name, "--store", "s3"),
    ):
        assert asked.code == 1, asked.said
        assert "rests in an archive class" in asked.err
        assert remedy in asked.err
    (program.backups / name).rename(program.directory / name)  # the server was lost: what is left is archived
    (program.backups / beside(name)).rename(program.directory / beside(name))
    latest = program.run("restore", "--latest", "--into", "new", "--yes")
    assert latest.code == 1, latest.said
    assert remedy in latest.err
    shown = program.run("show", name, "--store", "s3")
    assert shown.code == 0, shown.said
    assert "archived in s3" in shown.said
    marks = [path for path in program.backups.iterdir() if path.suffix == ".bad"]
    assert not marks


def test_the_copy_on_the_disk_is_taken_first(program: Program, s3: S3Server) -> None:
    """An archived copy is in nobody's way: --latest and the drills' turns take one that can be read."""
    program.backup()
    done = program.run("restore", "--latest", "--into", f"{program.database}_new", "--yes", "--json")
    program.drop(f"{program.database}_new")
    assert done.code == 0, done.said
    drilled = program.run("drill", "--json")
    assert drilled.code == 0, drilled.said
    assert drilled.document["store"] == "local"


def test_a_thaw_is_asked_for_awaited_and_restored_from(program: Program, s3: S3Server) -> None:
    """The first time it is asked for, with days and tier; then each time it says how far it is; then it restores.

    The hours are a fake: a proxy before moto, whose thaw is done at once, says that it goes on.
    """
    path = program.backup()
    path.unlink()  # the server was lost
    name, new = path.name, f"{program.database}_new"

    def is_thaw(seen: Seen) -> bool:
        return seen.method == "POST" and "restore" in seen.query

    def is_head_of_it(seen: Seen) -> bool:
        return seen.method == "HEAD" and seen.path.endswith(name)

    going_on = faults.with_header("x-amz-restore", 'ongoing-request="true"')
    with FaultProxy(s3.endpoint_url) as proxy:
        behind = program.but(S3_ENDPOINT_URL=proxy.url)
        restore = ("restore", name, "--from", "s3", "--into", new, "--yes", "--thaw")
        first = behind.run(*restore, "--thaw-days", "5", "--thaw-tier", "bulk")
        assert first.code == 1, first.said
        assert f"the thaw of {name} was asked for, for 5 days: at AWS 5 to 12 hours" in first.err
        assert "give the same command again later" in first.err
        assert proxy.count(is_thaw) == 1
        proxy.fault(going_on, when=is_head_of_it)
        second = behind.run(*restore, "--json")
        assert second.code == 1, second.said
        assert second.document["message"] == f"{name} is being thawed, and can't be read yet"
        assert proxy.count(is_thaw) == 1
        assert new not in program.databases()
        proxy.mend()
        done = behind.run(*restore, "--json")
        assert done.code == 0, done.said
        assert done.document["name"] == name
        assert proxy.count(is_thaw) == 1
        verified = behind.run("verify", name, "--store", "s3")
        assert verified.code == 0, verified.said
    program.drop(new)


def test_a_thaw_can_be_waited_for(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks now and then, and returns once the copy can be read; a stop ends it at once."""
    monkeypatch.setattr("hubbackup.lifecycle.thaw.LOOK_SECONDS", 0.05)
    with FaultProxy(s3.endpoint_url) as proxy:
        stop = Cancel()
        store = s3.store(s3.bucket(), endpoint_url=proxy.url, storage_class="GLACIER", cancel=stop)
        with store.create("a.sql.gz") as draft:
            draft.write(b"x")
            draft.commit()
        proxy.fault(faults.with_header("x-amz-restore", 'ongoing-request="true"'), when=faults.is_head, times=3)
        found = thaw(store, "a.sql.gz", ThawOrder(days=2, tier="expedited", wait=True))
        assert found.state == "readable"
        assert found.until is not None
        assert not store.stat("a.sql.gz").archived
        proxy.fault(faults.with_header("x-amz-restore", 'ongoing-request="true"'), when=faults.is_head)
        stop.set()
        with pytest.raises(StoppedError):
            thaw(store, "a.sql.gz", ThawOrder(wait=True))


def test_a_thaw_of_what_needs_none(program: Program) -> None:
    """One that is not archived is restored; one that is not there, and one on the disk, is a sentence."""
    plain = program.but(S3_STORAGE_CLASS="")
    name, new = plain.backup().name, f"{program.database}_new"
    done = plain.run("restore", name, "--from", "s3", "--thaw", "--into", new, "--yes")
    program.drop(new)
    assert done.code == 0, done.said
    for words, sentence in (
        (("--latest", "--thaw"), "--thaw takes one copy in one bucket"),
        ((name, "--from", "local", "--thaw"), "local is not one bucket"),
        ((name, "--from", "s3", "--wait"), "--wait is for --thaw"),
    ):
        wrong = plain.run("restore", *words, "--yes")
        assert wrong.code == 2, wrong.said
        assert sentence in wrong.err


def test_a_key_that_may_not_thaw(program: Program, s3: S3Server) -> None:
    """One sentence, with the right that it lacks."""
    name = program.backup().name
    with FaultProxy(s3.endpoint_url) as proxy:
        proxy.fault(faults.answer(403, "AccessDenied"), when=lambda seen: "restore" in seen.query)
        done = program.run("restore", name, "--from", "s3", "--thaw", "--yes", S3_ENDPOINT_URL=proxy.url)
    assert done.code == 1, done.said
    assert "s3:RestoreObject" in done.err
