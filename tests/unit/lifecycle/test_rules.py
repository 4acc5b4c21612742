"""Our lifecycle rules among those of others: pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbackup.lifecycle.rules import Difference, Terms, difference, normal, rule_id, wanted
from hubbackup.lifecycle.tags import BACKUP

TERMS = Terms("backups/", 90, "GLACIER", 400, 30)
OURS = [
    {
        "ID": "hubbackup-backups:backups/",
        "Status": "Enabled",
        "Filter": {"And": {"Prefix": "backups/", "Tags": [{"Key": "hubbackup", "Value": "backup"}]}},
        "Transitions": [{"Days": 90, "StorageClass": "GLACIER"}],
        "Expiration": {"Days": 400},
    },
    {
        "ID": "hubbackup-uploads:backups/",
        "Status": "Enabled",
        "Filter": {"Prefix": "backups/"},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 2},
    },
    {
        "ID": "hubbackup-versions:backups/",
        "Status": "Enabled",
        "Filter": {"Prefix": "backups/"},
        "NoncurrentVersionExpiration": {"NoncurrentDays": 30},
        "Expiration": {"ExpiredObjectDeleteMarker": True},
    },
]
days = st.integers(1, 3650)
prefixes = st.sampled_from(["", "backups/", "logs/", "back", "backups/old/", 'q"uo te/é/'])


@st.composite
def foreign_rules(draw: st.DrawFn) -> dict[str, Any]:
    """A rule as anybody may have it, old forms included."""
    rule: dict[str, Any] = {"Status": draw(st.sampled_from(["Enabled", "Disabled"]))}
    if draw(st.booleans()):
        rule["ID"] = draw(st.text(st.characters(codec="ascii", exclude_characters=":"), max_size=20))
    prefix, tag = draw(prefixes), {"Key": draw(st.sampled_from("ab")), "Value": "v"}
    form = draw(st.integers(0, 3))
    if form == 0:
        rule["Prefix"] = prefix
    else:
        rule["Filter"] = [{"Prefix": prefix}, {"Tag": tag}, {"And": {"Prefix": prefix, "Tags": [tag]}}][form - 1]
    if draw(st.booleans()):
        rule["Transitions"] = [{"Days": draw(days), "StorageClass": "STANDARD_IA"}]
    rule["Expiration"] = {"Days": draw(days)}
    return rule


terms = st.builds(
    Terms,
    prefixes,
    archive_after_days=st.integers(0, 900),
    archive_class=st.sampled_from(["GLACIER", "DEEP_ARCHIVE"]),
    expire_after_days=st.integers(0, 900),
    hidden_after_days=st.integers(0, 90),
)


def change_for(there: list[Any], wish: Terms) -> Difference:
    return difference(there, wish, wanted(wish, BACKUP))


def test_what_the_settings_ask_for() -> None:
    """Only what bears the backups' tag is archived and expires: manifests, marks and probes never have it."""
    assert change_for([], TERMS).merged() == OURS


def test_without_a_prefix_a_tag_stands_alone() -> None:
    """S3 wants an And only of two conditions."""
    first, second = change_for([], Terms("", 1, "GLACIER")).merged()
    assert first["Filter"] == {"Tag": {"Key": "hubbackup", "Value": "backup"}}
    assert second["Filter"] == {"Prefix": ""}


@given(st.lists(foreign_rules(), max_size=5), terms, terms)
def test_rules_of_others_stay_as_they_are(theirs: list[dict[str, Any]], before: Terms, after: Terms) -> None:
    """Whatever is asked for, and asked for next: theirs are put as they came and in their order, ours exactly as
    asked; and what was put needs nothing more."""
    for wish in (before, after):
        there = change_for(theirs, before).merged() if wish is after else theirs
        done = change_for(there, wish)
        merged = done.merged()
        assert [rule for rule in merged if rule in theirs] == theirs
        ids = {rule_id(rule["ID"].partition(":")[0], wish.prefix) for rule in merged if ":" in rule.get("ID", "")}
        assert {rule.id for rule in wanted(wish, BACKUP)} <= {rule.get("ID") for rule in merged}
        assert ids >= {rule.id for rule in wanted(wish, BACKUP)}
        again = change_for(merged, wish)
        assert again.empty
        assert again.merged() == merged


def test_the_order_of_tags_means_nothing() -> None:
    """However many a rule of others has."""
    tags = [{"Key": f"k{number}", "Value": "v"} for number in range(9)]
    one: dict[str, Any] = {"Status": "Enabled", "Filter": {"And": {"Prefix": "", "Tags": tags}}}
    other: dict[str, Any] = {"Status": "Enabled", "Filter": {"And": {"Prefix": "", "Tags": tags[::-1]}}}
    assert repr(normal(one)) == repr(normal(other))


def test_a_rule_is_known_again_as_vendors_write_it() -> None:
    """A filter with one And, an old prefix beside it, tags in another order, a false that nobody asked for."""
    ours: dict[str, Any] = OURS[0]
    as_others = ours | {
        "Prefix": "",
        "Expiration": {"Days": 400, "ExpiredObjectDeleteMarker": False},
        "NoncurrentVersionTransitions": [],
    }
    assert normal(as_others) == normal(ours)
    assert normal(OURS[1] | {"Filter": {"And": {"Prefix": "backups/", "Tags": []}}}) == normal(OURS[1])


@pytest.mark.parametrize(
    "lost",
    [
        {"Filter": {"Prefix": "backups/"}},
        {"Filter": {"And": {"Prefix": "backups/", "Tags": [{"Key": "hubbackup", "Value": ""}]}}},
        {"Filter": {}},
        {"Status": "Disabled"},
        {"Transitions": [{"Days": 90, "StorageClass": "STANDARD_IA"}]},
        {"Expiration": {"Days": 4}},
    ],
)
def test_what_a_vendor_dropped_is_seen(lost: dict[str, Any]) -> None:
    """A rule without its tag would archive the manifests: it is never taken for the one that was sent."""
    assert normal(OURS[0] | lost) != normal(OURS[0])


def test_a_setting_that_is_unset_takes_its_rule_away() -> None:
    """Ours, and only that of this prefix."""
    there = [*OURS, {**OURS[0], "ID": rule_id("hubbackup-backups", "other/")}]
    done = change_for(there, Terms("backups/"))
    assert [rule["ID"] for rule in done.removed] == ["hubbackup-backups:backups/", "hubbackup-versions:backups/"]
    assert [rule["ID"] for rule in done.merged()] == ["hubbackup-backups:other/", "hubbackup-uploads:backups/"]


def test_overlaps_are_said() -> None:
    """Rules of others that would move or remove what is ours, on a prefix above or below; no others."""
    enabled: dict[str, Any] = {"Status": "Enabled"}
    there = [
        {**enabled, "ID": "all", "Filter": {"Prefix": ""}, "Transitions": [{"Days": 30, "StorageClass": "GLACIER"}]},
        {**enabled, "Prefix": "backups/x", "Expiration": {"Date": datetime(2027, 1, 1, tzinfo=UTC)}},
        {**enabled, "ID": "elsewhere", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 1}},
        {"Status": "Disabled", "ID": "off", "Filter": {}, "Expiration": {"Days": 1}},
        {**enabled, "ID": "tagged", "Filter": {"Tag": {"Key": "a", "Value": "b"}}, "Expiration": {"Days": 1}},
        {**enabled, "ID": "tidy", "Filter": {}, "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}},
    ]
    assert change_for(there, TERMS).overlaps == (
        "the rule all of others, on the whole bucket, moves what is there to class GLACIER after 30 days,"
        " manifests and marks too",
        "the rule without an id of others, on backups/x, removes what is there on 2027-01-01,"
        " whatever the retention says",
    )


def test_an_id_is_never_too_long() -> None:
    """S3 takes 255 characters."""
    assert len(rule_id("hubbackup-versions", "p" * 900)) <= 255
