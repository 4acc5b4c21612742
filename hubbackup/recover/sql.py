"""SQL that compares the rows of a backup, in a temporary table, with those of the live one, and brings them back.

Pure text. Two values are equal where the server writes them equally (`record_out`), as pg_dump would: so NULL, NaN,
json and composite values compare, and no operator, cast or function of the database's users is looked up. What runs
under the database's own search_path, since its triggers may need it, names each operator, type and table in full.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from hubbackup.dump.identifiers import literal, quoted
from hubbackup.postgres.live_table import FillingSequence, Key, LiveTable

SHOWN_CHARACTERS = 200
SAMPLE_ROWS = 20
EQ = "OPERATOR(pg_catalog.=)"


@dataclass(frozen=True)
class Comparison:
    """The backup's `columns` (all of them) against the live `table`; by `key`.

    `condition` is the operator's, or empty. `tag` makes the temporary tables' names nobody else's.
    """

    table: LiveTable
    columns: tuple[str, ...]
    tag: str
    key: Key
    condition: str = ""

    @cached_property
    def inserted(self) -> tuple[str, ...]:
        """The columns that an inserted row gets from the backup."""
        live = {column.name for column in self.table.columns if not column.is_generated}
        return tuple(name for name in self.columns if name in live)

    @cached_property
    def compared(self) -> tuple[str, ...]:
        """The columns that are compared, and can be set back."""
        key = {column.name for column in self.key.columns}
        fixed = {column.name for column in self.table.columns if column.identity == "a"} - key
        return tuple(name for name in self.inserted if name not in fixed)

    @cached_property
    def settable(self) -> frozenset[str]:
        """The columns that an UPDATE may set."""
        return frozenset(self.compared) - {one.name for one in self.table.columns if one.identity == "a"}

    @cached_property
    def rows(self) -> str:
        """The temporary table of the backup's rows."""
        return f"pg_temp.hubbackup_rows_{self.tag}"

    @cached_property
    def found(self) -> str:
        """The temporary table of what is missing or different: `at` (which row), `missing`, and the live row."""
        return f"pg_temp.hubbackup_found_{self.tag}"

    # -- under the pinned search_path

    def create(self) -> str:
        """The temporary table: the live types, text for what is not there any more."""
        live = {column.name for column in self.table.columns}
        items = [quoted(name) if name in live else f"NULL::text AS {quoted(name)}" for name in self.columns]
        return (
            f"CREATE TEMPORARY TABLE {self.rows.removeprefix('pg_temp.')} ON COMMIT DROP AS"
            f" SELECT {', '.join(items)} FROM {self.table.sql} WHERE false;"
        )

    def copy(self, columns: Sequence[str], encoding: str) -> str:
        """What fills it with rows of these columns."""
        listed = f" ({', '.join(map(quoted, columns))})" if columns else ""
        return f"COPY {self.rows}{listed} FROM stdin (ENCODING {literal(encoding)})"

    def analyze(self, *, found: bool = False) -> str:
        """So that the server joins as it does best."""
        return f"ANALYZE {self.found if found else self.rows};"

    def row_count(self) -> str:
        """How many rows the backup's temporary table has."""
        return f"SELECT count(*) FROM {self.rows}"

    def conditioned(self) -> tuple[str, str]:
        """The queries that the condition becomes a part of: of the backup's rows, of the live ones."""
        return f"SELECT FROM {self._chosen} b", f"SELECT FROM {self.table.sql} AS {self._alias} {self._where}"

    def repeated(self, *, live: bool) -> str:
        """How many keys without a NULL several rows have, and how many rows have a NULL in theirs."""
        source = self.table.sql if live else self.rows
        key = ", ".join(f"k.{quoted(column.name)}" for column in self.key.columns)
        return (
            f"SELECT jsonb_build_array((SELECT count(*) FROM (SELECT FROM {source} k WHERE num_nulls({key}) = 0"
            f" GROUP BY {key} HAVING count(*) > 1) d), (SELECT count(*) FROM {source} k WHERE num_nulls({key}) > 0))"
        )

    def compare(self) -> str:
        """Fill the table of what was found."""
        return (
            f"CREATE TEMPORARY TABLE {self.found.removeprefix('pg_temp.')} ON COMMIT DROP AS"
            f" SELECT b.{self._at} AS at, l.tableoid IS NULL AS missing,"
            f" CASE WHEN l.tableoid IS NOT NULL THEN {_text('l', self.compared)} END AS live"
            f" FROM {self._chosen} b LEFT JOIN {self.table.sql} AS l ON {self._matched('b', 'l')}"
            f" WHERE CASE WHEN l.tableoid IS NULL THEN true ELSE {_differs(self.compared)} END"
        )

    def counts(self) -> str:
        """Rows in the backup, chosen by the condition, missing in live, different, only in live."""
        return (
            f"SELECT jsonb_build_array((SELECT count(*) FROM {self.rows}), (SELECT count(*) FROM {self._chosen} b),"
            f" (SELECT count(*) FROM {self.found} WHERE missing),"
            f" (SELECT count(*) FROM {self.found} WHERE NOT missing),"
            f" (SELECT count(*) FROM {self._only_live}))"
        )

    def differences(self) -> str:
        """In how many rows each compared column differs, in their order."""
        counts = ", ".join(f"count(*) FILTER (WHERE {_differs([name])})" for name in self.compared)
        return f"SELECT to_jsonb(ARRAY[{counts}]) FROM {self._pairs} WHERE NOT f.missing"

    def missing_sample(self) -> str:
        """The first rows that are missing: the values of `shown`."""
        return _gathered(
            f"SELECT to_jsonb({_texts('b', self.shown)}) FROM {self.found} f JOIN {self.rows} b ON b.ctid = f.at"
            f" WHERE f.missing ORDER BY f.at LIMIT {SAMPLE_ROWS}"
        )

    def different_sample(self) -> str:
        """The first rows that differ: the key, the backup's values, the live ones, whether each one differs."""
        differs = ", ".join(_differs([name]) for name in self.compared)
        return _gathered(
            f"SELECT jsonb_build_array({_texts('b', self.key_names)}, {_texts('b', self.compared)},"
            f" {_texts('l', self.compared)}, ARRAY[{differs}]) FROM {self._pairs} WHERE NOT f.missing"
            f" ORDER BY f.at LIMIT {SAMPLE_ROWS}"
        )

    def only_live_sample(self) -> str:
        """The first rows that only the live table has, by their keys: the values of `shown`."""
        order = ", ".join(f"{self._alias}.{quoted(name)}" for name in self.key_names)
        return _gathered(
            f"SELECT to_jsonb({_texts(self._alias, self.shown)}) FROM {self._only_live} ORDER BY {order}"
            f" LIMIT {SAMPLE_ROWS}"
        )

    def unlike(self, *, changed: bool) -> str:
        """How many of the rows that were brought back are not as the backup has them: a trigger may have its say."""
        return (
            f"SELECT count(*) FROM {self.found} f JOIN {self.rows} b ON b.ctid = f.at"
            f" LEFT JOIN {self.table.sql} AS l ON {self._matched('b', 'l')} WHERE {_applied(changed)}"
            f" CASE WHEN l.tableoid IS NULL THEN true ELSE {_differs(self.compared)} END"
        )

    def advance(self, sequence: FillingSequence, *, changed: bool) -> str:
        """Set a sequence behind the values that were brought back, where it is before them; answers its new value."""
        furthest, before = ("max", ">") if sequence.increment > 0 else ("min", "<")
        return (
            f"SELECT setval(p.seqrelid::regclass, least(greatest(m.v, p.seqmin), p.seqmax))"
            f" FROM {sequence.name} s, pg_sequence p,"
            f" (SELECT {furthest}(b.{quoted(sequence.column)})::int8 AS v FROM {self.found} f"
            f" JOIN {self.rows} b ON b.ctid = f.at WHERE {_applied(changed)} true) m"
            f" WHERE p.seqrelid = {literal(sequence.name)}::regclass"
            f" AND (m.v {before} s.last_value OR m.v = s.last_value AND NOT s.is_called)"
        )

    # -- under the database's own search_path

    def apply(self, differing: Sequence[str], *, changed: bool) -> str:
        """Bring back what is missing, and with `changed` what differs, if it still is what was compared; answers how
        many rows it updated and inserted. One statement: references between its rows are checked at its end."""
        source = f"{self.rows} b, {self.found} f WHERE f.at {EQ} b.ctid AND"
        names = [quoted(name) for name in self.inserted]
        inserted = (
            f"inserted AS (INSERT INTO {self.table.into} ({', '.join(names)}) OVERRIDING SYSTEM VALUE"
            f" SELECT {', '.join(f'b.{name}' for name in names)} FROM {source} f.missing ORDER BY f.at RETURNING 1)"
        )
        settings = ", ".join(f"{quoted(n)} = b.{quoted(n)}" for n in differing if n in self.settable)
        if not changed or not settings:
            return f"WITH {inserted} SELECT 0, (SELECT pg_catalog.count(*) FROM inserted);"
        return (
            f"WITH updated AS (UPDATE {self.table.sql} AS l SET {settings} FROM {source} NOT f.missing"
            f" AND {self._matched('b', 'l')} AND {_text('l', self.compared)} {EQ} f.live RETURNING 1), {inserted}"
            " SELECT (SELECT pg_catalog.count(*) FROM updated), (SELECT pg_catalog.count(*) FROM inserted);"
        )

    # -- parts

    @cached_property
    def key_names(self) -> tuple[str, ...]:
        """The key's columns."""
        return tuple(column.name for column in self.key.columns)

    @cached_property
    def shown(self) -> tuple[str, ...]:
        """What a sample shows of a whole row: the key first."""
        return (*self.key_names, *(name for name in self.inserted if name not in self.key_names))

    @property
    def _alias(self) -> str:
        return quoted(self.table.name)

    @property
    def _at(self) -> str:
        return f"hubbackup_at_{self.tag}"

    @property
    def _where(self) -> str:
        return f"WHERE ({self.condition}\n)" if self.condition else ""

    @property
    def _chosen(self) -> str:
        """The rows of the backup that the condition holds for, each with its place."""
        name = self._alias
        return f"(SELECT {name}.ctid AS {self._at}, {name}.* FROM {self.rows} AS {name} {self._where})"

    @property
    def _only_live(self) -> str:
        """The live rows, by the table's own name, that the condition holds for and the backup has no row for."""
        mine = f"hubbackup_r_{self.tag}"
        return (
            f"{self.table.sql} AS {self._alias} {self._where or 'WHERE true'} AND NOT EXISTS"
            f" (SELECT FROM {self.rows} {mine} WHERE {self._matched(mine, self._alias)})"
        )

    @property
    def _pairs(self) -> str:
        return (
            f"{self.found} f JOIN {self.rows} b ON b.ctid = f.at JOIN {self.table.sql} AS l"
            f" ON {self._matched('b', 'l')}"
        )

    def _matched(self, mine: str, live: str) -> str:
        return " AND ".join(
            f"{mine}.{quoted(column.name)} {column.equals} {live}.{quoted(column.name)}"
            for column in self.key.columns
        )


def _row(alias: str, names: Sequence[str]) -> str:
    # As a value of its own: two bare rows would be compared column by column.
    return f"ROW({', '.join(f'{alias}.{quoted(name)}' for name in names)})::pg_catalog.record"


def _text(alias: str, names: Sequence[str]) -> str:
    return f'({_row(alias, names)}::pg_catalog.text COLLATE pg_catalog."C")'


def _differs(names: Sequence[str]) -> str:
    """Whether b and l are written differently: equal images are, and cost less to tell."""
    return (
        f"CASE WHEN {_row('b', names)} *= {_row('l', names)} THEN false"
        f" ELSE {_text('b', names)} <> {_text('l', names)} END"
    )


def _applied(changed: bool) -> str:
    return "" if changed else "f.missing AND"


def _texts(alias: str, names: Sequence[str]) -> str:
    """The values as the server writes them, the beginning of each."""
    values = [
        f"CASE WHEN num_nulls({alias}.{quoted(name)}) = 0 THEN left(format('%s', {alias}.{quoted(name)}),"
        f" {SHOWN_CHARACTERS}) END"
        for name in names
    ]
    return f"ARRAY[{', '.join(values)}]::text[]"


def _gathered(query: str) -> str:
    return f"SELECT coalesce(jsonb_agg(r.v), '[]') FROM ({query}) r (v)"
