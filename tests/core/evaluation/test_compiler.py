"""Compiled flags: what is made once, what is shared, what is looked at."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from server.core.environments import Bucketing, Environment
from server.core.evaluation.compiler import compile_rule
from server.core.evaluation.failure import Failure
from server.core.evaluation.snapshot import Clock, Snapshot
from server.core.evaluation.snapshots import build_snapshot
from server.core.flags import Flag, FlagConfig, FlagDefinition, Prerequisite, Rule, ValueType
from server.core.flagsets import FlagSet
from server.core.resolution import ErrorCode, Reason
from server.core.segments import Segment

ENVIRONMENT = Environment("shop", "production", metadata={"team": "web", "level": "set"})


def flag(key: str, config: FlagConfig, **more: Any) -> FlagDefinition:
    """A flag with two variants."""
    return FlagDefinition(Flag(key, ValueType.STRING, {"on": "ON", "off": "OFF"}, **more), config)


def snapshot(*flags: FlagDefinition, segments: dict[str, Segment] | None = None) -> Snapshot:
    """These flags, compiled."""
    return build_snapshot(FlagSet(ENVIRONMENT, {each.key: each for each in flags}, segments or {}), revision=7)


def raw(key: str, targeting: Any, default: str | None = "off") -> FlagDefinition:
    """A flag with raw targeting."""
    return flag(key, FlagConfig(default=default, targeting=targeting))


def test_static_flag_gives_one_object() -> None:
    """A flag without targeting has a single answer, the same object for every context."""
    compiled = snapshot(flag("a", FlagConfig(default="on"))).flags["a"]

    assert compiled.static is compiled.evaluate({"x": 1}, 0) is compiled.evaluate({}, 9)
    assert (Reason.STATIC, "on", "ON") == (compiled.static.reason, compiled.static.variant, compiled.static.value)
    assert frozenset() == compiled.reads


def test_equal_answers_are_one_object() -> None:
    """Every way to a variant gives the same Resolution, so a reply is encoded once."""
    rule = {"if": [{"==": [{"var": "a"}, 1]}, "on", {"==": [{"var": "b"}, 1]}, "on"]}
    flags = snapshot(raw("f", rule))

    assert flags.resolve("f", {"a": 1}, 0) is flags.resolve("f", {"b": 1}, 0)


def test_rules_of_one_shape_share_their_code() -> None:
    """Constants are bound, not compiled in."""
    first = snapshot(raw("f", {"if": [{"==": [{"var": "plan"}, "pro"]}, "on"]})).flags["f"]
    second = snapshot(raw("g", {"if": [{"==": [{"var": "tier"}, "gold"]}, "on"]})).flags["g"]

    assert first.evaluate.__code__ is second.evaluate.__code__
    assert "on" == second.evaluate({"tier": "gold"}, 0).variant
    assert "off" == second.evaluate({"plan": "pro"}, 0).variant


@pytest.mark.parametrize(
    ("rule", "reads"),
    [
        ({"==": [{"var": "a"}, {"var": "b.c"}]}, {"a", "b"}),
        ({"fractional": [["on", 1], ["off", 1]]}, {"targetingKey"}),
        ({"missing": ["a", "b"]}, {"a", "b"}),
        ({">": [{"var": "$flagd.timestamp"}, 5]}, set()),
        ({"map": [{"var": "list"}, {"var": "x"}]}, {"list"}),
        ({"var": {"var": "name"}}, None),
        ({"var": ""}, None),
    ],
)
def test_reads_are_known(rule: Any, reads: set[str] | None) -> None:
    """The attributes that a rule looks at are known, or it may look at any."""
    assert (None if reads is None else frozenset(reads)) == snapshot(raw("f", rule)).flags["f"].reads


def test_flagd_properties_cannot_be_forged() -> None:
    """`$flagd` is the server's: what the caller sends under that name is not seen."""
    rule = {"cat": [{"var": "$flagd.flagKey"}, "@", {"var": "$flagd.timestamp"}]}
    evaluate = compile_rule(rule, flag_key="f", bucketing=Bucketing.V2)

    assert "f@12" == evaluate({"$flagd": {"flagKey": "x", "timestamp": 99}}, 12)


def test_unknown_operator_fails_where_it_is_reached() -> None:
    """The rest of the rule answers."""
    evaluate = compile_rule({"if": [{"var": "a"}, {"nope": 1}, "on"]}, flag_key="f", bucketing=Bucketing.V2)

    assert "on" == evaluate({}, 0)
    with pytest.raises(Failure, match="'nope' is not an operator"):
        evaluate({"a": True}, 0)


def test_missing_variant_is_an_error_that_names_it() -> None:
    """A rule that chooses what is not a variant answers GENERAL."""
    answer = snapshot(raw("f", {"if": [True, "three"]})).resolve("f", {}, 0)

    assert (Reason.ERROR, ErrorCode.GENERAL) == (answer.reason, answer.error_code)
    assert "flag 'f': targeting chose 'three', which is not one of its variants: on, off" == answer.error_message


def test_unexpected_failure_does_not_tell_the_context() -> None:
    """Text that is no Unicode cannot be hashed; the answer says so without repeating it."""
    answer = snapshot(raw("f", {"fractional": [["on", 1], ["off", 1]]})).resolve("f", {"targetingKey": "\ud800x"}, 0)

    assert ErrorCode.GENERAL == answer.error_code
    assert "flag 'f': its rule could not be evaluated (UnicodeEncodeError)" == answer.error_message


def test_metadata_of_the_flag_lies_over_the_sets() -> None:
    """Both are in the answer; the flag's own wins."""
    answer = snapshot(flag("f", FlagConfig(default="on"), metadata={"level": "flag"})).resolve("f", {}, 0)

    assert {"team": "web", "level": "flag"} == answer.metadata


def test_circle_is_quarantined_and_the_rest_serves() -> None:
    """Two flags that need each other can only come from outside; a third one is untouched."""
    one = flag("one", FlagConfig(default="on", prerequisites=(Prerequisite("two", ("on",)),)))
    two = flag("two", FlagConfig(default="on", prerequisites=(Prerequisite("one", ("on",)),)))
    flags = snapshot(one, two, flag("three", FlagConfig(default="on")))

    assert "refers to itself through flag 'one'" == flags.flags["one"].quarantine
    assert Reason.ERROR == flags.resolve("two", {}, 0).reason
    assert "on" == flags.resolve("three", {}, 0).variant


def test_missing_default_variant_is_quarantined() -> None:
    """It cannot be served, whatever the context."""
    answer = snapshot(flag("f", FlagConfig(default="gone"))).resolve("f", {}, 0)

    assert "flag 'f' is quarantined: default variant 'gone' does not exist" == answer.error_message


def test_unmet_prerequisite_without_off_variant_leaves_the_default_to_the_caller() -> None:
    """Although the flag has a default of its own, which holds only where the prerequisite is met."""
    needed = flag("needed", FlagConfig(default="off"))
    flags = snapshot(needed, flag("f", FlagConfig(default="on", prerequisites=(Prerequisite("needed", ("on",)),))))
    answer = flags.resolve("f", {}, 0)

    assert (Reason.DEFAULT, None, None) == (answer.reason, answer.variant, answer.value)


def test_prerequisite_keeps_its_own_key() -> None:
    """Written out inside another flag, shorthand `fractional` still hashes the flag that it belongs to."""
    split = raw("split", {"fractional": [["on", 1], ["off", 1]]})
    dependent = flag("f", FlagConfig(default="on", off_variant="off", prerequisites=(Prerequisite("split", ("on",)),)))
    flags = snapshot(split, dependent)
    contexts = [{"targetingKey": f"user-{number}"} for number in range(200)]
    served = [flags.resolve("split", context, 0).variant for context in contexts]

    assert served == [flags.resolve("f", context, 0).variant for context in contexts]
    assert {"on", "off"} == set(served)


@pytest.mark.parametrize("off_variant", [None, "off"])
def test_archived_flag_is_off(off_variant: str | None) -> None:
    """An archived flag serves its off variant, or leaves the value to the caller."""
    config = FlagConfig(default="on", off_variant=off_variant)
    answer = snapshot(flag("f", config, archived_at=datetime(2026, 1, 1, tzinfo=UTC))).resolve("f", {}, 0)

    assert (off_variant, Reason.DISABLED, None) == (answer.variant, answer.reason, answer.error_code)


def test_segment_is_written_out() -> None:
    """A condition, a list of keys, and a segment inside a segment."""
    segments = {
        "staff": Segment("staff", condition={"ends_with": [{"var": "email"}, "@shop.example"]}),
        "vip": Segment("vip", keys=("ann", "bob")),
        "early": Segment("early", condition={"or": [{"$ref": "staff"}, {"$ref": "vip"}]}),
    }
    rule = Rule("early", "on", condition={"$ref": "early"})
    flags = snapshot(flag("f", FlagConfig(default="off", rules=(rule,))), segments=segments)

    assert "on" == flags.resolve("f", {"email": "x@shop.example"}, 0).variant
    assert "on" == flags.resolve("f", {"targetingKey": "bob"}, 0).variant
    assert "off" == flags.resolve("f", {"targetingKey": "eve"}, 0).variant
    assert {("segment", "staff"), ("segment", "vip"), ("segment", "early")} == flags.flags["f"].references


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"==": [{"var": "a"}, 1]}, None),
        ({">=": [{"var": "$flagd.timestamp"}, 100]}, Clock((100, 101))),
        ({"<": [10.5, {"var": "$flagd.timestamp"}, 20]}, Clock((11, 20, 21))),
        ({">": [{"var": "$flagd.timestamp"}, {"var": "from"}]}, Clock(every_second=True)),
        ({"fractional": [["on", {"var": "$flagd.timestamp"}], ["off", 1]]}, Clock(every_second=True)),
    ],
)
def test_instants_at_which_answers_turn_are_known(rule: Any, expected: Clock | None) -> None:
    """From comparisons with constants; what is computed with the clock is looked at every second."""
    assert expected == snapshot(raw("f", {"if": [rule, "on"]})).flags["f"].clock


def test_exported_form_is_flagds() -> None:
    """What in-process providers are given has flagd's fields and the set's metadata, and needs no segment."""
    rule = Rule("early", "on", condition={"$ref": "staff"})
    segments = {"staff": Segment("staff", keys=("ann",))}
    compiled = snapshot(flag("f", FlagConfig(default="off", rules=(rule,))), segments=segments).flags["f"]

    assert {
        "state": "ENABLED",
        "variants": {"on": "ON", "off": "OFF"},
        "defaultVariant": "off",
        "targeting": {"if": [{"in": [{"var": "targetingKey"}, ["ann"]]}, "on"]},
        "metadata": {"team": "web", "level": "set"},
    } == json.loads(compiled.exported)
