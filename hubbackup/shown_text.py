r"""Text as it leaves the program: no secret in it, nothing that a terminal obeys, a cause of a kilobyte at most.

Much of what is shown was written by others: a server's messages, names of tables, answers of S3, files in a bucket.
Whatever shows it (terminal, log, history, page, alert, Nagios) takes it from here.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

MASK = "********"
SHORTEST_SECRET = 4
"""A shorter secret would mask ordinary words; it is kept out of messages by construction alone."""
CAUSE_BYTES = 1024
ELLIPSIS = "…"
WORD_BYTES = 200
"""So far back a blank is looked for, where a text is cut."""

_INVISIBLE = (
    "\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff0-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""DEL and C1, what is not seen or turns the order of reading, line breaks beyond ASCII, bytes that are no UTF-8."""
UNPRINTABLE = re.compile(f"[\x00-\x1f{_INVISIBLE}]")
UNPRINTABLE_IN_JSON = re.compile(f"[{_INVISIBLE}]")
"""json escapes the first 32 itself, and sets line breaks between the items."""
LINE_BREAK = re.compile(r"[ \t]*[\r\n][\r\n\t ]*")
USER_IN_URL = re.compile(r"(?<=://)[^/\s?#@]*(?:@[^/\s?#@]*)*@")
"""What stands before the host: a name and a password, or a token alone."""
SHORT_ESCAPES = {"\n": r"\n", "\t": r"\t", "\r": r"\r"}


class Secrets:
    """What this process has read as a secret. Settings that are read again add to it: an old one is still one."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._forms: list[str] = []
        self.add(secrets)

    def add(self, secrets: Iterable[str]) -> None:
        """Mask these from now on, also as Python, a URL or XML write them."""
        forms = set(self._forms)
        for secret in secrets:
            if len(secret) >= SHORTEST_SECRET:
                forms |= {secret, repr(secret)[1:-1], quote(secret), quote(secret, safe=""), html.escape(secret)}
        self._forms = sorted(forms, key=len, reverse=True)

    def mask(self, text: str) -> str:
        """`text` without a secret, and without what a URL has before its host."""
        for form in self._forms:
            if form in text:
                text = text.replace(form, MASK)
        return USER_IN_URL.sub(f"{MASK}@", text) if "://" in text else text


SECRETS = Secrets()
"""Of this process: `config/load` keeps what it reads."""


def keep_secret(secrets: Iterable[str]) -> None:
    """Mask these in all that this process shows from now on."""
    SECRETS.add(secrets)


def mask(text: str) -> str:
    """`text` without a secret of this process."""
    return SECRETS.mask(text)


def printable(text: str, keep: str = "") -> str:
    r"""`text` with everything escaped that a terminal would obey or not show (`\x1b`), but for what is in `keep`."""
    if text.isascii() and text.isprintable():
        return text
    return UNPRINTABLE.sub(lambda found: found[0] if found[0] in keep else _escaped(found[0]), text)


def sentence(text: str) -> str:
    """`text` fit to be shown as a cause: without secrets, on one line, printable, bounded."""
    return bounded(printable(LINE_BREAK.sub(" ", mask(text))))


def bounded(text: str, most_bytes: int = CAUSE_BYTES) -> str:
    """`text`, cut after a word where it is too long."""
    if len(text) * 4 <= most_bytes or len(text.encode("utf-8", "surrogatepass")) <= most_bytes:
        return text
    room = most_bytes - len(ELLIPSIS.encode())
    head = text.encode("utf-8", "surrogatepass")[:room].decode("utf-8", "ignore")
    words = head[-WORD_BYTES:].rpartition(" ")[0]
    return (head[:-WORD_BYTES] + words if words else head).rstrip(" ,;:.") + ELLIPSIS


def json_text(document: Any, *, indent: int | None = None) -> str:
    """`document` as JSON that any terminal can show; the same when it is read again."""
    text = json.dumps(document, indent=indent, default=str, ensure_ascii=False)
    return UNPRINTABLE_IN_JSON.sub(_escaped_in_json, text)


def _escaped(character: str) -> str:
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:  # a byte that is no UTF-8, as Python carries it
        number -= 0xDC00
    if number <= 0xFF:
        return SHORT_ESCAPES.get(character, f"\\x{number:02x}")
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"


def _escaped_in_json(found: re.Match[str]) -> str:
    return json.dumps(found[0]).strip('"') if found[0] != "\x7f" else r"\u007f"
