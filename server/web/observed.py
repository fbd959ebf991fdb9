"""Measure every HTTP request, and log those that failed or were slow.

A request is named by its route (`/ofrep/v1/evaluate/flags/{key}`) and never by its path or query, which are the
caller's.
"""

import logging
from collections.abc import Awaitable
from time import perf_counter
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.operations.figures import CallFigures, MethodFigures
from server.operations.requests import HEADER, Finished, RequestLog, request_id, where_raised

NO_ROUTE: Final = "other"
METHOD_CHARS_MAX: Final = 16
CLIENT_ERROR: Final = 400
SERVER_ERROR: Final = 500

_HEADER: Final = HEADER.encode()
_SELECTOR: Final = b"flagd-selector"
_EVENT_STREAM: Final = b"text/event-stream"

log = logging.getLogger("flagstaff.web")


def observed(app: ASGIApp, figures: CallFigures, *, request_log: RequestLog) -> ASGIApp:
    """The same application, with every request measured."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await _Exchange(scope, send, figures, request_log).run(app, receive)
        else:
            await app(scope, receive, send)

    return serve


class _Exchange:
    """One request and its reply."""

    __slots__ = ("_all_figures", "_began", "_figures", "_identifier", "_is_stream", "_log", "_scope", "_send")

    def __init__(self, scope: Scope, send: Send, figures: CallFigures, request_log: RequestLog) -> None:
        self._scope, self._send, self._all_figures, self._log = scope, send, figures, request_log
        self._began = perf_counter()
        self._figures: MethodFigures | None = None
        self._is_stream = False
        self._identifier = ""

    async def run(self, app: ASGIApp, receive: Receive) -> None:
        try:
            await app(self._scope, receive, self.send)
        except Exception as error:
            # Starlette has most often answered with 500 by now, and raises so that somebody logs it.
            if self._figures is None:
                await self.send({"type": "http.response.start", "status": SERVER_ERROR, "headers": []})
                await self.send({"type": "http.response.body", "body": b""})
            extra = {"method": self._name(), "request_id": self._identifier, "raised": where_raised(error)}
            log.error("an HTTP handler failed", extra=extra)
        finally:
            if self._is_stream and self._figures is not None:
                self._figures.open_streams -= 1

    def send(self, message: Message) -> Awaitable[None]:
        if self._figures is None and message["type"] == "http.response.start":
            self._begin(message)
        # Awaited by the caller, which saves a coroutine for each part of a reply.
        return self._send(message)

    def _begin(self, message: Message) -> None:
        took_s = perf_counter() - self._began
        status: int = message["status"]
        figures = self._figures = self._all_figures[self._route()]
        figures.ended[str(status)] += 1
        figures.took.add(took_s)
        for name, value in message["headers"]:
            if name == b"content-type":
                if value.startswith(_EVENT_STREAM):
                    self._is_stream = True
                    figures.open_streams += 1
                break
        if status >= CLIENT_ERROR or took_s >= self._log.noted_s:
            self._note(message, status, took_s)

    def _note(self, message: Message, status: int, took_s: float) -> None:
        identifier = self._identifier = request_id(self._header(_HEADER) or None)
        message["headers"] = [*message["headers"], (_HEADER, identifier.encode())]
        finished = Finished(self._name(), str(status), identifier, took_s, self._header(_SELECTOR))
        if status >= CLIENT_ERROR:
            self._log.failed(finished, is_fault=status >= SERVER_ERROR)
        else:
            self._log.answered(finished)

    def _route(self) -> str:
        return getattr(self._scope.get("route"), "path", NO_ROUTE)

    def _name(self) -> str:
        return f"{self._scope['method'][:METHOD_CHARS_MAX]} {self._route()}"

    def _header(self, name: bytes) -> str:
        value: bytes = next((value for key, value in self._scope["headers"] if key == name), b"")
        return value.decode("latin-1")
