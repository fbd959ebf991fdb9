"""Ask access for every call of a table: who calls, and whether they may do what the method does, where they do it.

A method that core/methods.py does not name is refused to everyone. Health is public. What everyone may do is not
wrapped at all, so it costs nothing. Where an evaluation happens follows from its flag set and is decided here; where
something is managed is decided by rpc/management.py, which knows the request. The streams of a caller whose token is
revoked or expires end.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from google.protobuf.message import DecodeError

from protos.flagd.sync.v1 import sync_pb2 as sync
from protos.flagstaff.raw.v1.views_pb2 import BatchView, ResolveView, StreamView, WatchView
from server.core.access import Action, Principal, Scope
from server.core.errors import NotFound, PermissionDenied, Unauthenticated
from server.core.methods import ACTIONS
from server.core.selectors import parse_selector
from server.live.callers import Caller
from server.live.holder import Holder
from server.live.sessions import Sessions
from server.operations.evaluate import find, select
from server.operations.identity import Identity, require_somewhere
from server.operations.writes import require
from server.rpc.call import Call
from server.rpc.flagd_evaluation import SELECTOR_HEADER
from server.rpc.table import Handler, Kind, Table

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

Named: TypeAlias = tuple[str, str]
"""A flag set's name, or else a flagd selector."""


@dataclass(frozen=True, slots=True)
class Gate:
    """What access is decided from."""

    identity: Identity
    holder: Holder
    sessions: Sessions


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
            wrap = _unary_sync
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
        self._path, self._action = path, action
        self._identity, self._holder, self.sessions = gate.identity, gate.holder, gate.sessions
        self._is_placed = action in PLACED

    def enter(self, raw: bytes | None, call: Call) -> Caller:
        """Let a caller in, or not. Shapes: raw is the request's message, None when messages follow.

        Errors: Unauthenticated, PermissionDenied, and what a wrong selector leads to.
        """
        action = self._action
        if action is None:
            raise PermissionDenied(f"nobody may call {self._path}: it is not said what it does")
        caller = self._identity.caller(call.metadata(HEADER), call.certificate_names)
        call.principal = caller.principal
        if action in caller.everywhere:
            return caller
        if caller is self._identity.stranger and not self._is_placed:
            raise Unauthenticated(
                f"this server asks who may {action.value}: send `authorization: Bearer TOKEN`; "
                "`flagstaff token create` makes one"
            )
        require_somewhere(caller, action)
        if raw is not None:
            self.check(caller, raw, call)
        return caller

    def check(self, caller: Caller, raw: bytes, call: Call) -> None:
        """Refuse a message about a flag set where its sender may not do this. Errors: as `enter`."""
        if self._is_placed and self._action is not None and self._action not in caller.everywhere:
            require(caller.principal, self._action, self._scope(caller.principal, self._named(raw, call)))

    def _named(self, raw: bytes, call: Call) -> Named:
        """What the request names; a message that cannot be read names nothing, and is refused by its handler."""
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

    def _scope(self, principal: Principal, named: Named) -> Scope:
        name, selector = named
        try:
            snapshot = select(self._holder, selector)[0] if selector else find(self._holder, name)
        except NotFound:
            # The usual message names the sets that there are, which this caller need not know of.
            raise _hidden(principal, self._action, named) from None
        return Scope(snapshot.environment.project, snapshot.environment.key)


def _hidden(principal: Principal, action: Action | None, named: Named) -> Exception:
    name, selector = named
    parsed = parse_selector(selector)
    name = name or (parsed.value if parsed is not None else "") or "the default one"
    project, _, environment = name.partition("/")
    if action is not None and principal.may(action, Scope(project, environment)):
        return NotFound(f"flag set {name[:160]!r} does not exist")
    return PermissionDenied(f"{principal.actor} has no role in flag set {name[:160]!r}, or there is no such set")


def _unary_sync(function: Callable[..., Any], door: _Door) -> Callable[..., Any]:
    enter = door.enter

    def serve(raw: bytes, call: Call) -> Any:
        enter(raw, call)
        return function(raw, call)

    return serve


def _unary_async(function: Callable[..., Any], door: _Door) -> Callable[..., Any]:
    async def serve(raw: bytes, call: Call) -> Any:
        door.enter(raw, call)
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
    """What a stream says, for as long as its caller's credentials are good. Errors: as `_Door.enter`."""
    caller = door.enter(raw, call)
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
        door.check(caller, raw, call)
        yield raw
