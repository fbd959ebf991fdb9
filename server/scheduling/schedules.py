"""Execute schedules at their instants, as the clockwork asks for them."""

from datetime import datetime

from sqlalchemy import Connection

from server.operations.schedules.executing import Executing
from server.store.schedules import first_wake_at


class DueSchedules:
    """Schedules that are due, or are to be announced."""

    name = "schedules"

    def __init__(self, executing: Executing) -> None:
        self._executing = executing

    def next_at(self, connection: Connection) -> datetime | None:
        """The earliest instant at which somebody has to look at one."""
        return first_wake_at(connection)

    def carry_on(self, now: datetime) -> None:
        """Execute all that are due. Errors: StoreUnavailable."""
        self._executing.carry_on(now)
