"""Ask flagd's evaluation protocols by their generated clients through a real server."""

from typing import Any

import grpc
import grpc.aio
import pytest

from protos.flagd.evaluation.v1 import evaluation_pb2 as v1
from protos.flagd.evaluation.v1 import evaluation_pb2_grpc as v1_grpc
from protos.flagd.evaluation.v2 import evaluation_pb2 as v2
from protos.flagd.evaluation.v2 import evaluation_pb2_grpc as v2_grpc
from server.core.flags import ValueType
from server.core.json import Json
from server.core.resolution import ErrorCode, Reason
from server.live.holder import Holder
from tests.fakes import answer, chooses, failure, holder_of, snapshot_of, static_flag
from tests.rpc.conftest import Running, Serve

METHODS = [("Boolean", True), ("String", "text"), ("Int", 42), ("Float", 2.5), ("Object", {"a": 1.0, "b": [True]})]
STUBS: dict[int, Any] = {1: v1_grpc.ServiceStub, 2: v2_grpc.ServiceStub}
MESSAGES: dict[int, Any] = {1: v1, 2: v2}


async def ask(
    running: Running, version: int, method: str, key: str, *, selector: str = "", context: dict[str, Any] | None = None
) -> Any:
    """Call a Resolve method."""
    request = getattr(MESSAGES[version], f"Resolve{method}Request")(flag_key=key)
    request.context.update(context or {})
    metadata = (("flagd-selector", selector),) if selector else ()
    return await getattr(STUBS[version](running.channel), f"Resolve{method}")(request, metadata=metadata)


async def ask_in_vain(running: Running, version: int, method: str, key: str, **options: Any) -> grpc.aio.AioRpcError:
    """Call a Resolve method that is to fail; its error."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(running, version, method, key, **options)
    return caught.value


def plain(value: Any) -> Any:
    """An object of the reply as a dictionary."""
    from google.protobuf import json_format

    return json_format.MessageToDict(value) if hasattr(value, "DESCRIPTOR") else value


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(("method", "value"), METHODS)
async def test_sound_answer(serve: Serve, version: int, method: str, value: Json) -> None:
    """Each type comes with its value, variant, reason and metadata."""
    running = await serve(static_flag(answer("f", value, metadata={"team": "web", "level": 3, "beta": True})))
    reply = await ask(running, version, method, "f")

    assert (value, "on", "STATIC") == (plain(reply.value), reply.variant, reply.reason)
    assert {"team": "web", "level": 3, "beta": True} == plain(reply.metadata)


@pytest.mark.parametrize("version", [1, 2])
async def test_context_reaches_the_rule(serve: Serve, version: int) -> None:
    """The answer follows the context."""
    running = await serve(chooses("f", "tier", lambda tier: tier == "pro"))

    assert (await ask(running, version, "Boolean", "f", context={"tier": "pro"})).value is True
    assert (await ask(running, version, "Boolean", "f", context={"tier": "free"})).reason == "DEFAULT"
    assert (await ask(running, version, "Boolean", "f")).value is False


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("code", "status"),
    [
        (ErrorCode.FLAG_NOT_FOUND, grpc.StatusCode.NOT_FOUND),
        (ErrorCode.TYPE_MISMATCH, grpc.StatusCode.INVALID_ARGUMENT),
        (ErrorCode.PARSE_ERROR, grpc.StatusCode.DATA_LOSS),
        (ErrorCode.INVALID_CONTEXT, grpc.StatusCode.INVALID_ARGUMENT),
        (ErrorCode.TARGETING_KEY_MISSING, grpc.StatusCode.INVALID_ARGUMENT),
        (ErrorCode.GENERAL, grpc.StatusCode.INTERNAL),
    ],
)
async def test_status_of_a_failing_flag(serve: Serve, version: int, code: ErrorCode, status: grpc.StatusCode) -> None:
    """Every error code has its status, never UNKNOWN, which providers would retry; the message is the flag's own."""
    running = await serve(static_flag(failure("f", code, "flag 'f' says why")))
    error = await ask_in_vain(running, version, "Boolean", "f")

    assert (status, "flag 'f' says why") == (error.code(), error.details())


@pytest.mark.parametrize("version", [1, 2])
async def test_unknown_flag(serve: Serve, version: int) -> None:
    """NOT_FOUND names the flag and the set."""
    error = await ask_in_vain(await serve(), version, "Boolean", "gone")

    assert grpc.StatusCode.NOT_FOUND is error.code()
    assert "'gone'" in str(error.details())
    assert "'default/production'" in str(error.details())


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("asked", [method for method, _ in METHODS])
@pytest.mark.parametrize(("owner", "value"), METHODS)
async def test_wrong_type(serve: Serve, version: int, asked: str, owner: str, value: Json) -> None:
    """A flag asked as another type is INVALID_ARGUMENT, but for an integer asked as a float."""
    running = await serve(static_flag(answer("f", value)))
    if asked == owner or (owner, asked) == ("Int", "Float"):
        assert (await ask(running, version, asked, "f")).variant == "on"
    else:
        error = await ask_in_vain(running, version, asked, "f")
        assert grpc.StatusCode.INVALID_ARGUMENT is error.code()
        assert "'f'" in str(error.details())


async def test_whole_float_is_an_integer(serve: Serve) -> None:
    """10.0 may be asked as an integer; 3.14 and what exceeds 2^53 - 1 may not."""
    running = await serve(*(static_flag(answer(str(each), each)) for each in (10.0, 3.14, 2.0**53)))

    assert (await ask(running, 2, "Int", "10.0")).value == 10
    for key in ("3.14", str(2.0**53)):
        assert grpc.StatusCode.INVALID_ARGUMENT is (await ask_in_vain(running, 2, "Int", key)).code()


async def test_integers_are_exact(serve: Serve) -> None:
    """An integer keeps all of its 64 bits."""
    running = await serve(static_flag(answer("f", 2**63 - 1)))

    assert (await ask(running, 2, "Int", "f")).value == 2**63 - 1


@pytest.mark.parametrize("method", [method for method, _ in METHODS])
async def test_disabled_without_a_value(serve: Serve, method: str) -> None:
    """Version 2 leaves value and variant out; version 1 sends zero and "". Both succeed with reason DISABLED."""
    running = await serve(static_flag(answer("f", None, variant=None, reason=Reason.DISABLED, metadata={"a": "b"})))
    first, second = await ask(running, 1, method, "f"), await ask(running, 2, method, "f")

    assert ("DISABLED", "", {"a": "b"}) == (first.reason, first.variant, plain(first.metadata))
    assert not plain(first.value)
    assert ("DISABLED", {"a": "b"}) == (second.reason, plain(second.metadata))
    assert not second.HasField("value")
    assert not second.HasField("variant")


@pytest.mark.parametrize("version", [1, 2])
async def test_disabled_with_an_off_variant(serve: Serve, version: int) -> None:
    """An off variant is served, with reason DISABLED."""
    running = await serve(static_flag(answer("f", False, variant="off", reason=Reason.DISABLED)))
    reply = await ask(running, version, "Boolean", "f")

    assert (False, "off", "DISABLED") == (reply.value, reply.variant, reply.reason)


async def test_no_default_variant(serve: Serve) -> None:
    """Version 2 answers DEFAULT without a value; version 1 can only say NOT_FOUND, and says what helps."""
    running = await serve(static_flag(answer("f", None, variant=None, reason=Reason.DEFAULT), has_default=False))
    reply = await ask(running, 2, "Boolean", "f")
    error = await ask_in_vain(running, 1, "Boolean", "f")

    assert ("DEFAULT", False, False) == (reply.reason, reply.HasField("value"), reply.HasField("variant"))
    assert grpc.StatusCode.NOT_FOUND is error.code()
    assert "default variant" in str(error.details())


@pytest.mark.parametrize("version", [1, 2])
async def test_selector_chooses_and_is_echoed(serve: Serve, version: int) -> None:
    """A selector chooses the set and comes back in the metadata, under what the flag itself says."""
    shop = snapshot_of(
        static_flag(answer("f", "shop")),
        static_flag(answer("own", "x", metadata={"flagSetId": "mine"})),
        flag_set="shop/production",
    )
    default = snapshot_of(static_flag(answer("f", "default", metadata={"a": 1})))
    running = await serve(holder=holder_of(default, shop, aliases={("source", "s.json"): "shop/production"}))

    for selector in ("flagSetId=shop/production", "source=s.json", "s.json"):
        echo = "flagSetId" if selector.startswith("flagSetId") else "source"
        reply = await ask(running, version, "String", "f", selector=selector)
        assert ("shop", {echo: selector.partition("=")[2] or selector}) == (reply.value, plain(reply.metadata))
    assert (await ask(running, version, "String", "f", selector="flagSetId=")).value == "default"
    plainly = await ask(running, version, "String", "f")
    assert ("default", {"a": 1}) == (plainly.value, plain(plainly.metadata))
    own = await ask(running, version, "String", "own", selector="flagSetId=shop/production")
    assert {"flagSetId": "mine"} == plain(own.metadata)


@pytest.mark.parametrize(
    ("selector", "status"),
    [
        ("flagSetId=gone", grpc.StatusCode.NOT_FOUND),
        ("colour=red", grpc.StatusCode.INVALID_ARGUMENT),
        ("flagSetId=a,source=b", grpc.StatusCode.INVALID_ARGUMENT),
        ("x" * 600, grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
async def test_selector_that_leads_nowhere(serve: Serve, selector: str, status: grpc.StatusCode) -> None:
    """Every call with a bad selector is refused, the stream, too."""
    running = await serve(static_flag(answer("f", True)))
    stream = v2_grpc.ServiceStub(running.channel).EventStream(
        v2.EventStreamRequest(), metadata=(("flagd-selector", selector),)
    )

    assert status is (await ask_in_vain(running, 2, "Boolean", "f", selector=selector)).code()
    assert status is await stream.code()


async def test_not_ready_is_unavailable(serve: Serve) -> None:
    """Before flags are loaded the server says so, and clients may ask again."""
    error = await ask_in_vain(await serve(holder=Holder("default/production")), 2, "Boolean", "f")

    assert grpc.StatusCode.UNAVAILABLE is error.code()


async def test_resolve_all(serve: Serve) -> None:
    """Version 1's bulk reply: disabled and failing flags are in, with zero values; those without a default are not."""
    running = await serve(
        static_flag(answer("number", 3)),
        static_flag(answer("text", "x", metadata={"m": "n"})),
        static_flag(answer("object", {"a": 1.0})),
        chooses("rule", "n", lambda n: n == 1.0),
        static_flag(answer("off", None, variant=None, reason=Reason.DISABLED), type_=ValueType.BOOLEAN),
        static_flag(failure("broken", ErrorCode.PARSE_ERROR, "no"), type_=ValueType.STRING),
        static_flag(failure("quarantined", ErrorCode.GENERAL, "no")),
        static_flag(answer("matches", True, reason=Reason.TARGETING_MATCH), has_default=False),
        static_flag(answer("nothing", None, variant=None, reason=Reason.DEFAULT)),
    )
    request = v1.ResolveAllRequest()
    request.context.update({"n": 1})
    reply = await v1_grpc.ServiceStub(running.channel).ResolveAll(request)

    def row(key: str) -> tuple[Any, ...]:
        flag = reply.flags[key]
        member = flag.WhichOneof("value")
        return flag.reason, flag.variant, member, plain(getattr(flag, member)) if member else None

    assert {"number", "text", "object", "rule", "off", "broken", "quarantined"} == set(reply.flags)
    assert ("STATIC", "on", "double_value", 3.0) == row("number")
    assert ("STATIC", "on", "string_value", "x") == row("text")
    assert ("STATIC", "on", "object_value", {"a": 1.0}) == row("object")
    assert ("TARGETING_MATCH", "on", "bool_value", True) == row("rule")
    assert ("DISABLED", "", "bool_value", False) == row("off")
    assert ("ERROR", "", "string_value", "") == row("broken")
    assert ("ERROR", "", None, None) == row("quarantined")
    assert {"m": "n"} == plain(reply.flags["text"].metadata)
    assert not reply.HasField("metadata")


async def test_resolve_all_echoes_the_selector(serve: Serve) -> None:
    """The reply's own metadata is the selector, and nothing else."""
    running = await serve(static_flag(answer("f", True)))
    selector = (("flagd-selector", "flagSetId=default/production"),)
    reply = await v1_grpc.ServiceStub(running.channel).ResolveAll(
        v1.ResolveAllRequest(),
        metadata=selector,
    )

    assert {"flagSetId": "default/production"} == plain(reply.metadata) == plain(reply.flags["f"].metadata)


@pytest.mark.parametrize("value", [{"n": 10**400}, {"s": "\ud800"}, {"o": object()}], ids=["number", "text", "thing"])
async def test_value_that_protobuf_cannot_hold(serve: Serve, value: Json) -> None:
    """A value that got past validation is INTERNAL by name; the rest of a bulk reply is whole."""
    running = await serve(static_flag(answer("bad", value)), static_flag(answer("good", True)))
    error = await ask_in_vain(running, 2, "Object", "bad")
    reply = await v1_grpc.ServiceStub(running.channel).ResolveAll(v1.ResolveAllRequest())

    assert grpc.StatusCode.INTERNAL is error.code()
    assert "'bad'" in str(error.details())
    assert ("ERROR", True) == (reply.flags["bad"].reason, reply.flags["good"].bool_value)


@pytest.mark.parametrize("version", [1, 2])
async def test_event_stream_is_ready_at_once(serve: Serve, version: int) -> None:
    """The first message of a stream is provider_ready; providers wait for it."""
    running = await serve()
    stream = STUBS[version](running.channel).EventStream(MESSAGES[version].EventStreamRequest(), timeout=5)

    assert "provider_ready" == (await stream.read()).type
    stream.cancel()
