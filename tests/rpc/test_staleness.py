"""StalenessService over a real server: what is stale, and what people say of it."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from sqlalchemy import Engine

from protos.flagstaff.v1 import common_pb2 as common
from protos.flagstaff.v1 import flags_pb2
from protos.flagstaff.v1 import staleness_pb2 as messages
from server.core.changes import PutFlag
from server.operations.staleness.sweeping import Sweeping
from server.rpc.timestamps import timestamp
from tests.announced import check_announced
from tests.rpc.conftest import Serve
from tests.rpc.managing import Manager, called, managing, refusal
from tests.store.definitions import NOW, flag, new_shop, put

SERVICE: Final = "/flagstaff.v1.StalenessService"
DAY: Final = timedelta(days=1)


@dataclass
class Desk:
    """A server over a shop with three flags, two of them potentially stale."""

    manager: Manager
    channel: Any

    async def call(self, method: str, reply: Any, by: str = "editor", **fields: Any) -> Any:
        """Call a method about the shop as somebody."""
        request = getattr(messages, f"{method}Request")(project="shop", **fields)
        return await called(self.channel, f"{SERVICE}/{method}", request, reply, by=by)

    async def refused(self, method: str, by: str = "editor", **fields: Any) -> tuple[grpc.StatusCode, str]:
        """Call a method that is to be refused: status, message."""
        request = getattr(messages, f"{method}Request")(project="shop", **fields)
        return await refusal(self.channel, f"{SERVICE}/{method}", request, by=by)

    async def list(self, **fields: Any) -> Any:
        """A page of stale flags."""
        return await self.call("ListStaleFlags", messages.ListStaleFlagsResponse, by="reader", **fields)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Engine]:
    """A shop, 41 days after its first flags."""
    engine = new_shop(tmp_path)
    beta = {"id": "beta", "condition": {"var": "beta"}, "serve": "on"}
    put(engine, PutFlag(flag("launched", default="on", owner="web", tags=["ui", "old"])))
    put(engine, PutFlag(flag("beta", rules=[beta], kind="experiment")))
    put(engine, PutFlag(flag("young")), now=NOW + 40 * DAY)
    for days in (31, 41):
        Sweeping(engine, lambda: NOW).carry_on(NOW + days * DAY)
    yield engine
    check_announced(engine)
    engine.dispose()


@pytest.fixture
async def desk(serve: Serve, shop: Engine) -> AsyncIterator[Desk]:
    """A server over the shop."""
    with managing(shop) as (manager, table):
        manager.now = NOW + 41 * DAY
        running = await serve(management=table)
        yield Desk(manager, running.channel)


async def test_stale_flags_are_listed(desk: Desk) -> None:
    """The longest stale first, page after page, with their evidence."""
    first = await desk.list(page_size=1)
    second = await desk.list(page_size=1, page_token=first.next_page_token)

    assert (["launched"], ["beta"]) == ([each.key for each in first.flags], [each.key for each in second.flags])
    assert (2, "") == (first.total_size, second.next_page_token)
    told = first.flags[0]
    assert (messages.STALE_STATE_POTENTIALLY_STALE, "on", 40, "web", ["ui", "old"]) == (
        told.state,
        told.served_variant,
        told.lifetime_days,
        told.owner,
        list(told.tags),
    )
    assert ["one_variant", "lifetime"] == list(told.rules)
    assert (NOW + 45 * DAY).replace(tzinfo=None) == told.stale_at.ToDatetime()
    assert "put what 'on' does into the code" in told.suggested_action


@pytest.mark.parametrize(
    ("fields", "keys"),
    [
        ({"owner": "web"}, ["launched"]),
        ({"tags": ["ui", "old"]}, ["launched"]),
        ({"tags": ["ui", "new"]}, []),
        ({"kinds": [flags_pb2.FLAG_KIND_EXPERIMENT]}, ["beta"]),
        ({"states": [messages.STALE_STATE_ACTIVE]}, ["young"]),
        ({"order_by": "key"}, ["beta", "launched"]),
    ],
)
async def test_lists_are_filtered(desk: Desk, fields: dict[str, Any], keys: list[str]) -> None:
    """By owner, tags, kind and state."""
    assert keys == [each.key for each in (await desk.list(**fields)).flags]


async def test_people_have_the_last_word(desk: Desk) -> None:
    """Later, now, not at all, for ever."""
    until = NOW + 90 * DAY
    snoozed = await desk.call(
        "SnoozeStale",
        messages.StalenessResponse,
        key="launched",
        until=timestamp(until),
        options=common.WriteOptions(reason="sale"),
    )
    marked = await desk.call("MarkStale", messages.StalenessResponse, key="young")
    cleared = await desk.call("ClearStale", messages.StalenessResponse, key="young")
    permanent = await desk.call("MarkPermanent", messages.MarkPermanentResponse, key="beta")
    known = await desk.call("GetStaleness", messages.GetStalenessResponse, by="reader", key="launched")
    left = await desk.list()

    assert messages.STALE_STATE_SNOOZED == snoozed.flag.state
    assert ("token:editor", "sale", until.replace(tzinfo=None)) == (
        known.flag.said_by,
        known.flag.said,
        known.flag.snoozed_until.ToDatetime(),
    )
    assert (messages.STALE_STATE_STALE, ["marked"]) == (marked.flag.state, list(marked.flag.rules))
    assert messages.STALE_STATE_ACTIVE == cleared.flag.state
    assert (common.OUTCOME_APPLIED, 5) == (permanent.result.outcome, permanent.result.revisions["production"])
    assert [] == list(left.flags)


async def test_terms_are_set(desk: Desk) -> None:
    """Those that the mask names; the others stay."""
    given = messages.StalenessPolicy(grace_days=3, unchanged_days=1)
    written = await desk.call(
        "UpdateStalenessPolicy",
        messages.UpdateStalenessPolicyResponse,
        policy=given,
        update_mask=FieldMask(paths=["grace_days"]),
    )
    read = await desk.call("GetStalenessPolicy", messages.GetStalenessPolicyResponse, by="reader")

    assert written.policy == read.policy
    assert (3, 30, 7, 1, 2) == (
        read.policy.grace_days,
        read.policy.unchanged_days,
        read.policy.quiet_days,
        read.policy.version,
        len(read.policy.lifetimes),
    )


@pytest.mark.parametrize(
    ("method", "fields", "says"),
    [
        ("SnoozeStale", {"key": "launched"}, "needs until, an instant, or days"),
        ("SnoozeStale", {"key": "launched", "days": 3_650}, "expected 1 to 3649"),
        ("SnoozeStale", {"key": "launched", "until": timestamp(NOW)}, "expected an instant in the next 3650 days"),
        ("MarkStale", {}, "needs key"),
        ("ListStaleFlags", {"order_by": "owner"}, "expected age or key"),
        ("ListStaleFlags", {"page_token": "W10="}, "page_token is not one of this list"),
        ("ListStaleFlags", {"states": [9]}, "states has 9"),
        ("UpdateStalenessPolicy", {}, "update_mask is empty"),
        ("UpdateStalenessPolicy", {"update_mask": FieldMask(paths=["unchanged_days"])}, "unchanged_days is 0"),
    ],
)
async def test_what_cannot_be_understood_is_refused(desk: Desk, method: str, fields: dict[str, Any], says: str) -> None:
    """Naming what is wrong."""
    status, message = await desk.refused(method, **fields)

    assert grpc.StatusCode.INVALID_ARGUMENT is status
    assert says in message


async def test_readers_only_read(desk: Desk) -> None:
    """Whoever says something must be allowed to edit the project."""
    refused = [(await desk.refused(method, by="reader", key="launched"))[0] for method in ("MarkStale", "ClearStale")]

    assert [grpc.StatusCode.PERMISSION_DENIED] * 2 == refused
