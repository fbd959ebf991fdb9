"""Measure every call of a table, and log those that failed or were slow.

A call that goes well costs two looks at the clock and three additions; everything else is paid by the calls that fail.
"""

import asyncio
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from time import perf_counter
from typing import Any, Final

from google.protobuf.message import DecodeError

from protos.flagstaff.raw.v1.views_pb2 import BatchView, ResolveView
from server.operations.figures import SECONDS_BOUNDS, CallFigures, MethodFigures
from server.operations.requests import HEADER, Finished, RequestLog, request_id
from server.rpc.call import Abort, Call, OrderlyEnd, abort_for
from server.rpc.evaluation import SERVICE
from server.rpc.flagd_evaluation import SELECTOR_HEADER
from server.rpc.status import Status
from server.rpc.table import Bidi, Handler, Kind, ServerStream, Table, UnaryAsync, UnarySync

FAULTS: Final = {Status.UNKNOWN, Status.INTERNAL, Status.UNAVAILABLE, Status.DATA_LOSS}
"""Statuses that are the server's fault and not the caller's."""

_OK: Final = Status.OK.name
_CANCELLED: Final = Status.CANCELLED.name
_NAMES_SET: Final[dict[str, Any]] = {f"/{SERVICE}/Evaluate": ResolveView, f"/{SERVICE}/EvaluateBatch": BatchView}
"""Methods whose message names the flag set."""


def measured(table: Table, figures: CallFigures, *, log: RequestLog) -> Table:
    """The same table, with every handler measured."""
    return {path: _measured(handler, _Method(path, figures[path], log)) for path, handler in table.items()}


class _Method:
    """What the wrappers of one method share."""

    def __init__(self, path: str, figures: MethodFigures, log: RequestLog) -> None:
        self.path, self.figures, self.log = path, figures, log

    def answered(self, call: Call, raw: bytes, took_s: float) -> None:
        """Log a call that went well, and give its caller the id."""
        self.log.answered(self._finished(call, raw, took_s, _OK))

    def stream_ended(self, call: Call, raw: bytes, took_s: float, status: str) -> None:
        """Count a stream that ended without an error. How long it was open is not a matter of speed."""
        self.figures.ended[status] += 1
        if self.log.access_log:
            self.log.streamed(self._finished(call, raw, took_s, status))

    def refusal(self, error: Exception, call: Call, raw: bytes, took_s: float) -> Abort:
        """How a call ends whose handler raised: counted, logged, and with the id under which it is logged."""
        known = error.request_id if isinstance(error, Abort) else ""
        identifier = known or request_id(call.metadata(HEADER))
        abort = abort_for(error, self.path, request_id=lambda: identifier)
        # A refusal with OK is a defect, which doors answer with INTERNAL.
        status = abort.code if abort.code is not Status.OK else Status.INTERNAL
        finished = self._finished(call, raw, took_s, status.name, identifier)
        self.figures.ended[finished.status] += 1
        self.log.failed(finished, is_fault=status in FAULTS)
        return abort

    def _finished(self, call: Call, raw: bytes, took_s: float, status: str, identifier: str | None = None) -> Finished:
        identifier = identifier or request_id(call.metadata(HEADER))
        call.trailing_metadata.append((HEADER, identifier))
        return Finished(self.path, status, identifier, took_s, self._flag_set(call, raw))

    def _flag_set(self, call: Call, raw: bytes) -> str:
        view = _NAMES_SET.get(self.path)
        if view is None:
            return call.metadata(SELECTOR_HEADER) or ""
        try:
            flag_set: str = view.FromString(raw).flag_set
        except DecodeError:
            return ""
        return flag_set


def _measured(handler: Handler, method: _Method) -> Handler:
    wrap: Callable[[Any, _Method], Callable[..., Any]]
    match handler.kind:
        case Kind.UNARY_SYNC:
            wrap = _unary_sync
        case Kind.UNARY_ASYNC:
            wrap = _unary_async
        case Kind.SERVER_STREAM:
            wrap = _server_stream
        case Kind.BIDI:
            wrap = _bidi
    return Handler(handler.kind, wrap(handler.function, method))


def _unary_sync(function: UnarySync, method: _Method) -> UnarySync:
    took, ended, noted_s = method.figures.took, method.figures.ended, method.log.noted_s
    counts = took.counts

    def serve(raw: bytes, call: Call) -> bytes:
        began = perf_counter()
        try:
            reply = function(raw, call)
        except Exception as error:
            took_s = perf_counter() - began
            took.add(took_s)
            raise method.refusal(error, call, raw, took_s) from None
        took_s = perf_counter() - began
        # `took.add`, written out: this is the one place where its call would be felt.
        counts[bisect_left(SECONDS_BOUNDS, took_s)] += 1
        took.sum_s += took_s
        ended[_OK] += 1
        if took_s >= noted_s:
            method.answered(call, raw, took_s)
        return reply

    return serve


def _unary_async(function: UnaryAsync, method: _Method) -> UnaryAsync:
    took, ended = method.figures.took, method.figures.ended

    async def serve(raw: bytes, call: Call) -> bytes:
        began = perf_counter()
        try:
            reply = await function(raw, call)
        except asyncio.CancelledError:
            ended[_CANCELLED] += 1
            raise
        except Exception as error:
            took_s = perf_counter() - began
            took.add(took_s)
            raise method.refusal(error, call, raw, took_s) from None
        took_s = perf_counter() - began
        took.add(took_s)
        ended[_OK] += 1
        if took_s >= method.log.noted_s:
            method.answered(call, raw, took_s)
        return reply

    return serve


def _server_stream(function: ServerStream, method: _Method) -> ServerStream:
    def serve(raw: bytes, call: Call) -> AsyncIterator[bytes]:
        return _stream(function(raw, call), call, raw, method)

    return serve


def _bidi(function: Bidi, method: _Method) -> Bidi:
    def serve(messages: AsyncIterator[bytes], call: Call) -> AsyncIterator[bytes]:
        return _stream(function(messages, call), call, b"", method)

    return serve


async def _stream(replies: AsyncIterator[bytes], call: Call, raw: bytes, method: _Method) -> AsyncIterator[bytes]:
    figures = method.figures
    began = perf_counter()
    # What stays when neither the end nor an error is reached: the client left, or the server cut it off.
    status = _CANCELLED
    figures.open_streams += 1
    try:
        async with aclosing(replies) as messages:  # type: ignore[type-var]
            async for reply in messages:
                figures.sent += 1
                yield reply
        status = _OK
    except OrderlyEnd as end:
        # Counted by its status; a warning for each stream at every restart would hide the ones that matter.
        status = end.code.name
        raise
    except Exception as error:
        status = ""
        raise method.refusal(error, call, raw, perf_counter() - began) from None
    finally:
        figures.open_streams -= 1
        if status:
            method.stream_ended(call, raw, perf_counter() - began, status)
