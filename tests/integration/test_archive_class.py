"""S3_STORAGE_CLASS=GLACIER: the backups alone are frozen; what tells of them can be read at any time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.program import Program, beside, for_server
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
    """Reading such a copy fails for what it is, and takes nothing with it: the copy is not damaged."""
    name = program.backup().name
    done = program.run("verify", name, "--store", "s3")
    assert done.code == 1, done.said
    assert "InvalidObjectState" in done.err
    assert "storage class" in done.err
    (listed,) = program.run("list", "--json").document
    assert listed["good_in"] == ["local", "s3"]
