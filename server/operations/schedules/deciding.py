"""Agree to schedules, cancel them, and run them early."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from server.core.access import Action
from server.core.change_requests.approvals import may_approve
from server.core.errors import Refused
from server.core.schedules.machine import Happening, Step, advance
from server.operations.schedules.batches import cause_text, execute
from server.operations.schedules.looking import asking
from server.operations.schedules.steps import (
    Went,
    answered_before,
    carry_out,
    check_length,
    denied,
    go_on,
    in_the_way,
    may_make,
    may_somewhere,
    read_known,
)
from server.operations.schedules.trying import InTheWayHere
from server.operations.writes import Write, Writer
from server.store.schedules import StoredSchedule, save_step


@dataclass(frozen=True, slots=True)
class Deciding:
    """What people do with the schedules of one database."""

    writer: Writer

    def cancel(self, write: Write, *, project: str, id: str, text: str) -> Went:
        """Have it not happen: for who may make its change, or may approve it, in one of its environments."""

        def may(schedule: StoredSchedule) -> None:
            # A second person must be able to stop a planned go-live, also without the right to make one.
            actions = (schedule.progress.action, Action.APPROVE)
            if not any(may_somewhere(write.principal, each, schedule) for each in actions):
                raise denied(write.principal, schedule.progress.action, schedule)

        return self._step(write, project, id, Happening.CANCELLED, text or write.reason, may)

    def approve(self, write: Write, *, project: str, id: str, text: str) -> Went:
        """Agree to what it does now, and when. Errors: Refused when this principal's approval does not count."""

        def work(connection: Connection) -> Went:
            again = answered_before(connection, write, project, id, [Happening.APPROVED])
            if again is not None:
                return again
            schedule = read_known(connection, write, project, id)
            if not may_somewhere(write.principal, Action.APPROVE, schedule):
                raise denied(write.principal, Action.APPROVE, schedule)
            environments = asking(connection, schedule)
            problem = may_approve(schedule.progress, write.principal, environments)
            if problem:
                raise Refused(problem)
            return go_on(connection, write, schedule, Happening.APPROVED, text)

        check_length(text)
        return carry_out(self.writer.engine, project, work, dry_run=write.dry_run)

    def run(self, write: Write, *, project: str, id: str) -> Went:
        """Make its change now, in the caller's own name. A recurrence goes on with its next instant.

        Errors: InTheWay with what stands in the way; PermissionDenied; Refused when it is closed.
        """

        def work(connection: Connection) -> Went:
            again = answered_before(connection, write, project, id, [Happening.EXECUTED])
            if again is not None:
                return again
            schedule = read_known(connection, write, project, id)
            asked = replace(write, action=schedule.progress.action, reason=write.reason or schedule.title)
            may_make(write.principal, asked.action, schedule)
            due_at = schedule.progress.due_at
            following = None if schedule.timing.recurrence is None else due_at
            step = Step(
                Happening.EXECUTED, write.principal.actor, write.now, write.reason, instant=write.now, due_at=following
            )
            advance(schedule.progress, step)
            try:
                actor, cause = write.principal.actor, cause_text(id, write.now)
                written = execute(connection, self.writer, schedule, asked, actor=actor, cause=cause)
            except InTheWayHere as error:
                raise in_the_way([error.conflict]) from None
            step = replace(step, revisions=written.revisions)
            after = replace(schedule, progress=advance(schedule.progress, step), updated_at=write.now)
            save_step(connection, schedule, after, step, request_id=write.request_id)
            return Went(after, written)

        return carry_out(self.writer.engine, project, work, dry_run=write.dry_run)

    def _step(
        self,
        write: Write,
        project: str,
        id: str,
        happening: Happening,
        text: str,
        may: Callable[[StoredSchedule], None],
    ) -> Went:
        check_length(text)

        def work(connection: Connection) -> Went:
            again = answered_before(connection, write, project, id, [happening])
            if again is not None:
                return again
            schedule = read_known(connection, write, project, id)
            may(schedule)
            return go_on(connection, write, schedule, happening, text)

        return carry_out(self.writer.engine, project, work, dry_run=write.dry_run)
