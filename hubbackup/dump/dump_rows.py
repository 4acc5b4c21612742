r"""The rows of a COPY block, in chunks of bytes: how many, and where the line `\.` ends them.

Python's own loops over bytes do about 1 GB/s; what rests on memchr does 3 to 20, but pays for each line. So wide
rows, the bulk of most large dumps, go line by line through memchr, and narrow ones byte by byte.
"""

from __future__ import annotations

from io import BytesIO

END_OF_ROWS = b"\\.\n"


def has_narrow_rows(data: bytes, position: int) -> bool:
    """True where the next rows average less than about 50 bytes."""
    return data.count(b"\n", position, position + 4096) > 80


def find_end_of_rows(data: bytes, position: int, narrow: bool) -> int:
    r"""Where the line `\.` starts, looked for from `position`, a line's start; -1 where there is none."""
    if narrow:
        if data.startswith(END_OF_ROWS, position):
            return position
        found = data.find(b"\n" + END_OF_ROWS, position)
        return found + 1 if found >= 0 else -1
    lines = BytesIO(data)  # shares the bytes; `in` compares its lines one by one without a step in Python
    lines.seek(position)
    return lines.tell() - len(END_OF_ROWS) if END_OF_ROWS in lines else -1


def has_other_end(data: bytes, position: int, end: int) -> bool:
    r"""Whether a line is `\.` with a carriage return behind it: psql takes that for the end of the rows, too."""
    if data.find(b"\r", position, end) < 0:
        return False
    return data.startswith(b"\\.\r", position) or data.find(b"\n\\.\r", position, end) >= 0


def count_lines(data: bytes, position: int, narrow: bool) -> int:
    """The newlines in `data` from `position` on."""
    if narrow:
        return data.count(b"\n", position)
    return len(data) - len(data.replace(b"\n", b"")) - data.count(b"\n", 0, position)
