"""Serve flagstaff.v1.EventService: what happened, in pages and as a stream, and what can happen."""

from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

from protos.flagstaff.v1 import events_pb2 as messages
from server.core.access import Principal
from server.core.announcing.catalogue import CATALOGUE
from server.core.announcing.fields import data_schema
from server.core.announcing.wanted import read_wanted
from server.core.errors import Stale
from server.core.methods import action_of
from server.live.trails import Trails
from server.operations.feed import Feed
from server.operations.writes import require
from server.rpc.call import Call
from server.rpc.management import Management, named, parse, scope_of
from server.rpc.paging import read_number, size_of
from server.rpc.table import Table, merge, server_stream
from server.rpc.timestamps import timestamp
from webhooks.envelope import Event

SERVICE: Final = "flagstaff.v1.EventService"
WATCH: Final = f"/{SERVICE}/WatchEvents"
PAGE_BYTES_MAX: Final = 2 * 1024 * 1024
"""A page ends where its events take this: clients take 4 MiB."""

ALIVE_S: Final = 20.0
"""A sign of life after so much silence."""


def events_table(management: Management, feed: Feed, *, alive_s: float = ALIVE_S) -> Table:
    """The service's handlers."""
    service = _Events(management, feed, alive_s)
    methods = {
        "ListEvents": (messages.ListEventsRequest, service.page),
        "ListEventTypes": (messages.ListEventTypesRequest, service.types),
    }
    return merge(management.reads(SERVICE, methods), {WATCH: server_stream(service.watch)})


class _Events:
    def __init__(self, management: Management, feed: Feed, alive_s: float) -> None:
        self._management, self._feed, self._alive_s = management, feed, alive_s
        self._trails = Trails(self._last_sequences)

    def page(self, request: Any, _principal: Principal) -> messages.ListEventsResponse:
        named(request, "project")
        found, further = self._feed.page(
            request.project,
            read_wanted(request.types),
            environment=request.environment,
            before=read_number(request.page_token),
            limit=size_of(request),
        )
        reply = messages.ListEventsResponse()
        size = 0
        for event in found:
            message = event_message(event)
            size += message.ByteSize()
            if reply.events and size > PAGE_BYTES_MAX:
                further = reply.events[-1].sequence
                break
            reply.events.append(message)
        reply.next_page_token = "" if further is None else str(further)
        return reply

    def types(self, _request: Any, _principal: Principal) -> messages.ListEventTypesResponse:
        reply = messages.ListEventTypesResponse()
        for name, type_ in CATALOGUE.items():
            told = reply.types.add(name=name, fires=type_.fires)
            told.schema.update(data_schema(type_))
        return reply

    async def watch(self, raw: bytes, call: Call) -> AsyncIterator[bytes]:
        request: Any = parse(messages.WatchEventsRequest, raw)
        named(request, "project")
        require(call.principal, action_of(WATCH), scope_of(request))
        wanted = read_wanted(request.types)
        last = await self._management.run(lambda: self._feed.last(request.project))
        sequence = last if request.after_sequence < 0 else request.after_sequence
        _check_there(sequence, last)
        # The first message says where the watch begins, so that nothing is missed when it breaks before an event.
        yield messages.WatchEventsResponse(sequence=sequence).SerializeToString()
        while True:
            behind = partial(
                self._feed.behind, request.project, wanted, environment=request.environment, sequence=sequence
            )
            found, looked = await self._management.run(behind)
            _check_there(sequence, looked)
            for message in await self._management.run(partial(_messages, found)):
                sequence = message.sequence
                yield messages.WatchEventsResponse(event=message, sequence=sequence).SerializeToString()
            if looked > sequence:
                sequence = looked
            elif not found and await self._trails.wait(request.project, sequence, timeout_s=self._alive_s):
                continue
            yield messages.WatchEventsResponse(sequence=sequence).SerializeToString()

    async def _last_sequences(self, projects: frozenset[str]) -> Mapping[str, int]:
        return await self._management.run(lambda: {project: self._feed.last(project) for project in projects})


def event_message(event: Event) -> messages.Event:
    """An event as clients get it."""
    message = messages.Event(
        id=event.id,
        type=event.type,
        timestamp=timestamp(event.at),
        api_version=event.api_version,
        project=event.project,
        environment=event.environment,
        sequence=event.sequence,
        actor_type=event.actor.type,
        actor_id=event.actor.id,
    )
    message.data.update(event.data)
    message.causation_id = event.causation_id or ""
    message.hops = event.hops
    message.links.update(event.links)
    return message


def _check_there(sequence: int, last: int) -> None:
    if sequence > last:
        raise Stale(
            f"the feed ends with event {last}, and what is behind {sequence} was asked for: the database was put back; "
            f"begin anew behind event {last} or an earlier one"
        )


def _messages(events: Sequence[Event]) -> list[messages.Event]:
    return [event_message(event) for event in events]
