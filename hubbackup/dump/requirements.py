"""What a dump's statements require of the server: which roles must exist, and what only a superuser may make.

By PostgreSQL's grammar, from a statement as the lexer gives it. A role stands either near the head of a statement
(`FOR ROLE`, `FOR … SERVER`, a policy's TO), where its tokens are read in order, or at its very end (`OWNER TO`, the
grantee). The end is read by a pattern that has to reach the last byte: it can't begin inside a quoted name, since
from there an odd number of quotes would have to be passed, and names hold an even one.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from hubbackup.dump.dump_lexer import WHOLE, WHOLE_BYTES
from hubbackup.dump.dump_statements import MANY, NAME
from hubbackup.dump.sql_tokens import Token, tokens

HEAD_BYTES = 1024
"""The lexer's window: a head of that length may be cut inside its last token."""
PRIVILEGED_KEPT = 20

_NAMES = NAME + rb"(?:\s*,\s*" + NAME + MANY
_OWNER = re.compile(rb"\sOWNER\s+TO\s+(" + NAME + rb")\s*\Z", re.IGNORECASE)
_GRANTEES = re.compile(
    rb"\s(?:TO|FROM)\s+(?:GROUP\s+)?(" + _NAMES + rb")(?:\s+WITH\s+GRANT\s+OPTION)?"
    rb"(?:\s+GRANTED\s+BY\s+(" + NAME + rb"))?(?:\s+(?:CASCADE|RESTRICT))?\s*\Z",
    re.IGNORECASE,
)
_FORCED = re.compile(rb"\sFORCE\s+ROW\s+LEVEL\s+SECURITY\s*\Z", re.IGNORECASE)
_SUPERUSERS_ONLY = re.compile(rb"ALTER\s+(?:EVENT|FOREIGN\s+DATA|PUBLICATION|SUBSCRIPTION)\s", re.IGNORECASE)
"""Whose owner must be a superuser; of publications those for all tables, of subscriptions before 16."""
_CREATIONS = re.compile(
    rb"CREATE\s+(?:OR\s+REPLACE\s+)?(?:POLICY|USER|SCHEMA|EVENT|FOREIGN\s+DATA|SUBSCRIPTION|TRUSTED|PROCEDURAL"
    rb"|LANGUAGE|OPERATOR|COLLATION|ACCESS|TEXT|TYPE|PUBLICATION|CAST"
    rb"|(?:FUNCTION|PROCEDURE)\s(?s:.*)\s(?:LANGUAGE\s+(?:c|internal|\w*u)|LEAKPROOF))\s",
    re.IGNORECASE,
)
"""Which CREATE statements are read at all: not the many tables, indexes, views, sequences and usual functions."""
_NOBODY = ("CURRENT_USER", "CURRENT_ROLE", "SESSION_USER", "DEFAULT")


@dataclass(frozen=True)
class Requirements:
    """What a dump, or one statement of it, requires. Names are plain, without quotes.

    `roles` are all that are named. `acting` are those of them that the loading session must be able to act as:
    owners, and whose default privileges are set. `superusers` must be superusers. `granters` are acted as by SET
    SESSION AUTHORIZATION, which takes a superuser, too. `tablespaces` must exist. `privileged` says in words what
    else only a superuser may make (the first twenty); `icu_collations` take a server with ICU;
    `forced_row_security` that a table hides rows from its owner.
    """

    roles: frozenset[str] = frozenset()
    acting: frozenset[str] = frozenset()
    superusers: frozenset[str] = frozenset()
    granters: frozenset[str] = frozenset()
    tablespaces: frozenset[str] = frozenset()
    privileged: tuple[str, ...] = ()
    icu_collations: frozenset[str] = frozenset()
    forced_row_security: bool = False

    def readable(self, read: Callable[[str], str]) -> Requirements:
        """The same with each name passed through `read`."""
        return dataclasses.replace(
            self,
            roles=frozenset(map(read, self.roles)),
            acting=frozenset(map(read, self.acting)),
            superusers=frozenset(map(read, self.superusers)),
            granters=frozenset(map(read, self.granters)),
            tablespaces=frozenset(map(read, self.tablespaces)),
            privileged=tuple(map(read, self.privileged)),
            icu_collations=frozenset(map(read, self.icu_collations)),
        )

    def without_owners(self) -> Requirements:
        """What is left of it for a load `without_owners`; all roles that are named should be there still."""
        nobody: frozenset[str] = frozenset()
        return dataclasses.replace(self, acting=nobody, superusers=nobody, granters=nobody)


NO_REQUIREMENTS = Requirements()


class RequirementsFinder:
    """Adds up the requirements of one statement after the other."""

    def __init__(self) -> None:
        self._roles: set[str] = set()
        self._acting: set[str] = set()
        self._superusers: set[str] = set()
        self._granters: set[str] = set()
        self._tablespaces: set[str] = set()
        self._privileged: dict[str, None] = {}
        self._icu_collations: set[str] = set()
        self._forced = False

    def note(self, start: bytes, end: bytes) -> None:
        """A statement by its first 1024 and last 320 bytes, strings emptied and comments made blanks."""
        verb = start[:6].upper()
        if verb.startswith(b"ALTER"):
            self._alter(start, end)
        elif verb.startswith((b"GRANT", b"REVOKE")):
            self._grantees(end)
        elif _CREATIONS.match(start):
            self._create(_Head(start))
        elif verb.startswith(b"SET"):
            self._set(_Head(start))

    def found(self) -> Requirements:
        """The sum so far."""
        return Requirements(
            frozenset(self._roles),
            frozenset(self._acting),
            frozenset(self._superusers),
            frozenset(self._granters),
            frozenset(self._tablespaces),
            tuple(self._privileged)[:PRIVILEGED_KEPT],
            frozenset(self._icu_collations),
            self._forced,
        )

    def _named(self, names: Iterable[str], *, acting: bool = False) -> None:
        wanted = {name for name in names if name not in ("", "public")}  # the grammar takes "public" for PUBLIC, too
        self._roles |= wanted
        if acting:
            self._acting |= wanted

    def _only_superusers(self, what: str) -> None:
        if len(self._privileged) < PRIVILEGED_KEPT:
            self._privileged[what] = None

    def _alter(self, start: bytes, end: bytes) -> None:
        if owner := _OWNER.search(end):
            names = _role_names(owner[1])
            self._named(names, acting=True)
            if _SUPERUSERS_ONLY.match(start):
                self._superusers.update(names)
            return
        if _FORCED.search(end):
            self._forced = True
            return
        head = _Head(start)
        head.take("ALTER")
        if head.take("DEFAULT", "PRIVILEGES"):
            if head.take("FOR", "ROLE") or head.take("FOR", "USER"):
                self._named(head.roles(), acting=True)
            self._grantees(end)
        elif head.take("OPERATOR", "FAMILY"):
            self._only_superusers(f"the operator family {head.qualified_name()}")
        elif head.take("PUBLICATION"):
            name = head.qualified_name()
            if head.take("ADD", "TABLES"):
                self._only_superusers(f"the publication {name}")

    def _grantees(self, end: bytes) -> None:
        if grantees := _GRANTEES.search(end):
            self._named(_role_names(grantees[1]))
            self._named(_role_names(grantees[2] or b""), acting=True)

    def _set(self, head: _Head) -> None:
        head.take("SET")
        if head.take("DEFAULT_TABLESPACE") and head.mark("=") and (name := head.qualified_name()):
            self._tablespaces.add(name)
        elif head.take("SESSION", "AUTHORIZATION") and (names := head.roles()):
            self._named(names, acting=True)
            self._granters.update(names)

    def _create(self, head: _Head) -> None:
        head.take("CREATE")
        if head.take("POLICY"):
            self._named(_policy_roles(head))
        elif head.take("USER", "MAPPING"):
            head.take("IF", "NOT", "EXISTS")
            head.take("FOR")
            self._named(head.roles())
        elif head.take("SCHEMA"):
            head.take("IF", "NOT", "EXISTS")
            if not head.take("AUTHORIZATION"):
                head.qualified_name()
                if not head.take("AUTHORIZATION"):
                    return
            self._named(head.roles(), acting=True)
        elif head.take("COLLATION"):
            name = head.qualified_name()
            if head.mark("(") and head.take("PROVIDER") and head.mark("=") and head.take("ICU"):
                self._icu_collations.add(name)
        elif what := _privileged_creation(head):
            self._only_superusers(what)


class _Head:
    """The first tokens of a statement, taken one after the other."""

    def __init__(self, start: bytes) -> None:
        found = tokens(start.decode("utf-8", "surrogateescape"))
        is_cut = len(start) == WHOLE_BYTES or (len(start) >= HEAD_BYTES and not start.startswith(WHOLE))
        self._tokens = found[:-1] if is_cut else found
        self._next = 0

    def take(self, *words: str) -> bool:
        """Pass these keywords, if all of them come next."""
        ahead = self._tokens[self._next : self._next + len(words)]
        here = len(ahead) == len(words) and all(token.is_word(word) for token, word in zip(ahead, words, strict=True))
        self._next += len(words) * here
        return here

    def mark(self, text: str) -> bool:
        """Pass this mark, if it comes next."""
        here = self._next < len(self._tokens) and self._tokens[self._next] == Token("mark", text)
        self._next += here
        return here

    def token(self) -> Token | None:
        """The next token, whatever it is."""
        self._next += 1
        return self._tokens[self._next - 1] if self._next <= len(self._tokens) else None

    def qualified_name(self) -> str:
        """`schema.name`, as people read it."""
        parts = [self._identifier()]
        while self.mark("."):
            parts.append(self._identifier())
        return ".".join(parts)

    def roles(self) -> list[str]:
        """A list of roles; CURRENT_USER and its like name none."""
        found = []
        while token := self.token():
            if token.identifier and not token.is_word(*_NOBODY):
                found.append(token.identifier)
            if not self.mark(","):
                break
        return found

    def outer_words(self) -> list[str]:
        """The unquoted words that are left, outside of parentheses, in capitals."""
        depth, found = 0, []
        while token := self.token():
            depth += (token == Token("mark", "(")) - (token == Token("mark", ")"))
            if not depth and token.kind in ("word", "name"):
                found.append(token.text.upper() if token.kind == "word" else token.text)
        return found

    def _identifier(self) -> str:
        token = self.token()
        return token.identifier if token else ""


def _policy_roles(head: _Head) -> list[str]:
    """`CREATE POLICY name ON table [AS kind] [FOR command] [TO roles] [USING …] [WITH CHECK …]`."""
    head.qualified_name()
    head.take("ON")
    head.qualified_name()
    for clause in ("AS", "FOR"):
        if head.take(clause):
            head.token()
    return head.roles() if head.take("TO") else []


_SUPERUSERS_OBJECTS = (
    (("EVENT", "TRIGGER"), "the event trigger"),
    (("FOREIGN", "DATA", "WRAPPER"), "the foreign data wrapper"),
    (("SUBSCRIPTION",), "the subscription"),
    (("LANGUAGE",), "the language"),
    (("OPERATOR", "CLASS"), "the operator class"),
    (("OPERATOR", "FAMILY"), "the operator family"),
    (("ACCESS", "METHOD"), "the access method"),
    (("TEXT", "SEARCH", "PARSER"), "the text search parser"),
    (("TEXT", "SEARCH", "TEMPLATE"), "the text search template"),
)
_UNTRUSTED = frozenset({"C", "INTERNAL"})


def _privileged_creation(head: _Head) -> str:
    """What only a superuser may create, in words; else nothing. `CREATE` has been passed."""
    head.take("OR", "REPLACE")
    for word in ("TRUSTED", "PROCEDURAL"):
        head.take(word)
    for words, title in _SUPERUSERS_OBJECTS:
        if head.take(*words):
            return f"{title} {head.qualified_name()}"
    if head.take("FUNCTION") or head.take("PROCEDURE"):
        name = head.qualified_name()
        options = head.outer_words()
        if "LANGUAGE" not in options:
            return ""
        language = (options[options.index("LANGUAGE") + 1 :] or [""])[0]
        untrusted = language.upper() in _UNTRUSTED or language.upper().endswith("U")
        return f"the function {name} in {language.lower()}" if untrusted or "LEAKPROOF" in options else ""
    if head.take("TYPE"):
        name = head.qualified_name()
        return "" if head.take("AS") else f"the type {name}"
    if head.take("PUBLICATION"):
        name = head.qualified_name()
        return f"the publication {name}" if head.take("FOR", "ALL") or head.take("FOR", "TABLES") else ""
    if head.take("CAST"):
        return "a cast WITHOUT FUNCTION" if head.outer_words()[:2] == ["WITHOUT", "FUNCTION"] else ""
    return ""


@functools.lru_cache(maxsize=256)
def _role_names(raw: bytes) -> tuple[str, ...]:
    """The roles in a list of names, as bytes of the dump: few, and each of them thousands of times."""
    return tuple(
        token.identifier
        for token in tokens(raw.decode("utf-8", "surrogateescape"))
        if token.identifier and not token.is_word(*_NOBODY)
    )
