"""Do what schedules are for when they are due, each instant exactly once.

The schedule is read, its change made and its outcome kept in one transaction of its project, in which its row is
nobody else's. So of several processes that find it due one executes it, and a process that dies has done all or
nothing; it holds nobody up, for its transaction ends with its connection. No lease is needed that could lapse.
"""

import logging
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection

from server.core.access import Principal
from server.core.errors import FlagstaffError, StoreCorrupt, StoreUnavailable
from server.core.limits import TEXT_CHARS_MAX
from server.core.schedules.conflicts import ConflictKind, ScheduleConflict, conflict_of
from server.core.schedules.fields import meeting
from server.core.schedules.machine import Happening, State, Step, advance
from server.core.schedules.timing import Missed, is_missed, next_due
from server.operations.schedules.trying import Asked, InTheWayHere, timed_parts, typed_permit
from server.operations.writes import Write, Writer, Written, written_of
from server.store import failpoints
from server.store.commit import commit_within
from server.store.engine import reading
from server.store.saving import Cause
from server.store.schedule_subjects import executed_about, read_fields
from server.store.schedules import (
    StoredSchedule,
    claim_due,
    content_of,
    due_projects,
    postpone,
    read_schedule,
    save_step,
    wake_at,
)
from server.store.turns import take_turn

SERVER: Final = "server"
"""Who does what happens by itself, as the audit trail names it."""

BATCH_MAX: Final = 16
"""So many share a transaction, and so one flush of the disk; people's writes wait for no more than that."""

DAMAGED_RETRY: Final = timedelta(hours=1)
"""When one that cannot be read is looked at again."""

log = logging.getLogger("flagstaff.schedules")


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
        ids = claim_due(connection, project=project, now=now, limit=BATCH_MAX)
        if ids:
            failpoints.reach("schedules.claimed")
        for id in ids:
            try:
                self._carry_on_one(connection, now, project, id)
            except StoreCorrupt as error:
                log.error("a schedule cannot be read; the others go on", extra={"id": id, "error": str(error)})
                postpone(connection, project=project, id=id, until=now + DAMAGED_RETRY)
        if ids:
            failpoints.reach("schedules.before_commit")
        return len(ids)

    def _carry_on_one(self, connection: Connection, now: datetime, project: str, id: str) -> None:
        schedule = read_schedule(connection, project=project, id=id)
        due_at = schedule.progress.due_at
        if schedule.progress.state is not State.PENDING or due_at is None:
            # Nothing is due, whatever its row's copy says.
            postpone(connection, project=project, id=id, until=now + DAMAGED_RETRY)
        elif due_at <= now:
            self._come_due(connection, schedule, due_at, now)
        elif schedule.progress.reminded_of != due_at and (wake_at(schedule) or due_at) <= now:
            text = f"due at {due_at.isoformat()}"
            self._go_on(connection, schedule, Step(Happening.DUE_SOON, SERVER, now, text, instant=due_at))
        else:
            postpone(connection, project=project, id=id, until=wake_at(schedule) or due_at)

    def _come_due(self, connection: Connection, schedule: StoredSchedule, due_at: datetime, now: datetime) -> None:
        timing = schedule.timing
        following = next_due(timing, max(now, due_at))
        late = is_missed(timing, due_at, now)
        if late and timing.missed is not Missed.RUN:
            happening = Happening.SKIPPED if timing.missed is Missed.SKIP else Happening.FAILED
            text = f"its instant was missed by {_duration(now - due_at)}, more than its {timing.grace_s} s of grace"
            step = Step(happening, SERVER, now, text, instant=due_at, due_at=following)
            self._go_on(connection, schedule, step)
            return
        text = f"late by {_duration(now - due_at)}" if late else ""
        actor = f"schedule:{schedule.id}"
        savepoint = connection.begin_nested()
        try:
            self._refuse_overlap(connection, schedule, due_at)
            written = self._execute(connection, schedule, self._maker(schedule), now, actor=actor, instant=due_at)
        except (InTheWayHere, FlagstaffError) as error:
            if isinstance(error, StoreUnavailable):
                raise
            savepoint.rollback()
            if isinstance(error, StoreCorrupt):
                raise
            conflict = error.conflict if isinstance(error, InTheWayHere) else conflict_of(error)
            self._conflicted(connection, schedule, conflict, now, due_at=due_at, following=following)
            return
        savepoint.commit()
        failpoints.reach("schedules.applied")
        step = Step(Happening.EXECUTED, actor, now, text, instant=due_at, due_at=following, revisions=written.revisions)
        self._go_on(connection, schedule, step)

    def _conflicted(
        self,
        connection: Connection,
        schedule: StoredSchedule,
        conflict: ScheduleConflict,
        now: datetime,
        *,
        due_at: datetime,
        following: datetime | None,
    ) -> None:
        conflict = replace(conflict, text=conflict.text[:TEXT_CHARS_MAX])
        text = str(conflict)[:TEXT_CHARS_MAX]
        step = Step(Happening.CONFLICTED, SERVER, now, text, instant=due_at, due_at=following, conflicts=(conflict,))
        self._go_on(connection, schedule, step)

    def _go_on(self, connection: Connection, schedule: StoredSchedule, step: Step) -> None:
        after = replace(schedule, progress=advance(schedule.progress, step), updated_at=step.at)
        save_step(connection, schedule, after, step)

    def _maker(self, schedule: StoredSchedule) -> Principal:
        """In whose name it is executed: with what they may now, or else with what they were allowed then."""
        progress = schedule.progress
        return self.writer.who_is(progress.maker) or Principal(progress.maker, progress.maker_grants)

    def _refuse_overlap(self, connection: Connection, schedule: StoredSchedule, due_at: datetime) -> None:
        """Refuse to undo what another schedule did for the same instant. Errors: InTheWayHere."""
        mine = read_fields(connection, project=schedule.project, id=schedule.id)
        done = executed_about(connection, project=schedule.project, instant=due_at, fields=mine)
        for other in sorted(done.keys() - {schedule.id}):
            met = meeting(mine, done[other])
            if met is not None:
                text = f"schedule {other} has changed {met.described} for the same instant"
                conflict = ScheduleConflict(ConflictKind.OVERLAP, text, met.environment, met.described, other)
                raise InTheWayHere(conflict)

    def _execute(
        self,
        connection: Connection,
        schedule: StoredSchedule,
        principal: Principal,
        now: datetime,
        *,
        actor: str,
        instant: datetime,
    ) -> Written:
        write = Write(principal, schedule.progress.action, now, reason=schedule.title)
        return execute(connection, self.writer, schedule, write, actor=actor, cause=cause_text(schedule.id, instant))


def cause_text(id: str, instant: datetime) -> str:
    """What caused a scheduled commit: `schedule:sc_0123456789@2026-12-01T09:00:00+00:00`."""
    return f"schedule:{id}@{instant.isoformat()}"


def execute(
    connection: Connection, writer: Writer, schedule: StoredSchedule, write: Write, *, actor: str, cause: str
) -> Written:
    """Make a schedule's change in the caller's transaction. Errors: InTheWayHere; as `commit`."""
    content = content_of(schedule)
    why = Cause(schedule.project, actor, write.now, write.reason or schedule.title, cause, "")
    committed = commit_within(
        connection,
        parts=timed_parts(content, schedule.base, write.now),
        why=why,
        replace_variants=content.replace_variants,
        permit=typed_permit(writer, Asked(content, schedule.base, write, why, schedule.progress)),
    )
    return written_of(committed, dry_run=False)


def _duration(length: timedelta) -> str:
    return f"{length.total_seconds():.1f} s" if length < timedelta(minutes=2) else str(length).partition(".")[0]
