"""A policy acts by the very event that gives it reason to, and by nothing else."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.change_requests.codec import read_value, write_value
from server.core.errors import FlagstaffError, InvalidDefinition, Refused
from server.core.guards.guards import Guard, Method, check_guard
from server.core.guards.machine import (
    ARROWS,
    Decision,
    Event,
    Happening,
    Order,
    Progress,
    State,
    next_at,
    started,
    step,
)
from server.core.guards.policies import (
    Aim,
    Mode,
    Policy,
    Reach,
    ReachKind,
    Reaction,
    Trigger,
    TriggerKind,
    check_policy,
)
from server.core.guards.verdicts import Verdict

NOW: Final = datetime(2026, 11, 25, 10, 42, tzinfo=UTC)
FLAG: Final = Reach(ReachKind.FLAG, "checkout")
ERRORS: Final = Trigger(TriggerKind.METRIC, "errors")
ALERT: Final = Trigger(TriggerKind.SIGNAL, "alert")
BEAT: Final = Trigger(TriggerKind.HEARTBEAT, "probe", within_s=60)
EXPIRY: Final = Trigger(TriggerKind.EXPIRY, at=NOW + timedelta(hours=1))
DEADLINE: Final = Trigger(TriggerKind.DEADLINE, at=NOW + timedelta(minutes=30))
POLICY: Final = Policy("safe", "production", (ERRORS, ALERT), FLAG)
START: Final = started(Event(Happening.ARMED, NOW, revision=7))


def at(seconds: float) -> datetime:
    """An instant after the policy was armed."""
    return NOW + timedelta(seconds=seconds)


def judged(verdict: Verdict, seconds: float = 1, count: int | None = None, name: str = "errors") -> Event:
    """A guard was judged."""
    return Event(Happening.JUDGED, at(seconds), name, verdict, count, f"it is {verdict}")


def run(policy: Policy, *events: Event, progress: Progress = START) -> list[Decision]:
    """What a policy decides, one event after the other."""
    decisions: list[Decision] = []
    for event in events:
        decisions.append(step(policy, progress, event))
        progress = decisions[-1].progress
    return decisions


def orders(policy: Policy, *events: Event) -> list[Order | None]:
    """What a policy wants done."""
    return [each.order for each in run(policy, *events)]


FAIL, PASS, NO_DATA, ERROR = Verdict.FAIL, Verdict.PASS, Verdict.NO_DATA, Verdict.ERROR
BACK, FREEZE, WARN, RESUME = Order.ROLL_BACK, Order.FREEZE, Order.WARN, Order.RESUME


def test_a_breach_is_acted_on_at_once() -> None:
    """In the first judgement that says so, in the first second, by one observation."""
    (decision,) = run(POLICY, judged(FAIL, count=1))

    assert (BACK, 0, "it is fail", False) == (decision.order, decision.trigger, decision.text, decision.is_shadow)
    assert (State.COOLING, 7) == (decision.progress.state, decision.progress.anchor)


def test_a_signal_is_acted_on_at_once() -> None:
    """It needs no confirmation: whoever sends it is sure."""
    policy = replace(POLICY, confirm=5, confirm_of=5, exposures_min=10_000, duration_min_s=3_600)
    signal = Event(Happening.SIGNALLED, at(1), "alert", text="error budget burnt")

    assert [BACK] == orders(policy, signal)


def test_a_shadow_decides_the_same() -> None:
    """And says that it is one."""
    (decision,) = run(replace(POLICY, mode=Mode.SHADOW), judged(FAIL))

    assert (BACK, True) == (decision.order, decision.is_shadow)


@pytest.mark.parametrize(
    ("policy", "events", "expected"),
    [
        (POLICY, [judged(PASS), judged(FAIL, name="latency")], [None, None]),
        (POLICY, [Event(Happening.SIGNALLED, at(1), "other")], [None]),
        (replace(POLICY, confirm=2, confirm_of=3), [judged(FAIL), judged(PASS), judged(FAIL)], [None, None, BACK]),
        (replace(POLICY, confirm=2, confirm_of=2), [judged(FAIL), judged(PASS), judged(FAIL)], [None, None, None]),
        (replace(POLICY, confirm=2, confirm_of=2), [judged(FAIL), judged(NO_DATA), judged(FAIL)], [None, None, BACK]),
        (replace(POLICY, exposures_min=100), [judged(FAIL, count=99), judged(FAIL, count=100)], [None, BACK]),
        (replace(POLICY, exposures_min=100), [judged(FAIL)], [BACK]),
        (replace(POLICY, duration_min_s=60), [judged(FAIL, 59), judged(FAIL, 60)], [None, BACK]),
        (POLICY, [judged(NO_DATA)] * 9, [None] * 9),
        (POLICY, [judged(ERROR)] * 7, [None] * 4 + [WARN] + [None] * 2),
        (replace(POLICY, on_no_data=Reaction.ROLL_BACK, tolerated=1), [judged(NO_DATA)] * 2, [None, BACK]),
        (replace(POLICY, on_no_data=Reaction.FREEZE, tolerated=0), [judged(NO_DATA)], [FREEZE]),
        (
            replace(POLICY, on_no_data=Reaction.ROLL_BACK, tolerated=1),
            [judged(NO_DATA), judged(PASS), judged(NO_DATA), judged(ERROR), judged(NO_DATA)],
            [None] * 5,
        ),
        (POLICY, [judged(FAIL), judged(FAIL, 2), Event(Happening.SIGNALLED, at(3), "alert")], [BACK, None, None]),
        (POLICY, [judged(FAIL), Event(Happening.TICKED, at(301)), judged(FAIL, 302)], [BACK, None, BACK]),
        (POLICY, [Event(Happening.DISARMED, at(1)), judged(FAIL, 2)], [None, None]),
        (
            POLICY,
            [Event(Happening.DISARMED, at(1)), Event(Happening.ARMED, at(2)), judged(FAIL, 3)],
            [None, None, BACK],
        ),
    ],
)
def test_what_is_done(policy: Policy, events: Sequence[Event], expected: Sequence[Order | None]) -> None:
    """The table of what is done when."""
    assert list(expected) == orders(policy, *events)


def test_an_expiry_is_acted_on_at_its_instant() -> None:
    """Once, also while the policy cools down, and not before."""
    policy = replace(POLICY, triggers=(EXPIRY, ERRORS))
    early, breach, due, again = run(
        policy,
        Event(Happening.TICKED, at(3_599)),
        judged(FAIL, 3_599),
        Event(Happening.TICKED, at(3_600)),
        Event(Happening.TICKED, at(3_601)),
    )

    assert EXPIRY.at == next_at(policy, START)
    assert [None, BACK, BACK, None] == [each.order for each in (early, breach, due, again)]
    assert "expired, 2026-11-25 11:42 UTC" == due.text


@pytest.mark.parametrize(("unfinished", "expected"), [(True, BACK), (False, None)])
def test_a_deadline_asks_whether_the_release_is_complete(unfinished: bool, expected: Order | None) -> None:
    """One that is complete by then is left alone."""
    policy = replace(POLICY, triggers=(DEADLINE,))
    (decision,) = run(policy, Event(Happening.TICKED, at(1_800), unfinished=unfinished))

    assert expected is decision.order
    assert next_at(policy, replace(decision.progress, cooling_until=None)) is None


def test_a_missing_heartbeat_is_acted_on_once() -> None:
    """Until the next one it is known to be missing; then it counts again."""
    policy = replace(POLICY, triggers=(BEAT,), cool_down_s=10)
    beat, tick = Happening.BEAT, Happening.TICKED
    decisions = run(
        policy,
        Event(beat, at(30), "probe"),
        Event(tick, at(89)),
        Event(tick, at(90)),
        Event(tick, at(100)),
        Event(tick, at(500)),
        Event(beat, at(501), "probe"),
        Event(tick, at(561)),
    )

    assert [None, None, BACK, None, None, None, BACK] == [each.order for each in decisions]
    assert "no heartbeat 'probe' for 60 s" == decisions[2].text
    assert [at(90), at(90), at(100), None] == [next_at(policy, each.progress) for each in decisions[:4]]


def test_what_was_taken_back_comes_again_when_that_is_asked_for() -> None:
    """After the cool-down and as many passes in a row as confirm a breach."""
    policy = replace(POLICY, auto_resume=True, confirm=1, confirm_of=2, cool_down_s=60)
    decisions = run(
        policy,
        judged(FAIL, 1),
        judged(PASS, 10),
        judged(FAIL, 20),
        Event(Happening.TICKED, at(61)),
        judged(PASS, 70),
        judged(PASS, 80),
    )

    assert [BACK, None, None, None, None, RESUME] == [each.order for each in decisions]
    assert State.ARMED is decisions[-1].progress.state


def test_a_resolved_signal_lets_it_come_again() -> None:
    """At once after the cool-down, and at its end when it was resolved before."""
    policy = replace(POLICY, auto_resume=True, cool_down_s=60)
    signal = Event(Happening.SIGNALLED, at(1), "alert")
    late = orders(policy, signal, Event(Happening.TICKED, at(61)), Event(Happening.RESOLVED, at(70), "alert"))
    early = orders(policy, signal, Event(Happening.RESOLVED, at(10), "alert"), Event(Happening.TICKED, at(61)))

    assert [BACK, None, RESUME] == late
    assert [BACK, None, RESUME] == early


EVENTS: Final = st.builds(
    Event,
    st.sampled_from(Happening),
    st.integers(0, 5_000).map(at),
    st.sampled_from(["errors", "alert", "probe", "other"]),
    st.none() | st.sampled_from(Verdict),
    st.none() | st.integers(0, 1_000),
    st.just("text"),
    st.integers(0, 9),
    st.booleans(),
)
POLICIES: Final = st.builds(
    replace,
    st.just(replace(POLICY, triggers=(ERRORS, ALERT, BEAT, EXPIRY, DEADLINE))),
    mode=st.sampled_from(Mode),
    confirm=st.integers(1, 3),
    confirm_of=st.integers(3, 4),
    exposures_min=st.sampled_from([0, 100]),
    on_no_data=st.sampled_from(Reaction),
    on_error=st.sampled_from(Reaction),
    on_inconclusive=st.sampled_from(Reaction),
    tolerated=st.integers(0, 2),
    auto_resume=st.booleans(),
)


def followed(policy: Policy, events: Sequence[Event]) -> list[Decision]:
    """What is decided of those events that can happen."""
    progress, decisions = START, list[Decision]()
    for event in events:
        if (progress.state, event.happening) in ARROWS:
            decisions.append(step(policy, progress, event))
            progress = decisions[-1].progress
    return decisions


@given(POLICIES, st.lists(EVENTS, max_size=30))
def test_no_step_leaves_the_table(policy: Policy, events: Sequence[Event]) -> None:
    """What is not in it is refused, and what is leads where it says."""
    progress = START
    for event in events:
        allowed = ARROWS.get((progress.state, event.happening))
        if allowed is None:
            with pytest.raises(Refused):
                step(policy, progress, event)
            continue
        before, progress = progress, step(policy, progress, event).progress
        assert progress.state in allowed
        assert progress.step_count == before.step_count + 1


@given(POLICIES, st.lists(EVENTS, max_size=30))
def test_what_was_decided_is_decided_again(policy: Policy, events: Sequence[Event]) -> None:
    """From what was kept of the events, written and read back."""
    kept = [read_value(Event, write_value(event)) for event in events]

    assert followed(policy, events) == followed(policy, kept)


@given(POLICIES, st.lists(EVENTS, max_size=30))
def test_a_shadow_only_differs_in_what_is_done(policy: Policy, events: Sequence[Event]) -> None:
    """It goes through the same states for the same reasons."""
    shadow = followed(replace(policy, mode=Mode.SHADOW), events)
    enforced = followed(replace(policy, mode=Mode.ENFORCE), events)

    assert [(each.order, each.text, each.progress.state) for each in enforced] == [
        (each.order, each.text, each.progress.state) for each in shadow
    ]
    assert all(each.is_shadow for each in shadow if each.order in (Order.ROLL_BACK, Order.RESUME))


@given(POLICIES, st.lists(EVENTS, max_size=20), st.integers(0, 1_000))
def test_nothing_but_its_own_wish_delays_a_breach(policy: Policy, events: Sequence[Event], seconds: int) -> None:
    """An armed policy that asks for no confirmation acts on the first failure, whatever happened before."""
    eager = replace(policy, confirm=1, exposures_min=0)
    decisions = followed(eager, events)
    progress = decisions[-1].progress if decisions else START
    decision = step(eager, progress, judged(FAIL, seconds, count=1)) if progress.state is State.ARMED else None

    assert decision is None or decision.order is Order.ROLL_BACK


@given(POLICIES, st.lists(EVENTS, max_size=20))
def test_time_comes_to_an_end(policy: Policy, events: Sequence[Event]) -> None:
    """Ticks at the instants that the policy asks for never ask for the same for ever."""
    decisions = followed(policy, events)
    progress, now = (decisions[-1].progress if decisions else START), at(6_000)
    for _ in range(12):
        progress = step(policy, progress, Event(Happening.TICKED, now)).progress
    due = next_at(policy, progress)

    assert due is None or due > now


@given(POLICIES, st.lists(EVENTS, max_size=20))
def test_progress_is_kept_whole(policy: Policy, events: Sequence[Event]) -> None:
    """Written as JSON and read back."""
    for each in followed(policy, events):
        assert each.progress == read_value(Progress, write_value(each.progress))
    assert policy == read_value(Policy, write_value(policy))


GUARD: Final = Guard("errors", "production", metric="errors", high=0.05)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"key": "No"}, "/key: 'No' cannot be used; use 1 to 64 of a-z, 0-9, dot, underscore and hyphen, beginning"),
        ({"metric": ""}, "/metric: name a metric, or a provider with a query, and not both"),
        ({"provider": "prom"}, "/metric: name a metric, or a provider with a query, and not both"),
        ({"metric": "", "provider": "prom"}, "/query: a provider needs a query"),
        ({"query": "up"}, "/query: a query is for a provider; a metric of our own has none"),
        ({"variant": "on"}, "/flag: variants are a flag's: name the flag"),
        ({"method": Method.RATIO_TO_CONTROL}, "/control_variant: a ratio to the control needs a control"),
        ({"high": None}, "/high: without a limit nothing ever fails; give low, high or both"),
        ({"low": 0.1}, "/low: is 0.1, above high, 0.05: nothing would ever pass"),
        ({"high": float("nan")}, "/high: must be a number"),
        ({"margin": 1.0}, "/margin: is 0 or more, and for ratios to a control"),
        ({"interval_s": 0.5}, "/interval_s: is 0.5, expected 1 to 2.592e+06 seconds"),
        ({"sample_min": -1}, "/sample_min: is -1, expected 0 or more"),
    ],
)
def test_a_guard_is_checked(changes: dict[str, Any], expected: str) -> None:
    """Everything that is wrong with it, by path."""
    check_guard(GUARD)
    with pytest.raises(InvalidDefinition) as caught:
        check_guard(replace(GUARD, **changes))

    assert str(caught.value).startswith(expected)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"triggers": ()}, "/triggers: are 0, expected 1 to 20"),
        ({"triggers": (Trigger(TriggerKind.EXPIRY),)}, "/triggers/0/at: a expiry trigger needs an instant"),
        ({"triggers": (Trigger(TriggerKind.METRIC),)}, "/triggers/0/name: a metric trigger needs a name"),
        ({"triggers": (replace(BEAT, within_s=0),)}, "/triggers/0/within_s: is 0, expected 1 to 2.592e+06 seconds"),
        ({"reach": Reach(ReachKind.FLAG)}, "/reach/key: names the flag, 1 to 256 characters"),
        ({"reach": Reach(ReachKind.RULE, "a")}, "/reach/rule: names the rule where one rule is reached"),
        ({"reach": Reach(ReachKind.ENVIRONMENT, "a")}, "/reach/key: the policy's environment is meant"),
        ({"confirm": 3, "confirm_of": 2}, "/confirm: are 3 of 2, expected some of as many or more, at most 100"),
        ({"cool_down_s": -1}, "/cool_down_s: is -1, expected 0 to 2.592e+06 seconds"),
        ({"step": 2}, "/step: is for the aim `step`"),
        ({"aim": Aim.FREEZE, "reach": Reach(ReachKind.RULE, "a", "b")}, "/aim: a release goes back or stands still"),
    ],
)
def test_a_policy_is_checked(changes: dict[str, Any], expected: str) -> None:
    """Everything that is wrong with it, by path."""
    check_policy(POLICY)
    with pytest.raises(FlagstaffError) as caught:
        check_policy(replace(POLICY, **changes))

    assert str(caught.value).startswith(expected)
