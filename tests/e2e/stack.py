"""A user's compose project, made for one test session: what is in it, how to drive it, how to be rid of it.

The files are those of a user who follows the guide. The repository's own docker-compose.backup.yml is among them,
unchanged; `docker-compose.test.yml` overrides only what two runs on one machine would fight over.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from tests.support import Psql, psql_through
from tests.support.moments import wait_until

ROOT = Path(__file__).parents[2]
IMAGE = f"hubbackup:e2e-{hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]}"
"""One tag for each checkout: it stays for the next session, whose build then takes a second."""
PASSWORD = "canary-Mot2Passe"
AWS_SECRET = "canary-Cl3Secrete"
DATABASE, USER, BUCKET = "hub_chantier", "hubchantier", "hub-chantier-backups"
IN_CONTAINER = "/var/backups/hub-chantier"
GUIDE = ("docker-compose.prod.yml", "docker-compose.backup.yml", "docker-compose.test.yml")
EVENTS = "docker-events.json"
T = TypeVar("T")

SERVICES = f"""\
services:
  db:
    image: postgres:17
    env_file: .env.production
    volumes: ["db-data:/var/lib/postgresql/data"]
    healthcheck:
      test: ["CMD", "pg_isready", "-h", "127.0.0.1", "-U", "{USER}"]
      interval: 4s
      retries: 15
  s3:
    image: motoserver/moto:5
    ports: ["127.0.0.1::5000"]
"""
VOLUMES = """\
volumes:
  db-data:
"""
PROD_YML = SERVICES + VOLUMES

TEST_YML = """\
services:
  backup-cron:
    image: {image}
    container_name: {container}
    volumes: ["{backups}:/var/backups/hub-chantier", "{logs}:/var/log"]
"""

ENV = {
    "POSTGRES_DB": DATABASE,
    "POSTGRES_USER": USER,
    "POSTGRES_PASSWORD": PASSWORD,
    "S3_BACKUP_BUCKET": BUCKET,
    "AWS_ACCESS_KEY_ID": "SCWE2E",
    "AWS_SECRET_ACCESS_KEY": AWS_SECRET,
    "AWS_DEFAULT_REGION": "fr-par",
    "S3_ENDPOINT_URL": "http://s3:5000",
    "BACKUP_SCHEDULE": "* * * * *",
    "BACKUP_ON_START": "true",
    "TZ": "Europe/Paris",
}


class Stack:
    """The project in `directory`. Nothing runs before `compose("up", …)`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.project = directory.name  # as compose names it by itself
        self.container = f"{self.project}-backup"
        self.backups = directory / "backups"  # not made here: Docker makes it, as root's
        self.env = dict(ENV)
        (directory / "docker-compose.prod.yml").write_text(PROD_YML)
        (directory / "docker-compose.test.yml").write_text(
            TEST_YML.format(image=IMAGE, container=self.container, backups=self.backups, logs=directory / "log")
        )
        shutil.copy(ROOT / "docker-compose.backup.yml", directory)
        shutil.copytree(ROOT / "scripts", directory / "scripts")
        self.set_env()

    # ------------------------------------------------------------------------------------- driving

    def set_env(self, **changes: str) -> None:
        """Edit .env.production as an editor does: the file is replaced."""
        self.env |= changes
        fresh = self.directory / ".env.production.new"
        fresh.write_text("".join(f"{name}={value}\n" for name, value in self.env.items()))
        fresh.chmod(0o600)
        fresh.replace(self.directory / ".env.production")

    def run(self, *argv: str, check: bool = True, stdin: bytes | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command in the project's directory, as the user does."""
        env = {name: value for name, value in os.environ.items() if not name.startswith("COMPOSE_")}
        done = subprocess.run(
            argv,
            cwd=self.directory,
            env={**env, "BACKUP_CONTAINER": self.container},
            input=stdin if stdin is not None else b"",
            capture_output=True,
            timeout=180,
            check=False,
        )
        text = subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(argv)} exited with {done.returncode}:\n{text.stdout}{text.stderr}")
        return text

    def compose(
        self, *arguments: str, files: tuple[str, ...] = GUIDE, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """`docker compose -f … --profile backup …`."""
        options = [option for file in files for option in ("-f", file)]
        return self.run("docker", "compose", *options, "--profile", "backup", *arguments, check=check)

    def hubbackup(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`docker compose exec backup-cron hubbackup …`."""
        return self.compose("exec", "-T", "backup-cron", "hubbackup", *arguments, check=check)

    def backup(self) -> dict[str, Any]:
        """A backup now; what it says of itself."""
        found: dict[str, Any] = json.loads(self.hubbackup("backup", "--json").stdout)
        return found

    def restart(self) -> list[dict[str, Any]]:
        """`docker compose restart backup-cron`; waits until the daemon serves again, and returns its log since."""
        seen = len(self.logs())
        self.compose("restart", "-t", "10", "backup-cron")
        self.until(lambda: any(line["event"] == "daemon.started" for line in self.logs()[seen:]), 30, "a new daemon")
        return self.logs()[seen:]

    def until(self, found: Callable[[], T], seconds: float, what: str) -> T:
        """Poll until `found` gives something, and return that."""
        try:
            return wait_until(found, what, seconds, pause_seconds=0.3)
        except AssertionError as error:
            tail = "\n".join(self.raw_logs().splitlines()[-20:])
            raise AssertionError(f"{error}; the log ends with\n{tail}") from error

    # ------------------------------------------------------------------------------------- looking

    def raw_logs(self) -> str:
        """`docker logs`, both streams."""
        done = self.run("docker", "logs", self.container, check=False)
        return done.stdout + done.stderr

    def logs(self, event: str = "") -> list[dict[str, Any]]:
        """The container's log, each line read as JSON; only those of one event where it is given."""
        lines = [json.loads(line) for line in self.raw_logs().splitlines()]
        return [line for line in lines if event in ("", line.get("event"))]

    def inspect(self, what: str, template: str) -> str:
        """`docker inspect -f`."""
        return self.run("docker", "inspect", "-f", template, what).stdout.strip()

    def local_names(self) -> list[str]:
        """What `ls` shows on the host."""
        return sorted(path.name for path in self.backups.iterdir() if not path.name.startswith("."))

    def read(self, name: str) -> bytes:
        """A file of the backup directory: it is another user's, mode 0600, so it is read in the container."""
        argv = ["docker", "exec", self.container, "cat", f"{IN_CONTAINER}/{name}"]
        return subprocess.run(argv, capture_output=True, timeout=60, check=True).stdout

    def write(self, name: str, data: bytes) -> None:
        """Put a file into the backup directory, as root."""
        self.run("docker", "exec", "-i", self.container, "sh", "-c", f"cat > {IN_CONTAINER}/{name}", stdin=data)

    def manifest(self, name: str) -> dict[str, Any]:
        """The manifest beside a local backup."""
        found: dict[str, Any] = json.loads(self.read(manifest_of(name)))
        return found

    @property
    def db(self) -> str:
        """The database's container."""
        return f"{self.project}-db-1"

    @functools.cached_property
    def psql(self) -> Psql:
        """psql in the database's container."""
        return psql_through("docker", "exec", "-i", self.db, "psql", "-U", USER)

    @property
    def s3(self) -> Any:
        """A client of the stand-in for S3, by the port that it has on the host now."""
        return s3_at(self.compose("port", "s3", "5000").stdout.strip())

    def create_bucket(self) -> bool:
        """The bucket that the user has made; False where S3 does not answer yet."""
        from botocore.exceptions import HTTPClientError

        place = {"LocationConstraint": ENV["AWS_DEFAULT_REGION"]}
        try:
            self.s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration=place)
        except HTTPClientError:
            return False
        return True

    def s3_names(self) -> list[str]:
        """The objects under backups/, without that prefix."""
        listed = self.s3.list_objects_v2(Bucket=BUCKET, Prefix="backups/")
        return sorted(entry["Key"].removeprefix("backups/") for entry in listed.get("Contents", ()))

    # ------------------------------------------------------------------------------------- hindering

    @contextmanager
    def table_locked(self, table: str = "chantiers") -> Iterator[None]:
        """Somebody holds `table` exclusively meanwhile, so that pg_dump waits."""
        argv = ["docker", "exec", "-i", self.db, "psql", "-XqAt", "-U", USER, "-d", DATABASE]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
            assert holder.stdin is not None
            assert holder.stdout is not None
            holder.stdin.write(f"BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE; SELECT 'held';\n".encode())
            holder.stdin.flush()
            assert holder.stdout.readline() == b"held\n"
            yield  # leaving Popen's context closes stdin: psql ends, and the lock with it

    def backends(self, condition: str = "true") -> int:
        """How many connections of hubbackup the database has."""
        return int(
            self.psql(
                f"SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'hubbackup-%' AND {condition}"
            )
        )

    def until_pg_dump_waits(self) -> None:
        """Until a run of hubbackup stands before a lock."""
        self.until(lambda: self.backends("wait_event_type = 'Lock'") > 0, 30, "pg_dump waits for a lock")

    @contextmanager
    def s3_unreachable(self) -> Iterator[None]:
        """S3 is cut off meanwhile; it keeps what it holds, which a stopped one would not."""
        network, server = f"{self.project}_default", f"{self.project}-s3-1"
        self.run("docker", "network", "disconnect", network, server)
        try:
            yield
        finally:
            self.run("docker", "network", "connect", "--alias", "s3", network, server)

    @contextmanager
    def s3_paused(self) -> Iterator[None]:
        """S3 takes connections meanwhile, and never answers."""
        self.run("docker", "pause", f"{self.project}-s3-1")
        try:
            yield
        finally:
            self.run("docker", "unpause", f"{self.project}-s3-1")

    def remove(self) -> None:
        """Containers, networks, volumes and files, whatever state they are in."""
        self.run("docker", "unpause", f"{self.project}-s3-1", check=False)
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "1", check=False)
        # What is in the bind mount belongs to a user of the container's.
        mount = f"{self.directory}:/project"
        self.run(
            *("docker", "run", "--rm", "--volume", mount, "--entrypoint", "rm", IMAGE, "-rf", "/project/backups"),
            check=False,
        )
        shutil.rmtree(self.directory, ignore_errors=True)


@functools.cache
def s3_at(address: str) -> Any:
    """A client of the stand-in for S3."""
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=f"http://{address}",
        region_name=ENV["AWS_DEFAULT_REGION"],
        aws_access_key_id=ENV["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=AWS_SECRET,
    )


def manifest_of(name: str) -> str:
    """The name of the manifest beside a backup."""
    return name.removesuffix(".sql.gz") + ".manifest.json"


def name_at(moment: datetime) -> str:
    """The name of the database's backup that was begun at this local time."""
    return f"{DATABASE}_backup_{moment:%Y%m%d_%H%M%S}.sql.gz"


def build_image() -> None:
    """Build the real Dockerfile as compose does for a user; of several workers one does, the others find it done."""
    lock = Path(tempfile.gettempdir()) / f"{IMAGE.replace(':', '-')}.lock"
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        _build_image()


def _build_image() -> None:
    env = dict(os.environ)
    if subprocess.run(["docker", "buildx", "version"], capture_output=True, check=False).returncode != 0:
        env["DOCKER_BUILDKIT"] = "0"
    before = image_id()
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as override:
        override.write(f"services: {{backup-cron: {{image: '{IMAGE}'}}}}\n")
        override.flush()
        done = subprocess.run(
            [
                *("docker", "compose", "--project-directory", str(ROOT)),
                *("-f", str(ROOT / "docker-compose.backup.yml"), "-f", override.name),
                *("--profile", "backup", "build", "backup-cron"),
            ],
            env=env,
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
    assert done.returncode == 0, f"the image was not built:\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
    if before and before != image_id():
        with contextlib.suppress(subprocess.SubprocessError):  # in use by another session: it may stay
            subprocess.run(["docker", "image", "rm", before], capture_output=True, timeout=60, check=False)


def image_id() -> str:
    """The id of the image under our tag, or an empty string."""
    done = subprocess.run(
        ["docker", "image", "inspect", "-f", "{{.Id}}", IMAGE], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def new_project() -> Stack:
    """An empty project in a directory of its own; the directory's name is the project's."""
    return Stack(Path(tempfile.mkdtemp(prefix="hubbackup-e2e-")))
