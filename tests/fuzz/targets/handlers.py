"""Feed any bytes to every handler of the table: a reply, or a status that is the caller's fault."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

from server.core.environments import Environment
from server.core.evaluation.snapshots import build_snapshot
from server.core.flagsets import FlagSet
from server.live.watch import Hub
from server.rpc.call import Abort, abort_for
from server.rpc.convert import field
from server.rpc.services import make_services
from server.rpc.status import Status
from server.rpc.table import Handler, Kind
from tests.fakes import FakeCall, fake_clock, holder_of
from tests.fuzz.bases import shop
from tests.fuzz.draw import Draw

ALLOWED: Final = frozenset(
    {Status.INVALID_ARGUMENT, Status.NOT_FOUND, Status.RESOURCE_EXHAUSTED, Status.UNIMPLEMENTED, Status.INTERNAL}
)
"""INTERNAL only from a flag whose own rule fails; see `_is_expected`."""

KEYS: Final = (b"payments", b"new-checkout", b"checkout-layout", b"banner", b"button-colour", b"discount-rate", b"gone")
SELECTORS: Final = (
    "",
    "flagSetId=default/production",
    "flagSetId=",
    "source=x",
    "=",
    "a,b",
    "flagSetId=a,b",
    "é" * 600,
)
MESSAGES_MAX: Final = 4
STEPS_MAX: Final = 50_000

_SHOP = shop()
_SET = FlagSet(Environment("default", "production"), _SHOP.flags, _SHOP.segments)
_TABLE = make_services(holder_of(build_snapshot(_SET, revision=7)), Hub(), clock=fake_clock).table
_PATHS: Final = sorted(_TABLE)


def test_one(data: bytes) -> None:
    """The first bytes choose method, selector and form; the rest are messages."""
    draw = Draw(data)
    path, selector, form = draw.one_of(_PATHS), draw.one_of(SELECTORS), draw.byte()
    raw = data[3:]
    if form & 1:
        head, _, tail = raw.partition(b"|")
        raw = field(1, draw.one_of(KEYS)) + field(2, head) + tail
    call = FakeCall({"flagd-selector": selector} if selector else {})
    loop = asyncio.new_event_loop()
    try:
        replies = loop.run_until_complete(_ask(_TABLE[path], raw, call))
    except Exception as error:
        if not isinstance(error, Abort) and type(error).__module__ != "server.core.errors":
            raise
        abort = abort_for(error, path, request_id=lambda: "fuzz")
        assert abort.code in ALLOWED - {Status.INTERNAL}, f"{path} ended with {abort.code.name}: {abort.message}"
        assert abort.message, f"{path} refused without a word"
        abort.message.encode()
    else:
        assert all(type(reply) is bytes for reply in replies), f"{path} answered with something else than bytes"
    finally:
        loop.close()


async def _ask(handler: Handler, raw: bytes, call: FakeCall) -> list[Any]:
    match handler.kind:
        case Kind.UNARY_SYNC:
            return [handler.function(raw, call)]
        case Kind.UNARY_ASYNC:
            return [await handler.function(raw, call)]
        case Kind.SERVER_STREAM:
            # Such a stream goes on for as long as the server does: its first reply is enough.
            stream = handler.function(raw, call)
            replies = [await anext(stream)]
            await stream.aclose()
            return replies
        case Kind.BIDI:
            return [reply async for reply in handler.function(_messages(raw), call)]


async def _messages(raw: bytes) -> AsyncIterator[bytes]:
    for message in raw.split(b"\xfe", MESSAGES_MAX):
        yield message
