"""EventService over a real server: pages, streams, types, and who may read them."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import grpc
import jsonschema_rs
import pytest
from google.protobuf import json_format
from sqlalchemy import Engine

from protos.flagstaff.v1 import events_pb2 as messages
from server.core.announcing.catalogue import CATALOGUE
from server.core.announcing.wanted import read_wanted
from server.core.changes import PutFlag, RemoveFlag
from server.store.engine import reading
from server.store.outbox import newest_events
from tests.rpc.conftest import Serve
from tests.rpc.managing import called, managing, refusal, token
from tests.store.definitions import NOW, flag, new_shop, put

SERVICE: Final = "/flagstaff.v1.EventService/"


@pytest.fixture(params=[False, True], ids=["here", "apart"])
def relayed(request: pytest.FixtureRequest) -> bool:
    """The service answers alike where calls are passed on to a process that manages."""
    return bool(request.param)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Engine]:
    """A shop in which seven things have happened, two of them in staging."""
    engine = new_shop(tmp_path)
    put(engine, PutFlag(flag()), reason="first try", cause="T-1")
    put(engine, PutFlag(flag(default="on")), actor="token:bob", now=NOW + timedelta(hours=1))
    put(engine, PutFlag(flag("other")), environment="staging", now=NOW + timedelta(hours=2))
    put(engine, RemoveFlag("checkout"), now=NOW + timedelta(hours=3))
    yield engine
    engine.dispose()


def listing(**fields: Any) -> messages.ListEventsRequest:
    """A request for the shop's events."""
    return messages.ListEventsRequest(**{"project": "shop", **fields})


async def listed(serve: Serve, engine: Engine, **fields: Any) -> Any:
    """What a list gives."""
    by = fields.pop("by", "")
    with managing(engine) as (_, table):
        running = await serve(table=table)
        return await called(
            running.channel, f"{SERVICE}ListEvents", listing(**fields), messages.ListEventsResponse, by=by
        )


async def test_the_newest_event_stands_first(serve: Serve, shop: Engine) -> None:
    """With its id, who did it, and data that have its type's schema."""
    reply = await listed(serve, shop)

    assert [7, 6, 5, 4, 3, 2, 1] == [each.sequence for each in reply.events]
    assert ["flag.deleted", "flag.created", "flag.targeting_changed", "flag.created"] == [
        each.type for each in reply.events[:4]
    ]
    changed = reply.events[2]
    assert ("token", "bob", "2026-11-01") == (changed.actor_type, changed.actor_id, changed.api_version)
    assert changed.id.startswith("evt_")
    assert ("checkout", "on") == (changed.data["flag_key"], changed.data["default_variant"])
    assert changed.timestamp.ToDatetime() == (NOW + timedelta(hours=1)).replace(tzinfo=None)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"types": ["flag.created"]}, [6, 4]),
        ({"types": ["flag.*"]}, [7, 6, 5, 4]),
        ({"types": ["flag.deleted", "project.*"]}, [7, 1]),
        ({"types": ["*"], "environment": "staging"}, [6, 3]),
        ({"types": ["change_request.*"]}, []),
    ],
)
async def test_events_are_chosen(serve: Serve, shop: Engine, fields: dict[str, Any], expected: list[int]) -> None:
    """By type, or how types begin, and by environment."""
    assert expected == [each.sequence for each in (await listed(serve, shop, **fields)).events]


async def test_pages_follow_each_other(serve: Serve, shop: Engine) -> None:
    """Each event once, also where pages are filtered."""
    found: list[int] = []
    page = ""
    while True:
        reply = await listed(serve, shop, page_size=2, page_token=page, types=["flag.*", "environment.*"])
        found += [each.sequence for each in reply.events]
        page = reply.next_page_token
        if not page:
            break

    assert [7, 6, 5, 4, 3, 2] == found


def test_a_page_looks_through_no_more_than_it_may(shop: Engine) -> None:
    """A page without events has a next one all the same."""
    wanted, before = read_wanted(["project.created"]), None
    pages: list[list[int]] = []
    with reading(shop) as connection:
        for _ in range(3):
            found, before = newest_events(
                connection, "shop", wanted, environment="", before=before, limit=10, scanned_max=3
            )
            pages.append([each.sequence for each in found])

    assert ([[], [], [1]], None) == (pages, before)


@pytest.mark.parametrize(
    ("fields", "by", "code", "message"),
    [
        ({"project": "none"}, "", grpc.StatusCode.NOT_FOUND, "project 'none' does not exist"),
        ({"project": ""}, "", grpc.StatusCode.INVALID_ARGUMENT, "needs project"),
        ({"page_size": 1_001}, "", grpc.StatusCode.INVALID_ARGUMENT, "page_size is 1001"),
        ({"page_token": "x"}, "", grpc.StatusCode.INVALID_ARGUMENT, "page_token"),
        ({"types": ["flag.created", "flag.teleported"]}, "", grpc.StatusCode.INVALID_ARGUMENT, "types[1] is 'flag.tel"),
        ({"types": ["flog.*"]}, "", grpc.StatusCode.INVALID_ARGUMENT, "which no event is called"),
        ({"types": ["flag.created"] * 101}, "", grpc.StatusCode.INVALID_ARGUMENT, "at most 100 are allowed"),
        ({}, "elsewhere", grpc.StatusCode.PERMISSION_DENIED, "may not read in shop"),
        ({"environment": "production"}, "elsewhere", grpc.StatusCode.PERMISSION_DENIED, "shop/production"),
    ],
)
async def test_a_list_is_refused(
    serve: Serve, shop: Engine, fields: dict[str, Any], by: str, code: grpc.StatusCode, message: str
) -> None:
    """With what helps."""
    with managing(shop) as (_, table):
        running = await serve(table=table)
        found, said = await refusal(running.channel, f"{SERVICE}ListEvents", listing(**fields), by=by)

    assert (code, True) == (found, message in said), said


async def test_who_may_read_one_environment_reads_its_events(serve: Serve, shop: Engine) -> None:
    """And no other's."""
    assert [6, 3] == [
        each.sequence for each in (await listed(serve, shop, environment="staging", by="elsewhere")).events
    ]


def watching(channel: grpc.aio.Channel, *, by: str = "", **fields: Any) -> Any:
    """A watch of the shop's events."""
    method = channel.unary_stream(
        f"{SERVICE}WatchEvents",
        request_serializer=messages.WatchEventsRequest.SerializeToString,
        response_deserializer=messages.WatchEventsResponse.FromString,
    )
    return method(messages.WatchEventsRequest(**{"project": "shop", **fields}), metadata=token(by), timeout=60)


async def event(stream: Any) -> messages.Event:
    """The next event; signs of life are passed over."""
    while True:
        news = await stream.read()
        if news.HasField("event"):
            found: messages.Event = news.event
            return found


async def test_a_watch_has_no_gap(serve: Serve, shop: Engine) -> None:
    """First what is there, then what is committed, each once and in order, and as the list has it."""
    with managing(shop) as (_, table):
        running = await serve(table=table)
        stream = watching(running.channel, after_sequence=4)
        there = [await event(stream) for _ in range(3)]
        for number in range(3):
            put(shop, PutFlag(flag(f"new-{number}")), PutFlag(flag(f"more-{number}")))
        new = [await event(stream) for _ in range(6)]
        stream.cancel()
    page = (await listed(serve, shop)).events

    assert [5, 6, 7, *range(8, 14)] == [each.sequence for each in there + new]
    assert list(reversed(page[:9])) == there + new


async def test_a_watch_tells_where_it_is(serve: Serve, shop: Engine) -> None:
    """From now on, and past what is not wanted: who loses it begins behind that, and misses nothing."""
    with managing(shop) as (_, table):
        running = await serve(table=table)
        stream = watching(running.channel, after_sequence=-1, types=["flag.deleted"])
        begins = (await stream.read()).sequence
        put(shop, PutFlag(flag("new")))
        passed = await stream.read()
        put(shop, RemoveFlag("new"))
        found = await event(stream)
        stream.cancel()

    assert (7, 8, False) == (begins, passed.sequence, passed.HasField("event"))
    assert (9, "flag.deleted") == (found.sequence, found.type)


@pytest.mark.parametrize(
    ("fields", "by", "message"),
    [
        ({"after_sequence": 90}, "", "the feed ends with event 7, and what is behind 90 was asked for"),
        ({"project": "none"}, "", "project 'none' does not exist"),
        ({"types": ["x"]}, "", "which no event is called"),
        ({}, "elsewhere", "may not read in shop"),
    ],
)
async def test_a_watch_is_refused(serve: Serve, shop: Engine, fields: dict[str, Any], by: str, message: str) -> None:
    """As a list is; and one that is ahead must not look like a project in which nothing happens."""
    with managing(shop) as (_, table):
        running = await serve(table=table)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await event(watching(running.channel, by=by, **fields))

    assert message in str(refused.value.details())


async def test_types_are_described(serve: Serve, shop: Engine) -> None:
    """Each with a schema that its example has; anybody may know them."""
    with managing(shop) as (_, table):
        running = await serve(table=table)
        reply = await called(
            running.channel,
            f"{SERVICE}ListEventTypes",
            messages.ListEventTypesRequest(),
            messages.ListEventTypesResponse,
            by="elsewhere",
        )

    assert list(CATALOGUE) == [each.name for each in reply.types]
    for each in reply.types:
        schema = json.loads(json_format.MessageToJson(each.schema))
        assert jsonschema_rs.validator_for(schema).is_valid(schema["examples"][0]), each.name
