"""The commands by name: each module is imported only when its command is called, or its help is asked for."""

from __future__ import annotations

import gc
from collections.abc import Callable
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand

COMMANDS = {
    "daemon": ("daemon:daemon", "Run backups and drills on schedule until a signal stops it."),
    "backup": ("backup:backup", "Take a backup now: dump, prove, publish, upload, rotate."),
    "restore": ("restore:restore", "Restore a backup: prove it, load it, compare it, swap it in."),
    "recover": ("recover:recover", "Compare a table with a backup, row by row, and bring rows back."),
    "drill": ("drill:drill", "Restore a backup into a throwaway server, and time it."),
    "list": ("list_:list_", "List the backups, oldest first, and what is known of each."),
    "show": ("show:show", "Show what is in a backup, without restoring it."),
    "diff": ("diff:diff", "Show what is different between two backups, or live."),
    "extract": ("extract:extract", "Take one table's rows out of a backup: CSV, COPY's text, SQL."),
    "verify": ("verify:verify", "Read backups through and prove that they are whole."),
    "prune": ("prune:prune", "Remove the backups that the retention policy no longer keeps."),
    "lifecycle": ("lifecycle:lifecycle", "Show or set the bucket's own rules: archive, expire, tidy up."),
    "pin": ("marks:pin", "Keep a backup forever, in every store."),
    "unpin": ("marks:unpin", "Let a pinned backup be pruned like the others of its age."),
    "accept": ("marks:accept", "Accept a suspicious backup as the new normal."),
    "adopt": ("adopt:adopt", "Take backups of before, or of another server, for our own."),
    "keygen": ("keygen:keygen", "Make a pair of keys that seals backups and opens them."),
    "status": ("status:status", "Show whether all is well, the last good backup, the next run."),
    "check": ("check:check", "Report in one line, for Nagios, whether the backups are well."),
    "health": ("health:health", "Report whether the daemon is alive, for HEALTHCHECK."),
    "doctor": ("doctor:doctor", "Try everything that a backup needs, and say what to fix."),
    "notify-test": ("notify_test:notify_test", "Send a test message to each sink, and report its answer."),
    "config": ("config:config", "Show every setting in effect, and where it came from."),
}
"""In the order of the help: the module and function in this package, and the first line of its docstring."""


ACTS = {"backup", "restore", "recover", "drill", "prune", "pin", "unpin", "accept", "adopt", "notify-test"}
"""Those that do something: what they print only says what became of it."""


class LazyCommand(TyperCommand):
    """Stands for a command in the group's help. Called, it imports the module and hands over to the real command."""

    def __init__(self, name: str, place: str, summary: str) -> None:
        super().__init__(name, short_help=summary)
        self._place = place

    def load(self) -> TyperCommand:
        """The real command, its module imported."""
        module, _, function = self._place.partition(":")
        callback: Callable[..., int] = getattr(import_module(f"{__package__}.{module}"), function)
        gc.freeze()  # what was imported stays, and is not looked through again
        gc.enable()
        app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
        app.command(self.name)(callback)
        command = typer.main.get_command(app)
        assert isinstance(command, TyperCommand)  # noqa: S101 - a Typer of one function
        return command

    def make_context(self, *args: Any, **kwargs: Any) -> typer.Context:
        """Parse the command's own words, by the real command's options; the context is the real command's."""
        return self.load().make_context(*args, **kwargs)  # type: ignore[return-value]
