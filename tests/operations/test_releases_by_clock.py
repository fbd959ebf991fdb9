"""Releases whose steps stand in the flags beforehand: the clock takes them, and whatever stops the release stops it."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from server.core.changes import UpdateEnvironment
from server.core.environments import FreezeWindow
from server.core.errors import Refused
from server.core.releases.progress import Act, State
from server.operations.timelines import Timelines
from tests.operations.protected import entries_of
from tests.operations.releasing import HOUR, PLAN, Yard, open_yard, rule_of
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
