"""Serve launch plans to people's calendars: `GET /calendars/<project>.ics`."""

import asyncio
import base64
import binascii
from collections.abc import Callable
from typing import Final, TypeAlias

from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from server.core.access import Action, Principal
from server.core.errors import FlagstaffError, Unauthenticated
from server.operations.gate import Gate
from server.operations.identity import BEARER
from server.web.access import CERTIFICATE, Guarded, credentials, refusal
from server.web.replies import failed
from server.web.requests import Headers, headers_of

PATH: Final = "/calendars/{project}.ics"

Read: TypeAlias = Callable[[Principal, str], bytes]
"""(who asks, project) -> an iCalendar file of what they may read. Waits for the database. Errors: any."""

_BASIC: Final = "basic "
_CHALLENGE: Final = ((b"www-authenticate", b'Basic realm="Flagstaff: a token as the password", charset="UTF-8"'),)
_HEADERS: Final = (
    (b"content-type", b"text/calendar; charset=utf-8"),
    # Whoever shares a proxy with somebody else is not sent their calendar.
    (b"cache-control", b"private, max-age=300"),
)


def calendar_route(read: Read, gate: Gate) -> Route:
    """The route, for those who may read something; each sees the plans that they may read."""
    return Route(PATH, Calendars(read, gate), methods=["GET"])


class Calendars(Guarded):
    """Answers with a calendar. Asks for access by project, and not for the whole server as others do."""

    def __init__(self, read: Read, gate: Gate) -> None:
        super().__init__(self, gate, Action.READ)
        self._read = read

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        try:
            names = scope.get("state", {}).get(CERTIFICATE, ())
            given = _credentials(headers_of(scope))
            caller = await self._gate.entered(lambda: self._gate.admit(self.action, given, lambda: names))
            body = await asyncio.to_thread(self._read, caller.principal, scope["path_params"]["project"])
        except Unauthenticated as error:
            await failed(401, str(error), headers=_CHALLENGE).send(send)
            return
        except FlagstaffError as error:
            await refusal(error).send(send)
            return
        headers = [*_HEADERS, (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _credentials(headers: Headers) -> str | None:
    """A token by HTTP's basic authentication, too: calendars know no other, and an address would end up in logs."""
    given = credentials(headers)
    if given is None or given[: len(_BASIC)].lower() != _BASIC:
        return given
    try:
        _, _, password = base64.b64decode(given[len(_BASIC) :], validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        password = ""
    return BEARER + password
