"""Keep schedules and what happens to them; each step is in the audit trail in the same transaction."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from server.core.change_requests.codec import Content, read_content, read_value, write_value
from server.core.errors import NotFound, Stale, StoreCorrupt, TooLarge
from server.core.limits import SCHEDULE_STEPS_MAX, SCHEDULES_CLOSED_MAX, SCHEDULES_MAX
from server.core.schedules.fields import Field
from server.core.schedules.machine import CLOSED, Happening, Progress, State, Step
from server.core.schedules.timing import Timing, remind_at
from server.store import schedule_tables as tables
from server.store.change_requests import Versions, read_base, write_base
from server.store.mapping import compact
from server.store.schedule_steps import About, forget_steps, keep_steps
from server.store.schedule_subjects import save_fields
from server.store.statements import Statement

_COLUMNS: Final = tables.schedules.c
_SUBJECTS: Final = tables.schedule_subjects.c
_LIVING: Final = [state.value for state in State if state not in CLOSED]


@dataclass(frozen=True, slots=True)
class StoredSchedule:
    """A schedule: what it does and when, and how far it has come."""

    project: str
    id: str
    title: str
    cause: str
    content: str
    """As text; `content_of` reads it."""

    base: Versions
    """Things that must still have these versions; empty when it does not matter what they have."""

    lines: Mapping[str, Sequence[str]]
    """Environment -> what would have differed there when it was made."""

    fields: frozenset[Field]
    """What it sets; as `read_schedule` gives it this is empty, see `read_fields`."""

    timing: Timing
    progress: Progress
    created_at: datetime
    updated_at: datetime

    @property
    def environments(self) -> Collection[str]:
        """Those that it was said to change."""
        return self.lines.keys()


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which schedules to list; what is left out is not asked."""

    states: Collection[State] = ()
    environment: str = ""
    subject: tuple[str, str] | None = None
    """(kind, key)."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is kept."""

    living_max: int = SCHEDULES_MAX
    closed_max: int = SCHEDULES_CLOSED_MAX
    steps_max: int = SCHEDULE_STEPS_MAX


BOUNDS: Final = Bounds()


def content_of(schedule: StoredSchedule) -> Content:
    """What a schedule does. Errors: InvalidRequest when this version cannot read it."""
    return read_content(json.loads(schedule.content))


def insert_schedule(
    connection: Connection, schedule: StoredSchedule, step: Step, *, request_id: str = "", bounds: Bounds = BOUNDS
) -> None:
    """Keep a new schedule. Errors: TooLarge when the project has too many that are not closed."""
    mine = _COLUMNS.project == schedule.project
    count = connection.execute(
        select(func.count()).select_from(tables.schedules).where(mine, _COLUMNS.state.in_(_LIVING))
    ).scalar_one()
    if count >= bounds.living_max:
        raise TooLarge(
            f"project {schedule.project!r} has {count} schedules that are not closed, at most "
            f"{bounds.living_max} are allowed; cancel some"
        )
    identity = {"project": schedule.project, "id": schedule.id, "author": step.actor}
    connection.execute(insert(tables.schedules), {**identity, "created_at": schedule.created_at, **_row(schedule)})
    save_fields(connection, project=schedule.project, id=schedule.id, fields=schedule.fields)
    keep_steps(connection, schedule.project, [(_about(schedule), step)], request_id=request_id)
    _forget_closed(connection, schedule.project, keep=bounds.closed_max)


_CHANGING: Final = (
    *("state", "title", "cause", "content", "base", "lines", "timing", "progress"),
    *("step_count", "due_at", "wake_at", "updated_at"),
)
_GO_ON: Final = Statement(
    update(tables.schedules)
    .where(_COLUMNS.project == bindparam("of"), _COLUMNS.id == bindparam("named"))
    .where(_COLUMNS.step_count == bindparam("known"))
    .values({name: bindparam(name, type_=_COLUMNS[name].type) for name in _CHANGING})
)


@dataclass(frozen=True, slots=True)
class Move:
    """What happened to a schedule, and how it stood before and after."""

    before: StoredSchedule
    after: StoredSchedule
    step: Step


def save_step(
    connection: Connection,
    before: StoredSchedule,
    after: StoredSchedule,
    step: Step,
    *,
    request_id: str = "",
    bounds: Bounds = BOUNDS,
) -> None:
    """Keep what happened to a schedule. Errors: Stale when something else happened to it since it was read."""
    _save(connection, [Move(before, after, step)], request_id=request_id, bounds=bounds)
    if step.happening is Happening.UPDATED:
        save_fields(connection, project=after.project, id=after.id, fields=after.fields)


def save_moves(connection: Connection, moves: Sequence[Move], *, bounds: Bounds = BOUNDS) -> None:
    """Keep what happened by itself to schedules of one project, in this order. Errors: Stale, as `save_step`."""
    if moves:
        _save(connection, moves, request_id="", bounds=bounds)


def _save(connection: Connection, moves: Sequence[Move], *, request_id: str, bounds: Bounds) -> None:
    rows = [{**_known(each.before), **_row(each.after)} for each in moves]
    if _GO_ON.count(connection, rows) != len(rows):
        named = " or ".join(each.before.id for each in moves)
        raise Stale(f"schedule {named} went on meanwhile; read it again and repeat")
    steps = [(_about(each.after), each.step) for each in moves]
    keep_steps(connection, moves[0].after.project, steps, request_id=request_id)
    for about, _ in steps:
        forget_steps(connection, about, keep=bounds.steps_max)


def _known(schedule: StoredSchedule) -> dict[str, Any]:
    return {"of": schedule.project, "named": schedule.id, "known": schedule.progress.step_count}


def read_schedule(connection: Connection, *, project: str, id: str) -> StoredSchedule:
    """One schedule. Errors: NotFound; StoreCorrupt when its row cannot be used."""
    row = connection.execute(select(tables.schedules).where(_is(project, id))).mappings().first()
    if row is None:
        raise NotFound(f"schedule {id!r} is not in project {project!r}")
    return _stored(row)


def list_schedules(
    connection: Connection, *, project: str, wanted: Wanted, after: tuple[datetime, str] | None, limit: int
) -> tuple[list[StoredSchedule], int]:
    """The newest first, and how many there are in all; `after` is where the page before ended."""
    conditions = [_COLUMNS.project == project]
    if wanted.states:
        conditions.append(_COLUMNS.state.in_([state.value for state in wanted.states]))
    if wanted.environment or wanted.subject:
        subjects = select(_SUBJECTS.schedule).where(_SUBJECTS.project == project)
        if wanted.environment:
            subjects = subjects.where(_SUBJECTS.environment == wanted.environment)
        if wanted.subject:
            subjects = subjects.where(_SUBJECTS.kind == wanted.subject[0], _SUBJECTS.key == wanted.subject[1])
        conditions.append(_COLUMNS.id.in_(subjects))
    count = connection.execute(select(func.count()).select_from(tables.schedules).where(*conditions)).scalar_one()
    if after is not None:
        at, id = after
        conditions.append((_COLUMNS.created_at < at) | ((_COLUMNS.created_at == at) & (_COLUMNS.id < id)))
    query = (
        select(tables.schedules)
        .where(*conditions)
        .order_by(_COLUMNS.created_at.desc(), _COLUMNS.id.desc())
        .limit(limit)
    )
    return [_stored(row) for row in connection.execute(query).mappings()], count


def first_wake_at(connection: Connection) -> datetime | None:
    """The earliest instant at which somebody has to look at a schedule; None when there is none."""
    query = select(_COLUMNS.wake_at).where(_COLUMNS.wake_at.is_not(None)).order_by(_COLUMNS.wake_at).limit(1)
    found: datetime | None = connection.execute(query).scalar()
    return found


def due_projects(connection: Connection, *, now: datetime) -> list[str]:
    """Projects with schedules that somebody has to look at, the one that has waited longest first."""
    # In the index's order, and not by groups, for which the table would be read whole.
    query = select(_COLUMNS.project).where(_COLUMNS.wake_at <= now).order_by(_COLUMNS.wake_at).limit(_LOOKED_MAX)
    return list(dict.fromkeys(connection.execute(query).scalars()))


_LOOKED_MAX: Final = 10_000
"""So many that are due are looked at to find their projects; the others' turn comes after theirs."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """Schedules that somebody has to look at, and that are the transaction's until it ends."""

    found: Sequence[StoredSchedule]
    """The earliest first."""

    damaged: Mapping[str, StoreCorrupt]
    """What is wrong with those that cannot be used, by their ids."""

    def __len__(self) -> int:
        return len(self.found) + len(self.damaged)


def claim_due(connection: Connection, *, project: str, now: datetime, limit: int) -> Claimed:
    """Schedules of a project that somebody has to look at; those that another transaction has are passed over.

    They are this one's until it ends, however its process ends.
    """
    query = (
        select(tables.schedules)
        # Not by an index of projects: few schedules are due, of many that a project has.
        .where(_COLUMNS.project.concat("") == project, _COLUMNS.wake_at <= now)
        .order_by(_COLUMNS.wake_at, _COLUMNS.due_at, _COLUMNS.created_at, _COLUMNS.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    found, damaged = [], {}
    for row in connection.execute(query).mappings():
        try:
            found.append(_stored(row))
        except StoreCorrupt as error:
            damaged[row["id"]] = error
    return Claimed(found, damaged)


def postpone(connection: Connection, *, project: str, id: str, until: datetime) -> None:
    """Have nobody look at a schedule before an instant, though nothing happened to it."""
    connection.execute(update(tables.schedules).where(_is(project, id)).values(wake_at=until))


def _is(project: str, id: str) -> Any:
    return (_COLUMNS.project == project) & (_COLUMNS.id == id)


def _row(schedule: StoredSchedule) -> dict[str, Any]:
    progress = schedule.progress
    return {
        "state": progress.state.value,
        "title": schedule.title,
        "cause": schedule.cause,
        "content": schedule.content,
        "base": compact(write_base(schedule.base)),
        "lines": compact({name: list(lines) for name, lines in schedule.lines.items()}),
        "timing": compact(write_value(schedule.timing)),
        "progress": compact(write_value(progress)),
        "step_count": progress.step_count,
        "due_at": progress.due_at,
        "wake_at": wake_at(schedule),
        "updated_at": schedule.updated_at,
    }


def wake_at(schedule: StoredSchedule) -> datetime | None:
    """When somebody has to look at a schedule next."""
    progress = schedule.progress
    if progress.reminded_of == progress.due_at:
        return progress.due_at
    return remind_at(schedule.timing, progress.due_at) or progress.due_at


def _stored(row: Mapping[Any, Any]) -> StoredSchedule:
    try:
        return StoredSchedule(
            project=row["project"],
            id=row["id"],
            title=row["title"],
            cause=row["cause"],
            content=row["content"],
            base=read_base(json.loads(row["base"])),
            lines=json.loads(row["lines"]),
            fields=frozenset(),
            timing=read_value(Timing, json.loads(row["timing"])),
            progress=read_value(Progress, json.loads(row["progress"])),
            created_at=row["created_at"],
            updated_at=row["updated_at"],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(row["id"], error) from None


def _damaged(id: str, error: Exception) -> StoreCorrupt:
    return StoreCorrupt(f"the stored schedule {id!r} is damaged ({type(error).__name__}); restore a backup")


def _about(schedule: StoredSchedule) -> About:
    return About(schedule.project, schedule.id, schedule.title, schedule.cause, schedule.lines, schedule.progress)


def _forget_closed(connection: Connection, project: str, *, keep: int) -> None:
    """Take away the oldest closed ones beyond what is kept; what became of them stays in the audit trail."""
    query = (
        select(_COLUMNS.id)
        .where(_COLUMNS.project == project, _COLUMNS.state.in_([state.value for state in CLOSED]))
        .order_by(_COLUMNS.created_at.desc(), _COLUMNS.id.desc())
        .offset(keep)
        .limit(100)
    )
    old = list(connection.execute(query).scalars())
    if old:
        for table in (tables.schedule_steps, tables.schedule_subjects):
            connection.execute(delete(table).where(table.c.project == project, table.c.schedule.in_(old)))
        connection.execute(delete(tables.schedules).where(_COLUMNS.project == project, _COLUMNS.id.in_(old)))
