"""Tell what happened, as others get it."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Engine

from server.core.announcing.catalogue import API_VERSION, data_of
from server.core.announcing.wanted import Wanted
from server.core.errors import NotFound, Stale
from server.store.causing import PAYLOAD_FIELD
from server.store.engine import reading
from server.store.outbox import StoredEvent, events_behind, first_event, last_event, newest_events
from server.store.projects import find_project
from webhooks.envelope import Actor, Event

PORTION: Final = 500
"""Events that are read at once."""


@dataclass(frozen=True, slots=True)
class Feed:
    """The events of one database."""

    engine: Engine

    def page(
        self, project: str, wanted: Wanted, *, environment: str, before: int | None, limit: int
    ) -> tuple[list[Event], int | None]:
        """The newest that are wanted, and before which to go on; None: there are no more.

        Errors: NotFound, StoreUnavailable.
        """
        with reading(self.engine) as connection:
            found, further = newest_events(
                connection, project, wanted, environment=environment, before=before, limit=limit
            )
        if not found:
            self.last(project)
        return [tellable(each) for each in found], further

    def behind(self, project: str, wanted: Wanted, *, environment: str, sequence: int) -> tuple[list[Event], int]:
        """The oldest that are wanted behind one, and up to where all are among them; behind 0: all that are kept.

        Errors: Stale when some behind it are forgotten; StoreUnavailable.
        """
        with reading(self.engine) as connection:
            first = first_event(connection, project)
            if 0 < sequence < first - 1:
                raise Stale(
                    f"events up to {first - 1} are forgotten, and what is behind {sequence} was asked for: begin anew "
                    f"behind event {first - 1}, or behind 0 for all that are kept"
                )
            found, looked = events_behind(
                connection, project, wanted, environment=environment, sequence=sequence, limit=PORTION
            )
        return [tellable(each) for each in found], looked

    def last(self, project: str) -> int:
        """The number of the last event. Errors: NotFound when there is no such project; StoreUnavailable."""
        with reading(self.engine) as connection:
            last = last_event(connection, project)
            if not last and find_project(connection, project) is None:
                raise NotFound(f"project {project!r} does not exist")
        return last


def tellable(stored: StoredEvent) -> Event:
    """What others get of an event, whichever way they do; the same at each telling."""
    type_, _, id_ = str(stored.payload.get("actor", "")).partition(":")
    caused = stored.payload.get(PAYLOAD_FIELD) or {}
    return Event(
        id=stored.id,
        type=stored.type,
        at=stored.at,
        project=stored.project,
        environment=stored.environment,
        sequence=stored.sequence,
        actor=Actor(type_, id_, id_),
        api_version=API_VERSION,
        data=data_of(stored.type, stored.payload),
        causation_id=caused.get("id"),
        hops=int(caused.get("hops", 0)),
    )
