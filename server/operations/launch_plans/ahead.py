"""Foresee a launch plan before somebody has the project's turn: whoever writes there does not wait for it."""

from dataclasses import dataclass

from sqlalchemy import Connection, Engine

from server.operations.launch_plans.commits import versions_of
from server.operations.launch_plans.foresight import Foresight, Look, foresee
from server.store.change_requests import Versions
from server.store.engine import reading


@dataclass(frozen=True, slots=True)
class Ahead:
    """What was foreseen, and of what."""

    look: Look
    foresight: Foresight
    versions: Versions
    """Of all that it touches, then."""


def look_ahead(engine: Engine, look: Look) -> Ahead:
    """Foresee a plan in a view of the database of its own. Errors: as `foresee`."""
    with reading(engine) as connection:
        foresight = foresee(connection, look)
        return Ahead(look, foresight, versions_of(connection, look.project, foresight.things))


def still_foreseen(connection: Connection, look: Look, ahead: Ahead | None) -> Foresight:
    """What was foreseen, as long as it is about the same plan and nothing that it touches has moved; else anew."""
    if ahead is not None and ahead.look == look:
        now = versions_of(connection, look.project, ahead.foresight.things)
        if now == ahead.versions:
            return ahead.foresight
    return foresee(connection, look)
