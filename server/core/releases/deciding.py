"""Decide what happens to a release by itself, the more careful thing first.

A roll-back is never delayed by time, samples or approvals; people are asked last, when nothing else is in the way.
"""

from dataclasses import replace

from server.core.releases.gates import (
    APPROVAL,
    EXTERNAL,
    Gate,
    applied_policy,
    check_of,
    external_of,
    gates_of,
    is_silent,
    others_hold,
)
from server.core.releases.plan import BackTo, OnTimeout, Policy, Target
from server.core.releases.progress import BEFORE_START, LIVE, Happening, State
from server.core.releases.walking import ITSELF, Walk, advance, ask_start, roll_back, try_start


def decide(walk: Walk) -> None:
    """Go on as far as it goes; each round does one thing, and none does what a round before it did."""
    # A step can be entered, asked about, and left: each once.
    for _ in range(8 * len(walk.plan.steps) + 8):
        if not _decide_once(walk):
            return
    raise AssertionError("a release does not come to rest")


def _decide_once(walk: Walk) -> bool:
    state = walk.progress.state
    if state in BEFORE_START:
        return _begin(walk)
    if state not in LIVE:
        return False
    if _take_back(walk) or _miss_deadline(walk):
        return True
    retry_at = walk.progress.retry_at
    if retry_at is not None and walk.now < retry_at:
        return False
    return state in (State.RUNNING, State.AWAITING_APPROVAL) and _go_on(walk)


def _begin(walk: Walk) -> bool:
    plan, state = walk.plan, walk.progress.state
    if _miss_deadline(walk):
        return True
    due = plan.starts_at is not None and walk.now >= plan.starts_at
    retry_at = walk.progress.retry_at
    if (retry_at is not None and walk.now < retry_at) or (plan.cutoff_at is not None and walk.now >= plan.cutoff_at):
        return False
    if state is State.CREATED and due:
        if not try_start(walk, ITSELF, "its time has come"):
            ask_start(walk, ITSELF, "its time has come")
        return True
    ready = state is State.AWAITING_START and (due or plan.starts_at is None)
    return ready and try_start(walk, ITSELF, "it has its approvals")


def _take_back(walk: Walk) -> bool:
    """What takes a release back, whatever else it waits for."""
    progress, now = walk.progress, walk.now
    evidence = gates_of(walk.release, now)
    for check in walk.gates.checks:
        said = check_of(progress, check)
        if not check.dry_run and applied_policy(check, said) is Policy.ROLL_BACK:
            text = f"{check.guard} says {said.verdict}{f': {said.text}' if said.text else ''}"
            if roll_back(walk, walk.plan.back_to, text=text, gates=evidence):
                return True
    if walk.plan.cutoff_at is not None and now >= walk.plan.cutoff_at:
        return roll_back(walk, Target(BackTo.OFF), text=f"cut off at {walk.plan.cutoff_at.isoformat()}")
    for external in walk.gates.externals:
        asked = external_of(progress, external)
        # The time to answer stands still in a pause, and who has not answered by then is asked again.
        silent = progress.state is not State.PAUSED and is_silent(external, asked, now)
        refused = asked.go is False
        policy = external.on_no_go if refused else external.on_timeout if silent else OnTimeout.GO
        text = next(each.text for each in evidence if each.kind == EXTERNAL and each.name == external.name)
        if policy is OnTimeout.ROLL_BACK and roll_back(walk, walk.plan.back_to, text=text, gates=evidence):
            return True
        if policy is OnTimeout.HOLD and progress.state in (State.RUNNING, State.AWAITING_APPROVAL):
            walk.happen(Happening.HELD, text=text, gates=evidence, note=text)
            return True
    return False


def _miss_deadline(walk: Walk) -> bool:
    deadline = walk.plan.deadline
    if deadline is None or walk.progress.deadline_missed or walk.now < deadline.at:
        return False
    text = f"it was to be completed by {deadline.at.isoformat()}"
    walk.happen(Happening.DEADLINE_MISSED, text=text, deadline_missed=True)
    if walk.progress.state in LIVE:
        if deadline.policy is Policy.ROLL_BACK:
            roll_back(walk, walk.plan.back_to, text=text)
        elif deadline.policy is Policy.HOLD and walk.progress.state in (State.RUNNING, State.AWAITING_APPROVAL):
            walk.happen(Happening.HELD, text=text, note=text)
    return True


def _go_on(walk: Walk) -> bool:
    gates = gates_of(walk.release, walk.now)
    if _warn(walk, gates) or _ask_outside(walk, gates):
        return True
    others, awaiting = others_hold(gates), walk.progress.state is State.AWAITING_APPROVAL
    if not others:
        if awaiting:
            text = next(each.text for each in gates if not each.holds and each.kind != APPROVAL)
            walk.happen(Happening.APPROVAL_NOT_ASKED, text=text, gates=gates, step_approvals=())
        return awaiting
    if not all(each.holds for each in gates):
        if not awaiting:
            walk.happen(Happening.APPROVAL_ASKED, text="all other gates hold", gates=gates)
        return not awaiting
    advance(walk, text="all gates hold", gates=gates)
    return True


def _warn(walk: Walk, gates: tuple[Gate, ...]) -> bool:
    for check in walk.gates.checks:
        said = check_of(walk.progress, check)
        if applied_policy(check, said) is Policy.WARN and not said.warned and not check.dry_run:
            others = (each for each in walk.progress.checks if each.guard != check.guard)
            text = f"{check.guard} says {said.verdict}{f': {said.text}' if said.text else ''}"
            walk.happen(Happening.WARNED, text=text, gates=gates, checks=(*others, replace(said, warned=True)))
            return True
    return False


def _ask_outside(walk: Walk, gates: tuple[Gate, ...]) -> bool:
    if not all(each.holds for each in gates if each.kind not in (EXTERNAL, APPROVAL)):
        return False
    progress = walk.progress
    asked = [external_of(progress, each) for each in walk.gates.externals]
    unasked = [each for each in asked if each.asked_at is None and each.go is None]
    if not unasked or progress.state is not State.RUNNING:
        return False
    names = ", ".join(each.name for each in unasked)
    after = tuple(replace(each, asked_at=walk.now) if each in unasked else each for each in asked)
    walk.happen(Happening.GO_ASKED, text=names, gates=gates, externals=after)
    return True
