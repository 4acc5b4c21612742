"""Roles out of a globals backup: the missing ones, whole; never one that exists; only what pg_dumpall writes."""

from __future__ import annotations

import pytest

from hubbackup.errors import NotProvenError
from hubbackup.restore.roles import for_missing_roles, statements

GLOBALS = """\
--
-- PostgreSQL database cluster dump
--

\\restrict abc

SET default_transaction_read_only = off;
SET client_encoding = 'UTF8';

--
-- Roles
--

CREATE ROLE api;
ALTER ROLE api WITH NOSUPERUSER LOGIN PASSWORD 'SCRAM-SHA-256$4096:x;y';
COMMENT ON ROLE api IS 'two
lines; and -- no comment
CREATE ROLE injected;';
CREATE ROLE "Équipe ""du"" mardi";
ALTER ROLE "Équipe ""du"" mardi" WITH NOLOGIN;
CREATE ROLE postgres;
ALTER ROLE postgres WITH SUPERUSER;
ALTER ROLE api SET search_path TO '$user', 'public';
ALTER ROLE api IN DATABASE hub SET work_mem TO '8MB';

--
-- Role memberships
--

GRANT "Équipe ""du"" mardi" TO api WITH ADMIN OPTION, INHERIT TRUE GRANTED BY elsewhere;
GRANT pg_read_all_data TO postgres GRANTED BY elsewhere;
GRANT SET ON PARAMETER work_mem TO api;

\\unrestrict abc
"""


def test_statements_are_whole() -> None:
    """A value may hold a line's end, a semicolon, or what looks like another statement."""
    found = list(statements(GLOBALS))
    assert "CREATE ROLE injected;" not in found
    assert any(statement.startswith("COMMENT ON ROLE api IS 'two\n") for statement in found)
    assert not any(statement.startswith(("--", "\\")) for statement in found)


def test_the_missing_ones_with_all_that_is_theirs() -> None:
    """Created, altered, commented, made members, in the backup's order; the grantor is left out."""
    chosen, made = for_missing_roles(GLOBALS, {"postgres"})
    assert made == ["api", 'Équipe "du" mardi']
    assert chosen[0] == "CREATE ROLE api;"
    assert chosen[-1] == 'GRANT "Équipe ""du"" mardi" TO api WITH ADMIN OPTION, INHERIT TRUE;'
    assert not any("postgres" in statement or "PARAMETER" in statement for statement in chosen)


def test_servers_before_16_have_no_inherit_option() -> None:
    """Only ADMIN OPTION is known there."""
    chosen, _ = for_missing_roles(GLOBALS, {"postgres"}, server_major=15)
    assert chosen[-1] == 'GRANT "Équipe ""du"" mardi" TO api WITH ADMIN OPTION;'
    plain = GLOBALS.replace("WITH ADMIN OPTION, INHERIT TRUE ", "WITH INHERIT FALSE ")
    assert for_missing_roles(plain, {"postgres"}, 15)[0][-1] == 'GRANT "Équipe ""du"" mardi" TO api;'


def test_a_role_that_exists_is_never_touched() -> None:
    """Not altered, not commented, not made a member of anything."""
    assert for_missing_roles(GLOBALS, {"postgres", "api", 'Équipe "du" mardi'}) == ([], [])
    chosen, made = for_missing_roles(GLOBALS, {"postgres", "api"})
    assert made == ['Équipe "du" mardi']
    assert not any(" api" in statement for statement in chosen)


@pytest.mark.parametrize(
    "line",
    [
        "ALTER ROLE api WITH LOGIN; \\! touch /tmp/canary ;",
        "CREATE ROLE api \\gexec ;",
        "ALTER ROLE api SET x TO 'a' \\; \\copy x to program 'y' ;",
    ],
)
def test_a_command_for_psql_is_refused(line: str) -> None:
    """In a manifest that somebody else wrote."""
    with pytest.raises(NotProvenError, match="more than pg_dumpall writes"):
        for_missing_roles(f"CREATE ROLE api;\n{line}\n", set())


def test_no_globals() -> None:
    """Nothing in, nothing out."""
    assert for_missing_roles("", {"api"}) == ([], [])
