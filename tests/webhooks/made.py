"""Make endpoints, events and results for the tests of deliveries."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Engine, insert, select

from server.store import tables as store
from server.store.engine import reading, writing
from webhooks.deliveries import Claimed, claim
from webhooks.endpoints import Notice
from webhooks.outbox import Announced, fan_out
from webhooks.states import Lane
from webhooks.tables import attempts, deliveries, endpoints

NOW: Final = datetime(2026, 11, 1, 12, tzinfo=UTC)
LEASE_S: Final = 60.0


def after(seconds: float) -> datetime:
    """An instant so long after NOW."""
    return NOW + timedelta(seconds=seconds)


@dataclass
class Written:
    """Notices, in the order in which they were written."""

    notices: list[Notice] = field(default_factory=list)

    def write(self, _connection: Connection, notice: Notice) -> None:
        """Keep it in memory."""
        self.notices.append(notice)


class Outbox:
    """The events of the store's own outbox; their order is kept by type."""

    def events_after(self, connection: Connection, project: str, sequence: int, *, limit: int) -> Sequence[Announced]:
        """The next ones."""
        column = store.outbox.c
        query = (
            select(column.id, column.sequence, column.type)
            .where(column.project == project, column.sequence > sequence)
            .order_by(column.sequence)
            .limit(limit)
        )
        return [Announced(*row, ordering_key="flag") for row in connection.execute(query)]


@dataclass
class Events:
    """Events that a test makes up."""

    events: list[Announced] = field(default_factory=list)

    def add(self, *keys: str) -> None:
        """One event for each ordering key."""
        for key in keys:
            sequence = len(self.events) + 1
            self.events.append(Announced(f"evt_{sequence}", sequence, "flag.updated", key))

    def events_after(self, _connection: Connection, _project: str, sequence: int, *, limit: int) -> Sequence[Announced]:
        """The next ones."""
        return self.events[sequence : sequence + limit]


def add_endpoint(engine: Engine, id_: str = "ep_1", **fields: Any) -> None:
    """An endpoint that gets everything from now on."""
    row = {"id": id_, "project": "shop", "state": "enabled", "why": "", "concurrency": 10, "ordering": "none"}
    with writing(engine) as connection:
        connection.execute(insert(endpoints).values(**{**row, "since_sequence": 0, **fields}))


def enqueue(engine: Engine, *keys: str, endpoint_ids: Sequence[str] = ("ep_1",), now: datetime = NOW) -> None:
    """Endpoints with a delivery for each ordering key."""
    for endpoint_id in endpoint_ids:
        add_endpoint(engine, endpoint_id)
    events = Events()
    events.add(*keys)
    with writing(engine) as connection:
        fan_out(connection, events, project="shop", wants=lambda _endpoint, _event: True, now=now)


def claim_all(
    engine: Engine, *, now: datetime = NOW, claim_id: str = "one", lane: Lane = Lane.FRESH, room: int = 100
) -> list[Claimed]:
    """What ep_1 has to get now."""
    with writing(engine) as connection:
        return claim(connection, rooms={"ep_1": room}, lane=lane, claim_id=claim_id, lease_s=LEASE_S, now=now)


def statuses(engine: Engine) -> list[str]:
    """Of all deliveries, in the order of their events."""
    with reading(engine) as connection:
        order = (deliveries.c.sequence, deliveries.c.endpoint_id)
        return list(connection.execute(select(deliveries.c.status).order_by(*order)).scalars())


def outcomes(engine: Engine) -> list[str]:
    """Of all attempts, by delivery and number."""
    with reading(engine) as connection:
        query = (
            select(attempts.c.outcome)
            .join(deliveries, deliveries.c.id == attempts.c.delivery_id)
            .order_by(deliveries.c.sequence, attempts.c.number)
        )
        return list(connection.execute(query).scalars())
