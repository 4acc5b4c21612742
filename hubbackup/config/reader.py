"""Who reads a remedy, and how its commands are typed where they stand: in the container, or on the host.

A remedy is written as `hubbackup list`, `docker compose restart backup-cron` and `docker logs hub-chantier-backup`.
`Reader.typable` makes of these what can be typed as it is shown.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CALLED_AS = "HUBBACKUP_CALLED_AS"
"""Set by scripts/hubbackup: its own path, as it was typed on the host."""
IN_CONTAINER = "HUBBACKUP_IN_CONTAINER"
"""Set by docker/backup-cron/hubbackup."""
OWN_NAME = "HUBBACKUP_CONTAINER"
"""Set by docker-compose.backup.yml: the container's name, which a second project on the host has changed."""
CONTAINER = "hub-chantier-backup"
GUIDE_FILES = ("docker-compose.prod.yml",)
SERVICE = "backup-cron"
SCRIPTS = ("scripts", "hubbackup/scripts")
"""Where the commands of the guide are, below the application's directory: linked by install.sh, or in the clone."""
VERBS = (
    "accept|adopt|backup|check|config|daemon|diff|doctor|drill|extract|health|keygen|lifecycle|list|notify-test|pin"
    "|prune|recover|restore|show|status|unpin|verify"
)
COMMAND = re.compile(rf"(?<![\w./-])(?<!{SERVICE} )hubbackup (?P<verb>{VERBS})(?![\w-])")
COMPOSE = re.compile(
    r"docker compose(?: -f \S+)*(?: --profile backup)?"
    r"(?= (?:build|cp|exec|logs|ps|pull|restart|run|start|stop|up)\b)(?P<ours>(?=[^;,)]*\bbackup-cron\b))?"
)
OF_CONTAINER = re.compile(rf"(?P<command>\bdocker (?:exec|logs) ){CONTAINER}(?![\w.-])")


@dataclass(frozen=True)
class Reader:
    """How each command begins where somebody reads it."""

    hubbackup: str = "hubbackup"
    restore: str = ""
    """Of the restore alone, where there is a script for it."""
    files: tuple[str, ...] = GUIDE_FILES
    """The compose files in use, from the application's directory."""
    container: str = CONTAINER

    def typable(self, text: str) -> str:
        """`text` with its commands as they are typed here. What was changed already stays as it is."""
        named = OF_CONTAINER.sub(lambda found: f"{found['command']}{self.container}", text)
        return COMPOSE.sub(self._compose, COMMAND.sub(self._command, named))

    def _command(self, found: re.Match[str]) -> str:
        if self.restore and found["verb"] == "restore":
            return self.restore
        return f"{self.hubbackup} {found['verb']}"

    def _compose(self, found: re.Match[str]) -> str:
        return compose_command(self.files) + (" --profile backup" if found["ours"] is not None else "")


def compose_command(files: Sequence[str]) -> str:
    """`docker compose -f …`."""
    return " ".join(["docker compose", *(f"-f {shlex.quote(file)}" for file in files)])


def of_scripts(command: str, files: Sequence[str] = GUIDE_FILES, container: str = CONTAINER) -> Reader:
    """A reader who types `command`, which is scripts/hubbackup by some path."""
    restore = str(Path(command).with_name("restore.sh"))
    if command.startswith("./"):
        restore = f"./{restore}"
    return Reader(shlex.quote(command), shlex.quote(restore), tuple(files), container)


def at_terminal(learned: Any = None, environ: Mapping[str, str] | None = None, parent: int | None = None) -> Reader:
    """Whoever has typed the command that runs in this process. `learned`: what `compose_facts` has kept."""
    environ = os.environ if environ is None else environ
    files, container = _files(learned), _container(environ)
    if environ.get(CALLED_AS):
        return of_scripts(environ[CALLED_AS], files, container)
    # A process that `docker exec` starts from the host has no parent here; one that a shell started has.
    if (os.getppid() if parent is None else parent) == 0:
        return on_host(learned, environ)
    return Reader(files=files, container=container)


def on_host(learned: Any = None, environ: Mapping[str, str] | None = None) -> Reader:
    """Somebody in the application's directory on the host, as who reads an alert, a log or the status page."""
    environ = os.environ if environ is None else environ
    files, container = _files(learned), _container(environ)
    if not environ.get(IN_CONTAINER):
        return Reader(files=files, container=container)
    application = Path(
        environ.get("BACKUP_ENV_FILE", "").removeprefix(environ.get("HUBBACKUP_COPIES_DIR", ""))
    ).parent
    for scripts in SCRIPTS:
        # Not by Path: that raises where the application's directory may not be looked into.
        if application.is_absolute() and os.path.isfile(application / scripts / "hubbackup"):
            return of_scripts(f"./{scripts}/hubbackup", files, container)
    command = f"{compose_command(files)} --profile backup exec {SERVICE} hubbackup"
    return Reader(command, files=files, container=container)


def in_container(environ: Mapping[str, str] | None = None) -> bool:
    """Whether this process runs in the image's container."""
    return bool((os.environ if environ is None else environ).get(IN_CONTAINER))


def compose_facts(labels: Mapping[str, str]) -> dict[str, Any]:
    """What the labels of our own container tell of the compose files, to be kept for `at_terminal` and `on_host`."""
    directory = labels.get("com.docker.compose.project.working_dir", "")
    files = filter(None, labels.get("com.docker.compose.project.config_files", "").split(","))
    return {"files": [file.removeprefix(f"{directory}/") for file in files]}


def _files(learned: Any) -> tuple[str, ...]:
    files = learned.get("files") if isinstance(learned, dict) else None
    if isinstance(files, list) and files and all(isinstance(file, str) for file in files):
        return tuple(files)
    return GUIDE_FILES


def _container(environ: Mapping[str, str]) -> str:
    return environ.get(OWN_NAME) or CONTAINER
