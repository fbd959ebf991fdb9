"""Ask access for every request over HTTP, by the same rules as for gRPC.

Credentials are `Authorization: Bearer TOKEN` or, as OFREP has it too, `X-API-Key: TOKEN`. Each route says what it does
when it is made, and a test finds those that do not: no path is compared here.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final, TypeAlias
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.core.access import Action
from server.core.errors import FlagstaffError, Limited, NotFound, PermissionDenied, StoreUnavailable, Unauthenticated
from server.live.callers import Caller
from server.live.sessions import Session
from server.operations.gate import Gate
from server.operations.identity import BEARER
from server.web.limits import too_many
from server.web.replies import Reply, failed, try_later
from server.web.requests import Headers, headers_of

CERTIFICATE: Final = "certificate_names"
"""Where web/server.py puts the names in a client's certificate, in the scope's state."""

LAST_WORD_S: Final = 1.0
"""What the end of a stream may take; a client that does not read is not waited for."""

SELECTOR_HEADER: Final = b"flagd-selector"
_CHALLENGE: Final = ((b"www-authenticate", b"Bearer"),)

Place: TypeAlias = Callable[[Scope, Headers], tuple[str, str]]
"""The name of the flag set that a request is about, or else a flagd selector."""


def by_selector(_scope: Scope, headers: Headers) -> tuple[str, str]:
    """The flag set that the header names."""
    return "", headers.get(SELECTOR_HEADER, b"").decode("latin-1")


def by_query(scope: Scope, _headers: Headers) -> tuple[str, str]:
    """The flag set that the query names."""
    return parse_qs(scope["query_string"].decode("latin-1")).get("flagSetId", [""])[0], ""


def guarded(endpoint: ASGIApp, gate: Gate | None, action: Action, *, place: Place | None = None) -> ASGIApp:
    """The endpoint behind access; the endpoint itself where everyone may do what it does."""
    if gate is None or gate.identity.needs_no_look(action):
        return endpoint
    return Guarded(endpoint, gate, action, place=place)


class Guarded:
    """An endpoint that is only reached by those who may do what it does."""

    def __init__(self, endpoint: ASGIApp, gate: Gate, action: Action, *, place: Place | None = None) -> None:
        """Without a place it is about the whole server."""
        self.action = action
        self._endpoint, self._gate, self._place = endpoint, gate, place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or answer 401, 403 and so on; end its stream when the credentials end."""
        headers = headers_of(scope)
        try:
            caller = await self._gate.entered(lambda: self._enter(scope, headers))
        except FlagstaffError as error:
            await refusal(error).send(send)
            return
        with self._gate.sessions.hold(caller) as session:
            await _while_good(self._endpoint, session, scope=scope, receive=receive, send=send)

    def _enter(self, scope: Scope, headers: Headers) -> Caller:
        names = scope.get("state", {}).get(CERTIFICATE, ())
        caller = self._gate.admit(self.action, credentials(headers), lambda: names)
        if self._place is not None:
            name, selector = self._place(scope, headers)
            self._gate.check_set(caller, self.action, name=name, selector=selector)
        elif self.action not in caller.everywhere:
            raise PermissionDenied(f"{caller.principal.actor} may not {self.action.value} on the whole server")
        return caller


def credentials(headers: Headers) -> str | None:
    """The header by which a client says who it is, as gRPC has it."""
    given = headers.get(b"authorization")
    if given is None and b"x-api-key" in headers:
        return BEARER + headers[b"x-api-key"].decode("latin-1")
    return None if given is None else given.decode("latin-1")


def refusal(error: FlagstaffError) -> Reply:
    """The answer to who is not let in."""
    match error:
        case Unauthenticated():
            return failed(401, str(error), headers=_CHALLENGE)
        case PermissionDenied():
            return failed(403, str(error))
        case NotFound():
            return failed(404, str(error))
        case Limited():
            return too_many(error)
        case StoreUnavailable():
            return try_later(str(error))
    return failed(400, str(error))


async def _while_good(endpoint: ASGIApp, session: Session, *, scope: Scope, receive: Receive, send: Send) -> None:
    began = False

    async def noticed(message: Message) -> None:
        nonlocal began
        began = began or message["type"] == "http.response.start"
        await send(message)

    try:
        await session.wait(endpoint(scope, receive, noticed))
    except Unauthenticated as error:
        if began:
            # What was said stays said; the client comes back and is told.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORD_S):
                    await send({"type": "http.response.body"})
        else:
            await refusal(error).send(send)
