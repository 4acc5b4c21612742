"""Roles out of a globals backup: the missing ones, whole; never one that exists; only what pg_dumpall writes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hubbackup.errors import NotProvenError
from hubbackup.postgres.server import Rights, Server
from hubbackup.restore.roles import plan_roles

GLOBALS = """\
--
-- PostgreSQL database cluster dump
--

\\restrict 1abc

SET default_transaction_read_only = off;
SET client_encoding = 'UTF8';

--
-- Roles
--

CREATE ROLE api;
ALTER ROLE api WITH NOSUPERUSER INHERIT LOGIN PASSWORD 'SCRAM-SHA-256$4096:x;y' VALID UNTIL '2030-01-01';
COMMENT ON ROLE api IS 'two
lines; a 19" rack; and -- no comment
CREATE ROLE injected;';
CREATE ROLE "o'brien ""du"" mardi";
ALTER ROLE "o'brien ""du"" mardi" WITH NOLOGIN;
CREATE ROLE postgres;
ALTER ROLE postgres WITH SUPERUSER;
ALTER ROLE api SET search_path TO '$user', 'public';
ALTER ROLE api SET "app.tenant" TO E'a\\\\b';
SECURITY LABEL FOR selinux ON ROLE api IS 'secret';

--
-- Role memberships
--

GRANT "o'brien ""du"" mardi" TO api WITH ADMIN OPTION, INHERIT TRUE GRANTED BY elsewhere;
GRANT pg_read_all_data TO postgres GRANTED BY elsewhere;
SET SESSION AUTHORIZATION elsewhere;
GRANT SET,ALTER SYSTEM ON PARAMETER work_mem TO api WITH GRANT OPTION;
RESET SESSION AUTHORIZATION;
GRANT SET ON PARAMETER work_mem TO postgres;
CREATE TABLESPACE fast OWNER api LOCATION '/fast';
GRANT ALL ON TABLESPACE fast TO api;

\\unrestrict 1abc
"""
SERVER = Server("17.6", 170006, "", {}, frozenset({"postgres"}), frozenset(), True)
OBRIEN = 'o\'brien "du" mardi'


def test_the_missing_ones_with_all_that_is_theirs() -> None:
    """Created, altered, commented, given settings, labels and memberships; written anew, without the grantors."""
    plan = plan_roles(GLOBALS, SERVER)
    assert plan.made == ("api", OBRIEN)
    assert [found.sql for found in plan.statements] == [
        'CREATE ROLE "api";',
        "ALTER ROLE \"api\" WITH LOGIN PASSWORD 'SCRAM-SHA-256$4096:x;y' VALID UNTIL '2030-01-01';",
        'COMMENT ON ROLE "api" IS \'two\nlines; a 19" rack; and -- no comment\nCREATE ROLE injected;\';',
        'CREATE ROLE "o\'brien ""du"" mardi";',
        "ALTER ROLE \"api\" SET \"search_path\" TO '$user', 'public';",
        'ALTER ROLE "api" SET "app.tenant" TO  E\'a\\\\b\';',
        'SECURITY LABEL FOR "selinux" ON ROLE "api" IS \'secret\';',
        'GRANT "o\'brien ""du"" mardi" TO "api" WITH ADMIN OPTION, INHERIT TRUE;',
        'GRANT SET, ALTER SYSTEM ON PARAMETER "work_mem" TO "api" WITH GRANT OPTION;',
    ]


def test_what_is_left_is_said() -> None:
    """Memberships and parameters of roles that exist, tablespaces: named, with what to type, and not carried out."""
    assert plan_roles(GLOBALS, SERVER).remarks == (
        "postgres exists and is not a member of pg_read_all_data, as in the backup:"
        ' GRANT "pg_read_all_data" TO "postgres";',
        'postgres exists, so this is left to you: GRANT SET ON PARAMETER "work_mem" TO "postgres";',
        "the tablespace fast does not exist here and is not made",
    )
    known = replace(
        SERVER, memberships=frozenset({("pg_read_all_data", "postgres")}), tablespaces=frozenset({"fast"})
    )
    assert len(plan_roles(GLOBALS, known).remarks) == 1


def test_servers_before_16_have_no_inherit_option() -> None:
    """Only ADMIN OPTION is known there."""
    granted = [found.admin_only for found in plan_roles(GLOBALS, SERVER).statements if found.kind == "membership"]
    assert granted == ['GRANT "o\'brien ""du"" mardi" TO "api" WITH ADMIN OPTION;']
    plain = GLOBALS.replace("WITH ADMIN OPTION, INHERIT TRUE ", "WITH INHERIT FALSE ")
    granted = [found.admin_only for found in plan_roles(plain, SERVER).statements if found.kind == "membership"]
    assert granted == ['GRANT "o\'brien ""du"" mardi" TO "api";']


def test_a_role_that_exists_is_never_touched() -> None:
    """Not altered, not commented, not made a member of anything."""
    assert plan_roles(GLOBALS, replace(SERVER, roles=frozenset({"postgres", "api", OBRIEN}))).statements == ()
    plan = plan_roles(GLOBALS, replace(SERVER, roles=frozenset({"postgres", "api"})))
    assert plan.made == (OBRIEN,)
    assert {found.role for found in plan.statements} == {OBRIEN}


@pytest.mark.parametrize(
    "line",
    [
        "ALTER ROLE api WITH LOGIN; \\! touch /tmp/canary ;",
        "CREATE ROLE api \\gexec ;",
        "ALTER ROLE api SET x TO 'a' \\; \\copy x to program 'y' ;",
        " \\restrict `touch /tmp/canary`",
    ],
)
def test_a_command_for_psql_is_refused(line: str) -> None:
    """In a manifest that somebody else wrote."""
    with pytest.raises(NotProvenError, match="more than pg_dumpall writes"):
        plan_roles(f"CREATE ROLE api;\n{line}\n", SERVER)


@pytest.mark.parametrize(
    "line",
    [
        "ALTER ROLE api WITH LOGIN; ALTER ROLE postgres WITH PASSWORD 'x';",
        "CREATE ROLE api IN ROLE postgres;",
        "CREATE ROLE api ADMIN postgres;",
        "ALTER ROLE api RENAME TO postgres;",
        "COMMENT ON ROLE api IS 'x' || current_setting('x');",
        "GRANT postgres TO api, other;",
        "GRANT SELECT ON pg_authid TO api;",
        "DO $$ BEGIN DELETE FROM pg_class; END $$;",
        "ALTER ROLE api SET x TO $$a; DROP ROLE postgres; $$;",
        "ALTER ROLE ALL SET x TO 'y', z(1);",
        "DROP ROLE postgres;",
    ],
)
def test_nothing_but_known_statements(line: str) -> None:
    """Two statements on a line don't pass as one; a form that is not known as a whole is said, not carried out."""
    plan = plan_roles(f"CREATE ROLE api;\n{line}\n", SERVER)
    assert {found.role for found in plan.statements} == {"api"}
    assert {found.sql for found in plan.statements} <= {'CREATE ROLE "api";', 'ALTER ROLE "api" WITH LOGIN;'}
    assert len(plan.statements) == 2 or plan.remarks


def test_roles_that_take_a_superuser() -> None:
    """Without that right they are made only where the dump needs them, which preflight then refuses."""
    text = "CREATE ROLE boss;\nALTER ROLE boss WITH SUPERUSER REPLICATION;\nCREATE ROLE api;\n"
    plain = replace(SERVER, rights=Rights(user="hub", superuser=False))
    assert plan_roles(text, SERVER).made == ("boss", "api")
    plan = plan_roles(text, plain)
    assert plan.made == ("api",)
    assert plan.remarks == ("the role boss (SUPERUSER, REPLICATION) is not made, it takes a superuser",)
    needed = plan_roles(text, plain, {"boss"})
    assert needed.made == ("boss", "api")
    assert needed.powers == {"boss": ("SUPERUSER", "REPLICATION")}


def test_no_globals() -> None:
    """Nothing in, nothing out."""
    assert plan_roles("", SERVER).made == ()
