"""Keep what happens to schedules, step by step: in their own rows, the audit trail and the outbox."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, delete, select

from server.core.change_requests.codec import read_value, write_value
from server.core.errors import Conflict, StoreCorrupt
from server.core.schedules.conflicts import ScheduleConflict
from server.core.schedules.machine import OUTCOMES, Happening, Progress, Step
from server.store import schedule_tables as tables
from server.store.mapping import compact
from server.store.occurrences import Occurrence, note_all
from server.store.statements import insert_rows

KIND: Final = "schedule"
"""As the audit trail names its subjects of this kind."""

_STEPS: Final = tables.schedule_steps.c
_LINES_TOLD: Final = 50
"""Lines of one environment that an announcement names."""


@dataclass(frozen=True, slots=True)
class About:
    """What is told of a schedule with each of its steps."""

    project: str
    id: str
    title: str
    cause: str
    lines: Mapping[str, Sequence[str]]
    """Environment -> what would have differed there."""

    progress: Progress
    """After the step."""


@dataclass(frozen=True, slots=True)
class StoredStep:
    """One thing that happened to a schedule."""

    schedule: str
    number: int
    happening: Happening
    actor: str
    text: str
    content_number: int
    instant: datetime | None
    conflicts: tuple[ScheduleConflict, ...]
    revisions: Mapping[str, int]
    at: datetime


def keep_steps(
    connection: Connection, project: str, steps: Sequence[tuple[About, Step]], *, request_id: str = ""
) -> None:
    """Keep steps of a project's schedules, each with its audit entry and its announcement."""
    insert_rows(connection, tables.schedule_steps, [_row(*each, request_id=request_id) for each in steps])
    note_all(connection, project, [_occurrence(*each) for each in steps])


def _row(about: About, step: Step, *, request_id: str) -> dict[str, Any]:
    progress = about.progress
    details: dict[str, Any] = {}
    if step.conflicts:
        details["conflicts"] = write_value(step.conflicts)
    if step.revisions:
        details["revisions"] = dict(step.revisions)
    return {
        "project": about.project,
        "schedule": about.id,
        "number": progress.step_count,
        "happening": step.happening.value,
        "actor": step.actor,
        "text": step.text,
        "content_number": progress.content_number,
        "request_id": request_id,
        "instant": step.instant if step.happening in OUTCOMES else None,
        "details": compact(details),
        "at": step.at,
    }


def _occurrence(about: About, step: Step) -> Occurrence:
    progress = about.progress
    environments = sorted(about.lines)
    told: dict[str, Any] = {
        "state": progress.state.value,
        "title": about.title,
        "environments": environments,
        "dueAt": _text(progress.due_at),
        "instant": _text(step.instant or progress.due_at),
        "willRetry": progress.due_at is not None,
        "contentNumber": progress.content_number,
        "runCount": progress.run_count,
    }
    if step.happening is Happening.EXECUTED:
        told["appliedAt"] = _text(step.at)
    if step.happening in OUTCOMES and step.instant is not None:
        told["lagMs"] = max(0, (step.at - step.instant) // timedelta(milliseconds=1))
    if step.conflicts:
        told["conflict"] = step.conflicts[0].kind.value
        told["conflicts"] = [str(each) for each in step.conflicts]
    if step.revisions:
        told["revisions"] = dict(step.revisions)
    if step.happening is Happening.CREATED or step.happening is Happening.UPDATED:
        told["changes"] = [f"{name}: {line}" for name, lines in about.lines.items() for line in lines[:_LINES_TOLD]]
    return Occurrence(
        project=about.project,
        environment=environments[0] if len(environments) == 1 else "",
        kind=KIND,
        key=about.id,
        type=f"{KIND}.{step.happening.value}",
        actor=step.actor,
        at=step.at,
        data=told,
        reason=step.text,
        cause=about.cause,
    )


def _text(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat()


def read_steps(
    connection: Connection, *, project: str, id: str, outcomes: bool = False, before: int | None = None, limit: int
) -> list[StoredStep]:
    """What happened to a schedule, the last first; of `outcomes` only what became of its instants."""
    query = select(tables.schedule_steps).where(_STEPS.project == project, _STEPS.schedule == id)
    if outcomes:
        query = query.where(_STEPS.happening.in_([each.value for each in OUTCOMES]))
    if before is not None:
        query = query.where(_STEPS.number < before)
    rows = connection.execute(query.order_by(_STEPS.number.desc()).limit(limit)).mappings()
    return [_stored_step(row) for row in rows]


def find_known(connection: Connection, *, project: str, request_id: str) -> StoredStep | None:
    """What happened under a caller's request id before; None when nothing did."""
    if not request_id:
        return None
    query = select(tables.schedule_steps).where(_STEPS.project == project, _STEPS.request_id == request_id)
    row = connection.execute(query).mappings().first()
    return None if row is None else _stored_step(row)


def check_known(known: StoredStep, *, request_id: str, id: str, happenings: Collection[Happening]) -> None:
    """Refuse a request id that was used for something else. Errors: Conflict."""
    if known.schedule != id or known.happening not in happenings:
        raise Conflict(f"request id {request_id!r} was used for another change before; give each change its own")


def _stored_step(row: Mapping[Any, Any]) -> StoredStep:
    try:
        details = json.loads(row["details"])
        return StoredStep(
            schedule=row["schedule"],
            number=row["number"],
            happening=Happening(row["happening"]),
            actor=row["actor"],
            text=row["text"],
            content_number=row["content_number"],
            instant=row["instant"],
            conflicts=read_value(tuple[ScheduleConflict, ...], details.get("conflicts", [])),
            revisions=details.get("revisions", {}),
            at=row["at"],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreCorrupt(
            f"the stored schedule {row['schedule']!r} is damaged ({type(error).__name__}); restore a backup"
        ) from None


def forget_steps(connection: Connection, about: About, *, keep: int) -> None:
    """Take away the oldest steps beyond what is kept: instants go forward, so none of theirs comes again."""
    oldest = about.progress.step_count - keep
    if oldest > 0:
        connection.execute(
            delete(tables.schedule_steps).where(
                _STEPS.project == about.project, _STEPS.schedule == about.id, _STEPS.number <= oldest
            )
        )
