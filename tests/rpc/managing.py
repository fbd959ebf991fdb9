"""Serve the management services over a database, to callers with tokens of the test's own."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import grpc
from sqlalchemy import Engine

from server.core.access import OPEN, Grant, Principal, Role
from server.live.recent import RecentContexts
from server.operations.tokens import Tokens
from server.operations.writes import PermitFor, Writer
from server.rpc.hooks import hooks_table
from server.rpc.managed import management_table
from server.rpc.management import Management
from server.rpc.table import Handler, Table, merge
from tests.operations.hooking import hooks_of
from tests.store.definitions import NOW

PEOPLE: Final[Mapping[str, Principal]] = {
    "reader": Principal("token:reader", (Grant(Role.READ),)),
    "editor": Principal("token:editor", (Grant(Role.EDIT),)),
    "elsewhere": Principal("token:elsewhere", (Grant(Role.ADMIN, "shop", "staging"),)),
}
"""Token -> who that is; without a token, whoever calls may do everything."""


@dataclass
class Manager:
    """The services over one database, and what a test may change meanwhile."""

    engine: Engine
    people: dict[str, Principal]
    now: datetime = NOW

    def tell_time(self) -> datetime:
        """What the test says it is."""
        return self.now


class _AsPrincipal:
    """A call by somebody whom the test knows."""

    def __init__(self, call: Any, principal: Principal) -> None:
        self._call, self.principal = call, principal

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


class Known(dict[str, Handler]):
    """A table whose callers are known by the token that they send."""

    def __init__(self, table: Table, people: Mapping[str, Principal]) -> None:
        super().__init__(_known(table, people))
        self.table, self.people = table, people


def _known(table: Table, people: Mapping[str, Principal]) -> dict[str, Handler]:
    def wrapped(handler: Handler) -> Handler:
        function: Callable[..., Any] = handler.function

        def as_somebody(raw: bytes, call: Any) -> Any:
            token = (call.metadata("authorization") or "").removeprefix("Bearer ")
            return function(raw, _AsPrincipal(call, people[token] if token else OPEN))

        return replace(handler, function=as_somebody)

    return {path: wrapped(handler) for path, handler in table.items()}


@contextmanager
def managing(
    engine: Engine, *, policies: Sequence[PermitFor] = (), recent: RecentContexts | None = None
) -> Iterator[tuple[Manager, Table]]:
    """The services' table over a database; ends with the block."""
    manager = Manager(engine, dict(PEOPLE))
    with ThreadPoolExecutor(2) as threads:
        management = Management(manager.tell_time, threads)
        tokens = Tokens(engine, lambda: b"a secret key of the server's tests")
        table = management_table(management, engine, Writer(engine, policies), tokens=tokens, recent=recent)
        hooked = hooks_table(management, hooks_of(engine))
        yield manager, Known(merge(table, hooked), manager.people)


@contextmanager
def fixed_management() -> Iterator[Management]:
    """What services share, at an instant that stands still."""
    with ThreadPoolExecutor(2) as threads:
        yield Management(lambda: NOW, threads)


def token(name: str) -> list[tuple[str, str]]:
    """Metadata by which somebody is known."""
    return [("authorization", f"Bearer {name}")] if name else []


async def called(channel: Any, path: str, request: Any, reply: Any, *, by: str = "") -> Any:
    """Call a method as somebody."""
    method = channel.unary_unary(
        path, request_serializer=type(request).SerializeToString, response_deserializer=reply.FromString
    )
    return await method(request, metadata=token(by))


async def refusal(channel: Any, path: str, request: Any, *, by: str = "") -> tuple[grpc.StatusCode, str]:
    """Call a method that is to refuse somebody: status and message."""
    method = channel.unary_unary(path, request_serializer=type(request).SerializeToString, response_deserializer=None)
    try:
        await method(request, metadata=token(by))
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or ""
    raise AssertionError(f"{path} was not refused")
