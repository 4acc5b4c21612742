"""What was changed in the settings since the last start: compared here, kept by whoever asks.

Secrets are kept as salted scrypt digests: enough to see that one was changed, and of no use to who reads the file.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

HIDDEN = "********"


@dataclass(frozen=True)
class Change:
    """One variable, before and now; a secret's values are not shown."""

    name: str
    before: str
    now: str


def compare(last: Any, rows: Iterable[tuple[str, str, bool]]) -> tuple[list[Change], dict[str, dict[str, str]]]:
    """What of (name, value, is secret) is other than in `last`, and what to keep as `last` for the next start.

    `last` is what was read of the last start's file, whatever it holds. At the first start, and for names that the
    last start did not know, nothing was changed.
    """
    before = _entries(last)
    changes: list[Change] = []
    kept: dict[str, dict[str, str]] = {}
    for name, value, secret in rows:
        old = before.get(name)
        if not secret:
            kept[name] = {"value": value}
            if old is not None and old.get("value") != value:
                changes.append(Change(name, str(old.get("value", HIDDEN)), value))
            continue
        same = old is not None and "digest" in old and _digest(value, str(old.get("salt", ""))) == old["digest"]
        salt = str(old["salt"]) if same and old is not None else secrets.token_hex(16)
        kept[name] = {"salt": salt, "digest": _digest(value, salt)} if value else {"salt": "", "digest": ""}
        if old is not None and not same:
            changes.append(Change(name, HIDDEN if old.get("digest") else "", HIDDEN if value else ""))
    return changes, kept


def _digest(value: str, salt: str) -> str:
    if not value:
        return ""
    return hashlib.scrypt(value.encode(), salt=salt.encode(), n=1 << 14, r=8, p=1).hex()


def _entries(last: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(last, dict):
        return {}
    return {name: entry for name, entry in last.items() if isinstance(entry, dict)}
