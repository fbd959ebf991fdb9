"""Tell policies what happened, do what they then want, and keep it all, in one transaction."""

import logging
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import Connection

from server.core.errors import FlagstaffError, StoreCorrupt, StoreUnavailable
from server.core.guards.machine import Decision, Event, Happening, Order, step
from server.core.guards.policies import Aim, TriggerKind
from server.core.guards.verdicts import Judgement, Verdict
from server.operations.guards.rolling_back import TakenBack, bring_again, minute, take_back
from server.operations.writes import Writer
from server.store.guard_evaluations import Evaluation, keep_evaluation, next_number
from server.store.guards import Judged, StoredGuard, read_guard, restart_guards, save_judged
from server.store.occurrences import Occurrence, note
from server.store.releases import hasten
from server.store.rollback_policies import StoredPolicy, policies_about, save_policy
from server.store.saving import Cause

GUARD: Final = "guard"
POLICY: Final = "rollback-policy"
"""As the audit trail names its subjects of these kinds."""

RETRY_S: Final = 10.0
"""After a roll-back that could not be made, the policy acts again so soon."""

_DONE: Final = {Order.ROLL_BACK: "rolled_back", Order.FREEZE: "frozen", Order.RESUME: "resumed", Order.WARN: "warned"}
_WOULD: Final = {Order.ROLL_BACK: "would_roll_back", Order.FREEZE: "would_freeze", Order.RESUME: "would_resume"}
_WORDS: Final = {Order.ROLL_BACK: "rolled back", Order.FREEZE: "stopped", Order.RESUME: "brought again"}

log = logging.getLogger("flagstaff.guards")


@dataclass(frozen=True, slots=True)
class Told:
    """What a policy did about something that happened."""

    policy: str
    outcome: str
    """What was done or would have been; "" for nothing."""

    text: str
    number: int
    """Of the evaluation that keeps it; 0 for none."""

    revision: int = 0


def conclude(connection: Connection, guard: StoredGuard, judged: Judged, writer: Writer) -> list[Told]:
    """Keep what was said of a guard, and let its policies act on it. The transaction is its project's."""
    save_judged(connection, guard, judged)
    _tell_guard(connection, guard, judged)
    judgement = judged.judgement
    if judgement.verdict is Verdict.FAIL:
        hasten(connection, project=guard.project, guard=guard.guard.key, now=judged.at)
    event = Event(
        Happening.JUDGED, judged.at, guard.guard.key, judgement.verdict, judgement.sample_count, judgement.text
    )
    policies = policies_about(connection, guard.project, TriggerKind.METRIC, guard.guard.key)
    if not policies:
        kept = Evaluation(guard.guard.environment, guard.guard.key, "", event, judgement, "", judgement.text)
        keep_evaluation(connection, guard.project, kept)
    return [tell(connection, each, event, writer, judgement=judgement) for each in policies]


def tell(
    connection: Connection, stored: StoredPolicy, event: Event, writer: Writer, *, judgement: Judgement | None = None
) -> Told:
    """Tell a policy what happened, and do what it wants. The transaction is its project's.

    Errors: Refused when that cannot happen to it; StoreUnavailable, StoreCorrupt.
    """
    decision = step(stored.policy, stored.progress, event)
    number = next_number(connection, stored.project)
    after, told = replace(stored, progress=decision.progress), Told(stored.policy.key, "", decision.text, number)
    if decision.order is not None:
        after, told = _carry_out(connection, stored, after, decision, told, event, writer, judgement)
    save_policy(connection, stored, after, now=event.at, changed_by_people=False)
    if stored.progress.armed_at != after.progress.armed_at:
        # What was observed before it was armed again was judged, and acted on.
        restart_guards(connection, stored.project, _guards(stored), since=event.at)
    if event.happening is Happening.BEAT or (event.happening is Happening.TICKED and not told.text):
        return replace(told, number=0)
    guard = event.name if event.happening is Happening.JUDGED else ""
    environment, key = stored.policy.environment, stored.policy.key
    text = told.text or event.text
    keep_evaluation(
        connection, stored.project, Evaluation(environment, guard, key, event, judgement, told.outcome, text)
    )
    return told


def _carry_out(
    connection: Connection,
    stored: StoredPolicy,
    after: StoredPolicy,
    decision: Decision,
    told: Told,
    event: Event,
    writer: Writer,
    judgement: Judgement | None,
) -> tuple[StoredPolicy, Told]:
    """Do what a decision wants, and announce it."""
    order = decision.order
    assert order is not None  # The caller has one.
    text = decision.text
    if decision.is_shadow and order in _WOULD:
        told = replace(told, outcome=_WOULD[order], text=f"would have {_WORDS[order]} at {minute(event.at)}: {text}")
    elif order is Order.WARN:
        told = replace(told, outcome=_DONE[order])
    else:
        after, told = _do(connection, stored, after, order, told, event, writer)
    occurrence = Occurrence(
        project=stored.project,
        environment=stored.policy.environment,
        kind=POLICY,
        key=stored.policy.key,
        type=f"{GUARD}.{told.outcome}",
        actor=f"{GUARD}:{stored.policy.key}",
        at=event.at,
        data={**_data(stored, decision, told, event, judgement), **_source(connection, stored, event)},
        reason=told.text,
        cause=_cause(stored, told.number),
    )
    note(connection, occurrence)
    return after, told


def _do(
    connection: Connection,
    stored: StoredPolicy,
    after: StoredPolicy,
    order: Order,
    told: Told,
    event: Event,
    writer: Writer,
) -> tuple[StoredPolicy, Told]:
    actor, cause = f"{GUARD}:{stored.policy.key}", _cause(stored, told.number)
    why = Cause(stored.project, actor, event.at, told.text, cause, "")
    savepoint = connection.begin_nested()
    try:
        back = _ordered(connection, stored, order, why, writer)
    except (StoreUnavailable, StoreCorrupt):
        raise
    except FlagstaffError as error:
        savepoint.rollback()
        log.warning("a roll-back failed", extra={"policy": stored.policy.key, "error": str(error)})
        retried = replace(after.progress, cooling_until=event.at + timedelta(seconds=RETRY_S), acted=None)
        failed = replace(after, progress=retried) if order is not Order.RESUME else after
        return failed, replace(told, outcome="roll_back_failed", text=f"{told.text}; {str(error)[:1_000]}")
    savepoint.commit()
    text = f"{told.text}; {back.text}" if back.text else told.text
    taken = back.taken if order is Order.ROLL_BACK else ()
    return replace(after, taken=taken), replace(told, outcome=_DONE[order], text=text, revision=back.revision)


def _ordered(connection: Connection, stored: StoredPolicy, order: Order, why: Cause, writer: Writer) -> TakenBack:
    match order:
        case Order.RESUME:
            return bring_again(connection, stored, why, writer)
        case Order.FREEZE:
            frozen = replace(stored, policy=replace(stored.policy, aim=Aim.FREEZE, step=0))
            return take_back(connection, frozen, why, writer)
    return take_back(connection, stored, why, writer)


def _tell_guard(connection: Connection, guard: StoredGuard, judged: Judged) -> None:
    """Announce that a guard began to fail, or passes again."""
    before = None if guard.last is None else guard.last.judgement.verdict
    now = judged.judgement.verdict
    failed = before is Verdict.FAIL
    if now is Verdict.FAIL and not failed:
        what = "breached"
    elif now is Verdict.PASS and failed:
        what = "recovered"
    else:
        return
    # It is kept next, in this transaction: by itself, or with what the first of its policies did about it.
    number = next_number(connection, guard.project)
    occurrence = Occurrence(
        project=guard.project,
        environment=guard.guard.environment,
        kind=GUARD,
        key=guard.guard.key,
        type=f"{GUARD}.{what}",
        actor=f"{GUARD}:{guard.guard.key}",
        at=judged.at,
        data={**judgement_data(guard, judged.judgement), "evaluation": number},
        reason=judged.judgement.text,
        cause=f"{GUARD}:{guard.guard.key}#{number}",
    )
    note(connection, occurrence)


def judgement_data(guard: StoredGuard, judgement: Judgement) -> dict[str, Any]:
    """What is told of a judgement."""
    return {
        "guard": guard.guard.key,
        "metric": guard.guard.metric or guard.guard.query,
        "flag": guard.guard.flag,
        "variant": guard.guard.variant,
        "window_s": guard.guard.window_s,
        **_measured(judgement),
    }


def _measured(judgement: Judgement) -> dict[str, Any]:
    return {
        "verdict": judgement.verdict.value,
        "value": judgement.value,
        "threshold": judgement.threshold,
        "control_value": judgement.control_value,
        "sample_count": judgement.sample_count,
        "method": judgement.method,
    }


def _data(
    stored: StoredPolicy, decision: Decision, told: Told, event: Event, judgement: Judgement | None
) -> dict[str, Any]:
    policy = stored.policy
    trigger = policy.triggers[decision.trigger].kind.value if decision.trigger >= 0 else ""
    return {
        "policy": policy.key,
        "mode": policy.mode.value,
        "trigger": trigger,
        "aim": policy.aim.value,
        "reach": policy.reach.kind.value,
        "flag": policy.reach.key,
        "revision": told.revision,
        "evaluation": told.number,
        "action_taken": told.outcome,
        **({} if judgement is None else _measured(judgement)),
    }


def _source(connection: Connection, stored: StoredPolicy, event: Event) -> dict[str, Any]:
    """What made it act: a guard with what that watches, or a name that somebody outside gave."""
    if event.happening is not Happening.JUDGED:
        return {"guard": "", "signal": event.name}
    guard = read_guard(connection, stored.project, event.name).guard
    return {
        "guard": guard.key,
        "signal": "",
        "metric": guard.metric or guard.query,
        "window_s": guard.window_s,
    }


def _cause(stored: StoredPolicy, number: int) -> str:
    return f"{GUARD}:{stored.policy.key}#{number}"


def _guards(stored: StoredPolicy) -> list[str]:
    return [each.name for each in stored.policy.triggers if each.kind is TriggerKind.METRIC]
