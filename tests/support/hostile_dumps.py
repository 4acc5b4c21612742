r"""Texts in a dump's clothes that psql may read otherwise than the dump lexer: `\echo CANARY` would tell.

Each stands between `HEAD` and `TAIL`, which are pg_dump's own. `REFUSED` are those that the lexer must refuse whether
psql stumbles over them or not; `HARMLESS` those that psql reads as the lexer does, and runs nothing.
"""

from __future__ import annotations

from hubbackup.dump.census import Census, DumpFacts
from hubbackup.errors import NotProvenError

CANARY = b"CANARY"
ECHO = rb"\echo CANARY"
HEAD = (
    b"--\n-- PostgreSQL database dump\n--\n\n"
    b"-- Dumped from database version 16.9\n-- Dumped by pg_dump version 16.9\n\n"
    b"SET client_encoding = 'UTF8';\nSET standard_conforming_strings = on;\n"
    b"SELECT pg_catalog.set_config('search_path', '', false);\nSET check_function_bodies = false;\n\n"
)
TAIL = b"\n--\n-- PostgreSQL database dump complete\n--\n\n"

_VIEW = b"CREATE VIEW public.v AS\n SELECT "
_ROWS = b"COPY public.t (a) FROM stdin;\n"
_HIDDEN = b"/*\n\\.\n*/ ;\n"

REFUSED = {
    # psql's own commands, and what brackets them
    "command": ECHO + b"\n",
    "command in a statement": _VIEW + b"1 " + ECHO + b"\n;\n",
    "restrict with backticks": b"\\restrict `echo CANARY`\n\\unrestrict `echo CANARY`\n",
    "restrict, quoted": b"\\restrict 'A'\n\\unrestrict 'A'\n",
    "restrict, a variable": b"\\restrict :DBNAME\n\\unrestrict :DBNAME\n",
    "restrict, a tab": b"\\restrict\tA\n\\unrestrict\tA\n",
    "restrict, two arguments": b"\\restrict A " + ECHO + b"\n\\unrestrict A\n",
    "restrict, then more": b"\\restrict A\n\\unrestrict A \\\\ " + ECHO + b"\n",
    "restrict, then SQL": b"\\restrict A \\\\ COPY (SELECT 'CAN' || 'ARY') TO stdout;\n\\unrestrict A\n",
    "restrict, a carriage return": b"\\restrict A\r\n\\unrestrict A\r\n",
    "unrestrict, a long line": b"\\restrict A\n\\unrestrict A" + b" " * 4200 + ECHO + b"\n",
    "restrict, a long key": b"\\restrict " + b"A" * 5000 + b"\n\\unrestrict " + b"A" * 5000 + b"\n",
    "forced semicolon": b"SELECT 1\\; SELECT 'CAN' || 'ARY';\n",
    # the end of rows
    "end of rows with a carriage return": _ROWS + b"\\.\r\n" + ECHO + b"\n" + _HIDDEN,
    "end of rows with a carriage return, later": _ROWS + b"x\ny\n\\.\r\n" + ECHO + b"\n\\.\n",
    "rows with a NUL": _ROWS + b"a\0\n\\.\n-- x\n\\.\n" + ECHO + b"\n",
    "rows in the same line": _ROWS[:-1] + b" " + ECHO + b"\n\\.\n",
    # COPY in other forms
    "copy where stdin": b"COPY public.t FROM PROGRAM 'echo' WHERE a IS DISTINCT FROM stdin;\n"
    + ECHO
    + b"\n"
    + _HIDDEN,
    "copy from a program": b"COPY public.t FROM PROGRAM 'echo';\n",
    "copy from a file": b"COPY public.t FROM '/etc/passwd';\n",
    "copy to a program": b"COPY public.t TO PROGRAM 'cat';\n",
    "copy to stdout": b"COPY (SELECT 'CAN' || 'ARY') TO stdout;\n",
    "copy with options": b'COPY public.t (a) FROM stdin WITH (FORMAT csv);\n"\n\\.\n"\n' + ECHO + b"\n\\.\n",
    "copy in small letters": b"copy public.t (a) from stdin;\n\\.\n" + ECHO + b"\n",
    "copy of a query": b"COPY (SELECT 1) FROM stdin;\n" + ECHO + b"\n\\.\n",
    "copy with a comment": b"COPY public.t -- x\n FROM stdin;\n\\.\n",
    "copy freeze": b"COPY public.t (a) FROM stdin FREEZE;\n\\.\n",
    "copy binary": b"COPY BINARY public.t FROM stdin;\n\\.\n",
    "copy of three names": b"COPY postgres.public.t (a) FROM stdin;\n\\.\n",
    # settings that psql reads by
    "strings off by 0": b"SET standard_conforming_strings = 0;\nSELECT '\\''; " + ECHO + b"\n--';\n",
    "strings off, quoted": b"SET standard_conforming_strings = 'off';\n" + _VIEW + b"'\\''; " + ECHO + b"\n--';\n",
    "strings off, TO": b"SET standard_conforming_strings TO off;\n",
    "strings off, false": b"SET standard_conforming_strings = false;\n",
    "strings off, LOCAL": b"SET LOCAL standard_conforming_strings = off;\n",
    "strings off, SESSION": b"SET SESSION standard_conforming_strings = off;\n",
    "strings off, a quoted name": b'SET "standard_conforming_strings" = off;\n',
    "strings off, capitals": b"SET STANDARD_CONFORMING_STRINGS = off;\n",
    "strings off, small letters": b"set standard_conforming_strings = off;\n",
    "strings off, two spaces": b"SET  standard_conforming_strings = off;\n",
    "strings off, a comment": b"SET standard_conforming_strings = -- on\n off;\n",
    "strings off, same line": b"SET standard_conforming_strings = off; " + _VIEW + b"'\\'; " + ECHO + b"\n--';\n",
    "strings reset": b"RESET standard_conforming_strings;\n",
    "everything reset": b"RESET ALL;\n",
    "everything discarded": b"DISCARD ALL;\n",
    "strings off by set_config": b"SELECT set_config('standard_conforming_strings','off',false);\n",
    "strings off by set_config of pg_catalog": (
        b"SELECT pg_catalog.set_config('standard_conforming_strings', '', false);\n"
    ),
    "strings off by set_config E": b"SELECT pg_catalog.set_config(E'search_path', '', false);\n",
    "strings off by UPDATE": b"UPDATE pg_settings SET setting = 'off' WHERE name = 'standard_conforming_strings';\n",
    "strings off, rolled back": (
        b"BEGIN;\nSET standard_conforming_strings = off;\nROLLBACK;\n" + _VIEW + b"'\\'; " + ECHO + b"\n--';\n"
    ),
    "strings off, aborted": b"BEGIN;\nSET standard_conforming_strings = off;\nABORT;\n",
    "savepoint": b"BEGIN;\nSAVEPOINT a;\nSET standard_conforming_strings = off;\nROLLBACK TO a;\n",
    "do": b"DO $$ BEGIN PERFORM set_config('standard_conforming_strings', 'off', false); END $$;\n",
    "call": b"CALL public.p();\n",
    "encoding GBK": b"SET client_encoding = 'GBK';\n" + _VIEW + b"'\x83' ' " + ECHO + b"\n--';\n",
    "encoding SJIS": b"SET client_encoding = 'SJIS';\n",
    "encoding BIG5": b"SET client_encoding = 'BIG5';\n",
    "encoding UHC": b"SET client_encoding = 'UHC';\n",
    "encoding JOHAB": b"SET client_encoding = 'JOHAB';\n",
    "encoding GB18030": b"SET client_encoding = 'GB18030';\n",
    "encoding SHIFT_JIS_2004": b"SET client_encoding = 'SHIFT_JIS_2004';\n",
    "encoding by another name": b"SET client_encoding = 'windows-936';\n",
    "encoding, no quotes": b"SET client_encoding = GBK;\n",
    "encoding, E": b"SET client_encoding = E'GBK';\n",
    "encoding, dollars": b"SET client_encoding = $$GBK$$;\n",
    "encoding, doubled quotes": b"SET client_encoding = 'UTF8''';\n",
    "encoding, TO": b"SET client_encoding TO 'GBK';\n",
    "names": b"SET NAMES 'GBK';\n",
    "encoding reset": b"RESET client_encoding;\n",
    # strings
    "bits, strings off": (b"SET standard_conforming_strings = off;\n" + _VIEW + b"B'\\' " + ECHO + b"\n--';\n"),
    "number, then E": _VIEW + b"1E'\\' " + ECHO + b"\n--';\n",
    "number, then e": _VIEW + b"1e'\\' " + ECHO + b"\n--';\n",
    "hexadecimal number, then E": _VIEW + b"0xE'\\' " + ECHO + b"\n--';\n",
    "number and point, then E": _VIEW + b"1.E'\\' " + ECHO + b"\n--';\n",
    "fraction, then E": _VIEW + b".5E'\\' " + ECHO + b"\n--';\n",
    "parameter, then E": _VIEW + b"$1E'\\' " + ECHO + b"\n--';\n",
    "number with underscores": _VIEW + b"1_E'\\' " + ECHO + b"\n--';\n",
    "string with a NUL": _VIEW + b"'a\0';\n'; " + ECHO + b"\n--';\n",
    "comment with a NUL": b"-- \0\n" + ECHO + b"\n",
    "comment with a carriage return": b"-- x\r" + ECHO + b"\n",
    "carriage return": b"CREATE TABLE public.x ();\r\n",
    "continued string": _VIEW + b"E'a'\r'b\\'' " + ECHO + b"\n--';\n",
    "continued string, over lines": _VIEW + b"E'a'\n'b\\'';\n",
    "unicode string": _VIEW + b"U&'a\\' " + ECHO + b"\n--';\n",
    "unicode name": b'CREATE TABLE U&"a" ();\n',
    "variable": _VIEW + b"' :LAST_ERROR_MESSAGE ', :DBNAME;\n",
    "variable, then E": _VIEW + b"a[1:E'\\' " + ECHO + b"\n--'];\n",
    "variable of a name": _VIEW + b"a[1:{?DBNAME}];\n",
    "block comment": b"/* ' */ " + ECHO + b"\n--';\n",
    "nested comment": b"/* /* */ ' */ COMMENT ON TABLE public.t IS ''; " + ECHO + b"\n",
    # where a statement ends
    "function named begin": (
        b"CREATE FUNCTION begin() RETURNS int LANGUAGE sql AS 'SELECT 1'; COPY public.t FROM stdin;\n"
        + ECHO
        + b"\n\\.\n"
    ),
    "function named begin, lines": (
        b"CREATE FUNCTION public.begin() RETURNS int LANGUAGE sql AS 'SELECT 1';\n" + _ROWS + ECHO + b"\n\\.\n"
    ),
    "two spaces before FUNCTION": (
        b"CREATE  FUNCTION f() RETURNS void LANGUAGE sql BEGIN ATOMIC SELECT 1; COPY public.t FROM stdin;\n"
        + ECHO
        + b"\n\\.\nEND;\n"
    ),
    "a name before FUNCTION": b'CREATE "x" FUNCTION public.f() begin ;\n' + _ROWS + ECHO + b"\n\\.\n",
    "a string before FUNCTION": b"CREATE N'x' FUNCTION public.f() begin ;\n" + _ROWS + ECHO + b"\n\\.\n",
    "a long name before FUNCTION": (
        b'CREATE "' + b"x" * 2000 + b'" FUNCTION public.f() begin ;\n' + _ROWS + ECHO + b"\n\\.\n"
    ),
    "case in a body": (
        b"CREATE FUNCTION public.f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1 AS case; END;\n"
        + _ROWS
        + ECHO
        + b"\n\\.\nEND;\n"
    ),
    "body and COPY": (
        b"CREATE FUNCTION public.f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1 AS case; END; COPY public.t FROM"
        b" stdin; SELECT 1; END;\n'\n\\.\n" + ECHO + b"\n';\n"
    ),
    "two statements on a line": b"CREATE TABLE public.x (); CREATE TABLE public.y ();\n",
    "parentheses that never close": b"CREATE TABLE public.x (;\n" + ECHO + b"\n);\n",
    # what pg_dump does not write
    "select": b"SELECT 'CAN' || 'ARY';\n",
    "alter system": b"ALTER SYSTEM SET archive_command = 'touch /tmp/x';\n",
    "create role": b"CREATE ROLE evil SUPERUSER;\n",
    "alter user": b"ALTER USER postgres PASSWORD 'x';\n",
    "drop database": b"DROP DATABASE other;\n",
    "alter database": b"ALTER DATABASE other OWNER TO evil;\n",
    "grant of a role": b"GRANT postgres TO evil;\n",
    "grant of a role with a name like a clause": b'GRANT "ALL ON x" TO evil;\n',
    "grant on a database": b"GRANT CONNECT ON DATABASE other TO evil;\n",
    "prepare": b"PREPARE x AS SELECT 1;\n",
    "load": b"LOAD 'x';\n",
    "listen": b"LISTEN x;\n",
    "a word of a megabyte": b"x" * 3_000_000 + b";\n",
}

HARMLESS = {
    "dollars of another letter": "CREATE FUNCTION public.f() RETURNS int AS $é$ ' $é$;\n".encode()
    + b"-- "
    + ECHO
    + b"\n",
    "name over lines": b'CREATE SCHEMA "a\n' + ECHO + b'\n";\n',
    "national string": _VIEW + b"N'\\';\n",
    "operator, then comment": _VIEW + b"1 +-- '\n 1;\n",
    "row like an end": _ROWS + b"\\.x\n" + ECHO + b"\n\\.\n",
    "row like an end, blanks": _ROWS + b"\\. \n" + ECHO + b"\n \\.\n\\.\n",
    "a row per kind of quote": _ROWS + b"'\n\"\n$$\n/*\n--\n\\\\.\n" + ECHO + b"\n\\.\n",
    "string over lines": b"COMMENT ON TABLE public.t IS 'a\n" + ECHO + b"\n\\.\n';\n",
    "escape string over lines": b"COMMENT ON TABLE public.t IS E'a\\\n\\'\n" + ECHO + b"\n';\n",
    "string that ends in a backslash": _VIEW + b"'\\' AS a, '" + ECHO + b"' AS b;\n",
    "body over lines": b"CREATE FUNCTION public.f() RETURNS int AS $_$\n" + ECHO + b"\n\\.\n$$\n$_$;\n",
    "dollars inside of dollars": b"CREATE FUNCTION public.f() RETURNS int AS $a$ $b$a$;\n-- $a$;\n",
    "body of SQL": (
        b"CREATE FUNCTION public.f(x int) RETURNS int\n    LANGUAGE sql\n    BEGIN ATOMIC\n SELECT CASE WHEN (x > 0)"
        b' THEN 1 ELSE 2 END AS "case";\nEND;\n' + _ROWS + ECHO + b"\n\\.\n"
    ),
    "strings off": (
        b"SET standard_conforming_strings = off;\nCOMMENT ON TABLE public.t IS 'a\\'\n" + ECHO + b"\n';\n"
    ),
    "bits": _VIEW + b"B'\\', X'\\' AS b;\n-- ' " + ECHO + b"\n",
    "numbers": _VIEW + b"1e+20, 1.5, .5, 1.5e-7, a.b1, $1 FROM a;\n-- " + ECHO + b"\n",
    "slices": _VIEW + b"a[1:n], a[:2], a[1:], a::text, (a)[1:'x'];\n",
    "large object": (
        b"SELECT pg_catalog.lo_create('1');\nBEGIN;\n\nSELECT pg_catalog.lo_open('1', 131072);\n"
        b"SELECT pg_catalog.lowrite(0, '\\x5c6563686f');\nSELECT pg_catalog.lo_close(0);\n\nCOMMIT;\n"
    ),
    "latin1": b"SET client_encoding = 'LATIN1';\nCOMMENT ON TABLE public.t IS '\xe9\xff';\n",
    "a rule of two actions": (
        b"CREATE RULE r AS\n    ON INSERT TO public.t DO ALSO ( INSERT INTO public.u VALUES (1);\n"
        b" DELETE FROM public.u;\n);\n"
    ),
    "grants": (
        b"GRANT ALL ON TABLE public.t TO a;\nGRANT SELECT(a),UPDATE(b) ON TABLE public.t TO a;\n"
        b'GRANT SELECT,INSERT ON TABLE public.t TO "b ON DATABASE c";\n'
        b"REVOKE ALL ON FUNCTION public.f() FROM PUBLIC;\n"
        b"REVOKE GRANT OPTION FOR SELECT ON TABLE public.t FROM a;\nGRANT USAGE ON FOREIGN DATA WRAPPER f TO a;\n"
    ),
    "statistics of 18": (
        b"SELECT * FROM pg_catalog.pg_restore_relation_stats(\n\t'version', '180000'::integer,\n"
        b"\t'schemaname', 'public',\n\t'relname', 't',\n\t'reltuples', '1e+06'::real\n);\n"
    ),
    "security label": b"SECURITY LABEL FOR dummy ON TABLE public.t IS 'unclassified';\n",
    "session authorization": (
        b"SET SESSION AUTHORIZATION a;\nGRANT SELECT ON TABLE public.t TO b;\nRESET SESSION AUTHORIZATION;\n"
    ),
    "table access method": b"SET default_table_access_method = heap;\nSET default_tablespace = '';\n",
    "sequence": b"SELECT pg_catalog.setval('public.s', 1, false);\n",
    "rows of odd names": b'COPY public."a""b\n (c) FROM stdin;" (a, "b ) FROM", "c""") FROM stdin;\n\\.\n',
    "rows of no columns": b"COPY public.t  FROM stdin;\n\n\n\\.\n",
}


def dump(text: bytes) -> bytes:
    """`text` in the clothes of a dump."""
    return HEAD + text + TAIL


def facts_of(data: bytes, chunk_bytes: int = 1 << 20) -> DumpFacts:
    """The census of `data`. Raises NotProvenError."""
    census = Census()
    for start in range(0, len(data), chunk_bytes):
        census.feed(data[start : start + chunk_bytes])
    return census.finish()


def is_refused(data: bytes) -> bool:
    """Whether a restore refuses this dump, of whatever origin."""
    try:
        facts = facts_of(data)
    except NotProvenError:
        return True
    return bool(facts.meta_commands or facts.psql_stops_at)
