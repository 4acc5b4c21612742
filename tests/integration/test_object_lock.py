"""S3_OBJECT_LOCK_DAYS: copies that nobody can remove, and a bucket that keeps versions. Against moto, which locks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hubbackup.stores.s3_head import ObjectLock
from tests.support import proxy as faults
from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.program import Program, beside, for_server
from tests.support.proxy import FaultProxy
from tests.support.s3 import S3Server

LOCK = {"S3_OBJECT_LOCK_DAYS": "30"}


@pytest.fixture
def bucket(s3: S3Server) -> str:
    """One that can lock, and so keeps versions."""
    name = f"{s3.bucket()}-lock"
    s3.client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    return name


@pytest.fixture
def program(postgres18: EmbeddedPostgres, s3: S3Server, bucket: str, tmp_path: Path) -> Iterator[Program]:
    with postgres18.temporary_database() as name:
        yield for_server(postgres18, name, tmp_path, **s3.settings(bucket), **LOCK)


def head(s3: S3Server, bucket: str, name: str) -> Any:
    return s3.client.head_object(Bucket=bucket, Key=f"backups/{name}")


def versions(s3: S3Server, bucket: str, name: str) -> list[Any]:
    found = s3.client.list_object_versions(Bucket=bucket, Prefix=f"backups/{name}")
    return list(found.get("Versions", []))


def findings(program: Program, **more: str) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in program.run("doctor", "--json", **more).document["findings"]}


def with_older(program: Program, s3: S3Server, bucket: str, **options: Any) -> str:
    """Take a backup, with two older ones on disk and in the bucket; returns the oldest's name."""
    new = program.backup().name
    for days in (4, 10):
        old = program.redate(new, timedelta(days=days))
        for file in (old, beside(old)):
            body = (program.backups / file).read_bytes()
            s3.client.put_object(Bucket=bucket, Key=f"backups/{file}", Body=body, **options)
    return old


def test_a_backup_and_its_manifest_are_locked(program: Program, s3: S3Server, bucket: str) -> None:
    """Until the given days after the upload, in COMPLIANCE mode unless the other is chosen; marks and probes are not,
    since they come and go. The server itself refuses to remove a locked version."""
    name = program.backup().name
    for file in (name, beside(name)):
        found = head(s3, bucket, file)
        assert found["ObjectLockMode"] == "COMPLIANCE"
        until = found["ObjectLockRetainUntilDate"]
        assert timedelta(days=30) >= until - datetime.now(UTC) > timedelta(days=29, hours=23)
        (version,) = versions(s3, bucket, file)
        with pytest.raises(s3.client.exceptions.ClientError, match="AccessDenied"):
            s3.client.delete_object(Bucket=bucket, Key=f"backups/{file}", VersionId=version["VersionId"])
    assert program.run("pin", name).code == 0
    assert "ObjectLockMode" not in head(s3, bucket, f"{beside(name).removesuffix('.manifest.json')}.pinned")
    assert program.run("unpin", name).code == 0
    weaker = program.backup(S3_OBJECT_LOCK_MODE="GOVERNANCE").name
    assert head(s3, bucket, weaker)["ObjectLockMode"] == "GOVERNANCE"
    assert findings(program)["object lock"]["status"] == "ok"


def test_uploads_in_parts_are_locked_as_well(s3: S3Server, bucket: str) -> None:
    """The request that begins one asks for it (moto forgets it there), and each part has its Content-MD5."""
    with FaultProxy(s3.endpoint_url) as proxy:
        store = s3.store(
            bucket, endpoint_url=proxy.url, lock=ObjectLock(7, "GOVERNANCE"), tag=("hubbackup", "backup")
        )
        with store.create("a.sql.gz") as draft:
            draft.write(b"x" * (20 << 10))
            draft.commit()
        (begun,) = [seen for seen in proxy.seen if faults.is_begin(seen)]
        assert begun.headers["x-amz-object-lock-mode"] == "GOVERNANCE"
        until = datetime.fromisoformat(begun.headers["x-amz-object-lock-retain-until-date"])
        assert timedelta(days=6, hours=23) < until - datetime.now(UTC) <= timedelta(days=7)
        assert begun.headers["x-amz-tagging"] == "hubbackup=backup"
        parts = [seen for seen in proxy.seen if faults.is_part()(seen)]
        assert parts
        assert all(seen.headers["content-md5"] for seen in parts)


def test_a_bucket_that_cannot_lock(program: Program, s3: S3Server) -> None:
    """The doctor says so in one sentence; a backup is kept on the disk, and its S3 copy is reported missing."""
    plain = program.but(S3_BACKUP_BUCKET=s3.bucket())
    found = findings(plain)["object lock"]
    assert found["status"] == "fail"
    assert "S3_OBJECT_LOCK_DAYS=30 is set, and s3://" in found["sentence"]
    assert "has no Object Lock: it refuses every copy" in found["sentence"]
    assert "unset S3_OBJECT_LOCK_DAYS" in found["remedy"]
    done = plain.run("backup")
    assert done.code == 3, done.said
    assert "unset S3_OBJECT_LOCK_DAYS" in done.err
    assert [path.name for path in plain.backups.glob("*.sql.gz")]


def test_pruning_waits_for_the_lock_without_noise(program: Program, s3: S3Server, bucket: str) -> None:
    """What the policy would remove stays until its lock ends, with that as the reason, in both stores by their own
    rule: no failure, no alert. Afterwards it goes."""
    old = with_older(program, s3, bucket)
    week = program.but(BACKUP_RETENTION_DAYS="7")
    plan = week.run("prune", "--dry-run", "--json").document["decisions"]
    reasons = {(one["store"], one["name"]): (one["action"], one["reason"]) for one in plan}
    assert reasons["local", old][0] == "remove"
    action, reason = reasons["s3", old]
    assert (action, reason[:15]) == ("keep", "locked until 20"), reason
    done = week.run("backup", "--json")
    assert done.code == 0, done.said
    assert done.document["pruned"] == [f"local:{old}"]
    assert not [event for event in done.events if event["level"] != "info"], done.events
    assert head(s3, bucket, old)
    after = week.run("prune", "--json", S3_OBJECT_LOCK_DAYS="0")
    assert after.code == 0, after.said
    with pytest.raises(s3.client.exceptions.ClientError, match="404"):
        head(s3, bucket, old)


def test_a_lock_that_the_settings_do_not_know_is_no_failure(program: Program, s3: S3Server, bucket: str) -> None:
    """Locked for longer by an earlier setting, at a vendor that refuses to hide a locked object as well: the prune
    asks the server, and passes it over. The vendor is a fake: a proxy that refuses the removal."""
    until = datetime.now(UTC) + timedelta(days=10)
    old = with_older(program, s3, bucket, ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=until)
    with FaultProxy(s3.endpoint_url) as proxy:
        proxy.fault(faults.answer(403, "AccessDenied"), when=faults.is_delete)
        short = program.but(BACKUP_RETENTION_DAYS="7", S3_OBJECT_LOCK_DAYS="0", S3_ENDPOINT_URL=proxy.url)
        done = short.run("prune")
    assert done.code == 0, done.said
    assert done.event("prune.finished")["locked"] == [f"s3:{old}"]


def test_hidden_versions_that_pile_up_are_told(program: Program, s3: S3Server, bucket: str) -> None:
    """In a versioned bucket a removal only hides: the doctor counts what is hidden, and says which rule removes it;
    `lifecycle apply` sets that rule, and then the doctor is content."""
    for _ in range(3):
        s3.client.put_object(Bucket=bucket, Key="backups/marks", Body=b"xy")
        s3.client.delete_object(Bucket=bucket, Key="backups/marks")
    s3.client.put_object(Bucket=bucket, Key="elsewhere/a", Body=b"1")
    s3.client.put_object(Bucket=bucket, Key="elsewhere/a", Body=b"2")
    found = findings(program)["hidden versions"]
    assert found["status"] == "warn"
    # Three, and the two probes of the doctor itself.
    assert (
        "what is pruned stays and is billed: 5 hidden versions (5.2 MB), and no lifecycle rule" in found["sentence"]
    )
    assert "hubbackup lifecycle apply --store s3" in found["remedy"]
    done = program.run("lifecycle", "apply", "--yes", "--json")
    assert done.document["added"] == ["hubbackup-uploads:backups/", "hubbackup-versions:backups/"]
    rules = s3.client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    (rule,) = [one for one in rules if one["ID"] == "hubbackup-versions:backups/"]
    assert rule["NoncurrentVersionExpiration"] == {"NoncurrentDays": 30}
    assert rule["Expiration"] == {"ExpiredObjectDeleteMarker": True}
    assert findings(program)["hidden versions"]["status"] == "ok"
    plain = findings(program, S3_BACKUP_BUCKET=s3.bucket())["hidden versions"]
    assert "it keeps no versions" in plain["sentence"]
