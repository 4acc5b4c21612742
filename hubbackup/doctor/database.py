"""Checks of the database's side: engine, container, tools, login, what the role may read, what can't be restored."""

from __future__ import annotations

import json
import re

from hubbackup.backup.leaving_out import remarks
from hubbackup.doctor import Check, Diagnosis, each, fail, ok, restorable, skip, warn
from hubbackup.doctor.site import Site
from hubbackup.dump import identifiers
from hubbackup.dump.versions import major_of
from hubbackup.errors import NoDataConnectionError, ToolError
from hubbackup.postgres import run_lock, session
from hubbackup.postgres.client import some
from hubbackup.postgres.databases import Databases
from hubbackup.postgres.excluded import Excluded, excluded
from hubbackup.postgres.messages import explain
from hubbackup.postgres.side_databases import derived_time
from hubbackup.postgres.transport import is_near
from hubbackup.runners import run

TRIED_BYTES = 1_000_000
TLS_PROTOCOL = re.compile(r"SSL Protocol\W+(TLS\S+)|protocol: (TLS[^,\s]+)")
"""In psql's \\conninfo, from 18 on and before."""

# Members of an extension are not in a dump. `row_security_active` answers for the role that asks. Large objects
# have no function that would answer before PostgreSQL 18, and pg_read_all_data does not extend to them before 19.
READABLE_SQL = """\
WITH relations AS (
    SELECT c.oid, c.relkind, c.oid::regclass::text AS name, n.oid AS schema
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'S') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                      AND d.deptype = 'e'))
SELECT jsonb_build_object(
    'count', (SELECT count(*) FROM relations),
    'unreadable', (SELECT coalesce(jsonb_agg(name ORDER BY name), '[]') FROM relations
        WHERE NOT (has_schema_privilege(schema, 'USAGE')
            AND CASE relkind WHEN 'S' THEN has_sequence_privilege(oid, 'SELECT')
                             ELSE has_table_privilege(oid, 'SELECT') END)),
    'filtered', (SELECT coalesce(jsonb_agg(name ORDER BY name), '[]') FROM relations
        WHERE relkind <> 'S' AND row_security_active(oid)),
    'large_objects', (SELECT count(*) FROM pg_largeobject_metadata m
        WHERE current_setting('lo_compat_privileges') = 'off' AND NOT pg_has_role(m.lomowner, 'USAGE')
          AND NOT EXISTS (SELECT FROM aclexplode(m.lomacl) a WHERE a.privilege_type = 'SELECT'
                          AND (a.grantee = 0 OR pg_has_role(a.grantee, 'USAGE')))
          AND NOT (current_setting('server_version_num')::int >= 190000
                   AND EXISTS (SELECT FROM pg_roles r WHERE r.rolname = 'pg_read_all_data'
                               AND pg_has_role(r.oid, 'USAGE')))));
"""


def engine(site: Site) -> Diagnosis:
    """The Docker socket: there, permitted, answering."""
    from hubbackup.runners.engine import Engine

    found = Engine(site.app.settings.docker_host)
    with found.errors():
        version = found.client.version()
        name = found.client.info().get("Name", "")
    if name:
        site.app.notifier.learn_host(str(name))
    labels = found.own_labels()
    if labels:
        site.app.learn_compose(labels)
    return ok(f"Docker {version.get('Version', '?')} answers at {found.host}")


def container(site: Site) -> Diagnosis:
    """The database's container: found, the only one, running."""
    return ok(f"the database's container {site.runner.place} is running")


def data_connection(site: Site) -> Diagnosis:
    """Dumps can bypass the engine: tried with a megabyte."""
    name = site.runner.place
    if not site.app.settings.db_data_connection:
        return skip("DB_DATA_CONNECTION=false: dumps and restores pass through the Docker engine, which is slower")
    try:
        with site.runner.start(["head", "-c", str(TRIED_BYTES), "/dev/zero"], {}, bulk="output") as process:
            came = sum(len(chunk) for chunk in process.chunks())
            end = process.wait()
    except NoDataConnectionError as error:
        return warn(
            f"dumps and restores pass through the Docker engine, which is slower: {error}",
            f"hubbackup and {name} need a network in common (networks: in docker-compose.backup.yml), and {name}"
            " needs bash; or set DB_DATA_CONNECTION=false",
        )
    if end.code != 0 or came != TRIED_BYTES:
        said = end.stderr.strip()
        return fail(
            f"of {TRIED_BYTES:,} bytes {came:,} came straight from {name} (exit code {end.code}) {said}",
            "set DB_DATA_CONNECTION=false, and dumps and restores pass through the Docker engine",
        )
    return ok(f"{name} and hubbackup pass dumps and rows straight to one another")


def tools(site: Site) -> Diagnosis:
    """pg_dump and psql are where they will be called."""
    versions = "; ".join(_version_of(site, tool) for tool in ("pg_dump", "psql"))
    return ok(f"{versions}; they run as {site.runner.runs_as}")


def login(site: Site) -> Diagnosis:
    """The server takes POSTGRES_USER and its password."""
    user = site.connection.user
    try:
        version = site.properties.server_version
    except ToolError as error:
        # Which of the two it is, a server in any language tells by another database.
        if not session.refused(error):
            raise
        try:
            Databases(site.runner, site.connection, site.database).sql("SELECT 1;")
        except ToolError:
            raise error from None
        return ok(f"the server takes the role {user}")
    return ok(f"the server (PostgreSQL {version}) takes the role {user}")


def transport(site: Site) -> Diagnosis:
    """The connection as it is: encrypted or not, and whether it is known who answers."""
    connection = site.connection
    where = connection.host or "a local socket"
    said = session.sql(site.runner, connection, site.database, "\\conninfo\n")
    found = TLS_PROTOCOL.search(said)
    if found is None:
        if is_near(connection.host):
            return ok(f"{where}: not encrypted, and in no public network by its name")
        return warn(
            f"{where}: not encrypted, so the password and every row can be read on the way",
            "unset PGSSLMODE, and the server has to show a certificate",
        )
    protocol, tls = found[found.lastindex or 0], connection.tls
    if tls.verified:
        believed = tls.root_cert or "~/.postgresql/root.crt"
        return ok(f"{where}: {protocol}, its certificate is verified by the authorities in {believed}")
    sentence = f"{where}: {protocol}, but who answers is not verified (PGSSLMODE={tls.mode or 'prefer'})"
    if is_near(connection.host):
        return ok(sentence)
    return warn(sentence, "unset PGSSLMODE, and set PGSSLROOTCERT to the file with the provider's authorities")


def database(site: Site) -> Diagnosis:
    """POSTGRES_DB exists and can be inspected."""
    found = site.properties
    return ok(f"{found.database}: {found.size_bytes:,} bytes, {found.encoding}, owned by {found.owner}")


def databases(site: Site) -> Diagnosis:
    """Which databases are backed up; every pattern that leaves some out does so."""
    chosen = site.app.chosen
    there = [one.name for one in site.app.server.databases(chosen.home, "doctor", site.app.cancel)]
    missing = [name for name in chosen.names.names if name not in there]
    if missing:
        return fail(f"the server has no database {some(missing)}", f"it has {some(there)}; correct BACKUP_DATABASES")
    idle = [pattern.text for pattern in chosen.names.excluded if not any(map(pattern.matches, there))]
    if idle:
        return warn(
            f"BACKUP_EXCLUDE_DATABASES leaves nothing out by {some(idle)}: the server has no such database",
            f"it has {some(there)}; * stands for any characters, and upper case is not lower case",
        )
    names = chosen.at_hand()
    return ok(f"{len(names)} databases are backed up: {some(names)}")


def versions(site: Site) -> Diagnosis:
    """pg_dump is not older than the server."""
    server = site.properties
    version = _version_of(site, "pg_dump").rpartition(") ")[2].split()[0]
    if major_of(version) < server.server_major:
        return fail(
            f"pg_dump {version} is older than the server {server.server_version}",
            "use pg_dump of the server's major version or newer",
        )
    if major_of(version) > server.server_major and site.app.settings.backup_source == "direct":
        return warn(
            f"pg_dump {version} for PostgreSQL {server.server_version}: hubbackup restores its dumps there, a psql"
            f" {server.server_major} by hand may not",
            f"install PostgreSQL's client tools of {server.server_major}, as"
            f" /usr/lib/postgresql/{server.server_major}/bin",
        )
    return ok(f"pg_dump {version} for PostgreSQL {server.server_version}")


def readable(site: Site) -> Diagnosis:
    """The role may read every table, and all of its rows."""
    facts = json.loads(session.sql(site.runner, site.connection, site.database, READABLE_SQL))
    user = site.connection.user
    if facts["unreadable"]:
        return fail(
            f"the role {user} may not read {some(facts['unreadable'])}",
            f'as a superuser: GRANT pg_read_all_data TO "{user}"; or set POSTGRES_USER to the owner of the tables',
        )
    if facts["large_objects"]:
        return fail(
            f"the role {user} may not read {facts['large_objects']:,} large objects, and pg_dump stops at the first",
            f'as a superuser: GRANT the role that owns them TO "{user}"; or set POSTGRES_USER to their owner',
        )
    if facts["filtered"]:
        return fail(
            f"row security hides rows of {some(facts['filtered'])} from the role {user}, and pg_dump refuses that",
            f'as a superuser: ALTER ROLE "{user}" BYPASSRLS',
        )
    return ok(f"the role {user} may read all {facts['count']} tables and sequences")


def excluded_tables(site: Site) -> Diagnosis:
    """What BACKUP_EXCLUDE_TABLES and BACKUP_EXCLUDE_TABLE_DATA come to now."""
    settings = site.app.settings
    if not settings.excluded_tables and not settings.excluded_rows:
        return ok("backups leave nothing out")
    if site.app.chosen.names.only is not None:
        return _excluded_of(site)
    idle = [set(_excluded(one).idle) for one in site.reachable]
    if nowhere := sorted(set.intersection(*idle)) if idle else []:
        return warn(
            f"the pattern {some(nowhere)} matches nothing in any database: nothing is left out by it",
            "mend it, or take it out of the settings",
        )
    return each(_excluded_of)(site)


def _excluded(site: Site) -> Excluded:
    settings = site.app.settings
    tables, rows = settings.excluded_tables, settings.excluded_rows
    return excluded(site.runner, site.connection, site.database, site.properties.encoding, tables, rows)


def _excluded_of(site: Site) -> Diagnosis:
    found, encoding = _excluded(site), site.properties.encoding
    if found.tables and not found.kept:
        return fail("BACKUP_EXCLUDE_TABLES leaves out every table", "choose patterns that match fewer")
    said = remarks(found, encoding, idle=site.app.chosen.names.only is not None)
    if said:
        return warn("; ".join(text for text, _ in said), said[0][1])
    gone, emptied = (
        some([identifiers.readable(one.title, encoding) for one in some_of]) for some_of in (found.tables, found.rows)
    )
    return ok(f"backups leave out the tables {gone or '-'} and the rows of {emptied or '-'}")


def lock(site: Site) -> Diagnosis:
    """Runs can keep others out of the database, from wherever."""
    name = site.database if site.app.chosen.names.only is not None else "the database"
    why = run_lock.why_not(site.runner, site.connection, site.database)
    if why:
        return warn(
            f"a run of hubbackup elsewhere would not be noticed, there can be no lock on {name}: {why}",
            f"let the role {site.connection.user} have {run_lock.FEWEST_CONNECTIONS} connections at once, and call"
            " pg_try_advisory_xact_lock; a pooler must let it have transactions. With one hubbackup for this database"
            " it does no harm",
        )
    elsewhere = site.at_work_elsewhere
    if elsewhere is not None:
        return ok(f"a run is at work on {name}: {elsewhere}")
    return ok(f"runs lock {name} against others, from wherever")


def leftovers(site: Site) -> Diagnosis:
    """Databases that restores put aside, or left half-filled."""
    app = site.app
    if not site.properties.siblings:
        return ok("no database is left over from a restore")
    ours = app.chosen.at_hand()
    sizes = Databases(site.runner, site.connection, site.database).look().databases
    names = [name for name in site.properties.siblings if name in sizes]
    left = [name for name in names if any(derived_time(name, one, "restore") for one in ours)]
    half = [name for name in left if not sizes[name].in_use]
    kept = [name for name in names if any(derived_time(name, one, "before") for one in ours)]
    if half and site.at_work is None:
        return warn(
            f"left by a restore that died: {some([f'{name} ({sizes[name].size_bytes:,} bytes)' for name in half])}",
            f'the next restore removes it, or: DROP DATABASE "{half[0]}"',
        )
    if kept:
        days = app.settings.backup_keep_before_days
        until = f"dropped {days} days after their restore" if days else "kept forever (BACKUP_KEEP_BEFORE_DAYS=0)"
        return ok(f"put aside by restores: {some([f'{n} ({sizes[n].size_bytes:,} bytes)' for n in kept])}, {until}")
    return ok("no database is left over from a restore")


def checks(site: Site) -> list[Check]:
    """With BACKUP_SOURCE=direct there is no engine and no container."""
    docker = site.app.settings.backup_source == "docker"
    of_docker = [
        Check("docker", engine),
        Check("container", container, needs=("docker",)),
        Check("data connection", data_connection, needs=("container",)),
    ]
    return [
        *(of_docker if docker else []),
        Check("tools", tools, needs=("container",)),
        Check("login", login, needs=("tools",)),
        *([] if site.app.chosen.names.only is not None else [Check("databases", databases, needs=("login",))]),
        Check("database", each(database, reachable=False), needs=("login",)),
        *([] if docker else [Check("connection", transport, needs=("database",))]),
        Check("versions", versions, needs=("database",)),
        Check("readable", each(readable), needs=("database",)),
        Check("excluded tables", excluded_tables, needs=("database",)),
        *restorable.CHECKS,
        Check("run lock", each(lock), needs=("database",)),
        Check("old databases", leftovers, needs=("database",)),
    ]


def _version_of(site: Site, tool: str) -> str:
    try:
        return run(site.runner, [tool, "--version"], {"LC_ALL": "C"}).decode(errors="replace").strip()
    except ToolError as error:
        raise explain(error, site.connection.user, site.database) from error
