"""Targets from settings: which there are, what each keeps, and how they are called."""

from __future__ import annotations

from pathlib import Path

import pytest

from hubbackup.app import App
from hubbackup.catalog.target import Policy
from hubbackup.config.load import load_settings
from hubbackup.errors import UsageError
from hubbackup.logs.setup import get_logger
from hubbackup.streams.cancel import Cancel

BUCKET = {"S3_BACKUP_BUCKET": "hub"}


def app(**environ: str) -> App:
    return App(load_settings(environ), cancel=Cancel(), log=get_logger())


def test_without_a_bucket_there_is_the_disk(tmp_path: Path) -> None:
    """S3 is off until it is named; the local target is BACKUP_DIR."""
    (target,) = app(BACKUP_DIR=str(tmp_path)).targets()
    assert (target.name, target.remote, target.disk and target.disk.directory) == ("local", False, tmp_path)


def test_the_local_target_comes_first() -> None:
    """What is asked in turn is asked of the disk first."""
    local, s3 = app(**BUCKET).targets()
    assert (local.name, s3.name) == ("local", "s3")
    assert (s3.remote, s3.disk) == (True, None)


@pytest.mark.parametrize(("which", "found"), [("local", ["local"]), ("s3", ["s3"]), ("all", ["local", "s3"])])
def test_a_store_is_chosen_by_its_name(which: str, found: list[str]) -> None:
    """`--store local|s3|all`."""
    assert [target.name for target in app(**BUCKET).targets(which)] == found


@pytest.mark.parametrize("which", ["s3", "tape", ""])
def test_a_store_that_is_not_configured_is_refused(which: str) -> None:
    """Never an empty list: `verify --store s3` without S3 must not say that all is well."""
    with pytest.raises(UsageError, match=f"the store {which} is not configured"):
        app().targets(which)


def test_s3_keeps_what_the_disk_keeps_unless_told_otherwise() -> None:
    """S3_RETENTION_DAYS and its like override one count each, a zero included."""
    kept = {"BACKUP_RETENTION_DAYS": "9", "BACKUP_KEEP_MIN": "2", "BACKUP_KEEP_WEEKS": "4"}
    assert [target.policy for target in app(**BUCKET, **kept).targets()] == [Policy(9, 2, 4)] * 2
    local, s3 = app(**BUCKET, **kept, S3_RETENTION_DAYS="0", S3_KEEP_YEARS="5").targets()
    assert (local.policy, s3.policy) == (Policy(9, 2, 4), Policy(0, 2, 4, 0, 5))


def test_a_mirror_is_a_target_of_its_own() -> None:
    """`--store mirror`, after the first bucket; what it keeps is what that one keeps unless told otherwise."""
    mirror = {"S3_MIRROR_BACKUP_BUCKET": "far", "S3_MIRROR_ENDPOINT_URL": "https://s3.far"}
    kept = {"BACKUP_RETENTION_DAYS": "9", "S3_RETENTION_DAYS": "30", "S3_MIRROR_KEEP_MONTHS": "12"}
    local, s3, far = app(**BUCKET, **mirror, **kept).targets()
    assert (s3.name, far.name, far.title, far.describe()) == ("s3", "mirror", "the S3 mirror", "s3://far/backups/")
    assert (local.policy, s3.policy, far.policy) == (Policy(9), Policy(30), Policy(30, 1, 0, 12))
    assert far.fetch.endswith("--endpoint-url https://s3.far")
    assert [one.name for one in app(**BUCKET, **mirror).targets("mirror")] == ["mirror"]
    with pytest.raises(UsageError, match="the store mirror is not configured") as caught:
        app(**BUCKET).targets("mirror")
    assert "S3_MIRROR_BACKUP_BUCKET" in caught.value.remedy
