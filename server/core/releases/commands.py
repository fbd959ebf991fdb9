"""Do with a release what people ask for."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from server.core.change_requests.machine import Approval
from server.core.errors import Refused
from server.core.releases.gates import gates_of
from server.core.releases.progress import BEFORE_START, Act, Command, Happening, State
from server.core.releases.walking import (
    LEFT,
    Direction,
    Walk,
    advance,
    ask_start,
    entered,
    help_in,
    roll_back,
    start_lacking,
    try_start,
    unpaused,
)


def _start(walk: Walk, command: Command) -> None:
    walk.lacking = command.lacking
    if walk.progress.state not in BEFORE_START:
        raise Refused(f"the release is {walk.progress.state}; it was started before{help_in(walk.progress.state)}")
    _refuse_late(walk)
    if not try_start(walk, command.actor, command.text) and walk.progress.state is State.CREATED:
        ask_start(walk, command.actor, command.text)


def _refuse_late(walk: Walk) -> None:
    if walk.plan.cutoff_at is not None and walk.now >= walk.plan.cutoff_at:
        raise Refused(f"its flags were to be turned off at {walk.plan.cutoff_at.isoformat()}, which is past; revise it")


def _approve(walk: Walk, command: Command) -> None:
    progress = walk.progress
    if command.actor in progress.authors:
        raise Refused(f"{command.actor} drew this release up, and one's own approval does not count")
    given = Approval(command.actor, walk.now, command.grants)
    if progress.state is State.AWAITING_APPROVAL:
        approvals = (*(each for each in progress.step_approvals if each.actor != command.actor), given)
        walk.happen(Happening.APPROVED, actor=command.actor, text=command.text, step_approvals=approvals)
        return
    if progress.state not in BEFORE_START and not progress.blocked:
        raise Refused(f"nothing asks for an approval: the release is {progress.state}")
    approvals = (*(each for each in progress.start_approvals if each.actor != command.actor), given)
    walk.lacking = command.lacking
    walk.happen(
        Happening.APPROVED, actor=command.actor, text=command.text, start_approvals=approvals, retry_at=None, blocked=""
    )
    if walk.progress.state is State.AWAITING_START:
        walk.progress = replace(walk.progress, note=start_lacking(walk))


def _pause(walk: Walk, command: Command) -> None:
    walk.happen(Happening.PAUSED, actor=command.actor, text=command.text, paused_at=walk.now, note=command.text)


def _resume(walk: Walk, command: Command) -> None:
    progress = walk.progress
    # Who said no, or nothing, is asked again.
    kept = tuple(each for each in progress.externals if each.go)
    walk.happen(
        Happening.RESUMED,
        actor=command.actor,
        text=command.text,
        externals=kept,
        note="",
        blocked="",
        retry_at=None,
        **unpaused(walk),
    )


def _hold(walk: Walk, command: Command) -> None:
    walk.happen(Happening.HELD, actor=command.actor, text=command.text, note=command.text or "held", **unpaused(walk))


def _advance(walk: Walk, command: Command) -> None:
    advance(walk, actor=command.actor, text=command.text or "advanced by hand")


def _jump(walk: Walk, command: Command) -> None:
    here, there = walk.progress.step, command.step
    if not 0 <= there < len(walk.plan.steps):
        raise Refused(f"there is no step {there + 1}; the release has {len(walk.plan.steps)}")
    if there == here:
        raise Refused(f"the release is at step {there + 1} already")
    walk.go(Direction.FORWARD if there > here else Direction.SET, there)
    gates = gates_of(walk.release, walk.now)
    fields = entered(walk, there)
    walk.happen(Happening.JUMPED, actor=command.actor, text=command.text, to_step=there, gates=gates, **fields)


def _roll_back_asked(walk: Walk, command: Command) -> None:
    roll_back(walk, command.target or walk.plan.back_to, actor=command.actor, text=command.text or "asked for")


def _restart(walk: Walk, command: Command) -> None:
    if walk.progress.reached < 0:
        raise Refused("the release has never begun, so it cannot begin again; draw up a new one")
    _refuse_late(walk)
    walk.go(Direction.SET, 0)
    fields = {**entered(walk, 0), "ended_at": None, "was_off": False, "deadline_missed": False}
    walk.happen(Happening.RESTARTED, actor=command.actor, text=command.text, to_step=0, **fields)


def _complete(walk: Walk, command: Command) -> None:
    last = len(walk.plan.steps) - 1
    gates = gates_of(walk.release, walk.now)
    if walk.progress.step < last:
        walk.go(Direction.FORWARD, last)
    fields = {**entered(walk, last), "ended_at": walk.now, "paused_at": None}
    walk.happen(Happening.COMPLETED, actor=command.actor, text=command.text, to_step=last, gates=gates, **fields)


def _abort(walk: Walk, command: Command) -> None:
    fields = {**LEFT, "note": command.text, "ended_at": walk.now}
    walk.happen(Happening.ABORTED, actor=command.actor, text=command.text, **fields)


COMMANDS: Final[Mapping[Act, Callable[[Walk, Command], None]]] = {
    Act.START: _start,
    Act.APPROVE: _approve,
    Act.PAUSE: _pause,
    Act.RESUME: _resume,
    Act.HOLD: _hold,
    Act.ADVANCE: _advance,
    Act.JUMP: _jump,
    Act.ROLL_BACK: _roll_back_asked,
    Act.RESTART: _restart,
    Act.COMPLETE: _complete,
    Act.ABORT: _abort,
}
