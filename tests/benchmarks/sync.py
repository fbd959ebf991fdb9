"""Measure SyncFlags: how soon 200 subscribers have a changed set of 1,000 flags, and what each of them costs."""

import json
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from protos.flagd.sync.v1 import sync_pb2 as messages
from server.core.evaluation.exporting import join_flags
from tests.benchmarks.crowd import Changing, Crowd, Delivery
from tests.benchmarks.figures import LOWER, Figure, Goal, Say, spread
from tests.benchmarks.load import ask_once
from tests.benchmarks.processes import Running, import_document, serve
from tests.benchmarks.samples import scale_document, scale_flag

FLAGS: Final = 1_000
SUBSCRIBERS: Final = 200
CONNECTIONS: Final = 20
COMMITS: Final = 10
CHANGED: Final = 321
SERVICE: Final = "/flagd.sync.v1.FlagSyncService"
GOAL: Final = Goal("value", LOWER, 1_000)
ENCODINGS: Final = 200


def run(say: Say) -> list[Figure]:
    """The same commits with one subscriber and with all: what every one costs beside what is done once."""
    key = f"flag-{CHANGED:05}"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = import_document(scale_document(FLAGS), folder)[0]
        server = stack.enter_context(serve(url))
        changing = stack.enter_context(Changing(url, key, scale_flag(CHANGED)))
        fetched = messages.FetchAllFlagsResponse.FromString(ask_once(server, f"{SERVICE}/FetchAllFlags", b""))
        encoding_ms = _encoding_ms(fetched.flag_configuration)
        size_kb = len(fetched.flag_configuration) / 1024
        say(f"{FLAGS:,} flags, {size_kb:,.0f} kB: {COMMITS} commits with one subscriber, then with {SUBSCRIBERS}")
        crowd = stack.enter_context(
            Crowd(server, connections=CONNECTIONS, path=f"{SERVICE}/SyncFlags", wanted="flag")
        )  # fmt: skip
        crowd.open(1)
        one, one_cpu_ms = _commits(server, crowd, changing)
        before_mb = server.resident_mb()
        crowd.open(SUBSCRIBERS - 1)
        all_, all_cpu_ms = _commits(server, crowd, changing)
        grown_mb = server.resident_mb() - before_mb
    beside = "one subscriber"
    further_ms = (spread(all_cpu_ms).median - spread(one_cpu_ms).median) / (SUBSCRIBERS - 1)
    return [
        Figure(
            f"commit to the last of {SUBSCRIBERS} subscribers", "ms", spread([each.last_ms for each in all_]), beside,
            spread([each.last_ms for each in one]), goal=GOAL, note=f"{size_kb:,.0f} kB go to each subscriber",
        ),
        Figure(f"server CPU a commit, {SUBSCRIBERS} subscribers", "ms", spread(all_cpu_ms), beside, spread(one_cpu_ms)),
        Figure(
            "server CPU a further subscriber", "ms", spread([further_ms]), "encoding it again", spread(encoding_ms),
            note="if it were encoded for each subscriber, each would take longer than one encoding",
        ),
        Figure(f"resident memory for {SUBSCRIBERS - 1} further subscribers", "MB", spread([grown_mb])),
    ]  # fmt: skip


def _encoding_ms(text: str) -> list[float]:
    """How long it takes to put the set's text together from flags that are encoded already."""
    flags = [(key, json.dumps(flag).encode()) for key, flag in json.loads(text)["flags"].items()]
    found: list[float] = []
    for _ in range(ENCODINGS):
        start = time.process_time()
        join_flags(flags)
        found.append((time.process_time() - start) * 1_000)
    return found


def _commits(server: Running, crowd: Crowd, changing: Changing) -> tuple[list[Delivery], list[float]]:
    """Deliveries, and the server's CPU time for each; the first warms up."""
    delivered: list[Delivery] = []
    cpu_ms: list[float] = []
    for number in range(COMMITS + 1):
        cpu_s = server.cpu_s()
        delivery = crowd.deliver(changing.commit)
        if number:
            delivered.append(delivery)
            cpu_ms.append((server.cpu_s() - cpu_s) * 1_000)
    return delivered, cpu_ms
