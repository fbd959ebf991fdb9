"""Take one step with a schedule, in one transaction with whatever comes of it."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from sqlalchemy import Connection, Engine

from server.core.access import Action, Principal, Scope, allowing
from server.core.errors import FlagstaffError, InTheWay, InvalidRequest, PermissionDenied, Stale
from server.core.limits import TEXT_CHARS_MAX
from server.core.schedules.conflicts import ScheduleConflict
from server.core.schedules.machine import Happening, Step, advance
from server.operations.writes import Outcome, Write, Written
from server.store.schedule_steps import check_known, find_known
from server.store.schedules import StoredSchedule, read_schedule, save_step
from server.store.turns import take_turn


@dataclass(frozen=True, slots=True)
class Went:
    """How a schedule is after something was done to it."""

    schedule: StoredSchedule
    written: Written = field(default_factory=lambda: Written(Outcome.APPLIED))
    conflicts: Sequence[ScheduleConflict] = ()


Work: TypeAlias = Callable[[Connection], Went]


class _TakenBack(Exception):
    """Ends the transaction of a dry run."""

    def __init__(self, went: Went) -> None:
        self.went = went


def carry_out(engine: Engine, project: str, work: Work, *, dry_run: bool) -> Went:
    """Do something in one transaction of a project, with others who wait for one; a dry run takes it back."""

    def turn(connection: Connection) -> Went:
        went = work(connection)
        if dry_run:
            raise _TakenBack(went)
        return went

    try:
        return take_turn(engine, f"project/{project}", turn)
    except _TakenBack as taken:
        went = taken.went
    return replace(went, written=replace(went.written, outcome=Outcome.WOULD_APPLY))


def go_on(connection: Connection, write: Write, schedule: StoredSchedule, happening: Happening, text: str) -> Went:
    """Take a step that changes nothing but how far it has come. Errors: Refused when its state has no such step."""
    step = Step(happening, write.principal.actor, write.now, text, write.principal.grants)
    after = replace(schedule, progress=advance(schedule.progress, step), updated_at=write.now)
    save_step(connection, schedule, after, step, request_id=write.request_id)
    return Went(after)


def may_make(principal: Principal, action: Action, schedule: StoredSchedule) -> None:
    """Refuse who may not do something in all its environments. Errors: PermissionDenied."""
    if not may_everywhere(principal, action, schedule):
        raise denied(principal, action, schedule)


def may_read(principal: Principal, schedule: StoredSchedule) -> None:
    """Refuse who may not read all that it changes. Errors: PermissionDenied."""
    if not may_everywhere(principal, Action.READ, schedule):
        raise denied(principal, Action.READ, schedule)


def in_the_way(conflicts: Sequence[ScheduleConflict]) -> InTheWay:
    """Conflicts as one error, which says of which kind each is."""
    text = "\n".join(str(each) for each in conflicts)
    things = [
        (each.kind.name, "/".join(filter(None, (each.environment, each.other or each.field))), each.text)
        for each in conflicts
    ]
    return InTheWay(text, things)


def read_known(connection: Connection, write: Write, project: str, id: str) -> StoredSchedule:
    """Errors: NotFound; Stale when it is not what the caller read."""
    schedule = read_schedule(connection, project=project, id=id)
    number = schedule.progress.content_number
    if write.expected_version not in (None, number):
        raise Stale(f"schedule {id} has content {number}, expected {write.expected_version}; read what it does now")
    return schedule


def answered_before(
    connection: Connection, write: Write, project: str, id: str, happenings: Collection[Happening]
) -> Went | None:
    """The first answer to a call that is sent again. Errors: Conflict when its id was used for something else."""
    known = find_known(connection, project=project, request_id=write.request_id)
    if known is None:
        return None
    check_known(known, request_id=write.request_id, id=id or known.schedule, happenings=happenings)
    schedule = read_schedule(connection, project=project, id=known.schedule)
    return Went(schedule, Written(Outcome.APPLIED, known.revisions))


def check_length(text: str) -> None:
    """Refuse a text that is too long. Errors: InvalidRequest."""
    if len(text) > TEXT_CHARS_MAX:
        raise InvalidRequest(f"the text has {len(text)} characters, at most {TEXT_CHARS_MAX} are allowed")


def may_everywhere(principal: Principal, action: Action, schedule: StoredSchedule) -> bool:
    """Whether somebody may do something in every environment that it changes."""
    return all(principal.may(action, Scope(schedule.project, each)) for each in schedule.environments)


def may_somewhere(principal: Principal, action: Action, schedule: StoredSchedule) -> bool:
    """Whether somebody may do something in at least one of them."""
    return any(principal.may(action, Scope(schedule.project, each)) for each in schedule.environments)


def denied(principal: Principal, action: Action, schedule: StoredSchedule) -> FlagstaffError:
    """The error for somebody who may not."""
    places = ", ".join(f"{schedule.project}/{each}" for each in schedule.environments)
    roles = " or ".join(f"`{role}`" for role in allowing(action))
    return PermissionDenied(f"{principal.actor} may not {action.value} in {places}; it needs the role {roles} there")
