"""Keep launch plans and what happens to them; each step is in the audit trail in the same transaction."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, delete, func, insert, select, update

from server.core.change_requests.codec import read_value, write_value
from server.core.errors import Conflict, InvalidRequest, NotFound, Stale, StoreCorrupt, TooLarge
from server.core.json import Json
from server.core.launch_plans.machine import CLOSED, Happening, Progress, State, Step
from server.core.launch_plans.plan import Plan, read_plan, write_plan
from server.core.limits import (
    LAUNCH_PLAN_BYTES_MAX,
    LAUNCH_PLANS_CLOSED_MAX,
    LAUNCH_PLANS_OPEN_MAX,
    LAUNCH_STEPS_MAX,
)
from server.store import launch_plan_tables
from server.store.change_requests import Versions, read_base, write_base
from server.store.mapping import compact
from server.store.occurrences import Occurrence, note
from server.store.versions import Thing

KIND: Final = "launch-plan"
"""As the audit trail names its subjects of this kind."""

_COLUMNS: Final = launch_plan_tables.launch_plans.c
_SUBJECTS: Final = launch_plan_tables.launch_plan_subjects.c
_STEPS: Final = launch_plan_tables.launch_plan_steps.c
_LIVING: Final = [state.value for state in State if state not in CLOSED]
_BY_ITSELF: Final = frozenset(
    {Happening.DUE_SOON, Happening.EXECUTED, Happening.SKIPPED, Happening.MISSED, Happening.CONFLICTED}
    | {Happening.COMPLETED, Happening.CANCELLED, Happening.HELD}
)
"""What must always find room: what happens by itself, and what stops a plan."""


@dataclass(frozen=True, slots=True)
class StoredPlan:
    """A launch plan, and how far it has come."""

    project: str
    id: str
    plan: Plan
    base: Versions
    """What its items would change, at the versions by which somebody last saw it."""

    progress: Progress
    next_at: datetime | None
    """When it has work; None while nobody has to look."""

    created_at: datetime
    updated_at: datetime

    @property
    def digest(self) -> str:
        """SHA-256 of what it asks for; the audit trail says by it what was approved."""
        return hashlib.sha256(_plan_text(self.plan).encode("utf-8", "backslashreplace")).hexdigest()


@dataclass(frozen=True, slots=True)
class StoredStep:
    """One thing that happened to a launch plan."""

    number: int
    happening: Happening
    actor: str
    text: str
    items: tuple[str, ...]
    at: datetime


@dataclass(frozen=True, slots=True)
class Overlap:
    """Another plan that changes the same thing."""

    id: str
    name: str
    environment: str
    kind: str
    key: str


def insert_plan(connection: Connection, stored: StoredPlan, step: Step, *, request_id: str) -> None:
    """Keep a new launch plan. Errors: TooLarge when it is too large, or the project has too many that are not over."""
    mine = _COLUMNS.project == stored.project
    living = select(func.count()).select_from(launch_plan_tables.launch_plans).where(mine, _COLUMNS.state.in_(_LIVING))
    count = connection.execute(living).scalar_one()
    if count >= LAUNCH_PLANS_OPEN_MAX:
        raise TooLarge(
            f"project {stored.project!r} has {count} launch plans that are not over, at most "
            f"{LAUNCH_PLANS_OPEN_MAX} are allowed; cancel some"
        )
    identity = {"project": stored.project, "id": stored.id, "created_at": stored.created_at}
    connection.execute(insert(launch_plan_tables.launch_plans), {**identity, **_row(stored)})
    _save_subjects(connection, stored)
    _keep_step(connection, stored, step, request_id=request_id)
    _forget_old(connection, stored.project)


def save_plan_step(
    connection: Connection, before: StoredPlan, after: StoredPlan, step: Step, *, request_id: str = ""
) -> None:
    """Keep what happened to a launch plan.

    Errors: Stale when something else happened to it since it was read; TooLarge when too much has happened.
    """
    if after.progress.step_count > LAUNCH_STEPS_MAX and step.happening not in _BY_ITSELF:
        raise TooLarge(
            f"so much has happened to launch plan {before.id} that nothing more is kept "
            f"({LAUNCH_STEPS_MAX} steps); cancel it and make a new one"
        )
    _update(connection, before, _row(after))
    if write_base(before.base) != write_base(after.base):
        mine = (_SUBJECTS.project == before.project) & (_SUBJECTS.launch_plan == before.id)
        connection.execute(delete(launch_plan_tables.launch_plan_subjects).where(mine))
        _save_subjects(connection, after)
    _keep_step(connection, after, step, request_id=request_id)


def save_next_at(connection: Connection, stored: StoredPlan, at: datetime | None) -> None:
    """Keep when a plan has work, where nothing else happened to it."""
    _update(connection, stored, {"next_at": at})


def forget_next_at(connection: Connection, *, project: str, id: str) -> None:
    """Have nobody look at a plan whose row cannot be used."""
    connection.execute(update(launch_plan_tables.launch_plans).where(_is(project, id)).values(next_at=None))


def read_launch_plan(connection: Connection, *, project: str, id: str) -> StoredPlan:
    """One launch plan. Errors: NotFound; StoreCorrupt when its row cannot be used."""
    row = connection.execute(select(launch_plan_tables.launch_plans).where(_is(project, id))).mappings().first()
    if row is None:
        raise NotFound(f"launch plan {id!r} is not in project {project!r}")
    return _stored(row)


def list_launch_plans(
    connection: Connection,
    *,
    project: str,
    states: Collection[State] = (),
    after: tuple[datetime, str] | None = None,
    limit: int,
) -> list[StoredPlan]:
    """The newest first; `after` is where the page before ended."""
    conditions: list[Any] = [_COLUMNS.project == project]
    if states:
        conditions.append(_COLUMNS.state.in_([state.value for state in states]))
    if after is not None:
        at, id = after
        conditions.append((_COLUMNS.created_at < at) | ((_COLUMNS.created_at == at) & (_COLUMNS.id < id)))
    query = (
        select(launch_plan_tables.launch_plans)
        .where(*conditions)
        .order_by(_COLUMNS.created_at.desc(), _COLUMNS.id.desc())
        .limit(limit)
    )
    return [_stored(row) for row in connection.execute(query).mappings()]


def list_plan_steps(connection: Connection, *, project: str, id: str) -> list[StoredStep]:
    """Everything that happened to a plan, in order."""
    query = (
        select(launch_plan_tables.launch_plan_steps)
        .where(_STEPS.project == project, _STEPS.launch_plan == id)
        .order_by(_STEPS.number)
    )
    return [
        StoredStep(
            row["number"],
            Happening(row["happening"]),
            row["actor"],
            row["text"],
            tuple(json.loads(row["items"])),
            row["at"],
        )
        for row in connection.execute(query).mappings()
    ]


def first_plan_at(connection: Connection) -> datetime | None:
    """The earliest instant at which a plan has work."""
    query = select(func.min(_COLUMNS.next_at))
    found: datetime | None = connection.execute(query).scalar_one()
    return found


def find_due_plans(connection: Connection, *, now: datetime) -> list[tuple[str, str]]:
    """(project, id) of plans that have work, the earliest first."""
    query = select(_COLUMNS.project, _COLUMNS.id).where(_COLUMNS.next_at <= now).order_by(_COLUMNS.next_at)
    return [(project, id) for project, id in connection.execute(query)]


def find_known_plan(
    connection: Connection, *, project: str, request_id: str, happenings: Collection[Happening], id: str = ""
) -> str:
    """The plan that a request id was used for; "" for none. Errors: Conflict when that was for something else."""
    if not request_id:
        return ""
    query = select(_STEPS.launch_plan, _STEPS.happening).where(
        _STEPS.project == project, _STEPS.request_id == request_id
    )
    row = connection.execute(query).first()
    if row is None:
        return ""
    known, happening = row
    if (id and known != id) or Happening(happening) not in happenings:
        raise Conflict(f"request id {request_id!r} was used for launch plan {known} ({happening}); choose another one")
    return str(known)


def find_overlaps(
    connection: Connection, *, project: str, id: str, things: Mapping[str, Collection[Thing]]
) -> list[Overlap]:
    """Other plans, not over, that change one of these things."""
    query = (
        select(_COLUMNS.id, _COLUMNS.name, _SUBJECTS.environment, _SUBJECTS.kind, _SUBJECTS.key)
        .join(
            launch_plan_tables.launch_plan_subjects,
            (_SUBJECTS.project == _COLUMNS.project) & (_SUBJECTS.launch_plan == _COLUMNS.id),
        )
        .where(_COLUMNS.project == project, _COLUMNS.id != id, _COLUMNS.state.in_(_LIVING))
        .where(_SUBJECTS.environment.in_(list(things)))
        .order_by(_COLUMNS.id, _SUBJECTS.environment, _SUBJECTS.kind, _SUBJECTS.key)
    )
    found = (Overlap(*row) for row in connection.execute(query))
    return [each for each in found if (each.kind, each.key) in things[each.environment]]


def _is(project: str, id: str) -> Any:
    return (_COLUMNS.project == project) & (_COLUMNS.id == id)


def _update(connection: Connection, before: StoredPlan, values: Mapping[str, Any]) -> None:
    changed = connection.execute(
        update(launch_plan_tables.launch_plans)
        .where(_is(before.project, before.id), _COLUMNS.step_count == before.progress.step_count)
        .values(**values)
    )
    if changed.rowcount != 1:
        raise Stale(f"launch plan {before.id} went on meanwhile; read it again and repeat")


def _row(stored: StoredPlan) -> dict[str, Any]:
    return {
        "state": stored.progress.state.value,
        "name": stored.plan.name,
        "plan": _plan_text(stored.plan),
        "base": compact(write_base(stored.base)),
        "progress": compact(write_value(stored.progress)),
        "step_count": stored.progress.step_count,
        "next_at": stored.next_at,
        "updated_at": stored.updated_at,
    }


def _plan_text(plan: Plan) -> str:
    text = compact(write_plan(plan))
    size = len(text.encode("utf-8", "backslashreplace"))
    if size > LAUNCH_PLAN_BYTES_MAX:
        raise TooLarge(f"the launch plan has {size} bytes, at most {LAUNCH_PLAN_BYTES_MAX} are allowed; make several")
    return text


def _stored(row: Mapping[Any, Any]) -> StoredPlan:
    try:
        return StoredPlan(
            project=row["project"],
            id=row["id"],
            plan=read_plan(json.loads(row["plan"])),
            base=read_base(json.loads(row["base"])),
            progress=read_value(Progress, json.loads(row["progress"])),
            next_at=row["next_at"],
            created_at=row["created_at"],
            updated_at=row["updated_at"],
        )
    except (KeyError, TypeError, ValueError, AttributeError, InvalidRequest) as error:
        raise StoreCorrupt(
            f"the stored launch plan {row['id']!r} is damaged ({type(error).__name__}); restore a backup"
        ) from None


def _save_subjects(connection: Connection, stored: StoredPlan) -> None:
    own = {"project": stored.project, "launch_plan": stored.id}
    rows = [
        {**own, "environment": environment, "kind": kind, "key": key}
        for environment, things in stored.base.items()
        for kind, key in things
    ]
    if rows:
        connection.execute(insert(launch_plan_tables.launch_plan_subjects), rows)


def _keep_step(connection: Connection, stored: StoredPlan, step: Step, *, request_id: str) -> None:
    connection.execute(
        insert(launch_plan_tables.launch_plan_steps),
        {
            "project": stored.project,
            "launch_plan": stored.id,
            "number": stored.progress.step_count,
            "happening": step.happening.value,
            "actor": step.actor,
            "text": step.text,
            "items": compact(list(step.items)),
            "request_id": request_id,
            "at": step.at,
        },
    )
    note(connection, _told(stored, step))


def _told(stored: StoredPlan, step: Step) -> Occurrence:
    plan, progress = stored.plan, stored.progress
    data: dict[str, Json] = {
        "name": plan.name,
        "owner": plan.owner,
        "state": progress.state.value,
        "launchAt": plan.launch_at.isoformat(),
        "zone": plan.zone,
        "nextAt": None if stored.next_at is None else stored.next_at.isoformat(),
        "items": list(step.items),
        "environments": _environments(plan, step.items),
        "text": step.text,
        "contentNumber": progress.content_number,
        "contentDigest": stored.digest,
    }
    if step.check:
        data["check"] = step.check
    cause = ""
    if step.due_at is not None:
        data["dueAt"] = step.due_at.isoformat()
        data["lagMs"] = int((step.at - step.due_at).total_seconds() * 1_000)
        cause = f"plan:{stored.id}@{step.due_at.isoformat()}"
    if step.happening is Happening.EXECUTED:
        data["appliedAt"] = step.at.isoformat()
    if step.revisions is not None:
        data["revisions"] = dict(step.revisions)
    happened = step.happening.value.replace("-", "_")
    return Occurrence(
        stored.project, KIND, stored.id, f"plan.{happened}", step.actor, step.at, data, reason=step.text, cause=cause
    )


def _environments(plan: Plan, items: Sequence[str]) -> list[Json]:
    """Where some of the items change something, or all where none is named."""
    reached = {key for item in plan.items if not items or item.id in items for key in item.environments}
    return list(sorted(reached))


def _forget_old(connection: Connection, project: str) -> None:
    """Take away the oldest that are over beyond what is kept; what became of them stays in the audit trail."""
    query = (
        select(_COLUMNS.id)
        .where(_COLUMNS.project == project, _COLUMNS.state.in_([state.value for state in CLOSED]))
        .order_by(_COLUMNS.created_at.desc(), _COLUMNS.id.desc())
        .offset(LAUNCH_PLANS_CLOSED_MAX)
        .limit(100)
    )
    old = list(connection.execute(query).scalars())
    if old:
        for table in (launch_plan_tables.launch_plan_steps, launch_plan_tables.launch_plan_subjects):
            connection.execute(delete(table).where(table.c.project == project, table.c.launch_plan.in_(old)))
        connection.execute(
            delete(launch_plan_tables.launch_plans).where(_COLUMNS.project == project, _COLUMNS.id.in_(old))
        )
