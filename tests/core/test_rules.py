"""As whom rules act, and what becomes of what goes wrong."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.access import Action, Grant, Principal, Role, Scope
from server.core.errors import (
    Conflict,
    FlagstaffError,
    InvalidRequest,
    Limited,
    NotFound,
    PermissionDenied,
    Refused,
    StoreUnavailable,
)
from server.core.rules.documents import read_definition, write_definition
from server.core.rules.presets import PRESETS, from_preset
from server.core.rules.rules import (
    FAILING_MAX,
    FAILURES_MAX,
    RETRY_S,
    Act,
    Definition,
    Deliver,
    Health,
    Wanted,
    acting,
    both,
    retry_in_s,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
places = st.sampled_from((None, "shop", "other"))
grants = st.lists(
    st.builds(Grant, st.sampled_from(list(Role)), places, st.sampled_from((None, "production"))), max_size=4
)
scopes = st.builds(Scope, st.sampled_from(("", "shop", "other")), st.sampled_from(("", "production", "staging")))


@given(grants, grants, st.sampled_from(list(Action)), scopes)
def test_a_rule_may_no_more_than_its_author_then_and_now(
    then: list[Grant], now: list[Grant], action: Action, scope: Scope
) -> None:
    """Whatever was granted: both must allow it."""
    rule = acting("rule_1", then, now)
    before, present = Principal("ann", tuple(then)), Principal("ann", tuple(now))

    assert not rule.may(action, scope) or (before.may(action, scope) and present.may(action, scope))


@given(grants, st.sampled_from(list(Action)), scopes)
def test_an_author_who_keeps_all_loses_nothing_but_bypasses(held: list[Grant], action: Action, scope: Scope) -> None:
    """The same grants, met with themselves, allow the same."""
    author = Principal("ann", tuple(held))
    rule = Principal("rule:1", both(held, held))

    assert author.may(action, scope) == rule.may(action, scope)
    assert not acting("1", held, None).may(Action.BYPASS, scope)


@pytest.mark.parametrize("error", [InvalidRequest("x"), NotFound("x"), PermissionDenied("x"), Conflict("x")])
def test_what_stays_wrong_is_not_tried_again(error: FlagstaffError) -> None:
    """The same request gets the same answer."""
    assert retry_in_s(1, error) is None


@pytest.mark.parametrize("error", [Refused("frozen"), Limited("x", 1.0), StoreUnavailable("x"), RuntimeError()])
def test_what_may_pass_is_tried_again(error: Exception) -> None:
    """After longer and longer waits, and not for ever."""
    waits = [retry_in_s(attempt, error) for attempt in range(1, len(RETRY_S) + 2)]

    assert [*RETRY_S, None] == waits
    assert sorted(RETRY_S) == list(RETRY_S)


def test_a_rule_is_hopeless_after_a_day_of_failures() -> None:
    """Neither after many at once, nor after a few for long."""
    many, few = Health(), Health()
    for number in range(FAILURES_MAX):
        many = many.after_failure(NOW + timedelta(seconds=number))
    few = few.after_failure(NOW).after_failure(NOW + FAILING_MAX)

    assert not many.is_hopeless(NOW + timedelta(hours=1))
    assert not few.is_hopeless(NOW + FAILING_MAX)
    assert many.is_hopeless(NOW + FAILING_MAX)
    assert Health() == many.after_success()


@pytest.mark.parametrize(
    "then", [Deliver("ep_1"), Act("kill_flag", {"flag_key": "{{ data.flag_key }}", "n": [1, True, None]}, "because")]
)
def test_definitions_are_kept_as_they_are(then: Act | Deliver) -> None:
    """With every field."""
    when = Wanted(("flag.*",), ("production",), ("a", "b"), ("web",), "data.x")
    definition = Definition("one", when, then, "for all", 7)

    assert definition == read_definition(write_definition(definition))


def test_presets_need_what_they_lack() -> None:
    """An endpoint where they deliver, and none where they act."""
    assert Deliver("ep_1") == from_preset("stale-notice", "ep_1").then
    assert PRESETS["kill-on-breach"].definition == from_preset("kill-on-breach", "")
    with pytest.raises(InvalidRequest, match="needs an endpoint"):
        from_preset("stale-notice", "")
    with pytest.raises(InvalidRequest, match="leave the endpoint out"):
        from_preset("kill-on-breach", "ep_1")
    with pytest.raises(NotFound, match="there are: stale-notice"):
        from_preset("other", "")
