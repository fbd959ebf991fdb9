"""SimulationService over a real server: what is proposed, by whom, with which units."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from sqlalchemy import Engine

from protos.flagstaff.v1 import common_pb2 as common
from protos.flagstaff.v1 import environments_pb2 as environments
from protos.flagstaff.v1 import flags_pb2 as flags
from protos.flagstaff.v1 import simulation_pb2 as messages
from server.core.changes import PutFlag, PutSegment
from server.live.recent import RecentContexts
from tests.fakes import answer, holder_of, snapshot_of, static_flag, struct, struct_bytes
from tests.rpc.conftest import Serve
from tests.rpc.managing import called, managing, refusal
from tests.store.definitions import at, flag, new_shop, put, segment

SIMULATE: Final = "/flagstaff.v1.SimulationService/Simulate"
WIDER: Final = """
flags:
  checkout:
    variants: {on: true, off: false}
    default: off
    rules: [{id: beta, condition: {$ref: beta}, serve: on, share: {percent: 40}}]
"""


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[Engine]:
    """A shop with a flag whose rule has a segment and a share of 20 %."""
    shop = new_shop(tmp_path)
    rule = {"id": "beta", "condition": {"$ref": "beta"}, "serve": "on", "share": {"percent": 20}}
    put(shop, PutSegment(segment("beta", {"!=": [{"var": "plan"}, "free"]})), PutFlag(flag(rules=[rule])))
    yield shop
    shop.dispose()


def _request(**fields: Any) -> messages.SimulateRequest:
    given = {"project": "shop", "environment": "production", "document": messages.DocumentProposal(text=WIDER)}
    return messages.SimulateRequest(**{**given, **fields})


async def _simulated(serve: Serve, engine: Engine, request: messages.SimulateRequest, **how: Any) -> Any:
    by, recent = how.pop("by", ""), how.pop("recent", None)
    with managing(engine, recent=recent, **how) as (_, table):
        running = await serve(table=table)
        return await called(running.channel, SIMULATE, request, messages.SimulateResponse, by=by)


async def test_a_document_is_simulated(serve: Serve, filled: Engine) -> None:
    """Moves by flag, on generated units when none are given; nothing is stored."""
    before = at(filled).revision
    reply = await _simulated(serve, filled, _request())
    (environment,) = reply.environments
    (moves,) = environment.flags
    counts = {(each.before.name, each.after.name): each.units for each in moves.moves}

    assert (True, "production", before, 1_000) == (
        reply.applicable,
        environment.environment,
        environment.revision,
        environment.contexts,
    )
    assert {("off", "off"), ("off", "on"), ("on", "on")} == counts.keys()
    assert (1_000, moves.moved) == (sum(counts.values()), counts["off", "on"])
    assert before == at(filled).revision


async def test_contexts_of_ones_own(serve: Serve, filled: Engine) -> None:
    """Given contexts are the sample."""
    contexts = [struct({"targetingKey": f"u{number}", "plan": "free"}) for number in range(20)]
    reply = await _simulated(serve, filled, _request(contexts=messages.ContextSample(contexts=contexts)))

    assert (20, 0) == (reply.environments[0].contexts, reply.environments[0].flags[0].moved)


async def test_contexts_that_were_evaluated_lately(serve: Serve, filled: Engine) -> None:
    """Where the server keeps some, a simulation may use them; where it keeps none, it says what helps."""
    recent = RecentContexts(10)
    for number in range(5):
        recent.note("shop/production", struct_bytes({"targetingKey": f"u{number}"}))
    reply = await _simulated(serve, filled, _request(recent=True), recent=recent)
    with managing(filled) as (_, table):
        running = await serve(table=table)
        status, message = await refusal(running.channel, SIMULATE, _request(recent=True))

    assert 5 == reply.environments[0].contexts
    assert grpc.StatusCode.INVALID_ARGUMENT == status and "--recent-contexts" in message


async def test_evaluations_are_noted(serve: Serve) -> None:
    """With a place to keep contexts, those of our API and of flagd's get there."""
    recent = RecentContexts(10)
    holder = holder_of(snapshot_of(static_flag(answer("a", True)), flag_set="default/production"))
    running = await serve(holder=holder, recent=recent)
    ours, flagds = struct_bytes({"targetingKey": "ours"}), struct_bytes({"targetingKey": "flagd's"})
    request = b"\x0a\x01a" + b"\x12" + bytes([len(ours)]) + ours
    await running.call("/flagstaff.v1.EvaluationService/Evaluate", request)
    request = b"\x0a\x01a" + b"\x12" + bytes([len(flagds)]) + flagds
    await running.call("/flagd.evaluation.v2.Service/ResolveBoolean", request)

    assert [ours, flagds] == recent.of("default/production")


async def test_what_is_in_the_way_is_told_beside_the_moves(serve: Serve, filled: Engine) -> None:
    """A reader may simulate what a reader may not do, and hears of it."""
    reply = await _simulated(serve, filled, _request(), by="reader")

    assert not reply.applicable
    assert [messages.InTheWay.KIND_PERMISSION] == [each.kind for each in reply.in_the_way]
    assert 0 < reply.environments[0].flags[0].moved


async def test_dangling_references_are_told(serve: Serve, filled: Engine) -> None:
    """Taking a segment away that a flag uses is refused, and said to leave the flag without it."""
    proposal = messages.DocumentProposal(remove_segments=["beta"])
    reply = await _simulated(serve, filled, _request(document=proposal))
    (dangling,) = reply.environments[0].dangling

    assert ("flag checkout", "segment beta", True) == (dangling.subject, dangling.missing, dangling.removed)
    assert [messages.InTheWay.KIND_REFUSED] == [each.kind for each in reply.in_the_way]
    assert reply.environments[0].flags[0].dependent


async def test_an_unsound_document_is_refused(serve: Serve, filled: Engine) -> None:
    """Every problem with its path, before anything is tried."""
    text = '{"flags": {"x": {"variants": {"on": true}, "default": "of"}}, "bucketing": "v3"}'
    with managing(filled) as (_, table):
        running = await serve(table=table)
        document = messages.DocumentProposal(text=text)
        status, message = await refusal(running.channel, SIMULATE, _request(document=document))

    assert grpc.StatusCode.INVALID_ARGUMENT == status
    assert "/flags/x/default" in message and "/bucketing" in message


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"project": ""}, grpc.StatusCode.INVALID_ARGUMENT, "project"),
        ({"document": None}, grpc.StatusCode.INVALID_ARGUMENT, "needs a proposal"),
        ({"document": messages.DocumentProposal()}, grpc.StatusCode.INVALID_ARGUMENT, "puts nothing"),
        ({"environment": "none"}, grpc.StatusCode.OK, "does not exist"),
        ({"generated": messages.GeneratedSample(count=10_001)}, grpc.StatusCode.RESOURCE_EXHAUSTED, "at most 10000"),
        ({"generated": messages.GeneratedSample(count=-1)}, grpc.StatusCode.INVALID_ARGUMENT, "expected 0 or more"),
    ],
)
async def test_a_request_that_cannot_be_tried(
    serve: Serve, filled: Engine, fields: Any, status: grpc.StatusCode, words: str
) -> None:
    """It is refused with what is wrong; a place that is not there is something in the way."""
    request = _request(**{name: value for name, value in fields.items() if value is not None})
    if fields.get("document", 1) is None:
        request.ClearField("document")
    with managing(filled) as (_, table):
        running = await serve(table=table)
        if status is grpc.StatusCode.OK:
            reply = await called(running.channel, SIMULATE, request, messages.SimulateResponse)
            assert any(words in each.message for each in reply.in_the_way)
            return
        assert status == (told := await refusal(running.channel, SIMULATE, request))[0]
        assert words in told[1]


async def test_only_who_may_read_may_simulate(serve: Serve, filled: Engine) -> None:
    """A right to another environment does not count here; nor does one to this when the change reaches others."""
    with managing(filled) as (_, table):
        running = await serve(table=table)
        status, _message = await refusal(running.channel, SIMULATE, _request(), by="elsewhere")

    assert grpc.StatusCode.PERMISSION_DENIED == status


async def test_a_message_that_is_no_write_cannot_be_proposed(serve: Serve, filled: Engine) -> None:
    """Only what ends in a commit can be tried."""
    request = _request(document=None)
    request.ClearField("document")
    request.write.Pack(common.WriteOptions())
    with managing(filled) as (_, table):
        running = await serve(table=table)
        status, message = await refusal(running.channel, SIMULATE, request)

    assert grpc.StatusCode.INVALID_ARGUMENT == status
    assert "flagstaff.v1.WriteOptions is no write that can be proposed" in message


def _default_rule(**fields: Any) -> flags.SetDefaultRuleRequest:
    request = flags.SetDefaultRuleRequest(project="shop", environment="production", key="checkout", **fields)
    request.serve.variant = "on"
    return request


async def test_a_write_of_another_service_is_simulated(serve: Serve, filled: Engine) -> None:
    """As it would be sent there: who moves, what else is in the way, and nothing is stored or asked for."""
    before = at(filled).revision
    request = messages.SimulateRequest(project="shop")
    request.write.Pack(_default_rule(options=common.WriteOptions(expected_version=7, request_id="r1")))
    reply = await _simulated(serve, filled, request)
    moves = {(each.before.name, each.after.name) for each in reply.environments[0].flags[0].moves}

    assert [messages.InTheWay.KIND_STALE] == [each.kind for each in reply.in_the_way]
    assert {("off", "on"), ("on", "on")} == moves
    assert before == at(filled).revision


async def test_what_is_deleted_moves_everybody(serve: Serve, filled: Engine) -> None:
    """An environment takes its flags along: every unit of the sample goes from what it gets to nothing."""
    request = messages.SimulateRequest(project="shop")
    request.write.Pack(
        environments.DeleteEnvironmentRequest(project="shop", environment="production", confirm="production")
    )
    reply = await _simulated(serve, filled, request)
    moved = {each.flag_key: {move.after.kind for move in each.moves} for each in reply.environments[0].flags}

    assert ["production"] == [each.environment for each in reply.environments]
    assert moved and {messages.SimulatedArm.KIND_ABSENT} == set().union(*moved.values())


@pytest.mark.parametrize(
    ("project", "by", "status"),
    [
        ("other", "", grpc.StatusCode.INVALID_ARGUMENT),
        ("shop", "elsewhere", grpc.StatusCode.PERMISSION_DENIED),
    ],
)
async def test_a_write_to_elsewhere_is_not_simulated(
    serve: Serve, filled: Engine, project: str, by: str, status: grpc.StatusCode
) -> None:
    """The write is for the project that is named, in a place that the caller may read."""
    request = messages.SimulateRequest(project=project)
    request.write.Pack(_default_rule())
    with managing(filled) as (_, table):
        running = await serve(table=table)
        told = await refusal(running.channel, SIMULATE, request, by=by)

    assert status == told[0], told
