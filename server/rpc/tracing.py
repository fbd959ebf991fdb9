"""Give every call of a table a span. Imported only when tracing is on.

Health and reflection have none: they are asked every few seconds and say nothing of flags.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, Final

from opentelemetry import context as contexts
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, set_span_in_context

from server.operations.tracing import TRACE_PARENT, TRACE_STATE, parent_of
from server.rpc.call import Abort, Call, abort_for
from server.rpc.metrics import FAULTS
from server.rpc.status import Status
from server.rpc.table import Handler, Kind, Table

UNTRACED: Final = "/grpc."
_STATUS_CODE: Final = "rpc.grpc.status_code"


def traced(table: Table, tracer: Tracer) -> Table:
    """The same table, with a span around every handler."""
    return {
        path: handler if path.startswith(UNTRACED) else _traced(handler, path, tracer)
        for path, handler in table.items()
    }


def _traced(handler: Handler, path: str, tracer: Tracer) -> Handler:
    service, _, method = path.removeprefix("/").partition("/")
    attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}

    def start(call: Call) -> Span:
        parent = parent_of(call.metadata(TRACE_PARENT), call.metadata(TRACE_STATE))
        return tracer.start_span(path.removeprefix("/"), context=parent, kind=SpanKind.SERVER, attributes=attributes)

    match handler.kind:
        case Kind.UNARY_SYNC:
            return Handler(handler.kind, _unary_sync(handler.function, path, start))
        case Kind.UNARY_ASYNC:
            return Handler(handler.kind, _unary_async(handler.function, path, start))
        case Kind.SERVER_STREAM | Kind.BIDI:
            return Handler(handler.kind, _stream(handler.function, path, start))


def _unary_sync(
    function: Callable[[bytes, Call], bytes], path: str, start: Callable[[Call], Span]
) -> Callable[[bytes, Call], bytes]:
    def serve(raw: bytes, call: Call) -> bytes:
        span = start(call)
        token = contexts.attach(set_span_in_context(span))
        try:
            reply = function(raw, call)
            span.set_attribute(_STATUS_CODE, 0)
        except Exception as error:
            raise _failed(span, error, path) from None
        finally:
            contexts.detach(token)
            span.end()
        return reply

    return serve


def _unary_async(function: Any, path: str, start: Callable[[Call], Span]) -> Any:
    async def serve(raw: bytes, call: Call) -> bytes:
        span = start(call)
        token = contexts.attach(set_span_in_context(span))
        try:
            reply: bytes = await function(raw, call)
            span.set_attribute(_STATUS_CODE, 0)
        except Exception as error:
            raise _failed(span, error, path) from None
        finally:
            contexts.detach(token)
            span.end()
        return reply

    return serve


def _stream(function: Any, path: str, start: Callable[[Call], Span]) -> Any:
    async def serve(messages: Any, call: Call) -> AsyncIterator[bytes]:
        span = start(call)
        # Never detached: a stream has a task of its own, whose context ends with it.
        contexts.attach(set_span_in_context(span))
        try:
            async with aclosing(function(messages, call)) as replies:
                async for reply in replies:
                    yield reply
            span.set_attribute(_STATUS_CODE, 0)
        except Exception as error:
            raise _failed(span, error, path) from None
        finally:
            span.end()

    return serve


def _failed(span: Span, error: Exception, path: str) -> Abort:
    """The refusal that the caller gets; the span has its code, and no text, which may be the caller's."""
    abort = abort_for(error, path)
    span.set_attribute(_STATUS_CODE, int(abort.code))
    span.set_attribute("error.type", Status(abort.code).name)
    if abort.code in FAULTS:
        span.set_status(StatusCode.ERROR)
    return abort
