"""Functions that find what they name by the search_path, where a load runs them: the dump empties it.

pg_dump writes every name in full, but a function's body it leaves as it is. While a dump is loaded, the server runs
the functions that generated columns, constraints, indexes and materialized views depend on. This is what can be known
of them without running any: SQL functions are read by the server's own validator under an empty search_path, and
PL/pgSQL ones are searched here for names of the database's own that stand without a schema. Names inside of strings
(EXECUTE) and operators in PL/pgSQL are not seen.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hubbackup.dump.identifiers import literal
from hubbackup.dump.sql_tokens import Token, tokens

_VALIDATE = """
DECLARE
    own text := current_setting('search_path');
    function record;
    told text;
    found jsonb := '{}';
BEGIN
    PERFORM set_config('check_function_bodies', 'on', false);
    FOR function IN SELECT p.oid FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang
        WHERE l.lanname = 'sql' AND p.oid >= 16384 AND p.prosrc <> ''
          AND NOT coalesce(p.proconfig::text, '') LIKE '%search_path=%'
    LOOP
        BEGIN
            PERFORM pg_catalog.set_config('search_path', '', false);
            PERFORM pg_catalog.fmgr_sql_validator(function.oid);
        EXCEPTION WHEN insufficient_privilege THEN NULL;
        WHEN OTHERS THEN
            told := SQLERRM;
            BEGIN
                PERFORM pg_catalog.set_config('search_path', own, false);
                PERFORM pg_catalog.fmgr_sql_validator(function.oid);
                found := found || pg_catalog.jsonb_build_object(function.oid, told);
            EXCEPTION WHEN OTHERS THEN NULL;
            END;
        END;
    END LOOP;
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog', false);
    PERFORM pg_catalog.set_config('hubbackup.misread', found::text, false);
END
"""
"""What is wrong with it only without a search_path. The validator parses, it executes nothing. From the oid 16384 on
all is the users' own."""

_ANSWER = """\
WITH RECURSIVE roots (label, classid, objid) AS (
    SELECT 'the index ' || indexrelid::regclass, 'pg_class'::regclass::oid, indexrelid FROM pg_index
        WHERE indexprs IS NOT NULL OR indpred IS NOT NULL
    UNION ALL SELECT 'the generated column ' || attname || ' of ' || adrelid::regclass, 'pg_attrdef'::regclass, d.oid
        FROM pg_attrdef d JOIN pg_attribute ON attrelid = adrelid AND attnum = adnum WHERE attgenerated = 's'
    UNION ALL SELECT 'the constraint ' || conname || ' of ' || CASE conrelid WHEN 0 THEN contypid::regtype::text
            ELSE conrelid::regclass::text END, 'pg_constraint'::regclass, oid
        FROM pg_constraint WHERE contype IN ('c', 'x')
    UNION ALL SELECT 'the partitioned table ' || partrelid::regclass, 'pg_class'::regclass, partrelid
        FROM pg_partitioned_table WHERE partexprs IS NOT NULL
    UNION ALL SELECT 'the materialized view ' || ev_class::regclass, 'pg_rewrite'::regclass, r.oid
        FROM pg_rewrite r JOIN pg_class c ON c.oid = ev_class WHERE relkind = 'm'
), used (label, classid, objid) AS (
    SELECT label, classid, objid FROM roots WHERE objid >= 16384
    UNION SELECT label, CASE WHEN r.oid IS NULL THEN refclassid ELSE 'pg_rewrite'::regclass::oid END,
            coalesce(r.oid, refobjid)
        FROM used JOIN pg_depend d USING (classid, objid)
        LEFT JOIN pg_rewrite r ON refclassid = 'pg_class'::regclass AND ev_class = refobjid
        WHERE refobjid >= 16384 AND deptype IN ('n', 'a') AND (refclassid IN ('pg_proc'::regclass,
            'pg_operator'::regclass) OR r.oid IS NOT NULL)
)
SELECT jsonb_build_object(
    'used', (SELECT coalesce(jsonb_agg(DISTINCT jsonb_build_array(objid, label)), '[]') FROM used
        WHERE classid = 'pg_proc'::regclass),
    'misread', current_setting('hubbackup.misread')::jsonb,
    'functions', (SELECT coalesce(jsonb_agg(jsonb_build_object('oid', p.oid::int8, 'schema', nspname, 'name', proname,
            'signature', p.oid::regprocedure::text, 'extension', (SELECT extname FROM pg_depend d
                JOIN pg_extension e ON e.oid = refobjid WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid
                AND deptype = 'e'), 'language', lanname,
            'body', CASE WHEN lanname IN ('sql', 'plpgsql') THEN prosrc ELSE '' END,
            'has_path', coalesce(proconfig::text, '') LIKE '%search_path=%', 'hidden', EXISTS (SELECT FROM pg_proc b
                WHERE b.proname = p.proname AND b.pronamespace = 'pg_catalog'::regnamespace))), '[]')
        FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace JOIN pg_language l ON l.oid = prolang
        WHERE p.oid >= 16384 AND nspname <> 'pg_catalog' AND prorettype <> 'trigger'::regtype),
    'relations', (SELECT coalesce(jsonb_agg(DISTINCT relname), '[]') FROM pg_class
        WHERE oid >= 16384 AND relkind IN ('r', 'p', 'v', 'm', 'f')
          AND relnamespace NOT IN ('pg_catalog'::regnamespace, 'pg_toast'::regnamespace)),
    'types', (SELECT coalesce(jsonb_agg(DISTINCT typname), '[]') FROM pg_type t
        WHERE oid >= 16384 AND left(typname, 1) <> '_' AND NOT EXISTS (SELECT FROM pg_type b
            WHERE b.typname = t.typname AND b.typnamespace = 'pg_catalog'::regnamespace)));
"""
SEARCH_PATH_SQL = f"DO {literal(_VALIDATE)};\n{_ANSWER}"
"""For a session with the database's own settings."""

_BLOCK_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_BEFORE_RELATIONS = ("FROM", "JOIN", "UPDATE", "ONLY", "USING")


@dataclass(frozen=True)
class Routine:
    """A function of the database's own. `hidden`: PostgreSQL has one of that name, and that would be found."""

    oid: int
    schema: str
    name: str
    signature: str
    language: str
    body: str
    has_path: bool
    hidden: bool
    extension: str | None


@dataclass(frozen=True)
class Dependent:
    """A function that a load runs and that needs a search_path: why, and for what it is run."""

    signature: str
    why: str
    used_by: str
    extension: str = ""


def dependents(facts: Mapping[str, Any]) -> list[Dependent]:
    """Out of the answer to `SEARCH_PATH_SQL`: each function once, in the order of the names."""
    routines = [Routine(**found) for found in facts["functions"]]
    reading = _Reading(routines, set(facts["relations"]), set(facts["types"]))
    by_oid = {routine.oid: routine for routine in routines}
    misread = {int(oid): str(why) for oid, why in facts["misread"].items()}
    found: dict[str, Dependent] = {}
    seen: set[int] = set()
    ahead = [(int(oid), str(label)) for oid, label in sorted(facts["used"], key=lambda used: str(used[1]))]
    while ahead:
        oid, label = ahead.pop(0)
        routine = by_oid.get(oid)
        if routine is None or oid in seen or routine.has_path:
            continue
        seen.add(oid)
        names, called = reading.of(routine)
        why = misread.get(oid, "")
        if not why and names and routine.language == "plpgsql":
            why = f"it names {', '.join(names)} without a schema"
        if why:
            found[routine.signature] = Dependent(routine.signature, why, label, routine.extension or "")
        ahead += [(callee.oid, label) for callee in called]
    return sorted(found.values(), key=lambda dependent: dependent.signature)


class _Reading:
    """What a function's body names."""

    def __init__(self, routines: Iterable[Routine], relations: set[str], types: set[str]) -> None:
        self._by_name: dict[str, list[Routine]] = {}
        for routine in routines:
            self._by_name.setdefault(routine.name, []).append(routine)
        self._relations = relations
        self._types = types

    def of(self, routine: Routine) -> tuple[list[str], list[Routine]]:
        """(names of the database's own without a schema, functions that it calls)."""
        text = tokens(_BLOCK_COMMENT.sub(" ", routine.body))
        own_names = {text[i - 1].identifier for i in range(1, len(text)) if _is_common_table(text, i)}
        names: dict[str, None] = {}
        called: dict[int, Routine] = {}
        for position, name in _names(text):
            schema = text[position - 2].identifier if position > 1 and text[position - 1] == DOT else ""
            alone = not schema and text[position + 1 : position + 2] != [DOT]
            if text[position + 1 : position + 2] == [Token("mark", "(")]:
                callees = [callee for callee in self._by_name.get(name, ()) if schema in ("", callee.schema)]
                called |= {callee.oid: callee for callee in callees}
                if alone and callees and not callees[0].hidden:
                    names[name] = None
            elif alone and name not in own_names and self._is_ours(text, position, name):
                names[name] = None
        return list(names), list(called.values())

    def _is_ours(self, text: Sequence[Token], position: int, name: str) -> bool:
        before = text[position - 1] if position else None
        if before is None:
            return False
        if name in self._relations and (
            before.is_word(*_BEFORE_RELATIONS)
            or (before.is_word("INTO") and position > 1 and text[position - 2].is_word("INSERT"))
        ):
            return True
        is_cast = before == COLON and position > 1 and text[position - 2] == COLON
        return name in self._types and (is_cast or _declares(text, position))


DOT, COLON = Token("mark", "."), Token("mark", ":")


def _names(text: Sequence[Token]) -> Iterator[tuple[int, str]]:
    for position, token in enumerate(text):
        if token.identifier:
            yield position, token.identifier


def _is_common_table(text: Sequence[Token], position: int) -> bool:
    """Whether here comes the `AS (` behind a name in WITH."""
    return text[position].is_word("AS") and text[position + 1 : position + 2] == [Token("mark", "(")]


def _declares(text: Sequence[Token], position: int) -> bool:
    """Whether here stands the type of a variable: behind its name, between DECLARE and BEGIN."""
    if not text[position - 1].identifier or position < 2:
        return False
    for token in reversed(text[: position - 1]):
        if token.is_word("BEGIN"):
            return False
        if token.is_word("DECLARE"):
            return True
    return False
