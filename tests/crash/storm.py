"""Prove that a server that is killed gets all its streams back, and that none of them is told anything wrong.

A process holds streams on 100 connections, a half of them Watch, a half EventStream. The server is killed with SIGKILL
and started again on the same ports, while a flag goes on changing. Everything that the streams were told is recorded,
and compared with what was committed.
"""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine

from server.core.changes import PutFlag
from server.core.definitions.flags import read_flag
from server.core.definitions.problems import Problems
from server.core.flags import FlagDefinition
from server.store.commit import commit
from server.store.engine import open_engine
from tests.conformance.processes import Driver, FlagSetFile, Ports, import_flags, serve_database, start_driver
from tests.crash.proofs import Effort, Results
from tests.crash.surroundings import Asking, ask_health, cpu_s
from tests.ports import low_ports

STREAMS_PER_CYCLE: Final = 25
STREAMS_MIN: Final = 500
STREAMS_MAX: Final = 5_000
CONNECTIONS: Final = 100
KILLS: Final = 2
PACED: Final = 3
"""Commits before each kill and after each return, each of which everybody hears before the next."""

HURRIED: Final = 5
"""Commits while streams are coming back, which nobody waits for."""

BACK_S_MAX: Final = 5.0
WAIT_MS: Final = 50_000
"""Less than what a driver is given for an answer."""

KEY: Final = "changing"
VALUES: Final = 10
WHOLE: Final = ("SNAPSHOT", "RESYNC")


@dataclass(slots=True)
class Run:
    """One run of the proof."""

    results: Results
    engine: Engine
    crowd: Driver
    streams: int
    values: dict[int, int] = field(default_factory=lambda: {1: 0})
    """Revision -> the flag's value at it."""

    paced: set[int] = field(default_factory=set)
    """Revisions that everybody had to hear of before there was a further one."""


def prove(effort: Effort) -> Results:
    """Kill the server under its streams, twice, and hold what was told against what was committed."""
    results, folder = Results(), Path(effort.directory)
    streams = min(STREAMS_MAX, max(STREAMS_MIN, effort.cycles * STREAMS_PER_CYCLE))
    results.note("streams", streams)
    database = f"sqlite:///{folder / 'flags.db'}"
    import_flags(folder / "flags.json", FlagSetFile({"flags": {KEY: _document(0)}}), database=database)
    ports = Ports(*low_ports(3))
    server = serve_database(folder, database, ports=ports)
    try:
        with _crowd(folder, streams=streams, port=ports.grpc) as crowd, Asking(ports.grpc, ask_health) as health:
            run = Run(results, open_engine(database), crowd, streams)
            _expect_back(run, time.monotonic(), after=0.0, bound_s=WAIT_MS / 1000)
            for number in range(1, KILLS + 1):
                _change_paced(run)
                health.pause()
                server.kill()
                killed_at = time.monotonic()
                _change(run)
                server = serve_database(folder, database, ports=ports)
                ready_at = time.monotonic()
                health.resume()
                for _ in range(HURRIED):
                    _change(run)
                _expect_back(run, ready_at, after=killed_at, bound_s=BACK_S_MAX)
                results.note("ms of the server's CPU since their starts", round(cpu_s(server.process.pid) * 1000))
                results.note("processes killed")
                _reach(run, max(run.values), where=f"after kill {number}")
                _change_paced(run)
            check_histories(run, crowd.ask("histories"))
            run.engine.dispose()
        _check_health(results, health)
    finally:
        server.stop()
    return results


@contextmanager
def _crowd(folder: Path, *, streams: int, port: int) -> Iterator[Driver]:
    options = {"streams": streams, "connections": CONNECTIONS, "key": KEY}
    command = [sys.executable, "-m", "tests.crash.crowd"]
    crowd = start_driver(command, options, port=port, log=folder / "crowd.log")
    try:
        yield crowd
    finally:
        crowd.stop()


def _expect_back(run: Run, since: float, *, after: float, bound_s: float) -> None:
    """Every stream has a call that began after an instant and is answered, in time."""
    answer = run.crowd.ask("back", after=after, timeoutMs=WAIT_MS)
    run.results.equal("no stream is lost", run.streams, answer["count"], where="streams that are answered")
    if after and answer["count"] == run.streams:
        took_s = answer["last"] - since
        run.results.check(f"all are back {bound_s:g} s after the server is ready", took_s <= bound_s, f"{took_s:.1f} s")
        slowest = f"ms until all were back, return {run.results.notes.get('processes killed', 0) + 1}"
        run.results.note(slowest, round(max(took_s, 0) * 1000))


def _change(run: Run) -> int:
    """Commit another value, as another process than the server."""
    value = (run.values[max(run.values)] + 1) % VALUES
    definition = read_flag(KEY, _document(value), problems=Problems(), path="")
    assert isinstance(definition, FlagDefinition)
    done = commit(
        run.engine, project="default", environment="production", changes=[PutFlag(definition)], actor="proof",
        now=datetime.now(UTC),
    )  # fmt: skip
    run.values[done.revision] = value
    run.results.note("commits")
    return done.revision


def _change_paced(run: Run) -> None:
    for _ in range(PACED):
        run.crowd.ask("note")
        revision = _change(run)
        run.paced.add(revision)
        _reach(run, revision, hear=True, where=f"revision {revision}")


def _reach(run: Run, revision: int, *, hear: bool = False, where: str) -> None:
    answer = run.crowd.ask("reach", revision=revision, hear=hear, timeoutMs=WAIT_MS)
    run.results.check("every stream hears of every change", "reached" in answer, where)


def check_histories(run: Run, found: Mapping[str, Any]) -> None:
    """Hold what the streams were told against what was committed."""
    results = run.results
    # Some more than a call for each stream and kill: a call that had just reached the server may be lost with it.
    results.equal("calls end as UNAVAILABLE alone", {"UNAVAILABLE"}, set(found["endings"]), where=f"{found['endings']}")
    results.note("calls that were cut off", sum(found["endings"].values()))
    for place, firsts in enumerate(found["first_types"]):
        results.equal(
            "an EventStream begins with provider_ready", {"provider_ready"}, set(firsts), where=f"stream {place}"
        )
    for place, told in enumerate(found["told"]):
        check_history(results, told, values=run.values, paced=run.paced, where=f"watch {place}")


def check_history(
    results: Results,
    told: Sequence[Sequence[Any]],
    *,
    values: Mapping[int, int],
    paced: set[int],
    where: str,
) -> None:
    """Follow one Watch: what its client holds after each message is what was committed."""
    call, revision, held = 0, 0, None
    missed = []
    for number, kind, new_revision, value in told:
        at = f"{where}, call {number}, {kind} of revision {new_revision} after {revision}"
        results.check("revisions never go back", new_revision >= revision, at)
        if number != call:
            results.check("a call begins with all values", kind in WHOLE, at)
        else:
            missed += [passed for passed in range(revision + 1, new_revision) if passed in paced]
        call, revision, held = number, new_revision, held if value is None else value
        results.equal("a client holds what its revision says", values.get(revision), held, where=at)
    results.equal("no gap without a RESYNC", [], missed, where=where)
    results.equal("all come to the last revision", max(values), revision, where=where)


def _check_health(results: Results, health: Asking) -> None:
    results.check("health answers while streams come back", not health.failures, "; ".join(health.failures[:3]))
    results.check("health was asked", health.asked > 0, "never")
    results.note("health checks", health.asked)
    results.note("ms for the slowest of them", health.slowest_ms)


def _document(value: int) -> dict[str, Any]:
    variants = {f"v{number}": number for number in range(VALUES)}
    return {"type": "integer", "variants": variants, "default": f"v{value}"}
