"""Releases as they are kept and moved: by people, by time, and back."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from server.core.changes import PutFlag, RemoveFlag, UpdateEnvironment
from server.core.edits import RemoveRule, ReplaceRule, SetEnabled
from server.core.environments import FreezeWindow
from server.core.errors import InvalidDefinition, NotFound, Refused
from server.core.flags import Prerequisite, Split
from server.core.guards.verdicts import Verdict
from server.core.releases.codec import replay
from server.core.releases.plan import BackTo, Check, External, Gates, Kind, Patch, Plan, Step, Target
from server.core.releases.progress import Act, Happening, Judged, State
from server.core.releases.recipes import Canary, Switched, blue_green_steps, canary_steps
from server.operations.releases.looking import agrees
from server.operations.writes import Outcome
from server.store.engine import writing
from tests.operations.protected import APPROVER, EDITOR, OPERATOR, ask, entries_of
from tests.operations.releasing import HOUR, PLAN, RULE, WAITS, Yard, open_yard, rule_of, share
from tests.store.definitions import NOW, flag, put


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    """Both environments have a flag whose rule lets nobody in yet."""
    yield from open_yard(tmp_path)


def test_it_goes_up_by_itself(yard: Yard) -> None:
    """A step when it is started, one when each step's time has passed, none early, and each told once."""
    id = yard.started()
    seen = [yard.percent()]
    for minutes in (59, 60, 60, 119, 120, 180):
        yard.pass_time(timedelta(minutes=minutes))
        seen.append(yard.percent())

    assert [1, 1, 10, 10, 10, 100, 100] == seen
    assert State.COMPLETED is yard.state(id)
    advanced = ["release.step_advanced"] * 2
    assert ["release.created", "release.started", *advanced, "release.completed"] == yard.told()
    assert [f"release:{id}"] * 2 + ["ann"] == [each.actor for each in entries_of_flags(yard)][:3]


def entries_of_flags(yard: Yard) -> Any:
    """The audit trail about flags, the newest first."""
    return entries_of(yard, "flag")  # type: ignore[arg-type]  # Only its engine is read.


def test_one_late_look_folds_what_only_time_held(yard: Yard) -> None:
    """After a downtime: one revision, which says from where to where."""
    id = yard.started(Plan("p", (share(1), share(5), share(10), share(50), share(100, Gates()))))
    before = len(entries_of_flags(yard))
    yard.pass_time(3.5 * HOUR)

    assert (50, 1) == (yard.percent(), len(entries_of_flags(yard)) - before)
    told = yard.events(id)[-1].told[-1]
    assert (Happening.ADVANCED, 0, 3) == (told.happening, told.from_step, told.to_step)
    assert NOW + 4 * HOUR == yard.next_at()


def test_the_log_gives_the_same_again(yard: Yard) -> None:
    """What came to it, put in again, leads to each decision and to the state that is stored."""
    yard.said = [Judged("errors", Verdict.PASS, "0.01 is within its limits", 0.01, 0.1, 500, "ev_1")]
    gates = Gates(minimum_s=60, checks=(Check("errors"),), approvals=1, externals=(External("ci"),))
    id = yard.started(Plan("p", (share(1, gates), share(10), share(100, Gates()))))
    yard.pass_time(timedelta(minutes=2))
    write = replace(ask(EDITOR), now=NOW + timedelta(minutes=3))
    yard.releases.answer(write, project="shop", id=id, name="ci", go=True)
    yard.do(id, Act.APPROVE, APPROVER, after=timedelta(minutes=4))
    yard.do(id, Act.ROLL_BACK, after=timedelta(minutes=5))
    first, *events = yard.events(id)
    assert first.release is not None
    again = replay(first.release, [(each.event, each.at) for each in events if each.event is not None])

    assert [(each.told, each.move) for each in events] == [(each.told, each.move) for each in again]
    assert yard.stored(id).release == again[-1].release
    assert [2, *range(3, len(events) + 2)] == [each.number for each in events]


def test_a_breach_takes_it_back(yard: Yard) -> None:
    """To what was there before, in the name of the release, with the guard as the cause; not by a minimum time."""
    put(yard.engine, PutFlag(flag(rules=[{"id": "beta", "serve": "on", "share": {"percent": 3}}])))
    gates = Gates(minimum_s=3600, checks=(Check("errors"),), approvals=2)
    id = yard.started(Plan("p", (share(5, gates), share(100, gates))))
    yard.said = [Judged("errors", Verdict.FAIL, "0.2 is above 0.1", 0.2, 0.1, 7, "guard:errors@9")]
    yard.pass_time(timedelta(seconds=5))
    entry = entries_of_flags(yard)[0]

    assert (3, State.ROLLED_BACK) == (yard.percent(), yard.state(id))
    assert (f"release:{id}", "guard:errors@9") == (entry.actor, entry.cause)
    assert "0.2 is above 0.1" in entry.reason
    assert "release.rolled_back" == yard.told()[-1]


def test_a_roll_back_touches_what_it_moved_and_nothing_else(yard: Yard) -> None:
    """What somebody changed beside it stays."""
    id = yard.started()
    put(yard.engine, PutFlag(replace(yard.flag(), flag=replace(yard.flag().flag, description="mine"))))
    yard.do(id, Act.ROLL_BACK)

    assert (0, "mine") == (yard.percent(), yard.flag().flag.description)


@pytest.mark.parametrize(
    ("target", "percent", "on"),
    [
        (Target(), 0, True),
        (Target(BackTo.STEP, 0), 1, True),
        (Target(BackTo.OFF), 10, False),
        (Target(BackTo.FREEZE), 10, True),
    ],
)
def test_where_a_roll_back_goes(yard: Yard, target: Target, percent: float, on: bool) -> None:
    """To the anchor, to a step that was served, off, or nowhere; a restart brings back what was on."""
    id = yard.started()
    yard.pass_time(HOUR)
    yard.do(id, Act.ROLL_BACK, target=target)

    assert (percent, on) == (yard.percent(), yard.flag().is_on)
    if target.to is not BackTo.FREEZE:
        yard.do(id, Act.RESTART)
        assert (1, True) == (yard.percent(), yard.flag().is_on)


def test_what_cannot_be_put_back_is_turned_off(yard: Yard) -> None:
    """A roll-back always ends in something that was safe."""
    put(yard.engine, PutFlag(flag("login")))
    put(
        yard.engine,
        PutFlag(
            replace(yard.flag(), config=replace(yard.flag().config, prerequisites=(Prerequisite("login", ("on",)),)))
        ),
    )
    none = Patch("production", "checkout", "", prerequisites=())
    id = yard.started(Plan("p", (Step((none,), Gates(manual=True)),)))
    put(yard.engine, RemoveFlag("login"))
    went = yard.do(id, Act.ROLL_BACK)

    assert not yard.flag().is_on
    assert "cannot be put back" in went.written.warnings[0]


def test_pausing_stops_the_time(yard: Yard) -> None:
    """What is left of a step is left when it goes on."""
    id = yard.started()
    yard.do(id, Act.PAUSE, after=0.5 * HOUR)
    yard.pass_time(5 * HOUR)
    yard.do(id, Act.RESUME, after=5 * HOUR)
    yard.pass_time(5.4 * HOUR)
    before = yard.percent()
    yard.pass_time(5.5 * HOUR)

    assert (1, 10) == (before, yard.percent())


def test_a_wider_share_by_hand_stays(yard: Yard) -> None:
    """A step forward takes nobody out whom somebody let in, and says whom it meets."""
    yard.started()
    rule = rule_of(yard.flag(), "beta")
    assert rule.share is not None
    wider = ReplaceRule("checkout", replace(rule, share=replace(rule.share, parts=30_000)))
    committed = put(yard.engine, wider)
    yard.pass_time(HOUR)

    assert 30 == yard.percent()
    assert "runs on flag checkout" in committed.warnings[0]


def test_it_begins_by_adding_units(yard: Yard) -> None:
    """A first step below what is let in already is refused when it is started."""
    put(yard.engine, PutFlag(flag(rules=[{"id": "beta", "serve": "on", "share": {"percent": 20}}])))
    with pytest.raises(Refused, match="lets in 20 % now, and the first step 1 %"):
        yard.started()

    assert (20, []) == (yard.percent(), [each for each in yard.told() if each == "release.started"])


def test_a_freeze_holds_it_up_but_not_back(yard: Yard) -> None:
    """A step waits for the end of the window; a roll-back does not."""
    id = yard.started()
    window = FreezeWindow(NOW + HOUR, NOW + 3 * HOUR, "Holidays")
    put(yard.engine, UpdateEnvironment(freeze_windows=(window,)))
    for minutes in range(60, 182, 1):
        yard.pass_time(timedelta(minutes=minutes))
        if minutes == 120:
            assert 1 == yard.percent()

    assert (100, 1) == (yard.percent(), yard.told().count("release.blocked"))
    yard.do(id, Act.ROLL_BACK, OPERATOR, after=2 * HOUR)
    assert 0 == yard.percent()


def test_a_flag_that_is_turned_off_pauses_its_release(yard: Yard) -> None:
    """Nobody widens what somebody has just killed."""
    id = yard.started()
    put(yard.engine, SetEnabled("checkout", False))
    yard.pass_time(HOUR)
    progress = yard.stored(id).release.progress

    assert (State.PAUSED, 1) == (progress.state, yard.percent())
    assert "turned off in production" in progress.note
    put(yard.engine, SetEnabled("checkout", True))
    yard.do(id, Act.RESUME, after=HOUR)
    assert 10 == yard.percent()


def test_what_somebody_took_away_is_told(yard: Yard) -> None:
    """A rule that is gone blocks the release, which says so."""
    id = yard.started()
    put(yard.engine, RemoveRule("checkout", "beta"))
    yard.pass_time(HOUR)

    assert "no rule 'beta'" in yard.stored(id).release.progress.blocked
    yard.do(id, Act.ROLL_BACK)
    assert State.ROLLED_BACK is yard.state(id)


@pytest.mark.parametrize(
    ("plan", "error", "words"),
    [
        (Plan("p", ()), InvalidDefinition, "expected 1 to 100"),
        (Plan("", (share(1),)), InvalidDefinition, "/name"),
        (Plan("p", (share(10), share(5))), InvalidDefinition, "/steps/1/patches/0/share: the share would shrink"),
        (Plan("p", (share(1, Gates(sample_min=5)),)), InvalidDefinition, "/steps/0/gates/sampleMin"),
        (Plan("p", (Step((Patch("production", "nope", "beta", share_parts=1),)),)), NotFound, "'nope'"),
        (Plan("p", (Step((Patch("production", "checkout", "nope", share_parts=1),)),)), NotFound, "'nope'"),
        (Plan("p", (Step((Patch("moon", "checkout", "beta", share_parts=1),)),)), NotFound, "moon"),
        (Plan("p", (share(1, serve="blue"),)), InvalidDefinition, "blue"),
        (Plan("p", (share(1),), back_to=Target(BackTo.STEP, 7)), InvalidDefinition, "no step 8"),
    ],
)
def test_a_plan_that_cannot_be_carried_out(yard: Yard, plan: Plan, error: type[Exception], words: str) -> None:
    """It is refused when it is drawn up, and names what is wrong."""
    with pytest.raises(error, match=words):
        yard.create(plan)

    assert [] == yard.told()


def test_a_dry_run_changes_nothing(yard: Yard) -> None:
    """It says what would be."""
    id = yard.create()
    went = yard.do(id, Act.START, dry_run=True)

    assert Outcome.WOULD_APPLY is went.written.outcome
    assert went.written.events["production"]
    assert (State.CREATED, 0) == (yard.state(id), yard.percent())


def test_a_canary_ends_with_everybody(yard: Yard) -> None:
    """Its control has a variant of its own, of the same value, in all environments; a roll-back leaves that there."""
    canary = Canary("production", "checkout", "on", "off", baseline_value=False)
    gates = Gates(minimum_s=3600)
    id = yard.started(Plan("c", canary_steps(canary, (1_000, 25_000, 50_000), gates=gates), Kind.CANARY))
    yard.pass_time(HOUR)
    split = yard.flag().config.default

    assert Split((("on", 25_000), ("off", 50_000), ("control", 25_000)), "checkout/default/split") == split
    assert {"on": True, "off": False, "control": False} == yard.flag(environment="staging").flag.variants
    yard.pass_time(3 * HOUR)
    assert ("on", State.COMPLETED) == (yard.flag().config.default, yard.state(id))
    yard.do(id, Act.ROLL_BACK)
    assert ("off", "control") == (yard.flag().config.default, list(yard.flag().flag.variants)[-1])


def test_blue_green_switches_all_at_once(yard: Yard) -> None:
    """A preview for some, one revision for all, a warm way back in one revision, and nothing left of the preview."""
    keys = ("blue-1", "blue-2", "blue-3")
    for key in keys:
        put(yard.engine, PutFlag(flag(key)))
    switched = [Switched("production", key, "on") for key in keys]
    steps = blue_green_steps(
        switched, {"==": [{"var": "beta"}, True]}, before=Gates(manual=True), after=Gates(minimum_s=600)
    )
    before = [yard.flag(key) for key in keys]
    id = yard.started(Plan("b", steps, Kind.BLUE_GREEN))
    assert {"preview"} == {yard.flag(key).config.rules[0].id for key in keys}
    went = yard.do(id, Act.ADVANCE)
    served = {yard.flag(key).config.default for key in keys}

    assert ({"on"}, 3) == (served, len(went.written.events["production"]))
    assert 1 == len({entry.revision for entry in entries_of_flags(yard)[:3]})
    back = yard.do(id, Act.ROLL_BACK, OPERATOR)
    assert 3 == len(back.written.events["production"])
    assert before == [yard.flag(key) for key in keys]


def test_several_environments_move_together(yard: Yard) -> None:
    """A step of both is one commit of both."""
    both = Step((*share(5).patches, *share(50, environment="staging").patches))
    went = yard.do(yard.create(Plan("p", (both,))), Act.START)

    assert {"production", "staging"} == set(went.written.revisions)
    assert (5, 50) == (yard.percent(), yard.percent("staging"))


def test_it_starts_at_its_time_and_is_cut_off(yard: Yard) -> None:
    """By itself; and what has to end by a date is turned off then, also when it is paused."""
    plan = replace(PLAN, starts_at=NOW + HOUR, cutoff_at=NOW + 4 * HOUR)
    id = yard.create(plan)
    yard.pass_time(0.9 * HOUR)
    assert State.CREATED is yard.state(id)
    yard.pass_time(HOUR)
    assert (State.RUNNING, 1) == (yard.state(id), yard.percent())
    yard.do(id, Act.PAUSE, after=HOUR)
    yard.pass_time(4 * HOUR)

    assert (State.ROLLED_BACK, False) == (yard.state(id), yard.flag().is_on)


def test_nothing_due_is_nothing_done(yard: Yard) -> None:
    """A look that finds nothing to do leaves no trace, and says when to look again."""
    yard.said = [Judged("errors", Verdict.INCONCLUSIVE, "", 0.0, 0.1, 3)]
    id = yard.started(Plan("p", (share(1, Gates(checks=(Check("errors"),))), share(100))))
    for second in range(5, 60, 5):
        yard.pass_time(timedelta(seconds=second))

    assert 3 == len(yard.events(id))
    assert NOW + timedelta(seconds=60) == yard.next_at()


def test_one_that_cannot_be_read_holds_up_no_other(yard: Yard) -> None:
    """Those that are due with it are moved all the same."""
    put(yard.engine, PutFlag(flag("other", rules=[RULE])))
    steps = (Step((Patch("production", "other", "beta", share_parts=parts),), WAITS) for parts in (1, 2))
    other = Plan("p", tuple(steps))
    damaged, id = yard.started(other), yard.started()
    with writing(yard.engine) as connection:
        connection.exec_driver_sql(f"UPDATE release SET progress = '{{}}' WHERE id = '{damaged}'")
    yard.pass_time(HOUR)

    assert (10, State.RUNNING) == (yard.percent(), yard.state(id))


def test_clocks_that_differ_a_little(yard: Yard) -> None:
    """Whoever agrees through a server that is a little behind has agreed; its time is that of what came before."""
    plan = Plan("p", (share(5, Gates(minimum_s=3600, approvals=1)), share(50, Gates(manual=True))))
    id = yard.started(plan)
    yard.pass_time(HOUR)
    yard.do(id, Act.APPROVE, by=APPROVER, after=HOUR - timedelta(seconds=2))

    assert (State.RUNNING, 50) == (yard.state(id), yard.percent())
    assert NOW + HOUR == yard.events(id)[-1].at
    assert agrees(yard.stored(id), yard.events(id))
