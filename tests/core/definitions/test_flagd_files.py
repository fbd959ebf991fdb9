"""Files in flagd's format: read, written, and told apart from ours."""

import json
from pathlib import Path

import pytest
from hypothesis import given

from server.core.definitions.flagd import EVALUATORS, is_flagd, read_flagd, write_flagd
from server.core.definitions.text import parse_text
from server.core.errors import InvalidDefinition
from server.core.flags import Flag, FlagConfig, FlagDefinition, ValueType
from server.core.flagsets import FlagSet
from server.core.json import Json
from server.core.segments import Segment
from tests.conformance import testbed
from tests.strategies import flag_sets

FLAG: Json = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "on"}
FILES: list[Path] = [
    *sorted(testbed.TESTBED.glob("flags/*.json")),
    *sorted(testbed.TESTBED.glob("evaluator/flags/*.json")),
]


def read(data: Json, *, lenient: bool = False) -> FlagSet:
    """The flag set of a file."""
    return read_flagd(data, project="shop", environment="production", lenient=lenient).flag_set


def problems_of(data: Json, *, lenient: bool = False) -> list[str]:
    """Everything for which a file is refused, as printed."""
    with pytest.raises(InvalidDefinition) as refused:
        read(data, lenient=lenient)
    return [str(problem) for problem in refused.value.problems]


def test_a_flag_means_what_it_means_in_flagd() -> None:
    """Its default is ours, its targeting stays as it is, `{}` is none, and a disabled flag has no off variant."""
    rule = {"if": [{"$ref": "beta"}, "on", None]}
    flags = {
        "a": {**FLAG, "targeting": rule, "metadata": {"team": "x"}},
        "b": {"state": "DISABLED", "variants": {"x": 0.0, "y": 1}, "defaultVariant": None, "targeting": {}},
    }
    flag_set = read(
        {"$schema": "x", "flags": flags, EVALUATORS: {"beta": {"==": [1, 1]}}, "metadata": {"version": "1"}}
    )

    on_off = Flag("a", ValueType.BOOLEAN, {"on": True, "off": False}, metadata={"team": "x"})
    assert flag_set.flags == {
        "a": FlagDefinition(on_off, FlagConfig(default="on", targeting=rule)),
        "b": FlagDefinition(Flag("b", ValueType.FLOAT, {"x": 0.0, "y": 1.0}), FlagConfig(enabled=False)),
    }
    assert flag_set.segments == {"beta": Segment("beta", condition={"==": [1, 1]})}
    assert flag_set.environment.metadata == {"version": "1"}


def test_flags_may_be_a_list() -> None:
    """The form that the daemon also reads; problems are told by index."""
    flags = [{"key": "a", **FLAG}, {"key": "b", **FLAG, "targeting": {"if": [{"$ref": "x"}, "on"]}}, FLAG, {"key": "a"}]

    assert read({"flags": flags[:1]}) == read({"flags": {"a": FLAG}})
    assert problems_of({"flags": flags}) == [
        "/flags/1/targeting/if/0/$ref: segment 'x' does not exist",
        "/flags/2/key: a key is a text, not null",
        "/flags/3/key: flag 'a' stands twice",
    ]


@pytest.mark.parametrize(
    ("flag", "problem"),
    [
        ({"state": "WILL-FAIL"}, "/state: is 'WILL-FAIL'; write ENABLED or DISABLED"),
        ({"state": None}, "/state: is missing; write ENABLED or DISABLED"),
        ({"variants": None}, "/variants: the flag has no variants"),
        ({"variants": {}}, "/variants: the flag has 0 variants, expected 1 to 256"),
        ({"defaultVariant": "x"}, "/defaultVariant: variant 'x' does not exist; the flag has: on, off"),
        ({"defaultVariant": 1}, "/defaultVariant: expected a variant or null, not 1"),
    ],
)
def test_what_flagd_refuses_is_refused_leniently_too(flag: Json, problem: str) -> None:
    """These would fail the whole file in flagd, or could not be served."""
    data = {"flags": {"a": {**FLAG, **flag}}}

    assert problems_of(data, lenient=True) == problems_of(data) == [f"/flags/a{problem}"]


@pytest.mark.parametrize(
    ("flag", "warning"),
    [
        ({"targeting": {"nope": [1]}}, "/targeting: unknown operator 'nope'; did you mean 'none'?"),
        ({"targeting": {"starts_with": ["a"]}}, None),
        ({"targeting": {"if": [1, "x"]}}, "/targeting/if/1: variant 'x' does not exist; the flag has: on, off"),
        ({"targeting": {"if": [{"$ref": "x"}, "on"]}}, "/targeting/if/0/$ref: segment 'x' does not exist"),
        ({"targeting": "on"}, "/targeting: targeting is a rule, an object, not 'on'"),
        ({"variants": {"on": 1, "off": "x"}}, None),
        ({"default": "on"}, "/default: unknown field; did you mean 'defaultVariant'?"),
        ({"metadata": {"a": {}}}, "/metadata/a: metadata holds texts, numbers and booleans, not an object"),
    ],
)
def test_what_flagd_warns_about_is_a_warning(flag: Json, warning: str | None) -> None:
    """Strictly read it is refused; leniently read it comes through export and import unchanged."""
    data = {"flags": {"a": {**FLAG, **flag}}}
    lenient = read_flagd(data, project="shop", environment="production", lenient=True)

    printed = [str(found).removeprefix("/flags/a") for found in lenient.warnings]
    assert printed == ([warning] if warning else printed) and printed
    assert problems_of(data) == [str(found) for found in lenient.warnings]
    assert read(write_flagd(lenient.flag_set), lenient=True) == lenient.flag_set


def test_evaluators_are_told_by_their_own_path() -> None:
    """A segment of ours is `$evaluators` in the file."""
    evaluators = {
        "a": {"and": [{"$ref": "b"}]},
        "b": {"!": [{"$ref": "a"}]},
        "c": {"nope": 1},
        "d": None,
        "e": {"$ref": "f"},
    }

    assert problems_of({"flags": {}, EVALUATORS: evaluators}) == [
        "/$evaluators/a: segments go in a circle: a -> b -> a",
        "/$evaluators/c: unknown operator 'nope'; did you mean 'none'?",
        "/$evaluators/d: an evaluator is a rule, not null",
        "/$evaluators/e/$ref: segment 'f' does not exist",
    ]


def test_nested_references_are_written_out() -> None:
    """Flagd replaces references in flags, not in evaluators; key lists become conditions."""
    segments = {"a": Segment("a", condition={"!": [{"$ref": "b"}]}), "b": Segment("b", keys=("x",))}
    written = write_flagd(FlagSet(read({"flags": {}}).environment, {}, segments))
    keys = {"in": [{"var": "targetingKey"}, ["x"]]}

    assert written[EVALUATORS] == {"a": {"!": [keys]}, "b": keys}


@given(flag_sets())
def test_an_export_needs_nothing_of_ours(flag_set: FlagSet) -> None:
    """It is read strictly as flagd's format, and reading it and writing it again changes nothing."""
    text = json.dumps(write_flagd(flag_set))
    once = read(parse_text(text))

    assert read(parse_text(json.dumps(write_flagd(once)))) == once
    assert is_flagd(parse_text(text))


@pytest.mark.skipif(not testbed.PRESENT, reason=testbed.ABSENT)
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_flagds_own_files_come_through(path: Path) -> None:
    """Every file of its test bed is accepted leniently, and import, export, import changes nothing."""
    data = parse_text(path.read_bytes(), name=path.name)
    imported = read(data, lenient=True)

    assert is_flagd(data)
    assert read(parse_text(json.dumps(write_flagd(imported))), lenient=True) == imported


@pytest.mark.skipif(not testbed.PRESENT, reason=testbed.ABSENT)
def test_an_unknown_reference_is_named() -> None:
    """Strictly read, flagd's own file with a deliberate mistake has exactly that one."""
    data = parse_text((testbed.TESTBED / "flags" / "evaluator-refs.json").read_bytes())
    path = "/flags/ref-to-nonexistent-evaluator-flag/targeting/if/0/$ref"

    assert problems_of(data) == [f"{path}: segment 'nonexistent_evaluator' does not exist"]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"flags": {"a": FLAG}}, True),
        ({"flags": [{}]}, True),
        ({"flags": {"a": {"variants": {}, "defaultVariant": "x", "rules": []}}}, True),
        ({"flags": {}, EVALUATORS: {}}, True),
        ({"flags": {}, "$schema": "https://flagd.dev/schema/v0/flags.json"}, True),
        ({"flags": {}}, False),
        ({"flags": {"a": {"variants": {}, "default": "x"}}}, False),
        ({"flags": {"a": FLAG}, "project": "shop"}, False),
        ({"flags": {"a": 1}}, False),
        ([], False),
    ],
)
def test_the_two_formats_are_told_apart(data: Json, expected: bool) -> None:
    """By what stands in one of them only."""
    assert is_flagd(data) is expected
