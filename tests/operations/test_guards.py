"""Everything that is said of a guard is kept, and moves the policies that wait for it."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from server.core.access import Grant, Principal, Role
from server.core.edits import SetEnabled
from server.core.errors import FlagstaffError, InvalidRequest, NotFound, PermissionDenied, Refused, StoreUnavailable
from server.core.guards.guards import Guard, Method
from server.core.guards.machine import Happening, State, step
from server.core.guards.policies import Policy, Reach, ReachKind, Reaction, Trigger, TriggerKind
from server.core.guards.verdicts import Arm, Summary, Verdict
from server.core.metrics.batches import Batch, Series
from server.operations.guards.judging import Judging, latest
from server.operations.metrics import Metrics
from server.operations.writes import Outcome
from server.store.engine import reading
from server.store.guards import read_guard
from tests.announced import announced
from tests.operations.guarding import ERRORS, POLICY, House, enabled
from tests.store.definitions import NOW, put


def test_what_was_judged_before_does_not_count_again(house: House) -> None:
    """A policy that is armed again looks at what is observed from then on."""
    house.make(policy=replace(POLICY, cool_down_s=30))
    house.observe(60, 100)
    house.later(31)
    put(house.engine, SetEnabled("checkout", True))
    house.later(11)
    house.observe(0, 100)

    assert enabled(house)
    assert State.ARMED is house.guards.policy("shop", "safe").progress.state
    assert Verdict.PASS is house.evaluations()[-1].event.verdict


@pytest.mark.parametrize("has_policy", [True, False])
def test_what_breached_is_told(house: House, has_policy: bool) -> None:
    """With the evaluation that led to it, whether or not a policy waits for it."""
    if has_policy:
        house.make()
    else:
        house.guards.create_guard("shop", ERRORS, house.write())
    house.observe(0, 100)
    house.observe(60, 100)
    (breach,) = [data for type_, data in announced(house.engine) if type_ == "guard.breached"]
    (kept,) = [each for each in house.evaluations() if each.event.verdict is Verdict.FAIL]

    assert (f"guard:errors#{kept.number}", kept.number) == (breach["cause"], breach["evaluation"])


def test_guards_are_judged_at_their_interval(house: House) -> None:
    """Also without observations: then there is no data, about which the policy says what is to be done."""
    house.make(policy=replace(POLICY, on_no_data=Reaction.ROLL_BACK, tolerated=1))
    house.later(1)
    with reading(house.engine) as connection:
        due = house.judging.next_at(connection)
    house.later(9)
    house.later(1)

    assert NOW + timedelta(seconds=11) == due
    assert [Verdict.NO_DATA, Verdict.NO_DATA] == [each.event.verdict for each in house.evaluations()]
    assert ["", "rolled_back"] == house.outcomes()


@pytest.mark.parametrize("begins_anew", [False, True])
def test_a_clock_that_is_set_back_makes_no_guard_wait(house: House, begins_anew: bool) -> None:
    """It is judged at its interval by the clock of now, also by a process that did not see it go back."""
    house.make()
    house.later(86_400)
    judged_count = len(house.evaluations())
    house.now -= timedelta(hours=23)
    if begins_anew:
        house.judging = Judging(house.engine, house.judging.writer, lambda: house.now, house.provider)
    with reading(house.engine) as connection:
        assert house.now == house.judging.next_at(connection)
    house.later(0)
    with reading(house.engine) as connection:
        due = house.judging.next_at(connection)

    assert judged_count + 1 == len(house.evaluations())
    assert house.now + timedelta(seconds=10) == due


def test_a_guard_is_not_judged_more_often_than_it_makes_sense(house: House) -> None:
    """A flood of observations is judged a few times a second, all of it."""
    house.make()
    house.later(0)
    for _ in range(10):
        house.sequence += 1
        series = Series("errors", [0.0], [1.0], "checkout", "on")
        house.observing.take([Batch("shop", "production", "web-1", house.sequence, [series])])
        house.later(0.05)
    house.later(0.25)

    assert 3 <= len(house.evaluations()) <= 5
    assert 10 == house.evaluations()[-1].event.sample_count


def test_a_regression_against_the_control_is_a_breach(house: House) -> None:
    """Both variants at the same time."""
    guard = replace(ERRORS, method=Method.RATIO_TO_CONTROL, high=1.5, control_variant="off")
    house.make(guard)
    house.observe(8, 100, "off")
    house.observe(11, 100)
    house.observe(30, 100)

    assert ["", "", "rolled_back"] == house.outcomes()
    assert [Verdict.NO_DATA, Verdict.PASS, Verdict.FAIL] == [each.event.verdict for each in house.evaluations()]


def test_providers_are_asked_outside_of_transactions(house: House) -> None:
    """What they answer is judged as anything is; an error is a verdict."""
    house.provider.answers = [Summary(Arm(0.01)), Summary(Arm(), error="503"), Summary(Arm(0.5))]
    house.make(Guard("errors", "production", provider="prom", query="errors", high=0.05))
    for _ in range(3):
        house.later(10)

    assert [Verdict.PASS, Verdict.ERROR, Verdict.FAIL] == [each.event.verdict for each in house.evaluations()]
    assert not enabled(house)
    with reading(house.engine) as connection:
        judged = latest(connection, "shop", "errors")
        assert judged is not None and 0.5 == judged.judgement.value
        assert latest(connection, "shop", "other") is None


def test_an_expiry_switches_off_at_its_instant(house: House) -> None:
    """And the clockwork is told of it."""
    at = NOW + timedelta(hours=1)
    house.later(0)
    house.guards.create_policy("shop", replace(POLICY, triggers=(Trigger(TriggerKind.EXPIRY, at=at),)), house.write())
    with reading(house.engine) as connection:
        due = house.judging.next_at(connection)
    house.later(3_599)
    before = enabled(house)
    house.later(1)

    assert (at, True, False) == (due, before, enabled(house))
    with reading(house.engine) as connection:
        assert house.now < (house.judging.next_at(connection) or NOW)


def test_a_missing_heartbeat_switches_off(house: House) -> None:
    """As long as it beats, nothing happens."""
    trigger = Trigger(TriggerKind.HEARTBEAT, "probe", within_s=60)
    house.guards.create_policy("shop", replace(POLICY, triggers=(trigger,)), house.write())
    for _ in range(3):
        house.later(50)
        house.signal(Happening.BEAT, "probe")
    before = enabled(house)
    house.later(60)

    assert (True, False) == (before, enabled(house))
    assert ["rolled_back"] == house.outcomes()


def test_what_was_decided_is_decided_again_from_what_was_kept(house: House) -> None:
    """Each step of a policy, replayed, has the same outcome."""
    house.make(policy=replace(POLICY, confirm=2, confirm_of=3, cool_down_s=5))
    start = house.guards.policy("shop", "safe")
    for errors in (0, 60, 0, 90, 90):
        house.observe(errors, 100)
    house.later(6)
    progress, replayed = start.progress, []
    for each in house.evaluations(policy="safe"):
        decision = step(start.policy, progress, each.event)
        progress = decision.progress
        replayed.append("rolled_back" if decision.order else "")

    assert [each.outcome for each in house.evaluations(policy="safe")] == replayed
    assert 1 == replayed.count("rolled_back")
    assert progress == house.guards.policy("shop", "safe").progress


def test_what_is_in_use_is_not_deleted(house: House) -> None:
    """A guard by a policy, a metric by a guard."""
    house.make()
    with pytest.raises(Refused, match="guard 'errors' is a trigger of: safe"):
        house.guards.delete_guard("shop", "errors", house.write())
    with pytest.raises(Refused, match="metric 'errors' is watched by guard errors"):
        Metrics(house.engine).delete("shop", "errors", house.write())
    house.guards.delete_policy("shop", "safe", house.write())
    house.guards.delete_guard("shop", "errors", house.write())
    Metrics(house.engine).delete("shop", "errors", house.write())


def test_changes_are_kept_apart_from_progress(house: House) -> None:
    """Who read a policy may change it although it went on meanwhile; a dry run changes nothing."""
    house.make()
    version = house.guards.policy("shop", "safe").version
    house.observe(0, 100)
    dry = house.guards.update_policy(
        "shop", "safe", {"cool_down_s": 1}, house.write(dry_run=True, expected_version=version)
    )
    real = house.guards.update_policy("shop", "safe", {"cool_down_s": 1}, house.write(expected_version=version))

    assert (Outcome.WOULD_APPLY, Outcome.APPLIED) == (dry.outcome, real.outcome)
    assert version + 1 == house.guards.policy("shop", "safe").version


@pytest.mark.parametrize(
    ("policy", "error", "message"),
    [
        (replace(POLICY, reach=Reach(ReachKind.FLAG, "x")), Refused, "flag 'x' is not in shop/production"),
        (replace(POLICY, reach=Reach(ReachKind.RULE, "checkout", "x")), Refused, "flag 'checkout' has no rule 'x'"),
        (replace(POLICY, environment="moon"), FlagstaffError, "environment 'shop/moon' does not exist"),
        (replace(POLICY, triggers=(Trigger(TriggerKind.METRIC, "x"),)), NotFound, "guard 'x' is not in project"),
        (
            replace(POLICY, triggers=(Trigger(TriggerKind.EXPIRY, at=NOW),)),
            InvalidRequest,
            "the expiry 2026-01-01T12:00:00+00:00 is past",
        ),
        (replace(POLICY, environment="staging", reach=Reach(ReachKind.ENVIRONMENT)), InvalidRequest, "guard 'errors'"),
    ],
)
def test_a_policy_that_could_do_nothing_is_refused(
    house: House, policy: Policy, error: type[Exception], message: str
) -> None:
    """When it is made, and not when it burns."""
    house.guards.create_guard("shop", ERRORS, house.write())
    with pytest.raises(error) as caught:
        house.guards.create_policy("shop", policy, house.write())

    assert str(caught.value).startswith(message)


def test_who_may_not_is_refused(house: House) -> None:
    """Neither to make one, nor to signal; and a name that nobody listens to is told."""
    reader = Principal("token:reader", (Grant(Role.READ),))
    with pytest.raises(PermissionDenied):
        house.guards.create_guard("shop", ERRORS, house.write(reader))
    with pytest.raises(PermissionDenied):
        house.signal(by=reader)
    with pytest.raises(NotFound, match="no roll-back policy of shop/production listens to the signal 'alert'"):
        house.signal()


def test_what_was_observed_is_judged_when_the_database_is_back(house: House, tmp_path: Path) -> None:
    """A breach is not forgotten because it could not be looked at."""
    guard = replace(ERRORS, interval_s=3_600.0)
    house.make(guard)
    house.later(0)
    series = Series("errors", [90.0], [100.0], "checkout", "on")
    house.observing.take([Batch("shop", "production", "web-1", 1, [series])])
    house.engine.dispose()
    away = {each: each.rename(each.with_suffix(each.suffix + ".away")) for each in tmp_path.glob("flagstaff.db*")}
    with pytest.raises(StoreUnavailable):
        house.later(1)
    for each, gone in away.items():
        each.unlink(missing_ok=True)
        gone.rename(each)
    house.later(1)

    assert not enabled(house)


def test_what_was_observed_while_another_process_judged_is_judged_at_once(house: House) -> None:
    """The other one may have summed up before it was there, and has taken the guard's turn."""
    house.make()
    house.later(0.3)
    with reading(house.engine) as connection:
        seen_before = read_guard(connection, "shop", "errors")
    other = Judging(house.engine, house.guards.writer, lambda: house.now)
    house.now += timedelta(seconds=seen_before.guard.interval_s)
    other.carry_on(house.now)
    series = Series("errors", [60.0], [100.0], "checkout", "on")
    house.observing.take([Batch("shop", "production", "web-1", 1, [series])])
    house.judging.judge_own([seen_before], house.now, {("shop", "production", "errors")})

    assert not enabled(house)
