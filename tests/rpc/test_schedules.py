"""ScheduleService over a real server, with callers who may different things."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2

from protos.flagstaff.v1 import common_pb2 as common
from protos.flagstaff.v1 import flags_pb2 as flags
from protos.flagstaff.v1 import schedules_pb2 as messages
from server.core.access import Grant, Principal, Role
from server.core.changes import PutFlag, UpdateEnvironment
from server.core.environments import ApprovalPolicy
from server.operations.schedules.executing import Executing
from server.operations.writes import Writer
from server.rpc.timestamps import timestamp
from tests.rpc.conftest import Serve
from tests.rpc.managing import Manager, called, managing
from tests.store.definitions import NOW, flag, new_shop, put, stored

SERVICE: Final = "/flagstaff.v1.ScheduleService"
HOUR: Final = timedelta(hours=1)
State: Final = messages.Schedule.State
Kind: Final = messages.ScheduleConflict.Kind


@dataclass
class Desk:
    """A server over a shop with a flag that is off."""

    manager: Manager
    channel: Any

    async def call(self, method: str, by: str = "editor", **fields: Any) -> Any:
        """Call a method about the shop as somebody."""
        request = getattr(messages, f"{method}Request")(project="shop", **fields)
        return await called(self.channel, f"{SERVICE}/{method}", request, getattr(messages, f"{method}Response"), by=by)

    async def refused(self, method: str, by: str = "editor", **fields: Any) -> tuple[grpc.StatusCode, str, Any]:
        """Call a method that is to be refused: status, message, details."""
        try:
            await self.call(method, by, **fields)
        except grpc.aio.AioRpcError as error:
            # Its published types do not say that entries are pairs.
            trailing: Any = error.trailing_metadata()
            sent = {name: value for name, value in trailing}
            details = status_pb2.Status.FromString(sent.get("grpc-status-details-bin", b""))
            return error.code(), error.details() or "", list(details.details)
        raise AssertionError(f"{method} was not refused")

    async def create(self, *writes: Any, at: datetime = NOW + HOUR, by: str = "editor", **fields: Any) -> Any:
        """Schedule writes; turning the flag on when none are given."""
        given: dict[str, Any] = {"timing": messages.ScheduleTiming(at=timestamp(at)), **fields}
        return await self.call("CreateSchedule", by, writes=[packed(each) for each in writes or (ON,)], **given)

    def tick(self, now: datetime) -> None:
        """Do all that is due."""
        Executing(Writer(self.manager.engine)).carry_on(now)


def packed(message: Any) -> AnyMessage:
    """A request inside another one."""
    given = AnyMessage()
    given.Pack(message)
    return given


ON: Final = flags.EnableFlagsRequest(project="shop", environment="production", keys=["checkout"])
OFF: Final = flags.DisableFlagsRequest(project="shop", environment="production", keys=["checkout"])


@pytest.fixture
async def desk(tmp_path: Path, serve: Serve) -> AsyncIterator[Desk]:
    """A running server, an editor, one who approves, one who reads."""
    engine = new_shop(tmp_path)
    put(engine, PutFlag(flag(enabled=False)))
    with managing(engine) as (manager, table):
        manager.people["approver"] = Principal("token:approver", (Grant(Role.APPROVE),))
        running = await serve(table=table)
        yield Desk(manager, running.channel)
    engine.dispose()


async def test_from_making_to_executing(desk: Desk) -> None:
    """It is listed, shown and executed; what became of its instant is told."""
    options = common.WriteOptions(reason="Launch")
    made = await desk.create(options=options)
    id = made.schedule.id
    listed = await desk.call("ListSchedules", "reader", states=[State.STATE_PENDING], kind="flag", key="checkout")
    assert ([id], 1) == ([each.id for each in listed.schedules], listed.total_size)
    desk.tick(NOW + HOUR)
    got = await desk.call("GetSchedule", "reader", id=id)
    executions = await desk.call("ListScheduleExecutions", "reader", id=id)

    assert (common.OUTCOME_APPLIED, "Launch") == (made.result.outcome, made.schedule.title)
    assert ["flag checkout: state off -> on"] == list(made.schedule.differences[0].lines)
    assert (State.STATE_DONE, ["executed", "created"]) == (
        got.schedule.state,
        [each.happening for each in got.steps],
    )
    assert [(timestamp(NOW + HOUR), {"production": 3})] == [
        (each.instant, dict(each.revisions)) for each in executions.executions
    ]
    document = stored(desk.manager.engine).flags["checkout"]
    assert document is not None and document.get("enabled", True) is not False


async def test_several_writes_are_one(desk: Desk) -> None:
    """Over several environments; whatever services they are for, in their order."""
    put(desk.manager.engine, PutFlag(flag(enabled=False)), environment="staging")
    default = flags.SetDefaultRuleRequest(project="shop", environment="staging", key="checkout")
    default.serve.variant = "on"
    made = await desk.create(ON, default)
    assert ["production", "staging"] == sorted(each.environment for each in made.schedule.differences)
    strange = flags.EnableFlagsRequest(project="bank", environment="production", keys=["checkout"])
    code, message, _ = await desk.refused("CreateSchedule", writes=[packed(ON), packed(strange)], timing=_at())

    assert (grpc.StatusCode.INVALID_ARGUMENT, "the write is for project 'bank', not 'shop'") == (code, message)


async def test_conflicts_have_kinds(desk: Desk) -> None:
    """In the refusal's details; or in the answer, of a dry run and where they are accepted."""
    first = (await desk.create()).schedule.id
    code, _, details = await desk.refused("CreateSchedule", writes=[packed(OFF)], timing=_at())
    failure = error_details_pb2.PreconditionFailure()
    assert details[0].Unpack(failure)
    kept = await desk.create(OFF, accept_conflicts=True)
    later = await desk.create(OFF, at=NOW + 2 * HOUR, options=common.WriteOptions(dry_run=True))

    assert grpc.StatusCode.FAILED_PRECONDITION is code
    assert [("OVERLAP", f"production/{first}")] == [(each.type, each.subject) for each in failure.violations]
    assert [(Kind.KIND_OVERLAP, first, "flag checkout: enabled", True)] == [
        (each.kind, each.other_schedule, each.field, each.blocking) for each in kept.conflicts
    ]
    assert (common.OUTCOME_WOULD_APPLY, {False}) == (later.result.outcome, {each.blocking for each in later.conflicts})


async def test_an_instant_that_is_past(desk: Desk) -> None:
    """It cannot be meant."""
    code, message, _ = await desk.refused("CreateSchedule", writes=[packed(ON)], timing=_at(NOW))

    assert (grpc.StatusCode.FAILED_PRECONDITION, "past-instant: its instant is past") == (code, message)


async def test_a_recurrence(desk: Desk) -> None:
    """By a rule in a time zone; what is wrong with it is told with its path."""
    timing = messages.ScheduleTiming(missed=messages.ScheduleTiming.MISSED_SKIP, grace_s=5)
    timing.recurrence.cron = "0 9 * * *"
    timing.recurrence.zone = "Europe/Berlin"
    made = await desk.create(timing=timing)
    got = await desk.call("GetSchedule", id=made.schedule.id)
    timing.recurrence.zone = "Europe/Berlim"
    code, message, _ = await desk.refused("CreateSchedule", writes=[packed(ON)], timing=timing)

    assert "2026-01-02T08:00:00" == made.schedule.due_at.ToDatetime().isoformat()
    assert ("0 9 * * *", 5, 10) == (
        got.schedule.timing.recurrence.cron,
        got.schedule.timing.grace_s,
        len(got.instants),
    )
    assert grpc.StatusCode.INVALID_ARGUMENT is code
    assert message.startswith("/recurrence/zone: ")


async def test_it_is_moved_changed_cancelled_and_run(desk: Desk) -> None:
    """Each answer has it as it is then; what nobody has read is not changed."""
    id = (await desk.create()).schedule.id
    moved = await desk.call("Reschedule", id=id, timing=_at(NOW + 3 * HOUR))
    assert (NOW + 3 * HOUR, 2) == (_instant(moved.schedule.due_at), moved.schedule.content_version)
    stale = common.WriteOptions(expected_version=1)
    code, _, _ = await desk.refused("UpdateSchedule", id=id, writes=[packed(OFF)], options=stale)
    assert grpc.StatusCode.ABORTED is code
    updated = await desk.call("UpdateSchedule", id=id, writes=[packed(OFF)])
    assert ["everything that it would set is so already now"] == list(updated.result.warnings)
    ran = await desk.call("RunSchedule", id=id)
    other = (await desk.create()).schedule.id
    cancelled = await desk.call("CancelSchedule", "approver", id=other, options=common.WriteOptions(reason="Not now"))
    code, message, _ = await desk.refused("RunSchedule", id=other)

    assert (State.STATE_DONE, State.STATE_CANCELLED, "Not now") == (
        ran.schedule.state,
        cancelled.schedule.state,
        cancelled.schedule.note,
    )
    assert grpc.StatusCode.FAILED_PRECONDITION is code
    assert "a schedule that is cancelled cannot be executed; make a new one" == message


async def test_a_preview(desk: Desk) -> None:
    """Each thing before and after, of a schedule that is there and of one that is not; nothing changes."""
    id = (await desk.create()).schedule.id
    for fields in ({"id": id}, {"writes": [packed(ON)], "timing": _at(NOW + 2 * HOUR)}):
        preview = await desk.call("PreviewSchedule", "editor", **fields)
        thing = preview.things[0]
        assert ("production", "flag", "checkout", ["flag checkout: state off -> on"]) == (
            thing.environment,
            thing.kind,
            thing.key,
            list(thing.changes),
        )
        assert (False, True) == (json.loads(thing.before)["enabled"], json.loads(thing.after).get("enabled", True))
    document = stored(desk.manager.engine).flags["checkout"]

    assert document is not None and document["enabled"] is False


async def test_approvals(desk: Desk) -> None:
    """An environment that asks for them gets them for the schedule; its maker's own does not count."""
    policy = UpdateEnvironment(approval_policy=ApprovalPolicy(approvals=1))
    put(desk.manager.engine, policy)
    made = await desk.create()
    id = made.schedule.id
    assert [(Kind.KIND_APPROVAL_MISSING, False)] == [(each.kind, each.blocking) for each in made.conflicts]
    code, _, _ = await desk.refused("ApproveSchedule", id=id)
    assert grpc.StatusCode.PERMISSION_DENIED is code
    code, message, _ = await desk.refused("RunSchedule", id=id)
    assert (grpc.StatusCode.FAILED_PRECONDITION, "approval-missing") == (code, message.partition(" ")[0])
    await desk.call("ApproveSchedule", "approver", id=id, text="Fine")
    got = await desk.call("GetSchedule", id=id)
    desk.tick(NOW + HOUR)
    done = await desk.call("GetSchedule", id=id)

    assert [("production", 1, ["token:approver"])] == [
        (each.environment, each.needed, list(each.approvers)) for each in got.approvals
    ]
    assert State.STATE_DONE == done.schedule.state


async def test_who_may_do_what(desk: Desk) -> None:
    """A reader makes none, and who works elsewhere sees none."""
    id = (await desk.create()).schedule.id
    refusals = [
        await desk.refused("CreateSchedule", "reader", writes=[packed(ON)], timing=_at()),
        await desk.refused("RunSchedule", "approver", id=id),
        await desk.refused("GetSchedule", "elsewhere", id=id),
        await desk.refused("CancelSchedule", "reader", id=id),
        await desk.refused("PreviewSchedule", "elsewhere", id=id),
    ]
    listed = await desk.call("ListSchedules", "elsewhere", environment="staging")

    assert {grpc.StatusCode.PERMISSION_DENIED} == {code for code, _, _ in refusals}
    assert [] == list(listed.schedules)


async def test_the_same_request_again(desk: Desk) -> None:
    """It gets the first answer; for something else its id is refused."""
    options = common.WriteOptions(request_id="once")
    first, again = await desk.create(options=options), await desk.create(options=options)
    code, _, _ = await desk.refused("CancelSchedule", id=first.schedule.id, options=options)

    assert first.schedule.id == again.schedule.id
    assert grpc.StatusCode.ALREADY_EXISTS is code


async def test_a_write_by_hand_names_it(desk: Desk) -> None:
    """The write is made, and the schedule stays; also when its flag goes."""
    id = (await desk.create(options=common.WriteOptions(reason="Launch"))).schedule.id
    path, reply = "/flagstaff.v1.FlagService", flags.FlagsResponse
    edited = await called(desk.channel, f"{path}/EnableFlags", ON, reply, by="editor")
    archive = flags.ArchiveFlagRequest(project="shop", key="checkout")
    archived = await called(desk.channel, f"{path}/ArchiveFlag", archive, flags.FlagResponse, by="editor")
    got = await desk.call("GetSchedule", id=id)
    told = f"schedule {id} (Launch) is to change flag checkout: enabled in production at 2026-01-01T13:00:00Z"

    assert [told] == list(edited.result.warnings)
    assert [f"{told}, which is archived then: it will be in conflict unless you cancel it or bring that back"] == list(
        archived.result.warnings
    )
    assert State.STATE_PENDING == got.schedule.state


async def test_pages(desk: Desk) -> None:
    """Of schedules and of executions, without gaps and repetitions."""
    ids = [(await desk.create(at=NOW + number * HOUR)).schedule.id for number in range(1, 4)]
    found: list[str] = []
    token = ""
    while True:
        page = await desk.call("ListSchedules", page_size=2, page_token=token)
        found += [each.id for each in page.schedules]
        token = page.next_page_token
        if not token:
            break
    code, _, _ = await desk.refused("ListSchedules", page_token="nonsense")

    assert (sorted(ids), 3) == (sorted(found), len(found))
    assert grpc.StatusCode.INVALID_ARGUMENT is code


def _at(at: datetime = NOW + HOUR) -> messages.ScheduleTiming:
    return messages.ScheduleTiming(at=timestamp(at))


def _instant(stamp: Any) -> datetime:
    return stamp.ToDatetime(tzinfo=NOW.tzinfo)  # type: ignore[no-any-return]
