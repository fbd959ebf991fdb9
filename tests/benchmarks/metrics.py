"""Measure observations into SQLite: how many a second and core, how soon acknowledged, and what a verdict costs."""

import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import grpc

from protos.flagstaff.v1 import metrics_pb2 as messages
from protos.flagstaff.v1.metrics_pb2_grpc import MetricServiceStub
from server.core.guards.guards import Guard
from server.core.metrics.batches import Batch, Series
from server.operations.guards.judging import measure
from server.operations.metrics import Observing
from server.store.engine import open_engine, reading
from tests.benchmarks.figures import HIGHER, LOWER, Figure, Goal, Say, Spread, spread
from tests.benchmarks.processes import HOST, Running, import_document, serve

FLAGS: Final = 10
BATCH: Final = 500
ROUNDS: Final = 3
ROUND_S: Final = 6.0
AHEAD: Final = 8
"""Batches that a producer sends before the first is acknowledged."""

RATE_GOAL: Final = Goal("value", HIGHER, 40_000, "issue 5")
ACK_GOAL: Final = Goal("value", LOWER, 100, "issue 5")
VERDICT_GOAL: Final = Goal("ratio", LOWER, 1.5, "issue 5: independent of how many were absorbed")
FEW: Final = 100
MANY: Final = 200


def run(say: Say) -> list[Figure]:
    """A producer on one stream; its observations come in groups of fifty, or each as a series of its own."""
    flag = {"variants": {"on": True, "off": False}, "default": "off"}
    with tempfile.TemporaryDirectory() as folder:
        document = {"flags": {f"flag-{number}": flag for number in range(FLAGS)}}
        url, _ = import_document(document, Path(folder))
        with serve(url) as server, grpc.insecure_channel(f"{HOST}:{server.port}") as channel:
            stub: Any = MetricServiceStub(channel)
            metric = messages.Metric(key="latency", kind=messages.METRIC_KIND_MEAN)
            stub.CreateMetric(messages.CreateMetricRequest(project="default", metric=metric))
            figures: list[Figure] = []
            for name, each in (("in series of 50", 50), ("each a series", 1)):
                say(f"observations, {name}")
                rounds = [_round(server, stub, each, f"{name}-{number}") for number in range(ROUNDS)]
                rate = spread([found[0] for found in rounds])
                acks = spread([found[1] for found in rounds])
                figures.append(Figure(f"observations, {name}", "/s and core", rate, goal=RATE_GOAL))
                figures.append(Figure(f"acknowledged, p99, {name}", "ms", acks, goal=ACK_GOAL))
        say("verdicts")
        return [*figures, _verdicts(url)]


def _round(server: Running, stub: Any, each: int, producer: str) -> tuple[float, float]:
    """Observations for each second of the server's time, and p99 of the time to an acknowledgement in ms."""
    sent: dict[int, float] = {}
    room = threading.Semaphore(AHEAD)
    until = time.monotonic() + ROUND_S

    def batches() -> Iterator[messages.RecordRequest]:
        sequence = 0
        while time.monotonic() < until:
            room.acquire()
            sequence += 1
            sent[sequence] = time.perf_counter()
            yield _batch(sequence, each, producer)

    took: list[float] = []
    before = server.cpu_s()
    for ack in stub.Record(batches()):
        assert ack.taken == messages.RecordResponse.TAKEN_APPLIED and not ack.problems
        took.append(1000 * (time.perf_counter() - sent[ack.sequence]))
        room.release()
    spent = server.cpu_s() - before
    return len(took) * BATCH / spent, sorted(took)[int(0.99 * len(took))]


def _batch(sequence: int, each: int, producer: str) -> messages.RecordRequest:
    request = messages.RecordRequest(project="default", environment="production", producer=producer, sequence=sequence)
    for place in range(BATCH // each):
        request.series.add(
            metric="latency", flag=f"flag-{place % FLAGS}", variant="on", values=[float(place + 1)] * each
        )
    return request


def _verdicts(url: str) -> Figure:
    """What a guard's window costs after some observations, and after thousands of times as many."""
    engine = open_engine(url)
    guard = Guard("g", "production", metric="latency", flag="flag-0", variant="off", high=1.0)
    now = datetime.now(UTC)
    observing = Observing(engine, lambda: now)

    def cost() -> Spread:
        times: list[float] = []
        for _ in range(MANY):
            with reading(engine) as connection:
                start = time.perf_counter()
                measure(connection, "default", guard, since=now, now=now)
                times.append(1e6 * (time.perf_counter() - start))
        return spread(times)

    def absorb(first: int, batches: int, values: int) -> None:
        series = [Series("latency", [1.0] * values, (), "flag-0", "off")]
        for number in range(first, first + batches):
            observing.take([Batch("default", "production", "bench", number, series)])

    absorb(1, 1, FEW)
    few = cost()
    absorb(2, 100, 10_000)
    many = cost()
    engine.dispose()
    ratio = many.median / few.median
    return Figure(
        "a guard's window after 1,000,000 observations", "us", many, f"after {FEW}", few, Spread(ratio, ratio, ratio),
        VERDICT_GOAL,
    )  # fmt: skip
