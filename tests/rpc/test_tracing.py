"""Give calls a span with the evaluations in it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import StatusCode

from server.core.errors import NotFound
from server.core.evaluation.snapshot import Snapshot
from server.core.flags import ValueType
from server.core.resolution import ErrorCode
from server.live.watch import Hub
from server.operations.figures import CallFigures
from server.operations.requests import RequestLog
from server.operations.tracing import seen_by_trace
from server.rpc.call import Abort, Call
from server.rpc.metrics import measured
from server.rpc.services import make_services
from server.rpc.table import Table, bidi, server_stream, unary_async, unary_sync
from server.rpc.tracing import traced
from tests.fakes import FakeCall, answer, chooses, failure, fake_clock, holder_of, rule_flag, snapshot_of, struct_bytes
from tests.spans import Spans, attributes, events, trace_id

OURS: Final = "/flagstaff.v1.EvaluationService/"
FLAGD: Final = "/flagd.evaluation.v2.Service/ResolveBoolean"
TRACE: Final = "4bf92f3577b34da6a3ce929d0e0e4736"
EVENT: Final = {
    "feature_flag.key": "a",
    "feature_flag.provider.name": "flagstaff",
    "feature_flag.set.id": "default/production",
    "feature_flag.version": "7",
}


def request(key: str = "a", **context: Any) -> bytes:
    """The bytes of a request for one flag."""
    raw = struct_bytes(context)
    return b"\x0a" + bytes([len(key)]) + key.encode() + b"\x12" + bytes([len(raw)]) + raw


def snapshot() -> Snapshot:
    """A flag that is on for the plan `gold`, and one that fails."""
    broken = failure("b", ErrorCode.PARSE_ERROR, "its rule is none")
    return snapshot_of(
        chooses("a", "plan", lambda plan: plan == "gold"),
        rule_flag("b", lambda context, now: broken, reads=[], type_=ValueType.BOOLEAN),
    )


def table_of(spans: Spans) -> Any:
    """Every service, measured and traced as the server does it."""
    holder = holder_of(snapshot())
    services = make_services(holder, Hub(), clock=fake_clock, seen_by=lambda protocol: seen_by_trace)
    return traced(measured(services.table, CallFigures(), log=RequestLog()), spans.tracer)


def test_an_evaluation_is_an_event() -> None:
    """With flag, variant, reason, set and revision, in OpenTelemetry's words; and nothing of the context."""
    spans = Spans()
    table_of(spans)[f"{OURS}Evaluate"].function(request(plan="gold", email="alice@example.com"), FakeCall())
    result = {"feature_flag.result.variant": "on", "feature_flag.result.reason": "targeting_match"}

    assert [("feature_flag.evaluation", {**EVENT, **result})] == events(spans.only)
    assert {
        "rpc.system": "grpc", "rpc.service": "flagstaff.v1.EvaluationService", "rpc.method": "Evaluate",
        "rpc.grpc.status_code": 0,
    } == attributes(spans.only)  # fmt: skip
    assert "alice" not in spans.only.to_json()


@pytest.mark.parametrize(
    ("key", "error", "code", "status"),
    [("b", "parse_error", 15, StatusCode.ERROR), ("absent", "flag_not_found", 5, StatusCode.UNSET)],
)
def test_a_failed_evaluation(key: str, error: str, code: int, status: StatusCode) -> None:
    """Has the error's type; the span has gRPC's status, and is in error only by a fault of the server."""
    spans = Spans()
    with pytest.raises(Abort):
        table_of(spans)[FLAGD].function(request(key), FakeCall())

    ((_, told),) = events(spans.only)
    assert (error, "error", key) == tuple(
        told[name] for name in ("error.type", "feature_flag.result.reason", "feature_flag.key")
    )
    assert (code, status) == (attributes(spans.only)["rpc.grpc.status_code"], spans.only.status.status_code)


@pytest.mark.parametrize("state", [None, "vendor=1"])
def test_the_callers_trace_goes_on(state: str | None) -> None:
    """By W3C's headers."""
    spans = Spans(ALWAYS_OFF)
    sent = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01", **({} if state is None else {"tracestate": state})}
    table_of(spans)[FLAGD].function(request(), FakeCall(sent))
    span = spans.only

    assert (TRACE, True) == (trace_id(span), span.parent is not None)
    assert state == (span.context.trace_state.to_header() or None if span.context else "")


@pytest.mark.parametrize("sent", [f"00-{TRACE}-00f067aa0ba902b7-00", "nonsense", "00-0-0-01"])
def test_a_trace_that_is_not_sampled(sent: str) -> None:
    """The caller decided, or nobody did and our own share says no: nothing is recorded, the call is answered."""
    spans = Spans(ALWAYS_OFF)
    reply = table_of(spans)[FLAGD].function(request(), FakeCall({"traceparent": sent}))

    assert (True, []) == (len(reply) > 0, spans.ended)


async def test_a_batch_tells_distinct_answers() -> None:
    """Once each, with how often it was given."""
    spans = Spans()
    gold, other = (struct_bytes({"plan": plan}) for plan in ("gold", "none"))
    raw = b"\x0a\x01a" + b"".join(b"\x12" + bytes([len(each)]) + each for each in (gold, other, other))
    await table_of(spans)[f"{OURS}EvaluateBatch"].function(raw, FakeCall())

    told = {
        each["feature_flag.result.variant"]: each.get("flagstaff.evaluation.count") for _, each in events(spans.only)
    }
    assert {"on": None, "off": 2} == told


async def test_streams_have_one_span() -> None:
    """From their start to their end, with an event for each answer."""
    spans = Spans()

    async def messages() -> AsyncIterator[bytes]:
        yield request(plan="gold")
        yield request(plan="none")

    async def run() -> int:
        stream = table_of(spans)[f"{OURS}EvaluateStream"].function(messages(), FakeCall())
        return len([reply async for reply in stream])

    assert (2, 2) == (await asyncio.create_task(run()), len(events(spans.only)))


async def test_every_kind_tells_how_it_failed() -> None:
    """The caller still gets the refusal, and the span no text of it."""

    def fail() -> None:
        raise NotFound("no alice@example.com here")

    def unary(raw: bytes, call: Call) -> bytes:
        fail()
        return raw

    async def later(raw: bytes, call: Call) -> bytes:
        return unary(raw, call)

    async def stream(raw: Any, call: Call) -> AsyncIterator[bytes]:
        yield unary(b"", call)

    spans = Spans()
    table: Table = {"/a.B/U": unary_sync(unary), "/a.B/L": unary_async(later), "/a.B/S": server_stream(stream)}
    wrapped: Any = traced({**table, "/a.B/X": bidi(stream)}, spans.tracer)

    async def run(path: str) -> None:
        result = wrapped[path].function(b"", FakeCall())
        if path == "/a.B/L":
            await result
        [reply async for reply in result]

    for path in wrapped:
        with pytest.raises(Abort, match="NOT_FOUND: 5>, 'no alice"):
            await asyncio.create_task(run(path))

    assert [(name[1:], 5) for name in wrapped] == [
        (span.name, attributes(span)["rpc.grpc.status_code"]) for span in spans.ended
    ]
    assert [] == [span for span in spans.ended if "alice" in span.to_json()]


def test_health_has_no_span() -> None:
    """It is asked every few seconds."""
    spans = Spans()
    table_of(spans)["/grpc.health.v1.Health/Check"].function(b"", FakeCall())

    assert [] == spans.ended


def test_nothing_is_told_without_a_span() -> None:
    """An evaluation outside of a traced call."""
    seen_by_trace(snapshot(), answer("a", True))
