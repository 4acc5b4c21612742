"""The command line: parse, call, print text or JSON, map errors to exit codes. One verb, one file.

A command's module is imported when the command is called (commands.py), so it imports what it needs at its top.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.core import TyperGroup
from typer.exceptions import Abort, TyperException

from hubbackup import package_version
from hubbackup.cli.commands import ACTS, COMMANDS, LazyCommand
from hubbackup.cli.output import complain, print_error, print_json, say
from hubbackup.cli.printer import PRINTER
from hubbackup.cli.remedies import typable
from hubbackup.errors import (
    EXIT_DEGRADED,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_LOCKED,
    EXIT_STOPPED,
    EXIT_SUCCESS,
    EXIT_USAGE,
    NAGIOS_UNKNOWN,
    HubbackupError,
    UsageError,
)

EXIT_CODES = {
    f"{EXIT_SUCCESS}": "success",
    f"{EXIT_FAILED}": "failed",
    f"{EXIT_USAGE}": "bad usage or settings; nothing was done",
    f"{EXIT_DEGRADED}": "degraded: done, but a store lacks its copy, or could not be listed or pruned, or a server"
    " refused the schema",
    f"{EXIT_LOCKED}": "another run holds the lock; nothing was done",
    f"{EXIT_INTERRUPTED}, {EXIT_STOPPED}": "stopped by a signal (SIGINT, SIGTERM)",
}
"""The one table of exit codes: of the help, and of docs/cli.md."""

HELP = "PostgreSQL backups for docker compose, proven to restore.\n\n\b\nExit codes:\n" + "\n".join(
    f"  {code:<8}  {meaning}" for code, meaning in EXIT_CODES.items()
)


def _show_version(wanted: bool) -> None:
    if wanted:
        say(f"hubbackup {package_version()}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """The options before a command."""


def command_line() -> TyperGroup:
    """`hubbackup` with all its commands."""
    app = typer.Typer(
        name="hubbackup", help=HELP, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
    )
    app.callback()(_root)
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)  # noqa: S101 - a Typer with a callback
    for name, (place, summary) in COMMANDS.items():
        group.add_command(LazyCommand(name, place, summary))
    return group


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. An error is one sentence on stderr, with what to do next.

    With `--json`, a run that failed has its one document on stdout too: exit code, error, message, remedy.
    """
    words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    PRINTER.result_stands = words[0] in ACTS
    try:
        result = command_line().main(words, prog_name="hubbackup", standalone_mode=False)
    except TyperException as error:
        return _report(UsageError(error.format_message().rstrip("."), remedy="hubbackup --help"), words)
    except (Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return EXIT_FAILED  # the reader of our output has gone, so nobody would read an error
    except HubbackupError as error:
        return _report(error, words)
    except Exception as error:  # noqa: BLE001 - the last resort of the command line
        if os.environ.get("LOG_LEVEL") == "debug":
            complain(*traceback.format_exc().splitlines())  # not by raising it: what it quotes may be a secret
        text = f"internal error: {type(error).__name__}: {error}"
        return _report(HubbackupError(text, remedy="this is a bug; LOG_LEVEL=debug shows where"), words)
    return result if isinstance(result, int) else EXIT_SUCCESS


def _report(error: HubbackupError, words: Sequence[str]) -> int:
    """Report what went wrong, for people and for machines; returns the exit code."""
    print_error(error)
    if words[:1] == ["check"]:
        return NAGIOS_UNKNOWN
    if "--json" in words:
        print_json(
            {
                "exit_code": error.exit_code,
                "error": type(error).__name__,
                "message": str(error),
                "remedy": typable(error.remedy),
            }
        )
    return error.exit_code
