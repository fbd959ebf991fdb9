"""Keep every judgement of a guard and everything that happened to a policy, whether or not anything came of it."""

import json
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, delete, func, insert, select

from server.core.change_requests.codec import read_value, write_value
from server.core.guards.machine import Event
from server.core.guards.verdicts import Judgement
from server.core.limits import EVALUATIONS_KEPT_MAX
from server.store import tables
from server.store.mapping import compact

_COLUMNS: Final = tables.guard_evaluations.c
FORGET_EVERY: Final = 64
"""So many are added before the oldest are looked for."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One judgement, or one thing that happened to a policy, and what came of it."""

    environment: str
    guard: str
    policy: str
    event: Event
    judgement: Judgement | None
    outcome: str
    """What was done or would have been; "" for nothing."""

    text: str
    """Why."""

    number: int = 0


def next_number(connection: Connection, project: str) -> int:
    """The number that the next evaluation of a project gets; its transaction is the project's."""
    last = connection.execute(select(func.max(_COLUMNS.number)).where(_COLUMNS.project == project)).scalar()
    return (last or 0) + 1


def keep_evaluation(
    connection: Connection, project: str, evaluation: Evaluation, *, kept_max: int = EVALUATIONS_KEPT_MAX
) -> int:
    """Keep one, and forget the oldest of the same guard and policy; gives its number in the project's order."""
    mine = _COLUMNS.project == project
    number = next_number(connection, project)
    event, judgement = evaluation.event, evaluation.judgement
    row = {
        "project": project,
        "number": number,
        "environment": evaluation.environment,
        "guard": evaluation.guard,
        "policy": evaluation.policy,
        "happening": event.happening.value,
        "name": event.name,
        "verdict": "" if event.verdict is None else event.verdict.value,
        "value": None if judgement is None else judgement.value,
        "threshold": None if judgement is None else judgement.threshold,
        "control_value": None if judgement is None else judgement.control_value,
        "sample_count": event.sample_count,
        "method": "" if judgement is None else judgement.method,
        "text": evaluation.text,
        "outcome": evaluation.outcome,
        "event": compact(write_value(event)),
        "at": event.at,
    }
    connection.execute(insert(tables.guard_evaluations), row)
    if number % FORGET_EVERY == 0:
        for column, key in ((_COLUMNS.guard, evaluation.guard), (_COLUMNS.policy, evaluation.policy)):
            if key:
                _forget(connection, mine & (column == key), kept_max)
    return number


def list_evaluations(
    connection: Connection,
    project: str,
    *,
    guard: str = "",
    policy: str = "",
    before: int | None = None,
    limit: int = 100,
) -> list[Evaluation]:
    """The newest first; `before` is the number where the page before ended."""
    query = select(tables.guard_evaluations).where(_COLUMNS.project == project)
    for column, wanted in ((_COLUMNS.guard, guard), (_COLUMNS.policy, policy)):
        if wanted:
            query = query.where(column == wanted)
    if before is not None:
        query = query.where(_COLUMNS.number < before)
    rows = connection.execute(query.order_by(_COLUMNS.number.desc()).limit(limit)).mappings().all()
    return [_evaluation(row) for row in rows]


def _forget(connection: Connection, mine: Any, kept_max: int) -> None:
    query = select(_COLUMNS.number).where(mine).order_by(_COLUMNS.number.desc()).offset(kept_max).limit(1)
    last = connection.execute(query).scalar()
    if last is not None:
        connection.execute(delete(tables.guard_evaluations).where(mine, _COLUMNS.number <= last))


def _evaluation(row: Any) -> Evaluation:
    event: Event = read_value(Event, json.loads(row["event"]))
    judgement = None
    if row["method"] and event.verdict is not None:
        judgement = Judgement(
            event.verdict,
            row["value"],
            row["threshold"],
            row["sample_count"],
            event.text,
            row["method"],
            row["control_value"],
        )
    return Evaluation(
        row["environment"],
        row["guard"],
        row["policy"],
        event,
        judgement,
        row["outcome"],
        row["text"],
        row["number"],
    )
