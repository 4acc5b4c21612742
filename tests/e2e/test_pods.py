"""What deploy/kubernetes describes, run as two plain containers: its settings, its rights, its mounts, its probe."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hubbackup.catalog.backup import BackupName
from tests.e2e.stack import AWS_SECRET, BUCKET, ENV, IMAGE, PASSWORD, Stack
from tests.unit.test_deploy import SECRETS, of_kind, pod_of

pytestmark = pytest.mark.timeout(300)
FILES = {
    "postgres-password": PASSWORD,
    "aws-access-key-id": ENV["AWS_ACCESS_KEY_ID"],
    "aws-secret-access-key": AWS_SECRET,
    "manifest-key": "one key for all pods, kept elsewhere too",
}
PLACE = {
    "PGHOST": "db",
    "S3_ENDPOINT_URL": ENV["S3_ENDPOINT_URL"],
    "S3_PREFIX": "pods/",
    "BACKUP_SCHEDULE": "0 3 29 2 *",
    "VERIFY_SCHEDULE": "off",
}
"""What is another one's here: where server and bucket are, and a time at which nothing else happens."""


@dataclass(frozen=True)
class Pod:
    """A container as the Deployment's pod has it."""

    stack: Stack
    name: str

    def logs(self) -> list[dict[str, Any]]:
        """What it has said."""
        done = self.stack.run("docker", "logs", self.name)
        return [json.loads(line) for line in (done.stdout + done.stderr).splitlines()]

    def said(self, *events: str) -> list[dict[str, Any]]:
        """The lines of these events."""
        return [line for line in self.logs() if line["event"] in events]

    def execute(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """`kubectl exec`."""
        return self.stack.run("docker", "exec", self.name, *argv, check=False)


def options(secrets: Path) -> list[str]:
    """What `docker run` needs to be told of the pod's description."""
    pod = pod_of("daemon")
    (container,) = pod["containers"]
    rights, own = pod["securityContext"], container["securityContext"]
    user = f"{rights['runAsUser']}:{rights['runAsGroup']}"
    words = ["--user", user, "--cap-drop", *own["capabilities"]["drop"], "--memory", "512m"]
    words += ["--read-only"] if own["readOnlyRootFilesystem"] else []
    words += [] if own["allowPrivilegeEscalation"] else ["--security-opt", "no-new-privileges"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    for mount in container["volumeMounts"]:
        if "emptyDir" in volumes[mount["name"]]:
            # As Kubernetes makes it with fsGroup: root's, of the pod's group, and empty.
            made = f'"volume-opt=o=mode=2777,gid={rights["fsGroup"]}",volume-opt=type=tmpfs,volume-opt=device=tmpfs'
            words += ["--mount", f"type=volume,volume-nocopy,dst={mount['mountPath']},{made}"]
        else:
            words += ["--volume", f"{secrets}:{mount['mountPath']}:ro"]
    for name, value in (of_kind("daemon", "ConfigMap")["data"] | PLACE).items():
        words += ["--env", f"{name}={value}"]
    return words


BESIDE = ("backup.not_needed", "backup.not_first")
"""What the one says that finds the other's backup in the bucket: at its own run, or before."""


@contextmanager
def pods(stack: Stack, secrets: Path) -> Iterator[list[Pod]]:
    """As many as the Deployment has replicas."""
    names = [f"{stack.project}-pod-{number}" for number in range(of_kind("daemon", "Deployment")["spec"]["replicas"])]
    try:
        for name in names:
            network = f"{stack.project}_default"
            stack.run("docker", "run", "--detach", "--name", name, "--network", network, *options(secrets), IMAGE)
        yield [Pod(stack, name) for name in names]
    except AssertionError as error:
        logs = [stack.run("docker", "logs", name, check=False) for name in names]
        raise AssertionError("\n".join([str(error), *(done.stdout + done.stderr for done in logs)])) from None
    finally:
        stack.run("docker", "rm", "--force", "--volumes", *names, check=False)


def test_two_pods_make_one_backup(quiet: Stack, tmp_path: Path) -> None:
    """Started at once, before there is any backup: one makes it, the other finds it in the bucket and steps back, or
    finds it there already where its start took longer.
    Both are healthy, without root, and can write to their mounts alone; the doctor finds no failure."""
    secrets = tmp_path / Path(SECRETS).name
    secrets.mkdir()
    for name, content in FILES.items():
        (secrets / name).write_text(f"{content}\n")
    tmp_path.chmod(0o755)
    with pods(quiet, secrets) as two:
        ended = [
            quiet.until(lambda pod=pod: pod.said("backup.finished", *BESIDE), 60, "its first backup")[0]
            for pod in two
        ]
        finished, other = sorted(ended, key=lambda end: end["event"] != "backup.finished")
        assert (finished["event"], finished["exit_code"]) == ("backup.finished", 0)
        assert other["event"] in BESIDE
        assert other.get("exit_code", 0) == 0
        made = [end["name"] for end in ended if end["event"] == "backup.finished"]
        listed = quiet.s3.list_objects_v2(Bucket=BUCKET, Prefix="pods/")["Contents"]
        names = [entry["Key"].removeprefix("pods/") for entry in listed]
        assert [name for name in names if BackupName.parse(name)] == made
        for pod in two:
            (probe,) = [pod_of("daemon")["containers"][0]["livenessProbe"]["exec"]["command"]]
            assert pod.execute(*probe).returncode == 0
            assert pod.execute("id", "-u").stdout.strip() == "10001"
            assert pod.execute("touch", "/usr/mine").returncode != 0
            assert pod.execute("hubbackup", "verify", made[0], "--store", "s3").returncode == 0
        findings = json.loads(two[0].execute("hubbackup", "doctor", "--json").stdout)["findings"]
        assert [one for one in findings if one["status"] == "fail"] == []
