"""The tokens of psql's own scanner (psqlscan.l) that the dump lexer stops at, as patterns over bytes."""

from __future__ import annotations

import re

from hubbackup.dump.dump_statements import MANY, MAYBE, WORD

# The words of psql's own scanner, psqlscan.l. A dollar sign inside of a word opens no dollar quote.
_TAG = rb"\$(?:[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*+)?\$"
_KEYWORD = rb"(?i:ATOMIC|BEGIN|CASE|COPY|END)(?![A-Za-z0-9_$\x80-\xff])"
_PREFIXED = rb"(?:[bBeEnNxX]'|[uU]&['\"])"
_NUMBER = rb"[0-9]++(?:\.[0-9]*+" + MAYBE + rb"(?:[eE][+-]?+[0-9]++" + MAYBE + rb"(?![A-Za-z_\x80-\xff])"
# psql puts a variable's value in the place of `:name`. Those that are not set stay as they are: `array[1:n]`.
_VARIABLES = (
    rb"(?:[A-Z_]+VERSION_N[A-Z]+|AUTOCOMMIT|COMP_KEYWORD_CASE|DBNAME|ECHO|ECHO_HIDDEN|ENCODING|ERROR|FETCH_COUNT"
    rb"|HIDE_[A-Z_]+|HIST[A-Z]+|HOST|IGNOREEOF|LASTOID|LAST_ERROR_[A-Z]+|ON_ERROR_[A-Z]+|PIPELINE_[A-Z_]+|PORT"
    rb"|PROMPT[0-9]|QUIET|ROW_COUNT|SERVICE|SERVICEFILE|SHELL_[A-Z_]+|SHOW_[A-Z_]+|SINGLELINE|SINGLESTEP|SQLSTATE|USER"
    rb"|VERBOSITY|VERSION|VERSION_N[A-Z]+|WATCH_INTERVAL)(?![A-Za-z0-9_\x80-\xff])"
)
_JOINING = bytes(c for c in range(256) if c >= 0x80 or chr(c).isalnum() or chr(c) in "_$/-+:&.")
# What lies between statements; a comment that the chunk cuts is left to its own state.
BLANK = re.compile(rb"(?:[ \t\n\f\v]++|--[^\r\n]*+\n" + MANY)
# All that means nothing to the lexer, in one go, then the token that does, or nothing at the end of the data.
_NOTHING = (
    rb"(?:[^A-Za-z0-9_\x80-\xff'\"$/\\();:\r-]++|\"[^\"]*+\""
    rb"|(?!" + _KEYWORD + rb"|" + _PREFIXED + rb")" + WORD + rb"|" + _NUMBER + rb"|-(?!-)|/(?!\*)|::"
    rb"|:(?!" + _VARIABLES + rb"|\{)[A-Za-z0-9_\x80-\xff]*+"
    rb"|(?!" + _TAG + rb")\$(?:[0-9]++(?![A-Za-z_\x80-\xff])|(?![0-9]))"
)
TOKEN = re.compile(
    _NOTHING + MANY + rb"(" + _PREFIXED + rb"|" + _TAG + rb"|['\"();\\\r:$]|[0-9]++|--|/\*|" + _KEYWORD + rb"|)"
)
PLAIN_OPENINGS = (b"'", b"n'", b"N'")
BIT_OPENINGS = (b"b'", b"B'", b"x'", b"X'")
FAULTS = {
    b"\r": "it has a carriage return outside of any string",
    b"/": "it has a comment of the form /* */",
    b":": "it uses a variable of psql",
    b"$": "it has a number that runs into a word",
    b"u": "it has a string or name of the form U&",
}
NEVER = ", which pg_dump never writes"
ESCAPED = re.compile(rb"(?:[^'\\]++|\\.|''" + MANY, re.DOTALL)
LINE_END = re.compile(rb"[\r\n]")

FIRST_WORDS = re.compile(rb"\"[^\"]*+(?:\"|\Z)|::|:[A-Za-z0-9_\x80-\xff]++|(" + WORD + rb")")


def whole_words(data: bytes) -> int:
    """How far SQL in `data` can be read: a word or operator at its very end may go on in the next chunk."""
    near_end = data[-64:]
    kept = near_end.rstrip(_JOINING)
    return len(data) - len(near_end) + len(kept) if kept else len(data.rstrip(_JOINING))
