"""Run benchmarks by name and print what they find; behind scripts/measure."""

import argparse
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import Final

from tests.benchmarks.figures import Benchmark, Figure, as_json, as_table

BENCHMARKS: Final[Mapping[str, str]] = {
    "evaluation": "one compiled evaluation, beside the official evaluators",
    "unary": "single calls over gRPC, beside an empty handler",
    "batch": "EvaluateBatch, evaluations a second and core",
    "stream": "EvaluateStream, beside single calls",
    "scale": "10,000 flags: import, start, memory, a commit seen",
    "memory": "drift over many evaluations and calls",
    "fanout": "commit to the last of thousands of event streams, beside bare streams",
    "sync": "1,000 flags by SyncFlags to 200 subscribers",
    "workers": "two worker processes beside one",
    "management": "10,000 flags with a past: start, lists, history, commits",
    "commits": "commits a second on both databases, and how soon they are served elsewhere",
    "meanwhile": "evaluation's latencies while commits, bulk edits and verifications run",
    "metrics": "observations a second and core into SQLite, and what a verdict costs",
    "guards": "a breach's arrival to the rolled-back value at a client that watches",
    "audit": "entries that a verification reads a second",
    "releases": "1,000 that run: a look, and 500 steps that are due together",
    "schedules": "10,000 that wait: a look, idling, how late those are that are due",
    "webhooks": "100,000 deliveries to 50 endpoints, how soon one arrives, and what hanging receivers cost",
    "timed": "10,000 schedules and 1,000 releases together: a look, idling",
    "ofrep": "single evaluations over HTTP, beside an empty handler",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for; 0 unless a benchmark itself failed, whether goals are met or not."""
    options = _options(arguments)
    if options.name and options.name not in BENCHMARKS:
        listed = "\n".join(f"  {name:<12}{about}" for name, about in BENCHMARKS.items())
        print(f"there is no benchmark {options.name!r}; there are:\n{listed}", file=sys.stderr)
        return 2
    results: dict[str, list[Figure]] = {}
    failed: list[str] = []
    for name in [options.name] if options.name else BENCHMARKS:
        found = _run(name, options.streams)
        if found is None:
            failed.append(name)
            continue
        results[name] = found
        if not options.json:
            print(f"\n## {name}: {BENCHMARKS[name]}\n\n{as_table(found)}\n\n{_surroundings()}", flush=True)
    if options.json:
        print(as_json(results))
    if failed:
        print(f"failed to run: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    about = "Benchmarks: figures beside others of the same run, with the noise (min..max) and the goals."
    names = ", ".join(BENCHMARKS)
    parser = argparse.ArgumentParser("measure", description=about)
    parser.add_argument("name", nargs="?", metavar="NAME", help=f"one of: {names}; all of them without a name")
    parser.add_argument("--json", action="store_true", help="print JSON, for machines")
    parser.add_argument(
        "--streams", type=_counts, metavar="N,N", help="how many streams fanout opens, instead of all its sizes"
    )
    return parser.parse_args(arguments)


def _counts(text: str) -> Sequence[int]:
    return [int(each) for each in text.split(",")]


def _run(name: str, sizes: Sequence[int] | None) -> list[Figure] | None:
    benchmark: Benchmark = import_module(f"tests.benchmarks.{name}").run
    if name == "fanout" and sizes:
        benchmark = partial(benchmark, sizes=sizes)  # type: ignore[call-arg]  # Only this one can be cut short.
    try:
        return benchmark(lambda text: print(f"{name}: {text}", file=sys.stderr, flush=True))
    except Exception:
        # One benchmark that cannot run must not keep the others from it.
        traceback.print_exc()
        return None


def _surroundings() -> str:
    """What else the machine was doing: with more load than cores, times and CPU times grow, and ratios less so."""
    return f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f} at the end"


if __name__ == "__main__":
    sys.exit(main())
