"""From what the proof has read to the plan of a load: what may run at once, what waits for what, what comes first."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence, Set

from hubbackup.dump.census import DumpFacts
from hubbackup.dump.copy_blocks import CopyBlock
from hubbackup.dump.dump_statements import NAME
from hubbackup.dump.statement_kinds import QUALIFIED, Code, Constraint, Index, unique_index
from hubbackup.load.dump_text import DumpReading, Post, Text
from hubbackup.load.own_code import OwnCode
from hubbackup.load.plan import Build, ForeignKey, Plan, Serial, TableLoad
from hubbackup.postgres.extensions import BRACKETED

SHOWN = 3
"""So many names in a remark."""
WATCHING = frozenset({*BRACKETED, "citus"})
"""Extensions that do more with a table than PostgreSQL itself."""
_TABLESPACE = "default_tablespace"
_NO_TABLESPACE = b"SET default_tablespace = '';\n"
_MENTIONED = re.compile(QUALIFIED)
_METHODS = {"btree": 1.0, "hash": 1.0, "brin": 0.3, "gin": 3.0, "hnsw": 12.0, "ivfflat": 6.0}
_OTHER_METHOD = 4.0
_TEXT_BYTES = 120
"""In the costs' own unit, beside 10 for a number: to sort 1.75 million texts of 64 characters takes as long as to
copy 230 MB of rows."""
_NAME = re.compile(NAME)
_TEXT_COLUMN = re.compile(rb"^    (" + NAME + rb") (?:text|character|(?:\w+\.)?citext)\b", re.MULTILINE)
_BEHIND_KEY = re.compile(rb" (?:INCLUDE|WHERE|WITH) ")
OF_NO_TABLE = "they are of materialized views, or of tables that the dump does not make"
OF_PARTITIONED = "they are of partitioned tables, and wait for those of the partitions"
READS = "they call code of the database's own that may look into other tables"
LATE = "they use what the dump makes only behind the rows"
NO_KEY_YET = "what they refer to is made in the dump's own order"
OF_EXTENSION = "the dump does not make it, an extension does: it may have rows and keys already"


def plan_of(reading: DumpReading, facts: DumpFacts) -> Plan:
    """The plan. Texts that are written anew go to the reading's own."""
    if whole := _why_whole(reading, facts):
        return Plan(whole=whole)
    own = OwnCode(reading.text, reading.codes, reading.tables, reading.parents)
    if own.everywhere:
        return Plan(whole=f"the {own.everywhere} runs code that may look into tables, wherever it is used")
    return _Planner(reading, facts, own).plan()


def _why_whole(reading: DumpReading, facts: DumpFacts) -> str:
    if reading.whole:
        return reading.whole
    if facts.unknown:
        return f"it has a statement that is not known of pg_dump: {facts.unknown}"
    if watching := sorted(WATCHING.intersection(facts.extensions)):
        return f"the extension {watching[0]} has a part in how tables are filled"
    if facts.meta_commands:
        return "it has a command for psql itself"
    return "" if facts.blocks else "it brings no rows"


class _Planner:
    """Sorts the statements of one dump."""

    def __init__(self, reading: DumpReading, facts: DumpFacts, own: OwnCode) -> None:
        self._reading = reading
        self._own = own
        self._blocks: dict[str, list[CopyBlock]] = defaultdict(list)
        for block in facts.blocks:
            self._blocks[block.table].append(block)
        self._late = {post.made.name for post in reading.post if isinstance(post.made, Code)}
        self._builds: dict[str, list[Post]] = defaultdict(list)
        self._built: set[Text] = set()
        self._keys_in_rest: set[str] = set()
        self._texts: dict[str, Set[bytes]] = {}
        self._foreign_keys: list[ForeignKey] = []
        self._rest: list[Text] = []
        self._serial: dict[str, list[str]] = defaultdict(list)

    def plan(self) -> Plan:
        """All of it."""
        for post in self._reading.post:
            self._sort_build(post)
        for post in self._reading.post:
            self._sort_rest(post)
        first, loads, last = self._loads()
        return Plan(
            settings=tuple(self._reading.settings.values()),
            pre=(self._reading.pre,),
            first=first,
            loads=tuple(sorted(loads, key=lambda load: -load.weight)),
            last=last,
            data=tuple(self._reading.data),
            foreign_keys=tuple(sorted(self._foreign_keys, key=lambda key: -key.cost)),
            rest=tuple(self._rest),
            serial=tuple(Serial(_listed(names), why) for why, names in self._serial.items()),
        )

    # -- post-data

    def _sort_build(self, post: Post) -> None:
        """To its table, if it may be built before the barrier."""
        made = post.made
        if not isinstance(made, Index | Constraint) or not _is_of_index(made):
            return
        if why := self._why_not_at_once(made, post):
            self._serial[why].append(made.name)
            if isinstance(made, Constraint) or made.unique:
                self._keys_in_rest.add(made.table)
        else:
            self._builds[made.table].append(post)
            self._built.add(post.text)

    def _why_not_at_once(self, made: Index | Constraint, post: Post) -> str:
        table = self._reading.tables.get(made.table)
        if table is None or table.made.foreign:
            return OF_NO_TABLE
        if table.made.partitioned or (isinstance(made, Index) and made.only):
            return OF_PARTITIONED
        if not self._own.names and not self._late:
            return ""
        body = self._reading.text.read(post.text)[made.body :]
        if self._own.mentions(body):
            return READS
        mentioned = {found.decode("utf-8", "surrogateescape") for found in _MENTIONED.findall(body)}
        return "" if self._late.isdisjoint(mentioned) else LATE

    def _sort_rest(self, post: Post) -> None:
        """What is no build: a foreign key, or one of those that stay in their order."""
        made = post.made
        if post.text in self._built:
            return
        if isinstance(made, Constraint) and made.kind == "FOREIGN KEY":
            why = self._why_key_waits(made)
            if not why:
                tables = frozenset((made.table, made.other))
                cost = self._check(made) if made.valid else 0
                self._foreign_keys.append(ForeignKey(made.name, self._in_its_tablespace(post), tables, cost))
                return
            self._serial[why].append(made.name)
        self._keep_order(post.text)

    def _why_key_waits(self, made: Constraint) -> str:
        for table in (made.table, made.other):
            found = self._reading.tables.get(table)
            if found is None or found.made.foreign:
                return OF_NO_TABLE
            if found.made.partitioned:
                return OF_PARTITIONED
        return NO_KEY_YET if made.other in self._keys_in_rest else ""

    def _keep_order(self, text: Text) -> None:
        before = self._rest[-1] if self._rest else Text(0, 0)
        if before.length and before.offset + before.length == text.offset:
            self._rest[-1] = Text(before.offset, before.length + text.length)
        else:
            self._rest.append(text)

    # -- rows

    def _loads(self) -> tuple[tuple[TableLoad, ...], list[TableLoad], tuple[TableLoad, ...]]:
        """Those before, at once, and behind."""
        first, loads, last = [], [], []
        through_root = {self._root(table) for table in self._blocks if self._is_partitioned(table)}
        members: dict[str, list[str]] = defaultdict(list)
        for table in dict.fromkeys((*self._blocks, *self._builds)):
            root = self._root(table)
            members[root if root in through_root else table].append(table)
        for group, tables in members.items():
            load = self._load(group, tables)
            if group not in self._reading.tables or self._reading.tables[group].made.foreign:
                first.append(load)
                self._serial[load.why_not].append(group)
            elif self._own.names and not self._own.names.isdisjoint(tables):
                last.append(load)
                self._serial[READS].append(group)
            else:
                loads.append(load)
        return tuple(first), loads, tuple(last)

    def _load(self, group: str, tables: Sequence[str]) -> TableLoad:
        blocks = sorted((block for table in tables for block in self._blocks.get(table, ())), key=lambda b: b.offset)
        builds: list[Build] = []
        then: list[Build] = []
        for table in tables:
            self._split(self._builds.get(table, []), builds, then)
        builds.sort(key=lambda build: -build.cost)
        then.sort(key=lambda build: -build.cost)
        why_not = self._why_not_frozen(group, blocks)
        return TableLoad(group, tuple(blocks), not why_not, why_not, tuple(builds), tuple(then))

    def _why_not_frozen(self, table: str, blocks: Sequence[CopyBlock]) -> str:
        found = self._reading.tables.get(table)
        if found is None:
            return OF_EXTENSION
        if found.made.foreign:
            return "it is a foreign table"
        if found.made.partitioned:
            return "its rows go through the partitioned table"
        if not found.is_heap:
            return "its rows are kept by an access method of its own"
        return "" if len(blocks) == 1 else "the dump has no rows of it" if not blocks else "its rows come in parts"

    def _split(self, posts: Sequence[Post], builds: list[Build], then: list[Build]) -> None:
        """A table's indexes side by side, its keys as unique indexes first; a single one stays as it is written."""
        for post in posts:
            made = post.made
            assert isinstance(made, Index | Constraint)  # noqa: S101 - `_sort_build` lets no other in
            statement = self._reading.text.read(post.text)
            cost = self._cost(made, statement)
            split = unique_index(statement, made) if len(posts) > 1 and isinstance(made, Constraint) else None
            if split is not None:
                index, key = split
                builds.append(Build(made.name, self._in_its_tablespace(post, index), cost))
                then.append(Build(made.name, self._reading.text.add(key), 0))
            elif isinstance(made, Constraint) and len(posts) > 1:
                then.append(Build(made.name, self._in_its_tablespace(post), cost))
            else:
                builds.append(Build(made.name, self._in_its_tablespace(post), cost))

    def _in_its_tablespace(self, post: Post, statement: bytes = b"") -> Text:
        """The statement, between SETs where its tablespace is not that of the sessions."""
        usual = self._reading.settings.get(_TABLESPACE, b"")
        if post.tablespace in (usual, usual or _NO_TABLESPACE):
            return self._reading.text.add(statement) if statement else post.text
        statement = statement or self._reading.text.read(post.text)
        return self._reading.text.add(post.tablespace + statement + (usual or _NO_TABLESPACE))

    # -- estimates

    def _cost(self, made: Index | Constraint, statement: bytes) -> int:
        """About what it reads, sorts and writes."""
        rows = sum(block.rows for block in self._rows_of(made.table))
        columns = statement.count(b",", made.body) + 1
        method = made.method if isinstance(made, Index) else "gist" if made.kind == "EXCLUDE" else "btree"
        partial = 0.6 if isinstance(made, Index) and b" WHERE " in statement else 1.0
        key = _BEHIND_KEY.split(statement[made.body :], maxsplit=1)[0]
        texts = sum(name in self._texts_of(made.table) for name in _NAME.findall(key))
        sorted_bytes = rows * (10 + 10 * columns + _TEXT_BYTES * texts)
        return int(_METHODS.get(method, _OTHER_METHOD) * partial * (self._scan(made.table) + sorted_bytes))

    def _scan(self, table: str) -> int:
        return sum(block.row_bytes for block in self._rows_of(table)) // 20

    def _check(self, made: Constraint) -> int:
        """About what it takes to look for the rows of one table in the other."""
        mine, other = (sum(block.rows for block in self._rows_of(table)) for table in (made.table, made.other))
        return 10 * mine + 40 * other

    def _texts_of(self, table: str) -> Set[bytes]:
        """The columns that are compared by a collation, which takes far longer than numbers do."""
        if table not in self._texts:
            found = self._reading.tables.get(table)
            text = self._reading.text.read(found.text) if found is not None else b""
            self._texts[table] = frozenset(_TEXT_COLUMN.findall(text))
        return self._texts[table]

    def _rows_of(self, table: str) -> list[CopyBlock]:
        """Its blocks, or those that may hold its rows."""
        return self._blocks.get(table) or self._blocks.get(self._root(table), [])

    # -- partitions

    def _root(self, table: str) -> str:
        parents = self._reading.parents
        while table in parents:
            table = parents[table]
        return table

    def _is_partitioned(self, table: str) -> bool:
        found = self._reading.tables.get(table)
        return found is not None and found.made.partitioned


def _is_of_index(made: Index | Constraint) -> bool:
    return isinstance(made, Index) or made.kind in ("PRIMARY KEY", "UNIQUE", "EXCLUDE")


def _listed(names: Iterable[str]) -> str:
    found = list(names)
    more = len(found) - SHOWN
    return ", ".join(found[:SHOWN]) + (f" and {more} more" if more > 0 else "")
