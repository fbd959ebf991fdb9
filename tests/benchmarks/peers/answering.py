"""Let an evaluator be timed in a process of its own: a line of JSON in, a line of JSON out."""

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

Loop: TypeAlias = Callable[[Sequence[Any], int], Any]
"""(contexts, repeat): evaluate one flag for every context, so many times; gives the last answer's value."""


def answer_lines(loops: Mapping[str, Loop], contexts: Sequence[Any]) -> None:
    """Answer `{"case", "repeat"}` with nanoseconds per evaluation, `{"case"}` with the values for all contexts."""
    for line in sys.stdin:
        asked = json.loads(line)
        loop = loops[asked["case"]]
        if "repeat" in asked:
            reply: Any = _time(loop, contexts, asked["repeat"])
        else:
            reply = [loop([context], 1) for context in contexts]
        print(json.dumps(reply), flush=True)


def _time(loop: Loop, contexts: Sequence[Any], repeat: int) -> float:
    start = time.perf_counter_ns()
    loop(contexts, repeat)
    return (time.perf_counter_ns() - start) / (repeat * len(contexts))
