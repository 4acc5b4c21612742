"""Looking into a backup where it rests, without restoring it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from hubbackup.app.installation import Installation
from hubbackup.contents.overview import Known, has_index, known
from hubbackup.contents.stored import StoredBackup, find_stored
from hubbackup.jobs.progress import ProgressMaker
from hubbackup.streams.age import HEADER_BYTES
from hubbackup.verify.ranges import Parts
from hubbackup.verify.sealed import demand_key


@dataclass(frozen=True)
class Contents:
    """Finds a backup and opens it, a sealed one by the keys at hand."""

    installation: Installation

    def stored(self, typed: str, store: str = "all", *, foreign: bool = False) -> StoredBackup:
        """A backup where it rests, to be looked into; see `find_stored`."""
        return find_stored(typed, self.installation.targets(store), self.installation.zone, foreign=foreign)

    def parts(self, stored: StoredBackup, progress: ProgressMaker | None = None) -> Parts:
        """The same, to be read in parts; a sealed one by the keys at hand.

        Raises IdentityError where they don't open it, NotProvenError, StoreError.
        """
        self._demand_key(stored)
        key = self.installation.manifest_key.trust().key
        return stored.parts(
            cancel=self.installation.cancel,
            progress=progress,
            new_decoder=lambda: stored.format.decoder(self.installation.identities),
            digest_key=key.for_digests if key is not None and stored.format.sealed else None,
        )

    def known(self, stored: StoredBackup, progress: ProgressMaker | None = None) -> Known:
        """What it holds, by its manifest, or where that has no index by reading it through."""
        if not has_index(stored):
            self._demand_key(stored)
        decoder = partial(stored.format.decoder, self.installation.identities)
        return known(stored, cancel=self.installation.cancel, progress=progress, new_decoder=decoder)

    def _demand_key(self, stored: StoredBackup) -> None:
        demand_key(
            stored.name, lambda: stored.open_at(0, HEADER_BYTES), stored.manifest, self.installation.identities
        )
