"""Launch plans with work to do, as the clockwork asks for them."""

import logging
from datetime import datetime

from sqlalchemy import Connection

from server.operations.launch_plans.running import Running
from server.store.launch_plans import first_plan_at

log = logging.getLogger("flagstaff.launch_plans")


class DueLaunchPlans:
    """Reminds of and does what is due of every plan; the row's state keeps it from being done twice."""

    name = "launch-plans"

    def __init__(self, running: Running) -> None:
        self._running = running

    def next_at(self, connection: Connection) -> datetime | None:
        """The earliest time at which a plan has work."""
        return first_plan_at(connection)

    def carry_on(self, now: datetime) -> None:
        """Do all that is due. Errors: StoreUnavailable."""
        for error in self._running.carry_on(now):
            # The others go on all the same.
            log.warning("a launch plan could not be carried on", extra={"error": str(error)})
