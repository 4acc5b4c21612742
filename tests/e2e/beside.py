"""An application's directory on a server, as an operator has it: hubbackup comes into it by the documents' commands.

Commands are typed as the documents have them, on a terminal. `Application.typed` replaces what two runs on one
machine would fight over (the container's name, directories of the host) and what is not here (the vendor's address,
the names of somebody's backups).
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.stack import AWS_SECRET, BUCKET, DATABASE, IMAGE, PASSWORD, ROOT, SERVICES, USER, VOLUMES, s3_at
from tests.support import Psql, psql_through

API = """\
  api:
    image: python:3.13-slim
    command: [python3, -m, http.server, "8000"]
    ports: ["127.0.0.1::8000"]
    init: true
    stop_grace_period: 1s
"""
PROD_YML = SERVICES + API + VOLUMES
QUESTION = re.compile(r"Type (?:the database's name \(([^)]+)\)|(yes)) to go on: $")
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
STEP_SECONDS = 240
SCRIPT_SECONDS = 2
"""How long a command that follows a log is looked at."""


@dataclass(frozen=True)
class Shown:
    """A block that was typed: what was on the screen, and how it ended."""

    code: int
    screen: str


class Application:
    """A directory of its own, whose name is the compose project's. Nothing of hubbackup is there yet."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="hub-chantier-"))
        self.project = self.directory.name
        self.container = f"{self.project}-backup"
        self.backups = self.directory.with_name(f"{self.project}-files")
        self.clones: list[Path] = []
        for name in ("Dockerfile", ".dockerignore", "README.md"):
            (self.directory / name).write_text("the application's own\n")
        (self.directory / "docker-compose.prod.yml").write_text(PROD_YML)
        (self.directory / ".env").write_text(
            f"BACKUP_CONTAINER={self.container}\nBACKUP_HOST_DIR={self.backups}\nHUBBACKUP_IMAGE={IMAGE}\n"
            f"BACKUP_LOG_DIR={self.directory}/log\n"
        )
        settings = {
            "POSTGRES_DB": DATABASE,
            "POSTGRES_USER": USER,
            "POSTGRES_PASSWORD": PASSWORD,
            "TZ": "Europe/Paris",
        }
        self.env_file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))

    @property
    def env_file(self) -> Path:
        return self.directory / ".env.production"

    # ------------------------------------------------------------------------------------- typing

    def typed(self, text: str) -> str:
        """A block as it is typed on this machine."""
        newest = self.newest() if re.search(r"20260208|NAME|NOM|FILE|FICHIER", text) else ""
        endpoint = f"http://{self.s3_address}" if "aws " in text else "http://s3:5000"
        health = f"http://{self.api_address}/" if "localhost:8000" in text else ""
        changes = (
            (r"/var/log/hub-chantier-backup\.log", f"{self.directory}/log/{self.container}.log"),
            (r"/var/backups/hub-chantier\b", str(self.backups)),
            (r"/var/backups\b", str(self.backups)),
            (r"\bhub-chantier-backup\b(?!s|\.log)", self.container),
            (r"/home/deploy/hub-chantier\b", str(self.directory)),
            (r"hub_chantier_backup_20260208_030000\.sql\.gz|\b(NAME|NOM)\b", newest),
            (r"\b(FILE|FICHIER)\b", f"{self.backups}/{newest}"),
            (r"https://s3\.fr-par\.scw\.cloud", endpoint),
            (r"\bvotre_secret|your_secret\b", AWS_SECRET),
            (r"\bhttp://localhost:8000/health", health),
            (r"\b(tail -f|docker logs \S+ --tail 100 -f)\b", rf"timeout {SCRIPT_SECONDS} \1"),
            (r"\bsudo ", ""),
            (r"\baws ", "/usr/bin/aws "),
        )
        for pattern, word in changes:
            text = re.sub(pattern, word, text)
        return text

    def type(self, text: str, answer: str = "") -> Shown:
        """Type a block in the application's directory, on a terminal; `answer` goes to whatever asks for a name.

        Returns when the shell has ended. It ends at the first command that fails.
        """
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            ["bash", "-ec", self.typed(text)],
            cwd=self.directory,
            env=self._environment(),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        said, deadline = "", time.monotonic() + STEP_SECONDS
        try:
            while select.select([ours], [], [], max(0.0, deadline - time.monotonic()))[0]:
                try:
                    said += os.read(ours, 65536).decode(errors="replace")
                except OSError:  # the shell has closed the other side
                    break
                question = QUESTION.search(said)
                if question is not None:
                    os.write(ours, f"{answer or question[1] or question[2]}\n".encode())
                    said += "\n"
            code = process.wait(timeout=max(1.0, deadline - time.monotonic()))
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait()
            os.close(ours)
        return Shown(code, ESCAPES.sub("", said).replace("\r", ""))

    def _environment(self) -> dict[str, str]:
        env = {
            name: value for name, value in os.environ.items() if not name.startswith(("COMPOSE_", "BACKUP_", "AWS_"))
        }
        return {
            **env,
            "TERM": "xterm",
            "COLUMNS": "200",
            "AWS_ACCESS_KEY_ID": "SCWE2E",
            "AWS_SECRET_ACCESS_KEY": AWS_SECRET,
            "AWS_DEFAULT_REGION": "fr-par",
            "DOCKER_BUILDKIT": "0" if _without_buildx() else "1",
            # `git clone` takes this checkout for the address of the reader's copy.
            "GIT_CONFIG_COUNT": "2",
            "GIT_CONFIG_KEY_0": f"url.{ROOT}.insteadOf",
            "GIT_CONFIG_VALUE_0": "https://example.org/hubbackup.git",
            "GIT_CONFIG_KEY_1": "safe.directory",
            "GIT_CONFIG_VALUE_1": "*",
        }

    # ------------------------------------------------------------------------------------- looking

    def newest(self) -> str:
        """The name of the newest backup there, or of the newest in S3."""
        names = sorted(path.name for path in self.backups.glob("*.sql.gz")) if self.backups.exists() else []
        return names[-1] if names else self.s3_names()[-1]

    def s3_names(self) -> list[str]:
        """The backups in the bucket."""
        listed = s3_at(self.s3_address).list_objects_v2(Bucket=BUCKET, Prefix="backups/").get("Contents", ())
        return sorted(entry["Key"].removeprefix("backups/") for entry in listed if entry["Key"].endswith(".sql.gz"))

    @property
    def s3_address(self) -> str:
        return self._port("s3", 5000)

    @property
    def api_address(self) -> str:
        return self._port("api", 8000)

    def _port(self, service: str, port: int) -> str:
        return self.compose("port", service, str(port)).stdout.strip()

    @property
    def psql(self) -> Psql:
        """psql in the database's container."""
        return psql_through("docker", "exec", "-i", f"{self.project}-db-1", "psql", "-U", USER)

    def compose(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`docker compose -f docker-compose.prod.yml --profile backup …`."""
        argv = ["docker", "compose", "-f", "docker-compose.prod.yml", "--profile", "backup", *arguments]
        return subprocess.run(
            argv,
            cwd=self.directory,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=180,
            check=check,
        )

    # ------------------------------------------------------------------------------------- losing

    def lose_the_server(self) -> None:
        """All but what lies elsewhere: the bucket, the application's repository, and `.env.production`."""
        self.compose("rm", "--stop", "--force", "--volumes", "db", "api", "backup-cron")
        subprocess.run(["docker", "volume", "rm", f"{self.project}_db-data"], capture_output=True, check=True)
        shutil.rmtree(self.directory / "hubbackup")
        shutil.rmtree(self.directory / "scripts")
        shutil.rmtree(self.backups)
        (self.directory / "docker-compose.prod.yml").write_text(PROD_YML)

    def remove(self) -> None:
        """Containers, networks, volumes and files."""
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "1", check=False)
        subprocess.run(["docker", "rm", "-f", self.container], capture_output=True, check=False)
        for directory in (self.directory, self.backups):
            shutil.rmtree(directory, ignore_errors=True)


def _without_buildx() -> bool:
    return subprocess.run(["docker", "buildx", "version"], capture_output=True, check=False).returncode != 0
