"""Add to the contexts of requests what the operator decided, before any handler sees them.

A context is extended as bytes: an entry of a map that comes later on the wire wins. Handlers know nothing of it, so
a server without enrichment does no work for it.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any, Final

from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Struct

from protos.flagstaff.raw.v1.views_pb2 import (
    BatchView,
    ResolveAllView,
    ResolveView,
    StreamView,
    StructView,
    WatchView,
)
from server.core.context import Enrichment
from server.rpc.call import Call
from server.rpc.table import Handler, Kind, Table

_VIEWS: Final[dict[str, Any]] = {
    "/flagstaff.v1.EvaluationService/Evaluate": ResolveView,
    "/flagstaff.v1.EvaluationService/EvaluateBatch": BatchView,
    "/flagstaff.v1.EvaluationService/EvaluateStream": StreamView,
    "/flagstaff.v1.EvaluationService/Watch": WatchView,
    "/flagd.evaluation.v1.Service/ResolveAll": ResolveAllView,
    **{
        f"/flagd.evaluation.{version}.Service/Resolve{type_}": ResolveView
        for version in ("v1", "v2")
        for type_ in ("Boolean", "String", "Int", "Float", "Object")
    },
}
"""The methods whose requests carry contexts, and how to read them."""


def enriched(table: Table, enrichment: Enrichment) -> Table:
    """The same table over enriched contexts; the table itself when there is nothing to add."""
    if not enrichment:
        return table
    add = _Adding(enrichment)
    views = _VIEWS
    return {path: _wrapped(each, views[path], add) if path in views else each for path, each in table.items()}


class _Adding:
    """Encode what is added, and put it into messages."""

    def __init__(self, enrichment: Enrichment) -> None:
        self._enrichment = enrichment
        self._static = _entries(enrichment.static)

    def entries(self, call: Call) -> bytes:
        """What a call's contexts get, as map entries."""
        if not self._enrichment.headers:
            return self._static
        return self._static + _entries(self._enrichment.from_headers(call.metadata))

    def to(self, raw: bytes, view: Any, entries: bytes) -> bytes:
        """The message with its contexts extended; bytes that are no such message as they are, for the handler."""
        try:
            message = view.FromString(raw)
        except DecodeError:
            return raw
        if view is BatchView:
            message.contexts[:] = [_extended(context, entries) for context in message.contexts]
        else:
            message.context = _extended(message.context, entries)
        extended: bytes = message.SerializeToString()
        return extended


def _extended(context: bytes, entries: bytes) -> bytes:
    # A context whose last entry says that it goes on would swallow what is added. The handler refuses it.
    try:
        StructView.FromString(context)
    except DecodeError:
        return context
    return context + entries


def _entries(values: Any) -> bytes:
    context = Struct()
    context.update(values)
    encoded: bytes = context.SerializeToString(deterministic=True)
    return encoded


def _wrapped(handler: Handler, view: Any, add: _Adding) -> Handler:
    function: Callable[..., Any] = handler.function

    def with_message(raw: bytes, call: Call) -> Any:
        return function(add.to(raw, view, add.entries(call)), call)

    def with_messages(messages: AsyncIterator[bytes], call: Call) -> Any:
        entries = add.entries(call)
        return function((add.to(raw, view, entries) async for raw in messages), call)

    return replace(handler, function=with_messages if handler.kind is Kind.BIDI else with_message)
