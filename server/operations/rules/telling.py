"""Tell what happens to rules."""

from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from server.core.json import Json
from server.core.rules.rules import Act, Definition, Deliver
from server.store.occurrences import Occurrence, note
from server.store.rule_runs import StoredRun
from server.store.rules import StoredRule

KIND: Final = "rule"
"""As the audit trail names its subjects of this kind."""

ERROR_CHARS_MAX: Final = 1_000


def tell(
    connection: Connection,
    rule: StoredRule,
    word: str,
    *,
    actor: str,
    now: datetime,
    before: StoredRule | None = None,
    reason: str = "",
    cause: str = "",
) -> None:
    """Note what happened to a rule, in the audit trail and for others."""
    occurrence = Occurrence(
        project=rule.project,
        kind=KIND,
        key=rule.id,
        type=f"{KIND}.{word}",
        actor=actor,
        at=now,
        data=_told(rule),
        before=None if before is None else _told(before),
        reason=reason,
        cause=cause,
    )
    note(connection, occurrence)


def tell_failed(connection: Connection, rule: StoredRule, run: StoredRun, error: str, *, now: datetime) -> None:
    """Note that a rule could not do what it is there for."""
    data: dict[str, Json] = {
        "rule_name": rule.definition.name,
        "event_id": run.event,
        "event_type": run.event_type,
        "action": action_of(rule.definition),
        "attempts": run.attempt_count,
        "error": error[:ERROR_CHARS_MAX],
    }
    occurrence = Occurrence(
        project=rule.project,
        kind=KIND,
        key=rule.id,
        type=f"{KIND}.run_failed",
        actor=f"{KIND}:{rule.id}",
        at=now,
        data=data,
        reason=error[:ERROR_CHARS_MAX],
        cause=run.event,
    )
    note(connection, occurrence)


def action_of(definition: Definition) -> str:
    """The action that a rule has done; "" for a delivery."""
    return definition.then.action if isinstance(definition.then, Act) else ""


def _told(rule: StoredRule) -> dict[str, Json]:
    definition = rule.definition
    since = rule.health.failing_since
    return {
        "rule_name": definition.name,
        "action": action_of(definition),
        "endpoint_id": definition.then.endpoint_id if isinstance(definition.then, Deliver) else "",
        "why": rule.why,
        "failing_since": None if since is None else since.isoformat(),
        "event_types": list(definition.when.event_types),
    }
