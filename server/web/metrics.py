"""Show figures to Prometheus: GET /metrics, in its text format.

Values are read when they are asked for, on the event loop that changes them. Labels are bounded: methods and routes
come from our own tables, statuses and reasons are closed sets, flag sets have a bound, and no flag key is a label.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, request_response

from server.core.access import Action
from server.core.evaluation.snapshot import Snapshot
from server.live.freshness import Freshness
from server.live.holder import Holder
from server.live.watch import Hub
from server.operations.counts import FLAG_SETS_MAX, OTHER, EvaluationCounts
from server.operations.figures import CallFigures, Histogram
from server.operations.gate import Gate
from server.operations.requests import RequestLog
from server.web.access import Guarded
from server.web.peers import Peers

PATH: Final = "/metrics"
_QUARANTINED: Final = "counts.quarantined"


@dataclass(frozen=True, slots=True)
class Sources:
    """Where figures come from."""

    holder: Holder
    hub: Hub
    request_log: RequestLog = field(default_factory=RequestLog)
    freshness: Freshness = field(default_factory=Freshness)
    evaluations: EvaluationCounts = field(default_factory=EvaluationCounts)
    calls: CallFigures = field(default_factory=CallFigures)
    """Of gRPC, by path."""

    requests: CallFigures = field(default_factory=CallFigures)
    """Of HTTP, by route."""

    loop_lag: Histogram = field(default_factory=Histogram)


def make_registry(sources: Sources, *, clock: Callable[[], float] = time.time) -> CollectorRegistry:
    """A registry of its own, with the server's figures and those of the process."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(FlagstaffCollector(sources, clock))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


def metrics_route(registry: CollectorRegistry, peers: Peers | None = None, *, gate: Gate | None = None) -> Route:
    """GET /metrics; for a group of processes, with the figures of all of them.

    With a gate for who may read everything, without one for everyone.
    """

    async def metrics(request: Request) -> Response:
        """All figures, in the format that the scraper prefers."""
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        figures: Any = registry if peers is None else await peers.gather()
        return Response(encode(figures), headers={"content-type": content_type})

    if gate is None:
        return Route(PATH, metrics)
    return Route(PATH, Guarded(request_response(metrics), gate, Action.READ), methods=["GET"])


class FlagstaffCollector(Collector):
    """Turns plain figures into Prometheus's at each scrape."""

    def __init__(self, sources: Sources, clock: Callable[[], float]) -> None:
        self._sources, self._clock = sources, clock

    def collect(self) -> Iterable[Metric]:
        """Every figure of ours."""
        yield from self._evaluations()
        yield from self._calls()
        yield from self._requests()
        yield from self._flag_sets()
        yield from self._server()

    def _evaluations(self) -> Iterator[Metric]:
        evaluations = CounterMetricFamily(
            "flagstaff_evaluations",
            "Evaluations by protocol, flag set, reason and error code.",
            labels=["protocol", "flag_set", "reason", "error_code"],
        )
        for each in self._sources.evaluations:
            evaluations.add_metric([each.protocol, each.flag_set, each.reason, each.error_code], each.number)
        yield evaluations

    def _calls(self) -> Iterator[Metric]:
        calls = self._sources.calls
        yield _ended("flagstaff_rpc_calls", "gRPC calls that ended, by method and status.", "method", calls)
        yield _took("flagstaff_rpc_duration_seconds", "Time in the handler of a unary call.", "method", calls)
        streams = GaugeMetricFamily("flagstaff_rpc_open_streams", "Streams that are open now.", labels=["method"])
        messages = CounterMetricFamily(
            "flagstaff_rpc_stream_messages", "Messages that streams have sent.", labels=["method"]
        )
        for method, figures in calls.items():
            if figures.sent or figures.open_streams:
                streams.add_metric([method], figures.open_streams)
                messages.add_metric([method], figures.sent)
        yield streams
        yield messages

    def _requests(self) -> Iterator[Metric]:
        requests = self._sources.requests
        yield _ended("flagstaff_http_requests", "HTTP requests that ended, by route and status.", "route", requests)
        yield _took("flagstaff_http_duration_seconds", "Time until an HTTP reply began.", "route", requests)
        streams = GaugeMetricFamily("flagstaff_http_open_streams", "Event streams that are open now.", labels=["route"])
        for route, figures in requests.items():
            if figures.open_streams:
                streams.add_metric([route], figures.open_streams)
        yield streams

    def _flag_sets(self) -> Iterator[Metric]:
        serving = self._sources.holder.serving
        named = sorted(serving.snapshots)[:FLAG_SETS_MAX]
        revision = _gauge("flagstaff_revision", "The revision that is served.")
        age = _gauge("flagstaff_snapshot_age_seconds", "Time since this revision began to be served.")
        loaded_at = self._sources.freshness.loaded_at
        for name in named:
            revision.add_metric([name], serving.snapshots[name].revision)
            if name in loaded_at:
                age.add_metric([name], max(0.0, self._clock() - loaded_at[name]))
        flags = _gauge("flagstaff_flags", "Flags that are served.")
        quarantined = _gauge("flagstaff_quarantined_flags", "Flags whose definition cannot be used.")
        for label, snapshots in _grouped(serving.snapshots, named):
            flags.add_metric([label], sum(len(snapshot.flags) for snapshot in snapshots))
            quarantined.add_metric([label], sum(_quarantined_count(snapshot) for snapshot in snapshots))
        count = GaugeMetricFamily("flagstaff_flag_sets", "Flag sets that are served.", value=len(serving.snapshots))
        yield from (revision, age, flags, quarantined, count)

    def _server(self) -> Iterator[Metric]:
        sources = self._sources
        since = sources.holder.serving.stale_since
        stale_s = 0.0 if since is None else max(0.0, self._clock() - since)
        yield GaugeMetricFamily("flagstaff_ready", "1 while flags can be evaluated.", value=sources.holder.ready)
        yield GaugeMetricFamily(
            "flagstaff_stale_seconds", "Time since the database was last seen; 0 while it is there.", value=stale_s
        )
        yield CounterMetricFamily(
            "flagstaff_reloads", "Times that other flags came to be served.", value=sources.freshness.reload_count
        )
        yield GaugeMetricFamily("flagstaff_subscribers", "Subscriptions to changes.", value=sources.hub.count)
        yield CounterMetricFamily(
            "flagstaff_request_lines_left_out",
            "Lines about requests that were not logged, being too many.",
            value=sources.request_log.left_out_count,
        )
        yield HistogramMetricFamily(
            "flagstaff_event_loop_lag_seconds",
            "How late the event loop was, looked at four times a second.",
            buckets=sources.loop_lag.buckets,
            sum_value=sources.loop_lag.sum_s,
        )


def _gauge(name: str, documentation: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, documentation, labels=["flag_set"])


def _ended(name: str, documentation: str, label: str, calls: CallFigures) -> Metric:
    family = CounterMetricFamily(name, documentation, labels=[label, "status"])
    for method, figures in calls.items():
        for status, count in figures.ended.items():
            family.add_metric([method, status], count)
    return family


def _took(name: str, documentation: str, label: str, calls: CallFigures) -> Metric:
    family = HistogramMetricFamily(name, documentation, labels=[label])
    for method, figures in calls.items():
        if any(figures.took.counts):
            family.add_metric([method], figures.took.buckets, figures.took.sum_s)
    return family


def _grouped(snapshots: Mapping[str, Snapshot], named: list[str]) -> Iterator[tuple[str, list[Snapshot]]]:
    for name in named:
        yield name, [snapshots[name]]
    if len(snapshots) > len(named):
        told = set(named)
        yield OTHER, [snapshot for name, snapshot in snapshots.items() if name not in told]


def _quarantined_count(snapshot: Snapshot) -> int:
    known: int | None = snapshot.wire.get(_QUARANTINED)
    if known is None:
        known = snapshot.wire[_QUARANTINED] = sum(1 for flag in snapshot.flags.values() if flag.quarantine)
    return known
