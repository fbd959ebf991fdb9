"""Serve addresses that have one action done: `POST /v1/triggers/SECRET`.

The address is the secret: it stands in no answer and no log, which name routes and not paths.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from server.core.actions.triggers import Used
from server.core.actions.values import Asked, Status, done_json
from server.core.errors import FlagstaffError, InvalidRequest
from server.core.json import JsonObject
from server.operations.triggers import Admitted
from server.web.actions import read_asked
from server.web.api import answered, read_object
from server.web.problems import problem, told
from server.web.replies import CLOSE, Reply
from server.web.requests import Headers, Refused, headers_of, read_body, text_header
from webhooks.signing import ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, Signed

PATH: Final = "/v1/triggers/{secret}"

_OWN: Final = ("reason", "causation_id", "hops", "dry_run")
"""What a body may say where no preset reads it."""

Admit: TypeAlias = Callable[[str, Signed], Awaitable[Admitted]]
Use: TypeAlias = Callable[[Admitted, Asked, JsonObject], Awaitable[Used]]


def trigger_route(admit: Admit, use: Use) -> Route:
    """The route; whoever knows an address may call it."""
    return Route(PATH, Door(admit, use), methods=["POST"])


class Door:
    """Answers calls of addresses."""

    def __init__(self, admit: Admit, use: Use) -> None:
        self._admit, self._use = admit, use

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        try:
            reply = await self._answered(scope, receive)
        except Refused as refused:
            reply = told(refused.status, refused.details, headers=CLOSE)
        except FlagstaffError as error:
            reply = problem(error)
        await reply.send(send)

    async def _answered(self, scope: Scope, receive: Receive) -> Reply:
        headers = headers_of(scope)
        raw = await read_body(headers, receive)
        signed = Signed(
            text_header(headers, ID_HEADER) or "",
            text_header(headers, TIMESTAMP_HEADER) or "",
            text_header(headers, SIGNATURE_HEADER) or "",
            raw,
        )
        admitted = await self._admit(scope["path_params"]["secret"], signed)
        if admitted.trigger.preset:
            body: dict[str, Any] = read_object(raw)
            options: dict[str, Any] = {}
        else:
            body, options = {}, _options(raw)
        asked = read_asked("", options, _keyed(headers, signed) if admitted.trigger.signed else headers)
        used = await self._use(admitted, asked, body)
        waits = any(each.status in (Status.PENDING_APPROVAL, Status.SCHEDULED) for each in used.results)
        return answered(
            202 if waits else 200,
            {
                "trigger_id": used.trigger_id,
                "results": [done_json(each) for each in used.results],
                "left_out": used.left_out,
            },
        )


def _options(raw: bytes) -> dict[str, Any]:
    """What a body says of how it is asked for. Tools send all sorts of bodies to an address that needs none."""
    try:
        body = read_object(raw)
    except InvalidRequest:
        return {}
    return {name: body[name] for name in _OWN if name in body}


def _keyed(headers: Headers, signed: Signed) -> Headers:
    """With the message's own id as the key, so that a message that is sent again does nothing again."""
    return {**headers, b"idempotency-key": signed.message_id.encode("latin-1", "replace")}
