"""Draw releases, and what may happen to them."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from hypothesis import strategies as st

from server.core.access import Grant, Role
from server.core.errors import Refused
from server.core.guards.verdicts import Verdict
from server.core.releases.machine import created, step
from server.core.releases.plan import (
    BackTo,
    Check,
    Deadline,
    External,
    Gates,
    OnTimeout,
    Patch,
    Plan,
    Policy,
    Reaction,
    Step,
    Target,
)
from server.core.releases.progress import (
    Act,
    Answered,
    Blocked,
    Command,
    Event,
    Judged,
    Progress,
    Release,
    Revised,
    State,
    Tick,
)
from server.core.releases.walking import Outcome

NOW: Final = datetime(2026, 1, 1, 12, tzinfo=UTC)
GUARDS: Final = ("errors", "latency")
OUTSIDE: Final = ("ci", "legal")
PEOPLE: Final = ("ann", "bob", "eve")

_reactions = st.builds(Reaction, st.sampled_from(Policy), st.integers(0, 2))
_checks = st.builds(
    Check,
    guard=st.sampled_from(GUARDS),
    fail=_reactions,
    inconclusive=_reactions,
    no_data=_reactions,
    error=_reactions,
    passes=st.integers(1, 2),
    initial_delay_s=st.sampled_from((0.0, 30.0)),
    dry_run=st.booleans(),
)
_externals = st.builds(
    External,
    name=st.sampled_from(OUTSIDE),
    timeout_s=st.sampled_from((0.0, 60.0, 600.0)),
    on_timeout=st.sampled_from(OnTimeout),
    on_no_go=st.sampled_from((OnTimeout.HOLD, OnTimeout.ROLL_BACK)),
)
_plain_gates = st.builds(Gates, minimum_s=st.sampled_from((0.0, 60.0, 3600.0)))
_gates = st.one_of(
    _plain_gates,
    st.builds(
        Gates,
        minimum_s=st.sampled_from((0.0, 60.0, 3600.0)),
        checks=st.lists(_checks, max_size=2, unique_by=lambda each: each.guard).map(tuple),
        externals=st.lists(_externals, max_size=2, unique_by=lambda each: each.name).map(tuple),
        approvals=st.integers(0, 2),
        manual=st.booleans(),
    ),
)
targets: Final = st.sampled_from(
    (Target(), Target(BackTo.STEP, 0), Target(BackTo.STEP, 1), Target(BackTo.OFF), Target(BackTo.FREEZE))
)


@st.composite
def plans(draw: st.DrawFn, *, gates: st.SearchStrategy[Gates] = _gates) -> Plan:
    """A plan of growing shares."""
    shares = sorted(draw(st.lists(st.integers(0, 100_000), min_size=1, max_size=5)))
    steps = tuple(
        Step((Patch("production", "checkout", "beta", share_parts=parts),), draw(gates), f"{parts}") for parts in shares
    )
    back_to = draw(targets)
    if back_to.to is BackTo.STEP and back_to.step >= len(steps):
        back_to = Target()
    soon = st.one_of(st.none(), st.integers(0, 400).map(lambda minutes: NOW + timedelta(minutes=minutes)))
    deadline = draw(st.one_of(st.none(), st.builds(Deadline, soon.filter(bool), st.sampled_from(Policy))))
    return Plan(
        "checkout",
        steps,
        start_approvals=draw(st.integers(0, 2)),
        starts_at=draw(soon),
        cutoff_at=draw(soon),
        deadline=deadline,
        back_to=back_to,
    )


_lacking = st.sampled_from(("", "", "", "shop/production asks for 1 approval"))
_commands = st.builds(
    Command,
    act=st.sampled_from(Act),
    actor=st.sampled_from(PEOPLE),
    text=st.sampled_from(("", "because")),
    step=st.integers(0, 5),
    target=st.one_of(st.none(), targets),
    grants=st.sampled_from(((), (Grant(Role.APPROVE),))),
    lacking=_lacking,
)
_judged = st.builds(
    Judged,
    guard=st.sampled_from(GUARDS),
    verdict=st.sampled_from(Verdict),
    text=st.sampled_from(("", "0.2 is above 0.1")),
    value=st.one_of(st.none(), st.floats(0, 1)),
    sample_count=st.one_of(st.none(), st.integers(0, 200)),
)
_answers = st.builds(
    Answered, name=st.sampled_from(OUTSIDE), go=st.booleans(), actor=st.just("ci"), text=st.sampled_from(("", "red"))
)
_starts = st.just(Command(Act.START, "ann"))
events: Final = st.one_of(
    _starts,
    st.builds(Tick, _lacking),
    st.builds(Tick, _lacking),
    _commands,
    _judged,
    _answers,
    st.builds(Blocked, st.sampled_from(("frozen", "gone")), st.just(NOW + timedelta(hours=3))),
    st.builds(Revised, plans(), st.sampled_from(PEOPLE)),
)
pauses: Final = st.sampled_from((-60, 0, 1, 30, 60, 61, 3600, 20_000))
"""Seconds between events; a clock may be set back."""


@dataclass(frozen=True, slots=True)
class Went:
    """One event, and what came of it."""

    before: Release
    event: Event
    at: datetime
    outcome: Outcome


def new(plan: Plan) -> Release:
    """A release that ann has drawn up."""
    return created(plan, Progress(State.CREATED, ("ann",), "ann", (Grant(Role.EDIT),)))


def walked(plan: Plan, happens: list[tuple[int, Event]]) -> list[Went]:
    """All that came of events, each some seconds after the one before it; what is refused changes nothing."""
    release, at, way = new(plan), NOW, []
    for seconds, event in happens:
        at += timedelta(seconds=seconds)
        try:
            outcome = step(release, event, at)
        except Refused:
            continue
        way.append(Went(release, event, at, outcome))
        release = outcome.release
    return way


happenings: Final = st.lists(st.tuples(pauses, events), max_size=25)
