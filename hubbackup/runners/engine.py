"""The Docker engine: reach it, find the database's container, and say plainly what stands in the way.

The docker SDK finds, inspects and creates; the exec stream itself is `docker_exec`'s own (see there for why).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from hubbackup.errors import ContainerError, EngineError, UsageError
from hubbackup.runners.data_connection import Endpoints

if TYPE_CHECKING:
    from docker.models.containers import Container

    from docker import DockerClient

DEFAULT_HOST = "unix:///var/run/docker.sock"
CALL_SECONDS = 30
START = "docker compose -f docker-compose.prod.yml up -d"
"""As the operators' guide starts a service."""
PROJECT_LABEL = "com.docker.compose.project"
SERVICE_LABEL = "com.docker.compose.service"
ONE_OFF_LABEL = "com.docker.compose.oneoff"


class Engine:
    """A connection to one Docker engine, opened at first use (the SDK's constructor calls the engine)."""

    def __init__(self, host: str = "") -> None:
        """`host` as DOCKER_HOST has it: `unix://…` or `tcp://host:port`. Raises UsageError for another kind."""
        self.host = host or DEFAULT_HOST
        parts = urlsplit(self.host)
        if parts.scheme not in ("unix", "tcp", "http"):
            raise UsageError(
                f"DOCKER_HOST={self.host} is of a kind that hubbackup does not speak",
                remedy="use unix:///var/run/docker.sock, or tcp://host:port for a socket proxy",
            )
        self._client: DockerClient | None = None
        self._owners: dict[tuple[str, str], str] = {}

    @property
    def client(self) -> DockerClient:
        """The SDK's client, its API version negotiated. Raises EngineError."""
        if self._client is None:
            import docker

            with self.errors():
                self._check_socket()
                self._client = docker.DockerClient(base_url=self.host, version="auto", timeout=CALL_SECONDS)
        return self._client

    def connect(self) -> socket.socket:
        """A fresh connection to the engine's API, for a stream. Raises EngineError."""
        with self.errors():
            parts = urlsplit(self.host)
            if parts.scheme == "unix":
                stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                stream.settimeout(CALL_SECONDS)
                stream.connect(parts.path)
                return stream
            stream = socket.create_connection((parts.hostname or "localhost", parts.port or 2375), CALL_SECONDS)
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return stream

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Map what the SDK and sockets raise to EngineError, with what to do about it."""
        import docker.errors
        import requests

        try:
            yield
        except docker.errors.APIError as error:
            raise EngineError(f"the Docker engine refused: {error.explanation or error}") from error
        except (OSError, requests.RequestException, docker.errors.DockerException) as error:
            raise EngineError(
                f"the Docker engine at {self.host} does not answer: {_cause(error)}",
                remedy="check that the Docker daemon runs, and DOCKER_HOST",
            ) from error

    def _check_socket(self) -> None:
        """Say what is wrong with a socket file before the SDK wraps it in five layers."""
        parts = urlsplit(self.host)
        if parts.scheme != "unix":
            return
        path = Path(parts.path)
        mount = f"mount it: volumes: [{path}:/var/run/docker.sock]"
        try:
            mode = path.stat().st_mode
        except FileNotFoundError as error:
            raise EngineError(f"the Docker socket {path} does not exist here", remedy=mount) from error
        except PermissionError as error:
            raise EngineError(f"no permission to look at the Docker socket {path}") from error
        if not stat.S_ISSOCK(mode):
            raise EngineError(f"{path} is not a socket", remedy=mount)
        if not os.access(path, os.R_OK | os.W_OK):
            group = path.stat().st_gid
            raise EngineError(
                f"no permission on the Docker socket {path} (it belongs to group {group})",
                remedy=f"let hubbackup run with that group: group_add: ['{group}']",
            )

    def find_container(self, *, service: str, container: str) -> Container:
        """The database's container, running: by its name, or by its compose service in our own project.

        Inspected afresh at each call, since `docker compose up` gives the same service a new id.
        Raises ContainerError, EngineError.
        """
        found = self._by_name(container) if container else self._by_service(service)
        state = found.status
        if state != "running":
            name = container or service
            remedy = f"docker unpause {found.name}" if state == "paused" else f"{START} {name}"
            raise ContainerError(
                f"the database's container {found.name} is not running (it is {state})", remedy=remedy
            )
        return found

    def _by_name(self, name: str) -> Container:
        import docker.errors

        client = self.client
        with self.errors():
            try:
                return client.containers.get(name)
            except (docker.errors.NotFound, docker.errors.NullResource) as error:
                raise ContainerError(
                    f"there is no container named {name}", remedy="set DB_CONTAINER to a name of `docker ps -a`"
                ) from error

    def _by_service(self, service: str) -> Container:
        project = self._own_project()
        labels = [f"{SERVICE_LABEL}={service}", f"{ONE_OFF_LABEL}=False"]
        if project:
            labels.append(f"{PROJECT_LABEL}={project}")
        client = self.client
        with self.errors():
            found: list[Container] = client.containers.list(all=True, filters={"label": labels}, ignore_removed=True)
        running = [candidate for candidate in found if candidate.status == "running"]
        where = f"compose project {project}" if project else "any compose project"
        if not found:
            raise ContainerError(
                f"no container of the service {service} in {where}",
                remedy=f"start it ({START} {service}), or set DB_SERVICE or DB_CONTAINER",
            )
        candidates = running or found
        if len(candidates) > 1:
            names = ", ".join(sorted(str(candidate.name) for candidate in candidates))
            raise ContainerError(
                f"{len(candidates)} containers run the service {service} in {where}: {names}",
                remedy="set DB_CONTAINER to the one to back up",
            )
        return candidates[0]

    def owner_of(self, container_id: str, path: str) -> str:
        """`uid:gid` of a file's owner in that container; empty for root, and where the file can't be looked at.

        What was found is kept: a container's server does not change its user.
        """
        import tarfile  # here: it takes as long as a tenth of the program

        import docker.errors

        owner = self._owners.get((container_id, path), "")
        if not owner:
            client = self.client
            with self.errors():
                try:
                    archive, _ = client.api.get_archive(container_id, path)
                    with contextlib.closing(archive):
                        header = b"".join(itertools.islice(archive, 1))[: tarfile.BLOCKSIZE]
                    member = tarfile.TarInfo.frombuf(header, "utf-8", "replace")
                    owner = f"{member.uid}:{member.gid}" if member.uid else ""
                except (docker.errors.APIError, tarfile.TarError):  # not there (yet), or a proxy that forbids it
                    owner = ""
            if owner:
                self._owners[container_id, path] = owner
        return owner

    @property
    def is_local(self) -> bool:
        """Whether it is reached by its own socket, and so runs on this machine."""
        return urlsplit(self.host).scheme == "unix"

    def endpoints_with(self, container_id: str) -> list[Endpoints]:
        """By which addresses that container could connect to this process, the likeliest first; often one, or none.

        Those in the networks that we share with it, and its networks' gateways, which are the host's own: whether
        we are there only binding tells. Raises EngineError.
        """
        networks = self._networks_of(container_id)
        own = self._networks_of(own_container_id())
        shared = [(own[key].get("IPAddress"), at.get("IPAddress")) for key, at in networks.items() if key in own]
        gateways = [(at.get("Gateway"), at.get("IPAddress")) for at in networks.values()]
        return [Endpoints(local, peer) for local, peer in (*shared, *gateways) if local and peer]

    def _networks_of(self, container_id: str) -> dict[str, dict[str, Any]]:
        """The container's end of each of its networks, by the network's id; none for a container that isn't here."""
        import docker.errors

        if not container_id:
            return {}
        client = self.client
        with self.errors():
            try:
                attributes = client.containers.get(container_id).attrs
            except docker.errors.NotFound:
                return {}
        networks = (attributes.get("NetworkSettings") or {}).get("Networks") or {}
        return {str(at.get("NetworkID")): at for at in networks.values()}

    def _own_project(self) -> str:
        """The compose project that this process runs in; empty outside a compose container."""
        return self.own_labels().get(PROJECT_LABEL) or os.environ.get("COMPOSE_PROJECT_NAME", "")

    def own_labels(self) -> dict[str, str]:
        """The labels of the container that this process runs in; none outside of one. Raises EngineError."""
        import docker.errors

        own_id = own_container_id()
        if own_id:
            client = self.client
            with self.errors():
                try:
                    return {str(name): str(value) for name, value in client.containers.get(own_id).labels.items()}
                except docker.errors.NotFound:
                    pass  # a container of another engine, or a host that only looks like one
        return {}


def own_container_id(mountinfo: Path = Path("/proc/self/mountinfo")) -> str:
    """The id of the container that this process runs in, or an empty string.

    Read from the bind mounts that the engine makes for /etc/hostname and /etc/resolv.conf: a host name can be
    set by the user, and cgroup paths are hidden by cgroup namespaces.
    """
    if not Path("/.dockerenv").exists():
        return ""
    try:
        found = re.search(r"/containers/([0-9a-f]{64})/", mountinfo.read_text())
    except OSError:
        found = None
    return found.group(1) if found else socket.gethostname()


def _cause(error: BaseException) -> str:
    """The innermost reason of a wrapped exception, in one line."""
    inner: BaseException = error
    while (deeper := inner.__cause__ or inner.__context__) is not None:
        inner = deeper
    said = inner.strerror if isinstance(inner, OSError) and inner.strerror else str(inner)
    return (said.strip() or type(inner).__name__).splitlines()[0]
