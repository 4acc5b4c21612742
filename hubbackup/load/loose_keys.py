"""Foreign keys to what a backup was made without: loaded behind all others, those that hold.

A table whose rows were left out is empty after a restore, and one that was left out wholly is not there: a key that
refers to it stops psql. So these are taken out of what is loaded, and tried when all else is done.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hubbackup.catalog.left_out import LeftOut
from hubbackup.dump.identifiers import plain_name, readable, unescaped
from hubbackup.load.part import Owned, owned_key
from hubbackup.postgres import ddl
from hubbackup.postgres.databases import Databases


@dataclass(frozen=True)
class LooseKeys:
    """Takes its foreign keys, and their comments, out of a dump's statements. `owned`: (table, constraint)."""

    owned: frozenset[Owned] = frozenset()
    _taken: dict[Owned, list[bytes]] = field(default_factory=dict)

    @classmethod
    def of(cls, left_out: LeftOut | None) -> LooseKeys:
        """Those that the manifest names; none where nothing was left out."""
        named = left_out.foreign_keys if left_out is not None else ()
        return cls(frozenset((_bytes(table), _bytes(name)) for table, name in named))

    def leaves_out(self, start: bytes, end: bytes) -> bool:
        """Whether a statement, by its first bytes, is one of theirs."""
        return bool(self.owned) and owned_key(start) in self.owned

    def take(self, statement: bytes) -> bool:
        """Whether the whole statement is one of theirs; it is kept then."""
        if not self.leaves_out(statement, b""):
            return False
        owned = owned_key(statement)
        assert owned is not None  # noqa: S101 - it is one of ours
        self._taken.setdefault(owned, []).append(statement)
        return True

    def without(self, add: Callable[[bytes], object]) -> Callable[[bytes], object]:
        """Passes on to `add` all other statements of a schema."""
        return lambda statement: self.take(statement) or add(statement)

    def conclude(self, databases: Databases, database: str, encoding: str) -> list[str]:
        """Make those that hold; returns a remark for each that doesn't. Raises HubbackupError."""
        if not self._taken:
            return []

        def shown(raw: bytes) -> str:
            return readable(raw.decode("utf-8", "surrogateescape"), encoding)

        lines = [
            ddl.tried(
                "".join(plain_name(one, encoding, unquoted=False) for one in statements),
                f"the foreign key {shown(name)} of {shown(table)} does not hold without what was left out of the"
                " backup, and was not made",
            )
            for (table, name), statements in self._taken.items()
        ]
        return databases.tried(lines, database, encoding)


def _bytes(name: str) -> bytes:
    return unescaped(name).encode("utf-8", "surrogateescape")
