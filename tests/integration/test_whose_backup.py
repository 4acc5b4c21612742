"""Whose a backup is, on the real way: what others put into the bucket never stands for a backup of ours."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hubbackup.app.manifest_key import KEY_FILE
from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.fingerprint import diff, fingerprint
from tests.support.moments import wait_until
from tests.support.program import Program, for_server
from tests.support.s3 import S3Server
from tests.support.sample import SMALL
from tests.support.terminal import at_terminal

GOLDEN = Path(__file__).parent / "golden" / "earlier"
DATABASE = "hub_whose"


@pytest.fixture(scope="module")
def database(postgres16: EmbeddedPostgres) -> Iterator[str]:
    postgres16.create_database(DATABASE)
    postgres16.psql(SMALL, database=DATABASE)
    try:
        yield DATABASE
    finally:
        everything = f"SELECT datname FROM pg_database WHERE datname ~ '^{DATABASE}|^hub_chantier'"
        for name in postgres16.psql(everything).split():
            postgres16.psql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@dataclass
class Site:
    """Our server, an attacker's, and the bucket that both can write to."""

    ours: Program
    theirs: Program
    good: str
    planted: str

    def row(self, name: str, *arguments: str) -> dict[str, object]:
        """What `list` says of a backup."""
        found: list[dict[str, object]] = self.ours.run("list", "--json", *arguments).document
        (row,) = [one for one in found if one["name"] == name]
        return row


@pytest.fixture
def site(postgres16: EmbeddedPostgres, database: str, s3: S3Server, tmp_path: Path) -> Site:
    """A good backup of ours, and a later one that somebody's own hubbackup has put into our bucket."""
    bucket = s3.settings(s3.bucket())
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
    ours = for_server(postgres16, database, tmp_path / "ours", **bucket)
    theirs = for_server(postgres16, database, tmp_path / "theirs", **bucket, TZ="Pacific/Kiritimati")
    good = ours.backup().name
    return Site(ours, theirs, good, theirs.backup().name)


def answered(program: Program, *arguments: str, answer: str) -> tuple[int, str]:
    """Run a command on a terminal, and answer its question; its exit code, and what it said."""
    with at_terminal(program, *arguments) as operator:
        operator.wait_for(" to go on: ")
        operator.type(f"{answer}\n")
        return operator.end(), " ".join(operator.said.split())


def test_a_planted_backup_is_never_taken_for_ours(site: Site) -> None:
    """It fits its manifest and was made last: and yet it is not the newest, not good, not `--latest`, not drilled."""
    row = site.row(site.planted, "--store", "s3")
    assert (row["origin"], row["proven"], row["good_in"]) == ("foreign", False, [])
    assert "signed under another key" in str(row["problem"])
    assert site.row(site.good)["origin"] == "ours"
    done = site.ours.run("restore", "--latest", "--yes", "--into", f"{DATABASE}_latest", "--json")
    assert done.code == 0, done.said
    assert done.document["name"] == site.good
    for arguments in (("drill", "--latest", "--store", "s3"), ("drill", "--store", "s3")):
        done = site.ours.run(*arguments, "--json")
        assert done.code == 0, done.said
        assert done.document["name"] == site.good
        skipped = done.event("source.skipped")
        assert skipped["name"] == site.planted
        assert "foreign" in skipped["message"]
    done = site.ours.run("drill", site.planted, "--store", "s3")
    assert done.code == 2, done.said
    assert "not known to be a backup of this server" in done.err
    done = site.ours.run("verify", "--all", "--json")
    assert done.code == 0, done.said
    verdicts = {(one["name"], one["store"]): one["verdict"] for one in done.document["copies"]}
    assert verdicts[site.planted, "s3"] == "foreign"
    assert verdicts[site.good, "s3"] == "ok"


def test_check_tells_and_is_not_satisfied(site: Site) -> None:
    """A foreign one that would be the newest is a warning, and where ours is too old, nothing else counts."""
    done = site.ours.run("check")
    assert done.code == 1, done.said
    assert f"{site.good} is" in done.out
    assert f"s3 holds {site.planted}, which is foreign: its manifest is signed under another key" in done.out
    wait_until(lambda: site.ours.run("check", "--max-age", "1s").code == 2, "a backup that is older than a second")


def test_the_retention_counts_and_removes_no_foreign_one(site: Site) -> None:
    """Neither is one of ours kept less for it, nor is it ours to remove."""
    site.ours.redate(site.good, timedelta(days=6))
    old = site.ours.redate(site.good, timedelta(days=12))
    done = site.ours.run("prune", "--json")
    assert done.code == 0, done.said
    decided = {(one["store"], one["name"]): (one["action"], one["reason"]) for one in done.document["decisions"]}
    assert decided["s3", site.planted] == ("keep", "foreign: not ours to remove")
    assert decided["s3", site.good] == ("keep", "the newest good one")
    assert decided["local", old][0] == "remove"


def test_it_is_restored_only_after_a_question_that_says_so(site: Site) -> None:
    """Without a terminal `--foreign` is needed beside `--yes`; on one it is asked, whatever was answered before."""
    wanted = ("restore", "--from-s3", site.planted, "--into", f"{DATABASE}_asked")
    done = site.ours.run(*wanted, "--yes")
    assert done.code == 2, done.said
    assert "hubbackup config" in done.err
    assert "--foreign" in done.err
    assert "download" not in done.err
    for answer in ("yes", ""):
        code, said = answered(site.ours, *wanted, "--yes", answer=answer)
        assert code == 2, said
        assert "FOREIGN" in said
        assert "Go on only if you know who made it" in said
        assert "not confirmed, nothing was done" in said
    assert f"{DATABASE}_asked" not in site.ours.databases()
    code, said = answered(site.ours, *wanted, answer=f"{DATABASE}_asked")
    assert code == 0, said
    done = site.ours.run(*wanted[:-1], f"{DATABASE}_foreign", "--yes", "--foreign")
    assert done.code == 0, done.said


def test_a_foreign_object_under_a_name_of_ours_is_replaced(site: Site, s3: S3Server) -> None:
    """The next run finds that S3's copy is not ours, though the sizes fit, and uploads ours again."""
    bucket = site.ours.settings["S3_BACKUP_BUCKET"]
    stem = site.good.removesuffix(".sql.gz")
    key = f"backups/{stem}.manifest.json"
    document = json.loads(s3.client.get_object(Bucket=bucket, Key=key)["Body"].read())
    forged = json.dumps(document | {"sha256": "0" * 64}).encode()
    s3.client.put_object(Bucket=bucket, Key=key, Body=forged)
    assert site.row(site.good, "--store", "s3")["origin"] == "foreign"
    done = site.ours.run("backup", "--json")
    assert done.code == 3, done.said
    assert done.event("copy.foreign")["name"] == site.good
    assert done.document["uploaded_late"] == [site.good]
    assert site.row(site.good, "--store", "s3")["good_in"] == ["s3"]


def test_a_new_server_asks_once_or_takes_the_key_over(
    site: Site, postgres16: EmbeddedPostgres, s3: S3Server, tmp_path: Path
) -> None:
    """The guide's third scenario as typed: told that it can't be known whose it is, and restored after the answer.

    With the key carried over by the command that `hubbackup config` prints, nothing is asked.
    """
    (tmp_path / "new").mkdir()
    bucket = {name: value for name, value in site.ours.settings.items() if name.startswith(("S3_", "AWS_"))}
    new = for_server(postgres16, f"{DATABASE}", tmp_path / "new", **bucket)
    before = fingerprint(new.psql, DATABASE)
    for command in (("list",), ("verify", site.good)):
        done = new.run(*command)
        assert "whose it is can't be told, this server has no manifest key and no backup of its own" in done.out
    done = new.run("restore", "--latest", "--yes")
    assert done.code == 1, done.said
    code, said = answered(new, "restore", "--from-s3", site.good, answer=DATABASE)
    assert code == 0, said
    assert "this server has no manifest key and no backup of its own" in said
    assert diff(before, fingerprint(new.psql, DATABASE)) == []
    key = (site.ours.backups / ".hubbackup" / KEY_FILE).read_text().strip()
    done = new.but(BACKUP_MANIFEST_KEY=key).run("restore", "--from-s3", site.good, "--yes", "--json")
    assert done.code == 0, done.said
    assert done.document["name"] == site.good


def test_a_foreign_one_is_adopted_after_a_question(site: Site) -> None:
    """Read through, signed with our key, and then good: `--latest` takes it."""
    done = site.ours.run("adopt", site.planted)
    assert done.code == 2, done.said
    assert "--foreign" in done.err
    code, said = answered(site.ours, "adopt", site.planted, answer="no")
    assert code == 2, said
    assert site.row(site.planted)["origin"] == "foreign"
    code, said = answered(site.ours, "adopt", site.planted, answer="yes")
    assert code == 0, said
    assert site.row(site.planted)["good_in"] == ["s3"]
    assert site.ours.run("adopt", site.planted, "--json").document["adopted"] == []


@pytest.mark.parametrize("harm", ["damaged", "another file in its place"])
def test_a_key_of_no_use_costs_no_backup(site: Site, harm: str) -> None:
    """The backup is taken, unsigned and degraded, nothing is removed meanwhile, and adopted it counts again."""
    path = site.ours.backups / ".hubbackup" / KEY_FILE
    kept = path.read_text()
    old = site.ours.redate(site.good, timedelta(days=30))
    path.unlink()
    if harm == "damaged":
        path.write_text(kept[:20])
    else:
        path.mkdir()
    done = site.ours.run("backup", "--json")
    assert done.code == 3, done.said
    name = str(done.document["name"])
    assert any("is not signed" in problem and KEY_FILE in problem for problem in done.document["problems"])
    assert "Traceback" not in done.said
    assert (site.ours.backups / old).exists()
    assert site.row(name)["good_in"] == []
    path.rmdir() if harm != "damaged" else path.unlink()
    path.write_text(kept)
    assert site.row(name)["origin"] == "foreign"
    assert site.row(site.good)["good_in"] == ["local", "s3"]
    done = site.ours.run("adopt", name, "--foreign", "--json")
    assert done.code == 0, done.said
    assert done.document["adopted"] == [f"local:{name}", f"s3:{name}"]
    assert site.row(name)["good_in"] == ["local", "s3"]


def test_an_update_costs_no_night(postgres16: EmbeddedPostgres, database: str, s3: S3Server, tmp_path: Path) -> None:
    """What the version before wrote counts as it did, unasked; adopted it is signed, and its copy in S3 as well."""
    program = for_server(postgres16, "hub_chantier", tmp_path, **s3.settings(s3.bucket()), BACKUP_RETENTION_DAYS="0")
    postgres16.create_database("hub_chantier")
    postgres16.psql(SMALL, database="hub_chantier")
    for file in GOLDEN.iterdir():
        shutil.copy(file, program.backups)
    (name,) = (file.name for file in GOLDEN.glob("*.gz"))
    done = program.run("check", "--max-age", "9999d")
    assert done.code == 1, done.said
    assert "s3 lacks it" in done.out
    for _ in range(2):
        done = program.run("restore", "--latest", "--yes", "--into", f"hub_chantier_{_}", "--json")
        assert done.code == 0, done.said
        assert done.document["name"] == name
        done = program.run("backup", "--json")
        assert done.code == 0, done.said
        for file in program.backups.glob(done.document["name"].removesuffix(".sql.gz") + "*"):
            file.unlink()
    rows = {one["name"]: one for one in program.run("list", "--json").document}
    assert (rows[name]["origin"], rows[name]["good_in"]) == ("earlier", ["local", "s3"])
    done = program.run("verify", "--all")
    assert done.code == 0, done.said
    done = program.run("adopt", "--all-earlier", "--json")
    assert done.code == 0, done.said
    assert done.document["adopted"] == [f"local:{name}"]
    rows = {one["name"]: one for one in program.run("list", "--json").document}
    assert (rows[name]["origin"], rows[name]["good_in"]) == ("ours", ["local", "s3"])
    files = {file.name for file in program.backups.iterdir() if file.is_file()}
    assert files == {file.name for file in GOLDEN.iterdir()}


def test_an_unsigned_one_planted_after_signing_began_is_foreign(site: Site, s3: S3Server) -> None:
    """Whatever date is written into it: in a bucket the bucket's own date counts."""
    bucket = site.ours.settings["S3_BACKUP_BUCKET"]
    (file,) = GOLDEN.glob("*.gz")
    stem, planted = file.name.removesuffix(".sql.gz"), f"{DATABASE}_backup_20240208_030000"
    text = (GOLDEN / f"{stem}.manifest.json").read_text()
    text = text.replace(stem, planted).replace('"database": "hub_chantier"', f'"database": "{DATABASE}"')
    s3.client.put_object(Bucket=bucket, Key=f"backups/{planted}.sql.gz", Body=file.read_bytes())
    s3.client.put_object(Bucket=bucket, Key=f"backups/{planted}.manifest.json", Body=text.encode())
    since = site.ours.backups / ".hubbackup" / "signed-since.json"
    assert json.loads(since.read_text())["at_home"] is False
    assert site.row(f"{planted}.sql.gz")["origin"] == "foreign"
    for hours, origin in ((2, "foreign"), (-2, "earlier")):  # signing began two hours ago; or after it was put there
        began = datetime.now(UTC) - timedelta(hours=hours)
        since.write_text(json.dumps({"since": began.isoformat(), "at_home": True}))
        assert site.row(f"{planted}.sql.gz")["origin"] == origin
