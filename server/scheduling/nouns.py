"""Gather what has work at certain instants, one line each."""

from sqlalchemy import Engine

from server.operations.change_requests.applying import Applying
from server.operations.metrics import Folding
from server.operations.releases.moving import Releases
from server.operations.timelines import Timelines
from server.scheduling.change_requests import DueChangeRequests
from server.scheduling.clockwork import Timed


def timed_nouns(engine: Engine, applying: Applying, releases: Releases) -> list[Timed]:
    """All that a server's clockwork wakes."""
    return [
        DueChangeRequests(engine, applying),
        Folding(engine),
        releases,
        Timelines(engine),
    ]
