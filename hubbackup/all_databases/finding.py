"""What there is: the newest good backup of each database, its manifest opened, and what is in a database already."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from zoneinfo import ZoneInfo

from hubbackup.all_databases.plan import Planned
from hubbackup.catalog.listing import Listed, newest_first_of
from hubbackup.catalog.target import Target
from hubbackup.errors import (
    HubbackupError,
    IdentityError,
    NotFoundError,
    NotProvenError,
    StoppedError,
    StoreError,
    UsageError,
)
from hubbackup.jobs.run import Run
from hubbackup.postgres.databases import Databases
from hubbackup.streams.age import HEADER_BYTES
from hubbackup.streams.age_keys import Identities
from hubbackup.verify.choice import Choice, newest_sound
from hubbackup.verify.sealed import demand_key


def chosen(
    run: Run, found: Sequence[Listed], targets: Sequence[Target], zone: ZoneInfo, *, foreign: bool
) -> list[Choice]:
    """The newest good backup of each database, by name; those that are passed over are logged.

    Raises NotFoundError where there is none of any database, UsageError where there are only foreign ones.
    """
    groups: dict[str, list[Listed]] = defaultdict(list)
    for one in found:
        groups[one.name.database].append(one)
    choices = []
    for database, group in sorted(groups.items()):
        choice = newest_sound(newest_first_of(group, targets, zone), targets, database, foreign=foreign)
        for name, why in choice.passed_over:
            remedy = f"to restore this one all the same: hubbackup restore {name}"
            run.log.warning("source.skipped", message=f"{name} is passed over: {why}", name=name, remedy=remedy)
        choices.append(choice)
    if any(choice.backup for choice in choices):
        return choices
    where = ", ".join(target.describe() for target in targets)
    if not foreign and any("foreign" in why for choice in choices for _, why in choice.passed_over):
        raise UsageError(
            f"no backup in {where} is known to be of this server",
            remedy="hubbackup config says how to carry the key of another server over. Where you know whose"
            " backups they are: hubbackup restore --all --foreign",
        )
    raise NotFoundError(
        f"there is no good backup of any database in {where}",
        remedy="hubbackup list shows what is there, and why it is not good",
    )


def opened_by(identities: Identities, choices: Sequence[Choice]) -> list[Planned]:
    """With their manifests; sealed ones by the keys at hand. Raises IdentityError where no key opens any."""
    opened, locked = [], None
    for choice in choices:
        planned = Planned(choice)
        for target in choice.targets:
            assert choice.backup is not None  # noqa: S101 - it is what these targets have
            assert choice.backup.manifest is not None  # noqa: S101 - without one it would not be chosen
            manifest = choice.backup.manifest
            opener = partial(target.open, planned.name, end=HEADER_BYTES)
            try:
                demand_key(planned.name, opener, manifest, identities)
                planned = Planned(choice).with_manifest(manifest.opened(identities))
                break
            except IdentityError as error:
                locked = error
                planned = replace(planned, why_not=str(error), remedy=error.remedy)
                break
            except (NotProvenError, StoreError) as error:  # the next copy may be whole
                planned = replace(planned, why_not=str(error), remedy=error.remedy)
        opened.append(planned)
    if locked is not None and all(one.manifest is None for one in opened):
        raise locked
    return opened


OCCUPIED_SQL = """\
SELECT (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
        WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND nspname !~ '^pg_' AND nspname <> 'information_schema'
          AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = c.oid
                          AND deptype = 'e')),
       (SELECT count(*) FROM pg_largeobject_metadata);
"""


def content_of(databases: Databases, name: str) -> str:
    """What is in a database of the server, beside what its extensions brought; empty where it is empty."""
    try:
        relations, large_objects = map(int, databases.sql(OCCUPIED_SQL, name).strip().split("|"))
    except StoppedError:
        raise
    except HubbackupError as error:
        return f"can't be looked into ({error})"
    if relations:
        return f"has {relations} tables, views and sequences"
    return f"has {large_objects} large objects" if large_objects else ""
