"""The policies of docs/security.md: each is enough for what it is for, and for nothing else; a refusal is a sentence.

They are tried against a policy-enforcing fake before moto (tests/support/s3_policy.py), not at AWS.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support import proxy as faults
from tests.support.documents import fenced
from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.program import Program, beside, for_server
from tests.support.s3 import S3Server
from tests.support.s3_policy import PolicyProxy

POLICIES = {json.loads(block.text)["Id"]: block.text for block in fenced("docs/security.md", "json")}

ABORT = {"s3:AbortMultipartUpload"}
"""Of a killed run's upload: where there is none, it is not asked for."""


@pytest.fixture(scope="module")
def database(postgres18: EmbeddedPostgres) -> Iterator[str]:
    """Two megabytes that don't shrink, so that an upload has parts."""
    with postgres18.temporary_database("policies") as name:
        postgres18.psql(
            "CREATE TABLE t AS SELECT i, sha512(i::text::bytea) AS noise FROM generate_series(1, 20000) i",
            database=name,
        )
        yield name


@pytest.fixture
def bucket(s3: S3Server) -> str:
    return s3.bucket()


@pytest.fixture
def program(postgres18: EmbeddedPostgres, database: str, s3: S3Server, bucket: str, tmp_path: Path) -> Program:
    """With a key that may do everything."""
    return for_server(postgres18, database, tmp_path, **s3.settings(bucket))


@contextmanager
def key(s3: S3Server, bucket: str, name: str) -> Iterator[PolicyProxy]:
    """The server for a key with that policy of the document, on this bucket."""
    policy = re.sub(r"\bBUCKET\b", bucket, POLICIES[name])
    with PolicyProxy(s3.endpoint_url, policy=policy) as proxy:
        yield proxy


def granted(name: str) -> set[str]:
    return {action for statement in json.loads(POLICIES[name])["Statement"] for action in statement["Action"]}


def older(program: Program, s3: S3Server, bucket: str) -> str:
    """Two older backups on disk and in the bucket; returns the oldest's name."""
    new = program.backup().name
    for days in (4, 10):
        old = program.redate(new, timedelta(days=days))
        for file in (old, beside(old)):
            s3.client.put_object(Bucket=bucket, Key=f"backups/{file}", Body=(program.backups / file).read_bytes())
    return old


def test_the_document_has_a_policy_for_each_case() -> None:
    """By their ids."""
    ids = {"backup", "backup-and-prune", "restore", "lifecycle", "archive", "write-once", "mirror"}
    assert ids == POLICIES.keys()


def test_backup_without_a_right_to_delete(program: Program, s3: S3Server, bucket: str) -> None:
    """S3_RETENTION_DAYS=0 and a key that may put, get and list: backups, a killed run's leftovers, catch-up, and a
    doctor without failures, who leaves one small object however often he looks. A prune by another policy is refused
    by the server, which is said for each."""
    s3.client.create_multipart_upload(Bucket=bucket, Key=f"backups/{program.database}_backup_20250101_030000.sql.gz")
    with key(s3, bucket, "backup") as proxy:
        keeps = program.but(S3_ENDPOINT_URL=proxy.url, S3_RETENTION_DAYS="0", BACKUP_RETENTION_DAYS="7")
        for _ in range(2):
            done = keeps.run("backup", "--json")
            assert done.code == 0, done.said
            assert not [event for event in done.events if event["level"] not in ("info", "debug")], done.events
        assert proxy.denied == []
        assert proxy.asked == granted("backup")
        assert any(faults.is_part()(seen) for seen in proxy.seen)
        for _ in range(2):
            found = {one["name"]: one for one in keeps.run("doctor", "--json").document["findings"]}
            assert found["probe object"]["status"] == "ok", found["probe object"]
            assert "the key may not delete" in found["probe object"]["sentence"]
            assert found["hidden versions"]["status"] == "skipped"
        assert len([name for name in s3.keys(bucket) if "probe" in name]) == 1
        assert set(proxy.denied) == {"s3:DeleteObject", "s3:GetBucketVersioning"}
        old = older(program, s3, bucket)
        pruned = keeps.run("prune", S3_RETENTION_DAYS="7")
        assert pruned.code == 1, pruned.said
        assert f"{old} stays in s3://{bucket}/backups/" in pruned.err
        assert "AccessDenied" in pruned.err
        assert keeps.run("prune").code == 0


def test_backup_and_prune(program: Program, s3: S3Server, bucket: str) -> None:
    """What is too old goes, and nothing is refused; the doctor removes its probes. No other right is there: the
    rules of the bucket are refused, with the right that it takes."""
    old = older(program, s3, bucket)
    with key(s3, bucket, "backup-and-prune") as proxy:
        limited = program.but(S3_ENDPOINT_URL=proxy.url, BACKUP_RETENTION_DAYS="7")
        done = limited.run("backup", "--json")
        assert done.code == 0, done.said
        assert f"s3:{old}" in done.document["pruned"]
        assert proxy.denied == []
        assert proxy.asked == granted("backup-and-prune") - ABORT
        found = {one["name"]: one for one in limited.run("doctor", "--json").document["findings"]}
        assert found["probe object"]["status"] == "ok", found["probe object"]
        assert not [name for name in s3.keys(bucket) if "probe" in name]
        refused = limited.run("lifecycle", "apply", "--yes", S3_ARCHIVE_AFTER_DAYS="90")
        assert refused.code == 1, refused.said
        assert "s3:GetLifecycleConfiguration" in refused.err


def test_restore_only(program: Program, s3: S3Server, bucket: str) -> None:
    """A backup is listed, verified, restored; a copy can't be put there, which is degraded and said. A thaw is asked
    for with this key, too."""
    path = program.backup()
    with key(s3, bucket, "restore") as proxy:
        limited = program.but(S3_ENDPOINT_URL=proxy.url)
        new = f"{program.database}_new"
        done = limited.run("restore", path.name, "--from", "s3", "--into", new, "--yes")
        program.drop(new)
        assert done.code == 0, done.said
        assert limited.run("list", "--store", "s3").code == 0
        assert proxy.denied == []
        backup = limited.run("backup")
        assert backup.code == 3, backup.said
        assert "AccessDenied" in backup.err
    frozen = program.backup(S3_STORAGE_CLASS="GLACIER").name
    with key(s3, bucket, "restore") as proxy:
        thawed = program.run("verify", frozen, "--store", "s3", S3_ENDPOINT_URL=proxy.url)
        assert "--thaw" in thawed.err
        restore = ("restore", frozen, "--from", "s3", "--into", f"{program.database}_new", "--yes", "--thaw")
        assert program.run(*restore, S3_ENDPOINT_URL=proxy.url).code == 1
        assert proxy.denied == []
        assert proxy.asked == granted("restore")


def test_lifecycle(program: Program, s3: S3Server, bucket: str) -> None:
    """The key of that one command sets the rules and tags what is there, and can neither read nor remove a backup."""
    name = program.backup().name
    days = {"S3_ARCHIVE_AFTER_DAYS": "90", "S3_EXPIRE_AFTER_DAYS": "400"}
    with key(s3, bucket, "lifecycle") as proxy:
        limited = program.but(S3_ENDPOINT_URL=proxy.url, **days)
        done = limited.run("lifecycle", "apply", "--yes", "--json")
        assert done.code == 0, done.said
        assert done.document["tagged"] == 1
        assert proxy.denied == []
        assert proxy.asked == granted("lifecycle")
        refused = limited.run("verify", name, "--store", "s3")
        assert refused.code == 1, refused.said
        assert proxy.denied[-1] == "s3:GetObject"


def test_lifecycle_by_another_key(program: Program, s3: S3Server, bucket: str) -> None:
    """The key of that one command comes from a file, stands in no setting, and is shown nowhere."""
    file = program.directory / "keys"
    file.write_text("# of the office\nAWS_ACCESS_KEY_ID=AKIAOFFICE\nexport AWS_SECRET_ACCESS_KEY='office $ecret'\n")
    with PolicyProxy(s3.endpoint_url, policy=re.sub(r"\bBUCKET\b", bucket, POLICIES["lifecycle"])) as proxy:
        limited = program.but(S3_ENDPOINT_URL=proxy.url, S3_ARCHIVE_AFTER_DAYS="90")
        done = limited.run("lifecycle", "apply", "--yes", "--credentials", str(file))
        assert done.code == 0, done.said
        assert "office $ecret" not in done.said
        assert all("AKIAOFFICE/" in seen.headers["authorization"] for seen in proxy.seen)
        typed = [sys.executable, "-m", "hubbackup", "lifecycle", "show", "--credentials", "-"]
        shown = subprocess.run(
            typed, env=limited.env(), input=file.read_text(), capture_output=True, text=True, check=False
        )
        assert (shown.returncode, shown.stderr) == (0, "")
        assert "nothing to do" in shown.stdout
        file.write_text("AWS_ACCESS_KEY_ID=AKIAOFFICE\n")
        for typed, words in ((str(file), "does not have both"), ("/nowhere/keys", "there is no such file here")):
            refused = limited.run("lifecycle", "show", "--credentials", typed)
            assert refused.code == 2, refused.said
            assert words in refused.err


def test_archive(program: Program, s3: S3Server, bucket: str) -> None:
    """Beside what backups and pruning take: the tag, at the upload and when a backup is pinned. Without that right
    the copy is there all the same, untagged, and it is said."""
    days = {"S3_ARCHIVE_AFTER_DAYS": "90"}
    with key(s3, bucket, "archive") as proxy:
        limited = program.but(S3_ENDPOINT_URL=proxy.url, **days)
        name = limited.backup().name
        assert limited.run("pin", name).code == 0
        assert limited.run("unpin", name).code == 0
        assert limited.run("pin", name).code == 0
        assert proxy.denied == []
        assert proxy.asked == granted("archive") - ABORT
        tags = s3.client.get_object_tagging(Bucket=bucket, Key=f"backups/{name}")["TagSet"]
        assert tags == [{"Key": "hubbackup", "Value": "pinned"}]
    with key(s3, bucket, "backup-and-prune") as proxy:
        done = program.run("backup", S3_ENDPOINT_URL=proxy.url, **days)
        assert done.code == 0, done.said
        assert "s3:PutObjectTagging" in proxy.denied
        assert done.event("copy.untagged")


def test_write_once(program: Program, s3: S3Server) -> None:
    """Puts, gets and lists, and the lock; no right to remove, to see versions, or to lift a lock."""
    bucket = f"{s3.bucket()}-lock"
    s3.client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    with key(s3, bucket, "write-once") as proxy:
        limited = program.but(
            S3_BACKUP_BUCKET=bucket, S3_ENDPOINT_URL=proxy.url, S3_OBJECT_LOCK_DAYS="30", S3_RETENTION_DAYS="0"
        )
        done = limited.run("backup", "--json")
        assert done.code == 0, done.said
        assert proxy.denied == []
        found = {one["name"]: one for one in limited.run("doctor", "--json").document["findings"]}
        assert found["object lock"]["status"] == "ok"
        assert found["probe object"]["status"] == "ok"
        assert proxy.asked - {"s3:DeleteObject", "s3:GetBucketVersioning"} == granted("write-once") - ABORT
    # moto forgets the lock of an upload in parts, which the backup was: of the manifest it keeps it.
    head = s3.client.head_object(Bucket=bucket, Key=f"backups/{beside(done.document['name'])}")
    assert head["ObjectLockMode"] == "COMPLIANCE"
    with key(s3, bucket, "backup") as proxy:
        lacking = limited.run("backup", S3_ENDPOINT_URL=proxy.url)
        assert lacking.code == 3, lacking.said
        assert "AccessDenied" in lacking.err
        assert proxy.denied[0] == "s3:PutObjectRetention"


def test_mirror(program: Program, s3: S3Server, bucket: str) -> None:
    """Each bucket has a key of its own, and neither opens the other's bucket."""
    far = s3.bucket()
    with key(s3, bucket, "backup-and-prune") as first, key(s3, far, "mirror") as second:
        both = program.but(
            S3_ENDPOINT_URL=first.url,
            S3_MIRROR_BACKUP_BUCKET=far,
            S3_MIRROR_ENDPOINT_URL=second.url,
            S3_MIRROR_DEFAULT_REGION="us-east-1",
        )
        done = both.run("backup", "--json")
        assert done.code == 0, done.said
        assert done.document["copies"] == ["local", "s3", "mirror"]
        assert first.denied == second.denied == []
        assert second.asked == granted("mirror") - ABORT - {"s3:DeleteObject"}  # nothing was old enough
        mistaken = both.run("list", "--store", "mirror", S3_MIRROR_ENDPOINT_URL=first.url)
        assert mistaken.code == 1, mistaken.said
        assert "AccessDenied" in mistaken.err
        assert first.denied == ["s3:ListBucket"]
