"""Laws of releases: what holds whatever happens to them, in whatever order."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.change_requests.codec import read_value, write_value
from server.core.changes import apply_all
from server.core.environments import Environment
from server.core.errors import Refused
from server.core.flags import FlagDefinition, Share
from server.core.flagsets import FlagSet
from server.core.guards.verdicts import Verdict
from server.core.releases.checking import plan_problems
from server.core.releases.codec import read_event, replay, write_event
from server.core.releases.foretelling import Foresight, coming
from server.core.releases.gates import APPROVAL, gates_of
from server.core.releases.machine import step
from server.core.releases.patches import content_of_move
from server.core.releases.plan import Check, Gates, Plan, Policy
from server.core.releases.progress import (
    ARROWS,
    ENDED,
    LIVE,
    Act,
    Command,
    Event,
    Happening,
    Judged,
    Progress,
    Release,
    Revised,
    State,
    Tick,
)
from server.core.releases.timing import next_at, projected_end
from server.core.releases.walking import Direction, Move, Told
from tests.laws.releasing import NOW, Went, events, happenings, new, plans, walked
from tests.laws.sizes import tried
from tests.store.definitions import flag


@tried(40, long=2_000)
@given(plans(), happenings)
def test_no_way_leaves_the_table(plan: Plan, happens: list[tuple[int, Event]]) -> None:
    """Whatever happens in whatever order: each thing that is told is an arrow of the table."""
    for went in walked(plan, happens):
        state = went.before.progress.state
        for told in went.outcome.told:
            state = ARROWS[state, told.happening]

        assert state is went.outcome.release.progress.state


@tried(40, long=2_000)
@given(plans(), happenings)
def test_what_was_decided_is_decided_again(plan: Plan, happens: list[tuple[int, Event]]) -> None:
    """From the events that made a difference, as they are stored, come the same states, moves and words."""
    way = [went for went in walked(plan, happens) if went.outcome.release is not went.before]
    stored = json.loads(json.dumps([[write_event(went.event), went.at.isoformat()] for went in way]))
    read = [(read_event(event), went.at) for (event, _), went in zip(stored, way, strict=True)]

    assert [went.outcome for went in way] == replay(new(plan), read)


@tried(40, long=2_000)
@given(plans(), happenings)
def test_progress_and_plan_are_read_back_as_they_were(plan: Plan, happens: list[tuple[int, Event]]) -> None:
    """Every one that there is survives being stored."""
    for went in walked(plan, happens):
        release = went.outcome.release
        for type_, value in ((Plan, release.plan), (Progress, release.progress)):
            assert value == read_value(type_, json.loads(json.dumps(write_value(value))))


@tried(40, long=2_000)
@given(plans(), happenings)
def test_nothing_is_told_twice(plan: Plan, happens: list[tuple[int, Event]]) -> None:
    """When all that is due has been decided, the same instant decides nothing more."""
    for went in walked(plan, happens):
        again = step(went.outcome.release, Tick("still"), went.at)

        assert () == again.told or (isinstance(went.event, Tick) is False and went.outcome.release.progress.retry_at)


@tried(40, long=2_000)
@given(plans(), happenings)
def test_people_are_asked_last(plan: Plan, happens: list[tuple[int, Event]]) -> None:
    """Nobody is asked to approve a step while another of its gates does not hold."""
    for went in walked(plan, happens):
        for told in went.outcome.told:
            if told.happening is Happening.APPROVAL_ASKED:
                assert all(gate.holds for gate in told.gates if gate.kind != APPROVAL)
                assert not all(gate.holds for gate in told.gates)


@tried(40, long=2_000)
@given(plans(), happenings)
def test_catching_up_passes_no_gate(plan: Plan, happens: list[tuple[int, Event]]) -> None:
    """However late: what leaves a step by itself leaves one whose gates hold, and one that only time holds at most."""
    for went in walked(plan, happens):
        for told in went.outcome.told:
            if told.happening in (Happening.ADVANCED, Happening.COMPLETED) and not told.actor:
                assert all(gate.holds for gate in told.gates)
                passed = went.before.plan.steps[told.from_step + 1 : told.to_step]
                assert all(each.gates.only_time for each in passed)


@tried(40, long=2_000)
@given(plans(), st.integers(0, 40_000))
def test_one_late_look_ends_where_many_end(plan: Plan, seconds: int) -> None:
    """Looking once after a downtime leads as far as looking each half minute, where only time is asked for."""
    only_time = tuple(replace(each, gates=Gates(each.gates.minimum_s)) for each in plan.steps)
    plain = replace(plan, steps=only_time, start_approvals=0, starts_at=None, cutoff_at=None, deadline=None)
    begun = step(new(plain), Command(Act.START, "ann"), NOW).release
    often, late = begun, step(begun, Tick(), NOW + timedelta(seconds=seconds))
    for second in [*range(0, seconds, 30), seconds]:
        often = step(often, Tick(), NOW + timedelta(seconds=second)).release

    assert often.progress.step == late.release.progress.step
    assert len([each for each in late.told if each.happening is Happening.ADVANCED]) <= 1


@tried(40, long=2_000)
@given(plans(), happenings)
def test_a_breach_takes_back_at_once(plan: Plan, happens: list[tuple[int, Event]]) -> None:
    """While a release lives, no timer, sample or approval delays a roll-back that a check asks for."""
    strict = tuple(
        replace(each, gates=replace(each.gates, checks=(Check("errors"),), minimum_s=3600.0, approvals=1))
        for each in plan.steps
    )
    same_plan = [each for each in happens if not isinstance(each[1], Revised)]
    for went in walked(replace(plan, steps=strict), same_plan):
        release = went.outcome.release
        if release.progress.state in LIVE:
            after = step(release, Judged("errors", Verdict.FAIL, "0.2 is above 0.1"), went.at)
            ends = {told.happening for told in after.told} & {Happening.ROLLED_BACK, Happening.HELD}
            assert ends or after.release.progress.state in (State.HELD, State.ROLLED_BACK)


@tried(40, long=2_000)
@given(plans(), happenings)
def test_steps_only_go_up_unless_somebody_goes_back(plan: Plan, happens: list[tuple[int, Event]]) -> None:
    """A move forward goes to a later step; what goes back says so."""
    back = {Happening.ROLLED_BACK, Happening.JUMPED, Happening.RESTARTED}
    for went in walked(plan, happens):
        before, after = went.before.progress.step, went.outcome.release.progress.step
        told = {each.happening for each in went.outcome.told}
        assert after >= before or told & back
        move = went.outcome.move
        assert (move is None) or (move.to_step == after)
        if move is not None and move.direction is Direction.FORWARD:
            assert move.from_step == before < move.to_step


@tried(40, long=2_000)
@given(plans(), happenings)
def test_a_step_begins_without_approvals(plan: Plan, happens: list[tuple[int, Event]]) -> None:
    """An approval is for the step where it was given."""
    for went in walked(plan, happens):
        if went.outcome.release.progress.step != went.before.progress.step:
            assert () == went.outcome.release.progress.step_approvals
        if {each.happening for each in went.outcome.told} & {Happening.REVISED}:
            assert not went.outcome.release.progress.start_approvals


@tried(40, long=2_000)
@given(plans(), happenings)
def test_time_is_looked_at_in_time(plan: Plan, happens: list[tuple[int, Event]]) -> None:
    """Before the next instant that is named, time alone changes nothing; and when it would end is never earlier."""
    for went in walked(plan, happens):
        release = went.outcome.release
        if isinstance(went.event, Tick) and not went.event.lacking:
            due = next_at(release, went.at, judged_every_s=10.0)
            until = went.at + timedelta(seconds=9) if due is None else min(due, went.at + timedelta(hours=9))
            assert () == step(release, Tick(), until - timedelta(milliseconds=1)).told
            assert due is None or due > went.at
        ends = projected_end(release, went.at).at
        assert ends is None or ends >= went.at


RULE: Mapping[str, Any] = {"id": "beta", "serve": "on", "share": {"percent": 0, "salt": "own"}}


def _flag_set(definition: FlagDefinition) -> FlagSet:
    return FlagSet(Environment("shop", "production"), {definition.key: definition}, {})


def _shares(plan: Plan, way: list[Went], by_hand: Mapping[int, int]) -> Iterator[tuple[Move, Share, Share]]:
    """Each move, with the share before and after it; `by_hand` widens it meanwhile, beside the release."""
    anchor = flag(rules=[RULE])
    flag_set = _flag_set(anchor)
    subject = ("production", "checkout")
    for index, went in enumerate(way):
        definition = flag_set.flags["checkout"]
        share = definition.config.rules[0].share
        assert share is not None
        wider = replace(share, parts=max(share.parts, by_hand.get(index, 0)))
        rule = replace(definition.config.rules[0], share=wider)
        definition = replace(definition, config=replace(definition.config, rules=(rule,)))
        flag_set = _flag_set(definition)
        move = went.outcome.move
        if move is None:
            continue
        content = content_of_move(
            went.outcome.release.plan,
            move,
            anchors={subject: anchor},
            current={subject: definition},
            was_off=went.before.progress.was_off,
            sight=Foresight(went.at, coming(went.outcome.release)),
        )
        for part in content.parts:
            flag_set, _ = apply_all(flag_set, part.changes)
        after = flag_set.flags["checkout"].config.rules[0].share
        assert after is not None
        yield move, wider, after
        if move.direction is Direction.SET and move.to_step == -1:
            assert replace(flag_set.flags["checkout"], config=replace(flag_set.flags["checkout"].config)) == anchor


@tried(40, long=2_000)
@given(plans(), happenings, st.dictionaries(st.integers(0, 24), st.integers(0, 100_000), max_size=3))
def test_nobody_is_put_out_but_by_going_back(
    plan: Plan, happens: list[tuple[int, Event]], by_hand: Mapping[int, int]
) -> None:
    """Shares grow with each step forward, also where somebody widened them by hand; salts are for ever."""
    for move, before, after in _shares(plan, walked(plan, happens), by_hand):
        assert before.salt == after.salt == "own"
        if move.direction is not Direction.SET:
            assert after.parts >= before.parts


@tried(40, long=2_000)
@given(plans())
def test_drawn_plans_are_sound(plan: Plan) -> None:
    """So that what the laws are about is what a service accepts."""
    assert [] == [each for each in plan_problems(plan) if "minimum sample" not in each.message]


@tried(40, long=2_000)
@given(plans(), happenings, events)
def test_the_end_is_the_end(plan: Plan, happens: list[tuple[int, Event]], event: Event) -> None:
    """What has ended moves only where somebody takes it back or begins it anew."""
    for went in walked(plan, happens):
        if went.outcome.release.progress.state in ENDED:
            try:
                after = step(went.outcome.release, event, went.at)
            except Refused:
                continue
            allowed = {Act.ROLL_BACK, Act.RESTART}
            assert after.told == () or (isinstance(event, Command) and event.act in allowed)


def test_every_state_is_reached_and_left() -> None:
    """The table has no dead ends but the ends."""
    assert set(State) == {state for state, _ in ARROWS} and set(State) == set(ARROWS.values())
    assert {told for _, told in ARROWS} == set(Happening) - {Happening.CREATED}


def _told(*all_told: Told) -> list[Happening]:
    return [each.happening for each in all_told]


@pytest.mark.parametrize(
    ("verdict", "limit", "policy", "ends"),
    [
        (Verdict.FAIL, 0, Policy.ROLL_BACK, State.ROLLED_BACK),
        (Verdict.FAIL, 1, Policy.ROLL_BACK, State.RUNNING),
        (Verdict.FAIL, 0, Policy.HOLD, State.RUNNING),
        (Verdict.FAIL, 0, Policy.WARN, State.COMPLETED),
        (Verdict.NO_DATA, 0, Policy.ADVANCE, State.COMPLETED),
        (Verdict.ERROR, 0, Policy.ROLL_BACK, State.ROLLED_BACK),
        (Verdict.INCONCLUSIVE, 0, Policy.HOLD, State.RUNNING),
        (Verdict.PASS, 0, Policy.ROLL_BACK, State.COMPLETED),
    ],
)
def test_a_verdict_has_its_own_limit_and_policy(verdict: Verdict, limit: int, policy: Policy, ends: State) -> None:
    """What is done about it is said for each kind of verdict."""
    from server.core.releases.plan import Patch, Reaction, Step

    reaction = Reaction(policy, limit)
    check = Check("errors", reaction, reaction, reaction, reaction)
    plan = Plan("p", (Step((Patch("production", "checkout", "beta", share_parts=1),), Gates(checks=(check,))),))
    running = step(new(plan), Command(Act.START, "ann"), NOW).release
    judged = step(running, Judged("errors", verdict), NOW)

    assert ends is judged.release.progress.state
    assert (Happening.WARNED in _told(*judged.told)) == (policy is Policy.WARN and verdict is not Verdict.PASS)
    assert gates_of(Release(plan, running.progress), NOW)
