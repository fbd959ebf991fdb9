"""Releases that ask somebody outside: who says go, who says no, and what silence means."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from server.core.errors import InvalidDefinition, Refused
from server.core.releases.plan import External, Gates, OnTimeout, Plan
from server.core.releases.progress import Act, State
from tests.announced import announced, check_announced
from tests.operations.protected import EDITOR, ask
from tests.operations.releasing import HOUR, Yard, open_yard, share
from tests.store.definitions import NOW

TEN_MINUTES = timedelta(minutes=10)


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    """Both environments have a flag whose rule lets nobody in yet."""
    yield from open_yard(tmp_path)


def asking(*externals: External) -> Plan:
    """Two steps; the first is left when it was served for an hour and these say go."""
    return Plan("p", (share(5, Gates(minimum_s=3600, externals=externals)), share(50, Gates(manual=True))))


def answer(yard: Yard, id: str, name: str, *, go: bool, after: timedelta, text: str = "") -> None:
    """Say something in the name of somebody outside."""
    write = replace(ask(EDITOR), now=NOW + after)
    yard.releases.answer(write, project="shop", id=id, name=name, go=go, text=text)


@pytest.mark.parametrize(
    ("silence", "state", "percent", "told"),
    [
        (OnTimeout.GO, State.RUNNING, 50, "release.step_advanced"),
        (OnTimeout.HOLD, State.HELD, 5, "release.held"),
        (OnTimeout.ROLL_BACK, State.ROLLED_BACK, 0, "release.rolled_back"),
    ],
)
def test_what_silence_means(yard: Yard, silence: OnTimeout, state: State, percent: float, told: str) -> None:
    """They are asked once, when all else holds, and have their time; then comes what the plan says, with the reason."""
    id = yard.started(asking(External("ci", 600.0, silence)))
    yard.pass_time(HOUR)
    assert HOUR + TEN_MINUTES == (yard.next_at() or NOW) - NOW
    yard.pass_time(HOUR + TEN_MINUTES - timedelta(seconds=1))
    assert (5, 1) == (yard.percent(), yard.told().count("release.go_asked"))
    yard.pass_time(HOUR + TEN_MINUTES)

    assert (state, percent, told) == (yard.state(id), yard.percent(), yard.told()[-1])
    evidence = [each.text for each in yard.events(id)[-1].told[-1].gates]
    assert f"ci has not answered within 600 s, so {silence}" in evidence


@pytest.mark.parametrize(
    ("on_no_go", "state", "percent"), [(OnTimeout.HOLD, State.HELD, 5), (OnTimeout.ROLL_BACK, State.ROLLED_BACK, 0)]
)
def test_what_a_no_means(yard: Yard, on_no_go: OnTimeout, state: State, percent: float) -> None:
    """At once, also before the others have answered, with who said so and why."""
    id = yard.started(asking(External("ci", on_no_go=on_no_go), External("legal")))
    yard.pass_time(HOUR)
    answer(yard, id, "ci", go=False, text="red", after=HOUR)

    assert (state, percent) == (yard.state(id), yard.percent())
    assert "ci: ann says no-go: red" == yard.stored(id).release.progress.note


def test_all_of_them_are_needed(yard: Yard) -> None:
    """One go and one silence is no go; the last word of each counts."""
    id = yard.started(asking(External("ci", 600.0), External("legal", 7200.0)))
    yard.pass_time(HOUR)
    answer(yard, id, "ci", go=True, after=HOUR)
    yard.pass_time(2 * HOUR)
    assert (State.RUNNING, 5) == (yard.state(id), yard.percent())
    answer(yard, id, "legal", go=True, after=2 * HOUR)

    assert 50 == yard.percent()


def test_a_pause_stops_the_time_to_answer(yard: Yard) -> None:
    """What nobody looks at takes nothing back; who did not answer is asked again."""
    id = yard.started(asking(External("ci", 600.0, OnTimeout.ROLL_BACK)))
    yard.pass_time(HOUR)
    yard.do(id, Act.PAUSE, after=HOUR)
    yard.pass_time(5 * HOUR)
    assert (State.PAUSED, None) == (yard.state(id), yard.next_at())
    yard.do(id, Act.RESUME, after=5 * HOUR)
    assert (State.RUNNING, 2) == (yard.state(id), yard.told().count("release.go_asked"))
    yard.pass_time(5 * HOUR + TEN_MINUTES)

    assert State.ROLLED_BACK is yard.state(id)


def test_a_word_that_comes_late(yard: Yard) -> None:
    """What was held by silence stays held; the go counts as soon as somebody has it go on."""
    id = yard.started(asking(External("ci", 600.0)))
    for after in (HOUR, 2 * HOUR):
        yard.pass_time(after)
    answer(yard, id, "ci", go=True, after=3 * HOUR)
    assert (State.HELD, 5) == (yard.state(id), yard.percent())
    yard.do(id, Act.RESUME, after=3 * HOUR)

    assert 50 == yard.percent()


def test_who_is_asked_is_told(yard: Yard) -> None:
    """By name, with the instant from when on silence is an answer; also where that is at once."""
    yard.started(asking(External("ci", 600.0), External("legal, and finance", 7200.0)))
    yard.pass_time(HOUR)
    told = [data for type_, data in announced(yard.engine) if type_ == "release.go_asked"]
    assert [(["ci", "legal, and finance"], "2026-01-01T13:10:00+00:00")] == [(x["asked"], x["answer_by"]) for x in told]
    assert {"checkout"} == {each["flag_key"] for each in told}


def test_silence_that_is_an_answer_at_once(yard: Yard) -> None:
    """It is asked, and goes on."""
    yard.started(asking(External("ci", 0.0, OnTimeout.GO)))
    yard.pass_time(HOUR)
    told = [data for type_, data in announced(yard.engine) if type_ == "release.go_asked"]

    assert (50, [["ci"]]) == (yard.percent(), [each["asked"] for each in told])
    check_announced(yard.engine)


def test_nobody_answers_for_whom_nobody_asks(yard: Yard) -> None:
    """The refusal names those that are asked; a plan cannot take a no for a yes."""
    id = yard.started(asking(External("ci")))
    with pytest.raises(Refused, match="'cd' is not asked at this step; it asks ci"):
        answer(yard, id, "cd", go=True, after=HOUR)
    with pytest.raises(InvalidDefinition, match="/steps/0/gates/externals/0/onNoGo"):
        yard.create(asking(External("ci", on_no_go=OnTimeout.GO)))
