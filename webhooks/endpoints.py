"""Watch how endpoints do: disable one that fails for long, or is gone, and let it come back."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sqlalchemy import Connection, func, select, update

from webhooks import limits
from webhooks.envelope import timestamp_text
from webhooks.states import EndpointState, Status
from webhooks.tables import deliveries, endpoints, from_ms, to_ms


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that happened to the deliveries themselves, to be announced as an event of the project."""

    type: str
    project: str
    data: Mapping[str, str | int]


class Notices(Protocol):
    """Where notices are written: to the outbox, in the transaction of what they tell."""

    def write(self, connection: Connection, notice: Notice) -> None:
        """Keep it for announcement."""


def lock(connection: Connection, ids: Collection[str]) -> None:
    """Let nobody else change these endpoints until the transaction ends."""
    connection.execute(
        select(endpoints.c.id).where(endpoints.c.id.in_(ids)).order_by(endpoints.c.id).with_for_update()
    ).all()


def note_success(connection: Connection, endpoint_id: str) -> None:
    """Whatever failed before is forgiven."""
    connection.execute(
        update(endpoints)
        .where(endpoints.c.id == endpoint_id, endpoints.c.failing_since_ms.is_not(None))
        .values(failing_since_ms=None)
    )


def note_failure(connection: Connection, endpoint_id: str, *, notices: Notices, now: datetime) -> None:
    """Remember since when it fails; after FAILING_S_MAX it is disabled."""
    query = select(endpoints.c.failing_since_ms).where(endpoints.c.id == endpoint_id)
    since: int | None = connection.execute(query).scalar()
    if since is None:
        connection.execute(update(endpoints).where(endpoints.c.id == endpoint_id).values(failing_since_ms=to_ms(now)))
    elif to_ms(now) - since >= limits.FAILING_S_MAX * 1_000:
        end(connection, endpoint_id, EndpointState.DISABLED, why="failing", notices=notices, now=now)


def end(
    connection: Connection, endpoint_id: str, state: EndpointState, *, why: str, notices: Notices, now: datetime
) -> None:
    """Deliver nothing more to an endpoint; all that it still had to get is missed, also what is under way.

    Nothing happens to one that is not enabled.
    """
    row = connection.execute(
        update(endpoints)
        .where(endpoints.c.id == endpoint_id, endpoints.c.state == EndpointState.ENABLED)
        .values(state=state, why=why)
        .returning(endpoints.c.project, endpoints.c.failing_since_ms)
    ).first()
    if row is None:
        return
    unfinished = (deliveries.c.endpoint_id == endpoint_id) & deliveries.c.due_at_ms.is_not(None)
    pending = connection.execute(select(func.count()).select_from(deliveries).where(unfinished)).scalar_one()
    connection.execute(
        update(deliveries)
        .where(unfinished)
        .values(status=Status.MISSED, claim_id="", due_at_ms=None, finished_at_ms=to_ms(now))
    )
    data: dict[str, str | int] = {"endpoint_id": endpoint_id, "why": why, "pending": pending}
    if row.failing_since_ms is not None:
        data["failing_since"] = timestamp_text(from_ms(row.failing_since_ms))
    notices.write(connection, Notice("webhook.endpoint_disabled", row.project, data))


def enable(connection: Connection, endpoint_id: str, *, notices: Notices) -> bool:
    """Deliver to an endpoint again; False when it is enabled already, or there is none.

    What it missed is sent by `deliveries.replay`, which by default means all that was not delivered.
    """
    row = connection.execute(
        update(endpoints)
        .where(endpoints.c.id == endpoint_id, endpoints.c.state != EndpointState.ENABLED)
        .values(state=EndpointState.ENABLED, why="", failing_since_ms=None)
        .returning(endpoints.c.project)
    ).first()
    if row is None:
        return False
    notices.write(connection, Notice("webhook.endpoint_recovered", row.project, {"endpoint_id": endpoint_id}))
    return True


def any_endpoint(connection: Connection) -> bool:
    """Whether there is anybody to deliver to, or who misses something."""
    wanted = select(endpoints.c.id).where(endpoints.c.state != EndpointState.GONE)
    return connection.execute(wanted.limit(1)).first() is not None
