"""Let deliveries be sent from our database: the events that they are about, and transactions as ours are."""

import uuid
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, Engine

from server.operations.feed import tellable
from server.store.engine import database_now, reading, writing
from server.store.outbox import events_at
from webhooks.envelope import Event, capped

CLAIMS: Final = "deliveries/claims"


class Depot:
    """One database as a dispatcher sees it. Errors of its transactions: StoreUnavailable, StoreCorrupt."""

    def __init__(self, engine: Engine, now: Callable[[Connection], datetime] = database_now) -> None:
        """Units: `now` gives the database's clock, by which leases last and messages are signed."""
        self._engine, self._now = engine, now
        # A name of its own: what one process records need not wait for what another does.
        self._records = f"deliveries/records/{uuid.uuid4().hex}"

    def claiming(self) -> AbstractContextManager[Connection]:
        """Those who claim come one after another, in all processes."""
        return writing(self._engine, about=CLAIMS, tells=False)

    def recording(self) -> AbstractContextManager[Connection]:
        """Beside those of others."""
        return writing(self._engine, about=self._records, tells=False)

    def reading(self) -> AbstractContextManager[Connection]:
        """One moment."""
        return reading(self._engine)

    def now(self, connection: Connection) -> datetime:
        """The database's clock."""
        return self._now(connection)

    def events(self, connection: Connection, places: Collection[tuple[str, int]]) -> Mapping[tuple[str, int], Event]:
        """As others get them."""
        return {(each.project, each.sequence): capped(tellable(each)) for each in events_at(connection, places)}
