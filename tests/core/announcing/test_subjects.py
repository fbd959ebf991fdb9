"""The data of events about flags and segments: flat, bounded, and without users."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from server.core.announcing.catalogue import data_of
from server.core.announcing.subjects import CHANGE_CHARS_MAX, CHANGES_MAX
from tests.announced import problems_of

HEAD = {"key": "a", "kind": "flag", "revision": 7, "reason": "because", "cause": ""}


def flag(**fields: Any) -> dict[str, Any]:
    """A flag's document."""
    return {"type": "boolean", "variants": {"on": True, "off": False}, "default": "off", **fields}


def test_the_share_that_moved_is_told() -> None:
    """From what to what, and of which rule; a rule without a share lets everyone in."""
    before = flag(rules=[{"id": "a", "serve": "on"}, {"id": "b", "share": {"percent": 10}, "serve": "on"}])
    after = flag(rules=[{"id": "a", "serve": "on"}, {"id": "b", "share": {"percent": 25}, "serve": "on"}])
    data = data_of("flag.targeting_changed", {**HEAD, "before": before, "after": after})

    assert ("b", 10.0, 25.0) == (data["rule_id"], data["from_percent"], data["to_percent"])
    assert ["share of rule b 10 % -> 25 %"] == [each["text"] for each in data["changes"]]


def test_switches_say_what_was() -> None:
    """A receiver need not have seen the event before."""
    data = data_of("flag.disabled", {**HEAD, "before": flag(), "after": flag(enabled=False)})

    assert (False, True) == (data["enabled"], data["previous_enabled"])


def test_users_are_not_named() -> None:
    """Individual targets and the keys of a segment are users: only that they changed is told."""
    before, after = (
        flag(targets={"on": ["ann@example.com"]}),
        flag(targets={"on": ["bob@example.com"], "off": ["eve@x"]}),
    )
    of_flag = data_of("flag.targeting_changed", {**HEAD, "before": before, "after": after})
    keys = {"before": {"keys": ["ann@example.com"]}, "after": {"keys": ["bob@example.com"]}}
    of_segment = data_of("segment.updated", {**HEAD, "kind": "segment", **keys})
    created = data_of("flag.created", {**HEAD, "before": None, "after": before})

    assert "@" not in json.dumps([of_flag, of_segment, created])
    assert (2, 1) == (of_flag["change_count"], of_segment["change_count"])


def test_what_is_told_is_bounded() -> None:
    """The history has all of it."""
    before, after = (
        flag(metadata={f"name-{number}": text * 2_000 for number in range(50)}) for text in ("before", "after")
    )
    data = data_of("flag.updated", {**HEAD, "before": before, "after": after})

    assert CHANGES_MAX == len(data["changes"]) < data["change_count"]
    assert all(len(value) <= CHANGE_CHARS_MAX for each in data["changes"] for value in each.values())


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
_NAMES = (
    "type",
    "variants",
    "default",
    "rules",
    "targets",
    "tags",
    "owner",
    "enabled",
    "kind",
    "temporary",
    "keys",
    "name",
)


@given(
    type_=st.sampled_from(["flag.updated", "segment.updated", "environment.updated", "project.updated"]),
    before=_JSON | st.dictionaries(st.sampled_from(_NAMES), _JSON),
    after=_JSON | st.dictionaries(st.sampled_from(_NAMES), _JSON),
)
def test_damaged_documents_are_told_as_promised(type_: str, before: Any, after: Any) -> None:
    """A document may be anything that got into the database behind our back; its event has its shape all the same."""
    payload = {**HEAD, "kind": type_.partition(".")[0], "before": before, "after": after}

    assert [] == problems_of(type_, data_of(type_, payload))
