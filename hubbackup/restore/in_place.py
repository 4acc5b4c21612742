"""`--in-place`: the live database is dropped for the new one, after a backup of it.

As late as can be: all that can be found out beforehand was. From the drop on nothing is removed any more, unless the
server has refused it.
"""

from __future__ import annotations

from collections.abc import Callable

from hubbackup.dump.census import DumpFacts
from hubbackup.errors import HubbackupError, NotProvenError, StoppedError, ToolError, UnrestorableError
from hubbackup.jobs.run import Run
from hubbackup.postgres.databases import Databases, was_lost
from hubbackup.restore.filling import Filling
from hubbackup.verify.source import Source


class LiveDatabase:
    """The database `target`, which goes."""

    def __init__(self, run: Run, target: str, take_backup: Callable[[Run], str]) -> None:
        """`take_backup` as `RestoreJob.safety_backup`."""
        self.safety = ""
        """The words that restore the backup that was taken of it."""
        self._is_gone = False
        self._run = run
        self._target = target
        self._take_backup = take_backup

    def back_up(self) -> None:
        """Raises HubbackupError, where its own schema could not be restored, too."""
        with self._run.stage("safety backup"):
            try:
                self.safety = self._take_backup(self._run)
            except UnrestorableError as error:
                raise _not_dropped(f"the live database's own schema can't be restored: {error.why}", error) from error

    def drop(self, databases: Databases, filling: Filling) -> None:
        """Drop it; what `filling` makes is kept from here on. Raises HubbackupError."""
        with self._run.stage("drop"):
            filling.is_kept = True
            message = f"the live database is dropped now (--in-place); to go back: hubbackup restore {self.safety}"
            self._run.log.warning("restore.dropping", message=message, database=self._target, safety=self.safety)
            try:
                databases.drop(self._target)
                self._is_gone = True
            except ToolError as error:
                if was_lost(error):
                    raise
                filling.is_kept = False
                raise _not_dropped(f"the server refuses that: {error}", error) from error

    def tell_what_is_kept(self, error: BaseException, kept: str) -> None:
        """Say what there is after a failure without it; `kept`: the database with what was loaded, or nothing.

        Raises the error that says so, in the place of one of ours.
        """
        was = "had been dropped" if self._is_gone else "was being dropped, and may be gone"
        sentence = f"the database {self._target} {was} (--in-place)"
        if kept:
            sentence += (
                f"; what was loaded is kept as {kept}: look into it, and drop it yourself, at once where the disk has"
                " no room for both"
            )
        remedy = f"its last state is in a safety backup: hubbackup restore {self.safety} --yes"
        self._run.log.error(
            "restore.kept", message=sentence, database=self._target, kept=kept, safety=self.safety, remedy=remedy
        )
        if isinstance(error, HubbackupError) and not isinstance(error, StoppedError):
            raise HubbackupError(f"{error}; {sentence}", remedy=remedy) from error


def try_schema(try_it: Callable[[Run, Source, str], None] | None, run: Run, source: Source, facts: DumpFacts) -> str:
    """See that the schema restores before anything is dropped for it; returns why that could not be seen.

    `try_it` as `RestoreJob.try_schema`.
    """
    if try_it is None:
        return "there is no server to try it in"
    try:
        try_it(run, source, facts.schema_digest)
    except UnrestorableError as error:
        raise _not_dropped(f"{source.name} can't be restored: {error.why}", error) from error
    except (StoppedError, NotProvenError):
        raise
    except HubbackupError as error:
        return str(error)
    return ""


def _not_dropped(sentence: str, error: HubbackupError) -> HubbackupError:
    ways = [error.remedy] if error.remedy else []
    return HubbackupError(
        f"--in-place has not dropped the live database, since {sentence}",
        remedy="; or ".join([*ways, "restore beside the live database, without --in-place"]),
    )
