"""One contract for every runner: the bytes, the exit, the end of every wait. Then what only Docker can do wrong."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
import unittest.mock
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from hubbackup.errors import (
    ContainerError,
    EngineError,
    NoDataConnectionError,
    RunnerError,
    StoppedError,
    StreamError,
    ToolError,
    UsageError,
)
from hubbackup.runners import Bulk, Process, Runner, data_connection, docker_exec, run
from hubbackup.runners.data_connection import Endpoints
from hubbackup.runners.direct import DirectRunner
from hubbackup.runners.docker_exec import DockerExecRunner
from hubbackup.runners.engine import PROJECT_LABEL, SERVICE_LABEL, Engine
from hubbackup.runners.environment import INHERITED
from hubbackup.runners.resources import resources_of
from hubbackup.runners.stderr import STDERR_TAIL_BYTES
from hubbackup.streams.cancel import Cancel, PartCancel
from tests.support import docker_proxy as faults
from tests.support.containers import postgres_container
from tests.support.docker_proxy import DockerProxy, docker_proxy
from tests.support.moments import wait_until

IMAGE = "postgres:17"
MakeRunner = Callable[..., Runner]


def docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        raise AssertionError(f"docker {arguments[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


@contextlib.contextmanager
def containers(*options: Sequence[str], network: str = "none") -> Iterator[list[str]]:
    """Running containers of the database's image that do nothing; one for each sequence of options."""
    names = [f"hub-contract-{secrets.token_hex(4)}" for _ in options]
    try:
        for name, extra in zip(names, options, strict=True):
            docker("run", "-d", "--network", network, "--name", name, *extra, "--entrypoint", "sleep", IMAGE, "600")
        yield names
    finally:
        subprocess.run(["docker", "rm", "-f", "-v", *names], capture_output=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def container(docker_engine: str) -> Iterator[str]:
    """A container to run commands in."""
    with containers([]) as (name,):
        yield name


@pytest.fixture(scope="module")
def near(docker_engine: str) -> Iterator[str]:
    """A container that can connect to this machine."""
    with containers([], network="bridge") as (name,):
        yield name


class Connected:
    """A runner that is asked for a data connection by each command: for its output, or where it has one its input."""

    def __init__(self, runner: Runner, stream: Bulk) -> None:
        self._runner = self.plain = runner
        self._stream = stream
        self.name, self.identity, self.detached = runner.name, runner.identity, runner.detached
        self.under = lambda cancel: Connected(runner.under(cancel), stream)
        self.runs_as, self.place, self.inherited = runner.runs_as, runner.place, runner.inherited

    def start(
        self, argv: Sequence[str], env: Mapping[str, str | None], *, stdin: bool = False, bulk: Bulk = ""
    ) -> contextlib.AbstractContextManager[Process]:
        asked = self._stream if stdin or self._stream == "output" else ""
        return self._runner.start(argv, env, stdin=stdin, bulk=asked)


@pytest.fixture(
    params=[
        "direct",
        pytest.param("docker", marks=pytest.mark.docker),
        pytest.param("docker, output by a data connection", marks=pytest.mark.docker),
        pytest.param("docker, input by a data connection", marks=pytest.mark.docker),
    ]
)
def make(request: pytest.FixtureRequest) -> MakeRunner:
    """Makes runners of each kind, with whatever cancel event and idle limit."""

    def make_direct(cancel: Cancel | None = None, idle_seconds: float = 30) -> Runner:
        return DirectRunner(cancel=cancel or Cancel(), idle_seconds=idle_seconds)

    if request.param == "direct":
        return make_direct
    if request.param != "docker":
        near_by = request.getfixturevalue("near")
        stream: Bulk = "output" if "output" in request.param else "input"
        return lambda cancel=None, idle_seconds=30.0: Connected(connecting(near_by, cancel, idle_seconds), stream)
    name = request.getfixturevalue("container")

    def make_docker(cancel: Cancel | None = None, idle_seconds: float = 30) -> Runner:
        return DockerExecRunner(Engine(), cancel=cancel or Cancel(), container=name, idle_seconds=idle_seconds)

    return make_docker


def connecting(container: str, cancel: Cancel | None = None, idle_seconds: float = 30, url: str = "") -> Runner:
    """A runner whose container may connect to us."""
    return DockerExecRunner(
        Engine(url),
        cancel=cancel or Cancel(),
        container=container,
        idle_seconds=idle_seconds,
        no_data_connection="",
    )


def sh(script: str, *arguments: str) -> list[str]:
    return ["bash", "-c", script, "bash", *arguments]


def read(process: Process) -> bytes:
    return b"".join(bytes(chunk) for chunk in process.chunks())


def assert_fails(process: Process, chunks: Iterator[memoryview]) -> None:
    """The stream breaks off, or the exit code tells it: either may come first."""
    with contextlib.suppress(StreamError):
        for _ in chunks:
            pass
        assert process.wait().code != 0


# -- every runner


def test_stdout_comes_whole_and_in_order(make: MakeRunner) -> None:
    """50 MB of changing bytes arrive as the command wrote them, with stderr in between them kept aside."""
    script = r"""perl -e 'for (1..50) { print pack "N*", $_ * 250000 .. $_ * 250000 + 249999; warn "part $_\n" }'"""
    digest, size = hashlib.sha256(), 0
    with make().start(sh(script), {}) as process:
        for chunk in process.chunks():
            digest.update(chunk)
            size += len(chunk)
        end = process.wait()
    numbers = array("I", range(250_000, 51 * 250_000))
    numbers.byteswap()
    expected = numbers.tobytes()
    assert size == len(expected) == 50_000_000
    assert digest.digest() == hashlib.sha256(expected).digest()
    assert end.code == 0
    assert end.stderr.splitlines() == [f"part {number}" for number in range(1, 51)]


def test_every_byte_passes_both_ways(make: MakeRunner) -> None:
    """Nothing is decoded, translated or cut on the way: all 256 bytes, in and out."""
    data = bytes(range(256)) * 4000
    assert run(make(), ["cat"], {}, input_bytes=data) == data


def test_the_ends_of_stderr_are_kept(make: MakeRunner) -> None:
    """Of much stderr 16 KiB are kept, its first words and its last, and it never blocks the command or reaches
    stdout."""
    script = "echo first words >&2; head -c 300000 /dev/zero | tr '\\0' x >&2; echo out; echo last words >&2"
    with make().start(sh(script), {}) as process:
        assert read(process) == b"out\n"
        end = process.wait()
    assert end.stderr.startswith("first words\n")
    assert end.stderr.endswith("xlast words\n")
    assert len(end.stderr) == STDERR_TAIL_BYTES


def test_stderr_that_is_no_text_is_told_all_the_same(make: MakeRunner) -> None:
    """A byte of stderr that is not UTF-8 becomes a replacement character, not an exception."""
    with make().start(sh(r"printf 'caf\351\n' >&2"), {}) as process:
        assert read(process) == b""
        assert process.wait().stderr == "caf\ufffd\n"


@pytest.mark.parametrize("code", [0, 1, 3, 127, 255])
def test_the_exit_code_is_the_commands(make: MakeRunner, code: int) -> None:
    """The exit code is told as it is; `run` makes another one than 0 an error with the command's last words."""
    with make().start(sh(f"echo out; exit {code}"), {}) as process:
        assert read(process) == b"out\n"
        assert process.wait().code == code
    if code:
        with pytest.raises(ToolError, match=f"bash ended with exit code {code}: last words") as caught:
            run(make(), sh(f"echo first >&2; echo last words >&2; exit {code}"), {})
        assert caught.value.exit_code_of_tool == code


def test_a_killed_command_is_a_failure(make: MakeRunner) -> None:
    """An end by a signal is 128 and its number, as a shell tells it."""
    with make().start(sh("kill -KILL $$"), {}) as process:
        assert read(process) == b""
        assert process.wait().code == 137


def test_a_missing_tool_is_named(make: MakeRunner) -> None:
    """A command that is not there is an error that names it, never an empty success."""
    with pytest.raises(RunnerError, match="no_such_pg_dump"):
        run(make(), ["no_such_pg_dump", "--version"], {})


def test_a_file_that_is_no_program_is_an_error(make: MakeRunner) -> None:
    """So is one that can't be executed."""
    with pytest.raises(RunnerError, match="/etc/passwd"):
        run(make(), ["/etc/passwd"], {})


def test_the_environment_is_added_to(make: MakeRunner) -> None:
    """Values arrive exactly, whatever is in them, beside the environment that is there."""
    env = {"PGDATABASE": "host=evil dbname=x\n'\"$(id) é", "EMPTY": ""}
    with make().start(sh('printf %s "$PGDATABASE|$EMPTY|${PATH:+path}"'), env) as process:
        assert read(process).decode() == env["PGDATABASE"] + "||path"


def test_what_is_there_can_be_taken_out(make: MakeRunner) -> None:
    """A name without a value is not set for the command, though it is where it runs; the others there stay."""
    runner = make()
    assert runner.inherited["PATH"]
    there = next(name for name in runner.inherited if name not in ("PATH", "HOME"))
    script = 'printf %s "${' + there + '-none}|${NOT_THERE-none}|$ADDED|${PATH:+path}"'
    with runner.start(sh(script), {there: None, "NOT_THERE": None, "ADDED": "x"}) as process:
        assert read(process).decode() == "none|none|x|path"
        assert process.wait().code == 0


def test_an_argument_is_one_argument(make: MakeRunner) -> None:
    """No shell reads argv: spaces, quotes and globs pass as they are."""
    arguments = ["a b", "*", "$(id)", "'\"", "-n", ""]
    with make().start(sh('printf "%s\\0" "$@"', *arguments), {}) as process:
        assert read(process).decode().split("\0")[:-1] == arguments


def test_a_half_closed_command_can_still_answer(make: MakeRunner) -> None:
    """`close_stdin` ends the command's input and not its output."""
    with make().start(sh("cat > /dev/null; sleep 0.2; echo answered; exit 5"), {}, stdin=True) as process:
        process.write(b"question\n" * 1000)
        process.close_stdin()
        assert read(process) == b"answered\n"
        assert process.wait().code == 5


def test_without_stdin_the_input_is_empty(make: MakeRunner) -> None:
    """A command that reads although nobody writes sees the end at once, and never waits."""
    with make().start(sh("cat; echo end"), {}) as process:
        assert read(process) == b"end\n"


def test_a_command_that_ends_early_does_not_block_the_writer(make: MakeRunner) -> None:
    """psql stops at the first error while gigabytes are still to come: the writer is told, and does not hang."""
    told: list[Exception] = []

    def feed(process: Process) -> None:
        try:
            for _ in range(1000):
                process.write(bytes(1 << 20))
        except StreamError as error:
            told.append(error)

    with make().start(sh("head -c 1000 > /dev/null; echo no more >&2; exit 3"), {}, stdin=True) as process:
        writer = threading.Thread(target=feed, args=(process,))
        writer.start()
        assert read(process) == b""
        end = process.wait()
        writer.join(timeout=10)
        assert not writer.is_alive()
    assert end.code == 3
    assert end.stderr == "no more\n"
    assert "ended before it read all" in str(told[0])


def test_silence_ends_at_the_idle_limit(make: MakeRunner) -> None:
    """A stream without a byte for the idle limit is an error, soon after that limit."""
    clock = time.monotonic()
    with (
        make(idle_seconds=1).start(sh("echo first; exec sleep 5"), {}) as process,
        pytest.raises(StreamError, match="sent no byte for 1 s"),
    ):
        read(process)
    assert 1 <= time.monotonic() - clock < 3.5


def test_bytes_now_and_then_are_no_silence(make: MakeRunner) -> None:
    """The idle limit counts from the last byte, not from the start; a slow reader is not a silence either."""
    with make(idle_seconds=1).start(sh("for i in 1 2 3 4; do echo $i; sleep 0.5; done"), {}) as process:
        received = b""
        for chunk in process.chunks():
            received += bytes(chunk)
            time.sleep(0.3)
        assert received == b"1\n2\n3\n4\n"


@pytest.mark.parametrize("script", ["exec sleep 5", "exec timeout 5 yes"])
def test_a_stop_ends_the_reading(make: MakeRunner, script: str) -> None:
    """SIGTERM ends a silent stream and a busy one within a second and a half."""
    cancel = Cancel()
    with make(cancel).start(sh(script), {}) as process:
        threading.Timer(0.3, cancel.set, args=(15,)).start()
        clock = time.monotonic()
        with pytest.raises(StoppedError) as caught:
            for _ in process.chunks():
                pass
        assert time.monotonic() - clock < 1.5
    assert caught.value.exit_code == 143
    assert time.monotonic() - clock < 3


def test_a_stop_ends_the_writing(make: MakeRunner) -> None:
    """So it does a writer whose command does not read."""
    cancel = Cancel()
    with make(cancel).start(sh("exec sleep 20"), {}, stdin=True) as process:
        threading.Timer(0.3, cancel.set).start()
        clock = time.monotonic()
        with pytest.raises(StoppedError):
            process.write(bytes(100 << 20))
        assert time.monotonic() - clock < 1.5


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_stop_ends_a_short_command_with_input(make: MakeRunner) -> None:
    """`run` leaves no thread behind that dies with a traceback when it is stopped while it writes."""
    cancel = Cancel()
    threading.Timer(0.3, cancel.set).start()
    with pytest.raises(StoppedError):
        run(make(cancel), sh("exec sleep 20"), {}, input_bytes=bytes(50 << 20))
    deadline = time.monotonic() + 3
    while any(thread.name == "stdin" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_leaving_early_does_not_wait_for_the_command(make: MakeRunner) -> None:
    """Whoever has seen enough may go: the context ends although the command still writes."""
    clock = time.monotonic()
    with make().start(["timeout", "3", "yes"], {}) as process:
        next(process.chunks())
    with make().start(sh("exec sleep 20"), {}, stdin=True):
        pass
    assert time.monotonic() - clock < 3


def test_a_detached_runner_outlives_the_stop(make: MakeRunner) -> None:
    """Cleaning up after a stop needs commands that run although the run is cancelled."""
    cancel = Cancel()
    runner = make(cancel)
    cancel.set()
    with pytest.raises(StoppedError):
        run(runner, ["echo", "x"], {})
    assert run(runner.detached(), ["echo", "x"], {}) == b"x\n"


def test_a_part_of_a_run_is_stopped_by_itself_or_with_the_run(make: MakeRunner) -> None:
    """One of several commands can be given up while the others go on; a stop of the run ends them all."""
    whole = Cancel()
    runner = make(whole)
    part, other = PartCancel(whole), PartCancel(whole)
    part.set()
    with pytest.raises(StoppedError):
        run(runner.under(part), ["echo", "x"], {})
    assert run(runner.under(other), ["echo", "x"], {}) == b"x\n"
    assert run(runner, ["echo", "x"], {}) == b"x\n"
    whole.set()
    with pytest.raises(StoppedError):
        run(runner.under(other), ["echo", "x"], {})


def test_an_answer_comes_as_soon_as_it_is_given(make: MakeRunner) -> None:
    """A command that is asked one thing after another is not waited for in half seconds; bulk is another matter."""
    runner = make()
    with (runner.plain if isinstance(runner, Connected) else runner).start(["cat"], {}, stdin=True) as process:
        answers = process.chunks()
        process.write(b"first")
        assert bytes(next(answers)) == b"first"
        clock = time.monotonic()
        for number in range(20):
            process.write(b"%d" % number)
            assert bytes(next(answers)) == b"%d" % number
        assert time.monotonic() - clock < 5  # a wait of half a second for each would be ten


def test_processors_and_memory_are_those_that_commands_may_use(make: MakeRunner) -> None:
    """What a container is not limited in, it has of the machine."""
    found = resources_of(make())
    assert 1 <= found.processors <= (os.cpu_count() or 0)
    assert 64 << 20 < found.memory_bytes <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_an_answer_that_is_no_short_one_is_refused(make: MakeRunner) -> None:
    """`run` keeps memory flat: it gives up a command that prints far more than was asked for."""
    with pytest.raises(StreamError, match="more than 1000000 bytes"):
        run(make(), ["timeout", "3", "yes"], {}, max_bytes=1_000_000)


def test_two_commands_run_side_by_side(make: MakeRunner) -> None:
    """One runner serves several processes at once, each with its own bytes."""
    runner = make()
    with (
        runner.start(sh("cat; echo one"), {}, stdin=True) as one,
        runner.start(sh("cat; echo two"), {}, stdin=True) as two,
    ):
        two.write(b"2")
        one.write(b"1")
        two.close_stdin()
        one.close_stdin()
        assert (read(one), read(two)) == (b"1one\n", b"2two\n")
        assert one.wait().code == two.wait().code == 0


# -- whose rights, and which variables

SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "aws",
    "POSTGRES_PASSWORD": "postgres",
    "NOTIFICATION_URLS": "https://token@example.org",
    "PGSERVICE": "another-server",
    "PGOPTIONS": "-c role=other",
    "PGHOSTADDR": "192.0.2.1",
    "SMTP_PASSWORD": "smtp",
}
NEEDED = {
    "HOME": "/home/of-ours",
    "LANG": "C.UTF-8",
    "LC_TIME": "C",
    "TZ": "Europe/Paris",
    "PGSSLROOTCERT": "/ca.pem",
    "PGSSLCERT": "/client.pem",
    "PGSSLKEY": "/client.key",
    "PGCHANNELBINDING": "require",
    "PGREQUIREAUTH": "scram-sha-256",
    "KRB5CCNAME": "/tmp/krb5",
    "SSL_CERT_FILE": "/all.pem",
}


def test_a_local_tool_gets_a_small_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No secret of ours, and nothing that would lead it to another server; what TLS and text need is there."""
    for name, value in {**SECRETS, **NEEDED}.items():
        monkeypatch.setenv(name, value)
    said = run(DirectRunner(cancel=Cancel()), ["env"], {"PGHOST": "db", "PGDATABASE": "x"}).decode()
    got = dict(line.split("=", 1) for line in said.splitlines())
    assert {name: got.get(name) for name in NEEDED} == NEEDED
    assert (got["PGHOST"], got["PGDATABASE"]) == ("db", "x")
    assert not set(got) & set(SECRETS)
    assert set(got) <= {*NEEDED, *INHERITED, "PGHOST", "PGDATABASE"} | {name for name in got if name[:3] == "LC_"}


@contextlib.contextmanager
def server_of(owner: str, *options: str) -> Iterator[str]:
    """A container whose data directory belongs to `owner`; it can connect to us."""
    with containers(["--env", "PGDATA=/tmp/pg", *options], network="bridge") as (name,):
        script = f"mkdir /tmp/pg && echo 17 > /tmp/pg/PG_VERSION && chown {owner} /tmp/pg/PG_VERSION"
        docker("exec", "--user", "0", name, "sh", "-c", script)
        yield name


@pytest.mark.docker
@pytest.mark.parametrize(
    ("owner", "options", "uid", "words"),
    [
        ("postgres:postgres", [], "999:999", "the server's own user (999:999)"),
        ("12345:54321", [], "12345:54321", "the server's own user (12345:54321)"),
        ("postgres:postgres", ["--user", "4711:4712"], "4711:4712", "4711:4712, the user of {name}"),
        ("root:root", [], "0:0", "root in {name}: /tmp/pg/PG_VERSION does not tell the server's own user"),
    ],
)
def test_tools_run_as_the_servers_own_user(
    docker_engine: str, owner: str, options: list[str], uid: str, words: str
) -> None:
    """Who owns the server's files, also one without a name; the container's own user where that is not root."""
    with server_of(owner, *options) as name:
        for runner in (connecting(name), connecting(name).detached()):
            assert run(runner, sh('echo "$(id -u):$(id -g)"'), {}).decode().strip() == uid
            assert runner.runs_as == words.format(name=name)
        assert bulk(connecting(name), sh('printf %s "$(id -u):$(id -g)"')).decode() == uid
        assert bulk(connecting(name), SAYS_ITS_BUFFER)


@pytest.mark.docker
def test_a_container_without_data_keeps_its_user(container: str) -> None:
    """Where nothing tells who the server is, its tools run as before, and the doctor says so."""
    runner = DockerExecRunner(Engine(), cancel=Cancel(), container=container)
    assert run(runner, ["id", "-u"], {}) == b"0\n"
    assert runner.runs_as.startswith(f"root in {container}: ")


# -- what is bulky

SAYS_ITS_BUFFER = sh('printf %s "$_STDBUF_O"')


def bulk(runner: Runner, argv: Sequence[str]) -> bytes:
    with runner.start(argv, {}, bulk="output") as process:
        said = read(process)
        assert process.wait().code == 0
    return said


def test_a_bulky_local_output_gets_a_large_buffer() -> None:
    """A pg_dump that writes by 4 KiB by itself is given a megabyte, and any other command is left as it is."""
    runner = DirectRunner(cancel=Cancel())
    assert bulk(runner, SAYS_ITS_BUFFER) == b"1048576"
    assert run(runner, SAYS_ITS_BUFFER, {}) == b""


@pytest.mark.parametrize("stdbuf", ["", "exit 125"])
def test_a_stdbuf_that_does_not_work_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stdbuf: str
) -> None:
    """None, or a broken one: the command runs all the same."""
    for tool in ("bash", "true"):
        (tmp_path / tool).symlink_to(f"/bin/{tool}")
    if stdbuf:
        (tmp_path / "stdbuf").write_text(f"#!/bin/sh\n{stdbuf}\n")
        (tmp_path / "stdbuf").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert bulk(DirectRunner(cancel=Cancel()), SAYS_ITS_BUFFER) == b""


@pytest.mark.docker
def test_a_bulky_output_of_a_container_gets_one_too(near: str) -> None:
    """The same by a data connection; where stdbuf is broken the command runs without."""
    runner = connecting(near)
    assert bulk(runner, SAYS_ITS_BUFFER) == b"1048576"
    docker("exec", near, "sh", "-c", "mv /usr/bin/stdbuf /usr/bin/stdbuf.away; ln -s /bin/false /usr/bin/stdbuf")
    try:
        assert bulk(runner, SAYS_ITS_BUFFER) == b""
    finally:
        docker("exec", near, "mv", "/usr/bin/stdbuf.away", "/usr/bin/stdbuf")


# -- direct


def test_a_local_secret_is_in_no_argv() -> None:
    """The environment is not what `ps` shows to everybody."""
    canary = "canari-7f3a"
    with DirectRunner(cancel=Cancel()).start(["sleep", "5"], {"PGPASSWORD": canary}):
        shown = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert "sleep 5" in shown
    assert canary not in shown


def test_a_local_command_ends_with_its_context() -> None:
    """No process of ours is left, not even one that ignores SIGTERM's first cousin, a closed pipe."""
    with DirectRunner(cancel=Cancel()).start(sh("echo $$; trap '' PIPE; exec sleep 30"), {}) as process:
        pid = int(bytes(next(process.chunks())))
        assert Path(f"/proc/{pid}").exists()
    assert not Path(f"/proc/{pid}").exists()


def test_a_local_tool_that_is_missing_has_a_remedy() -> None:
    """Without PostgreSQL's client tools, the error says which to install."""
    with (
        pytest.raises(RunnerError, match="pg_dump is not installed here") as caught,
        DirectRunner(cancel=Cancel(), path="/nonexistent").start(["pg_dump"], {}),
    ):
        pass
    assert "client tools" in caught.value.remedy


# -- docker: the engine's protocol


@pytest.fixture(scope="module")
def proxy(docker_engine: str) -> Iterator[DockerProxy]:
    with docker_proxy() as running:
        yield running


@pytest.fixture
def broken(proxy: DockerProxy, container: str) -> Iterator[Callable[..., Runner]]:
    """Makes a runner whose engine does what a fault says."""

    def make(
        stream: faults.Stream | None = None,
        inspect: Callable[[bytes], bytes] | None = None,
        cancel: Cancel | None = None,
        idle_seconds: float = 30,
    ) -> Runner:
        runner = DockerExecRunner(
            Engine(proxy.url), cancel=cancel or Cancel(), container=container, idle_seconds=idle_seconds
        )
        proxy.stream, proxy.inspect = stream, inspect
        return runner

    yield make
    proxy.stream = proxy.inspect = None


FRAMES = sh("for i in 1 2 3 4; do echo line $i; sleep 0.05; done")


@pytest.mark.docker
@pytest.mark.parametrize("stream", [faults.pass_on, faults.together, faults.dribble])
def test_no_frame_is_lost_however_it_arrives(broken: Callable[..., Runner], stream: faults.Stream) -> None:
    """Frames that come in one packet with the HTTP head, and frames that come byte by byte, are all read."""
    assert run(broken(stream), FRAMES, {}) == b"line 1\nline 2\nline 3\nline 4\n"


@pytest.mark.docker
@pytest.mark.parametrize("more_bytes", [1, 7, 8, 9, 14])
def test_a_cut_frame_is_a_failure(broken: Callable[..., Runner], more_bytes: int) -> None:
    """Cut inside a frame's header, right behind it, or inside its body: the stream is broken, not ended."""
    with pytest.raises(StreamError, match="cut in the middle of a frame"):
        run(broken(faults.cut_after(2, more_bytes)), FRAMES, {})


@pytest.mark.docker
def test_a_stream_cut_at_a_frames_edge_waits_for_the_exit(broken: Callable[..., Runner]) -> None:
    """Whole frames and exit code 0 look well: only the dump's own last words tell (test_backup.py)."""
    assert run(broken(faults.cut_after(2)), FRAMES, {}) == b"line 1\nline 2\n"


@pytest.mark.docker
@pytest.mark.parametrize(
    ("stream", "complaint"),
    [(faults.unknown_kind, r"unknown kind \(7\)"), (faults.engine_error, "broke off the stream: disk gone")],
)
def test_a_frame_that_is_no_output_is_a_failure(
    broken: Callable[..., Runner], stream: faults.Stream, complaint: str
) -> None:
    """What the engine says in the stream about the stream is not taken for the command's output."""
    with pytest.raises(StreamError, match=complaint):
        run(broken(stream), FRAMES, {})


@pytest.mark.docker
def test_a_refused_exec_is_the_engines_error(broken: Callable[..., Runner]) -> None:
    """An engine that does not start the command is told with its own words."""
    with pytest.raises(EngineError, match=r"refused an exec .*500.*cannot start"):
        run(broken(faults.refuse), FRAMES, {})


@pytest.mark.docker
def test_a_stalled_engine_ends_at_the_idle_limit(broken: Callable[..., Runner]) -> None:
    """Silence on the socket ends with the watchdog, with what to look at."""
    with pytest.raises(StreamError, match="sent no byte for 1 s") as caught:
        run(broken(faults.stall, idle_seconds=1), FRAMES, {})
    assert "paused" in caught.value.remedy


@pytest.mark.docker
@pytest.mark.parametrize(
    ("inspect", "complaint"),
    [
        (faults.saying(ExitCode=None), "could not tell how bash ended"),
        (faults.saying(Running=True), "could not tell how bash ended"),
        (faults.saying(Running=True, ExitCode=None), "Running is True, ExitCode is None"),
        (faults.no_such_exec, "no longer knows the command"),
    ],
)
def test_an_unknown_exit_is_a_failure(
    broken: Callable[..., Runner],
    monkeypatch: pytest.MonkeyPatch,
    inspect: Callable[[bytes], bytes],
    complaint: str,
) -> None:
    """No exit code, an exec that the engine forgot, one that never stops running: none of them is success."""
    monkeypatch.setattr(docker_exec, "EXIT_SECONDS", 0.5)
    with pytest.raises(StreamError, match=complaint):
        run(broken(inspect=inspect), FRAMES, {})


@pytest.mark.docker
def test_the_api_version_is_negotiated(broken: Callable[..., Runner], proxy: DockerProxy) -> None:
    """Every call carries the version that this engine speaks: recent engines refuse old ones."""
    proxy.requests.clear()
    run(broken(), FRAMES, {})
    version = docker("version", "--format", "{{.Server.APIVersion}}")
    calls = [line for line in proxy.requests if "/exec" in line]
    assert calls
    assert all(f" /v{version}/" in line for line in calls)


@pytest.mark.docker
def test_a_secret_is_not_in_dockers_events(container: str) -> None:
    """An exec's command line is published to everyone who may listen to the engine; its environment is not."""
    since = time.time()
    runner = DockerExecRunner(Engine(), cancel=Cancel(), container=container)
    run(runner, sh("true", "visible-7f3a"), {"PGPASSWORD": "canari-7f3a"})
    shown = docker("events", "--since", f"{since:.3f}", "--until", f"{time.time() + 1:.3f}", "--format", "{{json .}}")
    assert "visible-7f3a" in shown
    assert "canari-7f3a" not in shown


@pytest.mark.docker
def test_a_container_that_stops_is_no_success(docker_engine: str) -> None:
    """Killing the database's container in the middle of a command is a failure."""
    with containers([]) as (name,):
        runner = DockerExecRunner(Engine(), cancel=Cancel(), container=name)
        with runner.start(sh("echo first; exec sleep 60"), {}) as process:
            chunks = process.chunks()
            assert bytes(next(chunks)) == b"first\n"
            docker("kill", name)
            assert_fails(process, chunks)
        with pytest.raises(ContainerError, match="stopped or was replaced"):
            run(runner, ["true"], {})


# -- docker: the data connection


def started(runner: Runner, mark: str) -> None:
    """Start, by a data connection, what leaves a mark in the container."""
    with runner.start(["touch", f"/tmp/{mark}"], {}, bulk="output") as process:
        read(process)
        process.wait()


@pytest.mark.docker
def test_the_bytes_go_around_the_engine(proxy: DockerProxy, near: str) -> None:
    """Ten megabytes arrive, and the engine's stream carries none of them."""
    relayed: list[int] = []

    def counting(head: bytes, engine: socket.socket, client: socket.socket) -> None:
        client.sendall(head)
        while data := engine.recv(65536):
            relayed.append(len(data))
            client.sendall(data)

    proxy.stream = counting
    try:
        with connecting(near, url=proxy.url).start(
            ["head", "-c", "10000000", "/dev/zero"], {}, bulk="output"
        ) as process:
            assert read(process) == bytes(10_000_000)
            assert process.wait().code == 0
    finally:
        proxy.stream = None
    assert sum(relayed) == 0


@pytest.mark.docker
@pytest.mark.parametrize(
    "obstacle", ["no network", "refused", "late", "no bash", "forbidden", "a remote engine", "an unknown network"]
)
def test_without_a_data_connection_nothing_is_started(
    near: str, container: str, monkeypatch: pytest.MonkeyPatch, obstacle: str
) -> None:
    """Whatever is in the way, the command is not started, and can be, once, by the exec's own streams."""
    mark = f"mark-{secrets.token_hex(4)}"
    place, complaint = near, "can't connect"
    with contextlib.ExitStack() as stack:
        if obstacle == "no network":
            place, complaint = container, "no network in common"
        elif obstacle == "refused":  # the container's own loopback
            here = Endpoints("127.0.0.1", "127.0.0.1")
            monkeypatch.setattr(Engine, "endpoints_with", lambda engine, name: [here])
        elif obstacle == "late":
            complaint = "no connection from the database's container reached"
            monkeypatch.setattr(data_connection, "CONNECT_SECONDS", 0.5)
            monkeypatch.setattr(data_connection, "DIAL", f"sleep 1; {data_connection.DIAL}")
        elif obstacle == "a remote engine":
            complaint = "not at a unix socket"
            monkeypatch.setattr(Engine, "is_local", False)
        elif obstacle == "an unknown network":
            complaint = "the Docker engine refused"
            refusal = EngineError("the Docker engine refused: 403")
            monkeypatch.setattr(Engine, "_networks_of", unittest.mock.Mock(side_effect=refusal))
        elif obstacle == "no bash":
            (place,) = stack.enter_context(containers([], network="bridge"))
            docker("exec", place, "sh", "-c", "rm -f /bin/bash /usr/bin/bash")
        runner = connecting(place)
        if obstacle == "forbidden":
            runner, complaint = DockerExecRunner(Engine(), cancel=Cancel(), container=place), "nobody asked"
        with pytest.raises(NoDataConnectionError, match=complaint):
            started(runner, mark)
        time.sleep(2 if obstacle == "late" else 0)
        assert run(runner, ["find", "/tmp", "-name", mark], {}) == b""
        run(runner, ["touch", f"/tmp/{mark}"], {})


@pytest.mark.docker
def test_an_engine_that_refuses_the_exec_is_no_data_connection(proxy: DockerProxy, near: str) -> None:
    """So do some engines say that there is no bash: the exec's own streams are tried then."""
    proxy.stream = faults.refuse
    try:
        with pytest.raises(NoDataConnectionError, match="cannot start"):
            started(connecting(near, url=proxy.url), "mark")
    finally:
        proxy.stream = None


@pytest.mark.docker
@pytest.mark.parametrize("more_bytes", [1, 9])
def test_a_cut_exec_stream_fails_what_flows_beside_it(proxy: DockerProxy, near: str, more_bytes: int) -> None:
    """Whether the command ended well could not be told any more: it is a failure, and soon."""
    proxy.stream = faults.cut_after(1, more_bytes)
    clock = time.monotonic()
    try:
        runner = connecting(near, url=proxy.url)
        with (
            runner.start(sh("echo a >&2; sleep 0.1; echo b >&2; timeout 5 yes"), {}, bulk="output") as process,
            pytest.raises(StreamError, match="cut in the middle of a frame"),
        ):
            read(process)
    finally:
        proxy.stream = None
    assert time.monotonic() - clock < 3


@pytest.mark.docker
def test_an_exec_stream_that_ends_early_does_not_end_what_flows(
    proxy: DockerProxy, near: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something before the engine may end a silent stream: the bytes come all the same, and the exit is asked for."""
    monkeypatch.setattr(data_connection, "LAST_BYTES_SECONDS", 0.5)
    proxy.stream = faults.cut_after(1)
    try:
        runner = connecting(near, url=proxy.url)
        with runner.start(sh("echo a >&2; echo one; sleep 2; echo two"), {}, bulk="output") as process:
            assert read(process) == b"one\ntwo\n"
            assert process.wait().code == 0
    finally:
        proxy.stream = None


@pytest.mark.docker
def test_a_killed_container_is_noticed_behind_full_buffers(docker_engine: str) -> None:
    """A container takes its network with it: what it had not sent will never come, nor will the end of the stream."""
    with containers([], network="bridge") as (name,):
        with connecting(name).start(["timeout", "60", "yes"], {}, bulk="output") as process:
            chunks = process.chunks()
            next(chunks)
            docker("kill", name)
            clock = time.monotonic()
            assert_fails(process, chunks)
        assert time.monotonic() - clock < data_connection.LAST_BYTES_SECONDS + 3


@pytest.mark.docker
def test_a_network_that_is_taken_away_ends_at_the_idle_limit(docker_engine: str) -> None:
    """Nobody tells that the bytes will not come any more: the watchdog does."""
    with (
        containers([], network="bridge") as (name,),
        connecting(name, idle_seconds=1).start(["timeout", "60", "yes"], {}, bulk="output") as process,
    ):
        chunks = process.chunks()
        next(chunks)
        docker("network", "disconnect", "bridge", name)
        with pytest.raises(StreamError, match="sent no byte for 1 s"):
            for _ in chunks:
                pass


def running_in(name: str) -> list[str]:
    """The command lines of its processes."""
    return [line.split(None, 1)[1] for line in docker("top", name, "-eo", "pid,args").splitlines()[1:]]


@pytest.mark.docker
@pytest.mark.parametrize("cut", [False, True])
def test_what_is_fed_ends_with_whoever_feeds_it(docker_engine: str, cut: bool) -> None:
    """It would wait for more forever, also where the network is gone before the end of the stream could be sent: the
    exec's own end tells. Nothing is left that PostgreSQL, as the container's first process, would have to bury."""
    with containers([], network="bridge") as (name,):
        with connecting(name).start(["sleep", "4321"], {}, bulk="input"):
            if cut:
                docker("network", "disconnect", "bridge", name)
            wait_until(lambda: "sleep 4321" in running_in(name), "the command")
        wait_until(lambda: running_in(name) == ["sleep 600"], "the command's end")


@pytest.mark.docker
def test_a_fed_command_that_is_killed_is_the_shells_to_bury(docker_engine: str) -> None:
    """PostgreSQL takes a child that ends by a signal for a backend that crashed, and would end all others."""
    with postgres_container(network="bridge") as name:
        runner = connecting(name)
        begun = "SELECT pg_postmaster_start_time(), (SELECT min(backend_start) FROM pg_stat_activity WHERE pid > 1)"
        psql = ["psql", "-U", "hubchantier", "-d", "postgres", "-XAt"]
        before = run(runner, [*psql, "-c", begun], {})
        assert b"|" in before
        for script in ("kill -KILL $$", "kill -TERM $$", "exit 3", "psql -U nobody"):
            with runner.start(sh(script), {}, bulk="input") as process:
                read(process)
                assert process.wait().code != 0
        with runner.start(psql, {}, bulk="input") as process:
            process.write(b"SELECT pg_sleep(60);\n")
        wait_until(lambda: not any("bash" in line for line in running_in(name)), "the end of the shells")
        assert run(runner, [*psql, "-c", begun], {}) == before


@pytest.mark.docker
def test_the_nonce_is_not_in_dockers_events(near: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who listens to the engine's events could otherwise take the command's place."""
    monkeypatch.setattr(secrets, "token_hex", lambda count: "f00d" * 8)
    since = time.time()
    with connecting(near).start(sh("env; cat /proc/self/cmdline"), {}, bulk="output") as process:
        seen = read(process).decode()
        process.wait()
    shown = docker("events", "--since", f"{since:.3f}", "--until", f"{time.time() + 1:.3f}", "--format", "{{json .}}")
    assert "HUBBACKUP_DATA_ADDRESS" in shown
    assert "f00d" * 8 not in shown
    assert "f00d" * 8 not in seen


# -- docker: finding the container


def find(service: str = "db", name: str = "") -> str:
    return str(Engine().find_container(service=service, container=name).name)


def labels(project: str, service: str = "db", *, oneoff: str = "False") -> list[str]:
    pairs = {PROJECT_LABEL: project, SERVICE_LABEL: service, "com.docker.compose.oneoff": oneoff}
    return [word for label, value in pairs.items() for word in ("--label", f"{label}={value}")]


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch) -> str:
    """The compose project that we are in."""
    name = f"hub{secrets.token_hex(4)}"
    monkeypatch.setenv("COMPOSE_PROJECT_NAME", name)
    return name


@pytest.mark.docker
def test_the_service_is_found_in_our_own_project(docker_engine: str, project: str) -> None:
    """By compose's labels, whatever the container is called; another project's `db` and a one-off are not it."""
    with containers(
        labels(project), labels("other"), labels(project, oneoff="True"), labels(project, "web")
    ) as names:
        assert find() == names[0]


@pytest.mark.docker
def test_a_recreated_container_is_found_again(docker_engine: str, project: str) -> None:
    """`docker compose up` gives the service a new id: each run looks it up afresh."""
    with containers(labels(project)) as (old,):
        assert find() == old
        docker("rm", "-f", "-v", old)
        with containers(labels(project)) as (new,):
            assert find() == new


@pytest.mark.docker
def test_a_stopped_twin_is_passed_over(docker_engine: str, project: str) -> None:
    """Of several containers of the service, the running one counts."""
    with containers(labels(project), labels(project)) as (stopped, running):
        docker("kill", stopped)
        assert find() == running


@pytest.mark.docker
def test_two_databases_are_ambiguous(docker_engine: str, project: str) -> None:
    """Where two run the service, neither is guessed; both are named, and the setting that decides."""
    with containers(labels(project), labels(project)) as names, pytest.raises(ContainerError) as caught:
        find()
    assert all(name in str(caught.value) for name in names)
    assert "DB_CONTAINER" in caught.value.remedy


@pytest.mark.docker
def test_a_missing_service_is_told(docker_engine: str, project: str) -> None:
    """No such service: the project is named, with what to start or set."""
    with pytest.raises(
        ContainerError, match=f"no container of the service db in compose project {project}"
    ) as caught:
        find()
    assert "docker compose -f docker-compose.prod.yml up -d db" in caught.value.remedy


@pytest.mark.docker
def test_a_container_is_found_by_name(container: str) -> None:
    """DB_CONTAINER names it, and needs no compose."""
    assert find(name=container) == container
    with pytest.raises(ContainerError, match="there is no container named no-such-container") as caught:
        find(name="no-such-container")
    assert "DB_CONTAINER" in caught.value.remedy


@pytest.mark.docker
@pytest.mark.parametrize(
    ("command", "state", "remedy"),
    [("kill", "exited", "docker compose -f docker-compose.prod.yml up -d"), ("pause", "paused", "docker unpause")],
)
def test_a_container_that_does_not_run_is_told(
    docker_engine: str, project: str, command: str, state: str, remedy: str
) -> None:
    """Stopped or paused: its state is named, by service and by name, with the command that helps."""
    with containers(labels(project)) as (name,):
        docker(command, name)
        for found in ({"name": name}, {"service": "db"}):
            with pytest.raises(ContainerError, match=rf"{name} is not running \(it is {state}\)") as caught:
                find(**found)
            assert remedy in caught.value.remedy


# -- docker: reaching the engine


@pytest.mark.parametrize(
    ("host", "complaint"),
    [
        ("unix:///nonexistent/docker.sock", "the Docker socket /nonexistent/docker.sock does not exist here"),
        ("unix:///etc/passwd", "/etc/passwd is not a socket"),
        ("tcp://127.0.0.1:9", "the Docker engine at tcp://127.0.0.1:9 does not answer: Connection refused"),
    ],
)
def test_an_engine_that_is_not_there_is_told(host: str, complaint: str) -> None:
    """The error names where the engine was looked for, and the remedy what to mount or start."""
    with pytest.raises(EngineError) as caught:
        DockerExecRunner(Engine(host), cancel=Cancel(), container="db")
    assert str(caught.value) == complaint
    assert caught.value.remedy


def test_a_host_of_another_kind_is_bad_usage() -> None:
    """`ssh://` and the like are refused before anything is asked."""
    with pytest.raises(UsageError, match="DOCKER_HOST=ssh://db"):
        Engine("ssh://db")


def test_no_permission_on_the_socket_is_told(tmp_path: Path) -> None:
    """As a user without the group: the group is named, and how to give it to the container."""
    if os.geteuid() != 0:
        pytest.skip("becoming another user takes root")
    script = (
        "import docker, docker.errors, json, os, requests, sys\n"
        "from hubbackup.errors import EngineError; from hubbackup.runners.engine import Engine\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try: Engine(sys.argv[1]).client\n"
        "except EngineError as error: print(json.dumps([str(error), error.remedy]))"
    )
    with docker_proxy() as proxy:
        proxy.path.parent.chmod(0o755)
        proxy.path.chmod(0o660)
        done = subprocess.run(
            [sys.executable, "-c", script, proxy.url], capture_output=True, text=True, check=True, timeout=30
        )
    message, remedy = json.loads(done.stdout)
    assert message == f"no permission on the Docker socket {proxy.path} (it belongs to group 0)"
    assert remedy == "let hubbackup run with that group: group_add: ['0']"
