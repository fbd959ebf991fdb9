"""ChangeRequestService over a real server, with callers who may different things."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2
from sqlalchemy import Engine

from protos.flagstaff.v1 import change_requests_pb2 as messages
from protos.flagstaff.v1 import common_pb2 as common
from protos.flagstaff.v1 import flags_pb2 as flags
from protos.flagstaff.v1 import simulation_pb2 as simulation
from server.core.access import Action, Grant, Principal, Role
from server.core.changes import PutFlag, UpdateEnvironment
from server.core.environments import ApprovalPolicy
from server.operations.writes import Write, Writer
from server.store.commit import Part
from tests.rpc.conftest import Serve
from tests.rpc.managing import Manager, called, managing
from tests.store.definitions import NOW, flag, new_shop, put, stored

SERVICE: Final = "/flagstaff.v1.ChangeRequestService"
State: Final = messages.ChangeRequest.State


@dataclass
class Desk:
    """A server over a shop whose production asks for one approval."""

    manager: Manager
    channel: Any

    def asked(self, key: str = "checkout", *, by: str = "editor", reason: str = "Sale") -> str:
        """The id of a change request, as any write opens it."""
        engine, principal = self.manager.engine, self.manager.people[by]
        write = Write(principal, Action.EDIT, self.manager.now, reason=reason)
        part = Part("production", [PutFlag(flag(key, default="on"))])
        return Writer(engine).write("shop", [part], write).change_request

    async def call(self, method: str, by: str = "editor", **fields: Any) -> Any:
        """Call a method about the shop as somebody."""
        request_type = getattr(messages, f"{method}Request")
        request = request_type(project="shop", **fields)
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


@pytest.fixture(params=[False, True], ids=["here", "apart"])
def relayed(request: pytest.FixtureRequest) -> bool:
    """The service answers alike where calls are passed on to a process that manages."""
    return bool(request.param)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Engine]:
    """A shop whose production asks for one approval."""
    engine = new_shop(tmp_path)
    put(engine, PutFlag(flag()), UpdateEnvironment(approval_policy=ApprovalPolicy(approvals=1)))
    yield engine
    engine.dispose()


@pytest.fixture
async def desk(shop: Engine, serve: Serve) -> AsyncIterator[Desk]:
    """A running server, an editor, two who approve, one who reads."""
    with managing(shop) as (manager, table):
        manager.people["approver"] = Principal("token:approver", (Grant(Role.APPROVE),))
        manager.people["other"] = Principal("token:other", (Grant(Role.APPROVE),))
        running = await serve(table=table)
        yield Desk(manager, running.channel)


async def test_from_a_write_to_the_change(desk: Desk) -> None:
    """It is read, talked about, approved and applied; each answer has it as it is then."""
    id = desk.asked()
    await desk.call("CommentOnChangeRequest", "approver", id=id, text="Why now?")
    approved = await desk.call("ApproveChangeRequest", "approver", id=id, text="Fine")
    applied = await desk.call("ApplyChangeRequest", id=id)
    got = await desk.call("GetChangeRequest", "reader", id=id)

    assert (State.STATE_APPROVED, ["token:approver"]) == (
        approved.change_request.state,
        [each.actor for each in approved.change_request.approvals],
    )
    assert (common.OUTCOME_APPLIED, {"production": 3}) == (applied.result.outcome, dict(applied.result.revisions))
    assert ["opened", "commented", "completed", "applied"] == [each.happening for each in got.steps]
    assert ["flag checkout: default off -> on"] == list(got.change_request.differences[0].lines)
    assert ("Sale", ["token:editor"]) == (got.change_request.title, list(got.change_request.authors))
    document = stored(desk.manager.engine).flags["checkout"]
    assert document is not None and "on" == document["default"]


async def test_who_may_do_what(desk: Desk) -> None:
    """An author does not approve, an approver does not apply, a reader does neither, and a stranger sees nothing."""
    id = desk.asked()
    refusals = [
        await desk.refused("ApproveChangeRequest", "editor", id=id),
        await desk.refused("ApplyChangeRequest", "approver", id=id),
        await desk.refused("CommentOnChangeRequest", "reader", id=id, text="x"),
        await desk.refused("WithdrawChangeRequest", "reader", id=id),
        await desk.refused("ScheduleChangeRequest", "reader", id=id),
        await desk.refused("RejectChangeRequest", "editor", id=id, text="x"),
        await desk.refused("UpdateChangeRequest", "approver", id=id),
        await desk.refused("GetChangeRequest", "elsewhere", id=id),
        await desk.refused("ListChangeRequests", "elsewhere"),
    ]

    assert {grpc.StatusCode.PERMISSION_DENIED} == {each[0] for each in refusals}


async def test_what_is_lacking_and_what_moved_is_told(desk: Desk) -> None:
    """FAILED_PRECONDITION for approvals; ABORTED with each thing and its versions for what is stale."""
    id = desk.asked()
    lacking = await desk.refused("ApplyChangeRequest", id=id)
    put(desk.manager.engine, PutFlag(flag(description="changed")))
    detail = await desk.call("GetChangeRequest", id=id)
    stale = await desk.refused("ApplyChangeRequest", id=id)
    failure = error_details_pb2.PreconditionFailure()
    assert stale[2][0].Unpack(failure)

    assert grpc.StatusCode.FAILED_PRECONDITION == lacking[0]
    assert "asks for 1 approval and has 0" in lacking[1]
    assert [("production", 1, [])] == [
        (each.environment, each.needed, list(each.approvers)) for each in detail.approvals
    ]
    assert [("production", "flag", "checkout", 2, 3)] == [
        (each.environment, each.kind, each.key, each.expected_version, each.version) for each in detail.moved
    ]
    assert grpc.StatusCode.ABORTED == stale[0]
    assert [("VERSION", "production/flag/checkout")] == [(each.type, each.subject) for each in failure.violations]


async def test_other_content(desk: Desk) -> None:
    """By a document, or the same anew; what it asks for has a version that reviewers name."""
    id = desk.asked()
    document = simulation.DocumentProposal(
        text='{"flags": {"other": {"variants": {"on": true, "off": false}, "default": "on"}}}'
    )
    updated = await desk.call("UpdateChangeRequest", id=id, environment="production", document=document)
    stale = await desk.refused(
        "ApproveChangeRequest", "approver", id=id, options=common.WriteOptions(expected_version=1)
    )
    again = await desk.call("UpdateChangeRequest", id=id, options=common.WriteOptions(reason="Once more"))

    assert ["flag other"] == [line.partition(":")[0] for line in updated.change_request.differences[0].lines][:1]
    assert (grpc.StatusCode.ABORTED, 2) == (stale[0], updated.change_request.content_version)
    assert (3, "Once more") == (again.change_request.content_version, again.change_request.title)


async def test_at_a_time(desk: Desk) -> None:
    """It is kept with who said so, taken back, and refused for a time that cannot be meant."""
    id = desk.asked()
    at = Timestamp()
    at.FromDatetime(NOW + timedelta(days=1))
    scheduled = await desk.call("ScheduleChangeRequest", id=id, apply_at=at)
    taken_back = await desk.call("ScheduleChangeRequest", id=id)
    past = await desk.refused("ScheduleChangeRequest", id=id, apply_at=Timestamp(seconds=1))
    never = await desk.refused("ScheduleChangeRequest", id=id, apply_at=Timestamp(seconds=2**60))

    assert (at, "token:editor") == (scheduled.change_request.apply_at, scheduled.change_request.scheduled_by)
    assert not taken_back.change_request.HasField("apply_at")
    assert {grpc.StatusCode.INVALID_ARGUMENT} == {past[0], never[0]}


async def test_lists(desk: Desk) -> None:
    """Pages by token, filters, and arguments that make no sense."""
    ids = []
    for number in range(3):
        desk.manager.now = NOW + timedelta(minutes=number)
        ids.append(desk.asked(f"f{number}"))
    await desk.call("RejectChangeRequest", "approver", id=ids[0], text="No")
    first = await desk.call("ListChangeRequests", "reader", page_size=2)
    second = await desk.call("ListChangeRequests", "reader", page_size=2, page_token=first.next_page_token)
    rejected = await desk.call("ListChangeRequests", "reader", states=[State.STATE_REJECTED])
    about = await desk.call("ListChangeRequests", "reader", kind="flag", key="f1")

    assert [ids[2], ids[1]] == [each.id for each in first.change_requests]
    assert ([ids[0]], "", 3) == (
        [each.id for each in second.change_requests],
        second.next_page_token,
        second.total_size,
    )
    assert ([ids[0]], [ids[1]]) == (
        [each.id for each in rejected.change_requests],
        [each.id for each in about.change_requests],
    )
    for fields in ({"page_size": 101}, {"page_size": -1}, {"page_token": "?"}, {"states": [99]}, {"kind": "flag"}):
        assert grpc.StatusCode.INVALID_ARGUMENT == (await desk.refused("ListChangeRequests", "reader", **fields))[0]


@pytest.mark.parametrize(
    "method",
    [
        "ApplyChangeRequest",
        "ApproveChangeRequest",
        "CommentOnChangeRequest",
        "GetChangeRequest",
        "RejectChangeRequest",
        "ScheduleChangeRequest",
        "UpdateChangeRequest",
        "WithdrawChangeRequest",
    ],
)
async def test_one_that_is_not_there(desk: Desk, method: str) -> None:
    """Every method says so, and says what it needs when it is told nothing."""
    text = {"text": "x"} if "text" in getattr(messages, f"{method}Request").DESCRIPTOR.fields_by_name else {}
    assert grpc.StatusCode.NOT_FOUND == (await desk.refused(method, "", id="cr_0", **text))[0]
    assert grpc.StatusCode.INVALID_ARGUMENT == (await desk.refused(method, "", **text))[0]


async def test_a_change_request_is_simulated(desk: Desk) -> None:
    """As it is stored: who moves, and that approvals are lacking."""
    id = desk.asked()
    request = simulation.SimulateRequest(project="shop", change_request=id)
    path = "/flagstaff.v1.SimulationService/Simulate"
    reply = await called(desk.channel, path, request, simulation.SimulateResponse, by="reader")
    kinds = {each.kind for each in reply.in_the_way}

    assert 1_000 == reply.environments[0].flags[0].moved
    assert {simulation.InTheWay.KIND_APPROVAL, simulation.InTheWay.KIND_PERMISSION} == kinds


def _default_rule(key: str, project: str = "shop") -> flags.SetDefaultRuleRequest:
    request = flags.SetDefaultRuleRequest(project=project, environment="production", key=key)
    request.serve.variant = "on"
    request.options.reason = "Sale"
    return request


async def test_a_write_of_flag_service_becomes_a_request(desk: Desk) -> None:
    """It answers with the id; and another one becomes what the request asks for."""
    put(desk.manager.engine, PutFlag(flag("other")))
    path = "/flagstaff.v1.FlagService/SetDefaultRule"
    reply = await called(desk.channel, path, _default_rule("checkout"), flags.FlagResponse, by="editor")
    id = reply.result.change_request
    packed = AnyMessage()
    packed.Pack(_default_rule("other"))
    updated = await desk.call("UpdateChangeRequest", id=id, write=packed)
    await desk.call("ApproveChangeRequest", "approver", id=id)
    await desk.call("ApplyChangeRequest", id=id)
    defaults = [(document or {})["default"] for document in stored(desk.manager.engine).flags.values()]

    assert common.OUTCOME_REQUESTED == reply.result.outcome
    assert ["flag checkout: default off -> on"] == list(reply.result.changes)
    assert ["flag other: default off -> on"] == list(updated.change_request.differences[0].lines)
    assert ["off", "on"] == defaults


async def test_content_that_cannot_be_asked_for(desk: Desk) -> None:
    """Of another project, or no write at all; the request stays as it is."""
    id = desk.asked()
    foreign, none = AnyMessage(), AnyMessage()
    foreign.Pack(_default_rule("checkout", "bank"))
    none.Pack(common.WriteOptions())
    refusals = [await desk.refused("UpdateChangeRequest", id=id, write=each) for each in (foreign, none)]
    got = await desk.call("GetChangeRequest", id=id)

    assert {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND} >= {each[0] for each in refusals}
    assert 1 == got.change_request.content_version


async def test_kills_pass(desk: Desk) -> None:
    """By somebody who may do nothing else, while a request for the same flag waits."""
    desk.manager.people["operator"] = Principal("token:operator", (Grant(Role.OPERATE),))
    id = desk.asked()
    kill = flags.KillFlagsRequest(project="shop", environment="production", keys=["checkout"])
    path = "/flagstaff.v1.FlagService/KillFlags"
    reply = await called(desk.channel, path, kill, flags.FlagsResponse, by="operator")
    document = stored(desk.manager.engine).flags["checkout"]

    assert common.OUTCOME_APPLIED == reply.result.outcome
    assert document is not None and document["enabled"] is False
    assert grpc.StatusCode.ABORTED == (await desk.refused("ApproveChangeRequest", "approver", id=id))[0]
