"""Do what schedules are for when they are due, each instant exactly once.

The schedule is read, its change made and its outcome kept in one transaction of its project, in which its row is
nobody else's. So of several processes that find it due one executes it, and a process that dies has done all or
nothing; it holds nobody up, for its transaction ends with its connection. No lease is needed that could lapse.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from server.operations.schedules.batches import Batch, NotTogether, put_off
from server.operations.writes import Writer
from server.store import failpoints
from server.store.engine import reading
from server.store.schedule_subjects import executed_about, read_fields
from server.store.schedules import Move, StoredSchedule, claim_due, due_projects, save_moves
from server.store.turns import take_turn

BATCH_MAX: Final = 16
"""So many share a transaction, and so one flush of the disk; people's writes wait for no more than that."""


@dataclass(frozen=True, slots=True)
class Executing:
    """What executes the schedules of one database."""

    writer: Writer

    def carry_on(self, now: datetime) -> int:
        """Do all that is due, and announce what soon is; how many schedules went on.

        Errors: StoreUnavailable; what is not done then is still due.
        """
        with reading(self.writer.engine) as connection:
            projects = due_projects(connection, now=now)
        return sum(self._carry_on_project(now, project) for project in projects)

    def _carry_on_project(self, now: datetime, project: str) -> int:
        done_count = 0
        while True:
            # Other processes take theirs between two of these, and people's writes come in between.
            count = take_turn(self.writer.engine, f"project/{project}", lambda found: self._batch(found, now, project))
            failpoints.reach("schedules.after_commit")
            done_count += count
            if count < BATCH_MAX:
                return done_count

    def _batch(self, connection: Connection, now: datetime, project: str) -> int:
        claimed = claim_due(connection, project=project, now=now, limit=BATCH_MAX)
        if not claimed:
            return 0
        failpoints.reach("schedules.claimed")
        for id, error in claimed.damaged.items():
            put_off(connection, project, id, error, now=now)
        if claimed.found:
            save_moves(connection, self._moves(connection, claimed.found, now, project))
        failpoints.reach("schedules.before_commit")
        return len(claimed)

    def _moves(
        self, connection: Connection, found: Sequence[StoredSchedule], now: datetime, project: str
    ) -> list[Move]:
        fields = read_fields(connection, project=project, ids=[each.id for each in found])
        instants = {each.id: each.progress.due_at for each in found if each.progress.due_at is not None}
        executed = executed_about(
            connection,
            project=project,
            instants=set(instants.values()),
            fields={field for id in instants for field in fields[id]},
        )
        savepoint = connection.begin_nested()
        try:
            moves = Batch(self.writer, connection, now, fields, deepcopy(executed)).carry_on(found)
        except NotTogether:
            # Rarely: nothing was in their way when they were made.
            savepoint.rollback()
            return Batch(self.writer, connection, now, fields, executed, apart=True).carry_on(found)
        savepoint.commit()
        return moves
