"""What `pg_dumpall --globals-only` wrote, as statements that are understood whole and written anew.

An allow-list: each statement is taken apart into its parts, and what is carried out is put together from these parts
again. Nothing of the text itself gets to psql, so that no second statement hides behind the first one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from hubbackup.dump.identifiers import literal, quoted
from hubbackup.dump.sql_tokens import Token, statements
from hubbackup.postgres import ddl

Kind = Literal["create", "attributes", "setting", "comment", "label", "membership", "parameter"]
POWERS = ("SUPERUSER", "REPLICATION", "BYPASSRLS")
"""Attributes that only a superuser may give (from 16 on, who has them may give the last two)."""

_DEFAULTS = frozenset(
    ("NOSUPERUSER", "INHERIT", "NOCREATEROLE", "NOCREATEDB", "NOLOGIN", "NOREPLICATION", "NOBYPASSRLS")
)
_ATTRIBUTES = frozenset(("SUPERUSER", "NOINHERIT", "CREATEROLE", "CREATEDB", "LOGIN", "REPLICATION", "BYPASSRLS"))


@dataclass(frozen=True)
class GlobalStatement:
    """One statement about `role`, written anew.

    `role` is whom it makes, alters or gives something to. `group` is what it becomes a member of. `powers` are those
    of `POWERS` that it gives. `admin_only` is the same membership for servers before 16.
    """

    kind: Kind
    role: str
    what: str
    sql: str
    group: str = ""
    powers: tuple[str, ...] = ()
    admin_only: str = ""


@dataclass(frozen=True)
class GlobalsText:
    """The whole text. `others` are the first words of statements that are not understood."""

    statements: tuple[GlobalStatement, ...]
    tablespaces: tuple[str, ...]
    others: tuple[str, ...]
    has_commands: bool
    """Whether there is a backslash outside of a string: a command for psql itself, which pg_dumpall never writes."""


def parsed(text: str) -> GlobalsText:
    """Take the text apart; nothing in it raises."""
    known: list[GlobalStatement] = []
    tablespaces: list[str] = []
    others: list[str] = []
    commands = False
    for statement in statements(text):
        commands = commands or Token("mark", "\\") in statement
        reader = _Reader(statement)
        if reader.take("CREATE", "TABLESPACE"):
            tablespaces.append(reader.name())
        elif _is_passed_over(statement):
            continue
        elif understood := _understood(statement):
            known.append(understood)
        else:
            others.append(" ".join(token.text for token in statement[:4]))
    return GlobalsText(tuple(known), tuple(tablespaces), tuple(others), commands)


class _Mismatch(Exception):
    """The statement is not of the form that is being tried."""


class _Reader:
    """Takes a statement's tokens one after the other."""

    def __init__(self, statement: list[Token]) -> None:
        self._tokens = statement
        self._next = 0

    def take(self, *words: str) -> bool:
        """Pass these keywords, if all of them come next."""
        ahead = self._tokens[self._next : self._next + len(words)]
        here = len(ahead) == len(words) and all(token.is_word(word) for token, word in zip(ahead, words, strict=True))
        self._next += len(words) * here
        return here

    def need(self, *words: str) -> None:
        """Pass these keywords. Raises _Mismatch."""
        if not self.take(*words):
            raise _Mismatch

    def mark(self, text: str) -> bool:
        """Pass this mark, if it comes next."""
        here = self._next < len(self._tokens) and self._tokens[self._next] == Token("mark", text)
        self._next += here
        return here

    def token(self) -> Token:
        """The next token. Raises _Mismatch where there is none."""
        if self.at_end:
            raise _Mismatch
        self._next += 1
        return self._tokens[self._next - 1]

    def name(self) -> str:
        """A name. Raises _Mismatch."""
        name = self.token().identifier
        if not name:
            raise _Mismatch
        return name

    def string(self) -> str:
        """A string's value. Raises _Mismatch."""
        token = self.token()
        if token.kind != "string":
            raise _Mismatch
        return token.text

    @property
    def at_end(self) -> bool:
        """Whether every token was taken."""
        return self._next == len(self._tokens)


def _understood(statement: list[Token]) -> GlobalStatement | None:
    """The statement, where one of the forms takes all of its tokens."""
    for form in _FORMS:
        reader = _Reader(statement)
        try:
            found = form(reader)
        except _Mismatch:
            continue
        if reader.at_end:
            return found
    return None


def _create(reader: _Reader) -> GlobalStatement:
    reader.need("CREATE", "ROLE")
    role = reader.name()
    return GlobalStatement("create", role, f"the role {role}", f"CREATE ROLE {quoted(role)};")


def _attributes(reader: _Reader) -> GlobalStatement:
    """Only what differs from CREATE ROLE's defaults is said: naming an attribute takes a right, even to deny it."""
    reader.need("ALTER", "ROLE")
    role = reader.name()
    reader.need("WITH")
    words: list[str] = []
    while not reader.at_end:
        token = reader.token()
        word = token.text.upper() if token.kind == "word" else ""
        if word in _ATTRIBUTES:
            words.append(word)
        elif word == "CONNECTION":
            reader.need("LIMIT")
            sign = "-" if reader.mark("-") else ""
            limit = f"{sign}{reader.token().text}"
            words += [f"CONNECTION LIMIT {int(limit)}"] if limit.lstrip("-").isdigit() and limit != "-1" else []
        elif word == "PASSWORD":
            words.append(f"PASSWORD {literal(reader.string())}")
        elif word == "VALID":
            reader.need("UNTIL")
            words.append(f"VALID UNTIL {literal(reader.string())}")
        elif word not in _DEFAULTS:
            raise _Mismatch
    powers = tuple(word for word in words if word in POWERS)
    sql = f"ALTER ROLE {quoted(role)} WITH {' '.join(words)};" if words else ""
    return GlobalStatement("attributes", role, f"the attributes of {role}", sql, powers=powers)


def _setting(reader: _Reader) -> GlobalStatement:
    reader.need("ALTER", "ROLE")
    role = reader.name()
    where = f" IN DATABASE {quoted(reader.name())}" if reader.take("IN", "DATABASE") else ""
    reader.need("SET")
    parameter = [reader.name()]
    while reader.mark("."):
        parameter.append(reader.name())
    if not (reader.take("TO") or reader.mark("=")):
        raise _Mismatch
    values = [_value(reader)]
    while reader.mark(","):
        values.append(_value(reader))
    name = ".".join(parameter)
    altered = f"ALTER ROLE {quoted(role)}{where} SET {quoted(name)} TO {', '.join(map(literal, values))};"
    sql = f"{ddl.loading(name, values)}{altered}"
    return GlobalStatement("setting", role, f"the setting {name} of {role}", sql)


def _value(reader: _Reader) -> str:
    token = reader.token()
    if token.kind not in ("string", "number", "word"):
        raise _Mismatch
    return token.text


def _comment(reader: _Reader) -> GlobalStatement:
    reader.need("COMMENT", "ON", "ROLE")
    role = reader.name()
    reader.need("IS")
    sql = f"COMMENT ON ROLE {quoted(role)} IS {literal(reader.string())};"
    return GlobalStatement("comment", role, f"the comment on {role}", sql)


def _label(reader: _Reader) -> GlobalStatement:
    reader.need("SECURITY", "LABEL")
    provider = f" FOR {quoted(reader.name())}" if reader.take("FOR") else ""
    reader.need("ON", "ROLE")
    role = reader.name()
    reader.need("IS")
    sql = f"SECURITY LABEL{provider} ON ROLE {quoted(role)} IS {literal(reader.string())};"
    return GlobalStatement("label", role, f"the security label of {role}", sql)


def _membership(reader: _Reader) -> GlobalStatement:
    """The grantor is left out: who granted it there may not do so here."""
    reader.need("GRANT")
    group = reader.name()
    reader.need("TO")
    role = reader.name()
    options: dict[str, str] = {}
    if reader.take("WITH"):
        while True:
            option, value = reader.token(), reader.token()
            if not (option.is_word("ADMIN", "INHERIT", "SET") and value.is_word("OPTION", "TRUE", "FALSE")):
                raise _Mismatch
            options[option.text.upper()] = value.text.upper()
            if not reader.mark(","):
                break
    if reader.take("GRANTED", "BY"):
        reader.name()
    granted = f"GRANT {quoted(group)} TO {quoted(role)}"
    with_admin = options.get("ADMIN") in ("OPTION", "TRUE")
    words = ", ".join(f"{option} {value}" for option, value in options.items())
    return GlobalStatement(
        "membership",
        role,
        f"the membership of {role} in {group}",
        f"{granted}{' WITH ' if words else ''}{words};",
        group=group,
        admin_only=f"{granted}{' WITH ADMIN OPTION' if with_admin else ''};",
    )


def _parameter(reader: _Reader) -> GlobalStatement:
    reader.need("GRANT")
    rights = [_parameter_right(reader)]
    while reader.mark(","):
        rights.append(_parameter_right(reader))
    reader.need("ON", "PARAMETER")
    parameter = [reader.name()]
    while reader.mark("."):
        parameter.append(reader.name())
    reader.need("TO")
    role = reader.name()
    option = " WITH GRANT OPTION" if reader.take("WITH", "GRANT", "OPTION") else ""
    name, right = ".".join(parameter), ", ".join(rights)
    grantee = "PUBLIC" if role == "public" else quoted(role)
    sql = f"GRANT {right} ON PARAMETER {quoted(name)} TO {grantee}{option};"
    return GlobalStatement("parameter", role, f"{right} on the parameter {name} for {role}", sql)


def _parameter_right(reader: _Reader) -> str:
    if reader.take("ALTER", "SYSTEM"):
        return "ALTER SYSTEM"
    if reader.take("ALL"):
        reader.take("PRIVILEGES")
        return "ALL"
    reader.need("SET")
    return "SET"


def _is_passed_over(statement: list[Token]) -> bool:
    """Settings of pg_dumpall's own session; what concerns tablespaces; rights on parameters that are taken away."""
    first = statement[0]
    if first.is_word("SET", "RESET"):
        return True
    words = [token.text.upper() for token in statement if token.kind == "word"]
    return (first.is_word("ALTER", "COMMENT", "GRANT", "REVOKE", "SECURITY") and "TABLESPACE" in words[:6]) or (
        first.is_word("REVOKE") and "PARAMETER" in words
    )


_FORMS: tuple[Callable[[_Reader], GlobalStatement], ...] = (
    _create,
    _attributes,
    _setting,
    _comment,
    _label,
    _membership,
    _parameter,
)
