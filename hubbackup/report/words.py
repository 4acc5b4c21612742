"""Figures as people read them: ages, durations, counts, lists. Light to import; sizes are in hubbackup.sizes."""

from __future__ import annotations

from collections.abc import Sequence


def human_age(seconds: float) -> str:
    """`5 min`, `3 h`, `12 d`."""
    if seconds < 3600:
        return f"{max(0, seconds) / 60:.0f} min"
    if seconds < 48 * 3600:
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


def printable(text: str) -> str:
    """`text` as UTF-8 can carry it: bytes that were none are escaped."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
