"""Text as it is shown: nothing that a terminal obeys, no secret, a cause of a kilobyte at most."""

from __future__ import annotations

import json
import sys
import unicodedata
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbackup import shown_text
from hubbackup.errors import InternalError, ToolError
from hubbackup.jobs.results import Result
from hubbackup.jobs.run import Outcome
from hubbackup.shown_text import CAUSE_BYTES, MASK, Secrets, bounded, json_text, mask, printable, sentence

any_text = st.text(st.characters(), max_size=40)
json_values = st.recursive(
    any_text | st.integers() | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=8,
)
VISIBLE = set("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd")
"""Formats that have a shape of their own."""


def dangerous(character: str) -> bool:
    """By Unicode itself: controls, surrogates, separators of lines, and what has no shape."""
    category = unicodedata.category(character)
    return category in ("Cc", "Cs", "Zl", "Zp") or (category == "Cf" and character not in VISIBLE)


def test_whatever_moves_a_cursor_or_turns_the_order_is_escaped() -> None:
    """Every control, format and separator character that Unicode has, and nothing that people write words with."""
    hieroglyphs = range(0x13430, 0x13460)  # they join signs of a script that no terminal obeys
    for number in range(sys.maxunicode + 1):
        character = chr(number)
        if number in hieroglyphs:
            continue
        if dangerous(character):
            assert printable(character).isascii(), hex(number)
        elif unicodedata.category(character)[0] in "LNPS":
            assert printable(character) == character, hex(number)


def test_how_it_is_escaped() -> None:
    """As Python writes it; a byte that is no UTF-8 as a byte; what is to be kept is kept."""
    assert printable("a\x1b[31m\x9b\u202e\udcff\U000e0041é\n\t") == r"a\x1b[31m\x9b\u202e\xff\U000e0041é\n\t"
    assert printable("a\n\tb\x07", keep="\n") == "a\n\\tb\\x07"


@given(any_text)
def test_a_sentence_is_one_printable_line(text: str) -> None:
    """Whatever it is made of, and made a sentence again it stays the same."""
    made = sentence(text)
    assert not any(map(dangerous, made))
    assert sentence(made) == made


@given(st.text(" aé😀", min_size=0, max_size=1500))
def test_a_cause_is_bounded(text: str) -> None:
    """In bytes, cut after a word and marked where something is missing."""
    cut = bounded(text)
    assert len(cut.encode()) <= CAUSE_BYTES
    assert cut == text or (cut.endswith("…") and text.startswith(cut[:-1]))


def test_it_is_cut_at_a_word() -> None:
    """So that the last word shown is one of the text's; a single endless word is cut anywhere."""
    assert bounded("word " * 400).endswith(" word…")
    assert len(bounded("x" * 5000).encode()) == CAUSE_BYTES


@given(json_values)
def test_json_is_the_same_when_it_is_read(document: Any) -> None:
    """And has nothing in it that a terminal obeys."""
    text = json_text(document)
    assert json.loads(text) == document
    assert not any(map(dangerous, text))


@given(st.lists(st.text("ab\n", min_size=4, max_size=6), min_size=1, max_size=3), st.text("ab\n"), st.text("ab\n"))
def test_no_secret_is_left(secrets: list[str], before: str, after: str) -> None:
    """Whatever stands around them, and however they overlap: none of the secrets is left whole."""
    keeper = Secrets(secrets)
    for secret in secrets:
        assert not any(one in keeper.mask(before + secret + after) for one in secrets)


@pytest.mark.parametrize("write", [str, repr, quote, lambda text: text.replace("&", "&amp;").replace("'", "&#x27;")])
def test_a_secret_is_known_in_other_writings(write: Any) -> None:
    """As Python quotes it, as a URL and as XML have it."""
    secret = "pä\\ss & 'w/ord"
    assert "w/ord" not in Secrets([secret]).mask(f"<{write(secret)}>").replace("w%2Ford", "w/ord")


def test_credentials_in_a_url_are_masked_whoever_they_are_of() -> None:
    """No setting has to be known for it; the host stays."""
    assert mask("no https://me:p@ss@minio:9000/x?y=@z") == f"no https://{MASK}@minio:9000/x?y=@z"
    assert mask("postgresql://token@db, ssh://x") == f"postgresql://{MASK}@db, ssh://x"
    assert mask("mail to a@b.org") == "mail to a@b.org"


def test_every_error_is_fit_to_be_shown(secrets: Secrets) -> None:
    """Whatever a server or a tool has said: its sentence and remedy are one printable, bounded line, no secret."""
    secrets.add(["s3cret"])
    said = "\x1b[2Jfine\x1b]0;x\x07\nbackup finished s3cret " + "table " * 3000
    for error in (ToolError(said, remedy=said), InternalError(ValueError(said))):
        for text in (str(error), error.remedy):
            assert "s3cret" not in text
            assert "\x1b" not in text
            assert "\n" not in text
            assert len(text.encode()) <= CAUSE_BYTES
    assert str(ToolError(said)).startswith(r"\x1b[2Jfine\x1b]0;x\x07 backup finished ******** table")


def test_problems_of_a_run_are_fit_too(secrets: Secrets) -> None:
    """As they stand in log, history, alerts and answers."""
    secrets.add(["s3cret"])
    assert Outcome("done", Result(), ("no\ncopy \x1b[2J s3cret",)).problems == (r"no copy \x1b[2J ********",)


def test_secrets_are_of_the_process() -> None:
    """The conftest gives each test its own; what is added stays."""
    shown_text.keep_secret(["first"])
    shown_text.keep_secret(["second"])
    assert mask("first second") == f"{MASK} {MASK}"
