"""The databases beside the live one: what a restore replaced, and what one is filling or left half-filled.

`{name}_before_{time}` is what a restore replaced, `{name}_restore_{time}` what one is filling or left half-filled,
`{name}_loaded_{time}` what one was filling when there was no other any more (`--in-place`). All are
hubbackup's own: a name of that form is never taken as the name of a database to restore.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container, Iterable
from datetime import UTC, datetime, timedelta

from hubbackup.errors import UsageError

NAME_BYTES = 63
"""NAMEDATALEN - 1: longer names are cut by the server, silently."""
TIME_FORMAT = "%Y%m%d_%H%M%S"
OURS = "_(before|restore|loaded)_[0-9]{8}_[0-9]{6}$"
"""As a pattern of PostgreSQL's, too."""
SUFFIX = re.compile(r"_(before|restore|loaded)_([0-9]{8}_[0-9]{6})\Z")
SIDE = re.compile(r"_(before|restore|loaded|drill)_[0-9]{8}_[0-9]{6}\Z")
"""Of every one, the scratch databases of drills included."""
HASH_DIGITS = 8


def check_target(name: str) -> str:
    """`name`, if a database can be restored under it. Raises UsageError."""
    try:
        size_bytes = len(name.encode())
    except UnicodeEncodeError as error:
        raise UsageError(f"the database name {name!a} is not UTF-8") from error
    if not name:
        raise UsageError("the database name is empty", remedy="name one, or leave the option out")
    if size_bytes > NAME_BYTES:
        raise UsageError(
            f"the database name {name} has {size_bytes} bytes, PostgreSQL takes {NAME_BYTES}",
            remedy="give a shorter one: the server would cut it silently",
        )
    if name in ("template0", "template1"):
        raise UsageError(f"{name} is a template of the server", remedy="restore into another database")
    if SUFFIX.search(name):
        raise UsageError(
            f"{name} is a name that hubbackup gives itself, and removes when its time has come",
            remedy="give another one; hubbackup restore --undo brings back what a restore replaced",
        )
    return name


def derived_name(database: str, word: str, moment: datetime, taken: Container[str] = ()) -> str:
    """`hub_chantier_before_20260208_030000`, in UTC, or the next second that is not `taken`."""
    moment = moment.astimezone(UTC)
    while True:
        suffix = f"_{word}_{moment.strftime(TIME_FORMAT)}"
        name = _stem(database, len(suffix)) + suffix
        if name not in taken:
            return name
        moment += timedelta(seconds=1)


def derived_time(name: str, database: str, word: str) -> str:
    """The time in a derived name of `database`, as `20260208_030000`, or an empty string where it is none."""
    suffix_bytes = len(f"_{word}_20260208_030000")
    stem = re.escape(_stem(database, suffix_bytes))
    found = re.fullmatch(rf"{stem}_{word}_([0-9]{{8}}_[0-9]{{6}})", name)
    return found.group(1) if found else ""


def time_of(name: str) -> datetime:
    """The time in the name of such a database."""
    found = SUFFIX.search(name)
    assert found is not None  # noqa: S101 - the caller made the name
    return datetime.strptime(found.group(2), TIME_FORMAT).replace(tzinfo=UTC)


def drills_of(names: Iterable[str], database: str) -> list[str]:
    """Which of `names` are scratch databases of drills of `database`."""
    return [name for name in names if derived_time(SUFFIX.sub("", name), database, "drill")]


def derived_kind(name: str) -> str:
    """`before` for the name of a database that a restore put aside, `restore` and `loaded` for one it left; else
    empty."""
    found = SUFFIX.search(name)
    return found.group(1) if found else ""


def is_side_database(name: str) -> bool:
    """Whether it is one of those: nobody's data by itself, so that a backup of every database leaves it out."""
    return SIDE.search(name) is not None


def expired_names(names: Iterable[str], database: str, keep_days: int, now: datetime) -> list[str]:
    """Which of `names` are databases put aside by a restore of `database` more than `keep_days` ago (0: none)."""
    if not keep_days:
        return []
    limit = (now - timedelta(days=keep_days)).astimezone(UTC).strftime(TIME_FORMAT)
    return [name for name in names if "" < derived_time(name, database, "before") < limit]


def _stem(database: str, suffix_bytes: int) -> str:
    """The database's name; where no suffix fits behind it, its start and a hash of the whole: none is shared."""
    whole = database.encode()
    if len(whole) + suffix_bytes <= NAME_BYTES:
        return database
    kept_bytes = NAME_BYTES - suffix_bytes - 1 - HASH_DIGITS
    return f"{whole[:kept_bytes].decode(errors='ignore')}~{hashlib.sha256(whole).hexdigest()[:HASH_DIGITS]}"
