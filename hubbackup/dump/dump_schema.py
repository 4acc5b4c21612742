"""What of a dump is schema: every statement but those that bring data. Its digest, and its text.

A dump's comments, `\\restrict` lines and the versions of its tools are not part of it, and neither is what comes and
goes with the data: rows, the positions of sequences, large objects with their owners and rights. So two dumps of one
schema have one digest, and what the digest is of is what a schema drill loads.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable

DATA = re.compile(
    rb"COPY |INSERT INTO |(?:BEGIN|COMMIT)\Z"
    rb"|SELECT (?:pg_catalog\.(?:setval|lo_[a-z]+|lowrite)\(|\* FROM pg_catalog\.pg_(?:restore|clear)_)"
    rb"|(?:ALTER|COMMENT ON|(?:GRANT|REVOKE)[A-Z ,]* ON|SECURITY LABEL [^;]*?ON) LARGE OBJECT "
)
"""The beginnings of statements that bring data, or belong to it. BEGIN and COMMIT stand around a large object's."""
ROWS = re.compile(rb"COPY |INSERT INTO |(?:BEGIN|COMMIT)\Z|SELECT pg_catalog\.(?:setval|lo_[a-z]+|lowrite)\(")
"""Of these, the ones that pg_dump has in its data section. What belongs to a large object stands in others, too."""
BULKY = re.compile(rb"SELECT pg_catalog\.lowrite\(")
"""A large object's bytes, known for what they are before their end."""


class SchemaReader:
    """Takes a dump's statements as they pass. `sink` is given the text of the schema, a statement at a time.

    Without a sink, and where it does not `keep` the text for whoever calls it, nothing is held but a digest.
    """

    def __init__(self, sink: Callable[[bytes], object] | None = None, *, keep: bool = False) -> None:
        self._sink = sink
        self._keeps = keep or sink is not None
        self._digest = hashlib.sha256()
        self._statement = hashlib.sha256()
        self._text: list[bytes] = []
        self._is_bulky = self._began = False

    @property
    def digest(self) -> str:
        """Of the schema so far, in hex."""
        return self._digest.hexdigest()

    def on_text(self, piece: bytes) -> None:
        """Some more of a statement, as it is written."""
        if not self._began:
            self._began, self._is_bulky = True, BULKY.match(piece) is not None
        if self._is_bulky:
            return
        self._statement.update(piece)
        if self._keeps:
            self._text.append(piece)

    def on_statement(self, start: bytes) -> bytes:
        """It has come to its semicolon; `start` is its beginning, with strings emptied. Returns its text, where that
        is kept and it is not bulky."""
        text = b"".join([*self._text, b"\n"]) if self._keeps else b""
        if not self._is_bulky and not DATA.match(start):
            self._digest.update(self._statement.digest())
            if self._sink is not None:
                self._sink(text)
        self._statement = hashlib.sha256()
        self._text = []
        self._began = self._is_bulky = False
        return text
