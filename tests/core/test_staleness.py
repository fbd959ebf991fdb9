"""When a flag is of no more use, by its age and by what it serves."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.errors import InvalidRequest
from server.core.flags import Flag, FlagKind, ValueType
from server.core.staleness import (
    DEFAULT_POLICY,
    Assessment,
    Exempt,
    Facts,
    Served,
    StalePolicy,
    StaleRule,
    StaleState,
    assess,
    check_policy,
    exempt_of,
    lifetime_of,
    served_by_all,
    served_to_all,
)
from tests.store.definitions import flag

T0 = datetime(2026, 1, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
ONE = Facts(T0, T0, served=Served("on"))
OLD = Facts(T0, T0, lifetime_days=40)


def walk(facts: Facts, until: datetime, policy: StalePolicy = DEFAULT_POLICY) -> list[tuple[StaleState, int]]:
    """The states that a flag goes through while nobody touches it, with the day that each begins."""
    found: list[tuple[StaleState, int]] = []
    now: datetime | None = T0
    while now is not None and now <= until:
        assessed = assess(facts, policy, now)
        facts = replace(facts, noticed_at=assessed.noticed_at)
        if not found or found[-1][0] is not assessed.state:
            found.append((assessed.state, (now - T0).days))
        now = assessed.next_at
    return found


@pytest.mark.parametrize(
    ("facts", "days"),
    [
        (ONE, [0, 30, 44]),
        (OLD, [0, 40, 54]),
        (replace(OLD, changed_at=T0 + 38 * DAY), [0, 45, 59]),
        (replace(ONE, changed_at=T0 + 38 * DAY), [0, 68, 82]),
        (replace(ONE, lifetime_days=20), [0, 20, 34]),
        (replace(OLD, served=Served(None)), [0, 30, 44]),
    ],
)
def test_a_flag_grows_stale(facts: Facts, days: list[int]) -> None:
    """By the rule that holds first, and after a grace."""
    assert list(zip(list(StaleState), days, strict=False)) == walk(facts, T0 + 400 * DAY)


@pytest.mark.parametrize("exempt", [Exempt.PERMANENT, Exempt.ARCHIVED, Exempt.KIND])
def test_some_flags_are_never_stale(exempt: Exempt) -> None:
    """What is to stay, what is gone, and what has no lifetime."""
    assert [(StaleState.ACTIVE, 0)] == walk(replace(OLD, served=Served("on"), exempt=exempt), T0 + 400 * DAY)


def test_a_snoozed_flag_gets_a_grace_of_its_own() -> None:
    """Whoever did not want to hear of it hears of it again, and not at once that it is stale."""
    snoozed = replace(ONE, snoozed_until=T0 + 100 * DAY)

    assert [(StaleState.SNOOZED, 0), (StaleState.POTENTIALLY_STALE, 100), (StaleState.STALE, 114)] == walk(
        snoozed, T0 + 400 * DAY
    )


def test_a_mark_holds_until_somebody_changes_the_flag() -> None:
    """Whatever its age and kind."""
    marked = Facts(T0, T0, exempt=Exempt.KIND, marked_at=T0 + DAY)
    found = assess(marked, DEFAULT_POLICY, T0 + 2 * DAY)

    assert (StaleState.STALE, StaleRule.MARKED, T0 + DAY) == (found.state, found.reasons[0].rule, found.stale_at)
    assert StaleState.ACTIVE is assess(replace(marked, changed_at=T0 + 2 * DAY), DEFAULT_POLICY, T0 + 3 * DAY).state


def test_a_held_flag_is_looked_at_again() -> None:
    """What a release or a schedule is still to change is in use."""
    held = replace(ONE, exempt=Exempt.HELD)

    assert Assessment(StaleState.ACTIVE, next_at=T0 + 51 * DAY) == assess(held, DEFAULT_POLICY, T0 + 50 * DAY)


instants = st.integers(0, 300 * 24).map(lambda hours: T0 + timedelta(hours=hours))
maybe = st.one_of(st.none(), instants)
facts_ = st.builds(
    Facts,
    created_at=st.just(T0),
    changed_at=instants,
    served=st.sampled_from((None, Served("on"), Served(None))),
    lifetime_days=st.one_of(st.none(), st.integers(1, 100)),
    exempt=st.sampled_from((None, None, None, *Exempt)),
    snoozed_until=maybe,
    marked_at=maybe,
    noticed_at=maybe,
)
policies = st.builds(
    StalePolicy, quiet_days=st.integers(0, 30), unchanged_days=st.integers(1, 60), grace_days=st.integers(0, 30)
)


@given(facts_, policies, instants, st.floats(0, 0.999))
def test_nothing_happens_before_its_instant(facts: Facts, policy: StalePolicy, now: datetime, part: float) -> None:
    """Until `next_at`, or for ever, it is what it is: so nobody has to look before."""
    first = assess(facts, policy, now)
    kept = replace(facts, noticed_at=first.noticed_at)
    end = first.next_at or now + 5_000 * DAY
    later = assess(kept, policy, now + (end - now) * part)

    assert first.next_at is None or first.next_at > now
    assert (first.state, first.noticed_at) == (later.state, later.noticed_at)


@given(facts_, policies, instants)
def test_a_change_makes_a_flag_active(facts: Facts, policy: StalePolicy, now: datetime) -> None:
    """Unless the project says that a lifetime ends whatever somebody does."""
    marked = None if facts.marked_at is None else min(facts.marked_at, now)
    touched = replace(facts, changed_at=now + timedelta(hours=1), snoozed_until=None, marked_at=marked)
    quiet = replace(policy, quiet_days=max(1, policy.quiet_days))

    assert StaleState.ACTIVE is assess(touched, quiet, now + timedelta(hours=2)).state


@given(facts_, policies, instants)
def test_a_stale_flag_has_a_reason(facts: Facts, policy: StalePolicy, now: datetime) -> None:
    """That holds already; nothing is said of one that is in use."""
    found = assess(facts, policy, now)

    assert (found.state in (StaleState.POTENTIALLY_STALE, StaleState.STALE)) == bool(found.reasons)
    assert all(reason.since <= now for reason in found.reasons if reason.rule is not StaleRule.MARKED)


@pytest.mark.parametrize(
    ("fields", "served"),
    [
        ({}, "off"),
        ({"default": "on"}, "on"),
        ({"enabled": False, "offVariant": "off", "default": "on"}, "off"),
        ({"rules": [{"id": "all", "serve": "on"}]}, "on"),
        ({"rules": [{"id": "all", "serve": "on", "share": {"percent": 100}}]}, "on"),
        ({"rules": [{"id": "none", "serve": "on", "share": {"percent": 0}}]}, "off"),
        ({"rules": [{"id": "same", "condition": {"var": "beta"}, "serve": "off"}]}, "off"),
        ({"rules": [{"id": "over", "serve": "on", "until": "2025-12-01T00:00:00Z"}]}, "off"),
        ({"targeting": {}}, "off"),
        ({"targets": {"off": ["alice"]}}, "off"),
    ],
)
def test_one_variant_is_told_from_the_configuration(fields: dict[str, Any], served: str) -> None:
    """Where nobody can get another one."""
    assert Served(served) == served_to_all(flag(**fields), T0)


@pytest.mark.parametrize(
    "fields",
    [
        {"rules": [{"id": "some", "condition": {"var": "beta"}, "serve": "on"}]},
        {"rules": [{"id": "part", "serve": "on", "share": {"percent": 99.999}}]},
        {"rules": [{"id": "later", "serve": "on", "from": "2026-02-01T00:00:00Z"}]},
        {"rules": [{"id": "while", "serve": "off", "until": "2026-02-01T00:00:00Z"}]},
        {"targets": {"on": ["alice"]}},
        {"targeting": {"if": [{"var": "beta"}, "on", "off"]}},
        {"prerequisites": [{"flag": "other", "variants": ["on"]}], "default": "on", "offVariant": "off"},
    ],
)
def test_several_variants_are_in_use(fields: dict[str, Any]) -> None:
    """Also where the clock is still to change something, and where it cannot be told."""
    assert served_to_all(flag(**fields), T0) is None


def test_a_disabled_flag_without_off_variant_serves_its_callers_defaults() -> None:
    """Which is one and the same for everybody, too."""
    assert Served(None) == served_to_all(flag(enabled=False), T0)


def test_environments_must_serve_the_same() -> None:
    """A flag that is on here and off there tells them apart."""
    on, off = flag(default="on"), flag(default="off")

    assert Served("on") == served_by_all([on, on], T0)
    assert served_by_all([on, off], T0) is None


def test_the_lifetime_is_the_flags_own_or_its_kinds() -> None:
    """A kind without one exempts its flags, but not those that have their own."""
    made = Flag("a", ValueType.BOOLEAN, {"on": True}, kind=FlagKind.OPERATIONAL)
    own = replace(made, expected_lifetime_days=5)

    assert (None, Exempt.KIND) == (lifetime_of(made, DEFAULT_POLICY), exempt_of(made, DEFAULT_POLICY))
    assert (5, None) == (lifetime_of(own, DEFAULT_POLICY), exempt_of(own, DEFAULT_POLICY))
    assert Exempt.PERMANENT is exempt_of(replace(own, temporary=False), DEFAULT_POLICY)
    assert Exempt.ARCHIVED is exempt_of(replace(own, archived_at=T0), DEFAULT_POLICY)


@pytest.mark.parametrize(
    ("policy", "names"),
    [
        (StalePolicy(unchanged_days=0), "unchanged_days is 0"),
        (StalePolicy(quiet_days=-1), "quiet_days is -1"),
        (StalePolicy(grace_days=3_651), "grace_days is 3651"),
        (StalePolicy({FlagKind.RELEASE: 0}), "lifetime of kind release is 0"),
    ],
)
def test_terms_are_days(policy: StalePolicy, names: str) -> None:
    """Within bounds that are named."""
    with pytest.raises(InvalidRequest, match=names):
        check_policy(policy)
