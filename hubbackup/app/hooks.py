"""The hooks that the settings name, and where they run."""

from __future__ import annotations

from collections.abc import Sequence

from hubbackup.app.server import DatabaseServer
from hubbackup.backup.hooks import Hook, Hooks, WithHooks
from hubbackup.config.commands import command
from hubbackup.config.settings import Settings
from hubbackup.jobs.run import Job, R_co
from hubbackup.runners import Runner
from hubbackup.streams.cancel import Cancel

LONGER_SECONDS = 60.0
"""The timeout ends a silent hook, not the idle limit of its stream."""


def hooks_of(settings: Settings, server: DatabaseServer) -> Hooks | None:
    """BACKUP_PRE_EXEC and BACKUP_POST_EXEC; None where neither is set."""
    named = {name: command(getattr(settings, name.lower())) for name in ("BACKUP_PRE_EXEC", "BACKUP_POST_EXEC")}
    if not any(named.values()):
        return None
    pre, post = (Hook(name, one.argv, one.local) if one else None for name, one in named.items())
    seconds = float(settings.backup_exec_timeout_seconds)

    def open_runner(cancel: Cancel, local: bool) -> Runner:
        if local:
            from hubbackup.runners.direct import DirectRunner

            return DirectRunner(cancel=cancel, idle_seconds=seconds + LONGER_SECONDS)
        return server.open_runner(cancel, seconds + LONGER_SECONDS)

    return Hooks(pre, post, seconds, open_runner)


def with_hooks(job: Job[R_co], hooks: Hooks | None, databases: Sequence[str]) -> Job[R_co]:
    """The job with the hooks around it: once, however many databases it backs up."""
    return WithHooks(job, hooks, tuple(databases)) if hooks is not None else job
