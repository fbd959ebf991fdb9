"""Find schedules by what they set."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias

from sqlalchemy import Connection, delete, insert, select

from server.core.change_requests.codec import read_value
from server.core.errors import StoreCorrupt
from server.core.schedules.fields import Field
from server.core.schedules.machine import Happening, State
from server.core.schedules.timing import Timing
from server.store import schedule_tables as tables

_COLUMNS: Final = tables.schedules.c
_SUBJECTS: Final = tables.schedule_subjects.c
_STEPS: Final = tables.schedule_steps.c

_NAMED_MAX: Final = 200
"""Keys that one query names."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A schedule that waits and sets something of a thing."""

    id: str
    title: str
    due_at: datetime | None
    timing: Timing
    fields: frozenset[Field]
    """Those that were asked about."""


def save_fields(connection: Connection, *, project: str, id: str, fields: Collection[Field]) -> None:
    """Keep what a schedule sets, in place of what it set before."""
    mine = (_SUBJECTS.project == project) & (_SUBJECTS.schedule == id)
    connection.execute(delete(tables.schedule_subjects).where(mine))
    own = {"project": project, "schedule": id}
    rows = [
        {**own, "environment": each.environment, "kind": each.kind, "key": each.key, "field": each.name}
        for each in sorted(fields)
    ]
    if rows:
        connection.execute(insert(tables.schedule_subjects), rows)


def read_fields(connection: Connection, *, project: str, ids: Collection[str]) -> dict[str, frozenset[Field]]:
    """What schedules set, by their ids."""
    columns = (_SUBJECTS.schedule, _SUBJECTS.environment, _SUBJECTS.kind, _SUBJECTS.key, _SUBJECTS.field)
    query = select(*columns).where(_SUBJECTS.project == project, _SUBJECTS.schedule.in_(ids))
    found: dict[str, set[Field]] = {id: set() for id in ids}
    for id, *field in connection.execute(query):
        found[id].add(Field(*field))
    return {id: frozenset(fields) for id, fields in found.items()}


Executed: TypeAlias = dict[datetime, dict[str, set[Field]]]
"""What was done for an instant, by the ids of the schedules that did it."""


def executed_about(
    connection: Connection, *, project: str, instants: Collection[datetime], fields: Collection[Field]
) -> Executed:
    """Schedules that were executed for these instants and set something of the same things; what of those."""
    keys: dict[tuple[str, str], set[str]] = {}
    for each in fields:
        keys.setdefault((each.environment, each.kind), set()).add(each.key)
    found: Executed = {}
    for (environment, kind), named in keys.items():
        query = (
            select(_STEPS.instant, _SUBJECTS.schedule, _SUBJECTS.key, _SUBJECTS.field)
            .join(tables.schedule_steps, _STEPS.schedule == _SUBJECTS.schedule)
            .where(_STEPS.project == project, _SUBJECTS.project == project)
            .where(_SUBJECTS.environment == environment, _SUBJECTS.kind == kind)
            .where(_STEPS.instant.in_(instants), _STEPS.happening == Happening.EXECUTED.value)
        )
        if len(named) <= _NAMED_MAX:
            query = query.where(_SUBJECTS.key.in_(named))
        for instant, schedule, key, field in connection.execute(query):
            found.setdefault(instant, {}).setdefault(schedule, set()).add(Field(environment, kind, key, field))
    return found


def pending_about(
    connection: Connection, *, project: str, things: Mapping[str, Collection[tuple[str, str]]]
) -> list[Pending]:
    """The schedules that wait and set something of these things, by (kind, key) of each environment.

    The oldest first, which is the order in which those of one instant are executed.
    """
    found: dict[str, set[Field]] = {}
    for environment, each in things.items():
        query = select(_SUBJECTS.schedule, _SUBJECTS.kind, _SUBJECTS.key, _SUBJECTS.field).where(
            _SUBJECTS.project == project, _SUBJECTS.environment == environment
        )
        if len(each) <= _NAMED_MAX:
            query = query.where(_SUBJECTS.key.in_({key for _, key in each}))
        for schedule, kind, key, field in connection.execute(query):
            if (kind, key) in each:
                found.setdefault(schedule, set()).add(Field(environment, kind, key, field))
    pending: list[Pending] = []
    ids = sorted(found)
    for start in range(0, len(ids), _NAMED_MAX):
        query = (
            select(_COLUMNS.id, _COLUMNS.title, _COLUMNS.due_at, _COLUMNS.timing, _COLUMNS.created_at)
            .where(_COLUMNS.project == project, _COLUMNS.state == State.PENDING.value)
            .where(_COLUMNS.id.in_(ids[start : start + _NAMED_MAX]))
            .order_by(_COLUMNS.created_at, _COLUMNS.id)
        )
        for row in connection.execute(query):
            pending.append(
                Pending(row.id, row.title, row.due_at, _timing(row.id, row.timing), frozenset(found[row.id]))
            )
    return pending


def _timing(id: str, text: str) -> Timing:
    try:
        found: Timing = read_value(Timing, json.loads(text))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreCorrupt(
            f"the stored schedule {id!r} is damaged ({type(error).__name__}); restore a backup"
        ) from None
    return found
