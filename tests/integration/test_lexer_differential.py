"""Whatever a real psql runs as a command in a text that looks like a dump, the lexer has refused.

psql reads each text as it would a file of unknown origin by hand: without our own `\\restrict`, so that the lexer is
alone. It says `CANARY` where it ran something that stood in the text as a string, a name, a comment or a row.
"""

from __future__ import annotations

import os
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.database import DirectoryBasedExampleDatabase

from tests.support.hostile_dumps import ECHO, HARMLESS, REFUSED, dump, is_refused
from tests.support.psql_canary import Psqls, majors, psqls

EXAMPLES = int(os.environ.get("HUBBACKUP_DIFFERENTIAL_EXAMPLES", "2000"))
SEEDS = (1, 2, 3, 4)
FOUND = DirectoryBasedExampleDatabase(Path(__file__).parent / "differential_examples")
"""What a seed found once is tried first, forever: commit what appears there."""
SHORT = [name for name, text in REFUSED.items() if len(text) < 100_000]

SAYS = [ECHO + b"\n", b"SELECT 'CAN' || 'ARY';\n", b"COPY (SELECT 'CAN' || 'ARY') TO stdout;\n"]
MARKS = [
    *(bytes([byte]) for byte in b"'\"$;()\\\n\r\0 :.-/*1eEN"),
    *(
        b"''",
        b"\\'",
        b"\\\\",
        b'""',
        b"$$",
        b"$a$",
        b"$1",
        b"/*",
        b"*/",
        b"--",
        b"\n'",
        b"'\n'",
        b"\\.\n",
        b"\\.\r\n",
    ),
    *(
        b"E'",
        b"1E'",
        b"1.E'",
        b"B'",
        b"U&'",
        b"N'",
        b":DBNAME",
        b":'a'",
        b":E'",
        b"::",
        b":{?a}",
        b"\x83'",
        b"\x95\\",
    ),
    *(
        "é$".encode(),
        b"$\xe9$",
        b" BEGIN ",
        b" ATOMIC ",
        b" CASE ",
        b" END ",
        b";\n",
        b"\\;",
        b" FUNCTION ",
        b"\\restrict A\n",
    ),
    *(b"\\unrestrict A\n", b"COPY public.t (a) FROM stdin;\n", b"COPY public.t FROM stdin;\n", b" FROM stdin;\n"),
]
SWITCHES = [
    b"SET standard_conforming_strings = off;\n",
    b"SET standard_conforming_strings = on;\n",
    b"SET standard_conforming_strings = 0;\n",
    b"SET standard_conforming_strings TO off;\n",
    b"SET LOCAL standard_conforming_strings = off;\n",
    b"SELECT set_config('standard_conforming_strings', 'off', false);\n",
    b"RESET standard_conforming_strings;\n",
    b"RESET ALL;\n",
    b"BEGIN;\n",
    b"COMMIT;\n",
    b"ROLLBACK;\n",
    b"SET client_encoding = 'GBK';\n",
    b"SET client_encoding = 'SJIS';\n",
    b"SET client_encoding = 'LATIN1';\n",
    b"SET client_encoding = 'EUC_JP';\n",
    b"SET NAMES 'BIG5';\n",
    b"CREATE FUNCTION begin() RETURNS int LANGUAGE sql AS 'SELECT 1';\n",
    b"CREATE FUNCTION public.begin() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; END;\n",
]

contents = st.lists(st.sampled_from(MARKS + SAYS * 3), max_size=7).map(b"".join)
plain = contents.map(lambda text: b"'" + text.replace(b"'", b"''") + b"'")
escaped = contents.map(lambda text: b"E'" + text.replace(b"\\", b"\\\\").replace(b"'", b"''") + b"'")
raw = st.tuples(st.sampled_from([b"'", b"E'", b"B'", b"N'", b"X'", b"$$", b"$a$", b'"', b"--", b"/*", b""]), contents)
values = st.one_of(plain, escaped, raw.map(b"".join), raw.map(lambda parts: parts[0] + parts[1] + parts[0][-1:]))
names = contents.map(lambda text: b'"' + text.replace(b'"', b'""') + b'"')
bodies = contents.map(lambda text: b"$_$" + text + b"$_$")
statements = st.one_of(
    values.map(lambda value: b"COMMENT ON TABLE public.t IS " + value + b";\n"),
    values.map(lambda value: b"CREATE VIEW public.v AS\n SELECT " + value + b" AS a;\n"),
    names.map(lambda name: b"CREATE SCHEMA " + name + b";\n"),
    contents.map(lambda text: b"-- " + text + b"\n"),
    contents.map(lambda text: b"/* " + text + b" */\n"),
    contents.map(lambda text: b"COPY public.t (a) FROM stdin;\n" + text + b"\n\\.\n"),
    names.map(lambda name: b"COPY public.t (" + name + b") FROM stdin;\nx\n\\.\n"),
    st.tuples(names, bodies).map(
        lambda parts: b"CREATE FUNCTION public." + parts[0] + b"() RETURNS int LANGUAGE sql AS " + parts[1] + b";\n"
    ),
    contents.map(
        lambda text: (
            b"CREATE FUNCTION public.f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1" + text + b";\nEND;\n"
        )
    ),
    st.tuples(contents, contents).map(lambda parts: b"CREATE " + parts[0] + b" FUNCTION " + parts[1] + b";\n"),
    st.sampled_from(SWITCHES),
    contents,
)
tricks = st.tuples(
    st.sampled_from([*SWITCHES, b"", b"", b"", b""]),
    st.sampled_from(
        [
            b"CREATE VIEW public.v AS\n SELECT '",
            b"COMMENT ON TABLE public.t IS ",
            b"COPY public.t (a) FROM stdin;\n",
            b"",
        ]
    ),
    st.lists(st.sampled_from(MARKS), max_size=4).map(b"".join),
    st.sampled_from(SAYS),
    st.sampled_from([b"--';\n", b"\\.\n", b"*/ ;\n", b'";\n', b"$$;\n", b"END;\n", b"\n';\n", b"/*\n\\.\n*/ ;\n"]),
).map(b"".join)
texts = st.lists(statements | tricks, min_size=1, max_size=5).map(b"".join)


@pytest.fixture(scope="module")
def real() -> Iterator[Psqls]:
    with psqls(18) as found:
        yield found


@pytest.mark.parametrize("major", majors())
def test_texts_by_hand(real: Psqls, major: int) -> None:
    """The kinds that were found in the field, and more of them: those that the lexer takes run nothing."""
    assert [name for name, text in REFUSED.items() if not is_refused(dump(text))] == []
    assert [name for name, text in HARMLESS.items() if is_refused(dump(text))] == []
    assert [name for name, text in HARMLESS.items() if real.runs_the_canary(major, dump(text), stops=True)] == []


@pytest.mark.parametrize("major", majors())
def test_the_canary_sings(real: Psqls, major: int) -> None:
    """Of the refused texts a good part does run a command, so that the test could fail; none does when restricted."""
    sang = [name for name in SHORT if real.runs_the_canary(major, dump(REFUSED[name]), stops=False)]
    assert len(sang) > 20, sang
    echoes = [name for name in sang if ECHO in REFUSED[name] or b"`" in REFUSED[name]]
    assert [n for n in echoes if real.runs_the_canary(major, dump(REFUSED[n]), stops=True, restricted=True)] == []


def check(real: Psqls, major: int, text: bytes, counts: Counter[str]) -> None:
    """Fails where psql runs what the lexer took. Without a stop at errors first: that reads on further."""
    data = dump(text)
    refused, ran = is_refused(data), real.runs_the_canary(major, data, stops=False)
    counts["refused" if refused else "taken"] += 1
    counts["ran"] += ran
    if ran and not refused:
        assert not real.runs_the_canary(major, data, stops=True), text
    if ran and ECHO in text:
        counts["restricted"] += 1
        assert not _echoes(real, major, data), text


def _echoes(real: Psqls, major: int, data: bytes) -> bool:
    """Whether a backslash command runs behind our own `\\restrict`; SQL may say the canary."""
    only = data.replace(b"'CAN' || 'ARY'", b"'SQL'")
    return real.runs_the_canary(major, only, stops=True, restricted=True)


@pytest.mark.parametrize("number", SEEDS)
def test_whatever_psql_runs_the_lexer_has_refused(real: Psqls, number: int) -> None:
    """2,000 texts, the same ones in each run, through the lexer and through each psql in turn."""
    counts: Counter[str] = Counter()
    available = majors()

    @seed(number)
    @settings(
        max_examples=EXAMPLES // len(SEEDS),
        database=FOUND,
        deadline=None,
        phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(text=texts)
    def through_both(text: bytes) -> None:
        # By the text, not by turns: what a seed found is tried again by the psql that it was found with.
        check(real, available[zlib.crc32(text) % len(available)], text, counts)

    through_both()
    print(f"seed {number}: {dict(counts)}")
    assert counts["taken"] > EXAMPLES // len(SEEDS) // 20
    assert counts["ran"] > EXAMPLES // len(SEEDS) // 20
