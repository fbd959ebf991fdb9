"""Releases whose steps stand in the flags beforehand: the clock takes them, and whatever stops the release stops it."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from server.core.changes import UpdateEnvironment
from server.core.edits import SetEnabled
from server.core.environments import Environment, FreezeWindow
from server.core.errors import Refused
from server.core.evaluation.snapshots import build_snapshot
from server.core.flagsets import FlagSet
from server.core.guards.verdicts import Verdict
from server.core.releases.plan import BackTo, Check, Gates, Plan, Target
from server.core.releases.progress import Act, Judged, State
from server.operations.timelines import Timelines
from tests.operations.protected import entries_of
from tests.operations.releasing import HOUR, PLAN, Yard, open_yard, rule_of, share
from tests.store.definitions import NOW, put

BY_CLOCK = replace(PLAN, by_clock=True)


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    """Both environments have a flag whose rule lets nobody in yet."""
    yield from open_yard(tmp_path)


def steps(yard: Yard) -> list[tuple[datetime, int]]:
    """What the clock is to make of the share."""
    share = rule_of(yard.flag(), "beta").share
    return [] if share is None else [(step.at, step.parts) for step in share.steps]


def actors(yard: Yard) -> list[str]:
    """Who changed the flag, the oldest first."""
    return [each.actor for each in reversed(entries_of(yard, "flag"))]  # type: ignore[arg-type]  # As elsewhere.


def test_steps_are_written_when_it_starts(yard: Yard) -> None:
    """All that only time leads to; whoever is quicker at an instant, the clock or the release, it is taken once."""
    id = yard.started(BY_CLOCK)
    assert [(NOW + HOUR, 10_000), (NOW + 2 * HOUR, 100_000)] == steps(yard)
    Timelines(yard.engine).carry_on(NOW + HOUR)
    yard.pass_time(HOUR)
    yard.pass_time(2 * HOUR)
    Timelines(yard.engine).carry_on(NOW + 2 * HOUR)

    assert (100, []) == (yard.percent(), steps(yard))
    assert ["ann", "timeline", f"release:{id}"] == actors(yard)[-3:]
    assert State.COMPLETED is yard.state(id)


def test_a_pause_takes_them_out_at_once(yard: Yard) -> None:
    """Also while the environment is frozen; and the steps are written anew when it goes on, later by the pause."""
    id = yard.started(BY_CLOCK)
    window = FreezeWindow(NOW + HOUR / 2, NOW + 2 * HOUR, "Holidays")
    put(yard.engine, UpdateEnvironment(freeze_windows=(window,)))
    yard.do(id, Act.PAUSE, after=HOUR / 2)
    assert (1, []) == (yard.percent(), steps(yard))
    with pytest.raises(Refused, match="frozen"):
        yard.do(id, Act.RESUME, after=HOUR)
    yard.do(id, Act.RESUME, after=3 * HOUR)

    assert [(NOW + 3.5 * HOUR, 10_000), (NOW + 4.5 * HOUR, 100_000)] == steps(yard)


def test_what_the_clock_took_stays(yard: Yard) -> None:
    """A pause that comes after an instant, before anybody wrote it down, puts nobody out."""
    id = yard.started(BY_CLOCK)
    yard.do(id, Act.PAUSE, after=HOUR * 1.25)

    assert (10, []) == (yard.percent(), steps(yard))


@pytest.mark.parametrize("act", [Act.ROLL_BACK, Act.ABORT, Act.HOLD, Act.COMPLETE])
def test_nothing_comes_after_the_end(yard: Yard, act: Act) -> None:
    """Whichever way it ends, or is held."""
    id = yard.started(BY_CLOCK)
    yard.do(id, act, after=HOUR / 2)

    assert [] == steps(yard)


def on_for(yard: Yard, after: timedelta) -> int:
    """How many of a hundred units are served "on" at a time, by the flag as it is stored now."""
    snapshot = build_snapshot(FlagSet(Environment("shop", "production"), {"checkout": yard.flag()}), revision=1)
    now = int((NOW + after).timestamp())
    return sum(snapshot.resolve("checkout", {"targetingKey": f"u{n}"}, now).value is True for n in range(100))


def test_a_kill_is_not_undone_by_the_clock(yard: Yard) -> None:
    """It is off for everybody at once, also at the instants that are in the flag still, whoever writes those down."""
    yard.started(BY_CLOCK)
    assert 100 == on_for(yard, 2 * HOUR)
    put(yard.engine, SetEnabled("checkout", False))

    assert [(NOW + HOUR, 10_000), (NOW + 2 * HOUR, 100_000)] == steps(yard)
    assert [0, 0, 0] == [on_for(yard, each * HOUR) for each in (0, 1, 2)]
    Timelines(yard.engine).carry_on(NOW + 2 * HOUR)
    assert (False, 0) == (yard.flag().is_on, on_for(yard, 2 * HOUR))


def test_a_kill_pauses_the_release_at_once(yard: Yard) -> None:
    """It is woken by the very commit, is paused with the reason, and has its time left when it goes on."""
    id = yard.started(BY_CLOCK)
    put(yard.engine, SetEnabled("checkout", False), now=NOW + HOUR / 2)
    assert (yard.next_at() or NOW) < NOW
    yard.pass_time(HOUR / 2)
    progress = yard.stored(id).release.progress

    assert (State.PAUSED, []) == (progress.state, steps(yard))
    assert "flag checkout was turned off in production" in progress.note
    assert "release.paused" == yard.told()[-1]
    put(yard.engine, SetEnabled("checkout", True), now=NOW + 3 * HOUR)
    assert 1 == yard.percent()
    yard.do(id, Act.RESUME, after=3 * HOUR)
    assert [(NOW + 3.5 * HOUR, 10_000), (NOW + 4.5 * HOUR, 100_000)] == steps(yard)


def test_one_that_waits_for_a_guard_is_paused_too(yard: Yard) -> None:
    """Before a pass has it go on; one that is turned on again at once just goes on."""
    yard.said = [Judged("errors", Verdict.PASS, evaluation="guard:errors@1")]
    gates = Gates(minimum_s=60, checks=(Check("errors", passes=1),))
    id = yard.started(Plan("p", (share(1, gates), share(5, gates), share(100, Gates(manual=True)))))
    put(yard.engine, SetEnabled("checkout", False))
    put(yard.engine, SetEnabled("checkout", True))
    yard.pass_time(HOUR)
    assert (State.RUNNING, 5) == (yard.state(id), yard.percent())
    put(yard.engine, SetEnabled("checkout", False))
    yard.said = [Judged("errors", Verdict.PASS, evaluation="guard:errors@2")]
    yard.pass_time(2 * HOUR)

    assert (State.PAUSED, 5) == (yard.state(id), yard.percent())


def test_what_pauses_no_release(yard: Yard) -> None:
    """Its own roll-back; and one that is paused already stays as somebody left it."""
    id = yard.started(BY_CLOCK)
    yard.do(id, Act.PAUSE)
    put(yard.engine, SetEnabled("checkout", False))
    assert State.PAUSED is yard.state(id)
    assert yard.next_at() is None
    yard.do(id, Act.ROLL_BACK, target=Target(BackTo.OFF))

    assert State.ROLLED_BACK is yard.state(id)
