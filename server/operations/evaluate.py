"""Evaluate flags: choose the flag set, ask one flag or many, and hold the answer to a type."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any, Final

from server.core.errors import StoreUnavailable
from server.core.evaluation.snapshot import Snapshot, missing
from server.core.flags import ValueType
from server.core.json import Json
from server.core.resolution import ErrorCode, Reason, Resolution
from server.core.selectors import parse_selector
from server.live.holder import Holder

EXACT_INTEGER_MAX: Final = 2**53 - 1
"""Largest magnitude that a double holds without loss. Source: flagd ADR numeric-coercion."""

INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1
WRITTEN_INTEGER_MAX: Final = 10**40
PACE_EVALUATIONS: Final = 5_000
"""A large batch lets other calls in after about this many evaluations, some milliseconds of work."""

_NATIVE: Final[dict[type, ValueType]] = {
    bool: ValueType.BOOLEAN,
    str: ValueType.STRING,
    int: ValueType.INTEGER,
    float: ValueType.FLOAT,
    dict: ValueType.OBJECT,
}


def find(holder: Holder, flag_set: str) -> Snapshot:
    """The flag set of a name; "" is the server's default. Errors: NotFound, StoreUnavailable."""
    try:
        return holder.find(flag_set)
    except Exception:
        _check_ready(holder)
        raise


def select(holder: Holder, selector: str) -> tuple[Snapshot, tuple[str, str]]:
    """The flag set that a flagd selector names, and the selector's key and value to echo.

    Errors: InvalidRequest, NotFound, StoreUnavailable.
    """
    parsed = parse_selector(selector)
    if parsed is None:
        return find(holder, ""), ("flagSetId", "")
    try:
        return holder.select(parsed), (parsed.key, parsed.value)
    except Exception:
        _check_ready(holder)
        raise


def _check_ready(holder: Holder) -> None:
    if not holder.loaded:
        raise StoreUnavailable("no flags have been loaded yet; ask again in a moment")


def resolve(
    snapshot: Snapshot, key: str, *, context: Mapping[str, Any], now: int, expected: ValueType | None = None
) -> Resolution:
    """Evaluate one flag, and hold its answer to a type when one is expected."""
    resolution = snapshot.resolve(key, context, now)
    return resolution if expected is None else as_type(resolution, expected)


def resolve_all(snapshot: Snapshot, context: Mapping[str, Any], *, now: int) -> dict[str, Resolution]:
    """Evaluate every flag of a set for one context, by flag key."""
    return {key: snapshot.flags[key].evaluate(context, now) for key in flag_keys(snapshot)}


def flag_keys(snapshot: Snapshot) -> tuple[str, ...]:
    """Keys of all flags of a set, sorted; once per snapshot."""
    keys: tuple[str, ...] | None = snapshot.wire.get("keys")
    if keys is None:
        keys = snapshot.wire["keys"] = tuple(sorted(snapshot.flags))
    return keys


def attributes_read(snapshot: Snapshot, keys: Iterable[str]) -> frozenset[str] | None:
    """The context attributes that any of these flags reads; None when one may read any."""
    flags = snapshot.flags
    found: set[str] = set()
    for key in keys:
        flag = flags.get(key)
        if flag is None or flag.static is not None:
            continue
        if flag.reads is None:
            return None
        found |= flag.reads
    return frozenset(found)


@dataclass(frozen=True, slots=True)
class Answers:
    """What a batch gives: each distinct answer once, and where it applies.

    Shapes: columns[f][c] is the place in `distinct` of flag f's answer for context c.
    """

    distinct: Sequence[Resolution]
    columns: Sequence[Sequence[int]]


async def resolve_batch(
    snapshot: Snapshot, keys: Sequence[str], *, contexts: Sequence[Mapping[str, Any]], now: int
) -> Answers:
    """Evaluate flags for contexts, a flag at a time; other calls get their turn every PACE_EVALUATIONS."""
    flags = snapshot.flags
    places = _Places()
    columns: list[Sequence[int]] = []
    count = len(contexts)
    worked = 0
    for key in keys:
        flag = flags.get(key)
        if flag is None:
            columns.append([places[missing(snapshot.flag_set, key)]] * count)
        elif flag.static is not None:
            columns.append([places[flag.static]] * count)
        else:
            columns.append(list(map(places.__getitem__, map(flag.evaluate, contexts, repeat(now)))))
            worked += count
        worked += 1
        if worked >= PACE_EVALUATIONS:
            worked = 0
            await asyncio.sleep(0)
    return Answers(tuple(places), columns)


class _Places(dict[Resolution, int]):
    """Number answers in the order in which they are first met; they are told apart as objects."""

    def __missing__(self, answer: Resolution) -> int:
        place = self[answer] = len(self)
        return place


def as_type(resolution: Resolution, expected: ValueType) -> Resolution:
    """The same answer as another type, or TYPE_MISMATCH; worked out once per answer and type.

    Integers and floats stand for each other where nothing is lost. An answer without a value (an error, or the
    caller's own default) is of every type.
    """
    value = resolution.value
    if value is None:
        return resolution
    if _NATIVE.get(type(value)) is expected and (type(value) is not int or INT64_MIN <= value <= INT64_MAX):
        return resolution
    known: Resolution | None = resolution.wire.get(expected)
    if known is None:
        known = resolution.wire[expected] = _converted(resolution, expected)
    return known


def _converted(resolution: Resolution, expected: ValueType) -> Resolution:
    value = resolution.value
    fitting = _fit(value, expected)
    if fitting is not None:
        return replace(resolution, value=fitting, type=expected, wire={})
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and expected in (ValueType.INTEGER, ValueType.FLOAT):
        problem = f"serves {_number(value)}, which cannot be given as {expected} without loss"
    else:
        problem = f"is of type {_type_name(value)}, not {expected}"
    return replace(
        resolution,
        value=None,
        variant=None,
        reason=Reason.ERROR,
        error_code=ErrorCode.TYPE_MISMATCH,
        error_message=f"flag {resolution.flag_key!r} {problem}; ask for it as {_type_name(value)}",
        wire={},
    )


def _fit(value: Json, expected: ValueType) -> Json | None:
    match expected:
        case ValueType.INTEGER if type(value) is int:
            return value if INT64_MIN <= value <= INT64_MAX else None
        case ValueType.INTEGER if type(value) is float:
            return int(value) if value.is_integer() and abs(value) <= EXACT_INTEGER_MAX else None
        case ValueType.FLOAT if type(value) is int:
            return float(value) if abs(value) <= EXACT_INTEGER_MAX else None
        case _:
            return value if _NATIVE.get(type(value)) is expected else None


def _number(value: Json) -> str:
    # Python refuses to write out integers of thousands of digits.
    return "a very large integer" if type(value) is int and abs(value) > WRITTEN_INTEGER_MAX else repr(value)


def _type_name(value: Json) -> str:
    return str(_NATIVE.get(type(value), "list"))
