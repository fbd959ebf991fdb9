"""Contexts that the operator adds to, through every service."""

from typing import Any

import grpc
import pytest

from protos.flagd.evaluation.v1 import evaluation_pb2 as v1
from protos.flagd.evaluation.v2 import evaluation_pb2 as v2
from protos.flagstaff.v1 import evaluation_pb2 as ours
from server.core.context import Enrichment
from server.core.evaluation.snapshot import CompiledFlag
from server.core.flags import ValueType
from server.core.resolution import Reason
from server.rpc.convert import field
from server.rpc.enrichment import enriched
from server.rpc.table import Table
from tests.fakes import answer, rule_flag, struct
from tests.rpc.conftest import Running, Serve

BOTH = Enrichment({"tier": "fixed", "region": "eu"}, {"x-tier": "tier"})
OURS = "/flagstaff.v1.EvaluationService"
GOLD = (("x-tier", "gold"),)


def tells_tier() -> CompiledFlag:
    """A text flag that answers with the attributes that it is given."""
    return rule_flag(
        "f",
        lambda context, now: answer("f", f"{context.get('tier')} {context.get('own')}", reason=Reason.TARGETING_MATCH),
        reads=["tier", "own"],
        type_=ValueType.STRING,
    )


@pytest.mark.parametrize(
    ("metadata", "told"), [((), "fixed mine"), (GOLD, "gold mine"), ((("x-tier", ""),), "fixed mine")]
)
@pytest.mark.parametrize(("version", "messages"), [("v1", v1), ("v2", v2)])
async def test_flagd_contexts_are_enriched(serve: Serve, version: str, messages: Any, metadata: Any, told: str) -> None:
    """A header's value over a fixed one over the caller's; what is the caller's alone stays."""
    running = await serve(tells_tier(), enrichment=BOTH)
    request = messages.ResolveStringRequest(flag_key="f")
    request.context.update({"tier": "caller", "own": "mine"})
    raw = await running.call(
        f"/flagd.evaluation.{version}.Service/ResolveString", request.SerializeToString(), metadata=metadata
    )

    assert told == messages.ResolveStringResponse.FromString(raw).value


async def test_bulk_contexts_are_enriched(serve: Serve) -> None:
    """ResolveAll, with no context of the caller's."""
    running = await serve(tells_tier(), enrichment=BOTH)
    reply = v1.ResolveAllResponse.FromString(await running.call("/flagd.evaluation.v1.Service/ResolveAll"))

    assert "fixed None" == reply.flags["f"].string_value


async def test_our_contexts_are_enriched(serve: Serve) -> None:
    """One flag, every context of a batch, every message of a stream."""
    running = await serve(tells_tier(), enrichment=BOTH)
    one = ours.EvaluateRequest(flag_key="f", context=struct({"tier": "caller"})).SerializeToString()
    evaluated = ours.EvaluateResponse.FromString(await running.call(f"{OURS}/Evaluate", one, metadata=GOLD))
    batch = ours.EvaluateBatchRequest(
        flag_keys=["f"], contexts=[struct({"own": "a"}), struct({"tier": "caller"})]
    ).SerializeToString()
    batched = ours.EvaluateBatchResponse.FromString(await running.call(f"{OURS}/EvaluateBatch", batch))

    assert "gold None" == evaluated.resolution.string_value
    assert ["fixed a", "fixed None"] == [batched.resolutions[place].string_value for place in batched.indices]
    assert ["gold a", "gold None"] == await streamed(running, {"own": "a"}, {})


async def streamed(running: Running, *contexts: dict[str, str]) -> list[str]:
    """Values by EvaluateStream."""
    stream = running.channel.stream_stream(f"{OURS}/EvaluateStream")(metadata=GOLD, timeout=20)
    for context in contexts:
        await stream.write(ours.EvaluateStreamRequest(flag_key="f", context=struct(context)).SerializeToString())
    await stream.done_writing()
    return [ours.EvaluateStreamResponse.FromString(raw).resolution.string_value async for raw in stream]


async def test_watched_contexts_are_enriched(serve: Serve) -> None:
    """The subscription's, for as long as it lasts."""
    running = await serve(tells_tier(), enrichment=BOTH)
    request = ours.WatchRequest(context=struct({"tier": "caller", "own": "mine"})).SerializeToString()
    stream = running.channel.unary_stream(f"{OURS}/Watch")(request, metadata=GOLD, timeout=20)
    (resolution,) = ours.WatchResponse.FromString(await stream.read()).resolutions

    assert "gold mine" == resolution.string_value


async def test_malformed_context_cannot_swallow_what_is_added(serve: Serve) -> None:
    """A last entry that claims to go on is refused, not continued with the operator's values."""
    running = await serve(tells_tier(), enrichment=BOTH)
    raw = field(1, b"f") + field(2, b"\x0a\x30")
    code, message = await running.refused(f"{OURS}/Evaluate", raw)

    assert (grpc.StatusCode.INVALID_ARGUMENT, True) == (code, "context is not" in message)


def test_nothing_configured_leaves_the_table_alone() -> None:
    """Not a wrapper that does nothing: the same table."""
    table: Table = {}

    assert enriched(table, Enrichment()) is table
