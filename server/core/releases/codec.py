"""Write a release and what happened to it as JSON, and decide again what was decided."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final, get_args

from server.core.change_requests.codec import read_value, write_value
from server.core.json import Json
from server.core.releases.machine import step
from server.core.releases.progress import Event, Release
from server.core.releases.walking import Outcome

EVENTS: Final[Mapping[str, type[Any]]] = {each.__name__: each for each in get_args(Event)}


def write_event(event: Event) -> dict[str, Json]:
    """An event as JSON; `read_event` gives the same back."""
    return {"type": type(event).__name__, **write_value(event)}


def read_event(data: Mapping[str, Json]) -> Event:
    """Read what `write_event` wrote. Errors: KeyError, TypeError, ValueError for something else."""
    fields = {name: value for name, value in data.items() if name != "type"}
    event: Event = read_value(EVENTS[data["type"]], fields)
    return event


def replay(release: Release, events: Iterable[tuple[Event, datetime]]) -> list[Outcome]:
    """Decide everything again, from how a release was created. Errors: Refused for what can never have happened."""
    outcomes: list[Outcome] = []
    for event, at in events:
        outcomes.append(step(release, event, at))
        release = outcomes[-1].release
    return outcomes
