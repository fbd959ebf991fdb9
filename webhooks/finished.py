"""Send finished deliveries again, or forget them.

Every function works in the caller's transaction, a portion at a time, and takes the time by the database's clock.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, Connection, and_, delete, exists, select, update

from webhooks import endpoints as health
from webhooks import limits
from webhooks.states import DEAD, EndpointState, Lane, Status
from webhooks.tables import attempts, deliveries, endpoints, to_ms

_COLUMN: Final = deliveries.c


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which finished deliveries of an endpoint are meant; None stands for any."""

    endpoint_id: str
    statuses: tuple[Status, ...] = DEAD
    ids: tuple[str, ...] | None = None
    event_types: tuple[str, ...] | None = None
    since: datetime | None = None
    """By when the event became a delivery, and so for `until`."""

    until: datetime | None = None


def replay(
    connection: Connection,
    wanted: Wanted,
    *,
    finished_by: datetime,
    now: datetime,
    limit: int = limits.ROWS_PER_SWEEP_MAX,
) -> int:
    """Send finished deliveries again. Shapes: how many; call it again with the same `finished_by` until it is 0.

    What is not finished is left alone: a replay neither doubles a delivery nor begins its schedule anew.
    Those of an endpoint that is not enabled wait for `endpoints.enable`, and are not replayed here.
    """
    enabled = exists().where(endpoints.c.id == wanted.endpoint_id, endpoints.c.state == EndpointState.ENABLED)
    # Locked, so that it is not disabled meanwhile and left with deliveries that nobody claims or counts as missed.
    health.lock(connection, [wanted.endpoint_id])
    # One finished later was replayed by an earlier call already.
    chosen = (
        select(_COLUMN.id)
        .where(_matches(wanted), _COLUMN.finished_at_ms <= to_ms(finished_by), enabled)
        .order_by(_COLUMN.finished_at_ms, _COLUMN.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    ids = connection.execute(chosen).scalars().all()
    if ids:
        connection.execute(
            update(deliveries)
            .where(_COLUMN.id.in_(ids))
            .values(
                status=Status.PENDING,
                lane=Lane.RETRY,
                due_at_ms=to_ms(now),
                finished_at_ms=None,
                round_start=_COLUMN.attempt_count,
            )
        )
    return len(ids)


def remove_finished(connection: Connection, *, finished_by: datetime, statuses: Collection[Status]) -> int:
    """Forget finished deliveries and their attempts. Shapes: how many; what is not finished is never touched."""
    ids = (
        connection.execute(
            select(_COLUMN.id)
            .where(
                _COLUMN.due_at_ms.is_(None),
                _COLUMN.finished_at_ms <= to_ms(finished_by),
                _COLUMN.status.in_(statuses),
            )
            .order_by(_COLUMN.finished_at_ms)
            .limit(limits.ROWS_PER_SWEEP_MAX)
            .with_for_update(skip_locked=True)
        )
        .scalars()
        .all()
    )
    if ids:
        connection.execute(delete(attempts).where(attempts.c.delivery_id.in_(ids)))
        connection.execute(delete(deliveries).where(_COLUMN.id.in_(ids)))
    return len(ids)


def _matches(wanted: Wanted) -> ColumnElement[bool]:
    conditions = [
        _COLUMN.endpoint_id == wanted.endpoint_id,
        _COLUMN.status.in_(wanted.statuses),
        _COLUMN.due_at_ms.is_(None),
    ]
    if wanted.ids is not None:
        conditions.append(_COLUMN.id.in_(wanted.ids))
    if wanted.event_types is not None:
        conditions.append(_COLUMN.event_type.in_(wanted.event_types))
    if wanted.since is not None:
        conditions.append(_COLUMN.created_at_ms >= to_ms(wanted.since))
    if wanted.until is not None:
        conditions.append(_COLUMN.created_at_ms < to_ms(wanted.until))
    return and_(*conditions)
