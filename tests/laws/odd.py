"""Generate rules and contexts that keep the schema's arities and nothing else: every type in every place."""

from functools import cache
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from server.core.json import Json

SCALARS: Final[tuple[Json, ...]] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    2,
    0.5,
    -0.0,
    -1.5,
    1e21,
    1e-7,
    123456789012345680000,
    2**53 + 1,
    1e308,
    "",
    "0",
    "1",
    " 1 ",
    "-1",
    "a",
    "abc",
    "A",
    "3 apples",
    "0x1F",
    "1e3",
    "Infinity",
    "NaN",
    "é",
    "\uffff",
    "\U0001f600b",
    "length",
    "null",
    "true",
    "[object Object]",
    "1.2.3",
    "v1.2",
    "1.2.3-rc.1",
)
COMPOUNDS: Final[tuple[Json, ...]] = (
    [],
    [0],
    ["a"],
    [1, 2],
    [[]],
    [None],
    [None, 1],
    ["a", 1],
    {},
    {"a": 1, "b": 2},
    [{"a": 1, "b": 2}],
)
PATHS: Final = ("x", "y", "y.0", "y.1.a", "x.length", "y.length", "z.a", "z", "1", "", "targetingKey", "x.b", "a.b.c")
UNARY: Final = ("!", "!!")
BINARY: Final = ("==", "===", "!=", "!==", ">", ">=", "%", "/", "in", "<", "<=", "substr", "*")
TERNARY: Final = ("<", "<=", "substr", "*")
VARIADIC: Final = ("if", "or", "and", "+", "-", "max", "min", "merge", "cat")
LOOPS: Final = ("map", "filter", "all", "none", "some")
VERSION_OPERATORS: Final = ("=", "!=", ">", "<", ">=", "<=", "~", "^", "==", "")

values: SearchStrategy[Json] = st.one_of(st.sampled_from(SCALARS), st.sampled_from(COMPOUNDS))


@cache
def contexts() -> SearchStrategy[dict[str, Json]]:
    """Contexts of anything; often with a targeting key."""
    return st.fixed_dictionaries(
        {},
        optional={
            "targetingKey": st.one_of(st.sampled_from(("u1", "u2", "u3", "u4")), values),
            "x": values,
            "y": st.lists(values, max_size=3),
            "z": st.one_of(values, st.fixed_dictionaries({"a": values})),
            "1": values,
            "$flagd": values,
        },
    )


def _operation(name: str, operands: Any) -> Json:
    return {name: list(operands) if isinstance(operands, tuple) else operands}


def _variables(inner: SearchStrategy[Json]) -> SearchStrategy[Json]:
    paths = st.sampled_from((*PATHS, "accumulator", "current", "$flagd.flagKey", "$flagd.timestamp"))
    return st.one_of(
        st.builds(_operation, st.just("var"), paths),
        st.builds(_operation, st.just("var"), st.tuples(paths, st.sampled_from(SCALARS))),
        st.builds(_operation, st.just("var"), st.one_of(st.sampled_from(SCALARS), st.tuples(inner), inner)),
    )


def _operations(inner: SearchStrategy[Json]) -> SearchStrategy[Json]:
    names = st.lists(st.sampled_from(PATHS), max_size=3)
    name, build = st.sampled_from, st.builds
    weight = st.one_of(st.just(1), st.integers(-1, 100), st.sampled_from((0, 2**31 - 1, 2**31, 1.5, 2.0)), inner)
    arms = st.lists(st.one_of(st.tuples(inner).map(list), st.tuples(inner, weight).map(list)), max_size=3)
    return st.one_of(
        build(_operation, name(UNARY), st.one_of(st.tuples(inner), inner)),
        build(_operation, name(BINARY), st.tuples(inner, inner)),
        build(_operation, name(TERNARY), st.tuples(inner, inner, inner)),
        build(_operation, name(VARIADIC), st.lists(inner, min_size=1, max_size=4)),
        build(_operation, name(LOOPS), st.tuples(inner, inner)),
        build(_operation, st.just("reduce"), st.tuples(inner, inner, inner)),
        build(_operation, st.just("missing"), names),
        build(_operation, st.just("missing_some"), st.tuples(st.sampled_from((0, 1, 2, 1.5, -1)), names)),
        build(_operation, name(("starts_with", "ends_with")), st.tuples(inner, inner)),
        build(_operation, st.just("sem_ver"), st.tuples(inner, name(VERSION_OPERATORS), inner)),
        build(lambda unit, more: {"fractional": [unit, *more]}, st.one_of(_variables(inner), inner), arms),
        build(lambda more: {"fractional": more}, arms.filter(bool)),
        _variables(inner),
        st.lists(inner, max_size=3),
    )


@cache
def rules() -> SearchStrategy[Json]:
    """Rules that flagd's schema accepts for their shape, over operands of every type."""
    leaves = st.one_of(values, st.sampled_from(PATHS).map(lambda path: {"var": path}))
    return st.recursive(leaves, _operations, max_leaves=7)
