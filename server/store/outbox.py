"""Read what was announced, in its order."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from typing import Any, Final

from sqlalchemy import Connection, Select, delete, exists, or_, select, tuple_

from server.core.announcing.wanted import Wanted
from server.store import tables
from webhooks.tables import deliveries

SCANNED_MAX: Final = 10_000
"""Events that one look goes through; those that are not wanted count too."""

_COLUMNS: Final = tables.outbox.c


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One event as it was announced."""

    project: str
    sequence: int
    id: str
    environment: str
    type: str
    payload: Mapping[str, Any]
    at: datetime


def newest_events(
    connection: Connection,
    project: str,
    wanted: Wanted,
    *,
    environment: str,
    before: int | None,
    limit: int,
    scanned_max: int = SCANNED_MAX,
) -> tuple[list[StoredEvent], int | None]:
    """The newest events that are wanted, and before which to go on; None: there are no more."""
    last = last_event(connection, project)
    end = last + 1 if before is None else min(before, last + 1)
    start = max(1, end - scanned_max)
    query = _fitting(project, wanted, environment).where(_COLUMNS.sequence >= start, _COLUMNS.sequence < end)
    events = _read(connection, query.order_by(_COLUMNS.sequence.desc()).limit(limit))
    if len(events) == limit and events[-1].sequence > 1:
        return events, events[-1].sequence
    return events, start if start > 1 else None


def events_behind(
    connection: Connection, project: str, wanted: Wanted, *, environment: str, sequence: int, limit: int
) -> tuple[list[StoredEvent], int]:
    """The oldest wanted events behind one, and up to where all that are wanted are among them."""
    end = min(last_event(connection, project), sequence + SCANNED_MAX)
    query = _fitting(project, wanted, environment).where(_COLUMNS.sequence > sequence, _COLUMNS.sequence <= end)
    events = _read(connection, query.order_by(_COLUMNS.sequence).limit(limit))
    return events, events[-1].sequence if len(events) == limit else end


def next_events(connection: Connection, project: str, sequence: int, *, limit: int) -> list[StoredEvent]:
    """The oldest events behind one, whatever they tell."""
    query = select(tables.outbox).where(_COLUMNS.project == project, _COLUMNS.sequence > sequence)
    return _read(connection, query.order_by(_COLUMNS.sequence).limit(limit))


def events_at(connection: Connection, places: Collection[tuple[str, int]]) -> list[StoredEvent]:
    """The events at these places, by (project, sequence); those that are forgotten are missing."""
    here = tuple_(_COLUMNS.project, _COLUMNS.sequence)
    return _read(connection, select(tables.outbox).where(here.in_(list(places))))


def event_by_id(connection: Connection, project: str, id: str) -> StoredEvent | None:
    """One event of a project; None when it is not there, or forgotten."""
    found = _read(connection, select(tables.outbox).where(_COLUMNS.id == id, _COLUMNS.project == project))
    return found[0] if found else None


def last_event(connection: Connection, project: str) -> int:
    """The number of a project's last event; 0: nothing has happened."""
    query = select(_COLUMNS.sequence).where(_COLUMNS.project == project).order_by(_COLUMNS.sequence.desc()).limit(1)
    return connection.execute(query).scalar() or 0


def first_event(connection: Connection, project: str) -> int:
    """The number of the oldest event that is still kept; 0: nothing has happened."""
    query = select(_COLUMNS.sequence).where(_COLUMNS.project == project).order_by(_COLUMNS.sequence).limit(1)
    return connection.execute(query).scalar() or 0


def forget_events(connection: Connection, project: str, *, before: datetime, limit: int) -> int:
    """Forget the oldest events of a project, up to the first that is not old or still has deliveries.

    Shapes: how many. So what is kept has no holes, and who goes on behind a forgotten event can be told. The last event
    stays, since the order goes on behind it.
    """
    delivered = exists().where(deliveries.c.event_id == _COLUMNS.id)
    oldest = (
        select(_COLUMNS.sequence, _COLUMNS.at, delivered)
        .where(_COLUMNS.project == project)
        .order_by(_COLUMNS.sequence)
        .limit(limit + 1)
    )
    rows = connection.execute(oldest).all()
    old = list(takewhile(lambda row: row[1] < before and not row[2], rows[:limit] if len(rows) > limit else rows[:-1]))
    if old:
        gone = delete(tables.outbox).where(_COLUMNS.project == project, _COLUMNS.sequence <= old[-1].sequence)
        connection.execute(gone)
    return len(old)


def _fitting(project: str, wanted: Wanted, environment: str) -> Select[Any]:
    query = select(tables.outbox).where(_COLUMNS.project == project)
    if environment:
        query = query.where(_COLUMNS.environment == environment)
    if not wanted.is_all:
        beginnings = (_COLUMNS.type.startswith(each, autoescape=True) for each in wanted.beginnings)
        query = query.where(or_(_COLUMNS.type.in_(wanted.names), *beginnings))
    return query


def _read(connection: Connection, query: Select[Any]) -> list[StoredEvent]:
    rows = connection.execute(query).mappings()
    return [
        StoredEvent(
            row["project"],
            row["sequence"],
            row["id"],
            row["environment"],
            row["type"],
            json.loads(row["payload"]),
            row["at"],
        )
        for row in rows
    ]
