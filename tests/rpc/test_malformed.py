"""Whatever bytes arrive at whatever method, the status is the client's fault and the server goes on."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import grpc
import grpc.aio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protos.flagstaff.v1 import evaluation_pb2 as ours
from server.core.limits import CONTEXT_BYTES_MAX
from server.live.holder import Holder
from server.live.watch import Hub
from server.rpc.call import Abort, abort_for
from server.rpc.convert import field
from server.rpc.services import make_services
from server.rpc.status import Status
from server.rpc.table import Kind
from tests.fakes import FakeCall, answer, chooses, fake_clock, holder_of, rule_flag, snapshot_of, static_flag
from tests.rpc.conftest import Serve

ALLOWED = {Status.OK, Status.INVALID_ARGUMENT, Status.NOT_FOUND, Status.RESOURCE_EXHAUSTED}

MALFORMED = {
    "garbage": b"\xff\xff\xff\xff",
    "cut": b"\x0a\x7f",
    "text not UTF-8": b"\x0a\x02\xff\xfe\x12\x02\xff\xfe",
    "group without end": b"\x0b",
    "tag zero": b"\x00",
}


def holder() -> Holder:
    """A set with a flag of each way of reading."""
    everything = answer("all", True)
    return holder_of(
        snapshot_of(
            static_flag(answer("static", True)),
            chooses("rule", "tier", lambda tier: tier == "pro"),
            rule_flag("all", lambda context, now: everything, reads=None, type_=everything.type),  # type: ignore[arg-type]
        )
    )


def malformed(path: str) -> Iterable[tuple[str, bytes]]:
    """What a method must refuse; a request without fields has no text that could be wrong."""
    is_empty = path.endswith(("EventStream", "GetMetadata", "List"))
    return [(name, raw) for name, raw in MALFORMED.items() if not (is_empty and "UTF-8" in name)]


UNARY = sorted(
    path for path, each in make_services(holder(), Hub(), clock=fake_clock).table.items() if each.kind is not Kind.BIDI
)


@pytest.mark.parametrize(
    ("path", "raw"), [pytest.param(path, raw, id=f"{path} {name}") for path in UNARY for name, raw in malformed(path)]
)
async def test_malformed_request(serve: Serve, path: str, raw: bytes) -> None:
    """Bytes that are no message are INVALID_ARGUMENT on every method, and the next call is answered."""
    running = await serve(holder=holder())
    method: Any = running.channel.unary_stream(path, None, None)

    assert grpc.StatusCode.INVALID_ARGUMENT is await method(raw, timeout=5).code()
    assert await running.call("/flagstaff.v1.EvaluationService/Evaluate", field(1, b"static"))


@pytest.mark.parametrize("service", ["v1", "v1alpha"])
async def test_malformed_reflection(serve: Serve, service: str) -> None:
    """A stream whose messages make no sense ends with INVALID_ARGUMENT."""
    running = await serve()

    def send() -> Iterator[bytes]:
        yield b"\xff"

    method: Any = running.channel.stream_stream(
        f"/grpc.reflection.{service}.ServerReflection/ServerReflectionInfo", None, None
    )

    assert grpc.StatusCode.INVALID_ARGUMENT is await method(send(), timeout=5).code()


CONTEXTS = st.binary(max_size=60) | st.sampled_from(
    [field(1, field(1, b"tier") + field(2, value)) for value in (b"\x1a\x03pro", b"\x1a\x02\xff\xfe", b"\x11\x00", b"")]
)
REQUESTS = st.binary(max_size=80) | st.builds(
    lambda key, context, rest: field(1, key) + field(2, context) + rest,
    st.sampled_from([b"static", b"rule", b"all", b"gone", b"\xff"]),
    CONTEXTS,
    st.binary(max_size=8),
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(UNARY), REQUESTS)
def test_any_bytes_have_an_expected_status(path: str, raw: bytes) -> None:
    """No bytes reach a status that means a fault of ours."""
    handler = make_services(holder(), Hub(), clock=fake_clock).table[path]
    status = Status.OK
    try:
        match handler.kind:
            case Kind.UNARY_SYNC:
                handler.function(raw, FakeCall())
            case Kind.UNARY_ASYNC:
                _step(handler.function(raw, FakeCall()))
            case _:
                _step(anext(handler.function(raw, FakeCall())))
    except Exception as error:
        status = abort_for(error, path, request_id=lambda: "test").code

    assert status in ALLOWED


def _step(awaitable: Any) -> None:
    with contextlib.suppress(StopIteration):
        awaitable.send(None)


@given(REQUESTS, st.integers(0, 2**64 - 1))
def test_any_stream_message_is_answered(raw: bytes, identifier: int) -> None:
    """Every message of a stream has one reply, whose id is known where the message began with it."""
    table = make_services(holder(), Hub(), clock=fake_clock).table
    function = table["/flagstaff.v1.EvaluationService/EvaluateStream"].function
    head = ours.EvaluateStreamRequest(id=identifier).SerializeToString()

    async def messages() -> Any:
        yield head + field(2, b"static") + raw

    try:
        anext(function(messages(), FakeCall())).send(None)
        raise AssertionError("a reply was expected")
    except StopIteration as reply:
        answered = ours.EvaluateStreamResponse.FromString(reply.value)

    assert answered.WhichOneof("outcome")
    assert answered.error.code in ALLOWED


@pytest.mark.parametrize(
    "path", ["/flagstaff.v1.EvaluationService/Evaluate", "/flagd.evaluation.v2.Service/ResolveBoolean"]
)
@pytest.mark.parametrize("key", [b"static", b"gone"])
async def test_large_context_is_refused_whatever_the_flag(serve: Serve, path: str, key: bytes) -> None:
    """A context one byte too large is RESOURCE_EXHAUSTED, also where no flag would read it."""
    running = await serve(holder=holder())
    raw = field(1, key) + field(2, b"\x00" * (CONTEXT_BYTES_MAX + 1))

    assert grpc.StatusCode.RESOURCE_EXHAUSTED is (await running.refused(path, raw))[0]


def test_unexpected_error_is_internal_with_an_id(caplog: pytest.LogCaptureFixture) -> None:
    """What nobody foresaw becomes INTERNAL with an id, and is logged once under that id."""
    abort = abort_for(KeyError("secret"), "/a.B/C", request_id=lambda: "id-1")

    assert (Status.INTERNAL, True, False) == (abort.code, "id-1" in abort.message, "secret" in abort.message)
    assert ["/a.B/C failed, request id-1"] == [record.getMessage() for record in caplog.records]


def test_long_message_is_cut() -> None:
    """A status message stays within what a header may hold."""
    assert 1_000 == len(Abort(Status.INTERNAL, "x" * 5_000).message)
