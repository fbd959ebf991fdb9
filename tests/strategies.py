"""Generate valid definitions, and contexts that hit them, for property tests.

Everything is drawn over one small alphabet of attributes and values, so that rules and contexts meet often.
What is generated keeps every check of `server/core/definitions`; tests/core/definitions holds that.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Final

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from server.core.environments import Bucketing, Environment
from server.core.flags import (
    TARGETING_KEY,
    Flag,
    FlagConfig,
    FlagDefinition,
    FlagKind,
    Outside,
    Prerequisite,
    Rule,
    Serve,
    Share,
    Split,
    Target,
    ValueType,
)
from server.core.flagsets import FlagSet
from server.core.json import Json, Scalar
from server.core.segments import Segment
from tests.timelines import TIMESTAMP, share_steps, windows

__all__ = ["TIMESTAMP"]

UNITS: Final = ("user-1", "user-2", "alice", "bob", "33333", "é")
TEXTS: Final = ("", "a", "ab", "abc", "alice@example.com", "pro", "free", "1", "0", "1.0", " 1 ", "true", "DE", "é")
NUMBERS: Final = (0, 1, 2, 3, -1, 18, 65, 100, 0.5, 1.5, -0.5, 1e21)
VERSIONS: Final = ("1", "1.2", "1.2.3", "v1.2.3", "V2", "1.2.3-rc.1", "1.2.3-rc.2", "1.2.3+build", "2.0.0", "0.9.12")
NOT_VERSIONS: Final = ("", "1.2.3.4", "01.2.3", "one", "1.2.3-")
ATTRIBUTES: Final = (TARGETING_KEY, "email", "plan", "age", "version", "country", "beta", "tags", "scores", "user")
PATHS: Final = (*ATTRIBUTES, "user.name", "user.address.city", "tags.0", "tags.7", "absent", "absent.deep")
OPERATORS_SEM_VER: Final = ("=", "!=", ">", "<", ">=", "<=", "~", "^")
scalars: SearchStrategy[Json] = st.one_of(
    st.none(), st.booleans(), st.sampled_from(NUMBERS), st.sampled_from(TEXTS), st.integers(-5, 120)
)


@st.composite
def contexts(draw: DrawFn) -> dict[str, Json]:
    """Contexts whose attributes are often of the type that a rule expects, sometimes of another or absent."""
    texts = st.sampled_from(TEXTS)
    usual: dict[str, SearchStrategy[Json]] = {
        TARGETING_KEY: st.sampled_from((*UNITS, 33333, 33333.0, "", None)),
        "email": texts,
        "plan": texts,
        "age": st.sampled_from(NUMBERS),
        "version": st.sampled_from((*VERSIONS, *NOT_VERSIONS, 1, 1.2)),
        "country": texts,
        "beta": st.booleans(),
        "tags": st.lists(texts, max_size=3),
        "scores": st.lists(st.sampled_from(NUMBERS), max_size=4),
        "user": st.fixed_dictionaries(
            {}, optional={"name": texts, "address": st.one_of(st.none(), st.fixed_dictionaries({"city": texts}))}
        ),
    }
    mixed = {name: st.one_of(value, value, value, scalars) for name, value in usual.items()}
    return draw(st.fixed_dictionaries({}, optional=mixed))


@cache
def variables() -> SearchStrategy[Json]:
    """`var` in each of its shapes, among them what flagd puts into the context."""
    paths = st.sampled_from(PATHS)
    return st.one_of(
        paths.map(_variable),
        paths.map(lambda path: {"var": [path]}),
        st.builds(lambda path, other: {"var": [path, other]}, paths, scalars),
        st.sampled_from(({"var": "$flagd.flagKey"}, {"var": "$flagd.timestamp"})),
    )


def rules(*, segments: Sequence[str] = (), shorthand: bool = True, leaves_max: int = 10) -> SearchStrategy[Json]:
    """JsonLogic of every operator that the schema allows, well-typed or not, as a condition or an operand.

    `segments` may be referred to. `shorthand` allows `fractional` without a bucketing value.
    """
    return _rules(tuple(segments), shorthand, leaves_max)


# Cached, as every strategy that composites ask for: building one costs more than drawing from it.
@cache
def _rules(segments: tuple[str, ...], shorthand: bool, leaves_max: int) -> SearchStrategy[Json]:
    leaves: list[SearchStrategy[Json]] = [variables(), scalars, st.lists(scalars, max_size=3), comparisons()]
    if segments:
        leaves.append(st.sampled_from(segments).map(lambda key: {"$ref": key}))
    return st.recursive(st.one_of(leaves), lambda inner: _operations(inner, shorthand), max_leaves=leaves_max)


@cache
def comparisons() -> SearchStrategy[Json]:
    """Conditions as people write them: one attribute against a value that it may have."""

    def compare(operator: str, path: str, value: Json) -> Json:
        return {operator: [{"var": path}, value]}

    equality = st.sampled_from(("==", "===", "!=", "!=="))
    order = st.sampled_from(("<", "<=", ">", ">="))
    text_path = st.sampled_from((TARGETING_KEY, "email", "plan", "country", "user.name"))
    texts = st.sampled_from(TEXTS)
    return st.one_of(
        st.builds(compare, equality, text_path, texts),
        st.builds(compare, st.sampled_from(("==", "===", *("<", ">="))), st.just("age"), st.sampled_from(NUMBERS)),
        st.builds(compare, order, st.just("$flagd.timestamp"), st.integers(TIMESTAMP - 1, TIMESTAMP + 1)),
        st.builds(compare, st.just("in"), text_path, st.lists(texts, max_size=4)),
        st.builds(lambda text: {"in": [text, {"var": "tags"}]}, texts),
        st.builds(lambda low, high: {"<": [low, {"var": "age"}, high]}, *[st.sampled_from(NUMBERS)] * 2),
        st.builds(compare, st.sampled_from(("starts_with", "ends_with")), text_path, texts),
        st.builds(_sem_ver, st.just({"var": "version"}), st.sampled_from(OPERATORS_SEM_VER), st.sampled_from(VERSIONS)),
    )


def _variable(path: str) -> Json:
    return {"var": path}


def _sem_ver(version: Json, operator: str, target: Json) -> Json:
    return {"sem_ver": [version, operator, target]}


def _operations(inner: SearchStrategy[Json], shorthand: bool) -> SearchStrategy[Json]:
    operator = st.sampled_from
    strings = st.one_of(variables(), st.sampled_from(TEXTS))
    element = _element_rules(inner)
    operations: list[SearchStrategy[Json]] = [
        st.builds(
            _operation, operator(("if", "and", "or", "+", "-", "max", "min", "merge", "cat")), _some(inner, 1, 4)
        ),
        st.builds(_operation, operator(("if",)), _some(inner, 2, 5)),
        st.builds(_operation, operator(("!", "!!")), _some(inner, 1, 1)),
        st.builds(_operation, operator(("!", "!!")), st.one_of(variables(), comparisons())),
        st.builds(
            _operation,
            operator(("==", "===", "!=", "!==", ">", ">=", "<", "<=", "%", "/", "*", "in", "substr")),
            _some(inner, 2, 2),
        ),
        st.builds(_operation, operator(("<", "<=", "*", "substr")), _some(inner, 3, 3)),
        st.builds(_operation, operator(("map", "filter", "all", "none", "some")), st.tuples(_lists(inner), element)),
        st.builds(_operation, operator(("reduce",)), st.tuples(_lists(inner), _reductions(inner), inner)),
        st.builds(_operation, operator(("missing",)), st.lists(operator(PATHS), max_size=3)),
        st.builds(
            _operation, operator(("missing_some",)), st.tuples(st.integers(0, 3), st.lists(operator(PATHS), max_size=3))
        ),
        st.builds(_operation, operator(("starts_with", "ends_with")), st.tuples(strings, strings)),
        # Not of the flag's key: written out in another flag it becomes a text that is no version.
        st.builds(_sem_ver, operator(PATHS).map(_variable), operator(OPERATORS_SEM_VER), operator(VERSIONS)),
        fractionals(inner, shorthand=shorthand),
        st.lists(inner, max_size=3),
    ]
    return st.one_of(operations)


def _operation(operator: str, operands: Json) -> Json:
    return {operator: list(operands) if isinstance(operands, tuple) else operands}


def _some(inner: SearchStrategy[Json], least: int, most: int) -> SearchStrategy[Json]:
    return st.lists(inner, min_size=least, max_size=most)


def _lists(inner: SearchStrategy[Json]) -> SearchStrategy[Json]:
    return st.one_of(st.sampled_from(({"var": "tags"}, {"var": "scores"})), st.lists(scalars, max_size=4), inner)


def _element_rules(inner: SearchStrategy[Json]) -> SearchStrategy[Json]:
    element = st.just({"var": ""})
    compare = st.sampled_from(("==", ">", "<", "+", "cat", "in"))
    return st.one_of(st.builds(lambda op, one, two: {op: [one, two]}, compare, element, scalars), element, inner)


def _reductions(inner: SearchStrategy[Json]) -> SearchStrategy[Json]:
    both = st.just([{"var": "accumulator"}, {"var": "current"}])
    combine = st.sampled_from(("+", "cat", "max", "merge", "*"))
    return st.one_of(st.builds(lambda op, operands: {op: operands}, combine, both), inner)


def fractionals(arms: SearchStrategy[Json], *, shorthand: bool = True) -> SearchStrategy[Json]:
    """`fractional` over the given arms, with literal and computed weights; the literal sum is at least 1."""
    seeds = st.one_of(st.sampled_from(TEXTS), st.just({"var": "$flagd.flagKey"}))
    paths = st.sampled_from(PATHS).map(_variable)
    seeded = st.builds(lambda seed, path: {"cat": [seed, path]}, seeds, paths)
    unit: SearchStrategy[list[Json]] = st.one_of(seeded, paths).map(lambda value: [value])
    if shorthand:
        unit = st.one_of(unit, st.just([]))
    weight = st.one_of(
        st.integers(0, 100),
        st.builds(lambda bound: {"-": [{"var": "$flagd.timestamp"}, bound]}, st.integers(TIMESTAMP - 9, TIMESTAMP + 9)),
    )
    arm = st.one_of(arms.map(lambda value: [value]), st.tuples(arms, weight).map(list))
    first = st.tuples(arms, st.integers(1, 100)).map(list)
    return st.builds(
        lambda before, one, more: {"fractional": [*before, one, *more]}, unit, first, st.lists(arm, max_size=3)
    )


def targetings(
    variants: Sequence[str], *, segments: Sequence[str] = (), shorthand: bool = True
) -> SearchStrategy[Json]:
    """Raw targeting whose results are variants of the flag, or null."""
    return _targetings(tuple(variants), tuple(segments), shorthand)


@cache
def _targetings(variants: tuple[str, ...], segments: tuple[str, ...], shorthand: bool) -> SearchStrategy[Json]:
    result: SearchStrategy[Json] = st.one_of(st.sampled_from(variants), st.none())
    condition = rules(segments=segments, shorthand=shorthand, leaves_max=4)

    def branches(inner: SearchStrategy[Json]) -> SearchStrategy[Json]:
        return st.one_of(
            st.builds(lambda test, then: {"if": [test, then]}, condition, inner),
            st.builds(lambda test, then, other: {"if": [test, then, other]}, condition, inner, inner),
            st.builds(
                lambda one, then, two, next_, other: {"if": [one, then, two, next_, other]},
                condition,
                inner,
                condition,
                inner,
                inner,
            ),
            fractionals(inner, shorthand=shorthand),
        )

    return branches(st.recursive(result, branches, max_leaves=4))


VARIANTS: Final[dict[ValueType, dict[str, Json]]] = {
    ValueType.BOOLEAN: {"on": True, "off": False},
    ValueType.STRING: {"on": "yes", "off": "", "other": "é"},
    ValueType.INTEGER: {"on": 1, "off": 0, "true": -7, "big": 2**53 - 1},
    ValueType.FLOAT: {"on": 1.5, "off": 0.0, "other": -2.25},
    ValueType.OBJECT: {"on": {"a": [1, {"b": None}], "c": True}, "off": {}},
}
"""Every flag that is generated has one of these sets; "on" and "off" are always there."""

_words = st.sampled_from(("", "a word", "ümlaut", "two\nlines"))
_metadata: SearchStrategy[dict[str, Scalar]] = st.dictionaries(
    st.sampled_from(("team", "version", "cost", "live")),
    st.one_of(st.booleans(), st.integers(-9, 9), st.sampled_from(("x", "", "é")), st.just(0.5)),
    max_size=3,
)


@st.composite
def flag_definitions(
    draw: DrawFn,
    *,
    key: str = "flag",
    segments: Sequence[str] = (),
    prerequisites: Sequence[str] = (),
    shorthand: bool = True,
) -> FlagDefinition:
    """One flag with rules, or with raw targeting; it may refer to `segments` and require `prerequisites`."""
    flag = draw(flag_parts(key=key))
    if draw(st.integers(0, 3)) == 0:
        return FlagDefinition(flag, draw(_raw_configs(flag, segments=segments, shorthand=shorthand)))
    config = draw(_rule_configs(flag, segments=segments, prerequisites=prerequisites, shorthand=shorthand))
    return FlagDefinition(flag, config)


@st.composite
def flag_parts(draw: DrawFn, *, key: str = "flag") -> Flag:
    """What a flag is in every environment."""
    value_type = draw(st.sampled_from(list(ValueType)))
    return Flag(
        key=key,
        type=value_type,
        variants=VARIANTS[value_type],
        description=draw(_words),
        kind=draw(st.sampled_from(list(FlagKind))),
        temporary=draw(st.booleans()),
        expected_lifetime_days=draw(st.one_of(st.none(), st.integers(1, 400))),
        owner=draw(st.sampled_from(("", "team-a"))),
        tags=draw(st.sampled_from(((), ("a",), ("a", "b")))),
        links=draw(st.sampled_from(((), ("https://example.com/1",)))),
        metadata=draw(_metadata),
        archived_at=draw(st.sampled_from((None, None, None, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)))),
    )


@st.composite
def _raw_configs(draw: DrawFn, flag: Flag, *, segments: Sequence[str], shorthand: bool) -> FlagConfig:
    return FlagConfig(
        enabled=draw(st.sampled_from((True, True, True, False))),
        off_variant=draw(st.sampled_from((None, "off"))),
        default=draw(st.sampled_from((*flag.variants, None))),
        targeting=draw(targetings(list(flag.variants), segments=segments, shorthand=shorthand)),
    )


@cache
def _conditions(segments: tuple[str, ...], shorthand: bool) -> SearchStrategy[Json]:
    return st.one_of(st.none(), comparisons(), _rules(segments, shorthand, 5))


@st.composite
def _rule_configs(
    draw: DrawFn, flag: Flag, *, segments: Sequence[str], prerequisites: Sequence[str], shorthand: bool
) -> FlagConfig:
    conditions = _conditions(tuple(segments), shorthand)
    required = draw(st.lists(st.sampled_from(list(prerequisites)), unique=True, max_size=2)) if prerequisites else []
    wanted = st.sampled_from((("on",), ("off",), ("on", "off")))
    return FlagConfig(
        enabled=draw(st.sampled_from((True, True, True, True, False))),
        off_variant=draw(st.sampled_from((None, "off", "on"))),
        targets=draw(
            st.sampled_from(((), (Target("on", ("alice",)),), (Target("on", ("bob",)), Target("off", ("é", "33333")))))
        ),
        prerequisites=tuple(Prerequisite(key, draw(wanted)) for key in required),
        rules=tuple(
            Rule(
                id=f"r{index}",
                serve=draw(serves(flag, salt=f"{flag.key}/r{index}/split")),
                condition=draw(conditions),
                share=draw(st.one_of(st.none(), shares(salt=f"{flag.key}/r{index}/share"))),
                outside=draw(st.sampled_from(list(Outside))),
                description=draw(_words),
                starts_at=(window := draw(windows))[0],
                ends_at=window[1],
            )
            for index in range(draw(st.integers(0, 3)))
        ),
        default=draw(st.one_of(st.none(), serves(flag, salt=f"{flag.key}/default/split"))),
    )


_bucket_by = st.sampled_from((TARGETING_KEY, TARGETING_KEY, "email", "user.name"))


@cache
def shares(*, salt: str) -> SearchStrategy[Share]:
    """Shares of every width, nothing and everybody included."""
    parts = st.one_of(st.integers(0, 100_000), st.sampled_from((0, 1, 50_000, 99_999, 100_000)))
    steps = st.one_of(st.just(()), st.just(()), share_steps(parts))
    return st.builds(Share, parts, st.sampled_from((salt, "salt")), _bucket_by, steps)


def serves(flag: Flag, *, salt: str) -> SearchStrategy[Serve]:
    """One variant of the flag, or a split among several."""
    return _serves(tuple(flag.variants), salt)


@cache
def _serves(variants: tuple[str, ...], salt: str) -> SearchStrategy[Serve]:
    weights = st.lists(st.integers(0, 100), min_size=len(variants), max_size=len(variants)).filter(any)
    splits = st.builds(
        lambda order, numbers, name, unit: Split(tuple(zip(order, numbers, strict=True)), name, unit),
        st.permutations(variants),
        weights,
        st.sampled_from((salt, "salt")),
        _bucket_by,
    )
    return st.one_of(st.sampled_from(variants), splits)


@st.composite
def flag_sets(draw: DrawFn) -> FlagSet:
    """A few segments, of which later ones may refer to earlier ones, and flags that use them and each other."""
    bucketing = draw(st.sampled_from(list(Bucketing)))
    shorthand = bucketing is Bucketing.V2
    segments: dict[str, Segment] = {}
    for key in ("beta", "vip", "staff")[: draw(st.integers(0, 3))]:
        segments[key] = draw(_segments(key, list(segments), shorthand=shorthand))
    flags: dict[str, FlagDefinition] = {}
    for key in ("new-ui", "a/b~c", "pay", "kill.switch")[: draw(st.integers(0, 4))]:
        flags[key] = draw(
            flag_definitions(key=key, segments=list(segments), prerequisites=list(flags), shorthand=shorthand)
        )
    environment = Environment("shop", "production", bucketing=bucketing, metadata=draw(_metadata))
    return FlagSet(environment, flags, segments)


@st.composite
def _segments(draw: DrawFn, key: str, others: Sequence[str], *, shorthand: bool) -> Segment:
    description = draw(_words)
    if draw(st.booleans()):
        condition = draw(_conditions(tuple(others), shorthand))
        return Segment(key, condition=True if condition is None else condition, description=description)
    keys = draw(st.lists(st.sampled_from(UNITS), unique=True))
    attribute = draw(st.sampled_from((TARGETING_KEY, "email", "user.name")))
    return Segment(key, keys=tuple(keys), key_attribute=attribute, description=description)
