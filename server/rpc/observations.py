"""Serve flagstaff.v1.MetricService: metrics, and what is observed of them."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from protos.flagstaff.v1 import metrics_pb2 as messages
from server.core.access import Principal, Scope
from server.core.errors import InvalidRequest
from server.core.limits import BATCHES_PER_COMMIT_MAX, BATCHES_PER_STREAM_MAX, BATCHES_WAITING_MAX
from server.core.methods import action_of
from server.core.metrics.batches import Batch, Cell, Series, Taken
from server.core.metrics.metrics import Better, Metric, MetricKind, value_of
from server.core.metrics.sums import Sums
from server.operations.metrics import Metrics, MetricWritten, Observing
from server.operations.writes import Write, Written, require
from server.rpc.call import Call
from server.rpc.management import Management, named, parse, result_of
from server.rpc.masks import masked
from server.rpc.paging import paged
from server.rpc.table import Table, bidi, merge
from server.rpc.timestamps import instant, timestamp
from server.store.metrics import Ack, Chosen, StoredMetric

SERVICE: Final = "flagstaff.v1.MetricService"
SINCE: Final = timedelta(hours=24)
"""How far back sums are told unless somebody says otherwise."""

_MASK: Final = ("better", "unit", "description")
_KINDS: Final = {each: messages.MetricKind.Value(f"METRIC_KIND_{each.name}") for each in MetricKind}
_KIND_BY_NUMBER: Final = {int(number): kind for kind, number in _KINDS.items()}
_BETTER: Final = {each: messages.Better.Value(f"BETTER_{each.name}") for each in Better}
_BETTER_BY_NUMBER: Final = {0: Better.HIGHER, **{int(number): better for better, number in _BETTER.items()}}
_TAKEN: Final = {each: messages.RecordResponse.Taken.Value(f"TAKEN_{each.name}") for each in Taken}


def metrics_table(management: Management, metrics: Metrics, observing: Observing) -> Table:
    """The service's handlers."""
    service = _Metrics(management, metrics)
    recording = _Recording(management, observing)
    return merge(
        management.writes(
            SERVICE,
            {
                "CreateMetric": (messages.CreateMetricRequest, service.create),
                "UpdateMetric": (messages.UpdateMetricRequest, service.update),
                "DeleteMetric": (messages.DeleteMetricRequest, service.delete),
            },
        ),
        management.reads(
            SERVICE,
            {
                "GetMetric": (messages.GetMetricRequest, service.get),
                "ListMetrics": (messages.ListMetricsRequest, service.list),
                "GetSums": (messages.GetSumsRequest, service.sums),
            },
        ),
        {f"/{SERVICE}/Record": bidi(recording.record)},
    )


class _Metrics:
    def __init__(self, management: Management, metrics: Metrics) -> None:
        self._management, self._metrics = management, metrics

    def create(self, request: messages.CreateMetricRequest, write: Write) -> messages.MetricResponse:
        named(request, "project")
        given = request.metric
        kind = _KIND_BY_NUMBER.get(given.kind)
        if kind is None:
            kinds = ", ".join(f"METRIC_KIND_{each.name}" for each in MetricKind)
            raise InvalidRequest(f"metric.kind is {given.kind}, expected one of {kinds}")
        metric = Metric(given.key, kind, _better(given), given.unit, given.description)
        return _response(self._metrics.create(request.project, metric, write))

    def update(self, request: messages.UpdateMetricRequest, write: Write) -> messages.MetricResponse:
        named(request, "project")
        given = request.metric
        if not given.key:
            raise InvalidRequest("UpdateMetricRequest needs metric.key")
        chosen = masked(request.update_mask, _MASK)
        if not chosen:
            raise InvalidRequest(f"update_mask is empty; name what is to be set, of: {', '.join(_MASK)}")
        values = {"better": _better(given), "unit": given.unit, "description": given.description}
        changes = {name: value for name, value in values.items() if name in chosen}
        return _response(self._metrics.update(request.project, given.key, changes, write))

    def delete(self, request: messages.DeleteMetricRequest, write: Write) -> messages.DeleteMetricResponse:
        named(request, "project", "key")
        written = self._metrics.delete(request.project, request.key, write)
        return messages.DeleteMetricResponse(result=result_of(Written(written.outcome)))

    def get(self, request: messages.GetMetricRequest, _principal: Principal) -> messages.GetMetricResponse:
        named(request, "project", "key")
        return messages.GetMetricResponse(metric=_message(self._metrics.read(request.project, request.key)))

    def list(self, request: messages.ListMetricsRequest, _principal: Principal) -> messages.ListMetricsResponse:
        named(request, "project")
        page = paged(self._metrics.list_all(request.project), request, key=lambda each: each.metric.key)
        return messages.ListMetricsResponse(
            metrics=[_message(each) for each in page.items],
            next_page_token=page.next_page_token,
            total_size=page.total_size,
        )

    def sums(self, request: messages.GetSumsRequest, _principal: Principal) -> messages.GetSumsResponse:
        named(request, "project", "environment", "metric")
        now = self._management.clock()
        since = instant(request.since, "since") if request.HasField("since") else now - SINCE
        until = instant(request.until, "until") if request.HasField("until") else now + timedelta(hours=1)
        chosen = Chosen(
            request.environment,
            request.metric,
            flag=request.flag if request.HasField("flag") else None,
            variant=request.variant if request.HasField("variant") else None,
            step=request.step if request.HasField("step") else None,
            since_s=int(since.timestamp()),
            until_s=int(until.timestamp()),
        )
        metric, hours = self._metrics.hours(request.project, chosen)
        return messages.GetSumsResponse(sums=[_sums(metric, cell, sums) for cell, sums in hours])


@dataclass(frozen=True, slots=True)
class _Waiting:
    request: messages.RecordRequest
    ack: "asyncio.Future[Ack]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class _Recording:
    """Streams of batches. Those that wait at the same time share a commit; everything here runs on the event loop."""

    def __init__(self, management: Management, observing: Observing) -> None:
        self._management, self._observing = management, observing
        self._waiting: deque[_Waiting] = deque()
        self._room = asyncio.Semaphore(BATCHES_WAITING_MAX)
        self._working: asyncio.Task[None] | None = None

    async def record(self, incoming: AsyncIterator[bytes], call: Call) -> AsyncIterator[bytes]:
        """Take batches as fast as they become durable, and acknowledge them in order."""
        asked: asyncio.Queue[_Waiting | Exception | None] = asyncio.Queue(BATCHES_PER_STREAM_MAX)
        reading = asyncio.create_task(self._read(incoming, call, asked))
        try:
            while (each := await asked.get()) is not None:
                if isinstance(each, Exception):
                    raise each
                ack = await each.ack
                yield _ack(each.request, ack).SerializeToString()
        finally:
            reading.cancel()

    async def _read(
        self, incoming: AsyncIterator[bytes], call: Call, asked: "asyncio.Queue[_Waiting | Exception | None]"
    ) -> None:
        action = action_of(f"/{SERVICE}/Record")
        try:
            async for raw in incoming:
                request = parse(messages.RecordRequest, raw)
                require(call.principal, action, Scope(request.project, request.environment))
                named(request, "project", "environment")
                await asked.put(await self._submit(request))
        except Exception as error:
            # Told behind the acknowledgements of what came before it.
            await asked.put(error)
        else:
            await asked.put(None)

    async def _submit(self, request: messages.RecordRequest) -> _Waiting:
        await self._room.acquire()
        each = _Waiting(request)
        each.ack.add_done_callback(lambda _: self._room.release())
        self._waiting.append(each)
        if self._working is None:
            self._working = asyncio.create_task(self._work())
        return each

    async def _work(self) -> None:
        try:
            while self._waiting:
                count = min(BATCHES_PER_COMMIT_MAX, len(self._waiting))
                await self._commit([self._waiting.popleft() for _ in range(count)])
        finally:
            self._working = None

    async def _commit(self, together: list[_Waiting]) -> None:
        try:
            acks = await self._management.run(lambda: self._observing.take([_batch(each.request) for each in together]))
        except Exception as error:
            for each in together:
                if not each.ack.done():
                    each.ack.set_exception(error)
                    # Nobody asks any more when the stream is over.
                    each.ack.exception()
            return
        for each, ack in zip(together, acks, strict=True):
            if not each.ack.done():
                each.ack.set_result(ack)


def _batch(request: messages.RecordRequest) -> Batch:
    series = [
        Series(
            each.metric,
            list(each.values),
            list(each.denominators),
            each.flag,
            each.variant,
            each.step,
            _observed_at(each) if each.HasField("observed_at") else None,
        )
        for each in request.series
    ]
    return Batch(request.project, request.environment, request.producer, request.sequence, series)


def _observed_at(series: messages.ObservationSeries) -> datetime:
    try:
        return instant(series.observed_at, "observed_at")
    except InvalidRequest:
        # Told with its path, as what is too old.
        return datetime.min.replace(tzinfo=UTC)


def _ack(request: messages.RecordRequest, ack: Ack) -> messages.RecordResponse:
    return messages.RecordResponse(
        producer=request.producer,
        sequence=request.sequence,
        taken=_TAKEN[ack.taken],
        problems=[messages.ObservationProblem(path=each.path, message=each.message) for each in ack.problems],
    )


def _better(given: messages.Metric) -> Better:
    better = _BETTER_BY_NUMBER.get(given.better)
    if better is None:
        raise InvalidRequest(f"metric.better is {given.better}, expected BETTER_HIGHER or BETTER_LOWER")
    return better


def _message(stored: StoredMetric) -> messages.Metric:
    metric = stored.metric
    return messages.Metric(
        key=metric.key,
        kind=_KINDS[metric.kind],
        better=_BETTER[metric.better],
        unit=metric.unit,
        description=metric.description,
        version=stored.version,
    )


def _response(written: MetricWritten) -> messages.MetricResponse:
    return messages.MetricResponse(metric=_message(written.stored), result=result_of(Written(written.outcome)))


def _sums(metric: Metric, cell: Cell, sums: Sums) -> messages.MetricSums:
    told: dict[str, Any] = {}
    value = value_of(metric.kind, sums)
    if value is not None:
        told["value"] = value
    return messages.MetricSums(
        hour=timestamp(datetime.fromtimestamp(cell.start_s, UTC)),
        flag=cell.flag,
        variant=cell.variant,
        step=cell.step,
        count=sums.count,
        sum=sums.total,
        sum_of_squares=sums.square_total,
        deviations=sums.deviations,
        denominator_sum=sums.denominator_total,
        denominator_deviations=sums.denominator_deviations,
        cross_deviations=sums.cross,
        **told,
    )
