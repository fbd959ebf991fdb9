"""Look at deliveries and what was tried of them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, and_, func, select

from webhooks.states import Outcome, Status
from webhooks.tables import attempts, deliveries, from_ms, to_ms

_COLUMN: Final = deliveries.c


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which deliveries are looked at; what is empty or None is not asked."""

    endpoint_ids: Collection[str]
    """Of these endpoints; none: no delivery."""

    statuses: Collection[Status] = ()
    ids: Collection[str] = ()
    event_types: Collection[str] = ()
    since: datetime | None = None
    """By when the event became a delivery, and so for `until`."""

    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page ended."""

    sequence: int
    id: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt of a delivery."""

    number: int
    outcome: Outcome
    status_code: int | None
    error: str
    started_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery as it stands."""

    id: str
    endpoint_id: str
    event_id: str
    event_type: str
    project: str
    sequence: int
    status: Status
    attempt_count: int
    due_at: datetime | None
    """When it may be tried next; of one that is under way, when its claim ends."""

    created_at: datetime
    finished_at: datetime | None
    attempts: tuple[Attempt, ...] = field(default=())


def list_deliveries(
    connection: Connection, chosen: Chosen, *, after: Place | None = None, limit: int
) -> Sequence[Delivery]:
    """Deliveries without their attempts, those of the newest events first, from behind `after` on."""
    query = select(deliveries).where(_fitting(chosen))
    if after is not None:
        # Spelled out: SQLite and PostgreSQL agree on it whatever the columns' order is.
        further = (_COLUMN.sequence < after.sequence) | ((_COLUMN.sequence == after.sequence) & (_COLUMN.id > after.id))
        query = query.where(further)
    rows = connection.execute(query.order_by(_COLUMN.sequence.desc(), _COLUMN.id).limit(limit))
    return [_delivery(row) for row in rows]


def count_deliveries(connection: Connection, chosen: Chosen) -> int:
    """How many there are."""
    return connection.execute(select(func.count()).select_from(deliveries).where(_fitting(chosen))).scalar_one()


def find_delivery(connection: Connection, id: str) -> Delivery | None:
    """One delivery with its attempts; None when there is none, or it is forgotten."""
    row = connection.execute(select(deliveries).where(_COLUMN.id == id)).first()
    if row is None:
        return None
    query = select(attempts).where(attempts.c.delivery_id == id).order_by(attempts.c.number)
    return _delivery(row, tuple(_attempt(each) for each in connection.execute(query)))


def find_delivery_of(connection: Connection, event_id: str, endpoint_id: str) -> Delivery | None:
    """The delivery of an event to an endpoint, with its attempts; None while it is not made."""
    mine = (_COLUMN.event_id == event_id) & (_COLUMN.endpoint_id == endpoint_id)
    id_: str | None = connection.execute(select(_COLUMN.id).where(mine)).scalar()
    return None if id_ is None else find_delivery(connection, id_)


def _fitting(chosen: Chosen) -> ColumnElement[bool]:
    conditions: list[ColumnElement[bool]] = [_COLUMN.endpoint_id.in_(chosen.endpoint_ids)]
    if chosen.statuses:
        conditions.append(_COLUMN.status.in_(chosen.statuses))
    if chosen.ids:
        conditions.append(_COLUMN.id.in_(chosen.ids))
    if chosen.event_types:
        conditions.append(_COLUMN.event_type.in_(chosen.event_types))
    if chosen.since is not None:
        conditions.append(_COLUMN.created_at_ms >= to_ms(chosen.since))
    if chosen.until is not None:
        conditions.append(_COLUMN.created_at_ms < to_ms(chosen.until))
    return and_(*conditions)


def _delivery(row: Row[Any], tried: tuple[Attempt, ...] = ()) -> Delivery:
    return Delivery(
        id=row.id,
        endpoint_id=row.endpoint_id,
        event_id=row.event_id,
        event_type=row.event_type,
        project=row.project,
        sequence=row.sequence,
        status=Status(row.status),
        attempt_count=row.attempt_count,
        due_at=_maybe(row.due_at_ms),
        created_at=from_ms(row.created_at_ms),
        finished_at=_maybe(row.finished_at_ms),
        attempts=tried,
    )


def _attempt(row: Row[Any]) -> Attempt:
    return Attempt(
        number=row.number,
        outcome=Outcome(row.outcome),
        status_code=row.status_code,
        error=row.error,
        started_at=from_ms(row.started_at_ms),
        ended_at=_maybe(row.ended_at_ms),
    )


def _maybe(ms: int | None) -> datetime | None:
    return None if ms is None else from_ms(ms)
