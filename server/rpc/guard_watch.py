"""Serve flagstaff.v1.GuardService/WatchGuards: guards and policies as they go on."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Final

from sqlalchemy import Engine

from protos.flagstaff.v1 import guards_pb2 as messages
from server.core.access import Scope
from server.core.methods import action_of
from server.live.trails import POLL_S, Trails
from server.operations.guards.watching import Known, News, Wanted, last, look
from server.operations.writes import require
from server.rpc.call import Call
from server.rpc.guard_messages import evaluation_message, guard_message, policy_message
from server.rpc.management import Management, named, parse
from server.rpc.table import Table, server_stream

WATCH: Final = "/flagstaff.v1.GuardService/WatchGuards"
PATIENCE_S: Final = 60.0
"""After so long without any news it is looked all the same."""


def guard_watch_table(management: Management, engine: Engine, *, poll_s: float = POLL_S) -> Table:
    """The method's handler."""
    return {WATCH: server_stream(_Watch(management, engine, poll_s).stream)}


class _Watch:
    def __init__(self, management: Management, engine: Engine, poll_s: float) -> None:
        self._management, self._engine = management, engine
        self._trails = Trails(self._last, poll_s=poll_s)

    async def stream(self, raw: bytes, call: Call) -> AsyncIterator[bytes]:
        """All that is watched, then what is new of it."""
        request = parse(messages.WatchGuardsRequest, raw)
        named(request, "project")
        require(call.principal, action_of(WATCH), Scope(request.project, request.environment))
        wanted = Wanted(request.project, request.environment, frozenset(request.guards))
        known: Known | None = None
        while True:
            # Before what is read: what happens meanwhile is looked at once more, and not missed.
            number = await self._management.run(partial(last, self._engine, wanted.project))
            news = await self._management.run(partial(look, self._engine, wanted, known))
            if news or known is None:
                yield _message(news).SerializeToString()
            known = news.known
            await self._trails.wait(wanted.project, number, timeout_s=PATIENCE_S)

    async def _last(self, projects: frozenset[str]) -> dict[str, int]:
        return await self._management.run(lambda: {project: last(self._engine, project) for project in projects})


def _message(news: News) -> messages.WatchGuardsResponse:
    return messages.WatchGuardsResponse(
        guards=[guard_message(each) for each in news.guards],
        policies=[policy_message(each) for each in news.policies],
        deleted_guards=news.gone_guards,
        deleted_policies=news.gone_policies,
        evaluations=[evaluation_message(each) for each in news.evaluations],
    )
