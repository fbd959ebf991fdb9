"""Generate pairs of flags of which one requires the other, whose raw targeting is as awkward as the schema allows."""

import json
from functools import cache
from typing import Final

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from server.core.environments import Bucketing, Environment
from server.core.flags import Flag, FlagConfig, FlagDefinition, Prerequisite, Split, ValueType
from server.core.flagsets import FlagSet
from server.core.json import Json
from server.core.segments import Segment
from tests.laws import odd

VARIANTS: Final = ("a", "abc", "true", "false", "1", "0.5", "null", "base", "", "1e+21")
VALUES: Final = {variant: f"value of {variant!r}" for variant in VARIANTS}
DRAWN: Final[tuple[Json, ...]] = (
    {"fractional": [["a", 1], ["abc", 1], ["true", 1]]},
    {"fractional": [{"var": "x"}, ["a", 1], [True, 1], [None, 1]]},
    {"fractional": [{"cat": [{"var": ["$flagd.flagKey"]}, {"var": "x"}]}, ["a", 1], [1, 1]]},
    {"var": ["$flagd.flagKey", "a"]},
    {"if": [{"==": [{"var": ["$flagd.flagKey", "a"]}, "base"]}, "a", "abc"]},
    {"if": [{"fractional": [[True, 1], [False, 1]]}, "a", "abc"]},
    {"if": [{"some": [{"var": "y"}, {"==": [{"var": "a"}, 1]}]}, "a", None]},
)
"""Rules whose answer depends on the flag in whose name they are asked."""

DRAWN_V3: Final = DRAWN[1:5]
"""Those without the shorthand, whose v3 form cannot be asked in another flag's name."""

variants: SearchStrategy[str] = st.sampled_from(VARIANTS)


@cache
def targetings(bucketing: Bucketing) -> SearchStrategy[Json]:
    """Raw targeting, a rule or a choice by one; made once, for making it takes longer than drawing from it."""
    operations = odd.rules().map(lambda rule: rule if isinstance(rule, dict) and len(rule) == 1 else {"if": [rule]})
    usable = DRAWN if bucketing is Bucketing.V2 else DRAWN_V3
    rule = st.one_of(operations, st.sampled_from(usable), st.just({"$ref": "segment"}))
    choice = st.builds(lambda test, one, two: {"if": [test, one, two]}, rule, variants, st.none() | variants)
    either = st.one_of(rule, choice)
    # As read from JSON: no two arrays in it are the same one.
    read = either.map(lambda rule: json.loads(json.dumps(rule)))
    return read if bucketing is Bucketing.V2 else read.filter(without_shorthand)


def without_shorthand(rule: Json) -> bool:
    """Whether every `fractional` has its bucketing value; validation refuses others in a v3 prerequisite."""
    return '"fractional": [[' not in json.dumps(rule)


@st.composite
def flag_sets(draw: DrawFn) -> FlagSet:
    """Flag "top" requires flag "base" to serve some variants; segments stand in both."""
    bucketing = draw(st.sampled_from(list(Bucketing)))
    targeting = draw(targetings(bucketing))
    default = st.one_of(st.none(), variants)
    base = FlagConfig(
        enabled=draw(st.sampled_from((True, True, True, False))),
        off_variant=draw(default),
        default=draw(default),
        targeting=targeting,
    )
    wanted = draw(st.lists(variants, min_size=1, max_size=4, unique=True))
    split = Split((("a", 1), ("abc", 1)), "salt")
    top = FlagConfig(
        off_variant=draw(default),
        prerequisites=(Prerequisite("base", tuple(wanted)),),
        default=draw(st.one_of(default, st.just(split))),
    )
    flags = {
        key: FlagDefinition(Flag(key, ValueType.STRING, VALUES), config)
        for key, config in (("base", base), ("top", top))
    }
    segment = Segment("segment", condition={"if": [{"var": "x"}, "a", {"var": "z"}]})
    return FlagSet(Environment("shop", "test", bucketing=bucketing), flags, {"segment": segment})
