"""Count which units a change moves from which variant to which."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, TypeAlias, cast

from server.core import references
from server.core.audit import canonical_json
from server.core.definitions.flagsets import affected
from server.core.evaluation.snapshot import CompiledFlag
from server.core.evaluation.snapshots import compile_flags
from server.core.events import EnvironmentDeleted, EnvironmentUpdated, Event
from server.core.flagsets import FlagSet
from server.core.limits import SIMULATED_EVALUATIONS_MAX
from server.core.references import Target
from server.core.resolution import Reason, Resolution
from server.core.simulation.laws import BrokenLaw, broken_laws

Context: TypeAlias = Mapping[str, Any]


class ArmKind(StrEnum):
    """What a unit gets from a flag."""

    VARIANT = "variant"
    CALLER_DEFAULT = "caller-default"
    """No variant: the caller uses its own default."""

    ERROR = "error"
    ABSENT = "absent"
    """There is no such flag, or it is archived."""


@dataclass(frozen=True, slots=True, order=True)
class Arm:
    """What a unit gets from a flag, told apart as people do."""

    kind: ArmKind
    name: str = ""
    """The variant's key, or the error's code."""


ABSENT: Final = Arm(ArmKind.ABSENT)


class Because(StrEnum):
    """Why a flag's answers may change."""

    CHANGED = "changed"
    """It is changed itself."""

    DEPENDS = "depends"
    """Something that it requires or uses is changed."""


@dataclass(frozen=True, slots=True)
class FlagMoves:
    """What a change does to one flag's answers for a sample of units."""

    key: str
    because: Because
    via: tuple[Target, ...]
    """For a dependent: what it names that is changed, or depends on what is."""

    matrix: Mapping[tuple[Arm, Arm], int]
    """(before, after) -> units; those that stay are in it too, so that its sum is the sample."""

    other_value_count: int
    """Units that keep their variant, whose value is another."""

    broken_laws: tuple[BrokenLaw, ...] = ()

    @property
    def moved_count(self) -> int:
        """Units that get another variant than before."""
        return sum(count for (before, after), count in self.matrix.items() if before != after)


@dataclass(frozen=True, slots=True)
class Dangling:
    """A reference to what would not be there."""

    subject: Target
    missing: Target
    because_removed: bool
    """It is taken away by the change; else it was not there before either."""


@dataclass(frozen=True, slots=True)
class Simulated:
    """What a change does in one environment."""

    context_count: int
    """Of the sample, how many contexts were evaluated: fewer when very many flags are affected."""

    flags: tuple[FlagMoves, ...]
    """The changed ones first, then the dependents; each by key."""

    dangling: tuple[Dangling, ...]
    left_out_count: int = 0
    """Affected flags that were not evaluated because there are too many."""


@dataclass(frozen=True, slots=True)
class _Sides:
    before: FlagSet
    after: FlagSet
    touched: frozenset[Target]
    reached: frozenset[Target]
    """What is touched, and all the way up who depends on it."""

    flags_before: Mapping[str, CompiledFlag] = field(default_factory=dict)
    flags_after: Mapping[str, CompiledFlag] = field(default_factory=dict)


def simulate(
    before: FlagSet, after: FlagSet, *, events: Iterable[Event], sample: Sequence[Context], now: int
) -> Simulated:
    """Evaluate what a change affects, before and after it, for a sample of contexts.

    `before` and `after` may be parts of the environment, as long as they hold what is touched, its dependents, and
    whatever these refer to. Units: now is seconds since 1970, UTC.
    """
    touched = _touched(before, after, events)
    reached = cast(frozenset[Target], affected(before, touched) | affected(after, touched))
    keys = sorted(key for kind, key in reached if kind == "flag")
    # Those that change first: where not all can be evaluated, these count most.
    keys.sort(key=lambda key: ("flag", key) not in touched)
    evaluated = keys[:SIMULATED_EVALUATIONS_MAX]
    most = SIMULATED_EVALUATIONS_MAX // max(1, len(evaluated))
    sides = _Sides(before, after, touched, reached, _compiled(before, evaluated), _compiled(after, evaluated))
    contexts = sample[:most]
    return Simulated(
        context_count=len(contexts),
        flags=tuple(_moves(sides, key, contexts=contexts, now=now) for key in evaluated),
        dangling=tuple(_dangling(before, after, reached)),
        left_out_count=len(keys) - len(evaluated),
    )


def _touched(before: FlagSet, after: FlagSet, events: Iterable[Event]) -> frozenset[Target]:
    touched: set[Target] = set()
    for event in events:
        if event.kind in ("flag", "segment"):
            touched.add((event.kind, event.key))
        if isinstance(event, EnvironmentUpdated) and event.before.bucketing is not event.after.bucketing:
            # Another bucketing concerns every flag.
            touched.update(("flag", key) for key in before.flags.keys() | after.flags.keys())
        if isinstance(event, EnvironmentDeleted):
            touched.update(("flag", key) for key in before.flags)
    return frozenset(touched)


def _compiled(flag_set: FlagSet, keys: Collection[str]) -> dict[str, CompiledFlag]:
    return compile_flags(flag_set, [key for key in keys if key in flag_set.flags])


def _moves(sides: _Sides, key: str, *, contexts: Sequence[Context], now: int) -> FlagMoves:
    old, new = sides.flags_before.get(key), sides.flags_after.get(key)
    matrix: Counter[tuple[Arm, Arm]] = Counter()
    other_value_count = 0
    differ: dict[tuple[Resolution, Resolution], bool] = {}
    for context in contexts:
        was = None if old is None else old.evaluate(context, now)
        will = None if new is None else new.evaluate(context, now)
        arms = _arm(was), _arm(will)
        matrix[arms] += 1
        if arms[0] == arms[1] and was is not None and will is not None:
            # Answers are few and shared, so each pair is compared once.
            if (was, will) not in differ:
                differ[was, will] = canonical_json(was.value) != canonical_json(will.value)
            other_value_count += differ[was, will]
    is_changed = ("flag", key) in sides.touched
    return FlagMoves(
        key=key,
        because=Because.CHANGED if is_changed else Because.DEPENDS,
        via=() if is_changed else tuple(sorted(_named(sides, key) & sides.reached)),
        matrix=dict(sorted(matrix.items())),
        other_value_count=other_value_count,
        broken_laws=broken_laws(sides.before, sides.after, key, contexts=contexts, now=now) if is_changed else (),
    )


def _named(sides: _Sides, key: str) -> frozenset[Target]:
    found: frozenset[Target] = frozenset()
    for flag_set in (sides.before, sides.after):
        if key in flag_set.flags:
            found |= references.of_flag(flag_set.flags[key])
    return found


def _arm(resolution: Resolution | None) -> Arm:
    if resolution is None:
        return ABSENT
    if resolution.reason is Reason.ERROR:
        return Arm(ArmKind.ERROR, resolution.error_code or "")
    if resolution.variant is None:
        return Arm(ArmKind.CALLER_DEFAULT)
    return Arm(ArmKind.VARIANT, resolution.variant)


def _dangling(before: FlagSet, after: FlagSet, reached: Iterable[Target]) -> Iterator[Dangling]:
    for subject in sorted(reached):
        for missing in sorted(_references(after, subject)):
            if not _has(after, missing):
                yield Dangling(subject, missing, _has(before, missing))


def _references(flag_set: FlagSet, subject: Target) -> frozenset[Target]:
    kind, key = subject
    if kind == "flag":
        return references.of_flag(flag_set.flags[key]) if key in flag_set.flags else frozenset()
    return references.of_segment(flag_set.segments[key]) if key in flag_set.segments else frozenset()


def _has(flag_set: FlagSet, target: Target) -> bool:
    kind, key = target
    return key in (flag_set.flags if kind == "flag" else flag_set.segments)
