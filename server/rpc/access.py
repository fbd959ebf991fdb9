"""Ask access for every call of a table: who calls, and whether they may do what the method does, where they do it.

A method that core/methods.py does not name is refused to everyone. Health is public. What everyone may do is not
wrapped at all, so it costs nothing. Where an evaluation happens follows from its flag set and is decided here; where
something is managed is decided by rpc/management.py, which knows the request. The streams of a caller whose token is
revoked or expires end.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Final

from google.protobuf.message import DecodeError

from protos.flagd.sync.v1 import sync_pb2 as sync
from protos.flagstaff.raw.v1.views_pb2 import BatchView, ResolveView, StreamView, WatchView
from server.core.access import Action
from server.core.errors import PermissionDenied, Unrecognised
from server.core.methods import ACTIONS
from server.live.callers import Caller
from server.operations.gate import Gate
from server.rpc.call import Call
from server.rpc.flagd_evaluation import SELECTOR_HEADER
from server.rpc.table import Handler, Kind, Table, unary_async

HEADER: Final = "authorization"
PLACED: Final = (Action.EVALUATE, Action.SYNC)
"""What is done to a flag set that the request names."""

_STREAM: Final = "/flagstaff.v1.EvaluationService/EvaluateStream"
_OURS: Final[dict[str, Any]] = {
    "/flagstaff.v1.EvaluationService/Evaluate": ResolveView,
    "/flagstaff.v1.EvaluationService/EvaluateBatch": BatchView,
    "/flagstaff.v1.EvaluationService/Watch": WatchView,
    _STREAM: StreamView,
}
"""Methods whose messages name the flag set."""

_SYNC: Final[dict[str, Any]] = {
    "/flagd.sync.v1.FlagSyncService/SyncFlags": sync.SyncFlagsRequest,
    "/flagd.sync.v1.FlagSyncService/FetchAllFlags": sync.FetchAllFlagsRequest,
}
"""Methods whose messages have a selector, too."""


def guarded(table: Table, gate: Gate) -> Table:
    """The same table, whose handlers are only reached by those who may."""
    return {path: _guarded(path, handler, gate) for path, handler in table.items()}


def _guarded(path: str, handler: Handler, gate: Gate) -> Handler:
    action = ACTIONS.get(path)
    if action is Action.PUBLIC:
        return handler
    # Managing is wrapped also where everyone may: the audit trail says who it was, if they say so.
    if action in PLACED and gate.identity.needs_no_look(action):
        return handler
    door = _Door(path, action, gate)
    wrap: Callable[[Any, _Door], Callable[..., Any]]
    match handler.kind:
        case Kind.UNARY_SYNC:
            # Not known tokens are waited for.
            return unary_async(_unary_sync(handler.function, door))
        case Kind.UNARY_ASYNC:
            wrap = _unary_async
        case Kind.SERVER_STREAM:
            wrap = _server_stream
        case Kind.BIDI:
            wrap = _bidi
    return replace(handler, function=wrap(handler.function, door))


class _Door:
    """What stands before one method."""

    def __init__(self, path: str, action: Action | None, gate: Gate) -> None:
        self._path, self._action, self._gate = path, action, gate
        self.sessions = gate.sessions
        self._is_placed = action in PLACED

    def enter(self, raw: bytes | None, call: Call) -> Caller:
        """Let a caller in, or not. Shapes: raw is the request's message, None when messages follow.

        Errors: Unauthenticated, PermissionDenied, and what a wrong selector leads to.
        """
        if self._action is None:
            raise PermissionDenied(f"nobody may call {self._path}: it is not said what it does")
        caller = self._gate.admit(self._action, call.metadata(HEADER), call.certificate_names)
        call.principal = caller.principal
        if raw is not None:
            self.check(caller, raw, call)
        return caller

    async def entered(self, raw: bytes | None, call: Call) -> Caller:
        """The same, after a look at the database where a token is not known. Errors: as `enter`; StoreUnavailable."""
        return await self._gate.entered(lambda: self.enter(raw, call))

    def check(self, caller: Caller, raw: bytes, call: Call) -> None:
        """Refuse a message about a flag set where its sender may not do this. Errors: as `enter`."""
        if self._is_placed and self._action is not None and self._action not in caller.everywhere:
            name, selector = self._named(raw, call)
            self._gate.check_set(caller, self._action, name=name, selector=selector)

    def pace(self, caller: Caller) -> None:
        """Count a message of a stream as a call. Errors: Limited."""
        if self._gate.pace is not None:
            self._gate.pace.require(caller.principal.actor)

    def _named(self, raw: bytes, call: Call) -> tuple[str, str]:
        """The name or else the selector in a request; of one that cannot be read none, and its handler refuses it."""
        view = _OURS.get(self._path)
        try:
            if view is not None:
                return view.FromString(raw).flag_set, ""
            selector = call.metadata(SELECTOR_HEADER) or ""
            if not selector and self._path in _SYNC:
                selector = _SYNC[self._path].FromString(raw).selector
        except DecodeError:
            return "", ""
        return "", selector


def _unary_sync(function: Callable[..., Any], door: _Door) -> Callable[..., Any]:
    enter = door.enter

    async def serve(raw: bytes, call: Call) -> Any:
        try:
            enter(raw, call)
        except Unrecognised:
            await door.entered(raw, call)
        return function(raw, call)

    return serve


def _unary_async(function: Callable[..., Any], door: _Door) -> Callable[..., Any]:
    async def serve(raw: bytes, call: Call) -> Any:
        await door.entered(raw, call)
        return await function(raw, call)

    return serve


def _server_stream(function: Callable[..., Any], door: _Door) -> Callable[..., Any]:
    def serve(raw: bytes, call: Call) -> AsyncIterator[bytes]:
        return _stream(door, raw, call, begin=lambda _caller: function(raw, call))

    return serve


def _bidi(function: Callable[..., Any], door: _Door) -> Callable[..., Any]:
    def serve(messages: AsyncIterator[bytes], call: Call) -> AsyncIterator[bytes]:
        def begin(caller: Caller) -> AsyncIterator[bytes]:
            return function(_checked(messages, caller, door=door, call=call), call)  # type: ignore[no-any-return]

        return _stream(door, None, call, begin=begin)

    return serve


async def _stream(
    door: _Door, raw: bytes | None, call: Call, *, begin: Callable[[Caller], AsyncIterator[bytes]]
) -> AsyncIterator[bytes]:
    """What a stream says, for as long as its caller's credentials are good. Errors: as `_Door.entered`."""
    caller = await door.entered(raw, call)
    with door.sessions.hold(caller) as session:
        async with aclosing(begin(caller)) as messages:  # type: ignore[type-var]
            while True:
                session.require()
                try:
                    message = await session.wait(anext(messages))
                except StopAsyncIteration:
                    return
                yield message


async def _checked(messages: AsyncIterator[bytes], caller: Caller, *, door: _Door, call: Call) -> AsyncIterator[bytes]:
    """Messages that each may be about another flag set."""
    async for raw in messages:
        door.pace(caller)
        door.check(caller, raw, call)
        yield raw
