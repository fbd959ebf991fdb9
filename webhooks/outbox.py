"""Make deliveries of committed events, each once for every endpoint that wants it.

The owner of the events calls this in a transaction of its own. How far it came is kept in that same transaction, so
it goes on where it stopped, however it stopped; the constraint on event and endpoint stops doubles should two of them
run at once.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sqlalchemy import Connection, Executable, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from webhooks import limits
from webhooks.states import EndpointState, Status
from webhooks.tables import deliveries, endpoints, fan_outs, to_ms


@dataclass(frozen=True, slots=True)
class Announced:
    """A committed event, as far as it matters where it goes."""

    id: str
    sequence: int
    type: str
    ordering_key: str
    """What it is about, such as a flag; "" for what needs no order."""


class EventSource(Protocol):
    """Where committed events are kept."""

    def events_after(self, connection: Connection, project: str, sequence: int, *, limit: int) -> Sequence[Announced]:
        """The next events of a project in their order; none may appear later with a lower sequence."""


Wants = Callable[[str, Announced], bool]
"""Whether the endpoint of this id wants the event."""


def fan_out(
    connection: Connection,
    source: EventSource,
    *,
    project: str,
    wants: Wants,
    now: datetime,
    limit: int = limits.EVENTS_PER_FAN_OUT_MAX,
) -> int:
    """Make deliveries of the next events, in the caller's transaction. Shapes: how many events, 0 when it is done.

    Deliveries to a disabled endpoint are kept as missed, so that enabling it can make up for them; an endpoint that is
    gone gets none.
    """
    last = _locked_cursor(connection, project)
    columns = endpoints.c
    mine = select(columns.id, columns.state, columns.since_sequence).where(
        columns.project == project, columns.state != EndpointState.GONE
    )
    # Locked, so that nobody disables one between this look and the commit and leaves a delivery behind that none sees.
    found = connection.execute(mine.order_by(columns.id).with_for_update(read=True)).all()
    if not found:
        return 0
    # What came before every endpoint is nobody's, and may be years of it.
    last = max(last, min(endpoint.since_sequence for endpoint in found))
    events = source.events_after(connection, project, last, limit=limit)
    if not events:
        return 0
    rows = [
        _row(event, endpoint.id, project=project, enabled=endpoint.state == EndpointState.ENABLED, now_ms=to_ms(now))
        for event in events
        for endpoint in found
        if event.sequence > endpoint.since_sequence and wants(endpoint.id, event)
    ]
    if rows:
        connection.execute(_insert(connection.dialect.name), rows)
    connection.execute(
        update(fan_outs).where(fan_outs.c.project == project).values(sequence=max(event.sequence for event in events))
    )
    return len(events)


def deliver_to(
    connection: Connection, event: Announced, endpoint_id: str, *, project: str, now: datetime
) -> EndpointState | None:
    """Make a delivery of one event to one endpoint, whatever that wants, unless there is one already.

    Shapes: the endpoint's state; None when the project has no such endpoint. One that is disabled misses it, and one
    that is gone gets none.
    """
    query = select(endpoints.c.state).where(endpoints.c.id == endpoint_id, endpoints.c.project == project)
    # As in `fan_out`.
    found = connection.execute(query.with_for_update(read=True)).scalar()
    if found is None:
        return None
    state = EndpointState(found)
    if state is not EndpointState.GONE:
        enabled = state is EndpointState.ENABLED
        row = _row(event, endpoint_id, project=project, enabled=enabled, now_ms=to_ms(now))
        connection.execute(_insert(connection.dialect.name), [row])
    return state


def projects_behind(connection: Connection, lasts: Mapping[str, int]) -> list[str]:
    """Projects whose events go further than their deliveries, and that have an endpoint.

    Shapes: lasts has the number of each project's last event.
    """
    columns = endpoints.c
    first_wanted = func.min(columns.since_sequence)
    having = (
        select(columns.project, first_wanted, fan_outs.c.sequence)
        .outerjoin_from(endpoints, fan_outs, fan_outs.c.project == columns.project)
        .where(columns.state != EndpointState.GONE)
        .group_by(columns.project, fan_outs.c.sequence)
        .order_by(columns.project)
    )
    return [
        project
        for project, since, sequence in connection.execute(having)
        if lasts.get(project, 0) > max(since, sequence or 0)
    ]


def _locked_cursor(connection: Connection, project: str) -> int:
    query = select(fan_outs.c.sequence).where(fan_outs.c.project == project).with_for_update()
    last: int | None = connection.execute(query).scalar()
    if last is None:
        # Two that make it at once: the second fails on the primary key, and its caller tries again.
        connection.execute(insert(fan_outs).values(project=project, sequence=0))
        return 0
    return last


def _row(event: Announced, endpoint_id: str, *, project: str, enabled: bool, now_ms: int) -> dict[str, object]:
    return {
        "id": f"dlv_{uuid.uuid4().hex}",
        "event_id": event.id,
        "endpoint_id": endpoint_id,
        "project": project,
        "sequence": event.sequence,
        "event_type": event.type,
        "ordering_key": event.ordering_key,
        "status": Status.PENDING if enabled else Status.MISSED,
        "due_at_ms": now_ms if enabled else None,
        "created_at_ms": now_ms,
        "finished_at_ms": None if enabled else now_ms,
    }


def _insert(dialect: str) -> Executable:
    # The one place where both spell it differently to SQLAlchemy; the words are the same.
    if dialect == "postgresql":
        return postgresql.insert(deliveries).on_conflict_do_nothing()
    return sqlite.insert(deliveries).on_conflict_do_nothing()
