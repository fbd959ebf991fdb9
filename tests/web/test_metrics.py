"""Show figures to Prometheus, with labels that stay bounded whatever callers send."""

import asyncio
import random
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette

from server.core.resolution import ErrorCode, Reason
from server.live.holder import Serving
from server.live.watch import Hub
from server.operations.counts import FLAG_SETS_MAX
from server.rpc.metrics import measured
from server.rpc.services import make_services
from server.web.metrics import Sources, make_registry, metrics_route
from tests.fakes import (
    NOW,
    FakeCall,
    answer,
    chooses,
    fake_clock,
    holder_of,
    snapshot_of,
    static_flag,
    struct_bytes,
)
from tests.web.asgi import ask

ROOT: Final = Path(__file__).resolve().parents[2]
DEFAULT: Final = "default/production"


@pytest.fixture
def sources() -> Sources:
    """A holder with two sound flags and a broken one, and nothing counted yet."""
    broken = replace(static_flag(answer("c", True)), quarantine="its rule is none")
    holder = holder_of(snapshot_of(static_flag(answer("a", True)), chooses("b", "plan", lambda plan: True), broken))
    return Sources(holder, Hub())


def scraped(sources: Sources) -> dict[tuple[str, tuple[str, ...]], float]:
    """(name, label values by label) -> value of every sample that a scrape shows."""
    app = Starlette(routes=[metrics_route(make_registry(sources, clock=lambda: NOW))])
    reply = asyncio.run(ask(app, "/metrics"))
    assert reply.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(reply.text)
        for sample in family.samples
    }


def ours(figures: dict[tuple[str, tuple[str, ...]], float]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The names of our own samples."""
    return (each for each in figures if each[0].startswith("flagstaff_"))


def test_what_is_served(sources: Sources) -> None:
    """Revision, flags and age of each flag set, and the state of the server."""
    sources.freshness.note(sources.holder.serving.snapshots, now=NOW - 30)
    sources.holder.serving = replace(sources.holder.serving, stale_since=NOW - 12)
    figures = scraped(sources)

    assert {"revision": 7, "flags": 3, "quarantined_flags": 1, "snapshot_age_seconds": 30} == {
        name: figures[f"flagstaff_{name}", (DEFAULT,)]
        for name in ("revision", "flags", "quarantined_flags", "snapshot_age_seconds")
    }
    names = ("ready", "stale_seconds", "reloads_total", "subscribers", "flag_sets")
    assert [1, 12, 1, 0, 1] == [figures[f"flagstaff_{name}", ()] for name in names]


def test_evaluations(sources: Sources) -> None:
    """By protocol, flag set, reason and error code."""
    seen = sources.evaluations.counter("ofrep")
    seen(snapshot_of(), answer("a", True, reason=Reason.TARGETING_MATCH), 5)
    seen(snapshot_of(), replace(answer("a", None), reason=Reason.ERROR, error_code=ErrorCode.PARSE_ERROR))
    figures = scraped(sources)

    assert (5, 1) == (
        figures["flagstaff_evaluations_total", ("", DEFAULT, "ofrep", "TARGETING_MATCH")],
        figures["flagstaff_evaluations_total", ("PARSE_ERROR", DEFAULT, "ofrep", "ERROR")],
    )


def test_calls_and_requests(sources: Sources) -> None:
    """How many ended how, how long they took, and what is open."""
    call, route = sources.calls["/a.B/C"], sources.requests["/x/{key}"]
    call.ended["OK"] += 2
    for took_s in (0.0002, 0.3):
        call.took.add(took_s)
    call.open_streams, call.sent = 4, 9
    route.ended["304"] += 1
    figures = scraped(sources)

    assert (2, 4, 9, 1) == (
        figures["flagstaff_rpc_calls_total", ("/a.B/C", "OK")],
        figures["flagstaff_rpc_open_streams", ("/a.B/C",)],
        figures["flagstaff_rpc_stream_messages_total", ("/a.B/C",)],
        figures["flagstaff_http_requests_total", ("/x/{key}", "304")],
    )
    buckets = [figures["flagstaff_rpc_duration_seconds_bucket", (end, "/a.B/C")] for end in ("0.0001", "0.1", "+Inf")]
    assert ([0, 1, 2], 2) == (buckets, figures["flagstaff_rpc_duration_seconds_count", ("/a.B/C",)])


def test_the_process(sources: Sources) -> None:
    """Memory, CPU and file descriptors are there, and the loop's lag."""
    sources.loop_lag.add(0.2)
    names = {name for name, _ in scraped(sources)}

    assert {
        "process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds", "python_info",
        "flagstaff_event_loop_lag_seconds_sum",
    } <= names  # fmt: skip


def test_two_servers_in_a_process_do_not_meet(sources: Sources) -> None:
    """Every registry is its own; the library's global one is not used."""
    assert make_registry(sources) is not make_registry(sources)


def test_many_flag_sets_are_shown_together(sources: Sources) -> None:
    """Beyond the bound they have no label of their own; nothing is lost from the sums."""
    snapshots = [snapshot_of(static_flag(answer("a", True)), flag_set=f"shop/e{number:03}") for number in range(150)]
    sources.holder.serving = Serving({snapshot.flag_set: snapshot for snapshot in snapshots})
    figures = scraped(sources)
    flags = {labels: value for (name, labels), value in figures.items() if name == "flagstaff_flags"}

    assert (FLAG_SETS_MAX + 1, 150, 50) == (len(flags), sum(flags.values()), flags["other",])
    assert 150 == figures["flagstaff_flag_sets", ()]


def calls(key: str, context: bytes) -> Iterator[tuple[str, bytes, dict[str, str]]]:
    """One call of each protocol for a flag and a context: path, message, metadata."""
    flag = key.encode()
    raw = b"\x0a" + bytes([len(flag)]) + flag + b"\x12" + bytes([len(context)]) + context
    yield "/flagstaff.v1.EvaluationService/Evaluate", raw, {}
    yield "/flagd.evaluation.v1.Service/ResolveBoolean", raw, {}
    yield "/flagd.evaluation.v2.Service/ResolveBoolean", raw, {"x-request-id": key}
    yield "/flagd.evaluation.v2.Service/ResolveBoolean", raw, {"flagd-selector": f"flagSetId={key}"}


def test_no_series_grows_with_keys_or_contexts(sources: Sources) -> None:
    """10,000 evaluations with keys, users, selectors and ids never seen before leave the series as they are."""
    services = make_services(sources.holder, sources.hub, clock=fake_clock, seen_by=sources.evaluations.counter)
    table: Any = measured(services.table, sources.calls, log=sources.request_log)
    chance = random.Random(7)

    def evaluate(count: int) -> set[tuple[str, tuple[str, ...]]]:
        for _ in range(count):
            drawn = f"{chance.getrandbits(64):x}"
            context = struct_bytes({"targetingKey": drawn, drawn: drawn})
            for path, raw, metadata in calls(chance.choice(["a", "b", drawn]), context):
                try:
                    table[path].function(raw, FakeCall(metadata))
                except Exception as error:
                    assert "Abort" == type(error).__name__
        return set(ours(scraped(sources)))

    first = evaluate(100)

    assert (True, first) == (len(first) > 50, evaluate(2_500))


def test_the_readme_has_every_metric(sources: Sources) -> None:
    """And none that is not there; `flagstaff_workers` belongs to a group of processes."""
    told = re.findall(r"`(flagstaff_\w+)`", (ROOT / "README.md").read_text())
    metrics = [metric for metric in make_registry(sources).collect() if metric.name.startswith("flagstaff_")]
    shown = [f"{metric.name}_total" if metric.type == "counter" else metric.name for metric in metrics]

    assert sorted({*shown, "flagstaff_workers"}) == sorted(set(told))
