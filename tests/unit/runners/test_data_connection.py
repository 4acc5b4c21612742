"""Who may take the port of a data connection, and how soon it is told that nobody does. Containers: the contract."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from hubbackup.errors import NoDataConnectionError, StoppedError
from hubbackup.runners import data_connection
from hubbackup.runners.data_connection import DataConnection, Endpoints
from hubbackup.streams.cancel import Cancel

HERE = Endpoints("127.0.0.1", "127.0.0.1")


@pytest.fixture
def control() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The exec's stream as this process has it, and the engine's end of it."""
    ours, engines = socket.socketpair()
    with ours, engines:
        yield ours, engines


def dial(data: DataConnection, says: bytes, source: str = "127.0.0.1") -> socket.socket:
    """Connect as the shell in the container does, and show `says`."""
    host, port = data.env["HUBBACKUP_DATA_ADDRESS"].split("/")
    connection = socket.create_connection((host, int(port)), timeout=10, source_address=(source, 0))
    connection.sendall(says)
    return connection


def nonce_of(data: DataConnection) -> bytes:
    return data.env["HUBBACKUP_DATA_NONCE"].encode()


def is_answered(data: DataConnection, shell: socket.socket) -> bool:
    """Whether the shell was told what makes it become the command."""
    return shell.recv(32) == data.env["HUBBACKUP_DATA_ANSWER"].encode()


def test_whoever_shows_the_nonce_is_answered(control: tuple[socket.socket, socket.socket]) -> None:
    """The command starts once both sides know each other, and never before; the nonce may come in pieces."""
    with DataConnection([HERE]) as data, dial(data, nonce_of(data)[:9]) as shell:
        threading.Timer(0.2, shell.sendall, [nonce_of(data)[9:]]).start()
        shell.setblocking(False)
        with pytest.raises(BlockingIOError):
            shell.recv(1)
        shell.setblocking(True)
        connection = data.accept(control[0], Cancel())
        assert is_answered(data, shell)
        connection.sendall(b"x")
        assert shell.recv(1) == b"x"


@pytest.mark.parametrize("says", [b"", b"G", b"0" * 32, b"0" * 31])
def test_a_stranger_gets_nothing_and_keeps_nobody_away(
    control: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch, says: bytes
) -> None:
    """A wrong nonce, half of one, or silence: closed without a byte, and the right one is still served."""
    monkeypatch.setattr(data_connection, "NONCE_SECONDS", 0.2)
    with (
        DataConnection([HERE]) as data,
        dial(data, says) as stranger,
        dial(data, nonce_of(data)) as shell,
    ):
        data.accept(control[0], Cancel())
        assert is_answered(data, shell)
        with contextlib.suppress(ConnectionResetError):
            assert stranger.recv(1) == b""


def test_another_address_gets_nothing_with_the_nonce(control: tuple[socket.socket, socket.socket]) -> None:
    """What is not the database's container is not listened to."""
    with (
        DataConnection([HERE]) as data,
        dial(data, nonce_of(data), source="127.0.0.2") as neighbour,
        dial(data, nonce_of(data)) as shell,
    ):
        data.accept(control[0], Cancel())
        assert is_answered(data, shell)
        with contextlib.suppress(ConnectionResetError):
            assert neighbour.recv(1) == b""


def test_nobody_is_waited_for_in_vain(
    control: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A firewall that drops packets costs the time that it may cost, and no more."""
    monkeypatch.setattr(data_connection, "CONNECT_SECONDS", 0.3)
    clock = time.monotonic()
    with DataConnection([HERE]) as data, pytest.raises(NoDataConnectionError, match=r"reached 127\.0\.0\.1 in 0 s"):
        data.accept(control[0], Cancel())
    assert 0.3 <= time.monotonic() - clock < 1


@pytest.mark.parametrize("last_words", [b"", b"bash: connect: Connection refused"])
def test_a_shell_that_gives_up_is_noticed_at_once(
    control: tuple[socket.socket, socket.socket], last_words: bytes
) -> None:
    """Refused, or no bash at all: the exec says something, or ends, and nobody waits any longer."""
    control[1].sendall(last_words)
    control[1].close()
    clock = time.monotonic()
    with DataConnection([HERE]) as data, pytest.raises(NoDataConnectionError, match="can't connect to 127"):
        data.accept(control[0], Cancel())
    assert time.monotonic() - clock < 0.5


def test_a_stop_ends_the_waiting(control: tuple[socket.socket, socket.socket]) -> None:
    """SIGTERM does not wait for a connection."""
    cancel = Cancel()
    threading.Timer(0.2, cancel.set).start()
    clock = time.monotonic()
    with DataConnection([HERE]) as data, pytest.raises(StoppedError):
        data.accept(control[0], cancel)
    assert time.monotonic() - clock < 1.5


def test_the_first_address_that_is_ours_is_taken() -> None:
    """A network's gateway is ours on the host and not in a container: binding tells. 192.0.2.0/24 is nobody's."""
    with DataConnection([Endpoints("192.0.2.1", "192.0.2.2"), HERE]) as data:
        assert data.env["HUBBACKUP_DATA_ADDRESS"].startswith("127.0.0.1/")


@pytest.mark.parametrize("candidates", [[], [Endpoints("192.0.2.1", "192.0.2.2")]])
def test_without_an_address_in_common_there_is_none(candidates: list[Endpoints]) -> None:
    """No shared network, or one that we are not in: told before anything is asked of the container."""
    with pytest.raises(NoDataConnectionError, match="no network in common"):
        DataConnection(candidates)


def test_the_port_is_closed_once_the_shell_came(control: tuple[socket.socket, socket.socket]) -> None:
    """Nobody else finds it open, while the dump flows or afterwards."""
    with DataConnection([HERE]) as data:
        host, port = data.env["HUBBACKUP_DATA_ADDRESS"].split("/")
        dial(data, nonce_of(data)).close()
        data.accept(control[0], Cancel())
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, int(port)), timeout=10)


def test_the_nonce_is_in_the_environment_alone() -> None:
    """argv is published in Docker's events."""
    with DataConnection([HERE]) as data:
        argv = " ".join(data.dialling(["pg_dump"]))
        secret = {data.env[name] for name in ("HUBBACKUP_DATA_NONCE", "HUBBACKUP_DATA_ANSWER")}
        assert [len(word) for word in secret] == [32, 32]
        assert not any(word in argv for word in secret)
