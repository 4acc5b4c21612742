"""A target: one place where backups rest, and for how long.

Everything that keeps, lists, prunes, verifies or shows backups takes targets; `app` makes them of the
settings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import BinaryIO

from hubbackup.catalog.backup import BackupName, Mark
from hubbackup.catalog.manifests import Judged, is_signed, read_manifest
from hubbackup.catalog.origin import Put, Trust
from hubbackup.config.bucket import MIRROR, S3, variable
from hubbackup.errors import UsageError
from hubbackup.stores import Entry, Store
from hubbackup.stores.local import LocalStore


@dataclass(frozen=True)
class Policy:
    """How much to keep: `days` of age (0 keeps everything), and never fewer than `keep_min` good ones.

    Beside them the newest good one of each of the last `weeks` ISO weeks, `months` and `years` that have one.
    """

    days: int
    keep_min: int = 1
    weeks: int = 0
    months: int = 0
    years: int = 0

    def __str__(self) -> str:
        if not self.days:
            return "everything"
        periods = ((self.days, "days"), (self.weeks, "weeks"), (self.months, "months"), (self.years, "years"))
        kept = ", ".join(f"{count} {unit}" for count, unit in periods if count)
        return f"{kept}, at least {self.keep_min}"


@dataclass(frozen=True)
class Target:
    """A store with its policy, and the `title` by which sentences for people call it.

    It is a Repository itself, so that the catalog lists targets as they are. `trust` gives what is believed of
    manifests.
    """

    title: str
    store: Store
    policy: Policy
    trust: Callable[[], Trust] = field(default=Trust, repr=False, compare=False)
    fetch: str = ""
    """How a file of it is fetched by hand: a command with `{name}` in it."""
    lock_days: int = 0
    """For so long after it was put nobody can remove a copy."""
    expire_days: int = 0
    """After so long a rule of the bucket removes a copy, whatever the policy says."""
    frozen: bool = False
    """All that is put there is archived at once."""
    locked_until: Callable[[str], datetime | None] = field(default=lambda name: None, repr=False, compare=False)
    """Until when the store itself says that it lets nobody remove a file. Raises StoreError."""
    keep_from_rules: Callable[[str, bool], None] = field(default=lambda name, on: None, repr=False, compare=False)
    """Have the bucket's rules spare a backup's file, or no longer. Raises StoreError."""

    @property
    def name(self) -> str:
        """The store's own: the word for this target in logs, manifests and `--store`."""
        return self.store.name

    @property
    def remote(self) -> bool:
        """Whether each request crosses a network."""
        return self.store.remote

    @property
    def disk(self) -> LocalStore | None:
        """The store, where it is on this machine's disk: files are read in place, and the free room is known."""
        return None

    def lock_end(self, entry: Entry) -> datetime | None:
        """Until when a file is locked by the settings; the store may have locked it for longer."""
        return entry.modified_at + timedelta(days=self.lock_days) if self.lock_days else None

    def has_expired(self, started_at: datetime, now: datetime) -> bool:
        """Whether a rule of the bucket removes a copy of a backup of that age."""
        return bool(self.expire_days) and now - started_at >= timedelta(days=self.expire_days)

    def describe(self) -> str:
        """Where it is, for people; no secret."""
        return self.store.describe()

    def entries(self) -> Iterator[Entry]:
        """Every whole file in byte order of names. Raises StoreError."""
        return self.store.entries()

    def open(self, name: str, *, start: int = 0, end: int | None = None) -> AbstractContextManager[BinaryIO]:
        """The file's bytes from `start` on and before `end`. Raises NotFoundError, StoreError."""
        return self.store.open(name, start=start, end=end)

    def manifest(self, name: BackupName) -> Judged:
        """The manifest beside the backup, and whose it is. Raises NotFoundError, NotProvenError, StoreError."""
        return read_manifest(self.store, name, self.trust(), self.put_at(name))

    def vouches(self, name: BackupName, mark: Mark) -> bool:
        """Whether the mark is ours: on our own disk it is, in a bucket where it is signed."""
        return not self.remote or is_signed(self.store, name, mark, self.trust())

    def put_at(self, name: BackupName) -> Put:
        """How to learn when a manifest came here; None where nobody but us can write."""
        return (lambda: self.store.stat(name.manifest).modified_at) if self.remote else None


@dataclass(frozen=True)
class LocalTarget(Target):
    """The target on this machine's disk: a backup is written there first, and the others follow its growing file."""

    store: LocalStore

    @property
    def disk(self) -> LocalStore:
        """The store."""
        return self.store


def choose(targets: Sequence[Target], which: str) -> list[Target]:
    """The one of that name, or `all`. Raises UsageError for one that is not configured."""
    found = [target for target in targets if which in ("all", target.name)]
    if found:
        return found
    names = " or ".join(target.name for target in targets)
    ways = [f"set {variable(which, 'bucket')}"] * (which in (S3, MIRROR)) + [f"take {names}"] * bool(names)
    raise UsageError(f"the store {which} is not configured", remedy=", or ".join(ways))
