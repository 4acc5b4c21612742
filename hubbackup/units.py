"""Sizes in bytes as people write them."""

from __future__ import annotations

import re
from collections.abc import Sequence

UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
BINARY_UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,3})?)\s*([A-Za-z]*)", re.ASCII)


def parse_bytes(text: str) -> int:
    """`500MB`, `1.5 GiB` or a plain number; upper and lower case alike. Raises ValueError."""
    found = SIZE.fullmatch(text.strip())
    factors = {unit.upper(): factor for unit, factor in (UNITS | BINARY_UNITS).items()} | {"": 1}
    if found is None or found[2].upper() not in factors:
        raise ValueError("is not a size such as 500MB or 2GB")
    return round(float(found[1]) * factors[found[2].upper()])


def human_bytes(size_bytes: int) -> str:
    """`12.3 MB`, in powers of 1000 as disks are sold."""
    unit = next((unit for unit, factor in UNITS.items() if size_bytes < 1000 * factor), "TB")
    return f"{size_bytes} B" if unit == "B" else f"{size_bytes / UNITS[unit]:.1f} {unit}"


def human_age(seconds: float, *, days_from: float = 48 * 3600) -> str:
    """How old something is: `5 min`, `3 h`, `12 d`; what is in the future is `0 min` old.

    `days_from` seconds on it is told in days.
    """
    if seconds < 3600:
        return f"{max(0, seconds) / 60:.0f} min"
    if seconds < days_from:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86400:.0f} d"


def human_seconds(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 20 s`, `2 h 05 min`: how long something took."""
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def human_number(number: int) -> str:
    """`1 234 567`: groups of three, with narrow spaces."""
    return f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def listed(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))
