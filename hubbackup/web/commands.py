"""The commands for one backup, as they are typed where the page's reader stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hubbackup.config.bucket import S3
from hubbackup.status.snapshot import BackupFacts, Snapshot, StoreFacts


def commands_of(
    backup: BackupFacts, snapshot: Snapshot, typable: Callable[[str], str]
) -> tuple[tuple[str, str], ...]:
    """(what it does, the command), the likeliest first."""
    return tuple((what, typable(command)) for what, command in _of(backup, snapshot))


def _of(backup: BackupFacts, snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    name = backup.name
    here = [store for store in snapshot.stores if store.name in (*backup.good_in, *backup.not_good_in)]
    by_use = sorted(here, key=lambda store: (not store.on_disk, store.name not in backup.good_in))
    where = by_use[0].name if by_use else S3
    on_disk = bool(by_use) and by_use[0].on_disk
    source = name if on_disk else f"--from-s3 {name}" if where == S3 else f"{name} --from {where}"
    key = " --identity FILE" if backup.sealed else ""
    over = f" --database{snapshot.typed(backup.database)}" if snapshot.several else ""
    if backup.good:
        yield "Restore it (asks first, keeps the old database)", f"hubbackup restore {source}{over}{key}"
        yield "Restore it beside the live one", f"hubbackup restore {source} --into {_beside(backup)}{key}"
        if not backup.unrestorable:
            yield "Try it in a throwaway server", f"hubbackup drill {name} --store {where}{key}"
    yield "Read it through", f"hubbackup verify {name}"
    if backup.warnings:
        yield "Accept it as the new normal", f"hubbackup accept {name}"
    yield (
        ("Let it be pruned again", f"hubbackup unpin {name}")
        if backup.pinned
        else (
            "Keep it forever",
            f"hubbackup pin {name}",
        )
    )
    for store in here:
        if store.fetch:
            yield f"Fetch the file from {_named(store)}", store.fetch.replace("{name}", name)


def _beside(backup: BackupFacts) -> str:
    """A name for a copy of the database that needs no quotes in a shell."""
    return "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in backup.database)[:50] + "_copy"


def _named(store: StoreFacts) -> str:
    return "this server" if store.on_disk else store.title
