"""Write down what the clock has made of flags, each instant once and in order.

Every evaluator switches by itself, also while no server runs. What is written here is the history of it: a revision, an
audit entry and an event for the very instant. Nobody is asked who would agree to a change or may make one: whoever
wrote the timeline was asked then, and no answer changes now.
"""

import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, Engine

from server.core.definitions.fields import write_instant
from server.core.edits import SettleTimeline
from server.core.errors import FlagstaffError, StoreUnavailable
from server.core.timelines import ended, next_instant
from server.store.commit import Part, Seen, commit_within
from server.store.engine import reading
from server.store.locks import NO_KEY, Key, find_lock
from server.store.occurrences import Occurrence, note
from server.store.saving import Cause
from server.store.timelines import (
    Place,
    Settling,
    find_settling,
    last_change,
    note_settled,
    settles_at,
)
from server.store.turns import take_turn

ACTOR: Final = "timeline"
"""As the audit trail names the clock."""

SETTLED_AT_ONCE_MAX: Final = 500
"""Flags that are settled between two looks at what is due."""

AGAIN_AFTER: Final = timedelta(minutes=1)
"""A flag that cannot be settled, because it is damaged, is tried again then; it answers as its timeline says."""

RULE_ENDED: Final = "flag.rule_ended"

log = logging.getLogger("flagstaff.timelines")


@dataclass(slots=True)
class Timelines:
    """What settles the timelines of one database's flags."""

    engine: Engine
    _failed: dict[Place, datetime] = field(default_factory=dict)
    """A flag that could not be settled -> when it is tried again."""

    name: str = "timelines"

    def next_at(self, connection: Connection) -> datetime | None:
        """When there is something to settle next."""
        first = find_settling(connection, limit=1, without=self._failed)
        return min([*(each.at for each in first), *self._failed.values()], default=None)

    def carry_on(self, now: datetime) -> None:
        """Settle all that is due. Errors: StoreUnavailable, StoreCorrupt; it is still due then."""
        self._failed = {place: again for place, again in self._failed.items() if again > now}
        while True:
            with reading(self.engine) as connection:
                found = find_settling(connection, limit=SETTLED_AT_ONCE_MAX, without=self._failed)
            due = [each for each in found if each.at <= now]
            for each in due:
                self._settle(each, now)
            if not due:
                return

    def _settle(self, due: Settling, now: datetime) -> None:
        try:
            take_turn(self.engine, f"project/{due.project}", lambda connection: _settle(connection, due, now))
        except StoreUnavailable:
            raise
        except FlagstaffError as error:
            # Others go on all the same, and so do the answers of this one.
            self._failed[due.place] = now + AGAIN_AFTER
            log.warning("a timeline could not be settled", extra={"flag": "/".join(due.place), "error": str(error)})


def _settle(connection: Connection, due: Settling, now: datetime) -> None:
    if settles_at(connection, due.place) != due.at:
        # Another process was quicker, or somebody edited the flag.
        return
    last = last_change(connection, project=due.project, environment=due.environment)
    # The history of an environment goes forward: what is settled late, after other changes, is told when it is settled.
    at = due.at if last is None or last <= due.at else max(now, last)
    cause = f"timeline@{write_instant(due.at)}"
    lock = find_lock(connection, due.project, environment=due.environment, flag=due.key)
    # Not even whoever keeps others from the flag keeps the clock from it.
    key = NO_KEY if lock is None else Key(lock.holder)
    why = Cause(due.project, ACTOR, at, "its time came", cause, "", key)
    part = Part(due.environment, (SettleTimeline(due.key, due.at),))
    seen: list[Seen] = []
    commit_within(connection, parts=(part,), why=why, observe=seen.append)
    config = seen[0].after.flag_set.flags[due.key].config
    for rule in ended(config, due.at):
        occurrence = Occurrence(
            project=due.project,
            environment=due.environment,
            kind="flag",
            key=due.key,
            type=RULE_ENDED,
            actor=ACTOR,
            at=at,
            data={"rule": rule, "endedAt": write_instant(due.at)},
            reason="its time came",
            cause=cause,
        )
        note(connection, occurrence)
    note_settled(connection, due.place, next_at=next_instant(config, due.at))
