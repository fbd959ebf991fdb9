"""Say which launch plans are to change what somebody changes by hand: nothing takes them away silently."""

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import Connection

from server.core.events import Event
from server.store.launch_plans import find_overlaps

NAMED_MAX: Final = 20
"""Plans that one write's warnings name."""


def touched_plans(connection: Connection, project: str, events: Mapping[str, Sequence[Event]]) -> tuple[str, ...]:
    """A warning for each launch plan that is not over and is about something that an environment's events are about."""
    things = {
        environment: {(event.kind, event.key) for event in each if event.kind != "project"}
        for environment, each in events.items()
        if environment
    }
    if not any(things.values()):
        return ()
    found: dict[str, str] = {}
    for each in find_overlaps(connection, project=project, id="", things=things):
        told = f"launch plan {each.id} ({each.name}) is about {each.kind} {each.key} in {each.environment}, too"
        found.setdefault(each.id, told)
    more = [f"and {len(found) - NAMED_MAX} more launch plans"] if len(found) > NAMED_MAX else []
    return (*list(found.values())[:NAMED_MAX], *more)
