"""Contexts that the operator adds to."""

import pytest

from server.core.context import Enrichment, parse_headers, parse_values
from server.core.errors import InvalidRequest

BOTH = Enrichment({"region": "eu", "tier": "free"}, {"x-tier": "tier", "x-user": "targetingKey"})


def test_header_wins_over_fixed_value_over_caller() -> None:
    """Flagd's order; what nobody else sets stays the caller's."""
    context = {"region": "us", "tier": "pro", "age": 40.0, "targetingKey": "alice"}
    merged = BOTH.merged(context, {"x-tier": "gold"}.get)

    assert {"region": "eu", "tier": "gold", "age": 40.0, "targetingKey": "alice"} == merged
    assert {"region": "us", "tier": "pro", "age": 40.0, "targetingKey": "alice"} == context


def test_empty_header_adds_nothing() -> None:
    """As with flagd: it is as if it were absent."""
    assert {"region": "eu", "tier": "free"} == BOTH.merged({}, {"x-tier": "", "x-user": ""}.get)


def test_nothing_configured_costs_nothing() -> None:
    """The very context comes back, and no header is looked at."""

    def never(name: str) -> str | None:
        raise AssertionError(f"{name} was looked at")

    context = {"a": 1}

    assert not Enrichment()
    assert Enrichment().merged(context, never) is context


def test_pairs_are_read() -> None:
    """A value may hold an equals sign; headers are compared without regard to case."""
    assert {"a": "b=c", "empty": ""} == parse_values(["a=1", "a=b=c", "empty="])
    assert {"x-user": "targetingKey"} == parse_headers(["X-User = targetingKey"])


def test_pairs_come_separated_by_commas_too() -> None:
    """As flagd reads them; quotes keep a comma."""
    assert {"a": "b", "c": "d, e", "f": "g"} == parse_values(['a=b, "c=d, e"', "f=g"])


@pytest.mark.parametrize("text", ["", "a", "=b", " =b", "a=b,"])
def test_text_that_is_no_pair_is_refused(text: str) -> None:
    """With the text and an example."""
    with pytest.raises(InvalidRequest, match="such as region=eu"):
        parse_values([text])


@pytest.mark.parametrize("text", ["X Tier=tier", "X-Tier=", "X-Tier-Bin=tier", ":authority=host", "ä=b"])
def test_header_that_cannot_arrive_is_refused(text: str) -> None:
    """Rather than silently never matching."""
    with pytest.raises(InvalidRequest):
        parse_headers([text])
