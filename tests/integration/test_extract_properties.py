"""What holds of each dump, wherever its file is cut: the server's own rows, and the same bytes for every tool."""

from __future__ import annotations

import gzip
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hubbackup.contents.extract import RowFormat, extract
from hubbackup.dump import copy_text
from hubbackup.dump.copy_csv import csv_header, csv_lines
from hubbackup.streams.codecs import CODECS, GZIP, ZSTD, Codec
from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.odd_tables import PLAIN, TABLES
from tests.support.packed import PackedDump

ODD = st.sampled_from(["", "\\.", "\\N", "\\", '"', ",", "\n", "\r", "\t", "\r\n", " ", "\\\\.", "NULL", "\x01", "é"])
VALUES = st.none() | ODD | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)


@dataclass(frozen=True)
class Made:
    """A dump, and what the server says of each table in it."""

    dump: bytes
    csv: dict[str, bytes]
    copy: dict[str, bytes]


def sent(server: EmbeddedPostgres, database: str, sql: str, data: bytes = b"") -> bytes:
    argv = [str(server.bin_dir / "psql"), "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", sql]
    return subprocess.run(argv, env=server.env(), check=True, input=data, stdout=subprocess.PIPE).stdout


@pytest.fixture(scope="module")
def database(postgres18: EmbeddedPostgres) -> Iterator[str]:
    with postgres18.temporary_database() as name:
        postgres18.psql(TABLES, database=name)
        yield name


@pytest.fixture(scope="module")
def made(postgres18: EmbeddedPostgres, database: str) -> Made:
    return Made(
        postgres18.dump(database).encode(),
        {table: sent(postgres18, database, f"COPY {table} TO STDOUT (FORMAT csv, HEADER)") for table in PLAIN},
        {table: sent(postgres18, database, f"COPY {table} TO STDOUT") for table in PLAIN},
    )


@pytest.mark.parametrize("width", [1, 3])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_csv_is_the_servers_for_any_rows(postgres: EmbeddedPostgres, width: int, data: st.DataObject) -> None:
    """Whatever text stands in whatever column: byte for byte what COPY itself makes of it."""
    rows = data.draw(st.lists(st.lists(VALUES, min_size=width, max_size=width), max_size=30))
    encoded = [[None if value is None else value.encode() for value in row] for row in rows]
    text = b"".join(b"\t".join(map(copy_text.field, row)) + b"\n" for row in encoded)
    names = [f"c{number}" for number in range(width)]
    table = f"CREATE TEMP TABLE t ({', '.join(f'{name} text' for name in names)}); COPY t FROM STDIN;"
    back = sent(postgres, "postgres", f"{table} COPY t TO STDOUT; COPY t TO STDOUT (FORMAT csv, HEADER)", text)
    cut = data.draw(st.integers(1, 50))
    chunks = [text[start : start + cut] for start in range(0, len(text), cut)]
    ours = b"".join(csv_lines(chunks, range(width), width))
    assert back == text + csv_header([name.encode() for name in names]) + ours


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_extract_of_every_table_is_the_copy_of_it(made: Made, codec: Codec, data: st.DataObject) -> None:
    """Of a file that is cut anywhere, in one member or many."""
    cuts = data.draw(st.lists(st.integers(1, len(made.dump)), max_size=30))
    packed = PackedDump(made.dump, cuts, codec)
    for table in PLAIN:
        for row_format, wanted in ((RowFormat.CSV, made.csv), (RowFormat.COPY, made.copy)):
            found = extract(packed.parts, table, row_format)
            assert b"".join(found.chunks) == wanted[table]


def by_python(path: Path) -> bytes:
    with gzip.open(path) as file:
        return file.read()


def by(*command: str) -> Callable[[Path], bytes]:
    return lambda path: subprocess.run([*command, path], check=True, capture_output=True).stdout


TOOLS: Sequence[tuple[str, Codec, Callable[[Path], bytes]]] = (
    ("gunzip", GZIP, by("gunzip", "-c")),
    ("zcat", GZIP, by("zcat")),
    ("python", GZIP, by_python),
    ("7z", GZIP, by("7z", "x", "-so")),
    ("zstd", ZSTD, by("zstd", "-dcq")),
)


@pytest.mark.parametrize(("codec", "tool"), [one[1:] for one in TOOLS], ids=[one[0] for one in TOOLS])
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_members_cut_anywhere_decode_to_the_same_bytes(
    made: Made, tmp_path: Path, codec: Codec, tool: Callable[[Path], bytes], data: st.DataObject
) -> None:
    """One file, as each tool that people have reads it: a member more or less changes nothing."""
    cuts = data.draw(st.lists(st.integers(1, len(made.dump)), max_size=40))
    path = tmp_path / f"dump{codec.suffix}"
    path.write_bytes(PackedDump(made.dump, cuts, codec).stored)
    assert tool(path) == made.dump
