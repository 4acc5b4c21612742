"""Extensions that ask for more than the `CREATE EXTENSION` that stands in a dump."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Extension:
    """One extension of a database, and the schema that it was made in."""

    name: str
    version: str
    schema: str = "public"


@dataclass(frozen=True)
class Bound:
    """An extension that can only be made in one database, whose name the server's setting `home` has; and, for its
    own tests, in one named `stage`: there a restore makes it, before the database gets its name. `worker` is the
    server's process that is at home there."""

    home: str
    stage: str
    worker: str


BOUND = {"pg_cron": Bound("cron.database_name", "contrib_regression", "pg_cron launcher")}

PRELOADED = frozenset({"citus", "pg_cron", "pg_stat_kcache", "pgaudit", "pglogical"})
"""They can't be made where `shared_preload_libraries` lacks them; TimescaleDB says so itself, before the load."""


@dataclass(frozen=True)
class Brackets:
    """An extension that wants to be told before its rows are loaded, and afterwards: two functions of its own."""

    before: str
    after: str


BRACKETED = {"timescaledb": Brackets("timescaledb_pre_restore", "timescaledb_post_restore")}
SAME_VERSION = frozenset({"timescaledb"})
"""Their catalogs are rows of the dump, and differ from one version to the next."""
TEMPLATE_SCHEMAS = ("public", "pg_catalog")
"""Schemas that every new database has: in another one nothing can be made before the dump has made it."""
