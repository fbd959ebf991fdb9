"""Hold every address to its rate, before anything else is done for a call. Health is never refused.

A message of a client's stream counts as a call does: else one stream would be a way around.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Final

from server.core.access import Action
from server.core.methods import ACTIONS
from server.operations.pace import Paces
from server.rpc.call import Call
from server.rpc.table import Handler, Kind, Table

FORWARDED: Final = "x-forwarded-for"


def limited(table: Table, paces: Paces) -> Table:
    """The same table, whose handlers refuse calls of an address that are too many; itself where there is no rate."""
    if paces.per_address is None:
        return table
    return {
        path: handler if ACTIONS.get(path) is Action.PUBLIC else _limited(handler, paces)
        for path, handler in table.items()
    }


def _limited(handler: Handler, paces: Paces) -> Handler:
    function: Callable[..., Any] = handler.function

    def require(call: Call) -> None:
        paces.require_address(call.peer, lambda: call.metadata_values(FORWARDED))

    def unary_sync(raw: bytes, call: Call) -> Any:
        require(call)
        return function(raw, call)

    async def unary_async(raw: bytes, call: Call) -> Any:
        require(call)
        return await function(raw, call)

    async def server_stream(raw: bytes, call: Call) -> AsyncIterator[bytes]:
        require(call)
        async with aclosing(function(raw, call)) as replies:
            async for message in replies:
                yield message

    async def bidi(messages: AsyncIterator[bytes], call: Call) -> AsyncIterator[bytes]:
        async def counted() -> AsyncIterator[bytes]:
            async for raw in messages:
                require(call)
                yield raw

        require(call)
        async with aclosing(function(counted(), call)) as replies:
            async for message in replies:
                yield message

    by_kind: dict[Kind, Callable[..., Any]] = {
        Kind.UNARY_SYNC: unary_sync,
        Kind.UNARY_ASYNC: unary_async,
        Kind.SERVER_STREAM: server_stream,
        Kind.BIDI: bidi,
    }
    return replace(handler, function=by_kind[handler.kind])
