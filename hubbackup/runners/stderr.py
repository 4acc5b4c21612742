"""What a command writes to stderr: its beginning and its end are kept, and in them what tells what went wrong."""

from __future__ import annotations

import re

STDERR_TAIL_BYTES = 16 << 10
STDERR_HEAD_BYTES = 4 << 10
"""Of these, from the beginning: a complaint may be followed by a very long statement."""
REASON_BYTES = 1 << 10

TELLING = re.compile(r"error:|ERROR:|FATAL:|PANIC:|server closed the connection|: {2}[0-9A-Z]{5}: ")
CODED = re.compile(r"^(?P<severity>(?:psql:\S+: )?\S+: {2})(?P<code>[0-9A-Z]{5}): ", re.MULTILINE)
"""A server's complaint as psql prints it with VERBOSITY=verbose: its severity may be in any language."""
EXPLAINING = re.compile(r"(?:pg_\w+: (?:detail|hint|error): )?(?:(DETAIL|HINT): +|Error message from server: +)(.+)")
STATEMENT = re.compile(r"^STATEMENT: {2}(.*)\Z", re.MULTILINE | re.DOTALL)
"""What psql prints after a complaint, with ECHO=errors."""
REFRESH = re.compile(r"REFRESH MATERIALIZED VIEW [^$;]+")
STATEMENT_CHARACTERS = 160


class Tail:
    """The first bytes of a stream, and its last ones, for stderr."""

    def __init__(self, limit_bytes: int = STDERR_TAIL_BYTES, head_bytes: int = STDERR_HEAD_BYTES) -> None:
        self._tail_bytes = limit_bytes - head_bytes
        self._head_bytes = head_bytes
        self._head = bytearray()
        self._tail = bytearray()

    def add(self, data: bytes | memoryview) -> None:
        """Append, and forget what is in the middle."""
        room = self._head_bytes - len(self._head)
        self._head += data[:room]
        self._tail += data[room:]
        if len(self._tail) > self._tail_bytes:
            del self._tail[: -self._tail_bytes]

    def text(self) -> str:
        """What is kept, decoded; a byte that is not UTF-8 becomes U+FFFD."""
        return (self._head + self._tail).decode("utf-8", "replace")


def reason(stderr: str) -> str:
    """What went wrong in a tool's own words, in one line of at most 1 KiB: its first complaint.

    Later ones are consequences of it. But where psql tells SQLSTATEs it is the last with one: psql ends at the first
    error, and what stands before that are warnings, in any language. To it belong the server's message where the
    tool gives that apart, its DETAIL and its HINT; never the statement, which may be very long. Without a complaint
    it is the last line, and of an empty text `no message`.
    """
    lines = [line.strip() for line in complaints(stderr).split("\n") if line.strip()]
    telling = [number for number, line in enumerate(lines) if TELLING.search(line)]
    coded = [number for number in telling if CODED.search(lines[number])]
    first = coded[-1] if coded else next(iter(telling), None)
    if first is None:
        return _cut(lines[-1] if lines else "no message")
    said = [CODED.sub(r"\g<severity>", lines[first], count=1)]
    for line in lines[first + 1 :]:
        found = EXPLAINING.match(line)
        if found is not None:
            said.append(f"{found[1]}: {found[2]}" if found[1] else CODED.sub(r"\g<severity>", found[2], count=1))
        elif TELLING.search(line):
            break
    return _cut(" ".join(said))


def sqlstate(stderr: str) -> str:
    """The SQLSTATE of the last complaint that has one: before psql's error there may be warnings. Else empty."""
    codes = [found["code"] for found in CODED.finditer(complaints(stderr))]
    return codes[-1] if codes else ""


def complaints(stderr: str) -> str:
    """What the tool and the server say, without the statement that psql prints behind it: that may hold anything."""
    found = STATEMENT.search(stderr)
    return stderr[: found.start()] if found is not None else stderr


def failed_statement(stderr: str) -> str:
    """The beginning of the statement that psql says has failed, in one line; empty where it doesn't say.

    Up to its first string: a password, or somebody's data, may stand in there.
    """
    found = STATEMENT.search(stderr)
    if found is None:
        return ""
    text = REFRESH.search(found[1])
    beginning = re.split(r"['$]", text[0] if text else found[1], maxsplit=1)[0]
    return " ".join(beginning.split())[:STATEMENT_CHARACTERS].removesuffix(";").rstrip()


def _cut(text: str) -> str:
    raw = text.encode("utf-8", "surrogateescape")
    if len(raw) <= REASON_BYTES:
        return text
    return raw[: REASON_BYTES - 3].decode("utf-8", "ignore") + "…"
