"""Whole documents of ours: read, written, and refused with all their problems."""

import json

import pytest
from hypothesis import given

from server.core.definitions.documents import read_document, write_document
from server.core.definitions.flagd import is_flagd
from server.core.definitions.text import parse_text
from server.core.environments import Bucketing, Environment
from server.core.errors import InvalidDefinition
from server.core.flags import TARGETING_KEY
from server.core.flagsets import FlagSet
from server.core.json import Json
from server.core.segments import Segment
from tests.strategies import flag_sets

FLAG: Json = {"variants": {"on": True, "off": False}, "default": "off"}


def problems_of(document: Json, *, lenient: bool = False) -> list[str]:
    """Everything for which a document is refused, as printed."""
    with pytest.raises(InvalidDefinition) as refused:
        read_document(document, project="shop", environment="production", lenient=lenient)
    return [str(problem) for problem in refused.value.problems]


@given(flag_sets())
def test_what_is_written_is_read_back(flag_set: FlagSet) -> None:
    """Equal as a value, equal as text when written again, and strictly read without a warning."""
    text = json.dumps(write_document(flag_set))
    read = read_document(parse_text(text))

    assert (read.flag_set, read.warnings) == (flag_set, ())
    assert json.dumps(write_document(read.flag_set)) == text
    assert not is_flagd(parse_text(text))


def test_options_win_over_the_document() -> None:
    """A document says where it came from; whoever imports it says where it goes."""
    document = {"project": "a", "environment": "b", "bucketing": "v3", "metadata": {"version": "3"}, "flags": {}}

    assert read_document(document).flag_set.environment == Environment(
        "a", "b", bucketing=Bucketing.V3, metadata={"version": "3"}
    )
    assert read_document(document, project="c", environment="d").flag_set.environment.flag_set == "c/d"


def test_all_problems_are_told_in_the_order_of_their_paths() -> None:
    """Of every flag and segment, and between them; a flag that cannot be read is not also missing."""
    document = {
        "flag": {},
        "bucketing": "v1",
        "segments": {
            "s": {"keys": ["a"], "condition": True},
            "t": {},
            "u": {"keys": [1]},
            "v": {"condition": {"$ref": "s"}},
        },
        "flags": {
            "a": {**FLAG, "rules": [{"serve": "on"}] * 9 + [{"serve": "x"}, {"serve": "y"}]},
            "b": {**FLAG, "prerequisites": [{"flag": "a", "variants": ["on"]}, {"flag": "c", "variants": ["on"]}]},
            "": FLAG,
        },
    }

    assert problems_of(document) == [
        "/bucketing: 'v1' is not one of: v2, v3",
        "/flag: unknown field; did you mean 'flags'?",
        "/flags/: the key has 0 characters, expected 1 to 256",
        "/flags/a/rules/9/serve: variant 'x' does not exist; the flag has: on, off",
        "/flags/a/rules/10/serve: variant 'y' does not exist; the flag has: on, off",
        "/flags/b/prerequisites/1/flag: flag 'c' does not exist",
        "/segments/s: a segment has either a condition or keys",
        "/segments/t: a segment has either a condition or keys",
        '/segments/u/keys/0: expected a text, not 1; write it as text, "1"',
    ]


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ([], "/: expected an object, not a list"),
        ({}, "/flags: the document has no flags; an empty set is written {}"),
        ({"flags": []}, "/flags: expected an object, not a list"),
        ({"flags": {}, "metadata": 1}, "/metadata: expected an object, not 1"),
        ({"flags": {}, "segments": {"a": 1}}, "/segments/a: expected an object, not 1"),
        (
            {"flags": {}, "segments": {"a": {"condition": True, "keyAttribute": "x"}}},
            "/segments/a/keyAttribute: belongs to a list of keys, this segment has a condition",
        ),
        ({"flags": {}, "segments": {"a": {"keys": ["x", "x"]}}}, "/segments/a/keys/1: 'x' stands twice"),
        (
            {"flags": {}, "segments": {"a": {"condition": {"log": 1}}}},
            "/segments/a/condition: unknown operator 'log'",
        ),
    ],
)
def test_a_wrong_document_is_refused(document: Json, problem: str) -> None:
    """One problem, and only that one."""
    assert problems_of(document) == [problem]


@pytest.mark.parametrize("name", ["", "Shop", "-a", "a/b", "a" * 65, "a\n"])
def test_a_project_has_a_plain_name(name: str) -> None:
    """It becomes a part of the flag set's name, which clients write in headers."""
    with pytest.raises(InvalidDefinition) as refused:
        read_document({"flags": {}}, project=name, environment="production")

    assert refused.value.problems[0].path == "/project"


def test_a_name_must_come_from_somewhere() -> None:
    """The document, or an option."""
    with pytest.raises(InvalidDefinition) as refused:
        read_document({"flags": {}}, project="shop")

    assert str(refused.value) == "/environment: no environment is named, neither here nor by an option"


def test_segments_of_both_kinds() -> None:
    """A condition, or keys of one attribute."""
    segments = {
        "a": {"condition": {"$ref": "b"}, "description": "x"},
        "b": {"keys": ["x", "y"], "keyAttribute": "email"},
    }
    read = read_document({"flags": {}, "segments": segments}, project="shop", environment="production")

    assert read.flag_set.segments == {
        "a": Segment("a", condition={"$ref": "b"}, description="x"),
        "b": Segment("b", keys=("x", "y"), key_attribute="email"),
    }
    empty = read_document({"flags": {}, "segments": {"e": {"keys": []}}}, project="p", environment="e")
    assert empty.flag_set.segments["e"] == Segment("e", keys=(), key_attribute=TARGETING_KEY)


def test_a_lenient_mark_survives() -> None:
    """A flag that was accepted with warnings once is accepted again from its own export."""
    document = {"flags": {"a": {**FLAG, "rules": [{"serve": "on", "condition": {"$ref": "gone"}}]}}}
    read = read_document(document, project="shop", environment="production", lenient=True)
    again = read_document(write_document(read.flag_set))

    message = "/flags/a/rules/0/condition/$ref: segment 'gone' does not exist"
    assert [str(warning) for warning in read.warnings] == [message]
    assert again == read and again.flag_set.flags["a"].config.lenient
    assert problems_of(document) == [message]
