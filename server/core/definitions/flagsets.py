"""Check what the flags and segments of one set say about each other: references, circles, depth, written-out size."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Final, TypeAlias

from server.core.definitions.problems import Path, Problems, in_order, pointer, shown
from server.core.definitions.references import reference_paths, references, uses_shorthand
from server.core.definitions.rules import no_variant
from server.core.environments import Bucketing
from server.core.errors import InvalidDefinition, Problem
from server.core.evaluation.lowering import lower_flag
from server.core.flags import Flag, FlagConfig, FlagDefinition, ValueType
from server.core.flagsets import FlagSet
from server.core.json import Json
from server.core.limits import (
    FLAGS_PER_SET_MAX,
    PREREQUISITE_DEPTH_MAX,
    SEGMENT_DEPTH_MAX,
    SEGMENTS_PER_SET_MAX,
)
from server.core.segments import Segment

Node: TypeAlias = tuple[str, str]
"""("flag", key) or ("segment", key)."""

FLAG: Final = "flag"
SEGMENT: Final = "segment"


def check_flag_set(
    flag_set: FlagSet, *, touched: Collection[Node] | None = None, unread: Collection[Node] = ()
) -> list[Problem]:
    """Everything that is wrong between definitions, sorted by path; [] when nothing is.

    `touched` limits the check to these and to what depends on them; None checks all. `unread` are known to exist
    although they could not be read, so a reference to one of them is no problem of its own.
    """
    checked = _everything(flag_set) if touched is None else affected(flag_set, touched)
    problems = Problems()
    _count(flag_set, problems)
    check = _Check(flag_set, problems, frozenset(unread))
    for kind, key in sorted(checked):
        if kind == SEGMENT and key in flag_set.segments:
            check.segment(flag_set.segments[key])
        elif kind == FLAG and key in flag_set.flags:
            check.flag(flag_set.flags[key])
    return in_order([*problems.errors, *problems.warnings])


def dependencies(flag_set: FlagSet) -> Mapping[Node, frozenset[Node]]:
    """What each flag and segment names: its prerequisites and segments, whether they exist or not."""
    direct: dict[Node, frozenset[Node]] = {}
    for key, definition in flag_set.flags.items():
        required = ((FLAG, item.flag) for item in definition.config.prerequisites)
        direct[FLAG, key] = frozenset((SEGMENT, name) for name in flag_segments(definition)).union(required)
    for key, segment in flag_set.segments.items():
        direct[SEGMENT, key] = frozenset((SEGMENT, name) for name in references(segment.condition))
    return direct


def dependents(flag_set: FlagSet) -> Mapping[Node, frozenset[Node]]:
    """Who names each flag and segment."""
    return _inverted((node, named) for node, direct in dependencies(flag_set).items() for named in direct)


def affected(flag_set: FlagSet, touched: Iterable[Node]) -> frozenset[Node]:
    """What a change of some flags and segments can reach: they themselves and, all the way up, who names them."""
    touched = frozenset(touched)
    # Rules are searched for segments only when a segment changed: a flag is named by prerequisites alone.
    if any(kind == SEGMENT for kind, _ in touched):
        named_by = dependents(flag_set)
    else:
        named_by = _inverted(
            ((FLAG, key), (FLAG, item.flag))
            for key, definition in flag_set.flags.items()
            for item in definition.config.prerequisites
        )
    found = set(touched)
    fresh = list(touched)
    while fresh:
        for node in named_by.get(fresh.pop(), ()):
            if node not in found:
                found.add(node)
                fresh.append(node)
    return frozenset(found)


def flag_segments(definition: FlagDefinition) -> frozenset[str]:
    """Keys of the segments that a flag names."""
    config = definition.config
    if config.targeting is not None:
        return references(config.targeting)
    found: set[str] = set()
    for rule in config.rules:
        if rule.condition is not None:
            found |= references(rule.condition)
    return frozenset(found)


def _inverted(edges: Iterable[tuple[Node, Node]]) -> Mapping[Node, frozenset[Node]]:
    named_by: dict[Node, set[Node]] = {}
    for node, named in edges:
        named_by.setdefault(named, set()).add(node)
    return {named: frozenset(nodes) for named, nodes in named_by.items()}


def _everything(flag_set: FlagSet) -> Iterator[Node]:
    yield from ((FLAG, key) for key in flag_set.flags)
    yield from ((SEGMENT, key) for key in flag_set.segments)


def _count(flag_set: FlagSet, problems: Problems) -> None:
    for name, count, most in (
        ("flags", len(flag_set.flags), FLAGS_PER_SET_MAX),
        ("segments", len(flag_set.segments), SEGMENTS_PER_SET_MAX),
    ):
        if count > most:
            problems.error(f"/{name}", f"the set has {count} {name}, at most {most} are allowed")


def rules_of(config: FlagConfig, path: Path) -> Iterator[tuple[Path, Json]]:
    """The rules that a configuration holds, with their paths."""
    if config.targeting is not None:
        yield (path, "targeting"), config.targeting
    for index, rule in enumerate(config.rules):
        if rule.condition is not None:
            yield (((path, "rules"), index), "condition"), rule.condition


class _Check:
    def __init__(self, flag_set: FlagSet, problems: Problems, unread: frozenset[Node]) -> None:
        self.flags = flag_set.flags
        self.segments = flag_set.segments
        self.bucketing = flag_set.environment.bucketing
        self.problems = problems
        self.unread = unread
        self.prerequisite_depths = _Depths(self._required, PREREQUISITE_DEPTH_MAX)
        self.segment_depths = _Depths(self._referred, SEGMENT_DEPTH_MAX)
        self.finite: dict[str, bool] = {}
        self.hashing: dict[str, bool] = {}

    def _required(self, key: str) -> list[str]:
        definition = self.flags.get(key)
        return [item.flag for item in definition.config.prerequisites] if definition else []

    def _referred(self, key: str) -> list[str]:
        segment = self.segments.get(key)
        return sorted(references(segment.condition)) if segment else []

    def segment(self, segment: Segment) -> None:
        path = pointer("/segments", segment.key)
        self.references(segment.condition, (path, "condition"), lenient=segment.lenient)
        if self.nesting(segment.key, path, self.segment_depths, "segments"):
            try:
                write_segment_out(segment, segments=self.segments, bucketing=self.bucketing)
            except InvalidDefinition as error:
                self.problems.add(Problem(path, problem.message) for problem in error.problems)

    def flag(self, definition: FlagDefinition) -> None:
        path = pointer("/flags", definition.key)
        before = len(self.problems.errors)
        named = flag_segments(definition)
        if not named <= self.segments.keys():
            for at, rule in rules_of(definition.config, path):
                self.references(rule, at, lenient=definition.config.lenient)
        self.prerequisites(definition, path)
        is_flat = self.nesting(definition.key, path, self.prerequisite_depths, "prerequisites")
        if is_flat and len(self.problems.errors) == before and self.is_finite(definition, named):
            self.size(definition)

    def references(self, rule: Json, path: Path, *, lenient: bool) -> None:
        known = self.segments
        for at, key in reference_paths(rule, path):
            if key not in known and (SEGMENT, key) not in self.unread:
                self.problems.warn(
                    at, f"segment {shown(key)} does not exist{self.problems.suggestion(key, known)}", lenient=lenient
                )

    def prerequisites(self, definition: FlagDefinition, path: str) -> None:
        for index, item in enumerate(definition.config.prerequisites):
            at: Path = ((path, "prerequisites"), index)
            other = self.flags.get(item.flag)
            if item.flag == definition.key:
                self.problems.error((at, "flag"), "a flag cannot be its own prerequisite")
            elif other is None:
                if (FLAG, item.flag) not in self.unread:
                    message = f"flag {shown(item.flag)} does not exist{self.problems.suggestion(item.flag, self.flags)}"
                    self.problems.error((at, "flag"), message)
            else:
                self.wanted_variants(item.variants, other, (at, "variants"))
                if self.bucketing is Bucketing.V3 and self.hashes_its_key(other):
                    self.problems.error((at, "flag"), _HASHES_ITS_KEY.format(shown(item.flag)))

    def wanted_variants(self, variants: Iterable[str], other: FlagDefinition, path: Path) -> None:
        for index, variant in enumerate(variants):
            if variant not in other.flag.variants:
                message = no_variant(variant, other.flag.variants).replace("the flag has", f"{other.key} has")
                self.problems.error((path, index), message)

    def hashes_its_key(self, definition: FlagDefinition) -> bool:
        key = definition.key
        if key not in self.hashing:
            rules = [rule for _, rule in rules_of(definition.config, "")]
            named = {key for rule in rules for key in self.all_references(rule)}
            rules += [self.segments[key].condition for key in named if key in self.segments]
            self.hashing[key] = any(map(uses_shorthand, rules))
        return self.hashing[key]

    def all_references(self, rule: Json) -> frozenset[str]:
        found: set[str] = set()
        fresh = list(references(rule))
        while fresh:
            key = fresh.pop()
            if key not in found:
                found.add(key)
                fresh += self._referred(key)
        return frozenset(found)

    def nesting(self, key: str, path: str, depths: "_Depths", what: str) -> bool:
        """Report the circles that begin at a key, and too deep nesting; False when what is below it has no end."""
        for circle in depths.circles_from(key):
            if what == "segments" or len(circle) > 1:
                self.problems.error(path, f"{what} go in a circle: {' -> '.join([*circle, circle[0]])}")
        if depths.is_circular(key):
            return False
        depth = depths.depth(key)
        if depth > depths.most:
            self.problems.error(path, f"{what} are nested {depth} deep, at most {depths.most} is allowed")
        return depth <= depths.most

    def is_finite(self, definition: FlagDefinition, named: Iterable[str] | None = None) -> bool:
        """Whether the segments that a flag names, and its prerequisites name, can be written out."""
        key = definition.key
        if key not in self.finite:
            named = flag_segments(definition) if named is None else named
            required = [self.flags[item.flag] for item in definition.config.prerequisites if item.flag in self.flags]
            self.finite[key] = all(map(self.segment_depths.is_sound, named)) and all(map(self.is_finite, required))
        return self.finite[key]

    def size(self, definition: FlagDefinition) -> None:
        try:
            lower_flag(definition, flags=self.flags, segments=self.segments, bucketing=self.bucketing)
        except InvalidDefinition as error:
            self.problems.add(error.problems)


_HASHES_ITS_KEY: Final = (
    "flag {} splits by `fractional` without a bucketing value, which under bucketing v3 cannot be written out in "
    'another flag; give it one, such as {{"var": "targetingKey"}}'
)


class _Depths:
    """How deep a graph goes below each key, and the circles in it; found once, without recursion."""

    def __init__(self, named_by_key: Callable[[str], list[str]], most: int) -> None:
        self.named = named_by_key
        self.most = most
        self._depths: dict[str, int] = {}
        self._circles: dict[str, set[tuple[str, ...]]] = {}
        self._circular: set[str] = set()

    def depth(self, key: str) -> int:
        """Steps to the end of the longest chain below a key: 0 when it names nothing."""
        self._explore(key)
        return self._depths[key]

    def circles_from(self, key: str) -> list[tuple[str, ...]]:
        """The circles in which a key is the smallest."""
        self._explore(key)
        return sorted(self._circles.get(key, ()))

    def is_circular(self, key: str) -> bool:
        """Whether a key is part of a circle, or leads to one."""
        self._explore(key)
        return key in self._circular

    def is_sound(self, key: str) -> bool:
        """Whether what is below a key is neither circular nor too deep."""
        return not self.is_circular(key) and self.depth(key) <= self.most

    def _explore(self, start: str) -> None:
        if start in self._depths:
            return
        chain: list[str] = []
        on_chain: set[str] = set()
        stack: list[tuple[str, Iterator[str]]] = []

        def enter(key: str) -> None:
            chain.append(key)
            on_chain.add(key)
            self._depths[key] = 0
            stack.append((key, iter(self.named(key))))

        enter(start)
        while stack:
            key, rest = stack[-1]
            named = next(rest, None)
            if named is None:
                stack.pop()
                chain.pop()
                on_chain.discard(key)
                if stack:
                    self._climb(stack[-1][0], key)
            elif named in on_chain:
                circle = _from_smallest(chain[chain.index(named) :])
                self._circles.setdefault(circle[0], set()).add(circle)
                self._circular.add(key)
            elif named in self._depths:
                self._climb(key, named)
            else:
                enter(named)

    def _climb(self, key: str, named: str) -> None:
        self._depths[key] = max(self._depths[key], self._depths[named] + 1)
        if named in self._circular:
            self._circular.add(key)


def _from_smallest(circle: list[str]) -> tuple[str, ...]:
    first = circle.index(min(circle))
    return (*circle[first:], *circle[:first])


def needed_large(definition: FlagDefinition, flag_set: FlagSet) -> frozenset[str]:
    """The large segments without whose keys a flag cannot be evaluated; only the server has them.

    Errors: InvalidDefinition, as lower_flag.
    """
    if not any(segment.key_list for segment in flag_set.segments.values()):
        return frozenset()
    bucketing = flag_set.environment.bucketing
    lowered = lower_flag(definition, flags=flag_set.flags, segments=flag_set.segments, bucketing=bucketing)
    return lowered.large_segments


def write_segment_out(segment: Segment, *, segments: Mapping[str, Segment], bucketing: Bucketing) -> Json:
    """A segment as one rule that refers to no other.

    Errors: InvalidDefinition when it is too large or goes round in a circle.
    """
    # So that there is one way of writing segments out.
    asking = asking_for(segment.key)
    return lower_flag(asking, flags={}, segments={**segments, segment.key: segment}, bucketing=bucketing).targeting


def asking_for(segment: str) -> FlagDefinition:
    """A flag that gives a segment's answer."""
    flag = Flag(segment, ValueType.BOOLEAN, {})
    return FlagDefinition(flag, FlagConfig(targeting={"$ref": segment}))
