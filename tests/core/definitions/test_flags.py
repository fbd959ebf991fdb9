"""Flags of ours: what is wrong with one, and what is written."""

# ruff: noqa: E501 - the table of cases has one to a line.

from datetime import UTC, datetime

import pytest

from server.core.definitions.flags import read_config_part, read_flag, read_flag_part, write_flag
from server.core.definitions.problems import Problems
from server.core.flags import Flag, FlagConfig, FlagDefinition, FlagKind, Outside, Rule, Share, Split, ValueType
from server.core.json import Json
from server.core.limits import TARGET_KEYS_MAX, VALUE_BYTES_MAX, WEIGHT_SUM_MAX

GOOD: Json = {"variants": {"on": True, "off": False}, "default": "off"}


def problems_of(fields: Json, *, key: str = "new-ui") -> list[str]:
    """The problems of a good flag with other fields, as printed."""
    problems = Problems()
    data = {**GOOD, **fields} if isinstance(fields, dict) else fields
    read = read_flag(key, data, problems=problems, path=("/flags", key))
    assert (read is None) == bool(problems.errors)
    return [str(problem).removeprefix(f"/flags/{key}") for problem in problems.errors]


def read(data: Json) -> FlagDefinition:
    """A flag that has no problem."""
    problems = Problems()
    definition = read_flag("new-ui", data, problems=problems, path="")
    assert problems.errors == [] and definition is not None
    return definition


def rule(**fields: Json) -> Json:
    """A flag with two good rules and one with these fields."""
    return {"rules": [{"serve": "on"}, {"serve": "off"}, fields]}


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ([], ": expected an object, not a list"),
        ({"variants": None}, "/variants: the flag has no variants"),
        ({"variants": {}}, "/variants: the flag has 0 variants, expected 1 to 256"),
        ({"variants": []}, "/variants: expected an object, not a list"),
        ({"variant": {}}, "/variant: unknown field; did you mean 'variants'?"),
        ({"state": "ENABLED"}, "/state: unknown field"),
        ({"type": "bool"}, "/type: 'bool' is not one of: boolean, string, integer, float, object"),
        ({"type": "string", "variants": {"off": True}}, "/variants/off: is a boolean; the flag's type is string"),
        ({"variants": {"off": 1, "on": True}}, "/variants: variants have values of different types: off is an integer, on is a boolean"),
        ({"variants": {"off": [1]}}, "/variants/off: a variant is a boolean, text, number or object, not a list"),
        ({"variants": {"off": None}}, "/variants/off: a variant is a boolean, text, number or object, not null"),
        ({"type": "integer", "variants": {"off": 1.5}}, "/variants/off: 1.5 is not a whole number; the flag's type is integer"),
        ({"variants": {"off": float("inf")}}, "/variants/off: inf is not a number in JSON"),
        ({"variants": {"off": 2**53}}, f"/variants/off: {2**53} is beyond {2**53 - 1}, where numbers are no longer exact for every client"),
        ({"type": "integer", "variants": {"off": 2.0**53}}, f"/variants/off: {2**53} is beyond {2**53 - 1}, where numbers are no longer exact for every client"),
        ({"variants": {"off": "x" * VALUE_BYTES_MAX}}, f"/variants/off: the value has {VALUE_BYTES_MAX + 2} bytes as JSON, at most {VALUE_BYTES_MAX} are allowed"),
        ({"variants": {"off": {"a": {"b": float("nan")}}}}, "/variants/off/a/b: nan is not a number in JSON"),
        ({"variants": {"off": 1, " x": 2}}, "/variants/ x: the variant begins or ends with a blank"),
        ({"default": "of"}, "/default: variant 'of' does not exist; the flag has: on, off"),
        ({"default": True}, "/default: expected a variant, not true"),
        ({"offVariant": "x"}, "/offVariant: variant 'x' does not exist; the flag has: on, off"),
        ({"enabled": 1}, "/enabled: expected true or false, not 1"),
        ({"targets": {"x": ["a"]}}, "/targets/x: variant 'x' does not exist; the flag has: on, off"),
        ({"targets": {"on": ["a"], "off": ["b", "a"]}}, "/targets/off: 'a' is a target of 'on' already"),
        ({"targets": {"on": ["a", "a"]}}, "/targets/on/1: 'a' stands twice"),
        ({"targets": {"on": [123]}}, '/targets/on/0: expected a text, not 123; write it as text, "123"'),
        ({"targets": {"on": [f"a{n}" for n in range(TARGET_KEYS_MAX)], "off": ["b"]}}, f"/targets: the flag has {TARGET_KEYS_MAX + 1} targets, at most {TARGET_KEYS_MAX} are allowed"),
        ({"prerequisites": [{"flag": "a", "variants": []}]}, "/prerequisites/0/variants: expected at least one variant that meets the prerequisite"),
        ({"prerequisites": [{"flag": "", "variants": ["on"]}]}, "/prerequisites/0/flag: the key has 0 characters, expected 1 to 256"),
        ({"prerequisites": [{"flag": "a", "variants": ["on"]}] * 2}, "/prerequisites/1/flag: flag 'a' stands twice; list all its variants once"),
        ({"rules": {}}, "/rules: expected a list, not an object"),
        ({"rules": [{"serve": "on"}] * 201}, "/rules: the list has 201 items, at most 200 are allowed"),
        ({"rules": [{"id": "a", "serve": "on"}] * 2}, "/rules/1/id: id 'a' stands twice; each rule has an id of its own"),
        (rule(), "/rules/2: the rule serves nothing; give `serve` a variant or a split"),
        (rule(serve="x"), "/rules/2/serve: variant 'x' does not exist; the flag has: on, off"),
        (rule(serve={"weights": {"on": 0, "off": 0}}), "/rules/2/serve/weights: sum is 0, expected 1 or more"),
        (rule(serve={"weights": {}}), "/rules/2/serve/weights: sum is 0, expected 1 or more"),
        (rule(serve={"weights": {"on": WEIGHT_SUM_MAX, "off": 1}}), f"/rules/2/serve/weights: sum is {WEIGHT_SUM_MAX + 1}, expected at most {WEIGHT_SUM_MAX}"),
        (rule(serve={"weights": {"on": -1}}), "/rules/2/serve/weights/on: a weight is a whole number from 0 on, not -1"),
        (rule(serve={"weights": {"on": True}}), "/rules/2/serve/weights/on: a weight is a whole number from 0 on, not true"),
        (rule(serve={"weights": {"x": 1}}), "/rules/2/serve/weights/x: variant 'x' does not exist; the flag has: on, off"),
        (rule(serve={"weights": {"on": 1}, "salt": ""}), "/rules/2/serve/salt: the salt has 0 characters, expected 1 to 1024"),
        (rule(serve={"weights": {"on": 1}, "bucketBy": ""}), "/rules/2/serve/bucketBy: the attribute's name has 0 characters, expected 1 to 256"),
        (rule(serve="on", share={}), "/rules/2/share/percent: the share has no percent"),
        (rule(serve="on", share={"percent": 100.1}), "/rules/2/share/percent: expected a number from 0 to 100, not 100.1"),
        (rule(serve="on", share={"percent": True}), "/rules/2/share/percent: expected a number from 0 to 100, not true"),
        (rule(serve="on", share={"percent": 0.0001}), "/rules/2/share/percent: 0.0001 has more than 3 decimals"),
        (rule(serve="on", share={"percent": 1, "slat": "x"}), "/rules/2/share/slat: unknown field; did you mean 'salt'?"),
        (rule(serve="on", outside="stop"), "/rules/2/outside: 'stop' is not one of: next, default"),
        (rule(serve="on", condition={"is": 1}), "/rules/2/condition: unknown operator 'is'"),
        ({"targeting": {"if": [1, "on"]}, "rules": [{"serve": "on"}]}, "/targeting: stands beside rules; write the flag one way or the other"),
        ({"targeting": {"if": [1, "on"]}, "default": {"weights": {"on": 1}}}, "/default: a flag with targeting has one variant as its default; write a fractional"),
        ({"targeting": {"if": [1, "no"]}}, "/targeting/if/1: variant 'no' does not exist; the flag has: on, off"),
        ({"metadata": {"a": [1]}}, "/metadata/a: metadata holds texts, numbers and booleans, not a list"),
        ({"archivedAt": "2026-01-01T00:00:00"}, "/archivedAt: '2026-01-01T00:00:00' is not an instant with its time zone, such as 2026-01-31T12:00:00Z"),
        ({"expectedLifetimeDays": 0}, "/expectedLifetimeDays: expected a whole number of days from 1 to 36500, not 0"),
        ({"description": "x" * 4097}, "/description: the text has 4097 characters, at most 4096 are allowed"),
        ({"tags": ["a", "a"]}, "/tags/1: 'a' stands twice"),
        ({"rules": [{"serve": "on", "from": "2026-12-01"}]}, "/rules/0/from: '2026-12-01' is not an instant with its time zone, such as 2026-01-31T12:00:00Z"),
        ({"rules": [{"serve": "on", "from": "2026-12-01T09:00:00.5Z"}]}, "/rules/0/from: 2026-12-01T09:00:00.5Z is no whole second, and flagd's clock knows no parts of one"),
        ({"rules": [{"serve": "on", "until": "1969-12-31T23:59:59Z"}]}, "/rules/0/until: 1969-12-31T23:59:59Z is before 1970, where flagd's clock begins"),
        ({"rules": [{"serve": "on", "from": "2026-12-01T09:00:00Z", "until": "2026-12-01T10:00:00+01:00"}]}, "/rules/0/until: 2026-12-01T10:00:00+01:00 is not after 2026-12-01T09:00:00Z, from which on the rule is asked"),
        ({"rules": [{"serve": "on", "share": {"percent": 1, "steps": [{"percent": 2}]}}]}, "/rules/0/share/steps/0/at: the step has no instant"),
        ({"rules": [{"serve": "on", "share": {"percent": 1, "steps": [{"at": "2026-12-01T09:00:00Z"}]}}]}, "/rules/0/share/steps/0/percent: the share has no percent"),
        ({"rules": [{"serve": "on", "share": {"percent": 1, "steps": [{"at": "2026-12-01T09:00:00Z", "percent": 2}, {"at": "2026-12-01T09:00:00Z", "percent": 3}]}}]}, "/rules/0/share/steps/1/at: 2026-12-01T09:00:00Z is not after 2026-12-01T09:00:00Z, the step before"),
        ({"rules": [{"serve": "on", "share": {"percent": 1, "steps": [{"at": "2026-12-01T09:00:00Z", "percent": 2}] * 51}}]}, "/rules/0/share/steps: the list has 51 items, at most 50 are allowed"),
        ({"kind": "test"}, "/kind: 'test' is not one of: release, experiment, operational, permission"),
    ],
)  # fmt: skip
def test_a_wrong_flag_is_refused_with_its_path(fields: Json, problem: str) -> None:
    """One problem, and only that one."""
    assert problems_of(fields) == [problem]


@pytest.mark.parametrize("key", ["", "x" * 257, " a", "a ", "a\n", "a\x00b", "\u00a0a", "a\x7f"])
def test_a_key_is_short_and_visible(key: str) -> None:
    """No control characters, and no blank at either end."""
    assert len(problems_of({}, key=key)) == 1
    assert problems_of({}, key="a b\u00a0c/é~") == []


def test_every_problem_of_a_flag_is_found() -> None:
    """One wrong field does not hide the next."""
    wrong = {"variants": {"on": [1]}, "default": 1, "rules": [{"serve": 1, "id": ""}, 5], "metadata": 1, "x": 1}

    assert len(problems_of(wrong)) == 7


def test_defaults_are_filled_in_and_salts_are_written() -> None:
    """A salt that is not given depends on keys alone, and is kept from then on."""
    split = {"weights": {"off": 1, "on": 2.0}}
    rules = [{"serve": "on"}, {"id": "rule-1", "serve": split, "share": {"percent": 12.345, "bucketBy": "email"}}]
    definition = read({"variants": {"on": 1, "off": 2.5}, "rules": rules, "default": split})

    weights = (("off", 1), ("on", 2))
    share = Share(12_345, "new-ui/rule-1/share", "email")
    served = Rule("rule-1", Split(weights, "new-ui/rule-1/split"), share=share)
    assert definition == FlagDefinition(
        Flag("new-ui", ValueType.FLOAT, {"on": 1.0, "off": 2.5}),
        FlagConfig(rules=(Rule("rule-1-2", "on"), served), default=Split(weights, "new-ui/default/split")),
    )
    assert isinstance(definition.flag.variants["on"], float)
    written = write_flag(definition)
    assert written["rules"][1]["share"] == {"percent": 12.345, "salt": "new-ui/rule-1/share", "bucketBy": "email"}
    assert read(written) == definition


def test_the_two_parts_are_read_apart() -> None:
    """The store keeps them apart: a flag belongs to a project, its configuration to an environment."""
    problems = Problems()
    part = {"variants": {"on": {}}, "kind": "experiment", "archivedAt": "2026-01-02T03:04:05+01:00"}
    flag = read_flag_part("a", part, problems=problems, path="")
    config = read_config_part(
        "a", {"rules": [{"serve": "on", "outside": "default"}]}, variants={"on": {}}, problems=problems, path=""
    )

    archived_at = datetime(2026, 1, 2, 2, 4, 5, tzinfo=UTC)
    assert flag == Flag("a", ValueType.OBJECT, {"on": {}}, kind=FlagKind.EXPERIMENT, archived_at=archived_at)
    assert config == FlagConfig(rules=(Rule("rule-1", "on", outside=Outside.DEFAULT),))
    assert read_flag_part("a", {**part, "rules": []}, problems=problems, path="/a") is None
    assert read_config_part("a", {"kind": "release"}, variants=None, problems=problems, path="/a") is None
    assert [problem.path for problem in problems.errors] == ["/a/rules", "/a/kind"]


def test_lenient_keeps_mixed_types_and_drops_unknown_fields() -> None:
    """What is kept marks the flag, so that its export is accepted again; what is dropped does not."""
    problems = Problems(lenient=True)
    mixed = {"variants": {"a": 1, "b": "x"}, "default": "b"}
    kept = read_flag("a", mixed, problems=problems, path="")
    dropped = read_flag("b", {**GOOD, "x": 1}, problems=problems, path="")

    assert kept is not None and kept.flag.type is ValueType.STRING and kept.config.lenient
    assert dropped is not None and not dropped.config.lenient
    assert len(problems.warnings) == 2
    assert read(write_flag(kept) | {"type": "string"}).flag.variants == mixed["variants"]
