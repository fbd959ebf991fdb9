"""A breach takes flags back in the transaction that judges it, and nothing holds it up."""

from dataclasses import replace
from datetime import timedelta

import pytest

from server.core.access import Grant, Principal, Role
from server.core.changes import PutFlag, UpdateEnvironment
from server.core.edits import RemoveRule, SetEnabled
from server.core.environments import ApprovalPolicy, FreezeWindow
from server.core.errors import NotFound
from server.core.guards.machine import Happening
from server.core.guards.policies import Aim, Mode, Reach, ReachKind, Trigger, TriggerKind
from server.core.guards.verdicts import Verdict
from server.core.releases.plan import Check, Gates, Plan
from server.core.releases.progress import Act
from server.operations.guards.releasing import judgements
from server.store.audit import list_entries, verify_chain
from server.store.engine import reading
from tests.announced import announced
from tests.operations.guarding import ERRORS, ON_ALERT, OPERATOR, POLICY, House, enabled
from tests.operations.launch_plans.planned import fill, make, usual
from tests.operations.releasing import Yard, share
from tests.store.definitions import NOW, flag, put, stored


def test_a_breach_switches_the_flag_off(house: House) -> None:
    """At once, by the observations that show it; audit and events tell why, in order."""
    house.make()
    house.observe(1, 100)
    house.observe(60, 100)

    assert not enabled(house)
    assert ["", "rolled_back"] == house.outcomes()
    assert ["guard.created", "guard.breached", "flag.disabled", "guard.rolled_back"] == house.events()[-4:]
    _, data = announced(house.engine)[-1]
    assert ("safe", "errors", "", "errors", 300.0) == (
        *(data["policy_id"], data["guard_id"], data["signal"], data["metric"], data["window_s"]),
    )
    assert data["value"] > data["threshold"] > 0
    with reading(house.engine) as connection:
        entry = next(each for each in list_entries(connection, project="shop") if each.action == "flag.updated")
        verify_chain(connection, project="shop")
    assert ("guard:safe", "guard:safe#2", "0.305 is above 0.05") == (entry.actor, entry.cause, entry.reason)
    last = house.evaluations()[-1]
    assert last.judgement is not None
    assert (Verdict.FAIL, 0.305, 0.05, 2) == (
        last.judgement.verdict,
        last.judgement.value,
        last.judgement.threshold,
        last.judgement.sample_count,
    )


def test_a_shadow_changes_nothing(house: House) -> None:
    """And says when it would have."""
    house.make(policy=replace(POLICY, mode=Mode.SHADOW))
    house.observe(60, 100)

    assert enabled(house)
    assert ["would_roll_back"] == house.outcomes()
    assert "would have rolled back at 2026-01-01 12:00 UTC: 0.6 is above 0.05" == house.evaluations()[0].text
    assert ["guard.breached", "guard.would_roll_back"] == house.events()[-2:]


def test_an_anchor_brings_back_what_was_there(house: House) -> None:
    """Rules, salts and all, as they were when the policy was armed."""
    before = stored(house.engine).flags["checkout"]
    house.make(policy=replace(POLICY, aim=Aim.ANCHOR))
    put(house.engine, PutFlag(flag(default="on", description="Wider")))
    house.signal()
    after = stored(house.engine).flags["checkout"]

    assert before is not None and after is not None
    assert before["rules"] == after["rules"]
    assert "Wider" == after["description"]


def test_an_anchor_stands_still(house: House) -> None:
    """What the clock would have moved on by itself since then stays as it was served."""
    steps = [{"at": "2026-01-01T12:00:00Z", "percent": 20}, {"at": "2026-01-01T13:00:00Z", "percent": 50}]
    rules = [
        {"id": "beta", "serve": "on", "share": {"percent": 10, "steps": steps}},
        {"id": "late", "serve": "on", "from": "2026-01-01T12:30:00Z"},
    ]
    put(house.engine, PutFlag(flag(rules=rules)))
    house.make(policy=replace(POLICY, aim=Aim.ANCHOR))
    house.later(7_200)
    house.signal()
    (rule,) = (stored(house.engine).flags["checkout"] or {})["rules"]

    assert ("beta", {"percent": 20}) == (
        rule["id"],
        {key: rule["share"][key] for key in rule["share"] if key != "salt"},
    )


def test_a_signal_has_acted_when_it_is_answered(house: House) -> None:
    """Also by somebody who may do nothing but that."""
    house.make()
    (told,) = house.signal(by=OPERATOR)

    assert ("safe", "rolled_back", "burning") == (told.policy, told.outcome, told.text)
    assert not enabled(house)
    assert "" == house.signal()[0].outcome


@pytest.mark.parametrize(
    ("reach", "off"),
    [
        (Reach(ReachKind.LABEL, "sale"), ["banner", "checkout"]),
        (Reach(ReachKind.ENVIRONMENT), ["banner", "checkout", "footer"]),
    ],
)
def test_many_flags_go_back_in_one_revision(house: House, reach: Reach, off: list[str]) -> None:
    """No client sees a part of it."""
    before = stored(house.engine).revision
    house.make(policy=replace(POLICY, reach=reach))
    house.signal()

    assert off == [key for key in ("banner", "checkout", "footer") if not enabled(house, key)]
    assert before + 1 == stored(house.engine).revision


def test_a_rule_goes_back_alone(house: House) -> None:
    """To a share of nothing; at its anchor also one that was taken away."""
    reach = Reach(ReachKind.RULE, "checkout", "beta")
    house.make(policy=replace(POLICY, reach=reach))
    undo = (Trigger(TriggerKind.SIGNAL, "undo"),)
    anchored = replace(POLICY, key="anchored", reach=reach, aim=Aim.ANCHOR, triggers=undo)
    house.guards.create_policy("shop", anchored, house.write())
    house.signal()
    shares = [rule["share"]["percent"] for rule in (stored(house.engine).flags["checkout"] or {})["rules"]]
    put(house.engine, RemoveRule("checkout", "beta"))
    house.signal(name="undo")
    after = [rule["share"]["percent"] for rule in (stored(house.engine).flags["checkout"] or {})["rules"]]

    assert ([0], [10]) == (shares, after)
    assert enabled(house)


def test_neither_approvals_nor_freezes_hold_a_roll_back(house: House) -> None:
    """What was served before was agreed to."""
    window = FreezeWindow(NOW - timedelta(days=1), NOW + timedelta(days=1), reason="Sale")
    house.make(policy=replace(POLICY, aim=Aim.ANCHOR))
    put(house.engine, PutFlag(flag(default="on")))
    put(house.engine, UpdateEnvironment(approval_policy=ApprovalPolicy(approvals=2), freeze_windows=(window,)))
    (told,) = house.signal()

    assert "rolled_back" == told.outcome
    assert (stored(house.engine).flags["checkout"] or {})["rules"]


def test_who_may_not_any_more_rolls_nothing_back(house: House) -> None:
    """It is told, and tried again soon."""
    house.make()
    house.who["token:editor"] = Principal("token:editor", (Grant(Role.READ),))
    (told,) = house.signal()
    del house.who["token:editor"]
    house.later(10)
    (again,) = house.signal()

    assert "roll_back_failed" == told.outcome
    assert "burning; token:editor may not kill in shop/production; it needs the role" in told.text
    assert "rolled_back" == again.outcome
    assert "guard.roll_back_failed" in house.events()


def test_what_was_taken_back_comes_again(house: House) -> None:
    """When that is asked for, once the signal is over; what somebody changed meanwhile is left as it is."""
    house.make(policy=replace(POLICY, auto_resume=True, cool_down_s=60, reach=Reach(ReachKind.LABEL, "sale")))
    house.signal()
    put(house.engine, SetEnabled("banner", True))
    put(house.engine, SetEnabled("banner", False))
    house.later(61)
    (told,) = house.signal(Happening.RESOLVED)

    assert ("resumed", "burning; changed meanwhile, and left as it is: banner") == (told.outcome, told.text)
    assert (True, False) == (enabled(house), enabled(house, "banner"))


def test_a_disarmed_policy_rests(house: House) -> None:
    """Armed again, it takes what is there then as its anchor."""
    house.make(policy=replace(POLICY, aim=Aim.ANCHOR))
    house.guards.set_armed("shop", "safe", False, house.write())
    quiet = house.signal()
    put(house.engine, PutFlag(flag(default="on")))
    armed = house.guards.set_armed("shop", "safe", True, house.write())
    house.signal()

    assert [""] == [each.outcome for each in quiet]
    assert stored(house.engine).revision == armed.stored.progress.anchor
    assert "on" == (stored(house.engine).flags["checkout"] or {})["default"]


@pytest.fixture
def yard(house: House) -> Yard:
    """Releases over the same shop."""
    return Yard(house.engine)


@pytest.mark.parametrize(
    ("aim", "percent", "state"),
    [
        (Aim.ANCHOR, 10.0, "rolled-back"),
        (Aim.OFF, 75.0, "rolled-back"),
        (Aim.FREEZE, 75.0, "held"),
        (Aim.STEP, 50.0, "rolled-back"),
    ],
)
def test_a_release_goes_back_as_a_whole(house: House, yard: Yard, aim: Aim, percent: float, state: str) -> None:
    """It knows where it began and holds its lock; what it does is what the policy aims at."""
    id = yard.started(Plan("Checkout", (share(50), share(75), share(100, Gates()))))
    yard.do(id, Act.ADVANCE)
    house.make(policy=replace(POLICY, aim=aim, step=int(aim is Aim.STEP)))
    (told,) = house.signal()
    (rule,) = (stored(house.engine).flags["checkout"] or {})["rules"]

    assert "rolled_back" == told.outcome
    assert f"burning; release {id} goes back" == told.text
    assert percent == rule["share"]["percent"]
    assert state == yard.stored(id).release.progress.state.value
    assert (aim is not Aim.OFF) == enabled(house)


def test_a_deadline_takes_back_what_still_runs(house: House, yard: Yard) -> None:
    """And nothing when no release runs any more."""
    deadlines = (Trigger(TriggerKind.DEADLINE, at=NOW + timedelta(minutes=10)),)
    house.guards.create_policy("shop", replace(POLICY, triggers=deadlines, aim=Aim.ANCHOR), house.write())
    id = yard.started(Plan("Checkout", (share(50), share(100, Gates()))))
    house.later(600)

    assert "rolled-back" == yard.stored(id).release.progress.state.value
    assert ["rolled_back"] == house.outcomes()


def test_a_release_is_looked_at_when_a_guard_fails(house: House, yard: Yard) -> None:
    """At once, and not when its step would ask the guard again."""
    house.guards.create_guard("shop", ERRORS, house.write())
    gates = Gates(minimum_s=3600.0, checks=(Check("errors"),))
    id = yard.started(Plan("Checkout", (share(50, gates), share(100, Gates()))))
    house.observe(60, 100)

    assert house.now >= yard.next_at()  # type: ignore[operator]  # There is one.
    assert "running" == yard.stored(id).release.progress.state.value


def test_a_release_hears_what_a_guard_said(house: House) -> None:
    """What it said since the step began, and where it watches."""
    house.make()
    house.observe(60, 100)
    with reading(house.engine) as connection:
        (said,) = judgements(connection, "shop", {("production", "errors"), ("production", "x")}, NOW)
        late = list(judgements(connection, "shop", {("production", "errors")}, house.now + timedelta(seconds=1)))
        elsewhere = list(judgements(connection, "shop", {("staging", "errors")}, NOW))

    assert ("errors", Verdict.FAIL, 0.6, 0.05) == (said.guard, said.verdict, said.value, said.threshold)
    assert [] == late == elsewhere


def test_a_launch_plan_s_flags_go_back_together(house: House) -> None:
    """Those that it is about in the policy's environment; a plan that there is not is told."""
    fill(house.engine)
    id = make(house.engine, usual())
    reach = Reach(ReachKind.PLAN, id)
    house.guards.create_policy("shop", replace(POLICY, triggers=(ON_ALERT,), reach=reach), house.write())
    house.signal()

    assert (False, False, True) == (*(enabled(house, key) for key in ("new-ui", "banner")), enabled(house, "checkout"))
    with pytest.raises(NotFound):
        gone = replace(POLICY, key="gone", triggers=(ON_ALERT,), reach=Reach(ReachKind.PLAN, "lp_x"))
        house.guards.create_policy("shop", gone, house.write())
