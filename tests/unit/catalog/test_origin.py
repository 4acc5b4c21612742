"""Whose a manifest is: what a signature binds, and what is believed of a manifest without one."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubbackup.catalog.backup import PURPOSE, BackupName, Manifest
from hubbackup.catalog.manifests import MANIFEST_MAX_BYTES, judge, read_manifest
from hubbackup.catalog.origin import Origin, SigningKey, Trust
from hubbackup.errors import NotProvenError
from hubbackup.stores.memory import MemoryStore
from tests.support.backups import manifest_of

KEY = SigningKey(b"k" * 64)
OTHER = SigningKey(b"o" * 64)
TIME = datetime(2026, 2, 8, 3, tzinfo=UTC)
NAME = BackupName("hub", TIME.replace(tzinfo=None))
MANIFEST = manifest_of(NAME, b"data", rows={"public.a": 2, "public.b": 3}, roles=("app",))

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def signed(**changes: Any) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(MANIFEST.signed(KEY).to_json()) | changes
    return document


def origin(document: dict[str, Any], trust: Trust, put_at: datetime | None = None) -> Origin:
    at = (lambda: put_at) if put_at is not None else None
    return judge(json.dumps(document).encode(), NAME, trust, at).origin  # type: ignore[arg-type]


def test_what_we_signed_is_ours_and_nobody_else_s() -> None:
    """Under the key: ours. Under another, or where there is no key to judge by: foreign."""
    assert origin(signed(), Trust(KEY)) is Origin.OURS
    assert origin(signed(), Trust(OTHER)) is Origin.FOREIGN
    assert origin(signed(), Trust()) is Origin.FOREIGN


@pytest.mark.parametrize("field", [name for name in Manifest.model_fields if name != "hmac"])
@settings(max_examples=15)
@given(value=values)
def test_any_change_of_any_field_is_found(field: str, value: Any) -> None:
    """Whatever is written into whichever field, the signature does not fit any more."""
    document = signed()
    if json.dumps(document[field]) == json.dumps(value):
        return
    assert not KEY.signed(document | {field: value}, PURPOSE)


@given(values, st.sampled_from(["added", "Hmac", ""]))
def test_fields_come_and_go_under_the_signature(value: Any, added: str) -> None:
    """A field that is added or left out is found as well, also one that this version does not know."""
    assert not KEY.signed(signed() | {added: value}, PURPOSE)
    document = signed()
    del document["rows"]
    assert not KEY.signed(document, PURPOSE)


def test_the_layout_does_not_matter() -> None:
    """Indented, sorted, escaped otherwise, by whatever program: what it says was signed, not how it is written."""
    document = signed()
    for text in (json.dumps(document, sort_keys=True), json.dumps(document, indent=8, ensure_ascii=False)):
        assert judge(text.encode(), NAME, Trust(KEY)).origin is Origin.OURS


def test_what_is_judged_is_what_is_used() -> None:
    """A field that stands there twice is judged by the value that is used."""
    text = MANIFEST.signed(KEY).to_json().decode()
    twice = text.replace('"sha256":', f'"sha256": "{"0" * 64}", "sha256":', 1)
    assert judge(twice.encode(), NAME, Trust(KEY)).manifest.sha256 == MANIFEST.sha256
    other_way = text.replace('"server_version"', f'"sha256": "{"0" * 64}", "server_version"', 1)
    assert judge(other_way.encode(), NAME, Trust(KEY)).origin is Origin.FOREIGN


def test_fields_of_a_newer_version_are_signed_too() -> None:
    """A manifest that a newer version wrote is ours, though we don't know all of its fields."""
    document = json.loads(MANIFEST.to_json()) | {"added_later": [1.5, {"a": None}]}
    document["hmac"] = KEY.sign(document, PURPOSE)
    assert origin(document, Trust(KEY)) is Origin.OURS
    assert origin(document | {"added_later": [1.5, {"a": 0}]}, Trust(KEY)) is Origin.FOREIGN


@pytest.mark.parametrize("signature", ["x", "0" * 64, "\u00e9", "A" * 64])
def test_any_other_signature_is_foreign(signature: str) -> None:
    """Not the right one is wrong, whatever it is made of."""
    assert origin(signed(hmac=signature), Trust(KEY, TIME + timedelta(days=1))) is Origin.FOREIGN


def test_unsigned_ones_of_before_count_as_earlier() -> None:
    """Made before signing began here: as ever. Made after it: foreign, since we would have signed it."""
    unsigned = json.loads(MANIFEST.to_json())
    assert origin(unsigned, Trust(KEY, TIME + timedelta(days=1))) is Origin.EARLIER
    assert origin(unsigned, Trust(KEY, TIME)) is Origin.FOREIGN
    assert origin(unsigned, Trust()) is Origin.EARLIER
    del unsigned["hmac"]
    assert origin(unsigned, Trust(KEY, TIME + timedelta(days=1))) is Origin.EARLIER


def test_a_date_that_was_only_written_does_not_help() -> None:
    """In a bucket an unsigned one counts only if the bucket itself had it before signing began."""
    unsigned = json.loads(MANIFEST.to_json())
    since = TIME + timedelta(days=1)
    assert origin(unsigned, Trust(KEY, since), put_at=TIME + timedelta(minutes=1)) is Origin.EARLIER
    assert origin(unsigned, Trust(KEY, since), put_at=since + timedelta(hours=1)) is Origin.FOREIGN


def test_the_name_must_be_of_before_too() -> None:
    """An old time in the manifest of a name of tomorrow is no way around it."""
    late = BackupName("hub", datetime(2026, 3, 1))
    document = json.loads(MANIFEST.to_json()) | {"name": str(late)}
    judged = judge(json.dumps(document).encode(), late, Trust(KEY, TIME + timedelta(days=1)))
    assert judged.origin is Origin.FOREIGN
    assert "not signed" in judged.doubt


def test_a_new_server_believes_no_bucket() -> None:
    """A server that had nothing of its own when signing began has nothing of before in a bucket either."""
    unsigned = json.loads(MANIFEST.to_json())
    new = Trust(KEY, TIME + timedelta(days=1), at_home=False)
    assert origin(unsigned, new, put_at=TIME) is Origin.FOREIGN
    assert origin(unsigned, Trust(at_home=False), put_at=TIME) is Origin.FOREIGN
    assert origin(signed(), new, put_at=TIME) is Origin.OURS


def test_why_it_is_foreign_is_said() -> None:
    """Another key, no key, a key of no use, and no signature are four things."""
    said = {
        judge(json.dumps(document).encode(), NAME, trust).doubt
        for document, trust in (
            (signed(), Trust(OTHER)),
            (signed(), Trust()),
            (signed(), Trust(problem="the key is damaged")),
            (json.loads(MANIFEST.to_json()), Trust(KEY, TIME)),
        )
    }
    assert len(said) == 4
    assert any("can't be told, the key is damaged" in one for one in said)


@pytest.mark.parametrize("size", [MANIFEST_MAX_BYTES + 1, 54 << 20])
def test_a_manifest_that_is_too_large_is_not_read(size: int) -> None:
    """Whatever it says, and whoever signed it: a fact about that backup, and no more of it is read than the limit."""

    class Reading(MemoryStore):
        taken = 0

        def open(self, name: str, **part: Any) -> Any:
            return self

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *exc_info: object) -> None:
            pass

        def read(self, count: int) -> bytes:
            count = min(count, size - self.taken)
            self.taken += count
            return b" " * count

    store = Reading("s3", remote=True)
    with pytest.raises(NotProvenError, match="too large"):
        read_manifest(store, NAME, Trust(KEY))
    assert store.taken <= MANIFEST_MAX_BYTES + (64 << 10)


@pytest.mark.parametrize("text", ["[" * 500_000, "9" * 10_000, '"\\ud800"', "NaN", "{}", "[]", '{"hmac": 1}'])
def test_nonsense_is_one_sentence(text: str) -> None:
    """Nested without end, numbers without end, no object: not valid, and nothing worse."""
    with pytest.raises(NotProvenError, match=r"the manifest of hub_backup.* is not valid"):
        judge(text.encode(), NAME, Trust(KEY))


def test_a_database_of_ten_thousand_tables_fits() -> None:
    """With long names, a count for each, and the roles of a large server."""
    rows = {
        f"schema_{number % 40}.a_table_with_a_rather_long_name_{number:05}": number * 37 for number in range(10_000)
    }
    roles = "".join(f"CREATE ROLE user_{number};\nALTER ROLE user_{number} WITH LOGIN;\n" for number in range(10_000))
    data = manifest_of(NAME, b"x", rows=rows, globals_sql=roles, materialized_views=dict(list(rows.items())[:500]))
    assert len(data.signed(KEY).to_json()) < MANIFEST_MAX_BYTES // 2
