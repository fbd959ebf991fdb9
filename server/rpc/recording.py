"""Note the contexts of evaluations where the operator wants a sample of them; without it no handler is wrapped."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from google.protobuf.message import DecodeError

from protos.flagstaff.raw.v1.views_pb2 import BatchView, ResolveView
from server.core.errors import FlagstaffError
from server.live.holder import Holder
from server.live.recent import RecentContexts
from server.operations.evaluate import find, select
from server.rpc.call import Call
from server.rpc.flagd_evaluation import SELECTOR_HEADER
from server.rpc.table import Handler, Table

_BATCH_NOTED_MAX: Final = 100
"""Contexts of one batch that are noted; more of one caller would crowd out the others'."""

_OURS: Final[dict[str, Any]] = {
    "/flagstaff.v1.EvaluationService/Evaluate": ResolveView,
    "/flagstaff.v1.EvaluationService/EvaluateBatch": BatchView,
}
_FLAGD: Final = frozenset(
    f"/flagd.evaluation.{version}.Service/Resolve{type_}"
    for version in ("v1", "v2")
    for type_ in ("Boolean", "String", "Int", "Float", "Object")
)


def recorded(table: Table, holder: Holder, recent: RecentContexts | None) -> Table:
    """The same table, whose evaluations are noted; the table itself when nothing is to be kept."""
    if recent is None:
        return table
    noting = _Noting(holder, recent)
    return {path: noting.wrapped(path, handler) for path, handler in table.items()}


class _Noting:
    def __init__(self, holder: Holder, recent: RecentContexts) -> None:
        self._holder, self._recent = holder, recent

    def wrapped(self, path: str, handler: Handler) -> Handler:
        view = _OURS.get(path)
        if view is None and path not in _FLAGD:
            return handler
        function: Callable[..., Any] = handler.function

        def noting(raw: bytes, call: Call) -> Any:
            # What is wrong with a request is its handler's to say.
            with suppress(DecodeError, FlagstaffError):
                self.note(raw, call, view)
            return function(raw, call)

        return replace(handler, function=noting)

    def note(self, raw: bytes, call: Call, view: Any) -> None:
        if view is None:
            selector = call.metadata(SELECTOR_HEADER)
            snapshot = select(self._holder, selector)[0] if selector else find(self._holder, "")
            self._recent.note(snapshot.flag_set, ResolveView.FromString(raw).context)
            return
        request = view.FromString(raw)
        flag_set = find(self._holder, request.flag_set).flag_set
        for context in request.contexts[:_BATCH_NOTED_MAX] if view is BatchView else (request.context,):
            self._recent.note(flag_set, context)
