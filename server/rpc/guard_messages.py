"""Turn guards, roll-back policies and what was said of them into messages, and back."""

from collections.abc import Collection, Mapping
from enum import Enum
from typing import Any, Final, TypeVar

from protos.flagstaff.v1 import guards_pb2 as messages
from server.core.errors import InvalidRequest
from server.core.guards.guards import Guard, Method
from server.core.guards.machine import State
from server.core.guards.policies import Aim, Mode, Policy, Reach, ReachKind, Reaction, Trigger, TriggerKind
from server.core.guards.verdicts import Verdict
from server.rpc.timestamps import instant, timestamp
from server.store.guard_evaluations import Evaluation
from server.store.guards import Judged, StoredGuard
from server.store.rollback_policies import StoredPolicy

E = TypeVar("E", bound=Enum)

GUARD_FIELDS: Final = {
    name: name
    for name in (
        *("metric", "flag", "variant", "control_variant", "provider", "query", "control_query", "method", "low"),
        *(
            "high",
            "margin",
            "sample_min",
            "sample_ratio",
            "window_s",
            "stale_after_s",
            "initial_delay_s",
            "interval_s",
            "description",
        ),
    )
}
POLICY_FIELDS: Final = {
    name: name
    for name in (
        *("triggers", "reach", "aim", "step", "mode", "confirm", "confirm_of", "exposures_min", "duration_min_s"),
        *("cool_down_s", "on_no_data", "on_inconclusive", "on_error", "tolerated", "auto_resume", "description"),
    )
}
"""What an update may set, by the names of messages' fields and of values'."""


def _numbers(enum: Any, members: type[E], prefix: str) -> dict[E, Any]:
    return {each: enum.Value(f"{prefix}_{each.name}") for each in members}


VERDICTS: Final = _numbers(messages.Verdict, Verdict, "VERDICT")
METHODS: Final = _numbers(messages.Guard.Method, Method, "METHOD")
AIMS: Final = _numbers(messages.RollbackPolicy.Aim, Aim, "AIM")
MODES: Final = _numbers(messages.RollbackPolicy.Mode, Mode, "MODE")
REACTIONS: Final = _numbers(messages.RollbackPolicy.Reaction, Reaction, "REACTION")
STATES: Final = _numbers(messages.RollbackPolicy.State, State, "STATE")
TRIGGERS: Final = _numbers(messages.RollbackTrigger.Kind, TriggerKind, "KIND")
REACHES: Final = _numbers(messages.RollbackReach.Kind, ReachKind, "KIND")


_GUARD: Final = Guard("", "")
_POLICY: Final = Policy("", "", (), Reach(ReachKind.FLAG))
"""The defaults."""


def read_guard_message(given: messages.Guard) -> Guard:
    """A guard as somebody asks for it. Errors: InvalidRequest for an enum's value that there is not."""
    return Guard(
        key=given.key,
        environment=given.environment,
        metric=given.metric,
        flag=given.flag,
        variant=given.variant,
        control_variant=given.control_variant,
        provider=given.provider,
        query=given.query,
        control_query=given.control_query,
        method=_member(METHODS, given.method, "guard.method", Method.THRESHOLD),
        low=given.low if given.HasField("low") else None,
        high=given.high if given.HasField("high") else None,
        margin=given.margin,
        sample_min=given.sample_min,
        sample_ratio=given.sample_ratio,
        window_s=given.window_s or _GUARD.window_s,
        stale_after_s=given.stale_after_s,
        initial_delay_s=given.initial_delay_s,
        interval_s=given.interval_s or _GUARD.interval_s,
        description=given.description,
    )


def read_policy_message(given: messages.RollbackPolicy, *, partial: Collection[str] = ()) -> Policy:
    """A policy as somebody asks for it, or those fields of it that an update sets. Errors: InvalidRequest."""
    reach = Reach(ReachKind.FLAG)
    if not partial or "reach" in partial:
        kind = _member(REACHES, given.reach.kind, "policy.reach.kind", None)
        reach = Reach(kind, given.reach.key, given.reach.rule)
    confirm = given.confirm or 1
    return Policy(
        key=given.key,
        environment=given.environment,
        triggers=tuple(_trigger(each, place) for place, each in enumerate(given.triggers)),
        reach=reach,
        aim=_member(AIMS, given.aim, "policy.aim", Aim.OFF),
        step=given.step,
        mode=_member(MODES, given.mode, "policy.mode", Mode.ENFORCE),
        confirm=confirm,
        confirm_of=given.confirm_of or confirm,
        exposures_min=given.exposures_min,
        duration_min_s=given.duration_min_s,
        cool_down_s=given.cool_down_s if given.HasField("cool_down_s") else _POLICY.cool_down_s,
        on_no_data=_member(REACTIONS, given.on_no_data, "policy.on_no_data", _POLICY.on_no_data),
        on_inconclusive=_member(REACTIONS, given.on_inconclusive, "policy.on_inconclusive", _POLICY.on_inconclusive),
        on_error=_member(REACTIONS, given.on_error, "policy.on_error", _POLICY.on_error),
        tolerated=given.tolerated if given.HasField("tolerated") else _POLICY.tolerated,
        auto_resume=given.auto_resume,
        description=given.description,
    )


def guard_message(stored: StoredGuard) -> messages.Guard:
    """A guard, and what was said of it last."""
    guard = stored.guard
    message = messages.Guard(
        key=guard.key,
        environment=guard.environment,
        metric=guard.metric,
        flag=guard.flag,
        variant=guard.variant,
        control_variant=guard.control_variant,
        provider=guard.provider,
        query=guard.query,
        control_query=guard.control_query,
        method=METHODS[guard.method],
        low=guard.low,
        high=guard.high,
        margin=guard.margin,
        sample_min=guard.sample_min,
        sample_ratio=guard.sample_ratio,
        window_s=guard.window_s,
        stale_after_s=guard.stale_after_s,
        initial_delay_s=guard.initial_delay_s,
        interval_s=guard.interval_s,
        description=guard.description,
        version=stored.version,
    )
    if stored.last is not None:
        message.last.CopyFrom(judgement_message(stored.last))
    return message


def judgement_message(judged: Judged) -> messages.Judgement:
    """What was said of a guard."""
    judgement = judged.judgement
    return messages.Judgement(
        verdict=VERDICTS[judgement.verdict],
        value=judgement.value,
        threshold=judgement.threshold,
        control_value=judgement.control_value,
        sample_count=judgement.sample_count,
        text=judgement.text,
        method=judgement.method,
        at=timestamp(judged.at),
    )


def policy_message(stored: StoredPolicy) -> messages.RollbackPolicy:
    """A policy, and how far it has come."""
    policy, progress = stored.policy, stored.progress
    message = messages.RollbackPolicy(
        key=policy.key,
        environment=policy.environment,
        triggers=[_trigger_message(each) for each in policy.triggers],
        reach=messages.RollbackReach(kind=REACHES[policy.reach.kind], key=policy.reach.key, rule=policy.reach.rule),
        aim=AIMS[policy.aim],
        step=policy.step,
        mode=MODES[policy.mode],
        confirm=policy.confirm,
        confirm_of=policy.confirm_of,
        exposures_min=policy.exposures_min,
        duration_min_s=policy.duration_min_s,
        cool_down_s=policy.cool_down_s,
        on_no_data=REACTIONS[policy.on_no_data],
        on_inconclusive=REACTIONS[policy.on_inconclusive],
        on_error=REACTIONS[policy.on_error],
        tolerated=policy.tolerated,
        auto_resume=policy.auto_resume,
        description=policy.description,
        version=stored.version,
        state=STATES[progress.state],
        anchor_revision=progress.anchor,
        armed_at=timestamp(progress.armed_at),
        author=stored.author,
    )
    if progress.cooling_until is not None:
        message.cooling_until.CopyFrom(timestamp(progress.cooling_until))
    return message


def evaluation_message(evaluation: Evaluation) -> messages.GuardEvaluation:
    """What was said or happened, and what came of it."""
    event, judgement = evaluation.event, evaluation.judgement
    message = messages.GuardEvaluation(
        number=evaluation.number,
        environment=evaluation.environment,
        guard=evaluation.guard,
        policy=evaluation.policy,
        happening=event.happening.value,
        name=event.name,
        outcome=evaluation.outcome,
        text=evaluation.text,
        at=timestamp(event.at),
    )
    if judgement is not None:
        message.judgement.CopyFrom(judgement_message(Judged(judgement, event.at)))
    return message


def _trigger(given: messages.RollbackTrigger, place: int) -> Trigger:
    path = f"policy.triggers[{place}]"
    return Trigger(
        _member(TRIGGERS, given.kind, f"{path}.kind", None),
        given.name,
        instant(given.at, f"{path}.at") if given.HasField("at") else None,
        given.within_s,
    )


def _trigger_message(trigger: Trigger) -> messages.RollbackTrigger:
    return messages.RollbackTrigger(
        kind=TRIGGERS[trigger.kind],
        name=trigger.name,
        at=None if trigger.at is None else timestamp(trigger.at),
        within_s=trigger.within_s,
    )


def _member(known: Mapping[E, Any], number: int, field: str, default: E | None) -> E:
    """The member that a number stands for; 0 is the default, where there is one."""
    if number == 0 and default is not None:
        return default
    for member, each in known.items():
        if each == number:
            return member
    expected = ", ".join(str(each.name) for each in known)
    raise InvalidRequest(f"{field} is {number}, expected one of {expected}")
