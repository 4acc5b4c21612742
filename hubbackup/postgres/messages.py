"""What the errors of PostgreSQL's tools mean: a sentence that names what is wrong, and what to do about it.

An error is known by its SQLSTATE where psql tells it. pg_dump never does, nor psql of a connection that it did not
get: there the words decide, in English, which our sessions ask for where the role may, or in French.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from hubbackup.errors import ToolError
from hubbackup.runners.stderr import complaints, reason, sqlstate

Work = Literal["reading", "loading", "recovering"]


@dataclass(frozen=True)
class _Meaning:
    """SQLSTATEs, or a pattern in a tool's stderr, and what they stand for: a sentence and the remedy.

    Both may use the pattern's groups; without a match `name` is what the server's own words name. `work`: it only
    means this in that kind of work.
    """

    pattern: re.Pattern[str]
    sentence: str
    remedy: str
    codes: tuple[str, ...] = ()
    work: Work | None = None


def _meaning(
    pattern: str, sentence: str, remedy: str, codes: tuple[str, ...] = (), work: Work | None = None
) -> _Meaning:
    return _Meaning(re.compile(pattern), sentence, remedy, codes, work)


LOCKED = _meaning(
    r"canceling statement due to (?:lock|statement) timeout|annulation de la requête à cause du délai écoulé",
    "a table stayed locked for longer than pg_dump waits",
    "end what holds the lock (pg_stat_activity, pg_locks), or move BACKUP_SCHEDULE",
    codes=("55P03", "57014"),
    work="reading",
)
"""pg_dump's --lock-wait-timeout is a statement timeout for the server."""

SEVERAL_ENCODINGS = _meaning(
    r"pg_dumpall: (?:.|\n)*(?:invalid byte sequence for encoding|has no equivalent in encoding"
    r"|séquence d'octets invalide pour l'encodage|n'a pas d'équivalent dans l'encodage)",
    "the server's roles have names in several encodings",
    "rename those that are not in the encoding of the others (ALTER ROLE … RENAME TO …, in a database of the encoding"
    " that they were made in), or BACKUP_GLOBALS=false",
)
"""Catalogs that all databases share hold the bytes of whichever session wrote a name."""

MEANINGS = (
    _meaning(
        r"password authentication failed|no password supplied|authentification par mot de passe échouée",
        "the server refuses the password of the role {user}",
        "check POSTGRES_USER and POSTGRES_PASSWORD",
        codes=("28P01",),
    ),
    _meaning(
        r': {2}42704: (?:role "(?P<name>.*)" does not exist|le rôle « (?P<nom>.*) » n\'existe pas)',
        "the role {name} does not exist on the server",
        "create it there (CREATE ROLE …); restore --globals creates those that the backup has",
    ),
    _meaning(
        r'role "(?P<name>.*)" does not exist|le rôle « (?P<nom>.*) » n\'existe pas',
        "the role {name} does not exist on the server",
        "check POSTGRES_USER",
    ),
    _meaning(
        r'database "(?P<name>(?:.|\n)*)" does not exist|la base de données « (?P<nom>(?:.|\n)*) » n\'existe pas',
        "the database {name} does not exist on the server",
        "check POSTGRES_DB, or BACKUP_DATABASES; `psql -l` lists the databases",
        codes=("3D000",),
    ),
    _meaning(
        r'role "(?P<name>.*)" is not permitted to log in|le rôle « (?P<nom>.*) » n\'est pas autorisé à se connecter',
        "the role {name} may not log in",
        "as a superuser: ALTER ROLE … LOGIN, or check POSTGRES_USER",
    ),
    _meaning(
        r"no pg_hba\.conf entry for|pg_hba\.conf rejects connection|aucune entrée dans pg_hba\.conf",
        "the server's pg_hba.conf does not let the role {user} in from here",
        "add a line for it to pg_hba.conf and reload, or check POSTGRES_USER, PGHOST and PGSSLMODE",
    ),
    _meaning(
        r"certificate verify failed|self[- ]signed certificate",
        "the server's certificate is not signed by an authority that is known here, or it has expired",
        "set PGSSLROOTCERT to the file with the provider's authorities, which it offers for download; or"
        " PGSSLMODE=require to encrypt without knowing who answers",
    ),
    _meaning(
        r'server certificate for (?P<name>.+?) does not match host name "(?P<host>.*)"',
        "the server's certificate is for {name}, and not for {host}",
        "set PGHOST to the name in the certificate; or PGSSLMODE=verify-ca, where any server of that authority is"
        " as good",
    ),
    _meaning(
        r"server does not support SSL, but SSL was required",
        "the server offers no TLS",
        "turn it on there (ssl = on); or, where nobody can listen on the way to it, set PGSSLMODE=disable",
    ),
    _meaning(
        r'root certificate file "(?P<name>.*)" does not exist',
        "there is no file {name} with the authorities that are believed",
        "set PGSSLROOTCERT to the file with the provider's authorities",
    ),
    _meaning(
        r"when SSL support is not compiled in",
        "{tool_name} was built without TLS",
        "use client tools with TLS, as the image and Debian have them; or, where nobody can listen on the way to the"
        " server, set PGSSLMODE=disable",
    ),
    _meaning(
        r"connection requires a valid client certificate|la connexion requiert un certificat client",
        "the server asks for a certificate of its client",
        "set PGSSLCERT and PGSSLKEY to the files of the one that it knows",
    ),
    _meaning(
        r'private key file "(?P<name>.*)" has group or world access',
        "the private key {name} can be read by others, and libpq does not use it then",
        "chmod 0600 the file that PGSSLKEY names",
    ),
    _meaning(
        r'certificate present, but not private key file "(?P<name>.*)"',
        "there is no private key {name} for the certificate PGSSLCERT",
        "set PGSSLKEY to the file of the certificate's private key",
    ),
    _meaning(
        r'database "(?P<name>.*)" is not currently accepting connections'
        r"|la base de données « (?P<nom>.*) » n'accepte plus les connexions",
        "the database {name} is closed to connections",
        "as a superuser: ALTER DATABASE … ALLOW_CONNECTIONS true",
        work="reading",
    ),
    _meaning(
        r'affected by row-level security policy for table "(?P<name>.*)"'
        r"|politique de sécurité au niveau ligne pour la table « (?P<nom>.*) »",
        "row security hides rows of the table {name} from the role {user}",
        "as a superuser: ALTER ROLE … BYPASSRLS, or use a superuser",
        work="reading",
    ),
    _meaning(
        r"invalid page in block|could not read block|(?:missing|unexpected) chunk number|could not access status of"
        r"|page invalide dans le bloc|n'a pas pu lire le bloc",
        "a table is damaged on the database's own disk",
        "pin the last good backup (hubbackup pin), find what is damaged with pg_amcheck, and look at the disk",
        codes=("XX001",),
        work="reading",
    ),
    _meaning(
        r'permission denied for database "(?P<name>(?:.|\n)*)"\s+DETAIL: .*CONNECT'
        r"|droit refusé pour la base de données « (?P<nom>(?:.|\n)*) »\s+\S+.*CONNECT",
        "the role {user} may not connect to the database {name}",
        "as its owner or a superuser: GRANT CONNECT ON DATABASE … TO the role; of several databases"
        " BACKUP_EXCLUDE_DATABASES leaves it out",
        work="reading",
    ),
    _meaning(
        r"permission denied for (?P<name>\S+ \S+)|droit refusé pour (?P<nom>\S+ \S+ \S+)",
        "the role {user} may not read {name}",
        "as a superuser: GRANT pg_read_all_data TO the role, or use the tables' owner",
        codes=("42501",),
        work="reading",
    ),
    _meaning(
        r": {2}(?:42883|42704|42P01): (?:.|\n)*\nCONTEXT: {2}(?:compilation of )?(?:SQL|PL/pgSQL) function"
        r' "?(?P<name>[^\s"]+)',
        "the function {name} finds what it names by the search_path, which is empty while a dump is loaded",
        "set RESTORE_SEARCH_PATH to the schemas that it looks in, such as public, and try again; before the next"
        " backup: ALTER FUNCTION … SET search_path",
        work="loading",
    ),
    _meaning(
        r"permission denied|must be (?:owner|superuser|member)|droit refusé|[Dd]oit être (?:le propriétaire|super)",
        "the role {user} may not make all that the dump holds",
        "restore as a superuser (POSTGRES_USER), or make what needs one beforehand",
        codes=("42501",),
        work="loading",
    ),
    LOCKED,
    SEVERAL_ENCODINGS,
    _meaning(
        r"server version: (?P<server>\S+).*; pg_dump version: (?P<tool>\S+)",
        "pg_dump {tool} is older than the server {server}",
        "use pg_dump of the server's major version or newer",
    ),
    _meaning(
        r"No space left on device",
        "the server has no disk space left",
        "make room on the database's disk; hubbackup status names databases that restores have put aside",
        codes=("53100",),
    ),
    _meaning(
        r"cannot execute .* in a read-only transaction|in recovery mode|due to conflict with recovery"
        r"|dans une transaction en lecture seule|en cours de restauration|d'un conflit avec la restauration",
        "the server only lets read: it is a standby, or being recovered",
        "use the primary server",
        codes=("25006",),
    ),
    _meaning(
        r"too many connections|too many clients|remaining connection slots"
        r"|trop de connexions|trop de clients|emplacements de connexions? restants",
        "the server has no connection left for the role {user}",
        "raise max_connections or the role's limit, or end idle sessions",
        codes=("53300",),
    ),
    _meaning(
        r"terminating connection|server closed the connection|connection to server was lost"
        r"|arrêt de(?:s| la) connexions?",
        "the server ended the connection in the middle of the work",
        "look into the database's log for the reason; the next run starts afresh",
        codes=("57P01", "57P02", "08006"),
    ),
    _meaning(
        r"Connection refused|No such file or directory\s+Is the server running|could not translate host name"
        r"|timeout expired|the database system is (?:starting up|shutting down|in recovery|not )"
        r"|le système de bases? de données (?:se lance|s'arrête|n'accepte)",
        "the server does not accept connections",
        "check that the database is up (docker compose ps), and PGHOST and PGPORT with BACKUP_SOURCE=direct",
    ),
    _meaning(
        r"executable file not found|no such file or directory: unknown|exec: \S+: not found|failed to run command",
        "the database's container has no {tool_name}",
        "use an image with PostgreSQL's client tools, or BACKUP_SOURCE=direct",
    ),
)


def meaning_of(stderr: str, work: Work = "reading") -> _Meaning | None:
    """What is known to be wrong, if anything."""
    stderr = complaints(stderr)
    known = [meaning for meaning in MEANINGS if meaning.work in (None, work)]
    code = sqlstate(stderr)
    by_code = next((meaning for meaning in known if code in meaning.codes), None)
    return by_code or next((meaning for meaning in known if meaning.pattern.search(stderr)), None)


def explain(error: ToolError, user: str, database: str = "", work: Work = "reading") -> ToolError:
    """The same error in a sentence that names what is wrong, with the remedy; the tool's own words follow.

    The sentence begins with the `database` where one is given.
    """
    where = f"database {database}: " if database else ""
    own_words = reason(error.stderr)
    text, remedy = str(error), ""
    meaning = meaning_of(error.stderr, work)
    if meaning is not None:
        found = meaning.pattern.search(complaints(error.stderr))
        groups = {name: value for name, value in found.groupdict().items() if value} if found else {}
        name = groups.get("name", groups.get("nom", "that the server names"))
        words = {"user": user, "tool_name": text.split(" ", 1)[0], **groups, "name": name}
        text, remedy = meaning.sentence.format(**words), meaning.remedy
    said = "" if own_words in text else f" ({own_words})"
    return ToolError(
        f"{where}{text}{said}", remedy=remedy, exit_code_of_tool=error.exit_code_of_tool, stderr=error.stderr
    )
