"""What a change of a flag is called when it is announced."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import pytest

from server.core.announcing.naming import announced_type, killed
from server.core.events import FlagCreated, FlagRemoved, FlagUpdated, SegmentRemoved, SegmentUpdated
from server.core.flags import Flag, FlagConfig, FlagDefinition, Prerequisite, Rule, Share, ValueType
from server.core.segments import Segment

FLAG: Final = FlagDefinition(
    Flag("a", ValueType.BOOLEAN, {"on": True, "off": False}),
    FlagConfig(default="off", rules=(Rule("beta", "on", share=Share(10_000, "salt")),)),
)


def with_config(**fields: Any) -> FlagDefinition:
    """The flag, configured otherwise."""
    return replace(FLAG, config=replace(FLAG.config, **fields))


def with_flag(**fields: Any) -> FlagDefinition:
    """The flag, described otherwise."""
    return replace(FLAG, flag=replace(FLAG.flag, **fields))


@pytest.mark.parametrize(
    ("expected", "before", "after"),
    [
        ("flag.disabled", FLAG, with_config(enabled=False)),
        ("flag.enabled", with_config(enabled=False), FLAG),
        ("flag.enabled", with_config(enabled=False), with_config(default="on")),
        ("flag.disabled", FLAG, with_config(enabled=False, default="on")),
        ("flag.archived", FLAG, with_flag(archived_at=datetime(2026, 1, 1, tzinfo=UTC))),
        ("flag.restored", with_flag(archived_at=datetime(2026, 1, 1, tzinfo=UTC)), FLAG),
        ("flag.variants_changed", FLAG, with_flag(variants={"on": True, "off": False, "new": True})),
        ("flag.variants_changed", with_flag(variants={"on": 1}), with_flag(variants={"on": 1.0})),
        ("flag.targeting_changed", FLAG, with_config(rules=(Rule("beta", "on", share=Share(25_000, "salt")),))),
        ("flag.targeting_changed", FLAG, with_config(default="on")),
        ("flag.dependency_changed", FLAG, with_config(prerequisites=(Prerequisite("b", ("on",)),))),
        ("flag.updated", FLAG, with_flag(owner="shop")),
        ("flag.updated", FLAG, with_flag(tags=("web",))),
    ],
)
def test_a_change_is_called_by_what_tells_most(expected: str, before: FlagDefinition, after: FlagDefinition) -> None:
    """Somebody who waits for switches need not look into every change."""
    assert expected == announced_type(FlagUpdated("a", before, after))


def test_comings_and_goings() -> None:
    """They are called alike for flags and segments."""
    segment = Segment("s", keys=("ann",))

    assert ["flag.created", "flag.deleted", "segment.deleted", "segment.updated"] == [
        announced_type(FlagCreated("a", FLAG)),
        announced_type(FlagRemoved("a", FLAG)),
        announced_type(SegmentRemoved("s", segment)),
        announced_type(SegmentUpdated("s", segment, segment)),
    ]


def test_a_kill_is_a_switch_that_was_asked_for_as_one() -> None:
    """Whatever else a kill touches keeps its name."""
    assert ("flag.killed", "flag.enabled") == (killed("flag.disabled"), killed("flag.enabled"))
