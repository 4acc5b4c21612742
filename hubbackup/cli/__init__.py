"""The command line: parse, call, print text or JSON, map errors to exit codes. One verb, one file."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from hubbackup.cli import backup, config, daemon, health, list_, prune, status
from hubbackup.errors import HubbackupError

EXIT_CODES = (
    "Exit codes: 0 success, 1 failed, 2 bad usage or settings (nothing was done), 3 degraded (a good local copy,"
    " a configured store lacks its copy), 4 another run holds the lock, 143/130 stopped by a signal."
)

cli = typer.Typer(
    name="hubbackup",
    help=f"PostgreSQL backups for docker compose, proven to restore.\n\n{EXIT_CODES}",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command, name in (
    (daemon.daemon, "daemon"),
    (backup.backup, "backup"),
    (list_.list_, "list"),
    (prune.prune, "prune"),
    (status.status, "status"),
    (health.health, "health"),
    (config.config, "config"),
):
    cli.command(name)(command)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. An error is one sentence on stderr, with what to do next."""
    try:
        result = cli(args=list(arguments) if arguments is not None else None, standalone_mode=False)
    except typer.TyperException as error:  # bad usage; typer has its own click inside, which is not to be imported
        text = error.format_message()
        if text.startswith("Usage:"):  # no command at all: the help itself
            print(text, file=sys.stderr)
        else:
            print(f"hubbackup: {text}\n  what to do: see `hubbackup --help`", file=sys.stderr)
        return 2
    except typer.Exit as end:
        return end.exit_code
    except (typer.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has gone; nothing is left to be told
        return 1
    except HubbackupError as error:
        print(f"hubbackup: {error}", file=sys.stderr)
        if error.remedy:
            print(f"  what to do: {error.remedy}", file=sys.stderr)
        return error.exit_code
    return result if isinstance(result, int) else 0
