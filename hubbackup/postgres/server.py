"""What a server is like before a restore touches it: its databases, its roles, and what we may do there."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from hubbackup.dump.identifiers import decoded, literal, raw_json
from hubbackup.postgres.claims import claimed
from hubbackup.postgres.extensions import BOUND
from hubbackup.postgres.side_databases import derived_kind


@dataclass(frozen=True)
class Rights:
    """What the role that we connect as may do. `acts_as`: roles whose rights it has, and for whom it makes objects;
    `may_join`: roles that it may become a member of; `ends_sessions`: those of other roles, too.
    `untrusted_extensions`: those that none but a superuser may create."""

    user: str = ""
    superuser: bool = True
    create_roles: bool = True
    bypasses_row_security: bool = True
    ends_sessions: bool = True
    acts_as: frozenset[str] = frozenset()
    may_join: frozenset[str] = frozenset()
    untrusted_extensions: frozenset[str] = frozenset()


SUPERUSER = Rights()


@dataclass(frozen=True)
class ServerDatabase:
    """One database of the server: its size on disk, how many client sessions it has, what a rename stumbles over."""

    name: str
    size_bytes: int
    sessions: int
    is_template: bool = False
    prepared: tuple[str, ...] = ()
    """Prepared transactions: no session, and yet they hold the database."""
    slots: tuple[str, ...] = ()
    """Logical replication slots: they stay with the database that is put aside."""
    owner: str = ""
    holders: tuple[str, ...] = ()
    """What keeps the server from dropping it, in words: subscriptions, and slots that somebody reads from."""
    in_use: bool = False
    """Whether a restore is at work on it, from wherever (`postgres/claims`)."""
    oid: int = 0
    """The server's own number for it: it stays when the database is renamed, and no later one gets it."""


@dataclass(frozen=True)
class Server:
    """What a restore must know of the server before it touches anything."""

    version: str
    version_num: int
    data_directory: str
    databases: dict[str, ServerDatabase]
    roles: frozenset[str]
    extensions: dict[str, str]
    """Those that can be made here, and in which version they would be."""
    may_create: bool
    has_stand_ins: bool = False
    """Whether a killed restore left roles that stand in."""
    rights: Rights = SUPERUSER
    memberships: frozenset[tuple[str, str]] = frozenset()
    """(group, member), as they were granted."""
    tablespaces: frozenset[str] = frozenset()
    has_icu: bool = True
    in_recovery: bool = False
    """A standby, or a server that is being recovered: it only lets read."""
    preloaded: frozenset[str] | None = None
    """`shared_preload_libraries`; None where the role may not see them."""
    homes: dict[str, str] = field(default_factory=dict)
    """The database that each extension of `extensions.BOUND` is bound to, where its library is loaded."""
    home_encoding: str = ""
    """Of the database that orders go out from."""
    psql_version: str = ""
    """Of the psql beside it, as psql writes it: `17.6 (Debian 17.6-1)`."""

    system_identifier: str = ""
    """Of the cluster, made by initdb."""
    free_connections: int = 100
    """That the server and the role's own limit still let in, without those that are kept for superusers."""

    def place_of(self, oid: int) -> str:
        """What tells the database of this number from every other one, of this server and of others: it keeps the
        number when it is renamed."""
        return f"{self.system_identifier}/{oid}"

    def of_kind(self, kind: str) -> list[ServerDatabase]:
        """What restores put aside (`before`) or left half-filled (`restore`), of whichever database, by name."""
        return [self.databases[name] for name in sorted(self.databases) if derived_kind(name) == kind]

    @property
    def major(self) -> int:
        """17 for 17.6."""
        return self.version_num // 10000


STAND_IN = "hubbackup: stands in for a missing role during a restore"
"""The comment on a role that exists for the time of one restore; it counts as missing."""

_HOMES = ", ".join(f"'{name}', current_setting('{bound.home}', true)" for name, bound in BOUND.items())
_SERVER = f"""\
jsonb_build_object(
    'version', current_setting('server_version'),
    'version_num', current_setting('server_version_num')::int,
    'system_identifier', (SELECT system_identifier::text FROM pg_control_system()),
    'data_directory', (SELECT setting FROM pg_settings WHERE name = 'data_directory'),
    'databases', (SELECT jsonb_object_agg(datname, jsonb_build_object(
            'size_bytes', CASE WHEN has_database_privilege(oid, 'CONNECT')
                                 OR pg_has_role('pg_read_all_stats', 'USAGE') THEN pg_database_size(oid) ELSE 0 END,
            'sessions', (SELECT count(*) FROM pg_stat_activity a WHERE a.datid = d.oid
                         AND (a.backend_type = 'client backend' OR a.backend_type IS NULL AND a.usesysid <> 0)
                         AND a.pid <> pg_backend_pid()),
            'is_template', datistemplate,
            'owner', pg_get_userbyid(datdba),
            'oid', oid::bigint,
            'in_use', {claimed("d.datname")},
            'prepared', (SELECT coalesce(jsonb_agg(gid), '[]') FROM pg_prepared_xacts WHERE database = d.datname),
            'holders', (SELECT coalesce(jsonb_agg(holder), '[]') FROM (
                SELECT 'the subscription ' || subname FROM pg_subscription WHERE subdbid = d.oid UNION ALL
                SELECT 'the replication slot ' || slot_name FROM pg_replication_slots
                WHERE database = d.datname AND active) h (holder)),
            'slots', (SELECT coalesce(jsonb_agg(slot_name), '[]') FROM pg_replication_slots
                      WHERE database = d.datname AND NOT temporary)))
        FROM pg_database d),
    'roles', (SELECT jsonb_agg(rolname) FROM pg_roles
              WHERE shobj_description(oid, 'pg_authid') IS DISTINCT FROM {literal(STAND_IN)}),
    'has_stand_ins', EXISTS (SELECT FROM pg_roles
              WHERE shobj_description(oid, 'pg_authid') = {literal(STAND_IN)}),
    'rights', (SELECT jsonb_build_object(
            'user', me.rolname,
            'superuser', me.rolsuper,
            'create_roles', me.rolcreaterole OR me.rolsuper,
            'bypasses_row_security', me.rolbypassrls OR me.rolsuper,
            'ends_sessions', pg_has_role('pg_signal_backend', 'USAGE'),
            'acts_as', (SELECT jsonb_agg(rolname) FROM pg_roles WHERE pg_has_role(oid, 'USAGE') AND pg_has_role(oid,
                        CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END)),
            'may_join', (SELECT coalesce(jsonb_agg(rolname), '[]') FROM pg_roles
                         WHERE pg_has_role(oid, 'USAGE WITH ADMIN OPTION') OR me.rolcreaterole AND NOT rolsuper
                               AND current_setting('server_version_num')::int < 160000),
            'untrusted_extensions', (SELECT coalesce(jsonb_agg(DISTINCT name), '[]')
                FROM pg_available_extension_versions v JOIN pg_available_extensions USING (name)
                WHERE version = default_version AND superuser AND (to_jsonb(v) ->> 'trusted')::bool IS NOT TRUE))
        FROM pg_roles me WHERE rolname = current_user),
    'memberships', (SELECT coalesce(jsonb_agg(jsonb_build_array(g.rolname, m.rolname)), '[]') FROM pg_auth_members a
                    JOIN pg_roles g ON g.oid = a.roleid JOIN pg_roles m ON m.oid = a.member),
    'tablespaces', (SELECT jsonb_agg(spcname) FROM pg_tablespace),
    'extensions', (SELECT jsonb_object_agg(name, coalesce(default_version, '')) FROM pg_available_extensions),
    'has_icu', EXISTS (SELECT FROM pg_collation WHERE collprovider = 'i'),
    'in_recovery', pg_is_in_recovery(),
    'free_connections', (SELECT least(
            current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
                - coalesce(current_setting('reserved_connections', true), '0')::int - count(*),
            CASE WHEN me.rolconnlimit >= 0 THEN me.rolconnlimit - count(*) FILTER (WHERE usesysid = me.oid) END)
        FROM pg_roles me LEFT JOIN pg_stat_activity ON datid IS NOT NULL AND pid <> pg_backend_pid()
        WHERE rolname = current_user GROUP BY me.rolconnlimit),
    'preloaded', (SELECT setting FROM pg_settings WHERE name = 'shared_preload_libraries'),
    'homes', jsonb_build_object({_HOMES}),
    'home_encoding', getdatabaseencoding(),
    'may_create', (SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user))
"""
SERVER_SQL = f"SELECT {raw_json(_SERVER)};\n\\echo :VERSION_NAME\n"
"""One exec for both: what the server is like, and in the second line the version of the psql that asked."""


def server_from_answer(answer: str, encoding: str = "") -> Server:
    """The server out of the answer to `SERVER_SQL`; its roles by the names that they have for a session in a database
    of this encoding."""
    said, _, psql_version = answer.partition("\n")
    raw = bytes.fromhex(said)
    facts = json.loads(decoded(raw, ""))
    facts |= {name: json.loads(decoded(raw, encoding))[name] for name in ("roles", "rights", "memberships")}
    return _server(facts, psql_version.strip())


def _server(facts: dict[str, Any], psql_version: str) -> Server:
    databases = {
        name: ServerDatabase(
            name,
            found["size_bytes"],
            found["sessions"],
            found["is_template"],
            tuple(found["prepared"]),
            tuple(found["slots"]),
            found["owner"],
            tuple(found["holders"]),
            found["in_use"],
            found["oid"],
        )
        for name, found in facts["databases"].items()
    }
    rights = facts["rights"]
    return Server(
        version=facts["version"],
        version_num=facts["version_num"],
        data_directory=facts["data_directory"] or "",
        databases=databases,
        roles=frozenset(facts["roles"]),
        extensions=facts["extensions"] or {},
        may_create=facts["may_create"],
        has_stand_ins=facts["has_stand_ins"],
        rights=Rights(
            user=rights["user"],
            superuser=rights["superuser"],
            create_roles=rights["create_roles"],
            bypasses_row_security=rights["bypasses_row_security"],
            ends_sessions=rights["ends_sessions"],
            acts_as=frozenset(rights["acts_as"]),
            may_join=frozenset(rights["may_join"]),
            untrusted_extensions=frozenset(rights["untrusted_extensions"]),
        ),
        memberships=frozenset((group, member) for group, member in facts["memberships"]),
        tablespaces=frozenset(facts["tablespaces"]),
        has_icu=facts["has_icu"],
        in_recovery=facts["in_recovery"],
        preloaded=None if facts["preloaded"] is None else frozenset(map(str.strip, facts["preloaded"].split(","))),
        homes={name: home for name, home in facts["homes"].items() if home is not None},
        home_encoding=facts["home_encoding"],
        psql_version=psql_version,
        system_identifier=facts["system_identifier"],
        free_connections=facts["free_connections"],
    )
