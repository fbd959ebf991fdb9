"""LaunchPlanService over a real server, with callers who may different things."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from icalendar import Calendar
from sqlalchemy import Engine

from protos.flagstaff.v1 import common_pb2 as common
from protos.flagstaff.v1 import environments_pb2 as environments
from protos.flagstaff.v1 import flags_pb2 as flags
from protos.flagstaff.v1 import launch_plans_pb2 as messages
from protos.flagstaff.v1 import releases_pb2 as releases
from protos.flagstaff.v1 import tokens_pb2 as tokens
from server.core.access import Action, Grant, Principal, Role
from server.core.changes import PutFlag
from server.core.releases.plan import Gates, Patch, Plan, Step
from server.operations.launch_plans.running import Running
from server.operations.releases.moving import Releases
from server.operations.writes import Write, Writer
from tests.rpc.conftest import Serve
from tests.rpc.managing import Manager, called, managing
from tests.store.definitions import NOW, flag, new_shop, put, stored

SERVICE: Final = "/flagstaff.v1.LaunchPlanService"
State: Final = messages.LaunchPlan.State
Kind: Final = messages.LaunchConflict.Kind
LAUNCH: Final = NOW + timedelta(days=10)


def packed(request: Message) -> AnyMessage:
    """A request inside a request."""
    inner = AnyMessage()
    inner.Pack(request)
    return inner


def serve_on(key: str, environment: str = "production") -> AnyMessage:
    """A write after which everybody gets `on`."""
    request = flags.SetDefaultRuleRequest(project="shop", environment=environment, key=key)
    request.serve.variant = "on"
    return packed(request)


def renamed() -> AnyMessage:
    """A write for administrators."""
    request = environments.UpdateEnvironmentRequest(project="shop", environment="production")
    request.settings.name = "Live"
    request.update_mask.paths.append("name")
    return packed(request)


def spec(*items: messages.LaunchItemSpec, **more: Any) -> messages.LaunchPlanSpec:
    """A plan for both flags."""
    launch_at = Timestamp()
    launch_at.FromDatetime(LAUNCH)
    usual = (
        messages.LaunchItemSpec(id="try", offset="T-7d", writes=[serve_on("new-ui", "staging")]),
        messages.LaunchItemSpec(id="live", offset="T-0", writes=[serve_on("new-ui"), serve_on("banner")]),
    )
    given = {"name": "New UI", "time_zone": "Europe/Berlin", "launch_at": launch_at, **more}
    return messages.LaunchPlanSpec(items=items or usual, **given)


@dataclass
class Desk:
    """A server over a shop with two flags."""

    manager: Manager
    channel: Any

    async def call(self, method: str, who: str = "editor", **fields: Any) -> Any:
        """Call a method about the shop as somebody."""
        request = getattr(messages, f"{method}Request")(project="shop", **fields)
        replies = {"GetLaunchPlan", "ListLaunchPlans", "ExportLaunchCalendar"}
        name = f"{method}Response" if method in replies else "LaunchPlanResponse"
        return await called(self.channel, f"{SERVICE}/{method}", request, getattr(messages, name), by=who)

    async def refused(self, method: str, who: str = "editor", **fields: Any) -> tuple[grpc.StatusCode, str]:
        """Call a method that is to be refused."""
        try:
            await self.call(method, who, **fields)
        except grpc.aio.AioRpcError as error:
            return error.code(), error.details() or ""
        raise AssertionError(f"{method} was not refused")

    async def made(self, *, items: tuple[messages.LaunchItemSpec, ...] = (), **more: Any) -> str:
        """The id of a draft."""
        return str((await self.call("CreateLaunchPlan", spec=spec(*items, **more))).launch_plan.id)

    def carry_on(self, after: timedelta) -> None:
        """Let time pass, from T-0 on, and do what is due."""
        self.manager.now = LAUNCH + after
        assert [] == Running(Writer(self.manager.engine)).carry_on(self.manager.now)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Engine]:
    """A shop with two flags."""
    engine = new_shop(tmp_path)
    put(engine, PutFlag(flag("new-ui")), PutFlag(flag("banner")))
    put(engine, PutFlag(flag("new-ui")), environment="staging")
    yield engine
    engine.dispose()


@pytest.fixture
async def desk(shop: Engine, serve: Serve) -> AsyncIterator[Desk]:
    """A running server, and people."""
    with managing(shop) as (manager, table):
        for name, role in (("approver", Role.APPROVE), ("operator", Role.OPERATE)):
            manager.people[name] = Principal(f"token:{name}", (Grant(role),))
        running = await serve(table=table)
        yield Desk(manager, running.channel)


async def test_from_a_draft_to_its_end(desk: Desk, shop: Engine) -> None:
    """It is made, looked at, started, and does everything at its time; it tells how far it has come."""
    id = await desk.made()
    seen = await desk.call("GetLaunchPlan", "reader", id=id)
    assert ["try", "live"] == [each.id for each in seen.launch_plan.items]
    assert [
        ["flag new-ui: default off -> on"],
        ["flag banner: default off -> on", "flag new-ui: default off -> on"],
    ] == [sorted(each.differences[0].lines) for each in seen.previews]
    assert "on" == seen.previews[1].differences[0].flags["banner"]["default"]
    started = await desk.call("StartLaunchPlan", id=id)
    assert (State.STATE_SCHEDULED, "token:editor") == (started.launch_plan.state, started.launch_plan.runs_as)
    assert (LAUNCH - timedelta(days=7)).replace(tzinfo=None) == started.launch_plan.next_at.ToDatetime()
    desk.carry_on(timedelta(days=-7))
    desk.carry_on(timedelta(0))
    ended = await desk.call("GetLaunchPlan", "reader", id=id)

    assert State.STATE_COMPLETED == ended.launch_plan.state
    assert ["created", "started", "executed", "executed", "completed"] == [each.happening for each in ended.steps]
    assert all(each.HasField("done_at") and each.revisions for each in ended.launch_plan.items)
    assert {"on"} == {(each or {})["default"] for each in stored(shop).flags.values()}


async def test_an_item_that_starts_a_release(desk: Desk, shop: Engine) -> None:
    """It is told with the item, stays when the item is updated without it, and begins at its time."""
    off = Patch("production", "new-ui", enabled=False)
    write = Write(desk.manager.people["editor"], Action.EDIT, NOW)
    plan = Plan("Off", (Step((off,), Gates(manual=True)),))
    release = Releases(Writer(shop)).create(write, project="shop", plan=plan).stored.id
    item = messages.LaunchItemSpec(id="off", offset="T-0", start_release=release)
    id = await desk.made(items=(item,))
    kept = spec(messages.LaunchItemSpec(id="off", offset="T+1d"))
    reply = await desk.call("UpdateLaunchPlan", id=id, spec=kept)
    assert release == reply.launch_plan.items[0].start_release == reply.launch_plan.spec.items[0].start_release
    assert ["production"] == reply.launch_plan.items[0].environments
    await desk.call("StartLaunchPlan", id=id)
    desk.carry_on(timedelta(days=1))

    assert False is (stored(shop).flags["new-ui"] or {})["enabled"]
    code, told = await desk.refused("CreateLaunchPlan", spec=spec(messages.LaunchItemSpec(start_release="rel_none")))
    assert (grpc.StatusCode.INVALID_ARGUMENT, True) == (code, "/items/0/offset" in told)


async def test_a_dry_run_keeps_nothing(desk: Desk) -> None:
    """It tells what there would be, and all that is in the way."""
    item = messages.LaunchItemSpec(id="gone", offset="T-1000d", writes=[serve_on("nothing")])
    reply = await desk.call("CreateLaunchPlan", spec=spec(item), options=common.WriteOptions(dry_run=True))
    listed = await desk.call("ListLaunchPlans")

    assert common.OUTCOME_WOULD_APPLY == reply.result.outcome
    assert {Kind.KIND_PAST, Kind.KIND_MISSING} == {each.kind for each in reply.conflicts}
    assert not listed.launch_plans


async def test_what_cannot_come_through_is_not_started(desk: Desk) -> None:
    """It says what is in the way of it."""
    item = messages.LaunchItemSpec(id="gone", offset="T-0", writes=[serve_on("nothing")])
    made = await desk.call("CreateLaunchPlan", spec=spec(item))
    code, told = await desk.refused("StartLaunchPlan", id=made.launch_plan.id)

    assert grpc.StatusCode.FAILED_PRECONDITION == code
    assert "would not come through" in told
    assert "nothing" in told


async def test_updates_keep_what_is_not_said(desk: Desk) -> None:
    """An item without writes keeps those that it has; a version that was read is compared."""
    id = await desk.made()
    items = [messages.LaunchItemSpec(id="live", offset="T+1d"), messages.LaunchItemSpec(id="new", offset="T+2d")]
    items[1].writes.append(serve_on("banner"))
    updated = await desk.call("UpdateLaunchPlan", id=id, spec=spec(*items))
    options = common.WriteOptions(expected_version=1)
    code, _ = await desk.refused("UpdateLaunchPlan", id=id, spec=spec(), options=options)

    assert (2, [("live", "T+1d"), ("new", "T+2d")]) == (
        updated.launch_plan.content_version,
        [(each.id, each.offset) for each in updated.launch_plan.items],
    )
    assert "SetDefault" in updated.launch_plan.items[0].content
    assert grpc.StatusCode.ABORTED == code


async def test_go_and_no_go(desk: Desk) -> None:
    """Those who are named answer; a no holds the plan, and anybody who may switch off may hold it, too."""
    check = messages.LaunchCheck(id="legal", text="Legal agrees", approvers=["token:approver"])
    id = await desk.made(checks=[check])
    await desk.call("StartLaunchPlan", id=id)
    code, told = await desk.refused("AnswerLaunchCheck", id=id, check="legal", go=True)
    assert (grpc.StatusCode.PERMISSION_DENIED, "token:editor may not answer 'legal'; it is for: token:approver") == (
        code,
        told,
    )
    said = await desk.call("AnswerLaunchCheck", "approver", id=id, check="legal", go=True)
    assert [("legal", True, "token:approver")] == [
        (each.check, each.go, each.actor) for each in said.launch_plan.answers
    ]
    no = await desk.call("AnswerLaunchCheck", "approver", id=id, check="legal", text="Not signed")
    assert (State.STATE_HELD, "Not signed") == (no.launch_plan.state, no.launch_plan.note)
    await desk.call("ResumeLaunchPlan", id=id)
    held = await desk.call("HoldLaunchPlan", "operator", id=id, options=common.WriteOptions(reason="Slow"))

    assert (State.STATE_HELD, "Slow") == (held.launch_plan.state, held.launch_plan.note)
    assert not held.previews
    assert (await desk.refused("HoldLaunchPlan", "reader", id=id))[0] == grpc.StatusCode.PERMISSION_DENIED


async def test_shifting_skipping_and_cancelling(desk: Desk) -> None:
    """T-0 moves and everything with it; what is left out is not done; what is over stays so."""
    id = await desk.made()
    shifted = await desk.call("ShiftLaunchPlan", id=id, by=timedelta(days=1))
    await desk.call("SkipLaunchItems", id=id, items=["try"])
    cancelled = await desk.call("CancelLaunchPlan", id=id)

    assert (LAUNCH + timedelta(days=1)).replace(tzinfo=None) == shifted.launch_plan.spec.launch_at.ToDatetime()
    assert [True, False] == [each.skipped for each in cancelled.launch_plan.items]
    assert State.STATE_CANCELLED == cancelled.launch_plan.state
    assert grpc.StatusCode.FAILED_PRECONDITION == (await desk.refused("StartLaunchPlan", id=id))[0]


async def test_the_same_request_again(desk: Desk) -> None:
    """It gets the first answer and makes nothing twice; its id for something else is refused."""
    options = common.WriteOptions(request_id="r-1")
    first = await desk.call("CreateLaunchPlan", spec=spec(), options=options)
    again = await desk.call("CreateLaunchPlan", spec=spec(), options=options)
    code, _ = await desk.refused("StartLaunchPlan", id=first.launch_plan.id, options=options)

    assert first.launch_plan.id == again.launch_plan.id
    assert 1 == len((await desk.call("ListLaunchPlans")).launch_plans)
    assert grpc.StatusCode.ALREADY_EXISTS == code


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"time_zone": "Mars"}, "/zone: there is no time zone 'Mars'"),
        ({"business_hours": "nine to five"}, "/business_hours"),
        ({"outside": 9}, "/outside: 9 is not one of the choices"),
        ({"name": ""}, "/name: is needed"),
        ({"grace": timedelta(seconds=-1)}, "/grace"),
        ({"launch_at": None}, "/launch_at: an instant is needed"),
    ],
)
async def test_specs_that_are_refused(desk: Desk, more: dict[str, Any], told: str) -> None:
    """Each says where it is wrong."""
    code, said = await desk.refused("CreateLaunchPlan", spec=spec(**more))

    assert grpc.StatusCode.INVALID_ARGUMENT == code
    assert told in said


@pytest.mark.parametrize(
    ("writes", "told"),
    [
        ([], "/items/0: changes nothing"),
        ([packed(tokens.RevokeTokenRequest(id="x"))], "is no write that can be proposed"),
        ([packed(releases.StartReleaseRequest(id="x"))], "can be proposed (it asks for approvals of its own"),
        ([packed(flags.EnableFlagsRequest(project="other", environment="e", keys=["k"]))], "about project 'other'"),
        (
            [
                serve_on("new-ui"),
                packed(environments.UpdateEnvironmentRequest(project="shop", environment="production")),
            ],
            "",
        ),
    ],
)
async def test_items_that_are_refused(desk: Desk, writes: list[AnyMessage], told: str) -> None:
    """An item changes something, in its project, by calls that change flags, segments or environments."""
    item = messages.LaunchItemSpec(id="a", offset="T-0", writes=writes)
    code, said = await desk.refused("CreateLaunchPlan", "", spec=spec(item))

    assert grpc.StatusCode.INVALID_ARGUMENT == code
    assert told in said


async def test_rights_are_asked_for_when_it_is_made(desk: Desk) -> None:
    """Who may not do all that it does may not make it, and who may not read all of it does not see it."""
    assert grpc.StatusCode.PERMISSION_DENIED == (await desk.refused("CreateLaunchPlan", "elsewhere", spec=spec()))[0]
    id = await desk.made()

    assert grpc.StatusCode.PERMISSION_DENIED == (await desk.refused("GetLaunchPlan", "elsewhere", id=id))[0]
    assert not (await desk.call("ListLaunchPlans", "elsewhere")).launch_plans
    assert 1 == len((await desk.call("ListLaunchPlans", "reader")).launch_plans)


async def test_plans_that_touch_the_same_flag(desk: Desk) -> None:
    """Each is told of the other."""
    first, second = await desk.made(), await desk.made()
    conflicts = (await desk.call("GetLaunchPlan", id=second)).conflicts

    assert {Kind.KIND_OVERLAP} == {each.kind for each in conflicts}
    assert all(first in each.message for each in conflicts)


async def test_the_calendar(desk: Desk) -> None:
    """Every item and check is an event with a lasting id, and what is told of it is no more than its title."""
    check = messages.LaunchCheck(id="legal", text="Legal agrees", approvers=["token:approver"], before="T-1d")
    id = await desk.made(checks=[check], owner="ann")
    reply = await desk.call("ExportLaunchCalendar", "reader")
    one = await desk.call("ExportLaunchCalendar", "reader", id=id)
    events = Calendar.from_ical(reply.calendar).walk("VEVENT")

    assert ["New UI: try", "New UI: live", "New UI: go or no-go, Legal agrees"] == [
        str(each["SUMMARY"]) for each in events
    ]
    assert [f"{id}-try@shop.flagstaff", f"{id}-live@shop.flagstaff"] == [str(each["UID"]) for each in events[:2]]
    assert [LAUNCH - timedelta(days=7), LAUNCH, LAUNCH - timedelta(days=1)] == [
        each.decoded("DTSTART") for each in events
    ]
    assert 3 == len(Calendar.from_ical(one.calendar).walk("VEVENT"))
