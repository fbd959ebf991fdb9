"""Carry what is said of a call, beside its message, from the process that was asked to the one that manages.

The one that was asked has found out who calls, and whether they may; it says so, and is believed: nobody but this
user can reach the other one's socket.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Final

from server.core.access import Grant, Principal, Role
from server.rpc.call import Abort, Call, abort_for
from server.rpc.status import Status
from server.rpc.table import Handler, Kind, Table

PRINCIPAL_HEADER: Final = "flagstaff-principal"
REQUEST_HEADER: Final = "flagstaff-request"
"""Under which id a fault is logged."""

MESSAGE: Final = 0
REFUSAL: Final = 1
END: Final = 2
"""What a reply is, as its first byte. A refusal is a reply and no status: a status is the connection's, and one that
comes while the other side still sends may be lost, for grpc.aio takes the message that it cannot send for the failure.
"""


def encode_principal(principal: Principal) -> str:
    """A principal as metadata: JSON, in ASCII."""
    grants = [[each.role.value, each.project, each.environment] for each in principal.grants]
    return json.dumps([principal.actor, grants], separators=(",", ":"))


def decode_principal(text: str) -> Principal:
    """The principal in metadata."""
    actor, grants = json.loads(text)
    return Principal(actor, tuple(Grant(Role(role), *place) for role, *place in grants))


def encode_refusal(abort: Abort) -> bytes:
    """How a handler ended its call, as a reply. Its trailing metadata are texts."""
    trailing = [[name, value] for name, value in abort.trailing]
    return json.dumps([abort.code, abort.message, abort.details.hex(), trailing]).encode()


def decode_refusal(encoded: bytes, *, request_id: str) -> Abort:
    """The refusal in a reply."""
    code, message, details, trailing = json.loads(encoded)
    entries = [(name, value) for name, value in trailing]
    return Abort(Status(code), message, bytes.fromhex(details), entries, request_id=request_id)


def received(table: Table) -> Table:
    """The same table, for calls that are passed on: who calls is known, and each reply says what it is."""
    return {path: replace(handler, function=_received(path, handler)) for path, handler in table.items()}


def _received(path: str, handler: Handler) -> Callable[..., Any]:
    function: Callable[..., Any] = handler.function

    async def unary(raw: bytes, call: Call) -> bytes:
        _enter(call)
        try:
            return _framed(MESSAGE, await function(raw, call))
        except Exception as error:
            return _refusal(error, path, call)

    async def streamed(given: Any, call: Call) -> AsyncGenerator[bytes, None]:
        _enter(call)
        try:
            async with aclosing(function(given, call)) as replies:
                async for message in replies:
                    yield _framed(MESSAGE, message)
        except Exception as error:
            yield _refusal(error, path, call)

    async def bidi(messages: AsyncIterator[bytes], call: Call) -> AsyncIterator[bytes]:
        async with aclosing(streamed(messages, call)) as replies:
            async for reply in replies:
                yield reply
        yield _framed(END)
        # The call is the other side's to end: it may still send.
        async for _ in messages:
            pass

    by_kind: dict[Kind, Callable[..., Any]] = {
        Kind.UNARY_ASYNC: unary,
        Kind.SERVER_STREAM: streamed,
        Kind.BIDI: bidi,
    }
    if handler.kind not in by_kind:
        raise ValueError(f"{path} answers at once; what does so need not be passed on")
    return by_kind[handler.kind]


def _framed(what: int, message: bytes = b"") -> bytes:
    return bytes((what,)) + message


def _enter(call: Call) -> None:
    call.principal = decode_principal(call.metadata(PRINCIPAL_HEADER) or "")


def _refusal(error: Exception, path: str, call: Call) -> bytes:
    identifier = call.metadata(REQUEST_HEADER) or ""
    return _framed(REFUSAL, encode_refusal(abort_for(error, path, request_id=lambda: identifier)))
