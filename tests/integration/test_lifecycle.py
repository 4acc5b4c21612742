"""`hubbackup lifecycle`: the bucket's own rules, as the S3 server has them afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support import proxy as faults
from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.program import Program, beside, for_server
from tests.support.proxy import FaultProxy, Seen
from tests.support.s3 import S3Server

THEIRS: list[dict[str, Any]] = [
    {"ID": "logs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 14}},
    {
        "ID": "q'\"té <&>",
        "Status": "Disabled",
        "Filter": {"And": {"Prefix": "backups/", "Tags": [{"Key": "a", "Value": "b"}]}},
        "Transitions": [{"Days": 5, "StorageClass": "STANDARD_IA"}],
    },
]
OURS = {
    "hubbackup-backups:backups/": {
        "Filter": {"And": {"Prefix": "backups/", "Tags": [{"Key": "hubbackup", "Value": "backup"}]}},
        "Transitions": [{"Days": 90, "StorageClass": "GLACIER"}],
        "Expiration": {"Days": 400},
    },
    "hubbackup-uploads:backups/": {
        "Filter": {"Prefix": "backups/"},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 2},
    },
}
DAYS = {"S3_ARCHIVE_AFTER_DAYS": "90", "S3_EXPIRE_AFTER_DAYS": "400"}


@pytest.fixture
def bucket(s3: S3Server) -> str:
    return s3.bucket()


@pytest.fixture
def program(s3: S3Server, bucket: str, tmp_path: Path) -> Program:
    """Without a database: rules need none."""
    return Program(tmp_path, {"POSTGRES_DB": "hub", "POSTGRES_PASSWORD": "x", **s3.settings(bucket), **DAYS})


@pytest.fixture
def with_database(postgres18: EmbeddedPostgres, s3: S3Server, bucket: str, tmp_path: Path) -> Iterator[Program]:
    with postgres18.temporary_database() as name:
        yield for_server(postgres18, name, tmp_path, **s3.settings(bucket))


def rules_in(s3: S3Server, bucket: str) -> list[Any]:
    """As the server gives them; none where it has no configuration."""
    try:
        return list(s3.client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"])
    except s3.client.exceptions.ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchLifecycleConfiguration":
            raise
        return []


def put_rules(s3: S3Server, bucket: str, rules: list[Any]) -> None:
    s3.client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": rules})


def tags_of(s3: S3Server, bucket: str, name: str) -> dict[str, str]:
    found = s3.client.get_object_tagging(Bucket=bucket, Key=f"backups/{name}")["TagSet"]
    return {tag["Key"]: tag["Value"] for tag in found}


def is_rules(method: str) -> Callable[[Seen], bool]:
    return lambda seen: seen.method == method and "lifecycle" in seen.query


def test_rules_are_set_beside_those_of_others(program: Program, s3: S3Server, bucket: str) -> None:
    """Shown first and nothing done; then set, theirs untouched; then nothing is left to do, and nothing is sent."""
    put_rules(s3, bucket, THEIRS)
    before = rules_in(s3, bucket)
    shown = program.run("lifecycle", "show")
    assert shown.code == 0, shown.said
    assert "+ add     backups under backups/, tagged hubbackup=backup: to class GLACIER after 90 days" in shown.out
    assert rules_in(s3, bucket) == before
    asked = program.run("lifecycle", "apply")
    assert asked.code == 2, asked.said
    assert "nobody is there to confirm this" in asked.err
    assert rules_in(s3, bucket) == before
    done = program.run("lifecycle", "apply", "--yes", "--json")
    assert done.code == 0, done.said
    assert done.document["added"] == list(OURS)
    after = {rule["ID"]: rule for rule in rules_in(s3, bucket)}
    assert [rule for rule in after.values() if rule["ID"] not in OURS] == before
    assert {id_: after[id_] for id_ in OURS} == {
        id_: {"ID": id_, "Status": "Enabled", **rule} for id_, rule in OURS.items()
    }
    with FaultProxy(s3.endpoint_url) as proxy:
        again = program.run("lifecycle", "apply", "--yes", S3_ENDPOINT_URL=proxy.url)
        assert again.code == 0, again.said
        assert "nothing was done" in again.out
        assert proxy.count(is_rules("PUT")) == 0


def test_rules_go_out_with_the_checksum_that_all_vendors_take(program: Program, s3: S3Server) -> None:
    """Content-MD5, and none of the newer checksums, which others reject."""
    with FaultProxy(s3.endpoint_url) as proxy:
        assert program.run("lifecycle", "apply", "--yes", S3_ENDPOINT_URL=proxy.url).code == 0
        (put,) = [seen for seen in proxy.seen if is_rules("PUT")(seen)]
    assert put.headers["content-md5"]
    assert not faults.has_checksum_header(put)


def test_a_changed_and_an_unset_setting(program: Program, s3: S3Server, bucket: str) -> None:
    """The difference is shown, old beside new; what is not asked for any more is taken away, and only ours."""
    put_rules(s3, bucket, THEIRS)
    assert program.run("lifecycle", "apply", "--yes").code == 0
    sooner = program.but(S3_ARCHIVE_AFTER_DAYS="30", S3_ARCHIVE_CLASS="DEEP_ARCHIVE")
    shown = sooner.run("lifecycle", "show").out
    assert "~ change  backups under backups/, tagged hubbackup=backup: to class DEEP_ARCHIVE after 30 days" in shown
    assert "Days=90 StorageClass=GLACIER" in shown
    none = program.but(S3_ARCHIVE_AFTER_DAYS="0", S3_EXPIRE_AFTER_DAYS="0")
    assert "- remove  hubbackup-backups:backups/" in none.run("lifecycle", "show").out
    assert none.run("lifecycle", "apply", "--yes").code == 0
    assert [rule["ID"] for rule in rules_in(s3, bucket)] == ["logs", "q'\"té <&>", "hubbackup-uploads:backups/"]


def test_a_rule_of_others_that_takes_our_manifests_is_said(program: Program, s3: S3Server, bucket: str) -> None:
    """By show, by apply, and by the doctor."""
    rule = {"ID": "old", "Status": "Enabled", "Prefix": "", "Expiration": {"Days": 30}}
    put_rules(s3, bucket, [rule])
    words = "the rule old of others, on the whole bucket, removes what is there after 30 days"
    assert words in program.run("lifecycle", "show").out
    assert words in program.run("lifecycle", "apply", "--yes").err
    found = {one["name"]: one for one in program.run("doctor", "--json").document["findings"]}
    assert words in found["lifecycle rules"]["sentence"]


def test_a_vendor_that_drops_the_tag_is_found_out(program: Program, s3: S3Server, bucket: str) -> None:
    """It says 200, and would archive manifests as well: the rules of before are put back, and it is said.

    The vendor is a fake of ours: moto, behind a proxy that shows it a rule without its tag.
    """
    put_rules(s3, bucket, THEIRS)
    before = rules_in(s3, bucket)
    left_behind = {"ID": "hubbackup-backups:backups/", "Status": "Enabled", "Prefix": "", "Expiration": {"Days": 1}}
    put_rules(s3, bucket, [*THEIRS, left_behind])  # by a run that was killed before it had read them back

    def without_tag(body: bytes) -> bytes:
        start, end = body.find(b"<Tag><Key>hubbackup"), body.find(b"</Tag>", body.find(b"<Key>hubbackup"))
        return body if start < 0 else body[:start] + body[end + len(b"</Tag>") :]

    with FaultProxy(s3.endpoint_url) as proxy:
        proxy.fault(faults.with_body(without_tag), when=is_rules("GET"))
        done = program.run("lifecycle", "apply", "--yes", S3_ENDPOINT_URL=proxy.url)
    assert done.code == 2, done.said
    assert "did not keep the lifecycle rules as they were sent (hubbackup-backups:backups/)" in done.err
    assert "they were taken back" in done.err
    assert rules_in(s3, bucket) == before


def test_rules_with_what_we_do_not_know_are_left_alone(program: Program, s3: S3Server) -> None:
    """A vendor's own element in a rule of others would be lost by putting it again."""

    def with_own(body: bytes) -> bytes:
        return body.replace(b"</Rule>", b"<DelMarkerExpiration><Days>3</Days></DelMarkerExpiration></Rule>", 1)

    with FaultProxy(s3.endpoint_url) as proxy:
        put_rules(s3, program.settings["S3_BACKUP_BUCKET"], THEIRS)
        proxy.fault(faults.with_body(with_own), when=is_rules("GET"))
        done = program.run("lifecycle", "apply", "--yes", S3_ENDPOINT_URL=proxy.url)
        assert proxy.count(is_rules("PUT")) == 0
    assert done.code == 2, done.said
    assert "DelMarkerExpiration, which would be lost: nothing done" in done.err


@pytest.mark.parametrize(
    ("status", "code", "sentence", "exit_code"),
    [
        (501, "NotImplemented", "has no lifecycle rules (it answered NotImplemented): nothing was done", 2),
        (403, "AccessDenied", "give the key s3:GetLifecycleConfiguration", 1),
    ],
)
def test_a_vendor_without_rules(
    program: Program, s3: S3Server, status: int, code: str, sentence: str, exit_code: int
) -> None:
    """One sentence, and nothing done."""
    with FaultProxy(s3.endpoint_url) as proxy:
        proxy.fault(faults.answer(status, code), when=is_rules("GET"))
        done = program.run("lifecycle", "apply", "--yes", S3_ENDPOINT_URL=proxy.url)
        assert proxy.count(is_rules("PUT")) == 0
    assert done.code == exit_code, done.said
    assert sentence in done.err


def test_a_vendor_that_refuses_the_days(program: Program, s3: S3Server, bucket: str) -> None:
    """As Scaleway does below 90: its words, and nothing done."""
    with FaultProxy(s3.endpoint_url) as proxy:
        proxy.fault(faults.answer(400, "InvalidArgument", "at least 90 days"), when=is_rules("PUT"))
        done = program.run("lifecycle", "apply", "--yes", S3_ENDPOINT_URL=proxy.url)
    assert done.code == 2, done.said
    assert "InvalidArgument (at least 90 days): nothing was done" in done.err
    assert rules_in(s3, bucket) == []


def test_settings_that_contradict_each_other(program: Program) -> None:
    """One sentence, exit code 2, nothing asked of the bucket."""
    done = program.run("lifecycle", "show", S3_KEEP_YEARS="2", S3_ENDPOINT_URL="http://127.0.0.1:9")
    assert done.code == 2, done.said
    assert "S3_EXPIRE_AFTER_DAYS=400 would remove what S3_KEEP_YEARS keeps" in done.err


@pytest.mark.parametrize("prefix", ["/", 'd\'é té/<&> "x"/'])
def test_rules_on_any_prefix_of_any_bucket(program: Program, s3: S3Server, bucket: str, prefix: str) -> None:
    """The whole bucket, odd names, and the mirror by its own settings: each has its rules, and knows them again."""
    far = s3.bucket()
    mirror = {
        "S3_MIRROR_BACKUP_BUCKET": far,
        "S3_MIRROR_PREFIX": prefix,
        "S3_MIRROR_ENDPOINT_URL": s3.endpoint_url,
        "S3_MIRROR_DEFAULT_REGION": "us-east-1",
        "S3_MIRROR_ARCHIVE_AFTER_DAYS": "91",
        "S3_MIRROR_EXPIRE_AFTER_DAYS": "0",
    }
    done = program.run("lifecycle", "apply", "--yes", "--store", "mirror", **mirror)
    assert done.code == 0, done.said
    assert rules_in(s3, bucket) == []
    first, second = rules_in(s3, far)
    tag = {"Key": "hubbackup", "Value": "backup"}
    assert first["Filter"] == ({"Tag": tag} if prefix == "/" else {"And": {"Prefix": prefix, "Tags": [tag]}})
    assert first["Transitions"] == [{"Days": 91, "StorageClass": "GLACIER"}]
    assert second["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 2}
    again = program.run("lifecycle", "apply", "--yes", "--store", "mirror", **mirror)
    assert "nothing was done" in again.out, again.said


def test_only_a_bucket_has_rules(program: Program) -> None:
    """Not the disk, and not one that is not set."""
    for store, words in (("local", "is not one bucket"), ("all", "is not one bucket"), ("mirror", "not configured")):
        done = program.run("lifecycle", "show", "--store", store)
        assert done.code == 2, done.said
        assert words in done.err


def test_new_and_old_backups_have_the_tag_and_nothing_else_has(
    with_database: Program, s3: S3Server, bucket: str
) -> None:
    """Those from before are tagged by `apply`, with the tags of others kept; a pinned one is spared by every rule."""
    old, pinned = with_database.backup().name, with_database.backup().name
    s3.client.put_object_tagging(
        Bucket=bucket, Key=f"backups/{old}", Tagging={"TagSet": [{"Key": "team", "Value": "Équipe A"}]}
    )
    assert with_database.run("pin", pinned).code == 0
    program = with_database.but(**DAYS)
    shown = program.run("lifecycle", "show", "--json")
    assert shown.code == 0, shown.said
    assert shown.document["untagged"] == [old, pinned]
    done = program.run("lifecycle", "apply", "--yes", "--json")
    assert done.code == 0, done.said
    assert done.document["tagged"] == 2
    assert tags_of(s3, bucket, old) == {"team": "Équipe A", "hubbackup": "backup"}
    assert tags_of(s3, bucket, pinned) == {"hubbackup": "pinned"}
    new = program.backup().name
    assert tags_of(s3, bucket, new) == {"hubbackup": "backup"}
    for name in (old, pinned, new):
        assert tags_of(s3, bucket, beside(name)) == {}
    assert program.run("lifecycle", "show", "--json").document["untagged"] == []
    assert program.run("pin", new).code == 0
    assert program.run("unpin", pinned).code == 0
    assert tags_of(s3, bucket, new) == {"hubbackup": "pinned"}
    assert tags_of(s3, bucket, pinned) == {"hubbackup": "backup"}


def test_a_vendor_without_tags_gets_the_copy_all_the_same(with_database: Program, s3: S3Server, bucket: str) -> None:
    """A backup is not lost for a tag: it is uploaded without, and the log says that no rule holds for it."""
    with FaultProxy(s3.endpoint_url) as proxy:
        proxy.fault(faults.answer(501, "NotImplemented"), when=lambda seen: "x-amz-tagging" in seen.headers)
        done = with_database.run("backup", **DAYS, S3_ENDPOINT_URL=proxy.url)
    assert done.code == 0, done.said
    event = done.event("copy.untagged")
    assert event["store"] == "s3"
    assert "no lifecycle rule archives or expires" in event["message"]
    assert len(s3.keys(bucket)) == 2


def test_what_a_rule_has_removed(with_database: Program, s3: S3Server, bucket: str) -> None:
    """An expired backup is no error anywhere: it is not listed, not uploaded again, and the prune takes its manifest
    away, unless it was pinned. Where nothing is ever pruned the manifest stays, in silence."""
    program = with_database.but(S3_EXPIRE_AFTER_DAYS="40", BACKUP_RETENTION_DAYS="60", S3_RETENTION_DAYS="30")
    new = program.backup().name
    old, pinned = program.redate(new, timedelta(days=45)), program.redate(new, timedelta(days=46))
    stems = {name: beside(name).removesuffix(".manifest.json") for name in (old, pinned)}
    manifests = [beside(old), beside(pinned)]
    for file in (*manifests, f"{stems[old]}.bad", f"{stems[pinned]}.pinned"):
        body = (program.backups / file).read_bytes() if file in manifests else b"{}"
        s3.client.put_object(Bucket=bucket, Key=f"backups/{file}", Body=body)
    listed = program.run("list", "--store", "s3", "--json")
    assert [one["name"] for one in listed.document] == [new]
    assert program.run("check").code == 0
    forever = program.run("prune", S3_RETENTION_DAYS="0")
    assert forever.code == 0, forever.said
    assert len(s3.keys(bucket)) == 6
    done = program.run("backup", "--json")
    assert done.code == 0, done.said
    assert done.document["uploaded_late"] == []
    assert f"s3:{beside(old)}" in done.document["pruned"]
    names = {key.removeprefix("backups/") for key in s3.keys(bucket)}
    assert beside(old) not in names
    assert {beside(pinned), new, beside(new), done.document["name"]} <= names
