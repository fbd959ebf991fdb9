"""Ask flagstaff.v1.EvaluationService by its generated client through a real server."""

from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from protos.flagstaff.v1 import evaluation_pb2 as ours
from protos.flagstaff.v1.evaluation_pb2_grpc import EvaluationServiceStub
from server.core.flags import ValueType
from server.core.json import Json
from server.core.limits import BATCH_CONTEXTS_MAX, BATCH_EVALUATIONS_MAX, CONTEXT_BYTES_MAX
from server.core.resolution import ErrorCode, Reason
from server.rpc.drain import Drain
from server.rpc.evaluation import evaluation_table
from tests.fakes import (
    FakeCall,
    answer,
    chooses,
    failure,
    fake_clock,
    holder_of,
    rule_flag,
    snapshot_of,
    static_flag,
    struct,
)
from tests.rpc.conftest import Running, Serve

BATCH = "/flagstaff.v1.EvaluationService/EvaluateBatch"


async def ask(running: Running, key: str, context: dict[str, Any] | None = None, **fields: Any) -> Any:
    """Call Evaluate."""
    request = ours.EvaluateRequest(flag_key=key, **fields)
    request.context.update(context or {})
    return await EvaluationServiceStub(running.channel).Evaluate(request)


@pytest.mark.parametrize(
    ("value", "member"),
    [
        (True, "bool_value"),
        ("x", "string_value"),
        (2**63 - 1, "int_value"),
        (2.5, "double_value"),
        ({"a": [1.0, None]}, "object_value"),
    ],
)
async def test_answer_of_each_type(serve: Serve, value: Json, member: str) -> None:
    """A value comes exactly, beside its variant, reason, metadata, revision and flag set."""
    running = await serve(static_flag(answer("f", value, metadata={"team": "web"})))
    reply = await ask(running, "f")
    resolution = reply.resolution
    found = getattr(resolution, member)

    assert member == resolution.WhichOneof("value")
    assert value == (json_format.MessageToDict(found) if member == "object_value" else found)
    assert ("f", "on", ours.REASON_STATIC) == (resolution.flag_key, resolution.variant, resolution.reason)
    assert {"team": "web"} == json_format.MessageToDict(resolution.metadata)
    assert (7, "default/production") == (reply.revision, reply.flag_set)


async def test_context_and_clock_reach_the_rule(serve: Serve) -> None:
    """A rule sees the attributes that it reads and the time in whole seconds."""
    seen: list[Any] = []
    result = answer("f", True)

    def evaluate(context: Any, now: int) -> Any:
        seen.append((dict(context), now))
        return result

    running = await serve(rule_flag("f", evaluate, reads=["tier"], type_=ValueType.BOOLEAN))
    await ask(running, "f", {"tier": "pro", "age": 3})

    assert [({"tier": "pro"}, int(fake_clock()))] == seen


@pytest.mark.parametrize("code", list(ErrorCode))
async def test_failure_is_an_answer(serve: Serve, code: ErrorCode) -> None:
    """What goes wrong with a flag stands in its resolution; the call succeeds."""
    resolution = (await ask(await serve(static_flag(failure("f", code, "says why"))), "f")).resolution

    assert (ours.REASON_ERROR, "says why") == (resolution.reason, resolution.error_message)
    assert f"ERROR_CODE_{code.name}" == ours.ErrorCode.Name(resolution.error_code)
    assert resolution.WhichOneof("value") is None


async def test_unknown_flag_is_an_answer(serve: Serve) -> None:
    """A flag that is not there answers FLAG_NOT_FOUND, by its key."""
    resolution = (await ask(await serve(), "gone")).resolution

    assert ("gone", ours.ERROR_CODE_FLAG_NOT_FOUND) == (resolution.flag_key, resolution.error_code)


@pytest.mark.parametrize("reason", [Reason.DISABLED, Reason.DEFAULT])
async def test_absent_value(serve: Serve, reason: Reason) -> None:
    """Without a value there is neither value nor variant: the caller uses its own default."""
    running = await serve(static_flag(answer("f", None, variant=None, reason=reason)))
    resolution = (await ask(running, "f", expected_type=ours.VALUE_TYPE_STRING)).resolution

    assert f"REASON_{reason.name}" == ours.Reason.Name(resolution.reason)
    assert (None, False) == (resolution.WhichOneof("value"), resolution.HasField("variant"))


async def test_expected_type(serve: Serve) -> None:
    """An integer may be expected as a float; another type is TYPE_MISMATCH; an unknown type is refused."""
    running = await serve(static_flag(answer("f", 3)))
    as_float = (await ask(running, "f", expected_type=ours.VALUE_TYPE_FLOAT)).resolution
    as_text = (await ask(running, "f", expected_type=ours.VALUE_TYPE_STRING)).resolution
    status, message = await running.refused(
        "/flagstaff.v1.EvaluationService/Evaluate", ours.EvaluateRequest(flag_key="f").SerializeToString() + b"\x20\x63"
    )

    assert ("double_value", 3.0) == (as_float.WhichOneof("value"), as_float.double_value)
    assert ours.ERROR_CODE_TYPE_MISMATCH == as_text.error_code
    assert (grpc.StatusCode.INVALID_ARGUMENT, True) == (status, "99" in message)


async def test_flag_set_by_name(serve: Serve) -> None:
    """A flag set is chosen by name; an unknown one is NOT_FOUND with the names of those that exist."""
    shop = snapshot_of(static_flag(answer("f", "shop")), flag_set="shop/staging", revision=3)
    running = await serve(holder=holder_of(snapshot_of(), shop))
    reply = await ask(running, "f", flag_set="shop/staging")
    status, message = await running.refused(
        "/flagstaff.v1.EvaluationService/Evaluate", ours.EvaluateRequest(flag_set="no/no").SerializeToString()
    )

    assert ("shop", 3, "shop/staging") == (reply.resolution.string_value, reply.revision, reply.flag_set)
    assert (grpc.StatusCode.NOT_FOUND, True) == (status, "shop/staging" in message)


@pytest.mark.parametrize("value", [2**63, {"n": 10**400}, {"s": "\ud800"}, [1]], ids=["int", "number", "text", "list"])
async def test_value_that_protobuf_cannot_hold(serve: Serve, value: Json) -> None:
    """A value that got past validation answers GENERAL, by name, and harms no other answer."""
    running = await serve(static_flag(answer("bad", value)), static_flag(answer("good", True)))
    resolution = (await ask(running, "bad")).resolution
    batch = await EvaluationServiceStub(running.channel).EvaluateBatch(ours.EvaluateBatchRequest(contexts=[struct({})]))

    assert (ours.REASON_ERROR, ours.ERROR_CODE_GENERAL) == (resolution.reason, resolution.error_code)
    assert "'bad'" in resolution.error_message
    assert [ours.ERROR_CODE_GENERAL, 0] == [each.error_code for each in batch.resolutions]


@given(
    st.lists(st.sampled_from(["small", "even", "fixed", "fresh", "gone"]), max_size=6),
    st.lists(st.integers(0, 300), max_size=40),
)
def test_batch_agrees_with_single_calls(keys: list[str], numbers: list[int]) -> None:
    """The answer at each place of a batch is, byte for byte, what Evaluate gives for that flag and context.

    `fresh` makes an answer of its own for each context, so indices of one byte and of more are met.
    """
    snapshot = snapshot_of(
        chooses("small", "n", lambda n: n < 100),
        chooses("even", "n", lambda n: n % 2 == 0),
        static_flag(answer("fixed", "same")),
        rule_flag("fresh", lambda context, now: answer("fresh", context["n"]), reads=["n"], type_=ValueType.FLOAT),
    )
    table = evaluation_table(holder_of(snapshot), clock=fake_clock, drain=Drain())
    contexts = [struct({"n": number, "unread": "x"}) for number in numbers]
    request = ours.EvaluateBatchRequest(flag_keys=keys, contexts=contexts)
    reply = ours.EvaluateBatchResponse.FromString(_run(table[BATCH].function(request.SerializeToString(), FakeCall())))
    asked = keys or sorted(snapshot.flags)

    assert (asked, 7, "default/production") == (list(reply.flag_keys), reply.revision, reply.flag_set)
    assert len(asked) * len(numbers) == len(reply.indices)
    evaluate = table["/flagstaff.v1.EvaluationService/Evaluate"].function
    for row, context in enumerate(contexts):
        for column, key in enumerate(asked):
            request_one = ours.EvaluateRequest(flag_key=key, context=context)
            alone = ours.EvaluateResponse.FromString(evaluate(request_one.SerializeToString(), FakeCall()))
            assert alone.resolution == reply.resolutions[reply.indices[row * len(asked) + column]]


def _run(coroutine: Any) -> bytes:
    """Run a coroutine that never waits."""
    with pytest.raises(StopIteration) as ended:
        coroutine.send(None)
    result: bytes = ended.value.value
    return result


def batch(contexts: int, flags: int) -> bytes:
    """A batch request of that many empty contexts and flags."""
    return ours.EvaluateBatchRequest(flag_keys=["f"] * flags, contexts=[struct({})] * contexts).SerializeToString()


async def test_batch_sends_each_distinct_answer_once(serve: Serve) -> None:
    """Two flags of two answers each, for many contexts, make four resolutions."""
    running = await serve(chooses("a", "n", lambda n: n > 3), chooses("b", "n", lambda n: n > 7))
    request = ours.EvaluateBatchRequest(contexts=[struct({"n": n}) for n in range(10)])
    reply = await EvaluationServiceStub(running.channel).EvaluateBatch(request)

    assert (4, 20) == (len(reply.resolutions), len(reply.indices))


@pytest.mark.parametrize(
    ("contexts", "flags"),
    [(BATCH_CONTEXTS_MAX, BATCH_EVALUATIONS_MAX // BATCH_CONTEXTS_MAX), (0, 5), (0, 0)],
    ids=["largest", "no contexts", "nothing"],
)
async def test_batch_within_bounds(serve: Serve, contexts: int, flags: int) -> None:
    """A batch of exactly the bounds is answered; so is one without contexts."""
    running = await serve(static_flag(answer("f", True)))
    reply = ours.EvaluateBatchResponse.FromString(await running.call(BATCH, batch(contexts, flags)))

    assert contexts * flags == len(reply.indices)


@pytest.mark.parametrize(
    ("contexts", "flags", "figure"),
    [
        (BATCH_CONTEXTS_MAX + 1, 1, BATCH_CONTEXTS_MAX),
        (1_000, BATCH_EVALUATIONS_MAX // 1_000 + 1, BATCH_EVALUATIONS_MAX),
        (0, BATCH_EVALUATIONS_MAX + 1, BATCH_EVALUATIONS_MAX),
    ],
)
async def test_batch_beyond_bounds(serve: Serve, contexts: int, flags: int, figure: int) -> None:
    """One more than a bound is RESOURCE_EXHAUSTED, with the bound's figure."""
    running = await serve(static_flag(answer("f", True)))
    status, message = await running.refused(BATCH, batch(contexts, flags))

    assert (grpc.StatusCode.RESOURCE_EXHAUSTED, True) == (status, str(figure) in message)


async def test_bad_context_of_a_batch_is_named(serve: Serve) -> None:
    """A batch with a context that cannot be taken is refused as a whole, and says which context it was."""
    running = await serve(static_flag(answer("f", True)))
    large = ours.EvaluateBatchRequest(contexts=[struct({}), struct({"a": "x" * CONTEXT_BYTES_MAX})]).SerializeToString()

    assert "contexts[1]" in (await running.refused(BATCH, large))[1]
    malformed = b"\x12\x00" + b"\x12\x02\x0a\x05"
    assert (grpc.StatusCode.INVALID_ARGUMENT, True) == (
        (refused := await running.refused(BATCH, malformed))[0],
        "contexts[1]" in refused[1],
    )
