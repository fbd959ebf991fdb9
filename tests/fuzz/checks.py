"""Say what must hold of everything that was refused, accepted or answered."""

import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from server.core.definitions.documents import read_document, write_document
from server.core.definitions.flagd import write_flagd
from server.core.errors import InvalidDefinition
from server.core.evaluation.snapshot import Snapshot
from server.core.evaluation.snapshots import build_snapshot
from server.core.flags import ValueType
from server.core.flagsets import FlagSet
from server.core.json import Json
from server.core.resolution import Reason, Resolution
from server.rpc.convert import ours_slice
from tests.fuzz.inputs import INSTRUMENTED

NOW: Final = 1_767_225_600
EVALUATION_S_MAX: Final = 0.005
"""What one evaluation of an accepted rule may cost, by the issue."""

PROBLEM_CHARS_MAX: Final = 200_000
_TRIES: Final = 5
_TYPES: Final = {
    ValueType.BOOLEAN: (bool,),
    ValueType.STRING: (str,),
    ValueType.INTEGER: (int,),
    ValueType.FLOAT: (float, int),
    ValueType.OBJECT: (dict,),
}


def check_refusal(refused: InvalidDefinition) -> None:
    """A refusal has problems, each with a pointer and words that can be printed."""
    assert refused.problems, "a definition was refused without a problem"
    for problem in refused.problems:
        assert problem.path == "" or problem.path.startswith("/"), f"{problem.path!r} is no JSON pointer"
        assert problem.message, f"the problem at {problem.path!r} has no words"
        assert len(problem.message) < PROBLEM_CHARS_MAX, f"the problem at {problem.path!r} has too many words"
        str(problem).encode("utf-8", "surrogatepass")


def check_accepted(flag_set: FlagSet, *, contexts: Sequence[Mapping[str, Any]]) -> None:
    """What was accepted survives being written, can be written for flagd, and every flag of it answers."""
    document = json.loads(json.dumps(write_document(flag_set), allow_nan=False))
    lenient = any(each.config.lenient for each in flag_set.flags.values())
    lenient = lenient or any(segment.lenient for segment in flag_set.segments.values())
    again = read_document(document, lenient=lenient).flag_set
    assert write_document(again) == document, "what was accepted is not read as it was written"
    json.dumps(write_flagd(flag_set), allow_nan=False)
    snapshot = build_snapshot(flag_set, revision=1)
    for flag in snapshot.flags.values():
        assert not flag.quarantine, f"flag {flag.key!r} was accepted and then quarantined: {flag.quarantine}"
    check_answers(snapshot, contexts)


def check_answers(
    snapshot: Snapshot, contexts: Sequence[Mapping[str, Any]], *, seconds_max: float | None = EVALUATION_S_MAX
) -> None:
    """Every flag answers every context by a sound Resolution that can be encoded, in bounded time."""
    for key, flag in snapshot.flags.items():
        for context in contexts:
            answer = flag.evaluate(context, NOW)
            check_resolution(key, answer)
            if seconds_max is not None:
                _check_time(lambda flag=flag, context=context: flag.evaluate(context, NOW), key, seconds_max)


def check_resolution(key: str, answer: Resolution) -> None:
    """The answer is of its flag, typed, and says why where it has no value."""
    assert isinstance(answer, Resolution), f"flag {key!r} answered {answer!r}"
    assert answer.flag_key == key
    assert isinstance(answer.reason, Reason)
    assert (answer.reason is Reason.ERROR) == (answer.error_code is not None), f"flag {key!r}: {answer}"
    assert (answer.reason is Reason.ERROR) == bool(answer.error_message), f"flag {key!r}: {answer}"
    if answer.value is not None:
        assert answer.variant is not None, f"flag {key!r} has a value of no variant"
        assert answer.type is not None, f"flag {key!r} has a value of no type"
    assert type(ours_slice(answer)) is bytes


def check_json(value: Json) -> None:
    """A value has nothing but what JSON has, and text that can be encoded."""
    stack = [value]
    while stack:
        part = stack.pop()
        if isinstance(part, dict):
            stack.extend(part.keys())
            stack.extend(part.values())
        elif isinstance(part, list):
            stack.extend(part)
        elif isinstance(part, float):
            assert math.isfinite(part), f"{part} is not a number in JSON"
        else:
            assert part is None or isinstance(part, str | bool | int), f"{part!r} is not a JSON value"
            str(part).encode()


def _check_time(evaluate: Any, key: str, seconds_max: float) -> None:
    """The best of several: the bound is on the work, not on a busy machine."""
    factor = 20 if os.environ.get(INSTRUMENTED) else 1
    best = math.inf
    for _ in range(_TRIES):
        started = time.thread_time()
        evaluate()
        best = min(best, time.thread_time() - started)
        if best < seconds_max * factor:
            return
    raise AssertionError(f"one evaluation of flag {key!r} takes {best * 1000:.1f} ms, at most {seconds_max * 1000:.0f}")
