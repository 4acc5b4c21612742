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
        'psql: error: connection to server at "db", port 5432 failed: FATAL:  permission denied for database "a b"\n'
        "DETAIL:  User does not have CONNECT privilege.",
        "the role hub may not connect to the database a b",
    ),
    (
        "psql: erreur : FATAL:  droit refusé pour la base de données « paie »\n"
        "DÉTAIL : L'utilisateur n'a pas le droit CONNECT.",
        "the role hub may not connect to the database paie",
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


# As a server of version 15 said it in French to pg_dump, whose own words are in English (LC_ALL=C).
CONNECTION = 'pg_dump: error: connection to server on socket "/run/.s.PGSQL.5432" failed: FATAL:  '
SAID += [
    (f"{CONNECTION}le rôle « nobody1 » n'existe pas", "the role nobody1 does not exist"),
    (f"{CONNECTION}la base de données « nix » n'existe pas", "the database nix does not exist"),
    (
        "pg_dump: error: query failed: ERREUR:  annulation de la requête à cause du délai écoulé pour l'exécution de"
        " l'instruction\npg_dump: detail: Query was: LOCK TABLE public.a IN ACCESS SHARE MODE",
        "stayed locked for longer",
    ),
    (
        'pg_dump: error: Dumping the contents of table "a" failed: PQgetResult() failed.\n'
        "pg_dump: detail: Error message from server: ERREUR:  page invalide dans le bloc 1 de la relation"
        " base/16385/16386\npg_dump: detail: Command was: COPY public.a (i) TO stdout;",
        "a table is damaged on the database's own disk",
    ),
    (
        'pg_dump: error: Dumping the contents of table "a" failed: PQgetResult() failed.\n'
        "pg_dump: detail: Error message from server: ERROR:  invalid page in block 1 of relation base/16385/16386\n"
        "pg_dump: detail: Command was: COPY public.a (i) TO stdout;",
        "a table is damaged on the database's own disk",
    ),
    (
        "pg_dump: error: query failed: ERREUR:  la requête pourrait être affectée par une politique de sécurité au"
        " niveau ligne pour la table « rls »\nHINT:  Pour désactiver la politique pour le propriétaire de la table,"
        " utilisez ALTER TABLE NO FORCE ROW LEVEL SECURITY.\n"
        "pg_dump: detail: Query was: COPY public.rls (i) TO stdout;",
        "row security hides rows of the table rls from the role hub",
    ),
    (
        'pg_dump: error: query failed: ERROR:  query would be affected by row-level security policy for table "rls"\n'
        "HINT:  To disable the policy for the table's owner, use ALTER TABLE NO FORCE ROW LEVEL SECURITY.",
        "row security hides rows of the table rls from the role hub",
    ),
    (
        f"{CONNECTION}les emplacements de connexions restants sont réservés pour les connexions\nsuperutilisateur non"
        " relatif à la réplication",
        "no connection left for the role hub",
    ),
    (f"{CONNECTION}trop de connexions pour le rôle « hub »", "no connection left for the role hub"),
    (f"{CONNECTION}désolé, trop de clients sont déjà connectés", "no connection left for the role hub"),
    (f"{CONNECTION}le rôle « hub » n'est pas autorisé à se connecter", "the role hub may not log in"),
    (f'{CONNECTION}role "hub" is not permitted to log in', "the role hub may not log in"),
    (f"{CONNECTION}la base de données « hub » n'accepte plus les connexions", "the database hub is closed"),
    (
        f"{CONNECTION}aucune entrée dans pg_hba.conf pour l'hôte « [local] », utilisateur « hub »,\n"
        "base de données « hub », aucun chiffrement",
        "pg_hba.conf does not let the role hub in",
    ),
    (
        f'{CONNECTION}no pg_hba.conf entry for host "10.0.0.7", user "hub", database "hub", no encryption',
        "pg_hba.conf does not let the role hub in",
    ),
    (f"{CONNECTION}le système de base de données s'arrête", "does not accept connections"),
    (f"{CONNECTION}le système de bases de données se lance", "does not accept connections"),
    (
        'pg_dump: error: Dumping the contents of table "b" failed: PQgetResult() failed.\npg_dump: detail: Error'
        " message from server: FATAL:  arrêt des connexions suite à la demande de l'administrateur",
        "ended the connection in the middle",
    ),
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


def test_a_statement_explains_nothing() -> None:
    """What psql prints of the statement that failed is not searched for a meaning."""
    said = (
        "ERROR:  42601: syntax error at end of input\nLOCATION:  scanner_yyerror, scan.l:1\n"
        "STATEMENT:  CREATE FUNCTION f() AS $$ RAISE 'No space left on device, Connection refused' $$"
    )
    explained = explain(tool_error(said, "psql"), "hub", work="loading")
    assert str(explained) == "psql ended with exit code 1: ERROR:  syntax error at end of input"


def test_a_role_that_a_statement_names() -> None:
    """Who connects is not to be looked at where a statement was refused: a role is to be made."""
    for said in ('role "bob" does not exist', "le rôle « bob » n'existe pas"):
        for work in ("reading", "loading"):
            explained = explain(tool_error(f"ERROR:  42704: {said}\nLOCATION:  x", "psql"), "hub", work=work)
            assert str(explained).startswith("the role bob does not exist on the server (")
            assert explained.remedy.startswith("create it there")
    explained = explain(tool_error('psql: error: FATAL:  role "bob" does not exist', "psql"), "hub")
    assert explained.remedy == "check POSTGRES_USER"


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


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (
            "ERREUR:  42501: droit refusé pour créer l'extension « file_fdw »\n"
            "HINT:  Doit être super-utilisateur pour créer cette extension.\nLOCATION:  execute_extension_script",
            "may not make all that the dump holds",
        ),
        (
            "ERREUR:  42501: doit être le propriétaire de la table salaires\nLOCATION:  aclcheck_error, aclchk.c",
            "may not make all that the dump holds",
        ),
        (
            "ERREUR:  25006: ne peut pas exécuter CREATE TABLE dans une transaction en lecture seule\nLOCATION:  x",
            "the server only lets read",
        ),
    ],
)
def test_a_load_in_french_is_explained(said: str, sentence: str) -> None:
    """By the SQLSTATE, or by the words where that is missing."""
    for text in (said, said.replace("42501: ", "").replace("25006: ", "")):
        explained = explain(tool_error(f"psql:<stdin>:2: {text}", "psql"), "hub", work="loading")
        assert sentence in str(explained)
        assert explained.remedy
