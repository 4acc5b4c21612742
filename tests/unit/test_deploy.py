"""What deploy/ holds fits Kubernetes, Swarm and hubbackup's own settings, and gives no pod more than it needs."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from hubbackup.config.load import load_settings

DEPLOY = Path(__file__).parents[2] / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
VERSIONS = ("1.31.0", "1.37.0")
"""The oldest in which `podFailurePolicy` is not an experiment any more, and the newest there is here."""
VARIANTS = ("daemon", "cronjob")
SECRETS = "/run/secrets/hubbackup"


def documents(directory: Path) -> Iterator[dict[str, Any]]:
    """What `kubectl kustomize` would gather: the kustomizations here name resources and nothing else."""
    kustomization = yaml.safe_load((directory / "kustomization.yaml").read_text())
    assert kustomization.keys() == {"apiVersion", "kind", "resources"}
    for name in kustomization["resources"]:
        path = directory / name
        if path.is_dir():
            yield from documents(path.resolve())
        else:
            yield yaml.safe_load(path.read_text())


def of_kind(variant: str, kind: str) -> dict[str, Any]:
    (found,) = [one for one in documents(KUBERNETES / variant) if one["kind"] == kind]
    return found


def pod_of(variant: str) -> dict[str, Any]:
    """The pod's own description."""
    if variant == "daemon":
        found: dict[str, Any] = of_kind(variant, "Deployment")["spec"]["template"]["spec"]
    else:
        found = of_kind(variant, "CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return found


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_each_object_is_one_of_kubernetes(variant: str, version: str) -> None:
    """By its own schemas, strictly: a field that is misspelt or in the wrong place is an error."""
    found = list(documents(KUBERNETES / variant))
    for document in found:
        kubernetes_validate.validate(document, version, strict=True)
    assert found == list(documents(KUBERNETES)) or variant != "daemon"
    broken = {**found[-1], "spec": {**found[-1]["spec"], "replica": 2}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, version, strict=True)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_pod_has_no_right_that_it_does_not_need(variant: str) -> None:
    """No root, no token of the cluster, no capability; it writes to its own emptyDirs; secrets are files."""
    pod = pod_of(variant)
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "env" not in container  # where a secret would be a variable
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    for mount in container["volumeMounts"]:
        volume = volumes[mount["name"]]
        assert "emptyDir" in volume or ("secret" in volume and mount["readOnly"])
    assert container["resources"]["limits"]["memory"]


def test_the_daemons_are_two_and_are_looked_after() -> None:
    """Two replicas, each asked by `hubbackup health`."""
    deployment = of_kind("daemon", "Deployment")
    assert deployment["spec"]["replicas"] == 2
    (container,) = pod_of("daemon")["containers"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["exec"]["command"] == ["hubbackup", "health"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    for document in documents(KUBERNETES):
        if document["kind"] == "PodDisruptionBudget":
            assert document["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_a_cron_job_tries_again_only_what_may_help() -> None:
    """Never with bad settings, while another run is at work, or for a backup that is there already."""
    job = of_kind("cronjob", "CronJob")["spec"]
    assert job["concurrencyPolicy"] == "Forbid"
    (rule,) = job["jobTemplate"]["spec"]["podFailurePolicy"]["rules"]
    assert rule["action"] == "FailJob"
    assert rule["onExitCodes"]["values"] == [2, 3, 4]
    assert pod_of("cronjob")["containers"][0]["args"] == ["backup", "--upload-s3"]


def filled(environ: dict[str, str], directory: str, secrets: Path) -> dict[str, str]:
    """The same with the files of the secrets below `secrets`, which are made."""
    for name, value in environ.items():
        if name.endswith("_FILE"):
            (secrets / Path(value).name).write_text("a secret of sixteen letters or more\n")
    return {name: value.replace(directory, str(secrets)) for name, value in environ.items()}


def test_the_settings_are_hubbackups(tmp_path: Path) -> None:
    """Kubernetes' ConfigMap and Swarm's file: every name is a setting, each value is taken, no secret stands in them,
    and each file of a secret is one that is mounted."""
    config = of_kind("daemon", "ConfigMap")
    (source,) = pod_of("daemon")["containers"][0]["envFrom"]
    assert source["configMapRef"]["name"] == config["metadata"]["name"]
    of_swarm = dict(
        line.split("=", 1) for line in (DEPLOY / "swarm.env").read_text().splitlines() if line[:1] not in ("", "#")
    )
    stack = yaml.safe_load((DEPLOY / "swarm.yml").read_text())
    mounted = {secret["source"] for secret in stack["services"]["hubbackup"]["secrets"]}
    assert {Path(value).name for name, value in of_swarm.items() if name.endswith("_FILE")} == mounted
    for environ, directory in ((config["data"], SECRETS), (of_swarm, "/run/secrets")):
        loaded = load_settings(filled(environ, directory, tmp_path))
        assert loaded.warnings == ()
        settings = loaded.settings
        assert settings.backup_source == "direct"
        assert settings.s3_backup_bucket
        assert settings.backup_manifest_key.get_secret_value()
        assert not {"POSTGRES_PASSWORD", "AWS_SECRET_ACCESS_KEY", "BACKUP_MANIFEST_KEY"} & environ.keys()


@pytest.mark.skipif(shutil.which("docker") is None, reason="DOCKER-MISSING no docker command")
def test_swarm_takes_its_stack() -> None:
    """`docker stack config` reads it as `docker stack deploy` does, and ignores nothing in it."""
    done = subprocess.run(
        ["docker", "stack", "config", "--compose-file", str(DEPLOY / "swarm.yml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    service = yaml.safe_load(done.stdout)["services"]["hubbackup"]
    assert service["read_only"] is True
    assert service["user"] == "10001:10001"
    assert service["cap_drop"] == ["ALL"]
    assert service["deploy"]["replicas"] == 2
    assert service["deploy"]["placement"]["max_replicas_per_node"] == 1
