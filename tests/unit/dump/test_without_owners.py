"""A dump without owners: whole statements about roles go, and not a byte of anything else."""

from __future__ import annotations

import itertools
import re

import pytest

from hubbackup.dump.census import Census
from hubbackup.dump.without_owners import without_owners
from tests.support.hostile_dumps import HARMLESS, HEAD, TAIL, dump

OF_ROLES = [
    b"ALTER TABLE public.t OWNER TO postgres;\n",
    b'ALTER FUNCTION public."f;\n"(a text) OWNER TO "the ""boss"";\n";\n',
    b'ALTER LARGE OBJECT 4711 OWNER TO "Chef d\'\xc3\xa9quipe";\n',
    b"ALTER EVENT TRIGGER e OWNER TO postgres;\n",
    b"GRANT SELECT(a),UPDATE ON TABLE public.t TO reader WITH GRANT OPTION;\n",
    b"REVOKE ALL ON SCHEMA public FROM PUBLIC;\n",
    b"ALTER DEFAULT PRIVILEGES FOR ROLE boss IN SCHEMA public GRANT SELECT ON TABLES TO reader;\n",
    b"SET SESSION AUTHORIZATION boss;\n",
    b"SET SESSION AUTHORIZATION DEFAULT;\n",
    b"RESET SESSION AUTHORIZATION;\n",
]
STAYS = [
    b"CREATE TABLE public.t (\n    a text DEFAULT ';\nALTER TABLE x OWNER TO y;\n'::text\n);\n",
    b"COPY public.t (a) FROM stdin;\nGRANT SELECT ON TABLE x TO y;\na;\n\\\\.\nx\\\\.\n;\n\\.\n\n\n",
    b"COPY public.t (a) FROM stdin;\n\\.\n\n\n",
    b"CREATE FUNCTION public.f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1;\nSELECT 2;\nEND;\n",
    b"CREATE FUNCTION public.g() RETURNS int LANGUAGE plpgsql AS $_$ BEGIN\nGRANT x TO y;\nEND; $_$;\n",
    b'ALTER TABLE public.t RENAME TO "a OWNER TO b";\n',
    b"COMMENT ON TABLE public.t IS 'x OWNER TO y';\n",
    b"CREATE POLICY p ON public.t TO reader USING (true);\n",
    b"SET default_tablespace = '';\n",
    b"INSERT INTO public.t VALUES ('" + b"x;\n" * 9 + b"x" * 1_200_000 + b"');\n",
]


def squeezed(text: bytes) -> bytes:
    return re.sub(rb"\n+", b"\n", text)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1 << 20])
def test_whole_statements_go_and_nothing_else(size: int) -> None:
    """However the chunks are cut, and whatever stands in strings, names, bodies and rows."""
    few = STAYS[:-1] if size < 64 else STAYS
    text = b"".join(itertools.chain.from_iterable(itertools.zip_longest(few, OF_ROLES, fillvalue=b"")))
    chunks = [(HEAD + text + TAIL)[at : at + size] for at in range(0, len(HEAD + text + TAIL), size)]
    # The blank lines and comments before a statement go with it.
    assert squeezed(b"".join(without_owners(chunks))) == squeezed(HEAD + b"".join(few) + TAIL)


def test_what_is_left_is_a_dump() -> None:
    """Of every text that the census takes, it takes what is left, with the same rows and none of its owners."""
    for text in HARMLESS.values():
        whole, rest = Census(), Census()
        whole.feed(dump(text))
        for piece in without_owners([dump(text)]):
            rest.feed(piece)
        assert rest.finish().rows == whole.finish().rows
        assert not rest.finish().requirements.acting
