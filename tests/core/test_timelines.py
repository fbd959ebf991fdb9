"""What the clock alone makes of a flag: evaluated at its instants, and settled afterwards without a difference."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.environments import Environment
from server.core.evaluation.snapshots import build_snapshot
from server.core.flags import Flag, FlagConfig, FlagDefinition, Rule, Share, ShareStep, ValueType
from server.core.flagsets import FlagSet
from server.core.timelines import ended, next_instant, settled
from tests.strategies import TIMESTAMP, contexts, flag_sets

T0 = datetime(2026, 12, 1, 9, tzinfo=UTC)
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
RAMP = Share(1_000, "s", steps=(ShareStep(T0, 10_000), ShareStep(T0 + DAY, 100_000)))


def served(config: FlagConfig, at: datetime, unit_count: int = 2_000) -> int:
    """How many units are served "on" at an instant."""
    flag = FlagDefinition(Flag("f", ValueType.BOOLEAN, {"on": True, "off": False}), config)
    snapshot = build_snapshot(FlagSet(Environment("shop", "production"), {"f": flag}), revision=1)
    now = int(at.timestamp())
    return sum(snapshot.resolve("f", {"targetingKey": f"u{n}"}, now).variant == "on" for n in range(unit_count))


@pytest.mark.parametrize(
    ("at", "parts"),
    [(T0 - SECOND, 1_000), (T0, 10_000), (T0 + DAY - SECOND, 10_000), (T0 + DAY, 100_000), (T0 + 9 * DAY, 100_000)],
)
def test_a_share_grows_by_the_clock(at: datetime, parts: int) -> None:
    """At its very second it lets in whom a share of that width would."""
    assert served(growing(RAMP), at) == served(growing(Share(parts, "s")), at) > 0


def growing(share: Share) -> FlagConfig:
    """A flag that is on for a share."""
    return FlagConfig(default="off", rules=(Rule("r", "on", share=share),))


@pytest.mark.parametrize(
    ("at", "expected"),
    [(T0 - SECOND, 0), (T0, 100), (T0 + DAY - timedelta(seconds=1), 100), (T0 + DAY, 0)],
)
def test_a_rule_begins_and_ends(at: datetime, expected: int) -> None:
    """Outside its time it is as if it were not there."""
    rule = Rule("r", "on", starts_at=T0, ends_at=T0 + DAY)

    assert expected == served(FlagConfig(default="off", rules=(rule,)), at, 100)


def test_watchers_know_the_instants() -> None:
    """Those that wait for a value to change are woken for nothing else."""
    rules = (Rule("r", "on", share=RAMP, ends_at=T0 + 2 * DAY),)
    flag = FlagDefinition(
        Flag("f", ValueType.BOOLEAN, {"on": True, "off": False}), FlagConfig(default="off", rules=rules)
    )
    clock = build_snapshot(FlagSet(Environment("shop", "production"), {"f": flag}), revision=1).flags["f"].clock

    assert clock is not None and not clock.every_second
    assert {int((T0 + days * DAY).timestamp()) for days in range(3)} <= set(clock.instants)


def test_what_has_come_is_settled() -> None:
    """Steps become the share, a begin goes, and a rule that ended stays to be used again."""
    rules = (Rule("r", "on", share=RAMP, starts_at=T0), Rule("e", "on", ends_at=T0))
    config = FlagConfig(rules=rules)
    share = replace(RAMP, parts=10_000, steps=RAMP.steps[1:])

    assert FlagConfig(rules=(replace(rules[0], share=share, starts_at=None), rules[1])) == settled(config, T0)
    assert config is settled(config, T0 - SECOND)
    assert (T0, T0 + DAY) == (next_instant(config, T0 - DAY), next_instant(settled(config, T0), T0))
    assert ("e",) == ended(config, T0)


@given(flag_sets(), contexts(), st.integers(-61, 61), st.integers(0, 122))
def test_settling_changes_no_answer(
    flag_set: FlagSet, context: dict[str, object], settled_s: int, later_s: int
) -> None:
    """Neither then nor later, for any flag."""
    at = datetime.fromtimestamp(TIMESTAMP + settled_s, UTC)
    flags = {key: replace(each, config=settled(each.config, at)) for key, each in flag_set.flags.items()}
    as_written = build_snapshot(flag_set, revision=1)
    as_settled = build_snapshot(replace(flag_set, flags=flags), revision=1)
    now = TIMESTAMP + settled_s + later_s

    for key in flag_set.flags:
        if as_written.flags[key].quarantine:
            continue
        before, after = as_written.resolve(key, context, now), as_settled.resolve(key, context, now)
        assert (before.variant, before.error_code) == (after.variant, after.error_code)


@given(flag_sets(), st.integers(-61, 61))
def test_settling_ends(flag_set: FlagSet, settled_s: int) -> None:
    """What was settled at an instant has nothing to settle until a later one."""
    at = datetime.fromtimestamp(TIMESTAMP + settled_s, UTC)
    for definition in flag_set.flags.values():
        once = settled(definition.config, at)
        later = next_instant(once, at)

        assert later is None or later > at
        assert once == settled(once, at)
