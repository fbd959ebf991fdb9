"""Give every HTTP request a span, named by its route. Imported only when tracing is on."""

from typing import Final

from opentelemetry import context as contexts
from opentelemetry.trace import SpanKind, StatusCode, Tracer, set_span_in_context
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.operations.tracing import TRACE_PARENT, TRACE_STATE, parent_of

UNTRACED: Final = frozenset({"/healthz", "/readyz", "/metrics"})
METHOD_CHARS_MAX: Final = 16
SERVER_ERROR: Final = 500


def traced(app: ASGIApp, tracer: Tracer) -> ASGIApp:
    """The same application, with a span around every request; probes and scrapes have none."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in UNTRACED:
            await app(scope, receive, send)
            return
        method = scope["method"][:METHOD_CHARS_MAX]
        parent = parent_of(_header(scope, TRACE_PARENT), _header(scope, TRACE_STATE))
        span = tracer.start_span(
            method, context=parent, kind=SpanKind.SERVER, attributes={"http.request.method": method}
        )

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                span.set_attribute("http.response.status_code", message["status"])
                if message["status"] >= SERVER_ERROR:
                    span.set_status(StatusCode.ERROR)
                # Known only now. Neither path nor query are told: they are the caller's.
                route = getattr(scope.get("route"), "path", None)
                if route is not None:
                    span.update_name(f"{method} {route}")
                    span.set_attribute("http.route", route)
            await send(message)

        token = contexts.attach(set_span_in_context(span))
        try:
            await app(scope, receive, send_on)
        finally:
            contexts.detach(token)
            span.end()

    return serve


def _header(scope: Scope, name: str) -> str | None:
    wanted = name.encode()
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == wanted), None)
