"""Forget deliveries and events in time: never one that is still to be delivered."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Engine

from server.store.engine import database_now, reading, writing
from server.store.outbox import forget_events
from server.store.projects import last_sequences
from webhooks.finished import remove_finished
from webhooks.states import DEAD, Status

ROWS_MAX: Final = 1_000
"""Events that one transaction forgets."""


@dataclass(frozen=True, slots=True)
class Retention:
    """For how many days what is finished is kept. Dead letters longer than what arrived: they may be sent again."""

    delivered: float = 14
    dead: float = 60
    events: float = 90
    """An event stays as long as a delivery of it, too."""


def forget(engine: Engine, retention: Retention) -> int:
    """Forget what is old enough, a portion in a transaction. Shapes: how many rows.

    Several processes may do this at once. Errors: StoreUnavailable, StoreCorrupt.
    """
    with reading(engine) as connection:
        now = database_now(connection)
        projects = sorted(last_sequences(connection))
    done = 0
    for statuses, days in (((Status.DELIVERED,), retention.delivered), (DEAD, retention.dead)):
        while count := _forget_deliveries(engine, statuses, before=now - timedelta(days=days)):
            done += count
    for project in projects:
        while count := _forget_events(engine, project, before=now - timedelta(days=retention.events)):
            done += count
    return done


def _forget_deliveries(engine: Engine, statuses: tuple[Status, ...], *, before: datetime) -> int:
    with writing(engine, about="forgetting", tells=False) as connection:
        return remove_finished(connection, finished_by=before, statuses=statuses)


def _forget_events(engine: Engine, project: str, *, before: datetime) -> int:
    # About the project: nobody may announce meanwhile, so that its last event is the last.
    with writing(engine, about=f"project/{project}", tells=False) as connection:
        return forget_events(connection, project, before=before, limit=ROWS_MAX)
