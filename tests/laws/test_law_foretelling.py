"""What the clock makes of a flag is what its release would have made of it."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.changes import apply_all
from server.core.errors import InvalidDefinition
from server.core.flags import Share
from server.core.flagsets import FlagSet
from server.core.releases.checking import check_plan
from server.core.releases.foretelling import Foresight, changes_what_comes, coming
from server.core.releases.machine import step
from server.core.releases.patches import content_of_move
from server.core.releases.plan import Gates, Patch, Plan, Step
from server.core.releases.progress import Act, Command, Event, Release, State, Tick
from server.core.releases.walking import Direction, Move
from tests.laws.releasing import new
from tests.laws.sizes import tried
from tests.store.definitions import NOW, SHOP, flag

RULE: Mapping[str, Any] = {"id": "beta", "serve": "on", "share": {"percent": 0, "salt": "own"}}
SUBJECT = ("production", "checkout")


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Growing shares, after waits that only time ends or somebody does; one at least the clock can take."""
    parts = sorted(draw(st.sets(st.integers(1, 100_000), min_size=2, max_size=6)))
    gates = [Gates(draw(st.integers(0, 90)), manual=draw(st.sampled_from((False, False, False, True)))) for _ in parts]
    gates[0] = replace(gates[0], manual=False)
    steps = tuple(
        Step((Patch(*SUBJECT, "beta", share_parts=each),), gate) for each, gate in zip(parts, gates, strict=True)
    )
    return Plan("p", steps, by_clock=True)


class Moved:
    """A release and its flag, as a server moves them that looks only now and then."""

    def __init__(self, plan: Plan) -> None:
        self.release: Release = new(plan)
        self.anchor = flag(rules=[RULE])
        self.flag_set = FlagSet(SHOP, {"checkout": self.anchor}, {})

    @property
    def share(self) -> Share:
        """As it is stored."""
        share = self.flag_set.flags["checkout"].config.rules[0].share
        assert share is not None
        return share

    def let(self, event: Event, seconds: float) -> None:
        """Something happens to it."""
        now = NOW + timedelta(seconds=seconds)
        outcome = step(self.release, event, now)
        move = outcome.move
        if move is None and changes_what_comes(self.release, outcome.release):
            here = outcome.release.progress.step
            move = Move(Direction.FORWARD, here, here)
        if move is not None:
            content = content_of_move(
                outcome.release.plan,
                move,
                anchors={SUBJECT: self.anchor},
                current={SUBJECT: self.flag_set.flags["checkout"]},
                was_off=self.release.progress.was_off,
                sight=Foresight(now, coming(outcome.release)),
            )
            for part in content.parts:
                self.flag_set, _ = apply_all(self.flag_set, part.changes)
        self.release = outcome.release

    def expected(self, seconds: float) -> int:
        """How much a server would let in that looks at this moment."""
        place = step(self.release, Tick(), NOW + timedelta(seconds=seconds)).release.progress.step
        return self.release.plan.steps[place].patches[0].share_parts or 0


happens = st.lists(
    st.tuples(st.floats(0.01, 60), st.sampled_from((None, None, Act.PAUSE, Act.RESUME, Act.HOLD, Act.ADVANCE))),
    max_size=8,
)


def walked(plan: Plan, happens: list[tuple[float, Act | None]]) -> Iterator[tuple[Moved, float]]:
    """The release after each thing that happens, with the second at which it does."""
    moved, at = Moved(plan), 0.25
    moved.let(Command(Act.START, "ann"), at)
    yield moved, at
    for seconds, act in happens:
        at += seconds
        moved.let(Tick(), at)
        running = moved.release.progress.state is State.RUNNING
        if act is not None and running != (act is Act.RESUME) and moved.release.progress.state is not State.COMPLETED:
            moved.let(Command(act, "ann"), at)
        yield moved, at


@tried(200, long=20_000)
@given(plans(), happens, st.lists(st.floats(0, 400), min_size=1, max_size=4))
def test_the_clock_does_what_the_release_would(
    plan: Plan, happens: list[tuple[float, Act | None]], later: list[float]
) -> None:
    """At any moment, and for as long as no server looks: evaluators let in whom the release would let in then."""
    for moved, at in walked(plan, happens):
        for seconds in later:
            known = moved.share.parts_at((NOW + timedelta(seconds=at + seconds)).timestamp())
            if moved.release.progress.state is State.RUNNING:
                assert moved.expected(at + seconds) == known
            else:
                assert () == moved.share.steps


@tried(100, long=2_000)
@given(plans(), happens)
def test_nobody_is_put_out_by_stopping(plan: Plan, happens: list[tuple[float, Act | None]]) -> None:
    """Whatever happens to the release, whoever was let in by the clock stays."""
    had = 0
    for moved, at in walked(plan, happens):
        now = (NOW + timedelta(seconds=at)).timestamp()
        assert moved.share.parts_at(now) >= had and moved.share.salt == "own"
        had = moved.share.parts_at(now)


@tried(100, long=2_000)
@given(plans(), happens)
def test_a_roll_back_leaves_nothing_to_come(plan: Plan, happens: list[tuple[float, Act | None]]) -> None:
    """The flag is as it was before the release."""
    *_, (moved, at) = walked(plan, happens)
    moved.let(Command(Act.ROLL_BACK, "ann"), at)

    assert moved.anchor == moved.flag_set.flags["checkout"]


@pytest.mark.parametrize(
    ("steps", "path"),
    [
        ((Step((Patch(*SUBJECT, "beta", share_parts=1),), Gates(10)),), "/byClock"),
        (
            (
                Step((Patch(*SUBJECT, "beta", share_parts=1),), Gates(1.5)),
                Step((Patch(*SUBJECT, "beta", share_parts=2),)),
            ),
            "/steps/0/gates/minimum",
        ),
    ],
)
def test_what_the_clock_cannot_do_is_refused(steps: tuple[Step, ...], path: str) -> None:
    """A plan without a step for it, or with parts of a second."""
    with pytest.raises(InvalidDefinition) as refused:
        check_plan(Plan("p", steps, by_clock=True))

    assert [path] == [each.path for each in refused.value.problems]
