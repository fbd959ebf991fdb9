"""Keep what happens to change requests, step by step: in their own rows, the audit trail and the outbox."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, insert, select

from server.core.change_requests.machine import Happening, Progress, Step
from server.core.errors import Conflict
from server.store import tables
from server.store.occurrences import Occurrence, note

KIND: Final = "change-request"
"""As the audit trail names its subjects of this kind."""

_STEPS: Final = tables.change_request_steps.c


@dataclass(frozen=True, slots=True)
class About:
    """What is told of a change request with each of its steps."""

    project: str
    id: str
    title: str
    cause: str
    environments: Collection[str]
    content_digest: str
    """SHA-256 of what it asks for, so that the audit trail says what was approved."""

    progress: Progress
    """After the step."""


@dataclass(frozen=True, slots=True)
class StoredStep:
    """One thing that happened to a change request."""

    number: int
    happening: Happening
    actor: str
    text: str
    content_number: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Known:
    """What happened under a caller's request id before."""

    change_request: str
    happening: Happening
    text: str


def keep_step(connection: Connection, about: "About", step: Step, *, request_id: str) -> None:
    """Keep a step, with its audit entry and its announcement."""
    progress = about.progress
    connection.execute(
        insert(tables.change_request_steps),
        {
            "project": about.project,
            "change_request": about.id,
            "number": progress.step_count,
            "happening": step.happening.value,
            "actor": step.actor,
            "text": step.text,
            "content_number": progress.content_number,
            "request_id": request_id,
            "at": step.at,
        },
    )
    told: dict[str, Any] = {
        "state": progress.state.value,
        "title": about.title,
        "environments": sorted(about.environments),
        "contentNumber": progress.content_number,
        "contentDigest": about.content_digest,
        "approvals": [each.actor for each in progress.approvals],
        "applyAt": None if progress.apply_at is None else progress.apply_at.isoformat(),
        "revisions": None if progress.revisions is None else dict(progress.revisions),
    }
    occurrence = Occurrence(
        project=about.project,
        kind=KIND,
        key=about.id,
        type=f"{KIND}.{step.happening.value}",
        actor=step.actor,
        at=step.at,
        data=told,
        reason=step.text,
        cause=about.cause,
    )
    note(connection, occurrence)


def read_steps(connection: Connection, *, project: str, id: str) -> list[StoredStep]:
    """All that happened to a change request, in order."""
    query = (
        select(tables.change_request_steps)
        .where(_STEPS.project == project, _STEPS.change_request == id)
        .order_by(_STEPS.number)
    )
    return [
        StoredStep(
            row["number"],
            Happening(row["happening"]),
            row["actor"],
            row["text"],
            row["content_number"],
            row["at"],
        )
        for row in connection.execute(query).mappings()
    ]


def find_known(connection: Connection, *, project: str, request_id: str) -> Known | None:
    """What happened under a request id; None when nothing did."""
    query = select(_STEPS.change_request, _STEPS.happening, _STEPS.text).where(
        _STEPS.project == project, _STEPS.request_id == request_id
    )
    row = connection.execute(query).first() if request_id else None
    return None if row is None else Known(row[0], Happening(row[1]), row[2])


def check_known(known: Known, *, request_id: str, id: str, happenings: Collection[Happening]) -> None:
    """Refuse a request id that was used for something else. Errors: Conflict."""
    if known.change_request != id or known.happening not in happenings:
        raise Conflict(f"request id {request_id!r} was used for another change before; give each change its own")
