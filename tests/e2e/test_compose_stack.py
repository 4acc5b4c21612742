"""The guide's way from end to end: a user's compose project, the real image, a database, S3, and what goes wrong.

The tests share one stack and run in the order of this file, each of them also alone. Those before `quiet` see the
daemon's own runs, at its start and then each minute; those after it start every run themselves.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from hubbackup.catalog.backup import PURPOSE
from hubbackup.catalog.origin import SigningKey
from tests.e2e.conftest import QUIET
from tests.e2e.stack import (
    AWS_SECRET,
    BUCKET,
    DATABASE,
    EVENTS,
    IMAGE,
    IN_CONTAINER,
    PASSWORD,
    ROOT,
    USER,
    Stack,
    manifest_of,
    name_at,
)
from tests.support.fingerprint import diff, fingerprint

pytestmark = pytest.mark.timeout(600)

PARIS = ZoneInfo("Europe/Paris")
OUR_NAME = re.compile(r"hub_chantier_backup_\d{8}_\d{6}\.sql\.gz")
MOST_BYTES_BESIDE_BASE = 90_000_000


def first_backup(stack: Stack) -> dict[str, Any]:
    """The closing line of the daemon's first run, once it is there."""
    return stack.until(lambda: stack.logs("backup.finished"), 75, "a backup")[0]


# ------------------------------------------------------------------------------------ by the daemon


def test_the_guides_command_gives_a_backup(stack: Stack) -> None:
    """After `up -d` alone there is a backup with its manifest, in the directory that Docker made and in S3."""
    name = first_backup(stack)["name"]
    assert OUR_NAME.fullmatch(name)
    assert {name, manifest_of(name)} <= set(stack.local_names())
    assert {name, manifest_of(name)} <= set(stack.s3_names())
    for file in (name, manifest_of(name)):
        figures = (stack.backups / file).stat()
        assert figures.st_mode & 0o777 == 0o600
        assert figures.st_uid != 0
    manifest = stack.manifest(name)
    started_at = datetime.fromisoformat(manifest["started_at"])
    assert name == name_at(started_at.astimezone(PARIS))
    assert (stack.backups / name).stat().st_size == manifest["stored_bytes"]
    in_s3 = stack.s3.get_object(Bucket=BUCKET, Key=f"backups/{name}")["Body"].read()
    assert in_s3 == stack.read(name)


def test_the_dump_goes_around_the_engine(stack: Stack) -> None:
    """In compose's own network the database's container connects to hubbackup's, with nothing set or installed."""
    first_backup(stack)
    assert stack.logs("dump.relayed") == []


def test_the_log_is_json_and_tells_the_run_in_one_line(stack: Stack) -> None:
    """Each line of `docker logs` is JSON with an event; a run closes with name, bytes, seconds and copies."""
    closing = first_backup(stack)
    for line in stack.logs():
        assert {"event", "message", "level", "timestamp"} <= line.keys(), line
    assert closing["message"] == "Backup termine"
    assert closing["copies"] == ["local", "s3"]
    assert closing["exit_code"] == 0
    assert 4_000_000 < closing["plain_bytes"] < 6_000_000
    assert closing["stored_bytes"] == (stack.backups / closing["name"]).stat().st_size
    assert 0 < closing["seconds"] < 60
    log = stack.raw_logs()
    assert "Backup termine" in log  # what the guide greps for
    if os.environ.get("HUBBACKUP_E2E_LOG"):
        Path(os.environ["HUBBACKUP_E2E_LOG"]).write_text(log)


def test_no_secret_is_told_to_anybody(stack: Stack) -> None:
    """Neither password is in the log, in docker events, in a manifest, or in what S3 knows of an object."""
    name = first_backup(stack)["name"]
    events = (stack.directory / EVENTS).read_text()
    assert "exec_create: pg_dump" in events  # that is where an argument would show
    told = [stack.raw_logs(), events, json.dumps(stack.manifest(name))]
    for file in (name, manifest_of(name)):
        head = stack.s3.head_object(Bucket=BUCKET, Key=f"backups/{file}")
        tags = stack.s3.get_object_tagging(Bucket=BUCKET, Key=f"backups/{file}")
        told.append(json.dumps([head, tags], default=str))
    for text in told:
        assert PASSWORD not in text
        assert AWS_SECRET not in text


def test_gunzip_and_psql_alone_bring_the_database_back(stack: Stack) -> None:
    """Without hubbackup: `gunzip -t` accepts the file, and psql makes of it an equal database."""
    name = first_backup(stack)["name"]
    stack.run("docker", "exec", stack.container, "gunzip", "-t", f"{IN_CONTAINER}/{name}")
    stack.psql('CREATE DATABASE "restored"')
    gunzip = f"docker exec {stack.container} gunzip -c {IN_CONTAINER}/{name}"
    psql = f"docker exec -i {stack.db} psql -X -q -v ON_ERROR_STOP=1 -U {USER} restored"
    stack.run("bash", "-o", "pipefail", "-c", f"{gunzip} | {psql}")
    expected = fingerprint(stack.psql, DATABASE)
    assert sum(expected.row_counts.values()) > 10_000
    assert diff(expected, fingerprint(stack.psql, "restored"), properties=False) == []
    stack.psql('DROP DATABASE "restored"')


def test_the_next_scheduled_run_finds_a_recreated_database(stack: Stack) -> None:
    """Runs come on schedule; `up -d --force-recreate db` gives db another container, and they back up that one."""
    first_backup(stack)
    before = stack.inspect(stack.db, "{{.Id}}")
    stack.compose("up", "-d", "--force-recreate", "--wait", "db")
    assert stack.inspect(stack.db, "{{.Id}}") != before
    done = len(stack.logs("backup.finished"))
    closing = stack.until(lambda: stack.logs("backup.finished")[done:], 130, "a run on the new container")[0]
    assert closing["exit_code"] == 0
    assert closing["copies"] == ["local", "s3"]
    assert datetime.fromisoformat(stack.manifest(closing["name"])["started_at"]).second < 20


def test_the_container_becomes_healthy(stack: Stack) -> None:
    """HEALTHCHECK turns to healthy, and `hubbackup health` says why with exit code 0."""
    state = "{{.State.Health.Status}}"
    stack.until(lambda: stack.inspect(stack.container, state) == "healthy", 90, "a healthy container")
    assert "next backup: " in stack.run("docker", "exec", stack.container, "hubbackup", "health").stdout


def test_the_application_goes_first(stack: Stack) -> None:
    """Where the processors are busy the backup waits: an eighth of any other container's weight."""
    assert stack.inspect(stack.container, "{{.HostConfig.CpuShares}}") == "128"
    assert stack.inspect(stack.db, "{{.HostConfig.CpuShares}}") == "0"  # Docker's default, 1024


# ------------------------------------------------------------------------------------ by hand


def test_a_restart_applies_an_edited_env_file(quiet: Stack) -> None:
    """`docker compose restart backup-cron` reads .env.production again, and a misspelt name in it is pointed out."""
    shown = json.loads(quiet.hubbackup("config", "--json").stdout)
    assert shown["BACKUP_RETENTION_DAYS"]["value"] == "3"
    assert shown["POSTGRES_PASSWORD"]["value"] == "********"
    started = quiet.logs("daemon.started")
    assert started[0]["retention_days"] == 7
    assert started[-1]["retention_days"] == 3
    warning = quiet.logs("settings.warning")[-1]["message"]
    assert "BACKUP_RETENSION_DAYS" in warning
    assert "did you mean BACKUP_RETENTION_DAYS?" in warning


def test_the_log_is_where_the_guide_reads_it(quiet: Stack) -> None:
    """In the host's /var/log, after the container's name: whoever may look there can read it."""
    log = quiet.directory / "log" / f"{quiet.container}.log"
    assert log.stat().st_mode & 0o777 == 0o644
    assert '"Backup termine"' in log.read_text()


def test_an_edited_env_file_is_taken_up(quiet: Stack) -> None:
    """An editor replaces the file, as root's with 0600, and that is all: no restart, no `up -d`. A bad edit changes
    nothing, and whoever types a command hears of it."""
    seen = len(quiet.logs("daemon.started"))
    quiet.set_env(BACKUP_RETENTION_DAYS="4")
    started = quiet.until(lambda: quiet.logs("daemon.started")[seen:], 60, "the new setting")[0]
    assert started["retention_days"] == 4
    quiet.set_env(BACKUP_RETENTION_DAYS="four")
    quiet.until(lambda: quiet.logs("settings.refused"), 60, "the refusal")
    done = quiet.run("./scripts/backup.sh", check=False)
    assert (done.returncode, "BACKUP_RETENTION_DAYS=four" in done.stderr) == (2, True)
    assert "BACKUP_RETENTION_DAYS=four" in quiet.run("docker", "exec", quiet.container, "hubbackup", "health").stdout
    quiet.set_env(BACKUP_RETENTION_DAYS="3")
    quiet.until(lambda: quiet.logs("daemon.started")[seen + 1 :], 60, "the mended setting")


def test_a_bad_setting_does_not_hide(quiet: Stack) -> None:
    """Wrong from the start: the container stays up instead of restarting for ever, the guide's scripts say why, and
    the mended file is enough."""
    seen = len(quiet.logs())
    quiet.set_env(BACKUP_SCHEDULE="at three")
    quiet.compose("restart", "-t", "10", "backup-cron")
    refused = quiet.until(
        lambda: [line for line in quiet.logs()[seen:] if line["event"] == "settings.refused"], 60, "the refusal"
    )
    assert "no backup is scheduled: BACKUP_SCHEDULE=at three" in refused[0]["message"]
    for script in ("./scripts/backup.sh", "./scripts/check-backup-alert.sh"):
        done = quiet.run(script, check=False)
        assert done.returncode > 1
        assert "BACKUP_SCHEDULE=at three" in done.stdout + done.stderr
    assert quiet.run("docker", "exec", quiet.container, "hubbackup", "health", check=False).returncode == 1
    assert quiet.inspect(quiet.container, "{{.State.Status}} {{.RestartCount}}") == "running 0"
    quiet.set_env(BACKUP_SCHEDULE=QUIET["BACKUP_SCHEDULE"])
    quiet.until(lambda: [line for line in quiet.logs()[seen:] if line["event"] == "daemon.started"], 60, "the daemon")


def test_rotation_removes_the_old_and_nothing_else(quiet: Stack) -> None:
    """The next run removes backups past BACKUP_RETENTION_DAYS in both stores; what isn't ours, or is another
    database's, stays."""
    name = next(filter(OUR_NAME.fullmatch, quiet.local_names()), None) or quiet.backup()["name"]
    data, manifest = quiet.read(name), quiet.manifest(name)
    key = SigningKey(quiet.read(".hubbackup/manifest.key").strip())
    now = datetime.now(PARIS)
    aged = {days: name_at(now - timedelta(days=days)) for days in (2, 5, 9)}
    files = {"foreign.sql.gz": b"not ours", "autre_base_backup_20200101_030000.sql.gz": data}
    for days, old in aged.items():
        moment = (now - timedelta(days=days)).isoformat()
        fields = {**manifest, "name": old, "started_at": moment, "finished_at": moment}
        fields["hmac"] = key.sign(fields, PURPOSE)
        files |= {old: data, manifest_of(old): json.dumps(fields).encode()}
    for file, content in files.items():
        quiet.write(file, content)
        quiet.s3.put_object(Bucket=BUCKET, Key=f"backups/{file}", Body=content)
    outcome = quiet.backup()
    gone = {aged[5], aged[9]}
    assert set(outcome["pruned"]) == {f"{store}:{old}" for store in ("local", "s3") for old in gone}
    gone |= {manifest_of(old) for old in gone}
    for there in (quiet.local_names(), quiet.s3_names()):
        assert gone.isdisjoint(there)
        assert set(files) - gone <= set(there)


def test_the_guides_scripts_work(quiet: Stack) -> None:
    """`./scripts/backup.sh` makes a local copy only, with `--upload-s3` both; what S3 lacked goes there, too."""
    before = set(quiet.local_names())
    quiet.run("./scripts/backup.sh")
    (alone,) = {name for name in quiet.local_names() if name.endswith(".sql.gz")} - before
    assert alone not in quiet.s3_names()
    before = set(quiet.local_names())
    quiet.run("./scripts/backup.sh", "--upload-s3")
    (both,) = {name for name in quiet.local_names() if name.endswith(".sql.gz")} - before
    assert {alone, manifest_of(alone), both, manifest_of(both)} <= set(quiet.s3_names())


def test_an_incident_is_undone_by_the_guides_restore(quiet: Stack) -> None:
    """`./scripts/restore.sh PATH` brings the state of that backup back, the path as typed on the host."""
    name = quiet.backup()["name"]
    expected = fingerprint(quiet.psql, DATABASE)
    quiet.psql("DROP TABLE pointages CASCADE; DELETE FROM photos;", database=DATABASE)
    done = quiet.run("./scripts/restore.sh", f"{IN_CONTAINER}/{name}", "--yes")
    assert "./scripts/restore.sh --undo" in done.stdout
    assert re.search(r"docker compose( -f \S+)+ (--profile backup )?restart api", done.stdout)
    assert diff(expected, fingerprint(quiet.psql, DATABASE)) == []


def test_a_backup_from_s3_restores_beside_the_others(quiet: Stack) -> None:
    """`./scripts/restore.sh --from-s3 NAME` downloads, proves and restores; `--into` leaves the live one alone."""
    name = quiet.backup()["name"]
    quiet.run("./scripts/restore.sh", "--from-s3", name, "--into", "copie", "--yes")
    expected = fingerprint(quiet.psql, DATABASE)
    assert diff(expected, fingerprint(quiet.psql, "copie")) == []
    quiet.psql('DROP DATABASE "copie"')
    refused = quiet.run("./scripts/restore.sh", "--latest", check=False)
    assert (refused.returncode, "--yes" in refused.stderr) == (2, True)


def test_the_image_reaches_a_server_without_the_engine(quiet: Stack) -> None:
    """With BACKUP_SOURCE=direct the image's own client tools do it, those of the server's major where it has them."""
    variables = [word for pair in ("BACKUP_SOURCE=direct", "PGHOST=db") for word in ("-e", pair)]
    done = quiet.compose("exec", "-T", *variables, "backup-cron", "hubbackup", "doctor", "--json", check=False)
    found = {one["name"]: (one["status"], one["sentence"]) for one in json.loads(done.stdout)["findings"]}
    assert found["connection"] == ("ok", "db: not encrypted, and in no public network by its name")
    assert found["versions"][0] == "ok"
    assert found["versions"][1].startswith("pg_dump 17.")


def test_a_drill_restores_into_a_throwaway_server(quiet: Stack) -> None:
    """`hubbackup drill` takes the copy in S3, restores it in a container of the database's own image, removes it."""
    name = quiet.backup()["name"]
    outcome = json.loads(quiet.hubbackup("drill", "--store", "s3", "--json").stdout)
    assert (outcome["name"], outcome["store"], outcome["place"]) == (name, "s3", "a throwaway server")
    assert outcome["rows"] == sum(quiet.manifest(name)["rows"].values()) > 10_000
    assert outcome["rto_seconds"] > 0
    left = quiet.run("docker", "ps", "-aq", f"--filter=label=org.hubbackup.restore.drill-of={quiet.db}").stdout
    assert left == ""


def test_every_database_goes_to_two_buckets(quiet: Stack) -> None:
    """Five databases of one server, two buckets: with BACKUP_DATABASES=* and a mirror one run makes a backup of each,
    and each is on the disk and in both buckets; one of them, restored from the mirror, is what it was."""
    others, mirror = ("crm", "a,b", "données d'été", "-x"), f"{BUCKET}-mirror"
    for name in others:
        quiet.psql('CREATE DATABASE :"name"', variables={"name": name})
        quiet.psql("CREATE TABLE t AS SELECT generate_series(1, 100) AS i", database=name)
    quiet.s3.create_bucket(Bucket=mirror, CreateBucketConfiguration={"LocationConstraint": "fr-par"})
    settings = {
        "BACKUP_DATABASES": "*",
        "BACKUP_EXCLUDE_DATABASES": "postgres",
        "BACKUP_SCHEMA_DRILL": "false",
        "S3_MIRROR_BACKUP_BUCKET": mirror,
        "S3_MIRROR_ENDPOINT_URL": "http://s3:5000",
        "S3_MIRROR_DEFAULT_REGION": "fr-par",
    }
    variables = [word for name, value in settings.items() for word in ("-e", f"{name}={value}")]
    command = ["exec", "-T", *variables, "backup-cron", "hubbackup"]
    try:
        made = json.loads(quiet.compose(*command, "backup", "--json").stdout)["databases"]
        assert {one["database"] for one in made} == {DATABASE, *others}
        assert all(one["copies"] == ["local", "s3", "mirror"] for one in made)
        files = {f"backups/{one['name']}" for one in made}
        keys = [{entry["Key"] for entry in quiet.s3.list_objects_v2(Bucket=b)["Contents"]} for b in (BUCKET, mirror)]
        assert all(files <= found for found in keys)
        assert files <= {f"backups/{name}" for name in quiet.local_names()}
        (crm,) = [one["name"] for one in made if one["database"] == "crm"]
        expected = fingerprint(quiet.psql, "crm")
        quiet.psql("DROP TABLE t", database="crm")
        quiet.compose(*command, "restore", crm, "--from", "mirror", "--database", "crm", "--yes")
        assert diff(expected, fingerprint(quiet.psql, "crm")) == []
    finally:
        for name in json.loads(quiet.psql("SELECT jsonb_agg(datname) FROM pg_database")):
            if name.startswith((*others, "crm_")):
                quiet.psql('DROP DATABASE :"name" WITH (FORCE)', variables={"name": name})


@dataclass(frozen=True)
class Busy:
    """What was seen while a backup by `docker exec` waited for a locked table."""

    first_exit_code: int
    second: subprocess.CompletedProcess[str]
    processes: str
    """`docker top` of both containers."""
    statuses: list[str]
    """Command line and /proc/N/status of each process of hubbackup."""
    socket_group: str


@pytest.fixture(scope="module")
def busy(quiet: Stack) -> Busy:
    """A run is held up, others try and look, then it may go on to its end."""
    in_container = ("docker", "exec", quiet.container)
    each = 'for p in /proc/[0-9]*; do tr "\\0" " " < $p/cmdline; echo; cat $p/status; echo ----; done'
    with subprocess.Popen(
        [*in_container, "hubbackup", "backup"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as first:
        with quiet.table_locked():
            quiet.until_pg_dump_waits()
            second = quiet.run("./scripts/backup.sh", check=False)
            processes = "".join(quiet.run("docker", "top", one).stdout for one in (quiet.container, quiet.db))
            listed = quiet.run(*in_container, "sh", "-c", each, check=False).stdout
        first.communicate(timeout=60)
    statuses = [text for text in listed.split("----\n") if "/opt/venv/bin/hubbackup" in text.split("\n", 1)[0]]
    group = quiet.run(*in_container, "stat", "-c", "%g", "/var/run/docker.sock").stdout
    return Busy(first.returncode, second, processes, statuses, group)


def test_a_second_run_is_refused_while_one_is_at_work(busy: Busy) -> None:
    """Exit code 4 comes through the script, and the first run is not disturbed."""
    assert busy.second.returncode == 4
    assert "another run of hubbackup is at work" in busy.second.stderr
    assert busy.first_exit_code == 0


def test_no_process_shows_a_secret(busy: Busy) -> None:
    """While pg_dump runs, no argument of any process in either container is a password."""
    assert re.search(r"pg_dump .*--format=plain", busy.processes)
    assert PASSWORD not in busy.processes
    assert AWS_SECRET not in busy.processes


def test_nothing_of_hubbackup_runs_as_root(busy: Busy) -> None:
    """Daemon and `docker exec` alike: another user, the socket's group alone, no capability, no way to gain one."""
    commands = [status.split("\n", 1)[0].split()[-1] for status in busy.statuses]
    assert {"daemon", "backup"} <= set(commands), "and perhaps the health check, at that very moment"
    for status in busy.statuses:
        facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert facts["Uid"].split() == ["10001"] * 4, status
        assert facts["Groups"].split() == busy.socket_group.split()
        assert int(facts["CapEff"], 16) == 0
        assert facts["NoNewPrivs"] == "1"


# ------------------------------------------------------------------------------------ when things fail


def test_without_s3_a_run_is_degraded_and_the_next_one_catches_up(quiet: Stack) -> None:
    """S3 down: a good local copy, exit code 3, the guide's warning. S3 back: the next run uploads what it lacks."""
    with quiet.s3_unreachable():
        degraded = quiet.run("./scripts/backup.sh", "--upload-s3", "--json", check=False)
    assert degraded.returncode == 3, degraded.stderr
    outcome = json.loads(degraded.stdout)
    name = outcome["name"]
    assert outcome["copies"] == ["local"]
    assert "AVERTISSEMENT: Echec upload S3" in degraded.stderr
    assert {name, manifest_of(name)} <= set(quiet.local_names())
    quiet.run("docker", "exec", quiet.container, "gunzip", "-t", f"{IN_CONTAINER}/{name}")
    assert name not in quiet.s3_names()
    assert quiet.backup()["uploaded_late"] == [name]
    assert {name, manifest_of(name)} <= set(quiet.s3_names())


@contextmanager
def a_run_at_each_start(stack: Stack) -> Iterator[None]:
    """BACKUP_ON_START meanwhile: with it a restart is how to make the daemon itself begin a run at once."""
    stack.set_env(BACKUP_ON_START="true")
    try:
        yield
    finally:
        stack.set_env(BACKUP_ON_START="false")
        stack.run("docker", "start", stack.container)


def test_a_stopped_database_fails_the_run_and_not_the_daemon(quiet: Stack) -> None:
    """Exit code 1 with one sentence that names the service and how to start it; the daemon goes on."""
    seen = len(quiet.logs("backup.failed"))
    quiet.compose("stop", "-t", "10", "db")
    try:
        failed = quiet.run("./scripts/backup.sh", check=False)
        with a_run_at_each_start(quiet):
            quiet.restart()
            line = quiet.until(lambda: quiet.logs("backup.failed")[seen:], 30, "a failed run")[0]
    finally:
        quiet.compose("up", "-d", "--no-recreate", "--wait", "db")
    assert failed.returncode == 1
    assert f"the database's container {quiet.db} is not running" in failed.stderr
    assert re.search(r"docker compose( -f \S+)+ (--profile backup )?up -d db", failed.stderr)
    assert line["exit_code"] == 1
    assert line["cause"] in failed.stderr
    assert line["remedy"] in failed.stderr
    quiet.run("docker", "exec", quiet.container, "hubbackup", "health")


def partials(stack: Stack) -> list[str]:
    """Unfinished files in the backup directory."""
    return [name for name in stack.local_names() if name.endswith(".partial")]


def stop(stack: Stack) -> tuple[str, float]:
    """`docker stop`, and (exit code, seconds)."""
    clock = time.monotonic()
    stack.run("docker", "stop", stack.container)
    return stack.inspect(stack.container, "{{.State.ExitCode}}"), time.monotonic() - clock


def test_docker_stop_in_the_middle_of_a_dump_leaves_nothing(quiet: Stack) -> None:
    """Exit code 143 within the ten seconds that Docker waits, no `.partial`, no connection left in the database."""
    with a_run_at_each_start(quiet):
        with quiet.table_locked():
            quiet.restart()
            quiet.until_pg_dump_waits()
            assert len(partials(quiet)) == 1
            exit_code, seconds = stop(quiet)
            assert quiet.backends() == 0
        assert exit_code == "143"
        assert seconds < 10
        assert partials(quiet) == []
        assert quiet.logs("daemon.stopped")[-1]["clean"] is True


def test_docker_stop_does_not_wait_for_a_dead_s3(quiet: Stack) -> None:
    """Also with an S3 that takes connections and never answers, the container ends in time and by itself."""
    with a_run_at_each_start(quiet), quiet.s3_paused():
        quiet.restart()
        time.sleep(2)  # the run has begun and waits for S3: there is no sign of it that could be polled
        exit_code, seconds = stop(quiet)
        assert exit_code == "143"
        assert seconds < 10
        assert partials(quiet) == []


def test_what_a_killed_run_left_is_removed_by_the_next(quiet: Stack) -> None:
    """After `docker kill` pg_dump goes on and a `.partial` stays: the next run ends the one and removes the other."""
    with a_run_at_each_start(quiet), quiet.table_locked():
        quiet.restart()
        quiet.until_pg_dump_waits()
        quiet.run("docker", "kill", quiet.container)
        assert quiet.backends() == 1
        (left,) = partials(quiet)
        seen = len(quiet.logs())
        quiet.run("docker", "start", quiet.container)
        quiet.until(lambda: [line for line in quiet.logs()[seen:] if line["event"] == "backup.started"], 30, "a run")
        told = {line["event"]: line for line in quiet.logs()[seen:]}
        assert told["orphans.ended"]["count"] == 1
        assert told["leftovers.removed"]["names"] == [left]
        assert left not in partials(quiet)
    quiet.until(lambda: [line for line in quiet.logs()[seen:] if line["event"] == "backup.finished"], 30, "its end")


# ------------------------------------------------------------------------------------ the compose file itself


def test_the_compose_file_is_valid_by_itself(quiet: Stack) -> None:
    """Also without a compose file of the user's, and with the names that the guide uses."""
    argv = (
        "docker",
        "compose",
        "-f",
        "docker-compose.backup.yml",
        "--profile",
        "backup",
        "config",
        "--format",
        "json",
    )
    shown = quiet.run("env", "-u", "BACKUP_CONTAINER", *argv).stdout
    service = json.loads(shown)["services"]["backup-cron"]
    assert service["container_name"] == "hub-chantier-backup"
    assert service["profiles"] == ["backup"]
    mounts = {mount["target"]: mount["source"] for mount in service["volumes"]}
    assert mounts["/var/backups/hub-chantier"] == "/var/backups/hub-chantier"
    assert mounts["/var/run/docker.sock"] == "/var/run/docker.sock"


def test_an_include_makes_the_guides_command_work(quiet: Stack) -> None:
    """With `include:` in docker-compose.prod.yml, `-f docker-compose.prod.yml` alone starts a service that works."""
    file = quiet.directory / "docker-compose.prod.yml"
    own = file.read_text()
    include = "include: [{path: [docker-compose.backup.yml, docker-compose.test.yml]}]\n"
    file.write_text(include + own)
    try:
        quiet.compose("rm", "--stop", "--force", "backup-cron", files=(file.name,))
        started = quiet.compose("up", "-d", "backup-cron", files=(file.name,))
        assert "Started" in started.stderr
        quiet.until(lambda: quiet.logs("daemon.started"), 30, "the daemon")
        assert json.loads(quiet.run("./scripts/backup.sh", "--upload-s3", "--json").stdout)["copies"] == [
            "local",
            "s3",
        ]
        # What the guide says to write into the file, without the test's own override.
        file.write_text("include: [docker-compose.backup.yml]\n" + own)
        assert "hub-chantier-backup" in quiet.compose("config", files=(file.name,)).stdout
    finally:
        file.write_text(own)


def test_a_command_in_the_image_compiles_nothing(stack: Stack) -> None:
    """Without root it could not keep it, and each command and health check would take a second more."""
    script = (
        "import boto3, docker, hubbackup.app, hubbackup.cli, hubbackup.daemon.service, hubbackup.stores.s3, os, sys\n"
        "names = {m.__name__: getattr(m, '__cached__', None) for m in list(sys.modules.values())}\n"
        "print(len(names), [name for name, kept in names.items() if kept and not os.path.exists(kept)])"
    )
    run = ["docker", "run", "--rm", "--entrypoint", "/opt/venv/bin/python", IMAGE, "-B", "-c", script]
    count, _, missing = subprocess.run(run, capture_output=True, text=True, check=True).stdout.partition(" ")
    assert int(count) > 500
    assert missing.strip() == "[]"


def test_the_image_is_small(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside its base image it takes 90 MB at most."""
    base = re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[-1]
    whole, beneath = int(stack.inspect(IMAGE, "{{.Size}}")), int(stack.inspect(base, "{{.Size}}"))
    added = whole - beneath
    with capsys.disabled():
        print(f"\nimage {whole / 1e6:.0f} MB: {base} {beneath / 1e6:.0f} MB, and {added / 1e6:.0f} MB of ours")
    assert added < MOST_BYTES_BESIDE_BASE
