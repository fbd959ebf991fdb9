"""Walk a release through one event: what happens on the way, where its flags go, how a step is left and taken back."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, assert_never

from server.core.counting import counted
from server.core.errors import Refused
from server.core.releases.checking import target_problems
from server.core.releases.foretelling import entered_by_clock, paused_by_clock
from server.core.releases.gates import Gate, elapsed_s, gates_of
from server.core.releases.plan import BackTo, Gates, Plan, Target
from server.core.releases.progress import ARROWS, BEFORE_START, Happening, Progress, Release, State

ITSELF: Final = ""
"""The actor of what happens by itself."""

RETRY_S: Final = 60.0
"""After this long a change that could not be made is tried again."""


class Direction(StrEnum):
    """What a move does to the flags."""

    FORWARD = "forward"
    """The patches of the steps on the way."""

    SET = "set"
    """All that the plan touches, as it is to be at a step; before the first one that is the anchor."""

    OFF = "off"


@dataclass(frozen=True, slots=True)
class Move:
    """What the flags of a release are to do. Steps count from 0; -1 is before the first."""

    direction: Direction
    from_step: int
    to_step: int


@dataclass(frozen=True, slots=True)
class Told:
    """One thing that happened."""

    happening: Happening
    actor: str
    """ITSELF, or who asked for it."""

    text: str
    from_step: int
    to_step: int
    gates: tuple[Gate, ...] = ()
    """How they stood: the evidence."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an event."""

    release: Release
    """The very same one when nothing came of it."""

    move: Move | None = None
    told: tuple[Told, ...] = ()


@dataclass(slots=True)
class Walk:
    """A release on its way through one event."""

    plan: Plan
    progress: Progress
    now: datetime
    lacking: str = ""
    move: Move | None = None
    told: list[Told] = field(default_factory=list)

    @property
    def release(self) -> Release:
        """As it is on the way."""
        return Release(self.plan, self.progress)

    @property
    def gates(self) -> Gates:
        """What the step asks for where it is."""
        step = self.progress.step
        return self.plan.steps[step].gates if 0 <= step < len(self.plan.steps) else Gates()

    def happen(
        self,
        happening: Happening,
        *,
        actor: str = ITSELF,
        text: str = "",
        to_step: int | None = None,
        gates: tuple[Gate, ...] = (),
        **fields: Any,
    ) -> None:
        """Take an arrow, and set these fields of its progress. Errors: Refused when there is none."""
        before = self.progress
        state = ARROWS.get((before.state, happening))
        if state is None:
            raise Refused(f"a release that is {before.state} cannot be {happening}{help_in(before.state)}")
        self.progress = replace(before, state=state, **fields)
        place = before.step if to_step is None else to_step
        self.told.append(Told(happening, actor, text, before.step, place, gates))

    def go(self, direction: Direction, to_step: int) -> None:
        """Note the move; several in one event are one, from where the first began."""
        start = self.move.from_step if self.move is not None else self.progress.step
        if self.move is not None and direction is Direction.FORWARD:
            direction = self.move.direction
        self.move = Move(direction, start, to_step)


LEFT: Final[Mapping[str, Any]] = {
    "paused_at": None,
    "paused_s": 0.0,
    "step_approvals": (),
    "checks": (),
    "externals": (),
    "blocked": "",
    "retry_at": None,
    "note": "",
}
"""What a step leaves nothing of."""


def entered(walk: Walk, step: int, *, entered_at: datetime | None = None) -> dict[str, Any]:
    """What progress has at the beginning of a step."""
    reached = max(walk.progress.reached, step)
    paused = {"paused_at": walk.now} if walk.progress.state is State.PAUSED else {}
    began = entered_by_clock(walk.plan, entered_at or walk.now)
    return {**LEFT, **paused, "step": step, "reached": reached, "entered_at": began}


def unpaused(walk: Walk) -> dict[str, Any]:
    """What progress has after a pause, if there was one: its length counts out."""
    progress = walk.progress
    if progress.state is not State.PAUSED or progress.paused_at is None:
        return {}
    rest_s = max(0.0, (walk.now - progress.paused_at).total_seconds())
    return {"paused_at": None, "paused_s": paused_by_clock(walk.plan, progress.paused_s + rest_s)}


def ask_start(walk: Walk, actor: str, text: str) -> None:
    """Wait for the approvals that the start needs."""
    walk.happen(Happening.START_ASKED, actor=actor, text=text, note=start_lacking(walk))


def try_start(walk: Walk, actor: str, text: str) -> bool:
    """Begin with the first step; False where approvals are lacking."""
    if start_lacking(walk):
        return False
    walk.go(Direction.FORWARD, 0)
    fields = {**entered(walk, 0), "started_at": walk.now}
    walk.happen(Happening.STARTED, actor=actor, text=text, to_step=0, **fields)
    return True


def start_lacking(walk: Walk) -> str:
    """What is still asked for before it may start; "" for nothing."""
    have, wanted = len(walk.progress.start_approvals), walk.plan.start_approvals
    own = f"the release asks for {counted(wanted, 'approval')} to start and has {have}" if have < wanted else ""
    return "; ".join(each for each in (own, walk.lacking) if each)


def advance(walk: Walk, *, actor: str = ITSELF, text: str, gates: tuple[Gate, ...] | None = None) -> None:
    """Leave the step for the next one, or for the end; steps that only time holds are passed as one."""
    evidence = gates_of(walk.release, walk.now) if gates is None else gates
    here, last = walk.progress.step, len(walk.plan.steps) - 1
    if here >= last:
        # A release that is done needs no move.
        walk.happen(
            Happening.COMPLETED,
            actor=actor,
            text=text,
            gates=evidence,
            **{**LEFT, "ended_at": walk.now, "paused_at": None},
        )
        return
    there = here + 1
    entered_at = _entered_at(walk, there) if actor == ITSELF else walk.now
    walk.go(Direction.FORWARD, there)
    before = walk.told[-1] if walk.told else None
    walk.happen(
        Happening.ADVANCED,
        actor=actor,
        text=text,
        to_step=there,
        gates=evidence,
        **entered(walk, there, entered_at=entered_at),
    )
    if before is not None and before.happening is Happening.ADVANCED and before.actor == actor == ITSELF:
        # Several at once are one advance, as they are one change.
        now = walk.told.pop()
        walk.told[-1] = replace(before, to_step=now.to_step, gates=(*before.gates, *now.gates))


def _entered_at(walk: Walk, there: int) -> datetime:
    """When the next step begins: when it should have, as long as nothing but time is asked for."""
    progress, gates = walk.progress, walk.gates
    if progress.entered_at is None or not gates.only_time or not walk.plan.steps[there].gates.only_time:
        # What is observed in a step begins when it is served.
        return walk.now
    due = progress.entered_at + timedelta(seconds=gates.minimum_s + progress.paused_s)
    return min(walk.now, due) if elapsed_s(progress, walk.now) >= gates.minimum_s else walk.now


def roll_back(
    walk: Walk, target: Target, *, actor: str = ITSELF, text: str, gates: tuple[Gate, ...] | None = None
) -> bool:
    """Take the release back, or hold it where it goes nowhere; False when it is held already. Errors: Refused."""
    progress = walk.progress
    evidence = gates_of(walk.release, walk.now) if gates is None else gates
    if problem := next(iter(target_problems(walk.plan, target, "target")), None):
        raise Refused(problem.message)
    if progress.reached < 0:
        raise Refused("the release has not begun, so there is nothing to roll back; abort it")
    if actor == ITSELF and target.to is BackTo.STEP and target.step >= progress.step:
        # What went wrong went wrong there, or before it.
        target = Target()
    match target.to:
        case BackTo.FREEZE:
            if progress.state is State.HELD:
                return False
            walk.happen(Happening.HELD, actor=actor, text=text, gates=evidence, note=text, **unpaused(walk))
            return True
        case BackTo.STEP:
            if target.step > progress.reached:
                raise Refused(f"step {target.step + 1} was never served, so it is no roll-back to go there; jump to it")
            there = target.step
            walk.go(Direction.SET, there)
        case BackTo.ANCHOR:
            there = -1
            walk.go(Direction.SET, there)
        case BackTo.OFF:
            there = progress.step
            walk.go(Direction.OFF, there)
        case _:
            assert_never(target.to)
    fields = {
        **LEFT,
        "step": there,
        "note": text,
        "ended_at": walk.now,
        "was_off": progress.was_off or target.to is BackTo.OFF,
    }
    walk.happen(Happening.ROLLED_BACK, actor=actor, text=text, to_step=there, gates=evidence, **fields)
    return True


def help_in(state: State) -> str:
    """What helps who asks for something in the wrong state, as the end of a sentence."""
    if state in BEFORE_START:
        return "; start it first"
    return "; restart it, or draw up a new one" if state in (State.ROLLED_BACK, State.ABORTED) else ""
