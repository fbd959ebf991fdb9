"""Measure HTTP requests by route, and log those that failed or were slow."""

import logging
from collections.abc import AsyncIterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.operations.figures import CallFigures
from server.operations.requests import RequestLog
from server.web.observed import observed
from tests.web.asgi import ask

KEY = "/flags/{key}"


async def flag(request: Request) -> Response:
    """Answer as the key says."""
    match request.path_params["key"]:
        case "gone":
            return PlainTextResponse("no such flag", status_code=404)
        case "broken":
            raise KeyError("alice@example.com")
    return PlainTextResponse("on")


def make(figures: CallFigures, *, slow_s: float = 60.0) -> ASGIApp:
    """An application with one route, observed."""
    app = Starlette(routes=[Route(KEY, flag)])
    return observed(app, figures, request_log=RequestLog(slow_s=slow_s))


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What is logged."""
    caplog.set_level(logging.DEBUG, "flagstaff")
    return caplog


async def test_requests_are_counted_by_route(log: pytest.LogCaptureFixture) -> None:
    """Not by path: keys and paths that nobody serves are the callers'."""
    figures = CallFigures()
    app = make(figures)
    for path in ("/flags/a", "/flags/b", "/flags/gone", "/nothing", "/nothing/else"):
        await ask(app, path)

    assert {KEY: {"200": 2, "404": 1}, "other": {"404": 2}} == {route: each.ended for route, each in figures.items()}
    assert 3 == sum(figures[KEY].took.counts)


@pytest.mark.parametrize("sent", ["my-id", "not well formed"])
async def test_a_failed_request_has_an_id(log: pytest.LogCaptureFixture, sent: str) -> None:
    """In a header of the reply and in the log, with the route, the status and the flag set that was asked for."""
    headers = [("X-Request-Id", sent), ("Flagd-Selector", "flagSetId=shop/production")]
    reply = await ask(make(CallFigures()), "/flags/gone?token=secret", headers=headers)

    told = reply.headers["x-request-id"]
    assert (sent == "my-id") == (told == sent)
    assert [("request was refused", f"GET {KEY}", "404", told, "flagSetId=shop/production")] == [
        (line.getMessage(), *(vars(line)[name] for name in ("method", "status", "request_id", "flag_set")))
        for line in log.records
    ]


async def test_a_slow_request_is_logged(log: pytest.LogCaptureFixture) -> None:
    """And a fast one is not, nor has it an id."""
    fast = await ask(make(CallFigures()), "/flags/a")
    slow = await ask(make(CallFigures(), slow_s=0.0), "/flags/a")

    assert (False, True) == ("x-request-id" in fast.headers, "x-request-id" in slow.headers)
    assert ["request was slow"] == [line.getMessage() for line in log.records]


async def test_an_unexpected_error_is_told_without_its_text(log: pytest.LogCaptureFixture) -> None:
    """One line with the id and where it was raised; the server goes on."""
    figures = CallFigures()
    reply = await ask(make(figures), "/flags/broken")

    assert (500, {"500": 1}) == (reply.status, figures[KEY].ended)
    line = next(record for record in log.records if record.name == "flagstaff.web")
    assert (reply.headers["x-request-id"], "KeyError") == (vars(line)["request_id"], vars(line)["raised"][-1])
    assert [] == [record for record in log.records if "alice" in f"{record.getMessage()}{vars(record)}"]


async def test_an_application_that_fails_without_an_answer() -> None:
    """It is answered with 500."""

    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("no")

    figures = CallFigures()
    reply = await ask(observed(broken, figures, request_log=RequestLog()), "/x")

    assert (500, {"500": 1}) == (reply.status, figures["other"].ended)


async def test_event_streams_are_open_while_they_are_open() -> None:
    """Counted from their first byte to their end."""
    figures = CallFigures()
    open_streams: list[int] = []

    async def events(request: Request) -> Response:
        async def lines() -> AsyncIterator[bytes]:
            open_streams.append(figures["/events"].open_streams)
            yield b": ready\n\n"

        return StreamingResponse(lines(), media_type="text/event-stream")

    app = observed(Starlette(routes=[Route("/events", events)]), figures, request_log=RequestLog())
    await ask(app, "/events")

    assert ([1], 0) == (open_streams, figures["/events"].open_streams)


async def test_other_scopes_pass() -> None:
    """What is no request is none of our business."""
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    async def receive() -> Message:
        return {}

    async def send(message: Message) -> None:
        return None

    figures = CallFigures()
    await observed(app, figures, request_log=RequestLog())({"type": "lifespan"}, receive, send)

    assert (["lifespan"], {}) == (seen, figures)
