"""Errors of PostgreSQL's tools in sentences that name what is wrong."""

from __future__ import annotations

import pytest

from hubbackup.errors import ToolError
from hubbackup.postgres.messages import explain
from hubbackup.runners.stderr import reason


def tool_error(stderr: str, tool: str = "pg_dump") -> ToolError:
    return ToolError(f"{tool} ended with exit code 1: {reason(stderr)}", stderr=stderr)


# Each text as the tool really wrote it.
SAID = [
    (
        'pg_dump: error: connection to server at "db", port 5432 failed: FATAL:  password authentication failed for'
        ' user "hub"',
        "the server refuses the password of the role hub",
    ),
    ("psql: error: connection to server failed: fe_sendauth: no password supplied", "refuses the password"),
    ('psql: error: FATAL:  role "nobody" does not exist', "the role nobody does not exist"),
    ('pg_dump: error: FATAL:  database "a\nb" does not exist', "the database a b does not exist"),
    (
        "pg_dump: error: query failed: ERROR:  permission denied for table salaires\n"
        "pg_dump: detail: Query was: LOCK TABLE public.salaires IN ACCESS SHARE MODE",
        "may not read table salaires",
    ),
    (
        "pg_dump: error: query failed: ERROR:  canceling statement due to lock timeout\n"
        "pg_dump: detail: Query was: LOCK TABLE public.a, public.b IN ACCESS SHARE MODE",
        "stayed locked for longer",
    ),
    (
        "pg_dump: error: aborting because of server version mismatch\n"
        "pg_dump: detail: server version: 18.0; pg_dump version: 16.9",
        "pg_dump 16.9 is older than the server 18.0;",
    ),
    (
        "pg_dump: error: query failed: ERROR:  canceling statement due to statement timeout\n"
        "pg_dump: detail: Query was: LOCK TABLE public.a, public.b IN ACCESS SHARE MODE",
        "stayed locked for longer",
    ),
    (
        "pg_dump: error: query failed: ERREUR:  droit refusé pour la table salaires\n"
        "pg_dump: detail: Query was: LOCK TABLE public.salaires IN ACCESS SHARE MODE",
        "may not read la table salaires",
    ),
    (
        "psql: error: connection to server failed: FATAL:  la base de données « hub » n'existe pas",
        "the database hub does not exist",
    ),
    ("ERREUR:  42501: droit refusé pour le schéma x\nLOCATION:  aclcheck_error, aclchk.c:2843", "may not read"),
    ("FEHLER:  53100: kein Platz\nLOCATION:  x", "no disk space left"),
    (
        'pg_dump: error: Dumping the contents of table "a" failed: PQgetResult() failed.\n'
        "pg_dump: detail: Error message from server: FATAL:  terminating connection due to administrator command",
        "ended the connection in the middle",
    ),
    (
        'psql: error: connection to server on socket "/tmp/.s.PGSQL.5432" failed: No such file or directory\n'
        "\tIs the server running locally and accepting connections on that socket?",
        "does not accept connections",
    ),
    (
        'psql: error: connection to server at "127.0.0.1", port 1 failed: Connection refused',
        "does not accept connections",
    ),
    ("psql: error: FATAL:  the database system is starting up", "does not accept connections"),
    (
        'OCI runtime exec failed: exec failed: unable to start container process: exec: "pg_dump": executable file'
        " not found in $PATH: unknown",
        "the database's container has no pg_dump",
    ),
    ("bash: line 5: exec: pg_dump: not found", "the database's container has no pg_dump"),
    ("stdbuf: failed to run command 'pg_dump': No such file or directory", "the database's container has no pg_dump"),
]


@pytest.mark.parametrize(("stderr", "sentence"), SAID)
def test_an_error_is_explained(stderr: str, sentence: str) -> None:
    """The sentence names the database and what is wrong, ends with the tool's own words, and has a remedy."""
    explained = explain(tool_error(stderr), "hub", "hub_chantier")
    assert str(explained).startswith("database hub_chantier: ")
    assert sentence.rstrip(";") in str(explained)
    assert explained.remedy
    assert explained.stderr == stderr


def test_an_unknown_error_keeps_its_words() -> None:
    """What has no sentence of its own is passed on, once."""
    explained = explain(tool_error("pg_dump: error: something new"), "hub", "hub")
    assert str(explained) == "database hub: pg_dump ended with exit code 1: pg_dump: error: something new"


def test_a_load_is_explained_without_a_database() -> None:
    """The name of the new database, which will be gone, helps nobody."""
    said = 'psql:<stdin>:9: ERROR:  42704: role "comptable" does not exist\nLOCATION:  get_role_oid, acl.c:5552'
    explained = explain(tool_error(said, "psql"), "hub", work="loading")
    assert str(explained).startswith("the role comptable does not exist on the server (")


def test_a_permission_means_another_thing_to_a_load() -> None:
    """GRANT pg_read_all_data helps who reads; it helps nobody who may not create."""
    said = 'ERROR:  42501: permission denied to create extension "file_fdw"\nHINT:  Must be superuser.'
    explained = explain(tool_error(said, "psql"), "hub", work="loading")
    assert "may not make all that the dump holds" in str(explained)
    assert "HINT: Must be superuser." in str(explained)
    assert "pg_read_all_data" not in explained.remedy
