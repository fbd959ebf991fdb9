"""Serve flagstaff.v1.ScheduleService: changes that are made at a time."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from protos.flagstaff.v1 import change_requests_pb2 as change_requests
from protos.flagstaff.v1 import schedules_pb2 as messages
from server.core.access import Principal
from server.core.descriptions.differences import describe_event
from server.core.errors import InvalidRequest
from server.core.events import Event
from server.core.limits import SCHEDULE_WRITES_MAX
from server.core.schedules.conflicts import ConflictKind, ScheduleConflict
from server.core.schedules.machine import State
from server.core.schedules.recurrence import Recurrence, RuleKind
from server.core.schedules.timing import GRACE_S, Missed, Timing
from server.operations.schedules.deciding import Deciding
from server.operations.schedules.looking import Detail, Looking
from server.operations.schedules.making import Making
from server.operations.schedules.plans import Plan
from server.operations.schedules.steps import Went
from server.operations.schedules.texts import texts_of
from server.operations.writes import Write, Writer
from server.rpc.captures import captured
from server.rpc.management import Management, named, result_of
from server.rpc.paging import LONG_SIZE, LONG_SIZE_MAX, read_place, read_token, size_of, write_place, write_token
from server.rpc.table import Table, merge
from server.rpc.timestamps import instant, timestamp
from server.store.schedule_steps import StoredStep
from server.store.schedules import StoredSchedule, Wanted

SERVICE: Final = "flagstaff.v1.ScheduleService"

_STATES: Final = {each: messages.Schedule.State.Value(f"STATE_{each.name}") for each in State}
_STATE_OF: Final[dict[int, State]] = {int(number): state for state, number in _STATES.items()}
_KINDS: Final = {each: messages.ScheduleConflict.Kind.Value(f"KIND_{each.name}") for each in ConflictKind}
_MISSED: Final = {each: messages.ScheduleTiming.Missed.Value(f"MISSED_{each.name}") for each in Missed}
_MISSED_OF: Final[dict[int, Missed]] = {int(number): each for each, number in _MISSED.items()} | {0: Missed.RUN}


def schedules_table(management: Management, writer: Writer) -> Table:
    """The service's handlers."""
    service = _Schedules(management, writer)
    reads = management.reads(
        SERVICE,
        {
            "GetSchedule": (messages.GetScheduleRequest, service.get),
            "ListSchedules": (messages.ListSchedulesRequest, service.list),
            "PreviewSchedule": (messages.PreviewScheduleRequest, service.preview),
            "ListScheduleExecutions": (messages.ListScheduleExecutionsRequest, service.executions),
        },
        # Whether somebody may read one depends on the environments that it reaches.
        ask_access=False,
    )
    writes = management.writes(
        SERVICE,
        {
            "CreateSchedule": (messages.CreateScheduleRequest, service.create),
            "UpdateSchedule": (messages.UpdateScheduleRequest, service.update),
            "Reschedule": (messages.RescheduleRequest, service.reschedule),
            "CancelSchedule": (messages.CancelScheduleRequest, service.cancel),
            "RunSchedule": (messages.RunScheduleRequest, service.run),
            "ApproveSchedule": (messages.ApproveScheduleRequest, service.approve),
        },
    )
    return merge(reads, writes)


class _Schedules:
    def __init__(self, management: Management, writer: Writer) -> None:
        self._management = management
        self._making, self._deciding, self._looking = Making(writer), Deciding(writer), Looking(writer)

    def create(self, request: Any, write: Write) -> messages.CreateScheduleResponse:
        named(request, "project", "writes")
        if not request.HasField("timing"):
            raise InvalidRequest("CreateScheduleRequest needs timing")
        plan = self._plan(request, write.principal, write.now)
        went = self._making.create(write, project=request.project, plan=plan)
        return messages.CreateScheduleResponse(**_answer(went), conflicts=_conflicts(went.conflicts))

    def update(self, request: Any, write: Write) -> messages.UpdateScheduleResponse:
        named(request, "project", "id")
        plan = self._plan(request, write.principal, write.now)
        went = self._making.update(write, project=request.project, id=request.id, plan=plan)
        return messages.UpdateScheduleResponse(**_answer(went), conflicts=_conflicts(went.conflicts))

    def reschedule(self, request: Any, write: Write) -> messages.RescheduleResponse:
        named(request, "project", "id")
        if not request.HasField("timing"):
            raise InvalidRequest("RescheduleRequest needs timing")
        plan = Plan(timing=read_timing(request.timing, write.now), accept_conflicts=request.accept_conflicts)
        went = self._making.update(write, project=request.project, id=request.id, plan=plan)
        return messages.RescheduleResponse(**_answer(went), conflicts=_conflicts(went.conflicts))

    def cancel(self, request: Any, write: Write) -> messages.CancelScheduleResponse:
        named(request, "project", "id")
        went = self._deciding.cancel(write, project=request.project, id=request.id, text=write.reason)
        return messages.CancelScheduleResponse(**_answer(went))

    def run(self, request: Any, write: Write) -> messages.RunScheduleResponse:
        named(request, "project", "id")
        return messages.RunScheduleResponse(
            **_answer(self._deciding.run(write, project=request.project, id=request.id))
        )

    def approve(self, request: Any, write: Write) -> messages.ApproveScheduleResponse:
        named(request, "project", "id")
        went = self._deciding.approve(write, project=request.project, id=request.id, text=request.text)
        return messages.ApproveScheduleResponse(**_answer(went))

    def get(self, request: Any, principal: Principal) -> messages.GetScheduleResponse:
        named(request, "project", "id")
        now = self._management.clock()
        return _detailed(self._looking.read(principal, project=request.project, id=request.id, now=now))

    def list(self, request: messages.ListSchedulesRequest, principal: Principal) -> messages.ListSchedulesResponse:
        named(request, "project")
        if bool(request.kind) != bool(request.key):
            raise InvalidRequest("kind and key name one thing together: give both or neither")
        size = size_of(request, usual=LONG_SIZE, most=LONG_SIZE_MAX)
        wanted = Wanted(
            states=[_state(each) for each in request.states],
            environment=request.environment,
            subject=(request.kind, request.key) if request.kind else None,
        )
        after = read_place(request.page_token)
        page = self._looking.page(principal, project=request.project, wanted=wanted, after=after, limit=size + 1)
        shown = page.schedules[:size]
        more = len(page.schedules) > size
        token = write_place(shown[-1].created_at, shown[-1].id) if more else ""
        return messages.ListSchedulesResponse(
            schedules=[schedule_message(each) for each in shown], next_page_token=token, total_size=page.count
        )

    def preview(self, request: Any, principal: Principal) -> messages.PreviewScheduleResponse:
        named(request, "project")
        now = self._management.clock()
        plan = Plan() if request.id else self._plan(request, principal, now)
        write = Write(principal, plan.action, now)
        preview = self._looking.preview(write, project=request.project, plan=plan, id=request.id)
        return messages.PreviewScheduleResponse(
            things=[_thing(name, event) for name, events in preview.events.items() for event in events],
            conflicts=_conflicts(preview.conflicts),
            instants=[timestamp(each) for each in preview.instants],
        )

    def executions(self, request: Any, principal: Principal) -> messages.ListScheduleExecutionsResponse:
        named(request, "project", "id")
        size = size_of(request, usual=LONG_SIZE, most=LONG_SIZE_MAX)
        token = read_token(request.page_token)
        if token is not None and not token.isdecimal():
            raise InvalidRequest("page_token is not one of this list; send the next_page_token of the page before")
        before = None if token is None else int(token)
        found = self._looking.executions(
            principal, project=request.project, id=request.id, before=before, limit=size + 1
        )
        more = len(found) > size
        return messages.ListScheduleExecutionsResponse(
            executions=[_step(each) for each in found[:size]],
            next_page_token=write_token(str(found[size - 1].number)) if more else "",
        )

    def _plan(self, request: Any, principal: Principal, now: datetime) -> Plan:
        timing = read_timing(request.timing, now) if request.HasField("timing") else None
        accepts = getattr(request, "accept_conflicts", False)
        unchanged = getattr(request, "only_if_unchanged", False)
        if not request.writes:
            return Plan(timing=timing, only_if_unchanged=unchanged, accept_conflicts=accepts)
        found = captured(self._management, request.writes, principal, project=request.project, most=SCHEDULE_WRITES_MAX)
        return Plan(found.parts, found.replace_variants, found.action, timing, unchanged, accepts)


def read_timing(message: messages.ScheduleTiming, now: datetime) -> Timing:
    """When a schedule is due. Errors: InvalidRequest."""
    missed = _MISSED_OF.get(message.missed)
    if missed is None:
        raise InvalidRequest(f"{message.missed} is no ScheduleTiming.Missed")
    timing = Timing(
        missed=missed, grace_s=message.grace_s if message.HasField("grace_s") else GRACE_S, remind_s=message.remind_s
    )
    match message.WhichOneof("when"):
        case "at":
            return replace(timing, at=instant(message.at, "timing.at"))
        case "recurrence":
            return replace(timing, recurrence=read_recurrence(message.recurrence, now))
    raise InvalidRequest("timing needs an instant (`at`) or a recurrence")


def read_recurrence(message: messages.Recurrence, now: datetime) -> Recurrence:
    """When something happens again and again, from now on where no start is given. Errors: InvalidRequest."""
    kind = message.WhichOneof("rule")
    if kind is None:
        raise InvalidRequest("a recurrence needs a rule: `rrule` or `cron`")
    return Recurrence(
        kind=RuleKind(kind),
        rule=getattr(message, kind),
        zone=message.zone,
        start_at=instant(message.start_at, "start_at") if message.HasField("start_at") else now,
        end_at=instant(message.end_at, "end_at") if message.HasField("end_at") else None,
        count_max=message.count_max or None,
        last_day=message.last_day,
    )


def timing_message(timing: Timing) -> messages.ScheduleTiming:
    """When a schedule is due, as a message."""
    message = messages.ScheduleTiming(missed=_MISSED[timing.missed], grace_s=timing.grace_s, remind_s=timing.remind_s)
    if timing.at is not None:
        message.at.CopyFrom(timestamp(timing.at))
    if timing.recurrence is not None:
        message.recurrence.CopyFrom(recurrence_message(timing.recurrence))
    return message


def recurrence_message(recurrence: Recurrence) -> messages.Recurrence:
    """A recurrence as a message."""
    return messages.Recurrence(
        **{recurrence.kind.value: recurrence.rule},
        zone=recurrence.zone,
        start_at=timestamp(recurrence.start_at),
        end_at=None if recurrence.end_at is None else timestamp(recurrence.end_at),
        count_max=recurrence.count_max or 0,
        last_day=recurrence.last_day,
    )


def schedule_message(schedule: StoredSchedule) -> messages.Schedule:
    """A schedule as a message."""
    progress = schedule.progress
    return messages.Schedule(
        project=schedule.project,
        id=schedule.id,
        state=_STATES[progress.state],
        title=schedule.title,
        cause=schedule.cause,
        authors=progress.authors,
        content_version=progress.content_number,
        differences=[
            change_requests.EnvironmentDifference(environment=name, lines=lines)
            for name, lines in schedule.lines.items()
        ],
        timing=timing_message(schedule.timing),
        due_at=None if progress.due_at is None else timestamp(progress.due_at),
        approvals=[
            change_requests.ChangeApproval(actor=each.actor, at=timestamp(each.at)) for each in progress.approvals
        ],
        run_count=progress.run_count,
        ran_at=None if progress.ran_at is None else timestamp(progress.ran_at),
        conflicts=_conflicts(progress.conflicts),
        note=progress.note,
        only_if_unchanged=bool(schedule.base),
        created_at=timestamp(schedule.created_at),
        updated_at=timestamp(schedule.updated_at),
    )


def _answer(went: Went) -> dict[str, Any]:
    return {"schedule": schedule_message(went.schedule), "result": result_of(went.written)}


def _detailed(detail: Detail) -> messages.GetScheduleResponse:
    return messages.GetScheduleResponse(
        schedule=schedule_message(detail.schedule),
        steps=[_step(each) for each in detail.steps],
        approvals=[
            change_requests.ApprovalStatus(
                environment=each.environment, needed=each.needed_count, approvers=each.approvers
            )
            for each in detail.approvals
        ],
        instants=[timestamp(each) for each in detail.instants],
        content=detail.schedule.content,
    )


def _step(step: StoredStep) -> messages.ScheduleStep:
    return messages.ScheduleStep(
        number=step.number,
        happening=step.happening.value,
        actor=step.actor,
        text=step.text,
        content_version=step.content_number,
        instant=None if step.instant is None else timestamp(step.instant),
        conflicts=_conflicts(step.conflicts),
        revisions=step.revisions,
        at=timestamp(step.at),
    )


def _conflicts(conflicts: Iterable[ScheduleConflict]) -> list[messages.ScheduleConflict]:
    return [
        messages.ScheduleConflict(
            kind=_KINDS[each.kind],
            message=each.text,
            environment=each.environment,
            field=each.field,
            other_schedule=each.other,
            blocking=each.blocking,
        )
        for each in conflicts
    ]


def _thing(environment: str, event: Event) -> messages.PreviewedThing:
    before, after = texts_of(event)
    return messages.PreviewedThing(
        environment=environment,
        kind=event.kind,
        key=event.key,
        before=before,
        after=after,
        changes=describe_event(event),
    )


def _state(number: Any) -> State:
    state: State | None = _STATE_OF.get(number)
    if state is None:
        raise InvalidRequest(f"states has {number}, which is no state of a schedule")
    return state
