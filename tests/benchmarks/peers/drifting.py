"""Evaluate ten million times and print the resident memory on the way, in MB; started by the benchmark `memory`."""

import gc
import json
from typing import Final

from server.core.definitions.flags import read_flag
from server.core.definitions.problems import Problems
from server.core.environments import Environment
from server.core.evaluation.snapshots import build_snapshot
from server.core.flagsets import FlagSet
from tests.benchmarks.processes import resident_mb
from tests.benchmarks.samples import contexts, scale_document

EVALUATIONS: Final = 10_000_000
LOOKS: Final = 10
FLAGS: Final = 100
NOW: Final = 1_800_000_000


def main() -> None:
    """A hundred flags of every rule shape, for a hundred contexts, by turns."""
    problems = Problems()
    flags = {}
    for key, document in scale_document(FLAGS)["flags"].items():
        flag = read_flag(key, document, problems=problems, path=key)
        assert flag is not None, problems.errors
        flags[key] = flag
    snapshot = build_snapshot(FlagSet(Environment("shop", "production"), flags, {}), revision=1)
    functions = [flag.evaluate for flag in snapshot.flags.values()]
    rows = contexts()
    each = EVALUATIONS // LOOKS
    seen: list[float] = []
    for _ in range(LOOKS + 1):
        for _ in range(each // (len(functions) * len(rows))):
            for evaluate in functions:
                for row in rows:
                    evaluate(row, NOW)
        gc.collect()
        seen.append(resident_mb())
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
