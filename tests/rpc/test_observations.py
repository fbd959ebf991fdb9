"""MetricService over a real server: metrics, and batches of observations that count once."""

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from sqlalchemy import Engine

from protos.flagstaff.v1 import common_pb2 as common
from protos.flagstaff.v1 import metrics_pb2 as messages
from server.core.access import Grant, Principal, Role
from server.core.audit import AuditEntry
from server.core.changes import PutFlag
from server.rpc.timestamps import timestamp
from server.store.audit import list_entries
from server.store.engine import reading
from tests.rpc.conftest import Serve
from tests.rpc.managing import Manager, called, managing, refusal, token
from tests.store.definitions import NOW, flag, new_shop, put

SERVICE: Final = "/flagstaff.v1.MetricService"
Taken: Final = messages.RecordResponse.Taken


@dataclass
class Desk:
    """A server over a shop with one metric, and an editor."""

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

    async def create(self, key: str, kind: int, **options: Any) -> Any:
        """Create a metric."""
        metric = messages.Metric(key=key, kind=kind)  # type: ignore[arg-type]  # A number names an enum's value.
        return await self.call("CreateMetric", messages.MetricResponse, metric=metric, **options)

    async def record(self, *requests: messages.RecordRequest, by: str = "service") -> list[messages.RecordResponse]:
        """Send batches on one stream; what was acknowledged."""
        stream = self.channel.stream_stream(
            f"{SERVICE}/Record",
            request_serializer=messages.RecordRequest.SerializeToString,
            response_deserializer=messages.RecordResponse.FromString,
        )
        return [each async for each in stream(iter(requests), metadata=token(by))]


def batch(sequence: int, values: Sequence[float], *, metric: str = "latency", **fields: Any) -> messages.RecordRequest:
    """A batch with one series."""
    series = messages.ObservationSeries(metric=metric, values=values, **fields)
    return messages.RecordRequest(
        project="shop", environment="production", producer="web-1", sequence=sequence, series=[series]
    )


def entries(engine: Engine) -> list[AuditEntry]:
    """What the audit trail has about metrics."""
    with reading(engine) as connection:
        found = list_entries(connection, project="shop")
        return [each for each in found if each.subject_kind == "metric"]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Engine]:
    """A shop with a flag."""
    engine = new_shop(tmp_path)
    put(engine, PutFlag(flag()))
    yield engine
    engine.dispose()


@pytest.fixture
async def desk(shop: Engine, serve: Serve) -> AsyncIterator[Desk]:
    """A running server, an editor, and a service that records."""
    with managing(shop) as (manager, table):
        manager.people["service"] = Principal("token:service", (Grant(Role.EVALUATE),))
        running = await serve(management=table)
        made = Desk(manager, running.channel)
        await made.create("latency", messages.METRIC_KIND_MEAN)
        yield made


async def test_batches_are_acknowledged_in_order(desk: Desk) -> None:
    """Each with what became of it; one that comes again is known, also on another stream."""
    first = await desk.record(batch(1, [10, 20]), batch(2, [30]), batch(2, [30]))
    again = await desk.record(batch(1, [10, 20]), batch(3, [40]))
    sums = await desk.call("GetSums", messages.GetSumsResponse, environment="production", metric="latency")

    assert [(1, Taken.TAKEN_APPLIED), (2, Taken.TAKEN_APPLIED), (2, Taken.TAKEN_DUPLICATE)] == [
        (each.sequence, each.taken) for each in first
    ]
    assert [Taken.TAKEN_DUPLICATE, Taken.TAKEN_APPLIED] == [each.taken for each in again]
    (hour,) = sums.sums
    assert (4, 100.0, 25.0, 3_000.0) == (hour.count, hour.sum, hour.value, hour.sum_of_squares)
    assert NOW == hour.hour.ToDatetime(tzinfo=NOW.tzinfo)


async def test_what_is_left_out_is_told_by_path(desk: Desk) -> None:
    """A metric and a flag that there are not."""
    request = batch(1, [1])
    request.series.add(metric="latenci", values=[1])
    request.series.add(metric="latency", flag="chekout", values=[1])
    (ack,) = await desk.record(request)

    assert Taken.TAKEN_APPLIED == ack.taken
    assert [
        ("/series/1/metric", "there is no metric 'latenci'; did you mean 'latency'?"),
        ("/series/2/flag", "there is no flag 'chekout' in this environment"),
    ] == [(each.path, each.message) for each in ack.problems]


async def test_a_refused_batch_ends_no_stream(desk: Desk) -> None:
    """The next ones are taken, and its number is free."""
    nowhere = batch(2, [1])
    nowhere.environment = "moon"
    acks = await desk.record(batch(1, [1]), nowhere, batch(2, [1]))

    assert [Taken.TAKEN_APPLIED, Taken.TAKEN_REFUSED, Taken.TAKEN_APPLIED] == [each.taken for each in acks]
    assert ["environment shop/moon is not there; create it first"] == [each.message for each in acks[1].problems]


async def test_sums_are_told_by_hour_variant_and_step(desk: Desk) -> None:
    """What was observed earlier belongs to its hour; what is asked for is chosen."""
    earlier = timestamp(NOW - timedelta(hours=5))
    on = {"flag": "checkout", "variant": "on"}
    await desk.record(batch(1, [1], observed_at=earlier), batch(2, [2], **on, step=1), batch(3, [4], **on))
    where = {"environment": "production", "metric": "latency"}
    whole = await desk.call("GetSums", messages.GetSumsResponse, **where)
    step = await desk.call("GetSums", messages.GetSumsResponse, **where, step=1)
    late = await desk.call("GetSums", messages.GetSumsResponse, **where, until=earlier)

    assert [("", 0, 1.0), ("on", 0, 4.0), ("on", 1, 2.0)] == [
        (each.variant, each.step, each.sum) for each in whole.sums
    ]
    assert [2.0] == [each.sum for each in step.sums]
    assert [] == list(late.sums)


async def test_who_may_not_record_is_refused(desk: Desk) -> None:
    """Before anything is taken."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await desk.record(batch(1, [1]), by="reader")

    assert grpc.StatusCode.PERMISSION_DENIED == caught.value.code()
    assert "token:reader may not record in shop/production" in (caught.value.details() or "")


async def test_a_message_that_is_none_ends_the_stream(desk: Desk) -> None:
    """Behind the acknowledgements of what came before it."""
    stream = desk.channel.stream_stream(f"{SERVICE}/Record", request_serializer=None, response_deserializer=None)
    call = stream(iter([batch(1, [1]).SerializeToString(), b"\xff"]), metadata=token("service"))
    first = messages.RecordResponse.FromString(await call.read())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()

    assert Taken.TAKEN_APPLIED == first.taken
    assert grpc.StatusCode.INVALID_ARGUMENT == caught.value.code()


async def test_metrics_are_managed(desk: Desk) -> None:
    """Made, changed, listed and deleted, each with its audit entry."""
    metric = messages.Metric(key="latency", unit="ms", better=messages.BETTER_LOWER)
    changed = await desk.call(
        "UpdateMetric", messages.MetricResponse, metric=metric, update_mask={"paths": ["unit", "better"]}
    )
    await desk.create("errors", messages.METRIC_KIND_RATIO)
    listed = await desk.call("ListMetrics", messages.ListMetricsResponse, by="reader")
    one = await desk.call("GetMetric", messages.GetMetricResponse, key="latency")
    await desk.call("DeleteMetric", messages.DeleteMetricResponse, key="errors")

    assert ("ms", messages.BETTER_LOWER, 2) == (changed.metric.unit, changed.metric.better, changed.metric.version)
    assert ["errors", "latency"] == [each.key for each in listed.metrics]
    assert changed.metric == one.metric
    assert ["metric.created", "metric.updated", "metric.created", "metric.deleted"] == [
        each.action for each in reversed(entries(desk.manager.engine))
    ]


async def test_a_dry_run_makes_nothing(desk: Desk) -> None:
    """It says what would be."""
    would = await desk.create("errors", messages.METRIC_KIND_RATIO, options=common.WriteOptions(dry_run=True))

    assert common.OUTCOME_WOULD_APPLY == would.result.outcome
    assert grpc.StatusCode.NOT_FOUND == (await desk.refused("GetMetric", key="errors"))[0]


async def test_creating_again_under_the_same_request_changes_nothing(desk: Desk) -> None:
    """Without one it is a conflict."""
    options = common.WriteOptions(request_id="r1")
    again = await desk.create("latency", messages.METRIC_KIND_MEAN, options=options)
    metric = messages.Metric(key="latency", kind=messages.METRIC_KIND_MEAN)

    assert common.OUTCOME_UNCHANGED == again.result.outcome
    assert grpc.StatusCode.ALREADY_EXISTS == (await desk.refused("CreateMetric", metric=metric))[0]


@pytest.mark.parametrize(
    ("method", "fields", "message"),
    [
        ("CreateMetric", {"metric": {"key": "x"}}, "metric.kind is 0, expected one of METRIC_KIND_COUNT, "),
        ("CreateMetric", {"metric": {"key": "X", "kind": 1}}, "'X' is no key of a metric; use 1 to 64 of a-z"),
        ("CreateMetric", {"metric": {"key": "x", "kind": 1, "better": 7}}, "metric.better is 7, expected BETTER_"),
        ("UpdateMetric", {"metric": {"key": "latency"}}, "update_mask is empty; name what is to be set, of: better,"),
        ("UpdateMetric", {}, "UpdateMetricRequest needs metric.key"),
        ("GetSums", {"environment": "production"}, "GetSumsRequest needs metric"),
    ],
)
async def test_what_is_asked_wrongly_is_told(desk: Desk, method: str, fields: dict[str, Any], message: str) -> None:
    """With what helps."""
    code, told = await desk.refused(method, **fields)

    assert grpc.StatusCode.INVALID_ARGUMENT == code
    assert told.startswith(message)
