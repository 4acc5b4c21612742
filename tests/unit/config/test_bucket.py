"""The buckets' settings: the first, the mirror, what one takes from the other, and what can't be meant."""

from __future__ import annotations

from dataclasses import fields

import pytest

from hubbackup.config.bucket import SHARED, BucketFields, BucketSettings, variable
from hubbackup.config.load import load_settings, load_what_can_be_used
from hubbackup.config.urls import origin_of
from hubbackup.errors import SettingsError

CANARY = "canari-7f3a9b1c-long-enough"
FIRST = {"S3_BACKUP_BUCKET": "first", "AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": CANARY}
MIRROR = {"S3_MIRROR_BACKUP_BUCKET": "second"}


def buckets(**environ: str) -> dict[str, BucketSettings]:
    return load_settings(environ).settings.buckets


def test_without_a_bucket_there_is_none() -> None:
    """Today's settings: S3 alone, or nothing."""
    assert buckets() == {}
    assert list(buckets(**FIRST)) == ["s3"]


def test_the_first_bucket_comes_first() -> None:
    """In the order in which copies are asked for; a mirror alone is a far copy like another."""
    assert list(buckets(**MIRROR, **FIRST)) == ["s3", "mirror"]
    assert list(buckets(**MIRROR)) == ["mirror"]


def test_each_setting_has_its_twin() -> None:
    """Every setting of the first bucket has one of the mirror, with the same default, or to be taken from it."""
    names = [one.name for one in fields(BucketSettings)[1:]]
    declared = BucketFields.model_fields
    assert {variable(target, name).lower() for target in ("s3", "mirror") for name in names} == declared.keys()
    for name in names:
        first, mirror = (declared[variable(target, name).lower()] for target in ("s3", "mirror"))
        assert mirror.default == (None if name in SHARED else first.default), name


def test_what_a_mirror_takes_from_the_first_bucket() -> None:
    """Keys, timeout and retention where it has none of its own; never endpoint, region, class or prefix."""
    given = FIRST | {
        "S3_ENDPOINT_URL": "https://s3.fr-par.scw.cloud",
        "S3_PREFIX": "prod",
        "AWS_DEFAULT_REGION": "fr-par",
        "S3_STORAGE_CLASS": "ONEZONE_IA",
        "S3_TIMEOUT_SECONDS": "77",
        "S3_RETENTION_DAYS": "90",
        "S3_KEEP_MONTHS": "12",
    }
    mirror = buckets(**given, **MIRROR)["mirror"]
    assert (mirror.endpoint_url, mirror.region, mirror.storage_class, mirror.prefix) == ("", "", "", "backups/")
    assert (mirror.timeout_seconds, mirror.retention_days, mirror.keep_months, mirror.keep_min) == (77, 90, 12, None)
    assert mirror.secret_access_key.get_secret_value() == CANARY
    own = {
        "S3_MIRROR_TIMEOUT_SECONDS": "30",
        "S3_MIRROR_RETENTION_DAYS": "0",
        "S3_MIRROR_ACCESS_KEY_ID": "MK",
        "S3_MIRROR_SECRET_ACCESS_KEY": "mirror's",
        "S3_MIRROR_PREFIX": "/far/",
    }
    mirror = buckets(**given, **MIRROR, **own)["mirror"]
    assert (mirror.timeout_seconds, mirror.retention_days, mirror.prefix) == (30, 0, "far/")
    assert mirror.access_key_id.get_secret_value() == "MK"
    assert mirror.secret_access_key.get_secret_value() == "mirror's"


@pytest.mark.parametrize(
    ("first", "mirror"),
    [
        ({}, {}),
        ({"S3_ENDPOINT_URL": "https://s3.x:443/"}, {"S3_MIRROR_ENDPOINT_URL": "http://S3.x."}),
        ({}, {"S3_MIRROR_ENDPOINT_URL": "https://s3.eu-west-3.amazonaws.com"}),
        ({"S3_PREFIX": "a"}, {"S3_MIRROR_PREFIX": "a/b"}),
        ({"S3_PREFIX": "a/b"}, {"S3_MIRROR_PREFIX": "a"}),
        ({"S3_PREFIX": "/"}, {"S3_MIRROR_PREFIX": "far"}),
    ],
)
def test_a_mirror_in_the_first_buckets_place_is_refused(first: dict[str, str], mirror: dict[str, str]) -> None:
    """The same bucket of the same server, however it is written, and one prefix inside the other: exit 2."""
    same = {"S3_BACKUP_BUCKET": "one", "S3_MIRROR_BACKUP_BUCKET": "s3://one"}
    with pytest.raises(SettingsError, match=r"^S3_MIRROR_BACKUP_BUCKET: the mirror's place s3://one/") as caught:
        buckets(**same, **first, **mirror)
    assert "S3_MIRROR_PREFIX" in caught.value.remedy


@pytest.mark.parametrize(
    "mirror",
    [
        {"S3_MIRROR_PREFIX": "backups2"},
        {"S3_MIRROR_BACKUP_BUCKET": "two"},
        {"S3_MIRROR_ENDPOINT_URL": "https://s3.nl-ams.scw.cloud"},
        {"S3_MIRROR_ENDPOINT_URL": "https://s3.cn-north-1.amazonaws.com.cn"},
    ],
)
def test_a_mirror_beside_the_first_bucket_is_not(mirror: dict[str, str]) -> None:
    """Another prefix that only begins with the same letters, another bucket, another server."""
    same = {"S3_BACKUP_BUCKET": "one", "S3_MIRROR_BACKUP_BUCKET": "one"}
    assert list(buckets(**same | mirror)) == ["s3", "mirror"]


@pytest.mark.parametrize(
    ("environ", "sentence", "remedy"),
    [
        (
            FIRST | {"S3_MIRROR_ENDPOINT_URL": "https://x"},
            "S3_MIRROR_ENDPOINT_URL is set, and S3_MIRROR_BACKUP_BUCKET is not",
            "name the mirror's bucket, or remove",
        ),
        (
            FIRST | {"S3_MIRROR_RETENTION_DAYS": "0"},
            "S3_MIRROR_RETENTION_DAYS is set, and S3_MIRROR_BACKUP_BUCKET is not",
            "name the mirror's bucket, or remove",
        ),
        (
            FIRST | MIRROR | {"S3_MIRROR_SECRET_ACCESS_KEY": CANARY},
            "S3_MIRROR_ACCESS_KEY_ID and S3_MIRROR_SECRET_ACCESS_KEY: one is set without the other",
            "neither for those of AWS_ACCESS_KEY_ID",
        ),
        (
            FIRST | {"VERIFY_STORE": "mirror"},
            "VERIFY_STORE=mirror: S3_MIRROR_BACKUP_BUCKET is not set",
            "name the mirror's bucket, or another store",
        ),
        (
            FIRST | {"S3_MIRROR_BACKUP_BUCKET": "second/path"},
            "S3_MIRROR_BACKUP_BUCKET=second/path (environment): has a path",
            "S3_MIRROR_PREFIX",
        ),
        (
            FIRST | MIRROR | {"S3_MIRROR_ENDPOINT_URL": "minio"},
            "S3_MIRROR_ENDPOINT_URL=minio (environment): is not a URL",
            "docs/settings.md",
        ),
    ],
)
def test_half_a_mirror_is_refused(environ: dict[str, str], sentence: str, remedy: str) -> None:
    """One sentence that names the variable, what to do, and no secret."""
    with pytest.raises(SettingsError) as caught:
        buckets(**environ)
    assert str(caught.value).startswith(sentence)
    assert remedy in caught.value.remedy
    assert CANARY not in f"{caught.value} {caught.value.remedy}"


@pytest.mark.parametrize(
    "wrong",
    [
        {"S3_MIRROR_BACKUP_BUCKET": "first"},
        {"VERIFY_STORE": "mirror"},
        {"S3_EXPIRE_AFTER_DAYS": "3", "S3_ARCHIVE_AFTER_DAYS": "9"},
        {"S3_EXPIRE_AFTER_DAYS": "1", "S3_KEEP_YEARS": "9"},
    ],
)
def test_a_bad_bucket_does_not_silence_the_alerts(wrong: dict[str, str]) -> None:
    """Who is told of a wrong setting is still known where what is wrong is how settings of buckets go together."""
    environ = FIRST | wrong | {"NOTIFICATION_URLS": "json://sink"}
    with pytest.raises(SettingsError):
        load_settings(environ)
    loaded = load_what_can_be_used(environ)
    assert loaded.settings.notification_urls.get_secret_value() == "json://sink"


def test_an_endpoint_has_one_origin() -> None:
    """Case, default port and the slash at the end make no other server; a path does."""
    assert origin_of("https://S3.Example:443/") == origin_of("http://s3.example")
    assert origin_of("https://host:9000") != origin_of("https://host:9001")
    assert origin_of("https://host/a") != origin_of("https://host/b")
    assert origin_of("") == origin_of("https://s3.amazonaws.com")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"S3_EXPIRE_AFTER_DAYS": "90"}, "S3_EXPIRE_AFTER_DAYS=90 is not after S3_ARCHIVE_AFTER_DAYS=90"),
        ({"S3_KEEP_YEARS": "2"}, "S3_EXPIRE_AFTER_DAYS=400 would remove what S3_KEEP_YEARS keeps"),
        ({"BACKUP_RETENTION_DAYS": "500"}, "S3_EXPIRE_AFTER_DAYS=400 would remove what BACKUP_RETENTION_DAYS keeps"),
        ({"S3_ARCHIVE_AFTER_DAYS": "-1"}, "S3_ARCHIVE_AFTER_DAYS"),
        ({"S3_ARCHIVE_CLASS": "glacier deep"}, "S3_ARCHIVE_CLASS"),
        ({"S3_OBJECT_LOCK_DAYS": "4000"}, "S3_OBJECT_LOCK_DAYS"),
        ({"S3_OBJECT_LOCK_MODE": "NONE"}, "must be COMPLIANCE or GOVERNANCE"),
        (
            {**MIRROR, "S3_MIRROR_EXPIRE_AFTER_DAYS": "20", "S3_KEEP_MONTHS": "1"},
            "S3_MIRROR_EXPIRE_AFTER_DAYS=20 would remove what S3_KEEP_MONTHS keeps",
        ),
    ],
)
def test_rules_that_contradict_the_retention(settings: dict[str, str], sentence: str) -> None:
    """A rule never removes what a setting keeps, nor before it has archived it; each bucket by its own settings."""
    days = {"S3_ARCHIVE_AFTER_DAYS": "90", "S3_EXPIRE_AFTER_DAYS": "400"}
    assert buckets(**FIRST, **days)["s3"].expire_after_days == 400
    assert buckets(**FIRST, **days, BACKUP_RETENTION_DAYS="0")["s3"].archive_after_days == 90
    with pytest.raises(SettingsError) as caught:
        buckets(**FIRST, **(days | settings))
    assert sentence in str(caught.value)
