"""A breach takes flags back in the transaction that judges it, and everything that was said is kept."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import Engine, select

from server.core.access import Action, Grant, Principal, Role
from server.core.changes import PutFlag, UpdateEnvironment
from server.core.edits import RemoveRule, SetEnabled
from server.core.environments import ApprovalPolicy, FreezeWindow
from server.core.errors import FlagstaffError, InvalidRequest, NotFound, PermissionDenied, Refused
from server.core.guards.guards import Guard, Method
from server.core.guards.machine import Event, Happening, State, step
from server.core.guards.policies import Aim, Mode, Policy, Reach, ReachKind, Reaction, Trigger, TriggerKind
from server.core.guards.verdicts import Arm, Summary, Verdict
from server.core.metrics.batches import Batch, Series
from server.core.metrics.metrics import Metric, MetricKind
from server.operations.freezes import permit_unless_frozen
from server.operations.guards.judging import Judging, latest
from server.operations.guards.managing import Guards
from server.operations.metrics import Metrics, Observing
from server.operations.writes import Outcome, Write, Writer
from server.store import tables
from server.store.audit import list_entries, verify_chain
from server.store.engine import reading
from server.store.guard_evaluations import Evaluation
from tests.store.definitions import NOW, flag, new_shop, put, stored

EDITOR: Final = Principal("token:editor", (Grant(Role.EDIT),))
OPERATOR: Final = Principal("token:operator", (Grant(Role.OPERATE),))
ERRORS: Final = Guard("errors", "production", metric="errors", flag="checkout", variant="on", high=0.05)
ON_ERRORS: Final = Trigger(TriggerKind.METRIC, "errors")
ON_ALERT: Final = Trigger(TriggerKind.SIGNAL, "alert")
POLICY: Final = Policy("safe", "production", (ON_ERRORS, ON_ALERT), Reach(ReachKind.FLAG, "checkout"))
RULED: Final = flag(
    rules=[{"id": "beta", "serve": "on", "share": {"percent": 10}}], metadata={"team": "shop"}, tags=["sale"]
)


@dataclass
class Fake:
    """A provider whose answers the test gives."""

    answers: list[Summary] = field(default_factory=list)

    def names(self) -> Sequence[str]:
        """One."""
        return ["prom"]

    def measure(self, guards: Sequence[Guard], *, now: datetime) -> list[Summary]:
        """What was given, in order."""
        return [self.answers.pop(0) for _ in guards]


@dataclass
class House:
    """Guards over a shop, at an instant that the test moves."""

    engine: Engine
    now: datetime = NOW
    who: dict[str, Principal] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.provider = Fake()
        writer = Writer(self.engine, [permit_unless_frozen], self.who.get)
        self.guards = Guards(writer, self.provider)
        self.judging = Judging(self.engine, writer, lambda: self.now, self.provider)
        self.observing = Observing(self.engine, lambda: self.now, self.judging.observed)
        self.sequence = 0

    def write(self, by: Principal = EDITOR, **more: Any) -> Write:
        """Somebody asks."""
        return Write(by, Action.EDIT, self.now, **more)

    def make(self, guard: Guard = ERRORS, policy: Policy = POLICY) -> None:
        """A guard and a policy that waits for it."""
        self.guards.create_guard("shop", guard, self.write())
        self.guards.create_policy("shop", policy, self.write())

    def observe(self, errors: int, requests: int, variant: str = "on") -> None:
        """Requests of a variant, some of which failed; the guards that watch them are judged."""
        self.sequence += 1
        series = Series("errors", [float(errors)], [float(requests)], "checkout", variant)
        self.observing.take([Batch("shop", "production", "web-1", self.sequence, [series])])
        self.later(0.3)

    def later(self, seconds: float) -> None:
        """Time passes, and what is due is done."""
        self.now += timedelta(seconds=seconds)
        self.judging.carry_on(self.now)

    def signal(self, happening: Happening = Happening.SIGNALLED, name: str = "alert", by: Principal = EDITOR) -> Any:
        """Somebody outside says something."""
        event = Event(happening, self.now, name, text="burning")
        return self.guards.signal("shop", "production", event, self.write(by))

    def evaluations(self, **wanted: Any) -> list[Evaluation]:
        """What was kept, the oldest first."""
        asked = {"guard": "", "policy": "", "before": None, "limit": 1_000, **wanted}
        return self.guards.evaluations("shop", **asked)[::-1]

    def outcomes(self) -> list[str]:
        """What came of what was said, the oldest first."""
        return [each.outcome for each in self.evaluations()]

    def events(self) -> list[str]:
        """Types of what was announced about guards, and of what happened to flags, in order."""
        with reading(self.engine) as connection:
            columns = tables.outbox.c
            found = connection.execute(select(columns.type).order_by(columns.sequence)).scalars().all()
        return [each for each in found if each.startswith(("guard.", "flag.updated"))]


def enabled(house: House, key: str = "checkout") -> bool:
    """Whether a flag is on, as it is stored."""
    with reading(house.engine) as connection:
        columns = tables.flag_configs.c
        query = select(columns.enabled).where(columns.key == key, columns.environment == "production")
        return bool(connection.execute(query).scalar_one())


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A shop with a flag and a metric."""
    engine = new_shop(tmp_path)
    put(engine, PutFlag(RULED), PutFlag(flag("banner", tags=["sale"])), PutFlag(flag("footer")))
    Metrics(engine).create("shop", Metric("errors", MetricKind.RATIO), Write(EDITOR, Action.EDIT, NOW))
    yield House(engine)
    engine.dispose()


def test_a_breach_switches_the_flag_off(house: House) -> None:
    """At once, by the observations that show it; audit and events tell why, in order."""
    house.make()
    house.observe(1, 100)
    house.observe(60, 100)

    assert not enabled(house)
    assert ["", "rolled_back"] == house.outcomes()
    assert ["guard.created", "guard.breached", "flag.updated", "guard.rolled_back"] == house.events()[-4:]
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


def test_changes_are_kept_apart_from_progress(house: House) -> None:
    """Who read a policy may change it although it went on meanwhile; a dry run changes nothing."""
    house.make()
    version = house.guards.policy("shop", "safe").version
    house.observe(0, 100)
    dry = house.guards.update_policy(
        "shop", "safe", lambda each: replace(each, cool_down_s=1), house.write(dry_run=True, expected_version=version)
    )
    real = house.guards.update_policy(
        "shop", "safe", lambda each: replace(each, cool_down_s=1), house.write(expected_version=version)
    )

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
