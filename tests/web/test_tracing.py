"""Give HTTP requests a span with the evaluations in it."""

import pytest
from opentelemetry.trace import StatusCode

from server.live.watch import Hub
from server.operations.tracing import seen_by_trace
from server.web.app import make_app
from server.web.tracing import traced
from tests.fakes import answer, fake_clock, holder_of, snapshot_of, static_flag
from tests.spans import Spans, attributes, events, trace_id
from tests.web.asgi import Reply, ask

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
BODY = b'{"context": {"targetingKey": "alice@example.com"}}'


async def evaluate(spans: Spans, path: str, *, method: str = "POST") -> Reply:
    """One request with a trace of its own, to a server with one flag."""
    holder = holder_of(snapshot_of(static_flag(answer("a", True))))
    app = make_app(holder, Hub(), clock=fake_clock, leaving=lambda: False, seen=seen_by_trace)
    headers = [("content-type", "application/json"), ("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01")]
    return await ask(traced(app, spans.tracer), path, method=method, headers=headers, body=BODY)


async def test_an_evaluation_is_an_event() -> None:
    """In the caller's trace, under the route's name; nothing of the path, the query or the context is told."""
    spans = Spans()
    reply = await evaluate(spans, "/ofrep/v1/evaluate/flags/a?token=secret")
    span = spans.only

    assert (200, TRACE, "POST /ofrep/v1/evaluate/flags/{key:path}") == (reply.status, trace_id(span), span.name)
    assert ["a"] == [told["feature_flag.key"] for _, told in events(span)]
    assert 200 == attributes(span)["http.response.status_code"]
    assert not {"alice", "secret"} & {word for word in ("alice", "secret") if word in span.to_json()}


async def test_a_path_that_is_nowhere() -> None:
    """Its span has the method's name alone."""
    spans = Spans()
    await evaluate(spans, "/alice", method="GET")

    assert ("GET", 404) == (spans.only.name, attributes(spans.only)["http.response.status_code"])


async def test_a_fault_of_the_server() -> None:
    """Puts the span in error."""

    async def broken(scope: object, receive: object, send: object) -> None:
        await send({"type": "http.response.start", "status": 500, "headers": []})  # type: ignore[operator]

    spans = Spans()
    await ask(traced(broken, spans.tracer), "/x")

    assert StatusCode.ERROR is spans.only.status.status_code


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
async def test_probes_have_no_span(path: str) -> None:
    """They are asked every few seconds."""
    spans = Spans()
    await evaluate(spans, path, method="GET")

    assert [] == spans.ended
