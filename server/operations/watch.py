"""Follow the answers of one context: what a subscriber was told, and what of that does not hold any more.

Nothing is kept for a subscriber but the snapshot and the second that it was told of: what it holds can always be
evaluated again, since a flag gives one answer for one context at one second.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from server.core.evaluation.difference import FlagChange, changed_flags
from server.core.evaluation.snapshot import CompiledFlag, Snapshot, missing
from server.core.resolution import Resolution
from server.operations.evaluate import PACE_EVALUATIONS, flag_keys

PAIRS_MAX: Final = 16
"""Differences between two snapshots that are kept for the subscribers that are still to take the step."""

Same: TypeAlias = Callable[[Resolution, Resolution], bool]
"""Whether a client can tell two answers apart."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a subscriber asks for."""

    flag_set: str
    keys: tuple[str, ...]
    """Each once; empty: every flag of the set, also those that are created later."""

    context: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Told:
    """What a subscriber holds: the answers of a snapshot at a second."""

    snapshot: Snapshot | None
    """None while the flag set is gone."""

    at: int
    """Seconds since 1970, UTC."""


@dataclass(frozen=True, slots=True)
class Step:
    """What a subscriber has to hear."""

    answers: Sequence[Resolution] = ()
    removed: Sequence[str] = ()
    """Flags that are no longer there; one that was asked for by its key is also answered with FLAG_NOT_FOUND."""

    def __bool__(self) -> bool:
        """Whether there is anything."""
        return bool(self.answers or self.removed)


class Differences:
    """The flags that differ between two snapshots, worked out once for all subscribers that take the step."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], tuple[Snapshot | None, Snapshot | None, Mapping[str, FlagChange]]] = {}

    def between(self, before: Snapshot | None, after: Snapshot | None) -> Mapping[str, FlagChange]:
        """The flags that differ."""
        if before is after:
            return {}
        pair = (id(before), id(after))
        known = self._known.get(pair)
        if known is None:
            # The snapshots are kept, so that their ids stay their own.
            known = self._known[pair] = before, after, changed_flags(before, after)
            if len(self._known) > PAIRS_MAX:
                del self._known[next(iter(self._known))]
        return known[2]


async def all_answers(wanted: Wanted, told: Told) -> Sequence[Resolution]:
    """Every answer that is wanted; other calls get their turn every PACE_EVALUATIONS."""
    answers: list[Resolution] = []
    keys = wanted.keys or (() if told.snapshot is None else flag_keys(told.snapshot))
    for place, key in enumerate(keys, start=1):
        answers.append(_answer(wanted, told, key) or missing(wanted.flag_set, key))
        if place % PACE_EVALUATIONS == 0:
            await asyncio.sleep(0)
    return answers


async def step(wanted: Wanted, before: Told, *, after: Told, differences: Differences, same: Same) -> Step:
    """What differs for this context between two moments; other calls get their turn every PACE_EVALUATIONS."""
    answers: list[Resolution] = []
    removed: list[str] = []
    changed = differences.between(before.snapshot, after.snapshot)
    for place, key in enumerate(_suspects(wanted, before, after=after, changed=changed), start=1):
        old, new = _answer(wanted, before, key), _answer(wanted, after, key)
        if new is not None:
            if old is None or not same(old, new):
                answers.append(new)
        elif old is not None:
            removed.append(key)
            if wanted.keys:
                answers.append(missing(wanted.flag_set, key))
        if place % PACE_EVALUATIONS == 0:
            await asyncio.sleep(0)
    return Step(answers, removed)


def next_instant(wanted: Wanted, told: Told) -> int | None:
    """The second at which an answer may change by itself; None when none will."""
    instants = (flag.clock.next_after(told.at) for flag in _clocked(wanted, told.snapshot) if flag.clock is not None)
    return min((instant for instant in instants if instant is not None), default=None)


def _suspects(wanted: Wanted, before: Told, *, after: Told, changed: Mapping[str, FlagChange]) -> Iterable[str]:
    """The wanted flags whose answer may differ, in order."""
    suspects = [key for key in wanted.keys if key in changed] if wanted.keys else sorted(changed)
    if before.at == after.at:
        return suspects
    due = [flag.key for flag in _clocked(wanted, after.snapshot) if _is_due(flag, before.at, after.at)]
    return dict.fromkeys([*suspects, *due])


def _is_due(flag: CompiledFlag, before: int, after: int) -> bool:
    instant = None if flag.clock is None else flag.clock.next_after(before)
    # A clock that was set back may undo what had come about.
    return after < before or (instant is not None and instant <= after)


def _clocked(wanted: Wanted, snapshot: Snapshot | None) -> Sequence[CompiledFlag]:
    """The wanted flags that look at the clock; of a whole set they are found once a snapshot."""
    if snapshot is None:
        return ()
    if wanted.keys:
        flags = (snapshot.flags.get(key) for key in wanted.keys)
        return [flag for flag in flags if flag is not None and flag.clock is not None]
    known: Sequence[CompiledFlag] | None = snapshot.wire.get("clocked")
    if known is None:
        known = snapshot.wire["clocked"] = tuple(flag for flag in snapshot.flags.values() if flag.clock is not None)
    return known


def _answer(wanted: Wanted, told: Told, key: str) -> Resolution | None:
    flag = None if told.snapshot is None else told.snapshot.flags.get(key)
    return None if flag is None else flag.evaluate(wanted.context, told.at)
