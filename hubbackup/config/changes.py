"""The settings of the last start, so that the next one can tell what was changed in between.

Secrets are kept as salted scrypt digests: enough to see that one was changed, and of no use to who reads the file.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HIDDEN = "********"


@dataclass(frozen=True)
class Change:
    """One variable, before and now; a secret's values are not shown."""

    name: str
    before: str
    now: str


def remember(path: Path, rows: Iterable[tuple[str, str, bool]]) -> list[Change]:
    """Keep (name, value, is secret) in `path`; returns what is other than at the last start. Never raises OSError.

    At the first start, and for names that the last start did not know, nothing was changed.
    """
    before = _read(path)
    changes, kept = [], {}
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
    fresh = path.with_suffix(".new")
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, exist_ok=True)
        fresh.touch(mode=0o600)
        fresh.write_text(json.dumps(kept, indent=1), encoding="utf-8")
        fresh.replace(path)
    return changes


def _digest(value: str, salt: str) -> str:
    if not value:
        return ""
    return hashlib.scrypt(value.encode(), salt=salt.encode(), n=1 << 14, r=8, p=1).hex()


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {name: entry for name, entry in found.items() if isinstance(entry, dict)}
