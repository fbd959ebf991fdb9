"""Say how far a release has come, and what happened to it."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, TypeAlias

from server.core.access import Grant
from server.core.change_requests.machine import Approval
from server.core.guards.verdicts import Verdict
from server.core.releases.plan import Plan, Target


class State(StrEnum):
    """Where a release is."""

    CREATED = "created"
    """Nobody has started it."""

    AWAITING_START = "awaiting-start"
    """It starts as soon as it has its approvals, and its time has come."""

    RUNNING = "running"
    AWAITING_APPROVAL = "awaiting-approval"
    """All other gates of the step hold; people are asked."""

    HELD = "held"
    """It stays at its step until a person says more; it is still watched."""

    PAUSED = "paused"
    """As HELD, and the step's time stands still, too."""

    COMPLETED = "completed"
    ROLLED_BACK = "rolled-back"
    ABORTED = "aborted"
    """It ended where it was; its flags stay as they are."""


BEFORE_START: Final = frozenset({State.CREATED, State.AWAITING_START})
LIVE: Final = frozenset({State.RUNNING, State.AWAITING_APPROVAL, State.HELD, State.PAUSED})
"""It has begun and has not ended."""

GOING: Final = (State.RUNNING, State.AWAITING_APPROVAL)
"""It goes on by itself, or would as soon as people agree."""

ENDED: Final = frozenset({State.COMPLETED, State.ROLLED_BACK, State.ABORTED})


class Happening(StrEnum):
    """What happens to a release."""

    CREATED = "created"
    REVISED = "revised"
    """It has another plan; approvals are dropped."""

    START_ASKED = "start-asked"
    APPROVED = "approved"
    STARTED = "started"
    JUDGED = "judged"
    """A guard's verdict made a difference to a gate."""

    WARNED = "warned"
    GO_ASKED = "go-asked"
    """Somebody outside is asked whether it may go on."""

    ANSWERED = "answered"
    APPROVAL_ASKED = "approval-asked"
    APPROVAL_NOT_ASKED = "approval-not-asked"
    """A gate does not hold any more, so nobody needs to agree now."""

    ADVANCED = "advanced"
    JUMPED = "jumped"
    PAUSED = "paused"
    RESUMED = "resumed"
    HELD = "held"
    BLOCKED = "blocked"
    """The change was due and could not be made; it is tried again."""

    DEADLINE_MISSED = "deadline-missed"
    ROLLED_BACK = "rolled-back"
    RESTARTED = "restarted"
    COMPLETED = "completed"
    ABORTED = "aborted"


_ALL_BUT_ENDED: Final = BEFORE_START | LIVE

ARROWS: Final[dict[tuple[State, Happening], State]] = {
    **{(state, Happening.REVISED): State.CREATED for state in BEFORE_START},
    **{(state, Happening.START_ASKED): State.AWAITING_START for state in BEFORE_START},
    **{(state, Happening.STARTED): State.RUNNING for state in BEFORE_START},
    **{(state, Happening.APPROVED): state for state in _ALL_BUT_ENDED},
    **{(state, Happening.BLOCKED): state for state in _ALL_BUT_ENDED},
    **{(state, Happening.DEADLINE_MISSED): state for state in _ALL_BUT_ENDED},
    **{(state, Happening.ABORTED): State.ABORTED for state in _ALL_BUT_ENDED},
    **{(state, Happening.JUDGED): state for state in LIVE},
    **{(state, Happening.WARNED): state for state in LIVE},
    **{(state, Happening.ANSWERED): state for state in LIVE},
    (State.RUNNING, Happening.GO_ASKED): State.RUNNING,
    (State.RUNNING, Happening.APPROVAL_ASKED): State.AWAITING_APPROVAL,
    (State.AWAITING_APPROVAL, Happening.APPROVAL_NOT_ASKED): State.RUNNING,
    **{(state, Happening.ADVANCED): State.RUNNING for state in (*GOING, State.HELD)},
    **{(state, Happening.JUMPED): State.RUNNING for state in (*GOING, State.HELD)},
    (State.PAUSED, Happening.ADVANCED): State.PAUSED,
    (State.PAUSED, Happening.JUMPED): State.PAUSED,
    **{(state, Happening.PAUSED): State.PAUSED for state in (*GOING, State.HELD)},
    **{(state, Happening.RESUMED): State.RUNNING for state in (State.PAUSED, State.HELD)},
    **{(state, Happening.HELD): State.HELD for state in (*GOING, State.PAUSED)},
    **{(state, Happening.COMPLETED): State.COMPLETED for state in LIVE},
    **{(state, Happening.ROLLED_BACK): State.ROLLED_BACK for state in LIVE | ENDED},
    **{(state, Happening.RESTARTED): State.RUNNING for state in (State.ROLLED_BACK, State.ABORTED)},
}
"""(state, what happens) -> state. What is not here cannot happen."""


class Act(StrEnum):
    """What somebody asks of a release."""

    START = "start"
    APPROVE = "approve"
    PAUSE = "pause"
    RESUME = "resume"
    HOLD = "hold"
    ADVANCE = "advance"
    JUMP = "jump"
    ROLL_BACK = "roll-back"
    RESTART = "restart"
    COMPLETE = "complete"
    ABORT = "abort"


@dataclass(frozen=True, slots=True)
class Command:
    """Somebody asks for something."""

    act: Act
    actor: str
    text: str = ""
    step: int = 0
    """For JUMP: counted from 0."""

    target: Target | None = None
    """For ROLL_BACK; None is where the plan says."""

    grants: tuple[Grant, ...] = ()
    """For APPROVE: what they were allowed then."""

    lacking: str = ""
    """For START and APPROVE: what the environments' own policies still ask for then."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""

    lacking: str = ""
    """As Command has it; counts before the start."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A guard has said something."""

    guard: str
    verdict: Verdict
    text: str = ""
    value: float | None = None
    threshold: float | None = None
    sample_count: int | None = None
    evaluation: str = ""
    """Which word of the guard this is; the same one is heard once. As causes name it: `guard:<key>@<instant>`."""


@dataclass(frozen=True, slots=True)
class Answered:
    """Somebody outside said go or no-go."""

    name: str
    go: bool
    actor: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Blocked:
    """What was due could not be done."""

    text: str
    retry_at: datetime


@dataclass(frozen=True, slots=True)
class Revised:
    """It is to do something else."""

    plan: Plan
    actor: str
    grants: tuple[Grant, ...] = ()


Event: TypeAlias = Command | Tick | Judged | Answered | Blocked | Revised


@dataclass(frozen=True, slots=True)
class CheckProgress:
    """What a guard said during a step. Counts go no further than they matter, so that no news changes nothing."""

    guard: str
    verdict: Verdict | None = None
    fails: int = 0
    inconclusives: int = 0
    no_data_in_a_row: int = 0
    errors_in_a_row: int = 0
    passes_in_a_row: int = 0
    sampled: bool = False
    """Whether its observations are as many as the step asks for."""

    warned: bool = False
    value: float | None = None
    threshold: float | None = None
    text: str = ""
    evaluation: str = ""


@dataclass(frozen=True, slots=True)
class ExternalProgress:
    """A question to somebody outside."""

    name: str
    asked_at: datetime | None = None
    go: bool | None = None
    """None: no answer yet."""

    actor: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a release has come."""

    state: State
    authors: tuple[str, ...]
    """Who drew it up or revised it. Their approvals never count."""

    owner: str
    """In whose name what happens by itself is done."""

    owner_grants: tuple[Grant, ...] = ()
    """What they were allowed when they said so."""

    event_count: int = 1
    """Who goes on names the count that they knew."""

    step: int = -1
    """Where it is; -1: before the first step, or back at the anchor."""

    reached: int = -1
    """The furthest step that was ever served."""

    started_at: datetime | None = None
    entered_at: datetime | None = None
    paused_at: datetime | None = None
    paused_s: float = 0.0
    """How long it was paused since the step was entered."""

    ended_at: datetime | None = None
    start_approvals: tuple[Approval, ...] = ()
    step_approvals: tuple[Approval, ...] = ()
    """For the step where it is; none of them is left in another step."""

    checks: tuple[CheckProgress, ...] = ()
    externals: tuple[ExternalProgress, ...] = ()
    deadline_missed: bool = False
    was_off: bool = False
    """Whether a roll-back has turned its flags off since they were last brought back."""

    blocked: str = ""
    """Why what was due could not be done."""

    retry_at: datetime | None = None
    note: str = ""
    """Why it is where it is, when there is more to say than the state."""


@dataclass(frozen=True, slots=True)
class Release:
    """What a release is to do, and how far it has come."""

    plan: Plan
    progress: Progress
