"""The shell blocks of the documents, as a reader copies them.

A fenced block of `bash` is to be typed. Where it can't run in the tests' stack, the line before its fence says why,
in a comment that no reader sees: `<!-- not run: it needs a second server -->`. The runbooks have their commands
within sentences instead: every `code` there that begins with a program is one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    "scripts/README.md",
    *sorted(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md")),
)
NOT_RUN = re.compile(r"\s*<!-- not run: (.+) -->\s*")
FENCE = re.compile(r"\s*```(\w*)\s*")
PROGRAMS = re.compile(r"(\./scripts/|\./hubbackup/|docker |gunzip |git |make |ls |du |find |sudo )")


@dataclass(frozen=True)
class Block:
    """One thing to type: the document, the heading above it, its number in the document from 1."""

    document: str
    heading: str
    number: int
    text: str
    not_run: str = ""
    """Why it can't run here."""

    def __str__(self) -> str:
        return f"{self.document}, block {self.number} ({self.heading}): {self.text.splitlines()[0]}"


def fenced(document: str, language: str = "bash") -> Iterator[Block]:
    """The fenced blocks of one language, in order."""
    heading, reason, inside, number = "", "", None, 0
    lines: list[str] = []
    for line in (ROOT / document).read_text(encoding="utf-8").splitlines():
        fence = FENCE.fullmatch(line)
        if inside is None and fence is not None:
            inside, lines = fence[1], []
        elif inside is not None and fence is not None:
            if inside == language:
                number += 1
                yield Block(document, heading, number, _dedented(lines), reason)
            inside, reason = None, ""
        elif inside is not None:
            lines.append(line)
        elif line.startswith("#"):
            heading = line.lstrip("# ")
        elif (found := NOT_RUN.fullmatch(line)) is not None:
            reason = found[1]
        elif line.strip():
            reason = ""


def within_sentences(document: str) -> Iterator[Block]:
    """The commands that stand as `code` within a document's sentences, in order."""
    heading, number = "", 0
    for line in (ROOT / document).read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        for code in re.findall(r"`([^`]+)`", line):
            if PROGRAMS.match(code):
                number += 1
                yield Block(document, heading, number, code)


def _dedented(lines: list[str]) -> str:
    indents = [len(line) - len(line.lstrip()) for line in lines if line.strip()]
    return "\n".join(line[min(indents, default=0) :] for line in lines)
