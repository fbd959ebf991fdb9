"""Documents whose reading took quadratic time, or ended in a crash, when they were found."""

import time

import pytest

from server.core.definitions.documents import read_document
from server.core.definitions.flagd import read_flagd
from server.core.definitions.text import parse_text
from server.core.errors import InvalidDefinition
from server.core.json import Json

QUICK_S = 2.0


def nested(depth: int) -> Json:
    """A number inside so many lists."""
    value: Json = 1
    for _ in range(depth):
        value = [value]
    return value


def test_a_key_that_stands_twice_among_many() -> None:
    """Is found in linear time."""
    text = "{" + ",".join(f'"k{number}": 1' for number in range(60_000)) + ', "k7": 2}'
    started = time.process_time()
    with pytest.raises(InvalidDefinition, match="/k7: this key stands twice"):
        parse_text(text)

    assert time.process_time() - started < QUICK_S


def test_many_misspelt_names() -> None:
    """Are reported, and only the first ones with a suggestion."""
    flags = {
        f"flag-{number}": {
            "variants": {"on": True},
            "default": "on",
            "offVariant": "on",
            "prerequisites": [{"flag": f"flug-{number}", "variants": ["on"]}],
        }
        for number in range(2_000)
    }
    started = time.process_time()
    with pytest.raises(InvalidDefinition) as refused:
        read_document({"flags": flags}, project="p", environment="e")

    assert time.process_time() - started < QUICK_S * 2
    assert 2_000 == len(refused.value.problems)
    assert "did you mean 'flag-0'?" in str(refused.value.problems[0])


@pytest.mark.parametrize(
    "part",
    [
        {"log": [10**400]},
        {"log": float("nan")},
        {"log": nested(900)},
        {"a": nested(900), "b": 1},
        {"var": ["x", nested(900)]},
        {"missing": [10**400, nested(200)]},
        {"starts_with": [nested(900), "x"]},
        {"sem_ver": ["1", "=", "1", nested(900)]},
        {"fractional": [{"var": "x"}, [True, nested(900)]]},
        {"$ref": nested(200)},
    ],
)
def test_what_a_lenient_reader_skips_keeps_the_bounds(part: Json) -> None:
    """Operators that do not exist may hold what they like, within the bounds of every rule."""
    flag = {"state": "ENABLED", "variants": {"on": "1"}, "targeting": {"if": [part, "on"]}}
    with pytest.raises(InvalidDefinition, match=r"nested|too large for a 64-bit float|not a number in JSON"):
        read_flagd({"flags": {"f": flag}}, project="p", environment="e", lenient=True)


def test_segments_that_nest_deeper_than_the_stack() -> None:
    """Each segment is within its bound; written out, eight of them would need a thousand of Python's frames."""
    segments: dict[str, Json] = {"s0": {"condition": True}}
    for level in range(1, 9):
        rule: Json = {"$ref": f"s{level - 1}"}
        for _ in range(31):
            rule = {"!": [rule]}
        segments[f"s{level}"] = {"condition": rule}
    with pytest.raises(InvalidDefinition, match="nests more than 96 operators"):
        read_document({"flags": {}, "segments": segments}, project="p", environment="e")


@pytest.mark.parametrize("name", ["", "flags.json", "flags.yaml"])
def test_a_text_with_half_a_surrogate_pair(name: str) -> None:
    """Is refused in every format."""
    with pytest.raises(InvalidDefinition, match="half of a surrogate pair"):
        parse_text("a: \ud800", name=name)
