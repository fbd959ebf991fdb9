"""Do what those schedules are for that share a transaction."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection

from server.core.access import Principal
from server.core.errors import FlagstaffError, StoreCorrupt, StoreUnavailable
from server.core.limits import TEXT_CHARS_MAX
from server.core.schedules.conflicts import ConflictKind, ScheduleConflict, conflict_of
from server.core.schedules.fields import Field, meeting
from server.core.schedules.machine import Happening, State, Step, advance
from server.core.schedules.timing import Missed, is_missed, next_due
from server.operations.schedules.trying import Asked, InTheWayHere, timed_parts, typed_permit
from server.operations.writes import Write, Writer, Written, written_of
from server.store import failpoints
from server.store.commit import commit_within
from server.store.saving import Cause
from server.store.schedule_subjects import Executed
from server.store.schedules import Move, StoredSchedule, content_of, postpone, wake_at

SERVER: Final = "server"
"""Who does what happens by itself, as the audit trail names it."""

DAMAGED_RETRY: Final = timedelta(hours=1)
"""When one that cannot be read is looked at again."""

log = logging.getLogger("flagstaff.schedules")


class NotTogether(Exception):
    """One of a batch cannot be made, so that each needs a savepoint of its own."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one transaction has to go by. Nothing of what happens to the schedules themselves is kept by it."""

    writer: Writer
    connection: Connection
    now: datetime
    fields: Mapping[str, frozenset[Field]]
    """Id -> what that schedule sets."""

    executed: Executed
    """What has been done for their instants; theirs is added."""

    apart: bool = False
    """Whether each has a savepoint of its own: what is in one's way is taken back alone then."""

    moves: list[Move] = field(default_factory=list)

    def carry_on(self, schedules: Sequence[StoredSchedule]) -> list[Move]:
        """Do what is due, in this order, and say what came of each.

        Errors: NotTogether when one of them has something in its way and they are not apart; StoreUnavailable.
        """
        for schedule in schedules:
            try:
                self._carry_on(schedule)
            except StoreCorrupt as error:
                put_off(self.connection, schedule.project, schedule.id, error, now=self.now)
        return self.moves

    def _carry_on(self, schedule: StoredSchedule) -> None:
        progress, project, id = schedule.progress, schedule.project, schedule.id
        due_at = progress.due_at
        if progress.state is not State.PENDING or due_at is None:
            # Nothing is due, whatever its row's copy says.
            postpone(self.connection, project=project, id=id, until=self.now + DAMAGED_RETRY)
        elif due_at <= self.now:
            self._come_due(schedule, due_at)
        elif progress.reminded_of != due_at and (wake_at(schedule) or due_at) <= self.now:
            text = f"due at {due_at.isoformat()}"
            self._go_on(schedule, Step(Happening.DUE_SOON, SERVER, self.now, text, instant=due_at))
        else:
            postpone(self.connection, project=project, id=id, until=wake_at(schedule) or due_at)

    def _come_due(self, schedule: StoredSchedule, due_at: datetime) -> None:
        timing, now = schedule.timing, self.now
        following = next_due(timing, max(now, due_at))
        late = is_missed(timing, due_at, now)
        if late and timing.missed is not Missed.RUN:
            happening = Happening.SKIPPED if timing.missed is Missed.SKIP else Happening.FAILED
            text = f"its instant was missed by {_duration(now - due_at)}, more than its {timing.grace_s} s of grace"
            self._go_on(schedule, Step(happening, SERVER, now, text, instant=due_at, due_at=following))
            return
        text = f"late by {_duration(now - due_at)}" if late else ""
        try:
            written = self._made(schedule, due_at)
        except (InTheWayHere, FlagstaffError) as error:
            if isinstance(error, StoreUnavailable | StoreCorrupt):
                raise
            conflict = error.conflict if isinstance(error, InTheWayHere) else conflict_of(error)
            self._conflicted(schedule, conflict, due_at=due_at, following=following)
            return
        failpoints.reach("schedules.applied")
        self.executed.setdefault(due_at, {})[schedule.id] = set(self.fields[schedule.id])
        actor = actor_of(schedule)
        step = Step(Happening.EXECUTED, actor, now, text, instant=due_at, due_at=following, revisions=written.revisions)
        self._go_on(schedule, step)

    def _made(self, schedule: StoredSchedule, due_at: datetime) -> Written:
        """Make its change, or none. Errors: NotTogether; InTheWayHere; as `commit`."""
        if not self.apart:
            try:
                return self._execute(schedule, due_at)
            except (InTheWayHere, FlagstaffError) as error:
                if isinstance(error, StoreUnavailable):
                    raise
                raise NotTogether from error
        savepoint = self.connection.begin_nested()
        try:
            written = self._execute(schedule, due_at)
        except (InTheWayHere, FlagstaffError) as error:
            if not isinstance(error, StoreUnavailable):
                savepoint.rollback()
            raise
        savepoint.commit()
        return written

    def _execute(self, schedule: StoredSchedule, due_at: datetime) -> Written:
        self._refuse_overlap(schedule, due_at)
        write = Write(self._maker(schedule), schedule.progress.action, self.now, reason=schedule.title)
        cause = cause_text(schedule.id, due_at)
        return execute(self.connection, self.writer, schedule, write, actor=actor_of(schedule), cause=cause)

    def _refuse_overlap(self, schedule: StoredSchedule, due_at: datetime) -> None:
        """Refuse to undo what another schedule did for the same instant. Errors: InTheWayHere."""
        mine, done = self.fields[schedule.id], self.executed.get(due_at, {})
        for other in sorted(done.keys() - {schedule.id}):
            met = meeting(mine, done[other])
            if met is not None:
                text = f"schedule {other} has changed {met.described} for the same instant"
                conflict = ScheduleConflict(ConflictKind.OVERLAP, text, met.environment, met.described, other)
                raise InTheWayHere(conflict)

    def _maker(self, schedule: StoredSchedule) -> Principal:
        """In whose name it is executed: with what they may now, or else with what they were allowed then."""
        progress = schedule.progress
        return self.writer.who_is(progress.maker) or Principal(progress.maker, progress.maker_grants)

    def _conflicted(
        self, schedule: StoredSchedule, conflict: ScheduleConflict, *, due_at: datetime, following: datetime | None
    ) -> None:
        conflict = replace(conflict, text=conflict.text[:TEXT_CHARS_MAX])
        text = str(conflict)[:TEXT_CHARS_MAX]
        conflicts = (conflict,)
        step = Step(Happening.CONFLICTED, SERVER, self.now, text, instant=due_at, due_at=following, conflicts=conflicts)
        self._go_on(schedule, step)

    def _go_on(self, schedule: StoredSchedule, step: Step) -> None:
        after = replace(schedule, progress=advance(schedule.progress, step), updated_at=step.at)
        self.moves.append(Move(schedule, after, step))


def put_off(connection: Connection, project: str, id: str, error: StoreCorrupt, *, now: datetime) -> None:
    """Have nobody try one that cannot be read, or made of what can be read, for some time."""
    log.error("a schedule cannot be read; the others go on", extra={"id": id, "error": str(error)})
    postpone(connection, project=project, id=id, until=now + DAMAGED_RETRY)


def actor_of(schedule: StoredSchedule) -> str:
    """Who makes a schedule's change by itself, as the audit trail names it."""
    return f"schedule:{schedule.id}"


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
