"""Say what else is to happen by itself to what somebody has changed: schedules and launch plans that wait."""

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection

from server.core.events import Event
from server.operations.launch_plans.touching import touched_plans
from server.operations.schedules.touching import touched_schedules


def touched(connection: Connection, project: str, events: Mapping[str, Sequence[Event]]) -> tuple[str, ...]:
    """A warning for each that is about something that an environment's events are about.

    Releases warn in the commit itself: they may refuse it.
    """
    if not any(events.values()):
        return ()
    return (*touched_schedules(connection, project, events), *touched_plans(connection, project, events))
