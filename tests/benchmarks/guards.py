"""Measure how soon a breach is answered: from its arrival to the rolled-back value at a client that watches."""

import http.server
import json
import queue
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Final

import grpc

from protos.flagstaff.v1 import evaluation_pb2 as evaluation
from protos.flagstaff.v1 import guards_pb2 as messages
from protos.flagstaff.v1 import metrics_pb2 as metrics
from protos.flagstaff.v1.evaluation_pb2_grpc import EvaluationServiceStub
from protos.flagstaff.v1.guards_pb2_grpc import GuardServiceStub
from protos.flagstaff.v1.metrics_pb2_grpc import MetricServiceStub
from tests import prometheus
from tests.benchmarks.figures import LOWER, Figure, Goal, Say, Spread
from tests.benchmarks.processes import HOST, import_document, serve

ROUNDS: Final = 60
PROVIDED_ROUNDS: Final = 10
INTERVAL_S: Final = 1.0
WAIT_S: Final = 30.0
BREACH_GOAL: Final = Goal("value", LOWER, 1_000, "issue 5, p99")
PROVIDED_GOAL: Final = Goal("value", LOWER, 1_000 * (INTERVAL_S + 2.0), "issue 5: interval + 2 s")
WHERE: Final[dict[str, Any]] = {"project": "default"}
Policy: Final = messages.RollbackPolicy
Trigger: Final = messages.RollbackTrigger


def run(say: Say) -> list[Figure]:
    """Each round has a flag, a guard and a policy of its own; the client watches all flags."""
    flag = {"variants": {"on": True, "off": False}, "default": "on", "offVariant": "off"}
    count = 2 * ROUNDS + 2 * PROVIDED_ROUNDS
    with tempfile.TemporaryDirectory() as folder, _scraped() as scraped, _prometheus(Path(folder), scraped) as address:
        document = {"flags": {f"flag-{number:03}": flag for number in range(count)}}
        url, _ = import_document(document, Path(folder))
        options = [f"--provider=ours=json:{scraped}"]
        if address:
            options.append(f"--provider=prom=prometheus:{address}")
        with serve(url, *options) as server, grpc.insecure_channel(f"{HOST}:{server.port}") as channel:
            desk = _Desk(channel)
            places = iter(range(count))
            say("breaches by observations")
            observed = [desk.observed(next(places)) for _ in range(ROUNDS)]
            say("breaches by signals")
            signalled = [desk.signalled(next(places)) for _ in range(ROUNDS)]
            figures = [
                Figure("an observation to the value, p99", "ms", _p99(observed), goal=BREACH_GOAL),
                Figure("a signal to the value, p99", "ms", _p99(signalled), goal=BREACH_GOAL),
            ]
            say("breaches by providers")
            by_json = [desk.provided(next(places), "ours", "/rate#/rate") for _ in range(PROVIDED_ROUNDS)]
            name = f"JSON by HTTP to the value, interval {INTERVAL_S:g} s, slowest"
            figures.append(Figure(name, "ms", _slowest(by_json), goal=PROVIDED_GOAL))
            if address:
                asked = [desk.provided(next(places), "prom", "rate") for _ in range(PROVIDED_ROUNDS)]
                name = f"Prometheus, scraping each second, to the value, interval {INTERVAL_S:g} s, slowest"
                figures.append(Figure(name, "ms", _slowest(asked), goal=PROVIDED_GOAL))
            return figures


class _Desk:
    def __init__(self, channel: Any) -> None:
        self._metrics: Any = MetricServiceStub(channel)
        self._guards: Any = GuardServiceStub(channel)
        self._changed: queue.Queue[tuple[str, float]] = queue.Queue()
        watch: Any = EvaluationServiceStub(channel)
        stream = watch.Watch(evaluation.WatchRequest(flag_set="default/production"))
        next(stream)
        threading.Thread(target=self._watch, args=(stream,), daemon=True).start()
        metric = metrics.Metric(key="errors", kind=metrics.METRIC_KIND_RATIO)
        self._metrics.CreateMetric(metrics.CreateMetricRequest(**WHERE, metric=metric))

    def _watch(self, stream: Any) -> None:
        try:
            for message in stream:
                now = time.perf_counter()
                for each in message.resolutions:
                    self._changed.put((each.flag_key, now))
        except grpc.RpcError:
            return

    def observed(self, place: int) -> float:
        """By an observation. Units: ms."""
        key = f"flag-{place:03}"
        guard = {"metric": "errors", "flag": key, "variant": "on", "interval_s": 3_600.0, "high": 0.1}
        self._make(key, guard, Trigger(kind=Trigger.KIND_METRIC, name=key))
        series = metrics.ObservationSeries(metric="errors", flag=key, variant="on", values=[1.0], denominators=[1.0])
        request = metrics.RecordRequest(**WHERE, environment="production", producer=key, sequence=1, series=[series])
        return self._timed(key, lambda: list(self._metrics.Record(iter([request]))))

    def signalled(self, place: int) -> float:
        """By a signal. Units: ms."""
        key = f"flag-{place:03}"
        self._make(key, None, Trigger(kind=Trigger.KIND_SIGNAL, name=key))
        request = messages.SignalRequest(**WHERE, environment="production", name=key)
        return self._timed(key, lambda: self._guards.Signal(request))

    def provided(self, place: int, provider: str, query: str) -> float:
        """By what a provider says from some moment on. Units: ms."""
        key = f"flag-{place:03}"
        _Scraped.rate = 0.0
        time.sleep(2 * INTERVAL_S + 0.37 * (place % 3))
        guard = {"provider": provider, "query": query, "interval_s": INTERVAL_S, "high": 0.1}
        self._make(key, guard, Trigger(kind=Trigger.KIND_METRIC, name=key))
        time.sleep(INTERVAL_S * 1.5)

        def breach() -> None:
            _Scraped.rate = 0.5

        took = self._timed(key, breach)
        self._guards.DeleteRollbackPolicy(messages.DeleteRollbackPolicyRequest(**WHERE, key=key))
        self._guards.DeleteGuard(messages.DeleteGuardRequest(**WHERE, key=key))
        return took

    def _make(self, key: str, guard: dict[str, Any] | None, trigger: messages.RollbackTrigger) -> None:
        if guard is not None:
            made = messages.Guard(key=key, environment="production", **guard)
            self._guards.CreateGuard(messages.CreateGuardRequest(**WHERE, guard=made))
        reach = messages.RollbackReach(kind=messages.RollbackReach.KIND_FLAG, key=key)
        policy = Policy(key=key, environment="production", triggers=[trigger], reach=reach)
        self._guards.CreateRollbackPolicy(messages.CreateRollbackPolicyRequest(**WHERE, policy=policy))

    def _timed(self, key: str, breach: Callable[[], object]) -> float:
        start = time.perf_counter()
        breach()
        while True:
            changed, at = self._changed.get(timeout=WAIT_S)
            if changed == key:
                return 1000 * (at - start)


class _Scraped(http.server.BaseHTTPRequestHandler):
    rate: ClassVar[float] = 0.0

    def do_GET(self) -> None:
        text = f"rate {self.rate}\n" if self.path == "/metrics" else json.dumps({"rate": self.rate})
        self.send_response(200)
        self.send_header("content-type", "text/plain")
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def _scraped() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer((HOST, 0), _Scraped)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://{HOST}:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@contextmanager
def _prometheus(folder: Path, scraped: str) -> Iterator[str]:
    """The address of a Prometheus that looks each second; "" where there is none."""
    if prometheus.program() is None:
        yield ""
        return
    with prometheus.running(folder, target=scraped.removeprefix("http://")) as url:
        yield url


def _p99(values: list[float]) -> Spread:
    ordered = sorted(values)
    return Spread(ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))], ordered[0], ordered[-1])


def _slowest(values: list[float]) -> Spread:
    return Spread(max(values), min(values), max(values))
