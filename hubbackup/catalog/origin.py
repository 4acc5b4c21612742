"""Whose a backup is: the HMAC that its manifest carries, and what is believed of one that carries none.

A file and a fitting manifest can be put into a bucket by whoever can write there. Only who has the key can sign, so
only a manifest under the key is *ours*; what else there is, is *foreign*, and never stands for a backup of ours.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

FIELD = "hmac"
"""Of the document that is signed: the one field that the signature does not bind."""
STORE_CLOCK = timedelta(minutes=15)
"""S3 refuses requests whose clock differs by more, so its times can be compared with ours to that."""


class Origin(StrEnum):
    """Where a backup comes from."""

    OURS = "ours"
    """Its manifest is signed under our key."""
    EARLIER = "earlier"
    """Not signed, and made before signing began here: it counts as ever, until it is adopted or pruned."""
    FOREIGN = "foreign"
    """Signed under another key, or not signed though signing had begun."""
    UNPROVEN = "unproven"
    """It has no manifest to judge by."""

    @property
    def trusted(self) -> bool:
        """It can stand for a backup of ours."""
        return self in (Origin.OURS, Origin.EARLIER)


def canonical(document: Mapping[str, Any]) -> bytes:
    """What is signed: every field but the signature, in one form, whatever the layout of the file."""
    rest = {name: value for name, value in document.items() if name != FIELD}
    return json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


@dataclass(frozen=True)
class SigningKey:
    """The secret under which manifests and marks are signed."""

    secret: bytes = field(repr=False)

    @property
    def for_digests(self) -> bytes:
        """What the digests of a sealed backup's rows are keyed with."""
        return hashlib.sha256(b"hubbackup.digests/1\n" + self.secret).digest()

    def sign(self, document: Mapping[str, Any], purpose: str) -> str:
        """The signature of `document`, in hex. `purpose` keeps one kind of document from passing as another."""
        return hmac.new(self.secret, purpose.encode() + b"\n" + canonical(document), hashlib.sha256).hexdigest()

    def signed(self, document: Mapping[str, Any], purpose: str) -> bool:
        """Whether `document` carries the signature that we would give it."""
        found = document.get(FIELD)
        return isinstance(found, str) and hmac.compare_digest(self.sign(document, purpose).encode(), found.encode())


@dataclass(frozen=True)
class Trust:
    """Whom we believe: `key`, and of before `since`, when signing began here, also what is not signed.

    `since` None: signing has not begun. `at_home`: this server had backups of its own when signing began, so that
    unsigned ones in a bucket can be its own, too. `problem`: why there is no key.
    """

    key: SigningKey | None = None
    since: datetime | None = None
    at_home: bool = True
    problem: str = ""

    def origin_of(
        self, document: Mapping[str, Any], purpose: str, times: tuple[datetime, datetime], put_at: Put = None
    ) -> Origin:
        """Judge a manifest. `times`: when it says that it was begun, and as its name has it.

        `put_at` tells when a store that others can write to took it, by that store's own clock: who plants a file
        can write any date into it, but not this one. None for a store that nobody else can write to.
        """
        if document.get(FIELD):
            return Origin.OURS if self.key is not None and self.key.signed(document, purpose) else Origin.FOREIGN
        if put_at is not None and not self.at_home:
            return Origin.FOREIGN
        if self.since is None:
            return Origin.EARLIER
        begun_at, named_at = times
        if begun_at >= self.since or named_at >= self.since + timedelta(days=1):  # a name's time has no zone
            return Origin.FOREIGN
        if put_at is not None and put_at() >= self.since + STORE_CLOCK:
            return Origin.FOREIGN
        return Origin.EARLIER

    def why_foreign(self, document: Mapping[str, Any]) -> str:
        """What there is to say of a manifest that was judged foreign."""
        if self.problem:
            return f"foreign: whose it is can't be told, {self.problem}"
        if self.key is None:
            alone = "" if self.at_home else " and no backup of its own"
            return f"foreign: whose it is can't be told, this server has no manifest key{alone}"
        how = "signed under another key" if document.get(FIELD) else "not signed"
        new = "" if self.at_home else ", and this server was new when its key was made"
        return f"foreign: its manifest is {how}{new}"


Put = Callable[[], datetime] | None
