"""Sizes in bytes as people write them."""

from __future__ import annotations

import re

UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
BINARY_UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,3})?)\s*([A-Za-z]*)", re.ASCII)


def parse_bytes(text: str) -> int:
    """`500MB`, `1.5 GiB` or a plain number; upper and lower case alike. Raises ValueError."""
    found = SIZE.fullmatch(text.strip())
    factors = {unit.upper(): factor for unit, factor in (UNITS | BINARY_UNITS).items()} | {"": 1}
    if found is None or found[2].upper() not in factors:
        raise ValueError("is no size such as 500MB or 2GB")
    return round(float(found[1]) * factors[found[2].upper()])


def human_bytes(size_bytes: int) -> str:
    """`12.3 MB`, in powers of 1000 as disks are sold."""
    unit = next((unit for unit, factor in UNITS.items() if size_bytes < 1000 * factor), "TB")
    return f"{size_bytes} B" if unit == "B" else f"{size_bytes / UNITS[unit]:.1f} {unit}"
