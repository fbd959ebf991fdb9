"""Watch how endpoints do: disable one that fails for long, or is gone, and let it come back."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from sqlalchemy import Connection, bindparam, func, select, update

from webhooks import breaker, limits
from webhooks.breaker import Breaker
from webhooks.envelope import timestamp_text
from webhooks.pacing import SET_BREAKER, breaker_values, read_breaker
from webhooks.states import EndpointState, Outcome, Status
from webhooks.tables import attempts, deliveries, endpoints, from_ms, to_ms


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


@dataclass(frozen=True, slots=True)
class Fare:
    """How an endpoint does, as its row has it."""

    id: str
    failing_since_ms: int | None
    breaker: Breaker

    @property
    def at_ease(self) -> bool:
        """Whether there is nothing that a success would have to forgive."""
        return self.failing_since_ms is None and self.breaker == Breaker()


def fares(connection: Connection, ids: Collection[str]) -> dict[str, Fare]:
    """How these endpoints do, as far as they are there; nobody is kept from changing it."""
    rows = connection.execute(_FARES.where(endpoints.c.id.in_(ids)))
    return {row.id: Fare(row.id, row.failing_since_ms, read_breaker(row)) for row in rows}


def lock(connection: Connection, ids: Collection[str], *, exclusive: bool = True) -> None:
    """Let nobody else change these endpoints until the transaction ends; nor lock them, when it is exclusive."""
    chosen = select(endpoints.c.id).where(endpoints.c.id.in_(ids)).order_by(endpoints.c.id)
    # Never a full lock: who adds a delivery refers to the endpoint, and need not wait.
    connection.execute(chosen.with_for_update(read=not exclusive, key_share=exclusive)).all()


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of an endpoint at once.

    Shapes: down counts the failures that say something of the receiver itself, not of one message. Units: wait_s is for
    how long it asked to be sent nothing.
    """

    arrived: bool
    down: int = 0
    wait_s: float | None = None


def note(connection: Connection, fare: Fare, seen: Seen, *, chance: float, notices: Notices, now: datetime) -> None:
    """Keep how an endpoint does now; one that has been failing for FAILING_S_MAX is disabled.

    One success forgives all failures before it. chance as `breaker.failed` has it.
    """
    since = None if seen.arrived else fare.failing_since_ms or to_ms(now)
    if since is not None and to_ms(now) - since >= limits.FAILING_S_MAX * 1_000:
        end(connection, fare.id, EndpointState.DISABLED, why="failing", notices=notices, now=now)
        return
    after = breaker.succeeded(fare.breaker) if seen.arrived else fare.breaker
    for _ in range(0 if seen.arrived else seen.down):
        after = breaker.failed(after, now.timestamp(), chance=chance)
    if seen.wait_s is not None:
        after = breaker.asked_to_wait(after, now.timestamp() + min(seen.wait_s, breaker.OPEN_S_MAX))
    if (since, after) != (fare.failing_since_ms, fare.breaker):
        kept = {"endpoint": fare.id, "to_failing": since, **breaker_values(after)}
        connection.execute(_KEEP, kept)


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
    held = select(deliveries.c.id).where(unfinished)
    connection.execute(
        update(attempts)
        .where(attempts.c.delivery_id.in_(held), attempts.c.outcome == Outcome.SENDING)
        .values(outcome=Outcome.LOST)
    )
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
        .values(state=EndpointState.ENABLED, why="", failing_since_ms=None, **_CLOSED)
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


_CLOSED: Final = {
    "breaker_state": breaker.State.CLOSED,
    "breaker_failures": 0,
    "breaker_opened": 0,
    "breaker_until_ms": 0,
}
_FARES: Final = select(
    endpoints.c.id,
    endpoints.c.failing_since_ms,
    endpoints.c.breaker_state,
    endpoints.c.breaker_failures,
    endpoints.c.breaker_opened,
    endpoints.c.breaker_until_ms,
)
_KEEP: Final = SET_BREAKER.values(failing_since_ms=bindparam("to_failing"))
