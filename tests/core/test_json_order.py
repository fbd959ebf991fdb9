"""JSON that says the same."""

import pytest

from server.core.json import Json
from server.core.json_order import says_the_same


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ({"a": 1, "b": [2]}, {"b": [2.0], "a": 1}, True),
        ({"a": 1}, {"a": True}, False),
        ({"a": 0}, {"a": False}, False),
        ([1, 2], [2, 1], False),
        ([1], [1, 2], False),
        ({"a": 1}, {"a": 1, "b": None}, False),
        (None, {}, False),
        ("1", 1, False),
        ([], {}, False),
    ],
)
def test_only_order_does_not_matter(one: Json, other: Json, expected: bool) -> None:
    """The order of names, and how a whole number is written."""
    assert (expected, expected) == (says_the_same(one, other), says_the_same(other, one))
