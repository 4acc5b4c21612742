"""Checks of BACKUP_PRE_EXEC and BACKUP_POST_EXEC: their programs are where they will be run."""

from __future__ import annotations

from hubbackup.app.hooks import hooks_of
from hubbackup.doctor import Check, Diagnosis, fail, ok, warn
from hubbackup.doctor.site import Site
from hubbackup.errors import ToolError
from hubbackup.runners import run
from hubbackup.shown_text import mask

IS_THERE = ["sh", "-c", 'command -v -- "$1" >/dev/null', "sh"]


def hooks(site: Site) -> Diagnosis:
    """Each has its program, and a shell to watch over it. Raises RunnerError."""
    found = hooks_of(site.app.settings, site.app.server)
    named = [one for one in (found.pre, found.post) if one is not None] if found is not None else []
    if found is None or not named:
        return ok("no command is run around backups")
    for one in named:
        if any(mask(word) != word for word in one.argv):
            return warn(
                f"{one.setting} has a secret in it, which is seen in lists of processes and in Docker's events",
                "let the program read it from a file",
            )
        try:
            run(found.open_runner(site.app.cancel, one.local), [*IS_THERE, one.argv[0]], {})
        except ToolError:
            return fail(
                f"{one.setting}: {one.argv[0]} is not a program in {one.place}",
                "name one that is there; pipes and variables take a shell: sh -c '...'",
            )
    return ok("; ".join(f"{one.setting} runs {one.argv[0]} in {one.place}" for one in named))


CHECKS = [Check("hooks", hooks)]
