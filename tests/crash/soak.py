"""Prove that a server that is used for long does not grow: memory, tasks, file descriptors and metric series.

Everything that a server answers is asked of it by every protocol at once, while flags change, come and go, and streams
and connections open and close. Then all fall silent, and what is left is compared with what was there before.
"""

import json
import os
import signal
import time
import urllib.request
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import linear_regression
from typing import Final

from server.store.engine import open_engine
from server.store.sqlite import SQLite
from tests.conformance.processes import HOST, FlagSetFile, Server, import_flags, serve_database
from tests.crash import mixture
from tests.crash.counted_server import tasks_path
from tests.crash.proofs import Effort, Results
from tests.crash.surroundings import Asking, descriptors, descriptors_of, resident_mb

SECONDS_PER_CYCLE: Final = 3.0
"""With 200 cycles ten minutes, with 12 half a minute."""

FIRST_ROUND_S: Final = 5.0
"""What is asked before anything is compared: connections, code and figures that come up at their first use."""

WARM_SHARE: Final = 0.4
"""Of the time; in it caches fill, and the changes that are kept for clients that come back."""

SAMPLES: Final = 200
WHOLE_S: Final = 600.0
GROWTH_MB_MAX: Final = 2.0
"""Along the slope, from the end of the warm-up to the end of a whole soak: an evaluation that kept a byte, or a stream
that kept 100, would be found.

Measured: 0.2 MB a minute, with 65 streams a second on one connection and 62 on connections of their own, 28 commits,
and 29 batches of 1,000 evaluations.
"""

WARMING_MB_MAX: Final = 8.0
"""The same of a shorter soak. It ends before the collector has been at work a few times: in between, up to 50,000
objects in circles lie about."""

SETTLE_S: Final = 30.0
DATABASE: Final = "flags.db"
DATABASE_DESCRIPTORS_MAX: Final = 3 * SQLite.CONNECTIONS_MAX
"""The file, its log and its index for each connection."""

PAUSE_S: Final = 0.02
"""After each question, in each of its threads: the server is used, not at its limit."""


@dataclass(frozen=True, slots=True)
class Remains:
    """What a server holds while nobody asks."""

    tasks: dict[str, int]
    """Coroutine -> how many tasks run it."""

    descriptors: int
    """But for the database's: its pool opens connections as they are needed, and keeps them."""

    database_descriptors: int
    open_streams: float
    subscribers: float
    series: frozenset[str]


def prove(effort: Effort) -> Results:
    """Ask for a while, and compare."""
    results, folder = Results(), Path(effort.directory)
    database = f"sqlite:///{folder / DATABASE}"
    import_flags(folder / "flags.json", FlagSetFile(mixture.document()), database=database)
    server = serve_database(folder, database, module="tests.crash.counted_server")
    engine = open_engine(database)
    try:
        questions = mixture.questions(server.port, server.ports.http, engine=engine)
        with ExitStack() as stack:
            asking = {
                name: stack.enter_context(Asking(server.port, question, pause_s=PAUSE_S))
                for name, question in questions.items()
            }
            time.sleep(FIRST_ROUND_S)
            with _silence(asking.values()):
                before = _settled(server, None)
            samples = _samples(server, effort.cycles * SECONDS_PER_CYCLE)
            with _silence(asking.values()):
                after = _settled(server, before)
    finally:
        server.stop()
        engine.dispose()
        tasks_path(server.process.pid).unlink(missing_ok=True)
    for name, one in asking.items():
        results.check("every question is answered", not one.failures, f"{name}: {one.failures[:3]}")
        results.check("every kind is asked", one.asked > 1, name)
        results.note(name, one.asked)
    compare(results, before, after=after)
    check_memory(results, samples)
    return results


@contextmanager
def _silence(asking: Collection[Asking]) -> Iterator[None]:
    for one in asking:
        one.pause()
    yield
    for one in asking:
        one.resume()


def _samples(server: Server, duration_s: float) -> list[tuple[float, float]]:
    """Memory by time. Units: s, MB."""
    started_at = time.monotonic()
    samples = []
    while (now_s := time.monotonic() - started_at) < duration_s:
        samples.append((now_s, resident_mb(server.process.pid)))
        time.sleep(duration_s / SAMPLES)
    return samples


def _settled(server: Server, expected: Remains | None) -> Remains:
    """What is left; ends of connections take a moment, so what is not yet as expected is looked at again."""
    until = time.monotonic() + SETTLE_S
    if expected is None:
        # The figures of looking come up with the first look. Nobody says when the first round's connections are gone.
        _remains(server)
        time.sleep(FIRST_ROUND_S)
    while True:
        found = _remains(server)
        if expected is None or _is_back(expected, found) or time.monotonic() > until:
            return found
        time.sleep(0.5)


def _is_back(before: Remains, after: Remains) -> bool:
    results = Results()
    compare(results, before, after=after)
    return results.hold


def _remains(server: Server) -> Remains:
    # The connection of this request is the only one of its kind, and is among the descriptors both times.
    with urllib.request.urlopen(f"http://{HOST}:{server.ports.http}/metrics", timeout=30) as reply:
        lines = [line for line in reply.read().decode().splitlines() if not line.startswith("#")]
    figures = {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}
    of_database = descriptors_of(server.process.pid, server.log.with_name(DATABASE))
    return Remains(
        tasks=_tasks(server.process.pid),
        descriptors=descriptors(server.process.pid) - of_database,
        database_descriptors=of_database,
        open_streams=sum(value for name, value in figures.items() if "open_streams" in name),
        subscribers=figures["flagstaff_subscribers"],
        series=frozenset(figures),
    )


def _tasks(pid: int) -> dict[str, int]:
    path = tasks_path(pid)
    path.unlink(missing_ok=True)
    os.kill(pid, signal.SIGUSR1)
    until = time.monotonic() + SETTLE_S
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.01)
    tasks: dict[str, int] = json.loads(path.read_text(encoding="utf-8"))
    return tasks


def compare(results: Results, before: Remains, *, after: Remains) -> None:
    """Hold what is left against what was there."""
    more = {name: count for name, count in after.tasks.items() if count > before.tasks.get(name, 0)}
    results.equal("no task is left", {}, more, where="tasks that were fewer before")
    results.check(
        "no descriptor is left", after.descriptors <= before.descriptors, f"{before.descriptors}, {after.descriptors}"
    )
    results.check(
        "the database's descriptors are those of its pool",
        after.database_descriptors <= DATABASE_DESCRIPTORS_MAX,
        f"{after.database_descriptors}, at most {DATABASE_DESCRIPTORS_MAX}",
    )
    results.equal("no stream is left open", 0, after.open_streams, where="open streams")
    results.equal("no subscription is left", 0, after.subscribers, where="subscribers")
    results.equal("no metric series is new", set(), set(after.series - before.series), where="series")


def check_memory(results: Results, samples: Sequence[tuple[float, float]]) -> None:
    """Follow the memory after the warm-up. Units: s, MB."""
    warm = [sample for sample in samples if sample[0] >= samples[-1][0] * WARM_SHARE]
    times, sizes = zip(*warm, strict=True)
    slope = linear_regression(times, sizes).slope
    grown_mb = slope * (times[-1] - times[0])
    limit_mb = GROWTH_MB_MAX if samples[-1][0] >= WHOLE_S * 0.9 else WARMING_MB_MAX
    results.check(f"memory grows by {limit_mb:g} MB or less after the warm-up", grown_mb <= limit_mb, f"{grown_mb:.1f}")
    results.note("s of soak", round(samples[-1][0]))
    results.note("MB after the warm-up", round(sizes[0]))
    results.note("kB a minute of slope", round(slope * 60 * 1024))
