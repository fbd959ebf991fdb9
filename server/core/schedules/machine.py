"""Say how a schedule goes on: its states, what happens to it, and the arrows between."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from server.core.access import Action, Grant
from server.core.change_requests.machine import Approval
from server.core.errors import Refused
from server.core.schedules.conflicts import ScheduleConflict


class State(StrEnum):
    """Where a schedule is."""

    PENDING = "pending"
    """It waits for its next instant."""

    DONE = "done"
    """It was executed, and is not due any more."""

    CONFLICTED = "conflicted"
    """Something was in the way when it was due. Another time or content, or running it, lets it go on."""

    FAILED = "failed"
    """Its instant was missed, and that was to stop it."""

    SKIPPED = "skipped"
    """Its only instant was missed, and that was to be left out."""

    CANCELLED = "cancelled"


CLOSED: Final = frozenset({State.DONE, State.CANCELLED})
"""States that nothing leads out of."""


class Happening(StrEnum):
    """What happens to a schedule."""

    CREATED = "created"
    UPDATED = "updated"
    """It has other content, or another title; approvals are dropped."""

    RESCHEDULED = "rescheduled"
    """It has another timing; approvals are dropped: they were for the time, too."""

    APPROVED = "approved"
    CANCELLED = "cancelled"
    DUE_SOON = "due_soon"
    EXECUTED = "executed"
    CONFLICTED = "conflicted"
    SKIPPED = "skipped"
    FAILED = "failed"
    """An instant passed while nobody was there, and that is to stop the schedule."""


OUTCOMES: Final = frozenset({Happening.EXECUTED, Happening.CONFLICTED, Happening.SKIPPED, Happening.FAILED})
"""What can become of an instant; each has one of them."""

_RESTING: Final = (State.CONFLICTED, State.FAILED, State.SKIPPED)
_LIVING: Final = (State.PENDING, *_RESTING)

ARROWS: Final[Mapping[tuple[State, Happening], State]] = {
    **{(state, Happening.UPDATED): State.PENDING for state in _LIVING},
    **{(state, Happening.RESCHEDULED): State.PENDING for state in _LIVING},
    **{(state, Happening.APPROVED): state for state in _LIVING},
    **{(state, Happening.CANCELLED): State.CANCELLED for state in _LIVING},
    **{(state, Happening.EXECUTED): State.DONE for state in _LIVING},
    (State.PENDING, Happening.DUE_SOON): State.PENDING,
    (State.PENDING, Happening.CONFLICTED): State.CONFLICTED,
    (State.PENDING, Happening.SKIPPED): State.SKIPPED,
    (State.PENDING, Happening.FAILED): State.FAILED,
}
"""(state, what happens) -> state, when no further instant follows. What is not here cannot happen."""

_GOING_ON: Final = OUTCOMES - {Happening.FAILED}
"""After these a schedule with a further instant waits for it."""

_DROPPING: Final = frozenset({Happening.UPDATED, Happening.RESCHEDULED})
"""What takes the approvals away: they were for something else."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened."""

    happening: Happening
    actor: str
    at: datetime
    text: str = ""
    grants: tuple[Grant, ...] = ()
    """Of who approves, or makes or changes the schedule."""

    instant: datetime | None = None
    """For outcomes and DUE_SOON: the instant that it is about."""

    due_at: datetime | None = None
    """The next instant afterwards."""

    conflicts: tuple[ScheduleConflict, ...] = ()
    revisions: Mapping[str, int] = field(default_factory=dict)
    """For EXECUTED: environment -> its revision afterwards."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a schedule has come; what it does and when is beside it."""

    state: State
    authors: tuple[str, ...]
    """Who made or changed it. Their approvals never count."""

    action: Action
    """What one must be allowed, in every environment, to make the change."""

    maker_grants: tuple[Grant, ...] = ()
    """Of the last author, as they were then: with them it is executed where nobody knows what holds now."""

    due_at: datetime | None = None
    """The next instant."""

    reminded_of: datetime | None = None
    """The instant that was last announced."""

    content_number: int = 1
    """Counts its contents and timings; who approves says which one was read."""

    step_count: int = 1
    run_count: int = 0
    ran_at: datetime | None = None
    approvals: tuple[Approval, ...] = ()
    conflicts: tuple[ScheduleConflict, ...] = ()
    """What was in the way when it was last due."""

    note: str = ""
    """Why it is where it is, when there is more to say than the state."""

    @property
    def maker(self) -> str:
        """In whose name it is executed."""
        return self.authors[-1]


def created(step: Step, action: Action) -> Progress:
    """A new schedule."""
    return Progress(State.PENDING, (step.actor,), action, step.grants, step.due_at)


def advance(progress: Progress, step: Step) -> Progress:
    """What a schedule is after something happened. Errors: Refused when that cannot happen in its state."""
    state = ARROWS.get((progress.state, step.happening))
    if state is None:
        raise Refused(
            f"a schedule that is {progress.state} cannot be {_participle(step.happening)}{_help(progress.state)}"
        )
    if step.happening in _GOING_ON and step.due_at is not None:
        state = State.PENDING
    after = replace(progress, state=state, step_count=progress.step_count + 1)
    if step.happening in OUTCOMES or step.happening in _DROPPING:
        after = replace(after, due_at=step.due_at if state is State.PENDING else None)
    if step.happening is Happening.CANCELLED:
        after = replace(after, due_at=None)
    if step.happening in _DROPPING:
        authors = (*(each for each in after.authors if each != step.actor), step.actor)
        after = replace(after, approvals=(), authors=authors, maker_grants=step.grants)
        after = replace(after, content_number=after.content_number + 1, conflicts=(), note="", reminded_of=None)
    return _detailed(after, step)


def _detailed(after: Progress, step: Step) -> Progress:
    match step.happening:
        case Happening.APPROVED:
            others = tuple(each for each in after.approvals if each.actor != step.actor)
            return replace(after, approvals=(*others, Approval(step.actor, step.at, step.grants)))
        case Happening.DUE_SOON:
            return replace(after, reminded_of=step.instant)
        case Happening.EXECUTED:
            return replace(after, run_count=after.run_count + 1, ran_at=step.at, conflicts=(), note="")
        case Happening.CONFLICTED | Happening.SKIPPED | Happening.FAILED | Happening.CANCELLED:
            return replace(after, conflicts=step.conflicts, note=step.text)
    return after


def _participle(happening: Happening) -> str:
    return "announced" if happening is Happening.DUE_SOON else happening.value


def _help(state: State) -> str:
    return "; make a new one" if state in CLOSED else "; give it another time, or run it"
