"""Hold every handler by its path; the one list of what a door serves."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from server.rpc.call import Call


class Kind(StrEnum):
    """How messages flow."""

    UNARY_SYNC = "unary_sync"
    """One in, one out, and the function never awaits: a door needs neither a task nor a timer for it."""

    UNARY_ASYNC = "unary_async"
    SERVER_STREAM = "server_stream"
    BIDI = "bidi"


UnarySync: TypeAlias = Callable[[bytes, Call], bytes]
UnaryAsync: TypeAlias = Callable[[bytes, Call], Awaitable[bytes]]
ServerStream: TypeAlias = Callable[[bytes, Call], AsyncIterator[bytes]]
Bidi: TypeAlias = Callable[[AsyncIterator[bytes], Call], AsyncIterator[bytes]]


@dataclass(frozen=True, slots=True)
class Handler:
    """One method: encoded messages in, encoded messages out.

    Shapes: function is a UnarySync, UnaryAsync, ServerStream or Bidi, as kind says; the makers below check it.
    """

    kind: Kind
    function: Callable[..., Any]


Table: TypeAlias = Mapping[str, Handler]
"""Path, `/<package>.<Service>/<Method>`, -> handler."""


def unary_sync(function: UnarySync) -> Handler:
    """A handler that answers at once."""
    return Handler(Kind.UNARY_SYNC, function)


def unary_async(function: UnaryAsync) -> Handler:
    """A handler that may wait before it answers."""
    return Handler(Kind.UNARY_ASYNC, function)


def server_stream(function: ServerStream) -> Handler:
    """A handler that answers with any number of messages."""
    return Handler(Kind.SERVER_STREAM, function)


def bidi(function: Bidi) -> Handler:
    """A handler that reads and answers messages at its own pace."""
    return Handler(Kind.BIDI, function)


def merge(*tables: Table) -> dict[str, Handler]:
    """Join tables into one. Errors: ValueError when two of them serve the same path."""
    merged: dict[str, Handler] = {}
    for table in tables:
        for path, handler in table.items():
            if path in merged:
                raise ValueError(f"{path} is served twice; each path belongs to one table")
            merged[path] = handler
    return merged


def services(table: Table) -> tuple[str, ...]:
    """Full names of the services of a table, sorted."""
    return tuple(sorted({path.split("/")[1] for path in table}))
