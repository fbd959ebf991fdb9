"""Serve flagstaff.v1.LaunchPlanService: launches over several flags and environments."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from protos.flagstaff.v1 import launch_plans_pb2 as messages
from server.core.access import Action, Principal
from server.core.calendars import Calendar, Closure, hours_text, read_hours
from server.core.change_requests.codec import Content, Proposed, write_content
from server.core.errors import InvalidDefinition, InvalidRequest
from server.core.launch_plans.machine import State
from server.core.launch_plans.offsets import ZERO
from server.core.launch_plans.plan import GRACE_S, Check, Item, Missed, Moved, Outside, Plan, Starts
from server.core.launch_plans.timing import slots_of
from server.operations.launch_plans.foresight import ConflictKind, Foreseen, PlanConflict
from server.operations.launch_plans.planning import LaunchPlans, Planned
from server.operations.writes import Outcome, Write, Written
from server.rpc.management import Management, named, result_of
from server.rpc.paging import LONG_SIZE, LONG_SIZE_MAX, read_place, size_of, write_place
from server.rpc.simulation import proposed
from server.rpc.table import Table, merge
from server.store.commit import Part
from server.store.launch_plans import StoredPlan
from server.store.mapping import compact

SERVICE: Final = "flagstaff.v1.LaunchPlanService"

_Spec = messages.LaunchPlanSpec
_STATES: Final = {each: messages.LaunchPlan.State.Value(f"STATE_{each.name}") for each in State}
_BY_NUMBER: Final[dict[int, State]] = {int(number): state for state, number in _STATES.items()}
_KINDS: Final = {each: messages.LaunchConflict.Kind.Value(f"KIND_{each.name}") for each in ConflictKind}
_OUTSIDE: Final = {each: _Spec.Outside.Value(f"OUTSIDE_{each.name}") for each in Outside}
_MISSED: Final = {each: _Spec.Missed.Value(f"MISSED_{each.name}") for each in Missed}
_MOVED: Final = {each: _Spec.Moved.Value(f"MOVED_{each.name}") for each in Moved}


def launch_plans_table(management: Management, plans: LaunchPlans) -> Table:
    """The service's handlers."""
    service = _LaunchPlans(management, plans)
    reads = management.reads(
        SERVICE,
        {
            "GetLaunchPlan": (messages.GetLaunchPlanRequest, service.get),
            "ListLaunchPlans": (messages.ListLaunchPlansRequest, service.list),
            "ExportLaunchCalendar": (messages.ExportLaunchCalendarRequest, service.export),
        },
        # Whether somebody may read one depends on the environments that it reaches.
        ask_access=False,
    )
    writes = management.writes(
        SERVICE,
        {
            "CreateLaunchPlan": (messages.CreateLaunchPlanRequest, service.create),
            "UpdateLaunchPlan": (messages.UpdateLaunchPlanRequest, service.update),
            "StartLaunchPlan": (messages.StartLaunchPlanRequest, service.simple(plans.start)),
            "HoldLaunchPlan": (messages.HoldLaunchPlanRequest, service.simple(plans.hold)),
            "ResumeLaunchPlan": (messages.ResumeLaunchPlanRequest, service.simple(plans.resume)),
            "CancelLaunchPlan": (messages.CancelLaunchPlanRequest, service.simple(plans.cancel)),
            "ShiftLaunchPlan": (messages.ShiftLaunchPlanRequest, service.shift),
            "SkipLaunchItems": (messages.SkipLaunchItemsRequest, service.skip),
            "ApproveLaunchPlan": (messages.ApproveLaunchPlanRequest, service.approve),
            "AnswerLaunchCheck": (messages.AnswerLaunchCheckRequest, service.answer),
        },
    )
    return merge(reads, writes)


class _LaunchPlans:
    def __init__(self, management: Management, plans: LaunchPlans) -> None:
        self._management, self._plans = management, plans

    def get(self, request: Any, principal: Principal) -> messages.GetLaunchPlanResponse:
        named(request, "project", "id")
        now = self._management.clock()
        detail = self._plans.read(principal, project=request.project, id=request.id, now=now)
        return messages.GetLaunchPlanResponse(
            launch_plan=_plan(detail.stored),
            steps=[
                messages.LaunchStep(
                    number=each.number,
                    happening=each.happening.value,
                    actor=each.actor,
                    text=each.text,
                    items=each.items,
                    at=_stamp(each.at),
                )
                for each in detail.steps
            ],
            previews=[_preview(each) for each in detail.foresight.foreseen],
            conflicts=[_conflict(each) for each in detail.foresight.conflicts],
        )

    def list(self, request: Any, principal: Principal) -> messages.ListLaunchPlansResponse:
        named(request, "project")
        size = size_of(request, usual=LONG_SIZE, most=LONG_SIZE_MAX)
        found = self._plans.page(
            principal,
            project=request.project,
            states=[_state(each) for each in request.states],
            after=read_place(request.page_token),
            limit=size + 1,
        )
        last = found[size - 1] if len(found) > size else None
        token = "" if last is None else write_place(last.created_at, last.id)
        return messages.ListLaunchPlansResponse(
            launch_plans=[_plan(each) for each in found[:size]], next_page_token=token
        )

    def export(self, request: Any, principal: Principal) -> messages.ExportLaunchCalendarResponse:
        named(request, "project")
        calendar = self._plans.calendar(principal, request.project, id=request.id)
        return messages.ExportLaunchCalendarResponse(calendar=calendar)

    def create(self, request: Any, write: Write) -> messages.LaunchPlanResponse:
        named(request, "project")
        plan = self._read(request, write, known={})
        return _answer(self._plans.create(write, project=request.project, plan=plan))

    def update(self, request: Any, write: Write) -> messages.LaunchPlanResponse:
        named(request, "project", "id")
        stored = self._plans.find(write.principal, project=request.project, id=request.id)
        plan = self._read(request, write, known={item.id: item for item in stored.plan.items})
        return _answer(self._plans.update(write, project=request.project, id=request.id, plan=plan))

    def simple(self, do: Callable[..., Planned]) -> Callable[[Any, Write], messages.LaunchPlanResponse]:
        """A method that needs to know nothing but which plan."""

        def method(request: Any, write: Write) -> messages.LaunchPlanResponse:
            named(request, "project", "id")
            return _answer(do(write, project=request.project, id=request.id))

        return method

    def shift(self, request: Any, write: Write) -> messages.LaunchPlanResponse:
        named(request, "project", "id")
        match request.WhichOneof("to"):
            case "launch_at":
                to: datetime | timedelta = _instant(request.launch_at, "/launch_at")
            case "by":
                to = timedelta(seconds=_seconds(request.by, "/by", least=-(10**9)))
            case _:
                raise InvalidRequest("ShiftLaunchPlanRequest needs launch_at, or by how much: by")
        return _answer(self._plans.shift(write, project=request.project, id=request.id, to=to))

    def skip(self, request: Any, write: Write) -> messages.LaunchPlanResponse:
        named(request, "project", "id", "items")
        return _answer(self._plans.skip(write, project=request.project, id=request.id, items=request.items))

    def approve(self, request: Any, write: Write) -> messages.LaunchPlanResponse:
        named(request, "project", "id")
        return _answer(self._plans.approve(write, project=request.project, id=request.id, text=request.text))

    def answer(self, request: Any, write: Write) -> messages.LaunchPlanResponse:
        named(request, "project", "id", "check")
        answered = self._plans.answer(
            write, project=request.project, id=request.id, check=request.check, go=request.go, text=request.text
        )
        return _answer(answered)

    def _read(self, request: Any, write: Write, *, known: Mapping[str, Item]) -> Plan:
        """What a message asks for. Errors: InvalidDefinition, InvalidRequest; whatever the writes in it raise."""
        spec = request.spec
        hours, problems = read_hours(spec.business_hours, path="/business_hours") if spec.business_hours else (None, [])
        if problems:
            raise InvalidDefinition(problems)
        closures = tuple(
            Closure(
                _instant(each.starts_at, f"/closures/{index}/starts_at"),
                _instant(each.ends_at, f"/closures/{index}/ends_at"),
                each.reason,
            )
            for index, each in enumerate(spec.closures)
        )
        return Plan(
            name=spec.name,
            zone=spec.time_zone,
            launch_at=_instant(spec.launch_at, "/launch_at") if spec.HasField("launch_at") else _needed("/launch_at"),
            items=tuple(self._item(request.project, each, write, known=known) for each in spec.items),
            checks=tuple(Check(each.id, each.text, tuple(each.approvers), each.before or ZERO) for each in spec.checks),
            owner=spec.owner,
            description=spec.description,
            calendar=Calendar(hours, closures),
            outside=_choice(spec.outside, _OUTSIDE, Outside.MOVE, "/outside"),
            missed=_choice(spec.missed, _MISSED, Missed.HOLD, "/missed"),
            moved=_choice(spec.moved, _MOVED, Moved.REPORT, "/moved"),
            grace_s=_seconds(spec.grace, "/grace") if spec.HasField("grace") else GRACE_S,
            remind_before_s=_seconds(spec.remind_before, "/remind_before"),
        )

    def _item(self, project: str, spec: Any, write: Write, *, known: Mapping[str, Item]) -> Item:
        if not spec.writes and not spec.start_release and spec.id in known:
            return replace(known[spec.id], offset=spec.offset, title=spec.title)
        parts: list[Proposed] = []
        actions: set[Action] = set()
        replaces: list[bool] = []

        def instead(of_project: str, given: Sequence[Part], replace_variants: bool) -> Written:
            if of_project != project:
                raise InvalidRequest(f"item {spec.id!r} is about project {of_project!r}, the plan about {project!r}")
            parts.extend(Proposed(each.environment, tuple(each.changes)) for each in given)
            replaces.append(replace_variants)
            return Written(Outcome.WOULD_APPLY)

        for each in spec.writes:
            function, inner, asked = proposed(self._management, each, write.principal)
            before = len(parts)
            # Let the service that the write is for say which changes it comes to.
            function(inner, replace(asked, request_id="", dry_run=False, expected_version=None, instead=instead))
            if len(parts) == before:
                raise InvalidRequest(f"{type(inner).DESCRIPTOR.name} of item {spec.id!r} comes to no change")
            actions.add(asked.action)
        if len(actions) > 1:
            raise InvalidRequest(
                f"item {spec.id!r} needs several rights ({', '.join(sorted(actions))}); make an item of each"
            )
        action = next(iter(actions), Action.EDIT)
        starts = Starts(spec.start_release) if spec.start_release else None
        return Item(spec.id, spec.offset, Content(tuple(parts), any(replaces)), action, spec.title, starts)


def _answer(planned: Planned) -> messages.LaunchPlanResponse:
    return messages.LaunchPlanResponse(
        launch_plan=_plan(planned.stored),
        previews=[_preview(each) for each in planned.foresight.foreseen],
        conflicts=[_conflict(each) for each in planned.foresight.conflicts],
        result=result_of(planned.written),
    )


def _plan(stored: StoredPlan) -> messages.LaunchPlan:
    progress = stored.progress
    return messages.LaunchPlan(
        project=stored.project,
        id=stored.id,
        state=_STATES[progress.state],
        spec=_spec(stored.plan),
        items=_items(stored),
        answers=[
            messages.LaunchAnswer(check=each.check, go=each.go, actor=each.actor, text=each.text, at=_stamp(each.at))
            for each in progress.answers
        ],
        approvals=[messages.LaunchApproval(actor=each.actor, at=_stamp(each.at)) for each in progress.approvals],
        content_version=progress.content_number,
        authors=progress.authors,
        runs_as=progress.runs_as,
        next_at=None if stored.next_at is None else _stamp(stored.next_at),
        note=progress.note,
        created_at=_stamp(stored.created_at),
        updated_at=_stamp(stored.updated_at),
    )


def _spec(plan: Plan) -> messages.LaunchPlanSpec:
    return messages.LaunchPlanSpec(
        name=plan.name,
        description=plan.description,
        owner=plan.owner,
        time_zone=plan.zone,
        launch_at=_stamp(plan.launch_at),
        items=[
            messages.LaunchItemSpec(id=each.id, offset=each.offset, title=each.title, start_release=_started(each))
            for each in plan.items
        ],
        checks=[
            messages.LaunchCheck(id=each.id, text=each.text, approvers=each.approvers, before=each.before)
            for each in plan.checks
        ],
        business_hours="" if plan.calendar.hours is None else hours_text(plan.calendar.hours),
        closures=[
            messages.LaunchClosure(starts_at=_stamp(each.starts_at), ends_at=_stamp(each.ends_at), reason=each.reason)
            for each in plan.calendar.closures
        ],
        outside=_OUTSIDE[plan.outside],
        missed=_MISSED[plan.missed],
        moved=_MOVED[plan.moved],
        grace=Duration(seconds=plan.grace_s),
        remind_before=Duration(seconds=plan.remind_before_s) if plan.remind_before_s else None,
    )


def _items(stored: StoredPlan) -> list[messages.LaunchItem]:
    done = {each.item: each for each in stored.progress.done}
    items = []
    for slot in slots_of(stored.plan):
        became = done.get(slot.item.id)
        items.append(
            messages.LaunchItem(
                id=slot.item.id,
                offset=slot.item.offset,
                title=slot.item.title,
                planned_at=_stamp(slot.planned_at),
                at=_stamp(slot.at),
                environments=sorted(slot.item.environments),
                done_at=None if became is None else _stamp(became.at),
                skipped=became is not None and became.skipped,
                revisions={} if became is None else became.revisions,
                content=compact(write_content(slot.item.content)),
                start_release=_started(slot.item),
            )
        )
    return items


def _started(item: Item) -> str:
    return "" if item.starts is None else item.starts.release


def _preview(foreseen: Foreseen) -> messages.LaunchPreview:
    return messages.LaunchPreview(
        at=_stamp(foreseen.at),
        items=foreseen.items,
        differences=[
            messages.LaunchDifference(
                environment=name, lines=lines, flags=ParseDict(dict(foreseen.documents.get(name, {})), Struct())
            )
            for name, lines in foreseen.lines.items()
        ],
    )


def _conflict(conflict: PlanConflict) -> messages.LaunchConflict:
    return messages.LaunchConflict(
        kind=_KINDS[conflict.kind], message=conflict.message, items=conflict.items, environment=conflict.environment
    )


def _choice(number: int, numbers: Mapping[Any, int], default: Any, path: str) -> Any:
    if not number:
        return default
    found = next((each for each, known in numbers.items() if known == number), None)
    if found is None:
        raise InvalidRequest(f"{path}: {number} is not one of the choices")
    return found


def _state(number: Any) -> State:
    state = _BY_NUMBER.get(number)
    if state is None:
        raise InvalidRequest(f"states has {number}, which is no state of a launch plan")
    return state


def _needed(path: str) -> datetime:
    raise InvalidRequest(f"{path}: an instant is needed")


def _stamp(instant: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(instant)
    return stamp


def _instant(stamp: Timestamp, path: str) -> datetime:
    try:
        return stamp.ToDatetime(UTC)
    except (ValueError, OverflowError):
        raise InvalidRequest(f"{path}: is no instant between the years 1 and 9999") from None


def _seconds(duration: Duration, path: str, *, least: int = 0) -> int:
    if not least <= duration.seconds <= 10**9 or duration.nanos:
        raise InvalidRequest(f"{path}: is no whole number of seconds{'' if least else ' from 0 on'}")
    return duration.seconds
