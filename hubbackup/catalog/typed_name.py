"""A backup as an operator names it: by its name, its path, its manifest, or its address in S3."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from hubbackup.catalog.backup import BackupName
from hubbackup.errors import UsageError

REMEDY = "hubbackup list prints the names there are"


class Place(Protocol):
    """A store or a target, as far as an address tells it."""

    def describe(self) -> str: ...


P = TypeVar("P", bound=Place)


def parse_name(typed: str, places: Sequence[Place] = ()) -> BackupName:
    """The backup that is meant by `NAME`, and by what stands beside it, such as `NAME`'s manifest.

    Also behind the address of one of `places`, or its end: `/var/backups/hub-chantier/NAME`, `backups/NAME`,
    `s3://bucket/backups/NAME`. Raises UsageError for anything else: the same name may be elsewhere, too.
    """
    last = typed.rpartition("/")[2]
    name = named(last)
    if name is None:
        raise UsageError(f"{typed!a:.120} is not a name of a backup", remedy=REMEDY)
    address = typed.removesuffix(last)
    if address and not _is_one_of(address, places):
        where = ", ".join(place.describe() for place in places) or "a store"
        raise UsageError(f"{typed!a:.300} is not in {where}", remedy=f"give the name alone: {name}")
    return name


def named(file_name: str) -> BackupName | None:
    """The backup that a file name belongs to: its own, or that of its manifest or of a mark."""
    return BackupName.parse(file_name) or BackupName.owner_of(file_name)


def places_of(typed: str, places: Sequence[P]) -> list[P]:
    """Those of `places` that `typed` can be in: all where it is a name alone, none where its address is elsewhere."""
    address = typed.removesuffix(typed.rpartition("/")[2])
    return [place for place in places if not address or _is_one_of(address, [place])]


def in_path(typed: str) -> Path:
    """A path as typed; of a manifest or a mark, that of its backup."""
    path = Path(typed)
    name = named(path.name)
    return path if name is None else path.with_name(str(name))


def _is_one_of(address: str, places: Iterable[Place]) -> bool:
    wanted = address.rstrip("/") or address
    return any(f"/{place.describe().rstrip('/')}".endswith(f"/{wanted}") for place in places)
