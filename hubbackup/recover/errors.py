"""What a server's refusal means in the middle of a recovery: which row can't go in, or what was typed wrongly."""

from __future__ import annotations

import re

from hubbackup.errors import HubbackupError, ToolError, UsageError
from hubbackup.runners.stderr import reason, sqlstate

UNCHANGED = "nothing was changed"
_OF_COPY = re.compile(r"COPY hubbackup_rows_\w+, [^\d:]*(?P<line>\d+)(?:, \S+ (?P<column>[^:]+):)?")
"""psql's CONTEXT, in any language."""
_MENDS = {
    "23505": "another live row has the same value: change or remove that one, or leave the row out by --where",
    "23503": "the row that it refers to is missing: recover that table first",
    "23502": "give the column a default (ALTER TABLE … ALTER COLUMN … SET DEFAULT …) for the time of the recovery",
    "23514": "the row breaks a rule that was made since: leave it out by --where",
}
_MEANWHILE = ("40001", "40P01")


def words(error: ToolError) -> str:
    """The server's own, with its SQLSTATE."""
    code = sqlstate(error.stderr)
    said = re.sub(r"^\w+: +", "", reason(error.stderr)).strip().rstrip(".")
    return f"{said} (SQLSTATE {code})" if code else said


def of_condition(error: ToolError, condition: str) -> HubbackupError:
    """`--where` was not understood, or could not be answered."""
    code = sqlstate(error.stderr)
    if not condition or code[:2] not in ("0A", "22", "42"):
        return error
    remedy = "write it as after WHERE in psql, with the columns of this table"
    if code in ("42883", "42704", "42P01"):
        remedy += "; what is not PostgreSQL's own needs its schema: public.f(x), x OPERATOR(public.=) y"
    return UsageError(f"--where {condition}: {words(error)}", remedy=remedy)


def of_key(error: ToolError, typed: str) -> HubbackupError:
    """A column can't be compared."""
    if sqlstate(error.stderr) != "42883":
        return error
    return UsageError(
        f"--key {typed}: the values of one of the columns have no order: {words(error)}",
        remedy="name columns of a type that can be a key, such as a number, a text or a date",
    )


def of_load(error: ToolError, table: str) -> HubbackupError:
    """The backup's rows could not be brought beside the live ones."""
    code = sqlstate(error.stderr)
    if code == "42501":
        return HubbackupError(
            f"{table} can't be compared: {words(error)}",
            remedy="recover as the table's owner or a superuser (POSTGRES_USER); row security must not hide rows",
        )
    if code[:2] not in ("22", "23"):
        return error
    place = _OF_COPY.search(error.stderr)
    row = f" (row {place['line']}{', column ' + place['column'] if place['column'] else ''})" if place else ""
    return HubbackupError(
        f"a row of the backup does not fit {table} as it is now{row}: {words(error)}; {UNCHANGED}",
        remedy="a column has another type or rule since: restore the table beside the live database with"
        " hubbackup restore … --into NEW --table, and copy its rows from there",
    )


def of_apply(error: ToolError, table: str) -> HubbackupError:
    """The rows could not be brought back; the transaction took everything back."""
    code = sqlstate(error.stderr)
    if code in _MEANWHILE:
        return changed_meanwhile(table)
    if code == "42501":
        remedy = "recover as the table's owner or a superuser (POSTGRES_USER)"
        return HubbackupError(f"{table} can't be written: {words(error)}; {UNCHANGED}", remedy=remedy)
    if not code or code[:2] in ("08", "53", "57", "58"):
        error.remedy = error.remedy or UNCHANGED
        return error
    return HubbackupError(
        f"a row can't go back into {table}: {words(error)}; {UNCHANGED}",
        remedy=_MENDS.get(code, "mend what the message names, or leave the row out by --where"),
    )


def changed_meanwhile(table: str, what: str = "") -> HubbackupError:
    """The counts are not those that were promised."""
    return HubbackupError(
        f"rows of {table} changed meanwhile{what}; {UNCHANGED}",
        remedy="run it again, and look at what it shows then",
    )
