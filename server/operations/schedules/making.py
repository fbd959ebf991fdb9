"""Make schedules, and change what they do and when."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection

from server.core.access import Scope
from server.core.change_requests.codec import Content
from server.core.errors import InvalidRequest
from server.core.schedules.machine import Happening, Step, advance, created
from server.operations.requesting import ID_BYTES, content_from, lines_of
from server.operations.schedules.plans import Plan, first_due
from server.operations.schedules.steps import Went, answered_before, carry_out, in_the_way, may_make, read_known
from server.operations.schedules.trying import Asked, Attempt, NobodyYet, attempt, content_fields
from server.operations.writes import Outcome, Write, Writer, Written, cause_of, require
from server.store.change_requests import Versions, content_text
from server.store.commit import Part
from server.store.schedules import StoredSchedule, content_of, insert_schedule, save_step


@dataclass(frozen=True, slots=True)
class Making:
    """What makes and changes the schedules of one database."""

    writer: Writer

    def create(self, write: Write, *, project: str, plan: Plan) -> Went:
        """Have a change made at a time.

        Errors: InTheWay with every conflict; PermissionDenied for who may not make the change; InvalidRequest,
        InvalidDefinition for a timing that is not sound; TooLarge; Conflict for a request id of something else.
        """
        if not plan.parts or plan.timing is None:
            raise InvalidRequest("a schedule needs something to do, and an instant or a recurrence")
        parts, timing = plan.parts, plan.timing
        content = content_from(parts, replace_variants=plan.replace_variants)

        def work(connection: Connection) -> Went:
            again = answered_before(connection, write, project, "", [Happening.CREATED])
            if again is not None:
                return again
            due_at = first_due(timing, write.now)
            found = self._attempt(connection, write, project, content, plan, due_at, parts=parts)
            step = Step(
                Happening.CREATED, write.principal.actor, write.now, write.reason, write.principal.grants, due_at=due_at
            )
            schedule = StoredSchedule(
                project=project,
                id=f"sc_{secrets.token_hex(ID_BYTES)}",
                title=write.reason,
                cause=write.cause,
                content=content_text(content),
                base=_base(found, plan),
                lines=_lines(content, found),
                fields=content_fields(content),
                timing=timing,
                progress=created(step, plan.action),
                created_at=write.now,
                updated_at=write.now,
            )
            insert_schedule(connection, schedule, step, request_id=write.request_id)
            return _told(schedule, found)

        return carry_out(self.writer.engine, project, work, dry_run=write.dry_run)

    def update(self, write: Write, *, project: str, id: str, plan: Plan) -> Went:
        """Have it do something else, at another time, or both; a reason becomes its title. Drops approvals.

        Errors: as `create`; NotFound; Refused when it is closed; Stale when it is not what the caller read.
        """
        happening = Happening.RESCHEDULED if plan.parts is None and plan.timing is not None else Happening.UPDATED

        def work(connection: Connection) -> Went:
            again = answered_before(connection, write, project, id, [happening])
            if again is not None:
                return again
            schedule = read_known(connection, write, project, id)
            content = (
                content_of(schedule)
                if plan.parts is None
                else content_from(plan.parts, replace_variants=plan.replace_variants)
            )
            timing = plan.timing or schedule.timing
            due_at = first_due(timing, write.now)
            whole = replace(plan, timing=timing, action=schedule.progress.action if plan.parts is None else plan.action)
            if plan.parts is None:
                whole = replace(whole, only_if_unchanged=bool(schedule.base))
            step = Step(
                happening, write.principal.actor, write.now, write.reason, write.principal.grants, due_at=due_at
            )
            progress = replace(advance(schedule.progress, step), action=whole.action)
            may_make(write.principal, schedule.progress.action, schedule)
            found = self._attempt(connection, write, project, content, whole, due_at, parts=plan.parts, id=id)
            keeps_base = happening is Happening.RESCHEDULED
            if keeps_base:
                _refuse_pinned(whole)
            after = replace(
                schedule,
                title=write.reason or schedule.title,
                content=content_text(content),
                base=schedule.base if keeps_base else _base(found, whole),
                lines=schedule.lines if keeps_base else _lines(content, found),
                fields=content_fields(content),
                timing=timing,
                progress=progress,
                updated_at=write.now,
            )
            save_step(connection, schedule, after, step, request_id=write.request_id)
            return _told(after, found)

        return carry_out(self.writer.engine, project, work, dry_run=write.dry_run)

    def _attempt(
        self,
        connection: Connection,
        write: Write,
        project: str,
        content: Content,
        plan: Plan,
        due_at: datetime,
        *,
        parts: Sequence[Part] | None,
        id: str = "",
    ) -> Attempt:
        mine = replace(write, action=plan.action)
        for part in content.parts:
            require(write.principal, plan.action, Scope(project, part.environment))
        why = cause_of(replace(mine, request_id=""), project)
        asked = Asked(content, {}, mine, why, NobodyYet((write.principal.actor,)))
        found = attempt(connection, self.writer, asked, at=due_at, timing=plan.timing, id=id, parts=parts)
        if found.blocking and not plan.accept_conflicts:
            raise in_the_way(found.blocking)
        return found


def _refuse_pinned(plan: Plan) -> None:
    if plan.only_if_unchanged and plan.timing is not None and plan.timing.recurrence is not None:
        raise InvalidRequest("a recurrence changes what it changes again: `only_if_unchanged` is for a single instant")


def _base(found: Attempt, plan: Plan) -> Versions:
    if not plan.only_if_unchanged:
        return {}
    _refuse_pinned(plan)
    if found.tried is None:
        raise InvalidRequest("`only_if_unchanged` needs what it would change to be there now")
    return found.tried.base


def _lines(content: Content, found: Attempt) -> dict[str, list[str]]:
    """What would differ now, for every environment that it changes."""
    told = {} if found.tried is None else lines_of(found.tried.events)
    return {**{part.environment: [] for part in content.parts}, **told}


def _told(schedule: StoredSchedule, found: Attempt) -> Went:
    warnings = tuple(str(each) for each in found.conflicts)
    events = {} if found.tried is None else found.tried.events
    if found.tried is not None and not any(events.values()):
        warnings = (*warnings, "everything that it would set is so already now")
    return Went(schedule, Written(Outcome.APPLIED, events=events, warnings=warnings), found.conflicts)
