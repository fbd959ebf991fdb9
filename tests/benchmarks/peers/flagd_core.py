"""Time openfeature-flagd-core, the official Python evaluator; started by the benchmark `evaluation`."""

from collections.abc import Sequence
from typing import Any

from openfeature.contrib.tools.flagd.core import FlagdCore
from openfeature.evaluation_context import EvaluationContext

from tests.benchmarks.peers.answering import Loop, answer_lines
from tests.benchmarks.samples import FLAGD_FLAGS, contexts, flagd_file


def main() -> None:
    """Offer each flag as an application's provider asks for it."""
    core = FlagdCore()
    core.set_flags(flagd_file())
    rows = [EvaluationContext(row["targetingKey"], row) for row in contexts()]
    answer_lines({key: _loop(core, key) for key in FLAGD_FLAGS}, rows)


def _loop(core: FlagdCore, key: str) -> Loop:
    def loop(rows: Sequence[Any], repeat: int) -> Any:
        resolve, value = core.resolve_boolean_value, None
        for _ in range(repeat):
            for row in rows:
                value = resolve(key, False, row).value
        return value

    return loop


if __name__ == "__main__":
    main()
