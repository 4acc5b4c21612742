"""Names and likeness: what is pure about databases. What the server makes of it is tested against real ones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbackup.dump.identifiers import literal, quoted, readable
from hubbackup.errors import UsageError
from hubbackup.postgres import ddl
from hubbackup.postgres.client import DatabaseProperties, properties_from_json
from hubbackup.postgres.side_databases import (
    NAME_BYTES,
    check_target,
    derived_kind,
    derived_name,
    derived_time,
    expired_names,
)

NOW = datetime(2026, 2, 8, 3, 0, 0, tzinfo=UTC)
names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1).filter(
    lambda name: len(name.encode()) <= NAME_BYTES
)


@given(names, st.sampled_from(["before", "restore", "drill"]))
def test_a_derived_name_fits_and_is_recognised(name: str, word: str) -> None:
    """For a database of any name: no longer than PostgreSQL takes, and told by its time."""
    derived = derived_name(name, word, NOW)
    assert len(derived.encode()) <= NAME_BYTES
    assert derived_time(derived, name, word) == "20260208_030000"
    assert derived_kind(derived) == (word if word != "drill" else "")


@given(names, names)
def test_no_two_databases_share_a_derived_name(one: str, other: str) -> None:
    """However alike their names begin."""
    if one != other:
        assert not derived_time(derived_name(one, "before", NOW), other, "before")


def test_a_short_name_stays_as_it_is() -> None:
    """`{name}_before_{time}`, in UTC."""
    paris = NOW.astimezone().replace(tzinfo=UTC)
    assert derived_name("hub_chantier", "before", NOW) == "hub_chantier_before_20260208_030000"
    assert derived_name("hub_chantier", "before", paris).startswith("hub_chantier_before_2026")
    assert derived_time("hub_chantier_before_20260208_030000x", "hub_chantier", "before") == ""
    assert derived_time("xhub_chantier_before_20260208_030000", "hub_chantier", "before") == ""


def test_a_name_that_is_taken_gives_the_next_second() -> None:
    """An undo in the second of its restore has a name of its own."""
    first = derived_name("hub", "before", NOW)
    assert derived_name("hub", "before", NOW, {first}) == "hub_before_20260208_030001"


def test_what_has_expired() -> None:
    """Older than the days to keep, of this database alone; 0 days keep all."""
    day = [derived_name("hub", "before", NOW - timedelta(days=days)) for days in range(10)]
    others = [derived_name("hub", "restore", NOW - timedelta(days=9)), derived_name("hub2", "before", NOW), "hub"]
    others.append(derived_name("hub2", "before", NOW - timedelta(days=99)))
    assert expired_names(day + others, "hub", 7, NOW) == day[8:]
    assert expired_names(day + others, "hub", 0, NOW) == []


@pytest.mark.parametrize("name", ["", "n" * 64, "é" * 32, "template0", "a_before_20260101_000000", "\udcff"])
def test_names_that_are_no_target(name: str) -> None:
    """Empty, cut by the server, a template, one of ours, or no UTF-8: exit 2."""
    with pytest.raises(UsageError):
        check_target(name)


@given(names)
def test_quoting(name: str) -> None:
    """An identifier ends where it should: every quote inside is doubled."""
    inside = quoted(name)[1:-1]
    assert inside.replace('""', "").count('"') == 0
    assert inside.replace('""', '"') == name


@pytest.mark.parametrize(
    ("text", "sql"), [("x", "'x'"), ("it's", "'it''s'"), ("a\\b'", " E'a\\\\b'''"), ("\n", "'\n'")]
)
def test_literals(text: str, sql: str) -> None:
    """Right whatever standard_conforming_strings says."""
    assert literal(text) == sql


def test_readable_names() -> None:
    """Bytes of the dump's encoding become text; what can't be decoded is written out."""
    latin = b"\xe9t\xe9".decode("utf-8", "surrogateescape")
    assert readable(latin, "LATIN1") == readable(latin, "WIN1252") == "été"
    assert readable("é", "LATIN1") == "Ã©"
    assert readable("été", "UTF8") == readable("été", "") == "été"
    assert readable(latin, "UTF8") == readable(latin, "NO_SUCH") == "\\xe9t\\xe9"


def properties(**changes: Any) -> DatabaseProperties:
    facts: dict[str, Any] = {
        "database": "hub",
        "server_version": "17.6",
        "server_version_num": 170006,
        "system_identifier": "7",
        "owner": "chef",
        "encoding": "UTF8",
        "size_bytes": 1,
        "catalog_row": {"datcollate": "C.UTF-8", "datctype": "C.UTF-8", "datlocprovider": "c", "datconnlimit": -1},
        "settings": [],
    }
    return properties_from_json(facts | changes)


@pytest.mark.parametrize(
    ("row", "major", "words"),
    [
        ({"datlocprovider": "c"}, 17, "LOCALE_PROVIDER libc"),
        ({}, 17, "LOCALE_PROVIDER libc"),
        ({"datlocprovider": "c"}, 14, ""),
        ({"datlocprovider": "i", "daticulocale": "fr"}, 16, "LOCALE_PROVIDER icu ICU_LOCALE 'fr'"),
        (
            {"datlocprovider": "i", "datlocale": "fr", "daticurules": "&a < g"},
            17,
            "LOCALE_PROVIDER icu ICU_LOCALE 'fr' ICU_RULES '&a < g'",
        ),
        ({"datlocprovider": "b", "datlocale": "C.UTF-8"}, 17, "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'"),
    ],
)
def test_create_statement(row: dict[str, str], major: int, words: str) -> None:
    """Each provider in the words of its version; rows of older catalogs have other columns."""
    like = properties(catalog_row={"datcollate": "C", "datctype": "C"} | row)
    said = ddl.create_statement('x"y', like, major)
    start = "CREATE DATABASE \"x\"\"y\" TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'"
    assert said == f"{start}{' ' if words else ''}{words};"
    assert ddl.create_statement("x", None, major) == 'CREATE DATABASE "x" TEMPLATE template0;'


@pytest.mark.parametrize(
    ("rules", "home", "sent"),
    [
        ("&z < é", "LATIN1", b"&z < \xe9"),
        ("&z < é", "UTF8", "&z < é".encode()),
        ("&z < Ã©", "UTF8", "&z < é".encode()),
    ],
)
def test_rules_of_a_locale(rules: str, home: str, sent: bytes) -> None:
    """They are bytes in a catalog that all databases share, and come back as those, where the home takes them."""
    like = properties(
        encoding="LATIN1", catalog_row={"datlocprovider": "i", "datlocale": "und", "daticurules": rules}
    )
    said = ddl.create_statement("x", like, 17, home).encode("utf-8", "surrogateescape")
    assert said.endswith(b" ICU_RULES '" + sent + b"';")


@pytest.mark.parametrize(
    ("entry", "sql"),
    [
        ("work_mem=8MB", "\"work_mem\" TO '8MB'"),
        ("hub.a=x=y 'z'", "\"hub\".\"a\" TO 'x=y ''z'''"),
        ('search_path="$user", public', "\"search_path\" TO '$user', 'public'"),
        ('search_path="a, ""b", c', "\"search_path\" TO 'a, \"b', 'c'"),
        ('search_path=""', "\"search_path\" TO ''"),
        ("search_path=", "\"search_path\" TO ''"),
        ("temp_tablespaces=fast, x", "\"temp_tablespaces\" TO 'fast', 'x'"),
        ("DateStyle=ISO, DMY", "\"DateStyle\" TO 'ISO, DMY'"),
    ],
)
def test_settings(entry: str, sql: str) -> None:
    """Lists element by element, as pg_dump writes them; all else as one value."""
    like = properties(settings=[["", entry], ["api", entry], ["absent", entry]])
    assert [each.sql for each in ddl.statements(like, {"api"})] == [
        f"ALTER DATABASE %1$I SET {sql};",
        f'ALTER ROLE "api" IN DATABASE %1$I SET {sql};',
    ]


def test_a_library_is_loaded_before_a_setting_that_names_it() -> None:
    """Where it is not there, the setting is refused at once, and not every session of the database from then on."""
    entries = ['session_preload_libraries=aut, "a b"', "local_preload_libraries=x"]
    like = properties(settings=[["", entry] for entry in entries])
    assert [each.sql for each in ddl.statements(like, set())] == [
        "LOAD 'aut'; LOAD 'a b'; ALTER DATABASE %1$I SET \"session_preload_libraries\" TO 'aut', 'a b';",
        "LOAD '$libdir/plugins/x'; ALTER DATABASE %1$I SET \"local_preload_libraries\" TO 'x';",
    ]


def test_rights_limit_and_comment() -> None:
    """All rights are taken back first; default rights are left alone; missing roles are passed over."""
    like = properties(
        owner="chef",
        grants=[["", "CONNECT", False], ["api", "CREATE", True], ["absent", "CREATE", False]],
        catalog_row={"datconnlimit": 5},
        comment="it's 100%",
    )
    assert [(each.sql, each.hinders) for each in ddl.statements(like, {"api", "chef"})] == [
        ('ALTER DATABASE %1$I OWNER TO "chef";', ""),
        ('REVOKE ALL ON DATABASE %1$I FROM PUBLIC, "chef";', "owner"),
        ("GRANT CONNECT ON DATABASE %1$I TO PUBLIC;", "owner"),
        ('GRANT CREATE ON DATABASE %1$I TO "api" WITH GRANT OPTION;', "owner"),
        ("ALTER DATABASE %1$I CONNECTION LIMIT 5;", "all"),
        ("COMMENT ON DATABASE %1$I IS 'it''s 100%%';", ""),
    ]
    assert list(ddl.statements(properties(), set())) == []


def test_no_rights_at_all_are_not_the_default_ones() -> None:
    """`{}` in the catalog: everything was revoked, from PUBLIC and from the owner; in older manifests as well."""
    for like in (properties(grants=[]), properties(catalog_row={"datacl": []})):
        assert [each.sql for each in ddl.statements(like, set())] == [
            "REVOKE ALL ON DATABASE %1$I FROM PUBLIC, CURRENT_USER;"
        ]
    assert list(ddl.statements(properties(catalog_row={"datacl": None}), set())) == []


def test_settings_that_would_hinder_a_load() -> None:
    """They come after it; those that contents may depend on come before."""
    entries = ["TimeZone=UTC", "statement_timeout=1s", "app.x=1", "session_preload_libraries=gone"]
    like = properties(settings=[["", entry] for entry in entries])
    assert [each.hinders for each in ddl.statements(like, set())] == ["", "all", "", "all"]


def test_roles_that_stand_in_the_properties() -> None:
    """The owner, who has settings of their own, who has rights."""
    like = properties(grants=[["", "CONNECT", False], ["api", "CREATE", True]], settings=[["absent", "a=b"]])
    assert ddl.needed_roles(like) == {"chef", "api", "absent"}
    assert ddl.needed_roles(None) == set()
