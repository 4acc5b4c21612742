"""`make demo`: a real backup of a real PostgreSQL, proven, restored, compared; then a broken copy, refused.

No Docker: the server is the one of the tests (tests/support/embedded_postgres.py), S3 is moto's. The backup is
made by the `hubbackup` command itself, and restored by nothing but `gunzip` and `psql`. Whatever happens, no
process and no file is left behind.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import hashlib
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import FrameType
from typing import TypeVar

from hubbackup.catalog.backup import BackupName, Manifest
from hubbackup.dump.census import Census
from hubbackup.errors import HubbackupError, NotProvenError
from hubbackup.streams.cancel import Cancel
from hubbackup.streams.format import DEFAULT_FORMAT
from hubbackup.units import human_bytes
from hubbackup.verify.reader import Expected, check_file
from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.fingerprint import diff, fingerprint
from tests.support.s3 import S3Server, s3_server
from tests.support.sample import load_sample

T = TypeVar("T")
DATABASE = "hub_chantier"
RESTORED = "hub_chantier_restored"
HALF = "hub_chantier_half"
COMMAND_SECONDS = 300
STOP_SECONDS = 15
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
CUT_AT = 0.5
PSQL_OPTIONS = ("-X", "-q", "-o", os.devnull, "-v", "ON_ERROR_STOP=1")

COUNTS_SQL = r"""
SELECT format('SELECT %L, count(*) FROM ONLY %s;', format('%I.%I', n.nspname, c.relname), c.oid::regclass)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' ORDER BY c.oid
\gexec
"""


class DemoError(Exception):
    """A promise was not kept; the message says which."""


class StoppedBySignal(BaseException):
    """Ctrl-C, or another request to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Stop:
    """Turns the first signal into StoppedBySignal, and never while something is half begun or being tidied up."""

    def __init__(self) -> None:
        self._held = False
        self._pending = 0
        for number in STOP_SIGNALS:
            signal.signal(number, self._on_signal)

    @contextmanager
    def held(self) -> Iterator[None]:
        """What is begun inside is also registered to be ended before a signal is heard."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
            if self._pending:  # also where the same Ctrl-C made what was begun fail
                self.ignore()
                raise StoppedBySignal(self._pending)

    def ignore(self) -> None:
        """From now on the way out is not disturbed."""
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self._held:
            self._pending = number
            return
        self.ignore()
        raise StoppedBySignal(number)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; 0 where every promise was kept, 1 where one was not, 128 + N after signal N."""
    parser = argparse.ArgumentParser(prog="python -m scripts.demo", description="A backup from end to end.")
    parser.add_argument("--megabytes", type=float, default=55, help="size of the plain dump (default 55)")
    options = parser.parse_args(arguments)
    page = Page()
    stop = Stop()
    try:
        with contextlib.ExitStack() as stack:
            try:
                demo = Demo(page, stop, stack, options.megabytes)
                demo.run()
                page.tidying_up()
            finally:
                stop.ignore()
    except StoppedBySignal as stopped:
        page.bad(f"stopped by {signal.Signals(stopped.number).name}; nothing is left running, and no file")
        return 128 + stopped.number
    except (DemoError, HubbackupError, AssertionError) as error:  # the servers of the tests raise the last
        page.bad(f"the demo failed: {error}; nothing is left running, and no file")
        return 1
    page.summary(demo.kept)
    return 0


class Demo:
    """The steps, in order; `kept` gathers the promises that held. What it opens ends with `stack`."""

    def __init__(self, page: Page, stop: Stop, stack: contextlib.ExitStack, megabytes: float) -> None:
        self.kept: list[str] = []
        self._stop = stop
        self._page = page
        self._megabytes = megabytes
        self._stack = stack

    def run(self) -> None:
        """All of it. Raises DemoError at the first promise that is not kept."""
        page = self._page
        page.title("hubbackup: a backup from end to end, without Docker")
        self._start_servers()
        self._back_up()
        self._check()
        self._restore()
        self._look_into_s3()
        self._break_a_copy()

    # ------------------------------------------------------------------------------------------ the steps

    def _start_servers(self) -> None:
        page = self._page
        page.step("A database to back up, and an S3 server")
        directory = self._open(lambda: tempfile.TemporaryDirectory(prefix="hubbackup-demo-"))
        self._directory = Path(directory)
        self._backups = self._directory / "backups"
        self._backups.mkdir()
        with page.timed("PostgreSQL {} on {}:{}, in a temporary directory") as words:
            self._server = self._open(lambda: EmbeddedPostgres(16))
            words[:] = self._server.psql("SHOW server_version"), self._server.host, self._server.port
        with page.timed("S3 (moto) on {}, with an empty bucket {}") as words:
            self._s3: S3Server = self._open(s3_server)
            self._bucket = self._s3.bucket()
            words[:] = self._s3.endpoint_url, self._bucket
        with page.timed("the sample database {}: {:,} rows in {} tables") as words:
            self._server.create_database(DATABASE)
            load_sample(self._server.psql, DATABASE, self._megabytes)
            self._source_rows = self._count(DATABASE)
            words[:] = DATABASE, sum(self._source_rows.values()), len(self._source_rows)

    def _back_up(self) -> None:
        page = self._page
        page.step("The backup: pg_dump, counted and gzipped on its way, to local disk and S3 at once")
        settings = self._settings()
        for variable, value in settings.items():
            page.quiet(f"{variable}={'********' if 'PASSWORD' in variable or 'SECRET' in variable else value}")
        clock = time.monotonic()
        self._hubbackup("backup")
        self._backup_seconds = time.monotonic() - clock
        self._hubbackup("list")
        found = sorted(path.name for path in self._backups.iterdir() if path.name.endswith(".sql.gz"))
        if len(found) != 1:
            raise DemoError(f"one backup was expected in {self._backups}, there are {found}")
        self._file = self._backups / found[0]
        name = BackupName.parse(found[0])
        if name is None:
            raise DemoError(f"{found[0]} is not a name of a backup")
        self._manifest_file = self._backups / name.manifest
        self._manifest = Manifest.from_json(self._manifest_file.read_bytes(), name=found[0])
        manifest = self._manifest
        page.say(
            f"{human_bytes(manifest.plain_bytes)} of SQL became {human_bytes(manifest.stored_bytes)}:"
            f" {manifest.dump_seconds:.1f} s with the database, {manifest.verify_seconds:.1f} s to read it back"
        )
        self._keep(
            f"{human_bytes(manifest.plain_bytes)} backed up in {self._backup_seconds:.1f} s, start of the program"
            " and upload included"
        )

    def _check(self) -> None:
        page = self._page
        page.step("Is the file good? Asked with tools that know nothing of hubbackup")
        self._command("gunzip", "-t", str(self._file))
        page.good("gunzip: every byte decodes, and the checksum within is right")
        said = self._command("sha256sum", str(self._file)).split()[0]
        if said != self._manifest.sha256:
            raise DemoError(f"sha256sum says {said}, the manifest {self._manifest.sha256}")
        page.good(f"sha256sum: {said[:16]}…, the one in {self._manifest_file.name}")
        self._keep("gunzip and sha256sum agree with the manifest")

    def _restore(self) -> None:
        page = self._page
        page.step("Restored with gunzip and psql alone, and compared")
        self._server.create_database(RESTORED)
        with page.timed("psql ended with exit code 0"):
            self._pipe(["gunzip", "-c", str(self._file)], ["psql", *PSQL_OPTIONS, "-d", RESTORED])
        restored = self._count(RESTORED)
        page.table(
            ("table", "source", "manifest", "restored"),
            [
                (table, *(str(rows.get(table, "-")) for rows in (self._source_rows, self._manifest.rows, restored)))
                for table in {**self._source_rows, **self._manifest.rows, **restored}
            ],
        )
        if not self._source_rows == self._manifest.rows == restored:
            raise DemoError("the row counts differ")
        page.good(f"{sum(restored.values()):,} rows in {len(restored)} tables: the same three times")
        with page.timed("compared every row, index, sequence, view, function, trigger, grant and large object"):
            found = diff(
                fingerprint(self._server.psql, DATABASE),
                fingerprint(self._server.psql, RESTORED),
                properties=False,  # the database's own owner and settings are in the manifest, not in the dump
            )
        if found:
            raise DemoError(f"the restored database differs: {'; '.join(found[:5])}")
        page.good("no difference")
        self._keep("the restored database is the source, row by row and object by object")

    def _look_into_s3(self) -> None:
        page = self._page
        page.step("The second copy, in S3")
        keys = self._s3.keys(self._bucket)
        for key in keys:
            page.quiet(f"s3://{self._bucket}/{key}")
        wanted = {f"backups/{self._file.name}", f"backups/{self._manifest_file.name}"}
        if set(keys) != wanted:
            raise DemoError(f"the bucket holds {keys}, expected were {sorted(wanted)}")
        digest = hashlib.sha256()
        body = self._s3.client.get_object(Bucket=self._bucket, Key=f"backups/{self._file.name}")["Body"]
        for chunk in body.iter_chunks(1 << 20):
            digest.update(chunk)
        if digest.hexdigest() != self._manifest.sha256:
            raise DemoError("the object in S3 has another sha256 than the manifest")
        page.good(f"downloaded and hashed: {digest.hexdigest()[:16]}… again")
        self._keep("local disk and S3 hold the same bytes")

    def _break_a_copy(self) -> None:
        page = self._page
        page.step("What a broken copy looks like")
        cut = self._directory / "cut.sql.gz"
        whole = self._file.read_bytes()
        cut.write_bytes(whole[: int(len(whole) * CUT_AT)])
        page.say("A copy of the file, cut in the middle as by a full disk or a broken download:")
        self._command("gunzip", "-t", str(cut), may_fail=True)
        page.refused(f"hubbackup: {self._refusal(cut)}")

        page.say("The worse case: pg_dump died half-way, and gzip closed the file properly behind it.")
        with gzip.open(self._file) as dump:
            half = dump.read(int(self._manifest.plain_bytes * CUT_AT))
        half = half[: half.rfind(b"\n") + 1]
        with gzip.open(cut, "wb", compresslevel=1) as file:
            file.write(half)
        self._command("gunzip", "-t", str(cut))
        self._server.create_database(HALF)
        self._pipe(["gunzip", "-c", str(cut)], ["psql", *PSQL_OPTIONS, "-1", "-d", HALF])
        rows, all_rows = sum(self._count(HALF).values()), sum(self._source_rows.values())
        page.say(f"gunzip and psql, in one transaction, both ended with exit code 0: {rows:,} rows of {all_rows:,}.")
        page.refused(f"hubbackup, the copy:   {self._refusal(cut)}")
        census = Census()
        census.feed(half)
        try:
            census.finish()
        except NotProvenError as error:
            page.refused(f"hubbackup, the backup: {error}")
        else:
            raise DemoError("half a dump passed for a whole one")
        self._keep("a cut copy and half a dump are refused, also where gunzip and psql find no fault")

    def _refusal(self, copy: Path) -> str:
        """What hubbackup's own reading path says of `copy`. Raises DemoError where it finds it good."""
        manifest = self._manifest
        try:
            with copy.open("rb") as stream:
                decoder = DEFAULT_FORMAT.decoder()
                check_file(stream, Expected.of(manifest), decoder, name=copy.name, cancel=Cancel())
        except NotProvenError as error:
            return str(error)
        raise DemoError("a damaged copy passed for a good one")

    # ---------------------------------------------------------------------------------------- what they use

    def _keep(self, promise: str) -> None:
        self.kept.append(promise)

    def _open(self, make: Callable[[], AbstractContextManager[T]]) -> T:
        """Make it (a temporary directory is there from then on) and enter it; it ends with the demo."""
        with self._stop.held():
            return self._stack.enter_context(make())

    def _settings(self) -> dict[str, str]:
        """What a user would write into `.env.production`."""
        server, s3 = self._server, self._s3
        return {
            "POSTGRES_DB": DATABASE,
            "POSTGRES_USER": server.user,
            "POSTGRES_PASSWORD": server.password,
            "BACKUP_SOURCE": "direct",
            "PGHOST": server.host,
            "PGPORT": str(server.port),
            "BACKUP_DIR": str(self._backups),
            "S3_BACKUP_BUCKET": self._bucket,
            "S3_ENDPOINT_URL": s3.endpoint_url,
            "AWS_ACCESS_KEY_ID": s3.access_key_id,
            "AWS_SECRET_ACCESS_KEY": s3.secret_access_key,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def _hubbackup(self, *arguments: str) -> None:
        """The real program, with nothing of this machine's own settings around it."""
        environment = {
            "PATH": self._server.env()["PATH"],
            "HOME": str(self._directory),
            "TMPDIR": str(self._directory),
            "LANG": "C.UTF-8",
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path) or str(Path.cwd()),
            "LOG_LEVEL": "warning",
            **self._settings(),
        }
        self._page.command(["hubbackup", *arguments])
        self._page.output(self._run([sys.executable, "-m", "hubbackup", *arguments], environment))

    def _command(self, *argv: str, may_fail: bool = False) -> str:
        self._page.command(argv)
        said = self._run(argv, self._server.env(), must_fail=may_fail)
        if may_fail:
            self._page.refused(said.strip().removeprefix("\n"))
        return said

    def _pipe(self, left: Sequence[str], right: Sequence[str]) -> None:
        self._page.command(left, right)
        environment = self._server.env()
        with self._started(left, environment, stdout=subprocess.PIPE) as source:
            said = self._run(right, environment, stdin=source.stdout)
            if source.stdout is not None:
                source.stdout.close()
            if source.wait(COMMAND_SECONDS) != 0 or said.strip():
                raise DemoError(f"{shlex.join(left)} | {shlex.join(right)} ended with: {said.strip()}")

    def _count(self, database: str) -> dict[str, int]:
        """Rows per table, asked table by table."""
        lines = self._server.psql(COUNTS_SQL, database=database).split("\n")
        return {table: int(count) for table, _, count in (line.rpartition("|") for line in lines)}

    def _run(
        self, argv: Sequence[str], environment: Mapping[str, str], *, must_fail: bool = False, stdin: object = None
    ) -> str:
        """Run to the end; what it printed. Raises DemoError where the exit code is not as expected."""
        pipes = {"stdin": stdin or subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        with self._started(argv, environment, **pipes) as process:
            try:
                said = process.communicate(timeout=COMMAND_SECONDS)[0].decode(errors="replace")
            except subprocess.TimeoutExpired as error:
                raise DemoError(f"{shlex.join(argv)} took more than {COMMAND_SECONDS} s") from error
        if (process.returncode != 0) != must_fail:
            raise DemoError(f"{shlex.join(argv)} ended with exit code {process.returncode}: {said.strip()}")
        return said

    @contextmanager
    def _started(
        self, argv: Sequence[str], environment: Mapping[str, str], **pipes: object
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A process that does not outlive the block: asked to end, and killed where it does not."""
        process: subprocess.Popen[bytes] | None = None
        try:
            with self._stop.held():
                process = subprocess.Popen(argv, env=environment, **pipes)  # type: ignore[call-overload]
            yield process
        except FileNotFoundError as error:
            raise DemoError(f"{argv[0]} is not installed") from error
        finally:
            if process is not None and process.poll() is None:
                process.terminate()
                try:
                    process.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


class Page:
    """What the demo prints; in colour only on a terminal."""

    def __init__(self) -> None:
        colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self._codes = {"bold": 1, "dim": 2, "green": 32, "red": 31, "cyan": 36} if colours else {}
        self._steps = 0
        self._clock = time.monotonic()

    def title(self, text: str) -> None:
        """The first line."""
        self._print(self._in("bold", text))

    def step(self, text: str) -> None:
        """A numbered headline."""
        self._steps += 1
        self._print("", self._in("bold", f"{self._steps}. {text}"))

    def say(self, text: str) -> None:
        """A sentence."""
        self._print(f"   {text}")

    def quiet(self, text: str) -> None:
        """A detail."""
        self._print(f"   {self._in('dim', text)}")

    def command(self, *pipeline: Sequence[str]) -> None:
        """A command about to be run, or several with pipes between them."""
        self._print(f"   {self._in('cyan', '$ ' + ' | '.join(shlex.join(argv) for argv in pipeline))}")

    def output(self, text: str) -> None:
        """What a command printed."""
        self._print(*(f"   {line}".rstrip() for line in text.rstrip().split("\n")))

    def good(self, text: str) -> None:
        """Something that was proved."""
        self._print(f"   {self._in('green', '✓')} {text}")

    def refused(self, text: str) -> None:
        """Something that was rightly refused."""
        self._print(f"   {self._in('red', '✗')} {text}")

    def bad(self, text: str) -> None:
        """How the demo ended early."""
        self._print("", self._in("red", text[0].upper() + text[1:]))

    @contextmanager
    def timed(self, sentence: str) -> Iterator[list[object]]:
        """Say `sentence` with the words that the block puts into the list, and how long the block took."""
        words: list[object] = []
        clock = time.monotonic()
        yield words
        self.good(f"{sentence.format(*words)} ({time.monotonic() - clock:.1f} s)")

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Columns, the first to the left and the numbers to the right."""
        widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
        for row in (head, *rows):
            numbers = "  ".join(text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True))
            self.quiet(f"{row[0].ljust(widths[0])}  {numbers}")

    def tidying_up(self) -> None:
        """The last step begins."""
        self.step("Tidying up")

    def summary(self, kept: Sequence[str]) -> None:
        """What was shown, and in what time."""
        self.good("the servers are stopped, the temporary files are gone")
        self._print("", self._in("bold", f"Shown in {time.monotonic() - self._clock:.0f} s:"))
        for promise in kept:
            self.good(promise)

    def _in(self, style: str, text: str) -> str:
        return f"\x1b[{self._codes[style]}m{text}\x1b[0m" if style in self._codes else text

    def _print(self, *lines: str) -> None:
        print(*lines, sep="\n", flush=True)


if __name__ == "__main__":
    sys.exit(main())
