"""Versions of PostgreSQL, as its programs write them."""

from __future__ import annotations

import re


def major_of(version: str) -> int:
    """17 for `17.6 (Debian 17.6-1)` and for `17devel`."""
    found = re.match(r"\d+", version)
    return int(found.group()) if found else 0
