"""GuardService over a real server: guards and policies are kept as they are asked for, and signals act."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from sqlalchemy import Engine

from protos.flagstaff.v1 import common_pb2 as common
from protos.flagstaff.v1 import guards_pb2 as messages
from server.core.access import Action, Grant, Principal, Role
from server.core.changes import PutFlag
from server.core.metrics.metrics import Metric, MetricKind
from server.operations.metrics import Metrics
from server.operations.writes import Write
from server.store.audit import list_entries
from server.store.engine import reading
from tests.rpc.conftest import Serve
from tests.rpc.managing import Manager, called, managing, refusal, token
from tests.store.definitions import NOW, flag, new_shop, put

SERVICE: Final = "/flagstaff.v1.GuardService"
Policy: Final = messages.RollbackPolicy
Trigger: Final = messages.RollbackTrigger
REACH: Final = messages.RollbackReach(kind=messages.RollbackReach.KIND_FLAG, key="checkout")
GUARD: Final = messages.Guard(key="errors", environment="production", metric="errors", high=0.05, margin=0.0)
POLICY: Final = Policy(
    key="safe",
    environment="production",
    reach=REACH,
    triggers=[
        Trigger(kind=Trigger.KIND_METRIC, name="errors"),
        Trigger(kind=Trigger.KIND_SIGNAL, name="alert"),
        Trigger(kind=Trigger.KIND_HEARTBEAT, name="probe", within_s=60),
    ],
)


@dataclass
class Desk:
    """A server over a shop with a metric."""

    manager: Manager
    channel: Any

    async def call(self, method: str, reply: Any, by: str = "editor", **fields: Any) -> Any:
        """Call a method about the shop as somebody."""
        request = getattr(messages, f"{method}Request")(project="shop", **fields)
        return await called(self.channel, f"{SERVICE}/{method}", request, reply, by=by)

    async def refused(self, method: str, by: str = "editor", **fields: Any) -> tuple[grpc.StatusCode, str]:
        """Call a method that is to be refused: status, message."""
        request = getattr(messages, f"{method}Request")(project="shop", **fields)
        return await refusal(self.channel, f"{SERVICE}/{method}", request, by=by)

    async def make(self) -> Any:
        """A guard and a policy; the policy as it is told."""
        await self.call("CreateGuard", messages.GuardResponse, guard=GUARD)
        made = await self.call("CreateRollbackPolicy", messages.RollbackPolicyResponse, policy=POLICY)
        return made.policy


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Engine]:
    """A shop with a flag and a metric."""
    engine = new_shop(tmp_path)
    put(engine, PutFlag(flag()))
    boss = Principal("boss", (Grant(Role.ADMIN),))
    Metrics(engine).create("shop", Metric("errors", MetricKind.RATIO), Write(boss, Action.EDIT, NOW))
    yield engine
    engine.dispose()


@pytest.fixture
async def desk(shop: Engine, serve: Serve) -> AsyncIterator[Desk]:
    """A running server, an editor, and one who may only signal."""
    with managing(shop) as (manager, table):
        manager.people["operator"] = Principal("token:operator", (Grant(Role.OPERATE),))
        running = await serve(management=table)
        yield Desk(manager, running.channel)


async def test_guards_are_kept_as_they_are_asked_for(desk: Desk) -> None:
    """With the defaults that the contract names; changed by a mask, listed, deleted."""
    made = await desk.call("CreateGuard", messages.GuardResponse, guard=GUARD)
    changed = await desk.call(
        "UpdateGuard",
        messages.GuardResponse,
        guard=messages.Guard(key="errors", low=0.01, window_s=60),
        update_mask={"paths": ["low", "window_s"]},
    )
    listed = await desk.call("ListGuards", messages.ListGuardsResponse, by="reader")
    deleted = await desk.call("DeleteGuard", messages.DeleteGuardResponse, key="errors")

    expected = messages.Guard(window_s=300, interval_s=10, version=1, method=messages.Guard.METHOD_THRESHOLD)
    expected.MergeFrom(GUARD)
    assert expected == made.guard
    assert (0.01, 0.05, 60, 2) == (changed.guard.low, changed.guard.high, changed.guard.window_s, changed.guard.version)
    assert [changed.guard] == list(listed.guards)
    assert common.OUTCOME_APPLIED == deleted.result.outcome
    assert grpc.StatusCode.NOT_FOUND == (await desk.refused("GetGuard", key="errors"))[0]


async def test_a_guard_that_asks_for_even_arms(desk: Desk) -> None:
    """It is kept with its ratio, which an update may take away."""
    asked = messages.Guard(key="even", sample_ratio=1, flag="checkout", variant="on", control_variant="off")
    asked.MergeFrom(messages.Guard(environment="production", metric="errors", high=1.2))
    asked.method = messages.Guard.METHOD_RATIO_TO_CONTROL
    made = await desk.call("CreateGuard", messages.GuardResponse, guard=asked)
    changed = await desk.call(
        "UpdateGuard",
        messages.GuardResponse,
        guard=messages.Guard(key="even"),
        update_mask={"paths": ["sample_ratio"]},
    )

    assert (1, 0) == (made.guard.sample_ratio, changed.guard.sample_ratio)


async def test_policies_are_kept_as_they_are_asked_for(desk: Desk) -> None:
    """Armed, changed by a mask, turned off, armed again, deleted."""
    made = await desk.make()
    changed = await desk.call(
        "UpdateRollbackPolicy",
        messages.RollbackPolicyResponse,
        policy=Policy(key="safe", aim=Policy.AIM_ANCHOR, tolerated=0),
        update_mask={"paths": ["aim", "tolerated"]},
    )
    off = await desk.call("DisarmRollbackPolicy", messages.RollbackPolicyResponse, key="safe")
    on = await desk.call("ArmRollbackPolicy", messages.RollbackPolicyResponse, key="safe")
    one = await desk.call("GetRollbackPolicy", messages.GetRollbackPolicyResponse, by="reader", key="safe")
    listed = await desk.call("ListRollbackPolicies", messages.ListRollbackPoliciesResponse)
    await desk.call("DeleteRollbackPolicy", messages.DeleteRollbackPolicyResponse, key="safe")

    assert (Policy.STATE_ARMED, Policy.AIM_OFF, Policy.MODE_ENFORCE, 1, 1, 300, 4, "token:editor") == (
        *(made.state, made.aim, made.mode, made.confirm, made.confirm_of, made.cool_down_s, made.tolerated),
        made.author,
    )
    assert list(POLICY.triggers) == list(made.triggers)
    assert (Policy.AIM_ANCHOR, 0, 2) == (changed.policy.aim, changed.policy.tolerated, changed.policy.version)
    assert (Policy.STATE_DISARMED, Policy.STATE_ARMED) == (off.policy.state, on.policy.state)
    assert [one.policy] == list(listed.policies)
    assert grpc.StatusCode.NOT_FOUND == (await desk.refused("GetRollbackPolicy", key="safe"))[0]


async def test_a_signal_rolls_back_before_it_is_answered(desk: Desk) -> None:
    """And what came of everything is listed, page by page."""
    await desk.make()
    beat = await desk.call(
        "Heartbeat", messages.HeartbeatResponse, by="operator", environment="production", name="probe"
    )
    signal = {"environment": "production", "name": "alert", "text": "burning"}
    acted = await desk.call("Signal", messages.SignalResponse, by="operator", **signal)
    rests = await desk.call("Signal", messages.SignalResponse, by="operator", **signal)
    page = await desk.call("ListEvaluations", messages.ListEvaluationsResponse, policy="safe", page_size=1)
    rest = await desk.call(
        "ListEvaluations", messages.ListEvaluationsResponse, policy="safe", page_token=page.next_page_token
    )

    assert 1 == beat.listening
    (reaction,) = acted.reactions
    assert ("safe", "rolled_back", "burning") == (reaction.policy, reaction.outcome, reaction.text)
    assert 0 < reaction.revision
    assert [""] == [each.outcome for each in rests.reactions]
    assert ["signalled", "signalled"] == [each.happening for each in (*page.evaluations, *rest.evaluations)]
    assert ["", "rolled_back"] == [each.outcome for each in (*page.evaluations, *rest.evaluations)]
    assert not rest.next_page_token


async def test_the_same_request_again(desk: Desk) -> None:
    """It does nothing twice and is answered; its id for something else is refused."""
    by_mask = {"guard": messages.Guard(key="errors", low=0.01), "update_mask": {"paths": ["low"]}}
    calls: list[tuple[str, Any, dict[str, Any]]] = [
        ("CreateGuard", messages.GuardResponse, {"guard": GUARD}),
        ("UpdateGuard", messages.GuardResponse, by_mask),
        ("CreateRollbackPolicy", messages.RollbackPolicyResponse, {"policy": POLICY}),
        (
            "UpdateRollbackPolicy",
            messages.RollbackPolicyResponse,
            {"policy": Policy(key="safe", tolerated=0), "update_mask": {"paths": ["tolerated"]}},
        ),
        ("DisarmRollbackPolicy", messages.RollbackPolicyResponse, {"key": "safe"}),
        ("DeleteRollbackPolicy", messages.DeleteRollbackPolicyResponse, {"key": "safe"}),
        ("DeleteGuard", messages.DeleteGuardResponse, {"key": "errors"}),
    ]
    for method, reply, fields in calls:
        options = common.WriteOptions(request_id=f"r-{method}")
        first = await desk.call(method, reply, **fields, options=options)
        assert first == await desk.call(method, reply, **fields, options=options)
    options = common.WriteOptions(request_id="r-DeleteGuard")
    code, told = await desk.refused("CreateGuard", guard=GUARD, options=options)

    assert (grpc.StatusCode.ALREADY_EXISTS, True) == (code, "was used for something else" in told)
    with reading(desk.manager.engine) as connection:
        entries = list_entries(connection, project="shop", limit=100)
    assert 4 == len([each for each in entries if each.subject_kind == "rollback-policy"])
    assert 3 == len([each for each in entries if each.subject_kind == "guard"])


async def test_watching(desk: Desk) -> None:
    """All as it is now, without what was before; then what is other, and what came of what happened."""
    await desk.make()
    signal = {"environment": "production", "name": "alert", "text": "burning"}
    watch = desk.channel.unary_stream(
        f"{SERVICE}/WatchGuards",
        request_serializer=messages.WatchGuardsRequest.SerializeToString,
        response_deserializer=messages.WatchGuardsResponse.FromString,
    )
    stream = watch(messages.WatchGuardsRequest(project="shop"), metadata=token("reader"))
    first = await stream.read()
    await desk.call("Signal", messages.SignalResponse, by="operator", **signal)
    second = await stream.read()
    await desk.call("DeleteRollbackPolicy", messages.DeleteRollbackPolicyResponse, key="safe")
    third = await stream.read()
    stream.cancel()
    late = watch(messages.WatchGuardsRequest(project="shop", guards=["errors"]), metadata=token("reader"))
    fourth = await late.read()
    late.cancel()

    assert (["errors"], ["safe"], []) == (
        [each.key for each in first.guards],
        [each.key for each in first.policies],
        list(first.evaluations),
    )
    assert ([], [Policy.STATE_COOLING]) == (list(second.guards), [each.state for each in second.policies])
    assert [("signalled", "rolled_back")] == [(each.happening, each.outcome) for each in second.evaluations]
    assert ["safe"] == list(third.deleted_policies)
    assert (["errors"], []) == ([each.key for each in fourth.guards], list(fourth.evaluations))
    with pytest.raises(grpc.aio.AioRpcError, match="PERMISSION_DENIED"):
        await watch(messages.WatchGuardsRequest(project="shop"), metadata=token("elsewhere")).read()


@pytest.mark.parametrize(
    ("method", "fields", "code", "message"),
    [
        ("CreateGuard", {"guard": {"key": "x", "environment": "production"}}, "INVALID_ARGUMENT", "/high: without a"),
        (
            "CreateGuard",
            {"guard": {"key": "x", "environment": "production", "provider": "prom", "query": "up", "high": 1}},
            "INVALID_ARGUMENT",
            "provider 'prom' is not in this server's settings, which have: none",
        ),
        (
            "CreateGuard",
            {"guard": {"key": "x", "environment": "production", "metric": "errors", "high": 1, "sample_ratio": 1}},
            "INVALID_ARGUMENT",
            "/sample_ratio: is for a metric of our own with a control",
        ),
        ("CreateGuard", {"guard": {"method": 9}}, "INVALID_ARGUMENT", "guard.method is 9, expected one of THRESHOLD"),
        ("UpdateGuard", {"guard": {"key": "x"}}, "INVALID_ARGUMENT", "update_mask is empty; name what is to be set"),
        ("UpdateGuard", {}, "INVALID_ARGUMENT", "UpdateGuardRequest needs the key of what is to be changed"),
        ("CreateRollbackPolicy", {"policy": {}}, "INVALID_ARGUMENT", "policy.reach.kind is 0, expected one of RULE"),
        (
            "CreateRollbackPolicy",
            {"policy": {"reach": REACH, "triggers": [{"name": "x"}]}},
            "INVALID_ARGUMENT",
            "policy.triggers[0].kind is 0, expected one of METRIC",
        ),
        ("Signal", {"environment": "production", "name": "x"}, "NOT_FOUND", "no roll-back policy of shop/production"),
        ("ListEvaluations", {"page_token": "eA=="}, "INVALID_ARGUMENT", "page_token is not one of this list"),
    ],
)
async def test_what_is_asked_wrongly_is_told(
    desk: Desk, method: str, fields: dict[str, Any], code: str, message: str
) -> None:
    """With what helps."""
    found, told = await desk.refused(method, **fields)

    assert code == found.name
    assert told.startswith(message)
