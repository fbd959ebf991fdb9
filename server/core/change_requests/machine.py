"""Say how a change request goes on: its states, what happens to it, and the arrows between."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from server.core.access import Action, Grant
from server.core.errors import Refused


class State(StrEnum):
    """Where a change request is."""

    OPEN = "open"
    """It waits for approvals."""

    APPROVED = "approved"
    """It has the approvals that were asked for when the last one came; they are counted again when it is applied."""

    APPLIED = "applied"
    REJECTED = "rejected"
    """Somebody said no. Other content opens it again."""

    WITHDRAWN = "withdrawn"
    STALE = "stale"
    """What it would change was changed meanwhile. Asking anew, against what is there now, opens it again."""

    EXPIRED = "expired"


CLOSED: Final = frozenset({State.APPLIED, State.WITHDRAWN, State.EXPIRED})
"""States that nothing leads out of."""


class Happening(StrEnum):
    """What happens to a change request."""

    OPENED = "opened"
    COMMENTED = "commented"
    APPROVED = "approved"
    COMPLETED = "completed"
    """An approval came, and with it there are enough."""

    REJECTED = "rejected"
    REVISED = "revised"
    """It has other content, or the same against what is there now; approvals are dropped."""

    WITHDRAWN = "withdrawn"
    OUTDATED = "outdated"
    """What it would change was changed; approvals are dropped."""

    LACKING = "lacking"
    """Approvals that it had do not suffice any more: a policy or an approver's role changed."""

    SCHEDULED = "scheduled"
    UNSCHEDULED = "unscheduled"
    FAILED = "failed"
    """It was due and could not be applied; it is not tried again by itself."""

    APPLIED = "applied"
    EXPIRED = "expired"


_WAITING: Final = (State.OPEN, State.APPROVED)
_REOPENING: Final = (State.OPEN, State.APPROVED, State.REJECTED, State.STALE)

ARROWS: Final[Mapping[tuple[State, Happening], State]] = {
    **{(state, Happening.COMMENTED): state for state in State},
    **{(state, Happening.APPROVED): state for state in _WAITING},
    **{(state, Happening.COMPLETED): State.APPROVED for state in _WAITING},
    **{(state, Happening.REJECTED): State.REJECTED for state in (*_WAITING, State.STALE)},
    **{(state, Happening.REVISED): State.OPEN for state in _REOPENING},
    **{(state, Happening.WITHDRAWN): State.WITHDRAWN for state in _REOPENING},
    **{(state, Happening.OUTDATED): State.STALE for state in _WAITING},
    **{(state, Happening.LACKING): State.OPEN for state in _WAITING},
    **{(state, Happening.SCHEDULED): state for state in _WAITING},
    **{(state, Happening.UNSCHEDULED): state for state in _WAITING},
    **{(state, Happening.FAILED): state for state in _WAITING},
    **{(state, Happening.APPLIED): State.APPLIED for state in _WAITING},
    **{(state, Happening.EXPIRED): State.EXPIRED for state in _REOPENING},
}
"""(state, what happens) -> state. What is not here cannot happen."""

_DROPPING: Final = frozenset({Happening.REVISED, Happening.OUTDATED})
"""What takes the approvals away: they were for something else."""

_UNSCHEDULING: Final = frozenset(
    {Happening.REVISED, Happening.OUTDATED, Happening.REJECTED, Happening.UNSCHEDULED, Happening.FAILED}
    | {Happening.WITHDRAWN, Happening.APPLIED, Happening.EXPIRED}
)


@dataclass(frozen=True, slots=True)
class Approval:
    """Somebody's yes."""

    actor: str
    at: datetime
    grants: tuple[Grant, ...]
    """What they were allowed when they said it."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened."""

    happening: Happening
    actor: str
    at: datetime
    text: str = ""
    """A comment, a reason, or what went wrong."""

    grants: tuple[Grant, ...] = ()
    """Of who approves."""

    apply_at: datetime | None = None
    """For SCHEDULED."""

    revisions: Mapping[str, int] | None = None
    """For APPLIED: environment -> its revision afterwards."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a change request has come; what it asks for is beside it."""

    state: State
    authors: tuple[str, ...]
    """Who opened or revised it. Their approvals never count."""

    action: Action
    """What one must be allowed, in every environment, to make the change."""

    content_number: int = 1
    """Counts its contents."""

    step_count: int = 1
    """Steps so far; who goes on names the count that they knew."""

    approvals: tuple[Approval, ...] = ()
    apply_at: datetime | None = None
    scheduled_by: str = ""
    scheduled_grants: tuple[Grant, ...] = ()
    """What they were allowed when they scheduled it."""

    revisions: Mapping[str, int] | None = None
    note: str = ""
    """Why it is where it is, when there is more to say than the state."""


def opened(step: Step, action: Action) -> Progress:
    """A new change request."""
    return Progress(State.OPEN, (step.actor,), action)


def advance(progress: Progress, step: Step) -> Progress:
    """What a change request is after something happened. Errors: Refused when that cannot happen in its state."""
    state = ARROWS.get((progress.state, step.happening))
    if state is None:
        raise Refused(f"a change request that is {progress.state} cannot be {step.happening}{_help(progress.state)}")
    after = replace(progress, state=state, step_count=progress.step_count + 1)
    if step.happening in _DROPPING:
        after = replace(after, approvals=())
    if step.happening in _UNSCHEDULING:
        after = replace(after, apply_at=None, scheduled_by="", scheduled_grants=())
    return _detailed(after, step)


def _detailed(after: Progress, step: Step) -> Progress:
    match step.happening:
        case Happening.APPROVED | Happening.COMPLETED:
            others = tuple(each for each in after.approvals if each.actor != step.actor)
            return replace(after, approvals=(*others, Approval(step.actor, step.at, step.grants)), note="")
        case Happening.REVISED:
            authors = (*(each for each in after.authors if each != step.actor), step.actor)
            return replace(after, authors=authors, content_number=after.content_number + 1, note="")
        case Happening.SCHEDULED:
            return replace(after, apply_at=step.apply_at, scheduled_by=step.actor, scheduled_grants=step.grants)
        case Happening.APPLIED:
            return replace(after, revisions=step.revisions, note="")
        case Happening.OUTDATED | Happening.LACKING | Happening.FAILED | Happening.REJECTED | Happening.WITHDRAWN:
            return replace(after, note=step.text)
    return after


def _help(state: State) -> str:
    if state in CLOSED:
        return "; ask for the change again"
    return "; revise it, or ask for it anew against what is there now" if state in (State.STALE, State.REJECTED) else ""
