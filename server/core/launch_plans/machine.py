"""Say how a launch plan goes on: its states, what happens to it, and what is to be done next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, TypeAlias

from server.core.access import Action, Grant
from server.core.change_requests.machine import Approval
from server.core.errors import Refused
from server.core.launch_plans.plan import Check, Missed, Plan
from server.core.launch_plans.timing import Slot, Tick, check_at, ticks_of


class State(StrEnum):
    """Where a launch plan is."""

    DRAFT = "draft"
    """Nothing of it happens by itself."""

    SCHEDULED = "scheduled"
    """Its items happen at their times."""

    HELD = "held"
    """It was under way, and waits for somebody to resume it."""

    COMPLETED = "completed"
    CANCELLED = "cancelled"


CLOSED: Final = frozenset({State.COMPLETED, State.CANCELLED})
"""States that nothing leads out of."""


class Happening(StrEnum):
    """What happens to a launch plan."""

    CREATED = "created"
    UPDATED = "updated"
    """It asks for something else; approvals and answers are dropped."""

    APPROVED = "approved"
    ANSWERED_GO = "answered-go"
    ANSWERED_NO_GO = "answered-no-go"
    """Somebody said no: what is under way is held."""

    SHIFTED = "shifted"
    STARTED = "started"
    HELD = "held"
    RESUMED = "resumed"
    CANCELLED = "cancelled"
    DUE_SOON = "due-soon"
    EXECUTED = "executed"
    """The items of one instant were done."""

    SKIPPED = "skipped"
    """Items were left out: by somebody, or for it was too late for them."""

    MISSED = "missed"
    """It was too late for items; the plan is held."""

    CONFLICTED = "conflicted"
    """Items could not be done; the plan is held."""

    COMPLETED = "completed"


_OPEN: Final = (State.DRAFT, State.SCHEDULED, State.HELD)
_STILL: Final = (State.DRAFT, State.HELD)

ARROWS: Final[Mapping[tuple[State, Happening], State]] = {
    **{(state, Happening.UPDATED): state for state in _STILL},
    **{(state, Happening.APPROVED): state for state in _OPEN},
    **{(state, Happening.ANSWERED_GO): state for state in _OPEN},
    (State.DRAFT, Happening.ANSWERED_NO_GO): State.DRAFT,
    (State.SCHEDULED, Happening.ANSWERED_NO_GO): State.HELD,
    (State.HELD, Happening.ANSWERED_NO_GO): State.HELD,
    **{(state, Happening.SHIFTED): state for state in _OPEN},
    (State.DRAFT, Happening.STARTED): State.SCHEDULED,
    (State.SCHEDULED, Happening.HELD): State.HELD,
    (State.HELD, Happening.RESUMED): State.SCHEDULED,
    **{(state, Happening.CANCELLED): State.CANCELLED for state in _OPEN},
    (State.SCHEDULED, Happening.DUE_SOON): State.SCHEDULED,
    (State.SCHEDULED, Happening.EXECUTED): State.SCHEDULED,
    **{(state, Happening.SKIPPED): state for state in _OPEN},
    (State.SCHEDULED, Happening.MISSED): State.HELD,
    (State.SCHEDULED, Happening.CONFLICTED): State.HELD,
    (State.SCHEDULED, Happening.COMPLETED): State.COMPLETED,
}
"""(state, what happens) -> state. What is not here cannot happen."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What somebody said to a point of the go/no-go list; the last one counts."""

    check: str
    go: bool
    actor: str
    at: datetime
    text: str = ""


@dataclass(frozen=True, slots=True)
class Done:
    """What became of an item."""

    item: str
    skipped: bool
    at: datetime
    due_at: datetime
    revisions: Mapping[str, int]
    """Environment -> its revision then; empty where it was skipped."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened."""

    happening: Happening
    actor: str
    at: datetime
    text: str = ""
    """A reason, or what went wrong."""

    grants: tuple[Grant, ...] = ()
    """Of who approves, starts or resumes."""

    items: tuple[str, ...] = ()
    """Which it was about."""

    due_at: datetime | None = None
    revisions: Mapping[str, int] | None = None
    check: str = ""
    moved: bool = False
    """Others have changed what it would change: approvals were for what it was."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a launch plan has come; the plan is beside it."""

    state: State
    authors: tuple[str, ...]
    """Who made or changed it. Their approvals never count."""

    content_number: int = 1
    """Counts what it asked for."""

    step_count: int = 1
    approvals: tuple[Approval, ...] = ()
    answers: tuple[Answer, ...] = ()
    done: tuple[Done, ...] = ()
    reminded: tuple[str, ...] = ()
    """Items that somebody was reminded of."""

    runs_as: str = ""
    """Who started or resumed it: its changes are made with their rights."""

    runs_with: tuple[Grant, ...] = ()
    """What they were allowed then."""

    resumed_at: datetime | None = None
    """When somebody last said that it shall go on; nothing counts as missed that was due before."""

    note: str = ""
    """Why it is where it is, when there is more to say than the state."""

    @property
    def finished(self) -> frozenset[str]:
        """Items that are over."""
        return frozenset(each.item for each in self.done)


def created(step: Step) -> Progress:
    """A new launch plan."""
    return Progress(State.DRAFT, (step.actor,))


def advance(progress: Progress, step: Step) -> Progress:
    """What a plan is after something happened. Errors: Refused when that cannot happen in its state."""
    state = ARROWS.get((progress.state, step.happening))
    if state is None:
        raise Refused(f"a launch plan that is {progress.state} cannot be {step.happening}{_help(progress.state)}")
    return _detailed(replace(progress, state=state, step_count=progress.step_count + 1), step)


def _detailed(after: Progress, step: Step) -> Progress:
    match step.happening:
        case Happening.UPDATED:
            authors = (*(each for each in after.authors if each != step.actor), step.actor)
            return replace(
                after,
                authors=authors,
                approvals=(),
                answers=(),
                reminded=(),
                content_number=after.content_number + 1,
            )
        case Happening.APPROVED:
            others = tuple(each for each in after.approvals if each.actor != step.actor)
            return replace(after, approvals=(*others, Approval(step.actor, step.at, step.grants)))
        case Happening.ANSWERED_GO | Happening.ANSWERED_NO_GO:
            go = step.happening is Happening.ANSWERED_GO
            others_said = tuple(each for each in after.answers if each.check != step.check)
            answers = (*others_said, Answer(step.check, go, step.actor, step.at, step.text))
            return replace(after, answers=answers, note=after.note if go else step.text)
        case Happening.STARTED | Happening.RESUMED:
            after = replace(after, runs_as=step.actor, runs_with=step.grants, resumed_at=step.at, note="")
            return replace(after, approvals=()) if step.moved else after
        case Happening.EXECUTED | Happening.SKIPPED:
            skipped = step.happening is Happening.SKIPPED
            due_at, revisions = step.due_at or step.at, step.revisions or {}
            done = tuple(Done(each, skipped, step.at, due_at, revisions) for each in step.items)
            return replace(after, done=(*after.done, *done), note="")
        case Happening.DUE_SOON:
            return replace(after, reminded=(*after.reminded, *step.items))
        case Happening.SHIFTED:
            return replace(after, reminded=())
        case Happening.HELD | Happening.CANCELLED | Happening.MISSED | Happening.CONFLICTED:
            return replace(after, note=step.text)
    return after


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing is to be done before an instant; None: nothing at all."""

    until: datetime | None


@dataclass(frozen=True, slots=True)
class Remind:
    """Tell that items are due soon."""

    tick: Tick


@dataclass(frozen=True, slots=True)
class Execute:
    """Do the items of one instant."""

    tick: Tick


@dataclass(frozen=True, slots=True)
class Skip:
    """Leave items out, for it is too late for them."""

    tick: Tick
    why: str


@dataclass(frozen=True, slots=True)
class Hold:
    """Stop, until somebody has looked."""

    tick: Tick
    why: str
    missed: bool = False


@dataclass(frozen=True, slots=True)
class Complete:
    """All items are over."""


Next: TypeAlias = Wait | Remind | Execute | Skip | Hold | Complete


def decide(plan: Plan, progress: Progress, slots: Sequence[Slot], now: datetime) -> Next:
    """What is to be done next with a plan."""
    if progress.state is not State.SCHEDULED:
        return Wait(None)
    tick = next(ticks_of([slot for slot in slots if slot.item.id not in progress.finished]), None)
    if tick is None:
        return Complete()
    if tick.at > now:
        return _before(plan, progress, tick, now)
    if waiting := without_go(plan, progress, tick.at):
        named = ", ".join(f"{each.id!r}" for each in waiting)
        return Hold(tick, f"{_named(tick)} needs a go for {named}, which nobody has given")
    late = now - max(tick.at, progress.resumed_at or tick.at)
    if late > timedelta(seconds=plan.grace_s) and plan.missed is not Missed.RUN:
        why = f"{_named(tick)} was due at {tick.at:%Y-%m-%d %H:%M} UTC, {_length(late)} ago"
        return Skip(tick, why) if plan.missed is Missed.SKIP else Hold(tick, why, missed=True)
    return Execute(tick)


def next_at(plan: Plan, progress: Progress, slots: Sequence[Slot], now: datetime) -> datetime | None:
    """When there is something to be done; `now` where there is already, None where nobody has to look."""
    following = decide(plan, progress, slots, now)
    return following.until if isinstance(following, Wait) else now


def without_go(plan: Plan, progress: Progress, at: datetime) -> tuple[Check, ...]:
    """Points of the go/no-go list that hold up what is due at an instant."""
    going = {each.check for each in progress.answers if each.go}
    return tuple(each for each in plan.checks if each.id not in going and check_at(plan, each) <= at)


def open_action(plan: Plan) -> frozenset[Action]:
    """What one must be allowed to do all that a plan does."""
    return frozenset(item.action for item in plan.items)


def _before(plan: Plan, progress: Progress, tick: Tick, now: datetime) -> Next:
    if not plan.remind_before_s or {each.id for each in tick.items} <= set(progress.reminded):
        return Wait(tick.at)
    remind_at = tick.at - timedelta(seconds=plan.remind_before_s)
    return Remind(tick) if remind_at <= now else Wait(remind_at)


def _named(tick: Tick) -> str:
    return ", ".join(f"{each.id!r}" for each in tick.items)


def _length(length: timedelta) -> str:
    minutes = int(length.total_seconds()) // 60
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def _help(state: State) -> str:
    match state:
        case State.SCHEDULED:
            return "; hold it first"
        case State.DRAFT:
            return "; start it first"
        case State.HELD:
            return "; resume it first"
    return "; make a new one"
