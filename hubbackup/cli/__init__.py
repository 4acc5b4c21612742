"""The command line: parse, call, print text or JSON, map errors to exit codes. One verb, one file."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer
from typer.exceptions import Abort, TyperException

from hubbackup.cli import (
    backup,
    check,
    config,
    daemon,
    doctor,
    drill,
    health,
    list_,
    marks,
    notify_test,
    prune,
    restore,
    status,
    verify,
)
from hubbackup.cli.common import print_json
from hubbackup.errors import HubbackupError, UsageError

EXIT_CODES = (
    "Exit codes: 0 success, 1 failed, 2 bad usage or settings (nothing was done), 3 degraded (a good local copy,"
    " a configured store lacks its copy), 4 another run holds the lock, 143/130 stopped by a signal."
)

NAGIOS_UNKNOWN = 3
"""Of `check` alone: there 2 would say that the backups are in a critical state."""

cli = typer.Typer(
    name="hubbackup",
    help=f"PostgreSQL backups for docker compose, proven to restore.\n\n{EXIT_CODES}",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command, name in (
    (daemon.daemon, "daemon"),
    (backup.backup, "backup"),
    (restore.restore, "restore"),
    (drill.drill, "drill"),
    (list_.list_, "list"),
    (verify.verify, "verify"),
    (prune.prune, "prune"),
    (marks.pin, "pin"),
    (marks.unpin, "unpin"),
    (marks.accept, "accept"),
    (status.status, "status"),
    (check.check, "check"),
    (health.health, "health"),
    (doctor.doctor, "doctor"),
    (notify_test.notify_test, "notify-test"),
    (config.config, "config"),
):
    cli.command(name)(command)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. An error is one sentence on stderr, with what to do next.

    With `--json`, a run that failed has its one document on stdout too: exit code, error, message, remedy.
    """
    words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        result = cli(args=words, standalone_mode=False)
    except TyperException as error:
        return _tell(UsageError(error.format_message().rstrip("."), remedy="hubbackup --help"), words)
    except (Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has gone; nothing is left to be told
        return 1
    except HubbackupError as error:
        return _tell(error, words)
    except Exception as error:
        if os.environ.get("LOG_LEVEL") == "debug":
            raise
        text = f"internal error: {type(error).__name__}: {error}"
        return _tell(HubbackupError(text, remedy="this is a bug; LOG_LEVEL=debug shows where"), words)
    return result if isinstance(result, int) else 0


def _tell(error: HubbackupError, words: Sequence[str]) -> int:
    """Say what went wrong, for people and for machines; returns the exit code."""
    print(f"hubbackup: {error}", file=sys.stderr)
    if error.remedy:
        print(f"  what to do: {error.remedy}", file=sys.stderr)
    if words[:1] == ["check"]:
        return NAGIOS_UNKNOWN
    if "--json" in words:
        print_json(
            {
                "exit_code": error.exit_code,
                "error": type(error).__name__,
                "message": str(error),
                "remedy": error.remedy,
            }
        )
    return error.exit_code
