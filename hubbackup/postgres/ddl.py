"""The SQL that makes a new database like another: what a plain dump lacks and the manifest records.

Pure text; `databases` sends it. A property that this server can't have (a locale's name in `lc_messages`, a
setting that a later major dropped) must not make a whole restore fail at its end: such statements are tried one by
one, and the server's refusals come back as sentences.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from hubbackup.dump.identifiers import encoded, literal, quoted, unescaped
from hubbackup.postgres.client import DatabaseProperties

LIST_SETTINGS = frozenset({"search_path", "session_preload_libraries", "local_preload_libraries", "temp_tablespaces"})
"""Settings that are lists of names, as pg_dump's variable_is_guc_list_quote has them."""
HINDERING_SETTINGS = frozenset(
    (
        *("array_nulls", "client_encoding", "event_triggers", "exit_on_error", "lc_messages", "role", "row_security"),
        *("default_transaction_deferrable", "default_transaction_isolation", "default_transaction_read_only"),
        *("idle_in_transaction_session_timeout", "idle_session_timeout", "lock_timeout", "statement_timeout"),
        *(
            "local_preload_libraries",
            "session_preload_libraries",
            "session_authorization",
            "session_replication_role",
        ),
        *("transaction_timeout", "transform_null_equals", "zero_damaged_pages"),
    )
)
"""Settings that would stop a load, have it do something else, or close the database to us (a library that is not
here). No content depends on them, so that they can come after the load."""
ELEMENT = re.compile(r'"(?P<quoted>(?:[^"]|"")*)"|(?P<plain>[^\s,"]+)')
REFUSED = "hubbackup.refused"
TELL_REFUSED = f"SELECT current_setting('{REFUSED}', true);"
_LIBRARY_DIRECTORIES = {"session_preload_libraries": "", "local_preload_libraries": "$libdir/plugins/"}
PROVIDERS = {"i": ("icu", "ICU_LOCALE"), "b": ("builtin", "BUILTIN_LOCALE")}


def create_statement(
    name: str, properties: DatabaseProperties | None, server_major: int, home_encoding: str = "UTF8"
) -> str:
    """CREATE DATABASE with the encoding and locale of `properties`, for a database in `home_encoding` that takes
    bytes as they are; those that are not UTF-8 as surrogate escapes."""
    words = [f"CREATE DATABASE {quoted(name)} TEMPLATE template0"]
    if properties is not None:
        row = properties.catalog_row
        words.append(f"ENCODING {literal(properties.encoding)}")
        for column, word in (("datcollate", "LC_COLLATE"), ("datctype", "LC_CTYPE")):
            if row.get(column):
                words.append(f"{word} {literal(str(row[column]))}")
        if server_major >= 15:
            words += _provider_options(properties, home_encoding)
    return " ".join(words) + ";"


def _provider_options(properties: DatabaseProperties, home_encoding: str) -> list[str]:
    """Said even where it is libc: the new server's template may have another one."""
    row = properties.catalog_row
    locale = row.get("datlocale") or row.get("daticulocale")  # renamed in 17
    provider, word = PROVIDERS.get(str(row.get("datlocprovider", "c")), ("libc", ""))
    options = [f"LOCALE_PROVIDER {provider}"]
    if word and locale:
        options.append(f"{word} {literal(str(locale))}")
    if row.get("daticurules"):
        rules = _rules(str(row["daticurules"]), properties.encoding, home_encoding)
        options.append(f"ICU_RULES {literal(rules)}")
    return options


def _rules(rules: str, encoding: str, home_encoding: str) -> str:
    """Byte for byte as they were, unless a home in UTF8 does not take them."""
    raw = encoded(rules, encoding)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return rules if home_encoding == "UTF8" else raw.decode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class PropertyStatement:
    """One property of a database: what it is, the SQL in which `%1$I` stands for the database (and `%%` for `%`), and
    whom it would hinder in there: `owner` is an owner who is not a superuser."""

    what: str
    sql: str
    hinders: Literal["", "owner", "all"] = ""


def statements(properties: DatabaseProperties, roles: Collection[str]) -> Iterator[PropertyStatement]:
    """The owner, settings, rights, connection limit and comment of `properties`.

    Those of a role that does not exist are passed over: `needed_roles` has told of it.
    """
    if properties.owner in roles:
        yield PropertyStatement("the owner", f"ALTER DATABASE %1$I OWNER TO {_name(properties.owner)};")
    for role, entry in properties.settings:
        parameter, _, value = entry.partition("=")
        subject = f"ALTER ROLE {_name(role)} IN DATABASE %1$I" if role else "ALTER DATABASE %1$I"
        if not role or role in roles:
            libraries = _escaped(loading(parameter, elements(value)))
            sql = f"{libraries}{subject} SET {_escaped(_setting(parameter, value))};"
            yield PropertyStatement(
                f"the setting {parameter}", sql, "all" if parameter.lower() in HINDERING_SETTINGS else ""
            )
    if properties.grants is not None:
        owner = _name(properties.owner) if properties.owner in roles else "CURRENT_USER"
        sql = f"REVOKE ALL ON DATABASE %1$I FROM PUBLIC, {owner};"
        yield PropertyStatement("the revoked rights of PUBLIC and of the owner", sql, "owner")
        for role, privilege, with_grant in properties.grants:
            option = " WITH GRANT OPTION" if with_grant and role else ""
            if not role or role in roles:
                sql = f"GRANT {privilege} ON DATABASE %1$I TO {_name(role) if role else 'PUBLIC'}{option};"
                yield PropertyStatement(f"{privilege} for {role or 'PUBLIC'}", sql, "owner")
    limit = properties.catalog_row.get("datconnlimit", -1)
    if isinstance(limit, int) and limit >= 0:
        yield PropertyStatement("the connection limit", f"ALTER DATABASE %1$I CONNECTION LIMIT {limit};", "all")
    if properties.comment:
        sql = f"COMMENT ON DATABASE %1$I IS {_escaped(literal(properties.comment))};"
        yield PropertyStatement("the comment", sql)


def with_bytes(properties: DatabaseProperties) -> DatabaseProperties:
    """The same, of a database in an `UNREADABLE` encoding: the bytes that are written out as surrogate escapes."""
    grants = properties.grants
    return replace(
        properties,
        owner=unescaped(properties.owner),
        settings=tuple((unescaped(role), unescaped(entry)) for role, entry in properties.settings),
        grants=None if grants is None else tuple((unescaped(role), what, more) for role, what, more in grants),
        comment=unescaped(properties.comment),
    )


def tried(statement: str, what: str, *, of_database: bool = False) -> str:
    """The statement in a block that notes a refusal in the session's `hubbackup.refused`, and goes on.

    `of_database`: its `%1$I` stands for the database of the session.
    """
    executed = f"format({literal(statement)}, current_database())" if of_database else literal(statement)
    body = (
        f"BEGIN EXECUTE {executed}; EXCEPTION WHEN OTHERS THEN PERFORM set_config('{REFUSED}',"
        f" coalesce(current_setting('{REFUSED}', true), '') || {literal(what)} || ': '"
        " || replace(SQLERRM, chr(10), ' ') || chr(10), false); END"
    )
    return f"DO {literal(body)};"


def needed_roles(properties: DatabaseProperties | None) -> set[str]:
    """The roles that stand in the properties: the owner, who has grants, who has settings of their own."""
    if properties is None:
        return set()
    names = {
        properties.owner,
        *(role for role, _ in properties.settings),
        *(role for role, _, _ in properties.grants or ()),
    }
    return names - {""}


def elements(value: str) -> list[str]:
    """The elements of a setting's value that is a list of names."""
    found = (match.groupdict() for match in ELEMENT.finditer(value))
    return [part["plain"] or (part["quoted"] or "").replace('""', '"') for part in found]


def loading(parameter: str, libraries: Iterable[str]) -> str:
    """What goes before setting `parameter` to these: LOAD fails where a library is not here, and the setting would
    have been taken, and then every session refused."""
    directory = _LIBRARY_DIRECTORIES.get(parameter.lower())
    if directory is None:
        return ""
    return "".join(f"LOAD {literal(name if '/' in name else directory + name)}; " for name in libraries if name)


def _escaped(sql: str) -> str:
    return sql.replace("%", "%%")


def _name(role: str) -> str:
    return _escaped(quoted(role))


def _setting(parameter: str, value: str) -> str:
    """`name TO value`; of settings that are lists, each element by itself, as pg_dump does."""
    name = ".".join(quoted(part) for part in parameter.split("."))
    if parameter.lower() not in LIST_SETTINGS:
        return f"{name} TO {literal(value)}"
    return f"{name} TO {', '.join(map(literal, elements(value))) or literal('')}"
