"""A batch is taken apart: what can be taken is, what cannot is told by its path, and what came before is known."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.errors import FlagstaffError
from server.core.limits import OBSERVATIONS_PER_BATCH_MAX, PRODUCER_WINDOW, SERIES_PER_BATCH_MAX
from server.core.metrics.batches import Batch, Series, check_batch, follows, sum_up
from server.core.metrics.metrics import Metric, MetricKind, check_metric, value_of
from server.core.metrics.sums import EMPTY, sums_of

NOW: Final = datetime(2026, 11, 25, 10, 42, 7, tzinfo=UTC)
METRICS: Final = {
    "errors": Metric("errors", MetricKind.RATIO),
    "latency": Metric("latency", MetricKind.MEAN),
    "orders": Metric("orders", MetricKind.COUNT),
    "bought": Metric("bought", MetricKind.CONVERSION),
}


def batch(*series: Series, sequence: int = 1) -> Batch:
    """A batch of one producer."""
    return Batch("shop", "production", "web-1", sequence, series)


def told(series: Series) -> list[str]:
    """The problems of one series, after one that has none."""
    _, problems = sum_up(batch(Series("orders", [1.0]), series), metrics=METRICS, flags={"checkout"}, now=NOW)
    return [str(each) for each in problems]


@pytest.mark.parametrize(
    ("series", "expected"),
    [
        (Series("latencies", [1]), "/series/1/metric: there is no metric 'latencies'; did you mean 'latency'?"),
        (Series("latency", [1], flag="x"), "/series/1/flag: there is no flag 'x' in this environment"),
        (Series("latency", [1], variant="on"), "/series/1/variant: a variant is a flag's: name the flag"),
        (Series("latency", [1], step=-1), "/series/1/step: is -1, expected 0 to 999"),
        (Series("latency", [1], at=NOW - timedelta(days=91)), "/series/1/observed_at: is more than 90 days ago"),
        (
            Series("latency", [1], [1]),
            "/series/1/denominators: there are 1; mean metric 'latency' takes 0 of them beside 1 values",
        ),
        (
            Series("errors", [1]),
            "/series/1/denominators: there are 0; ratio metric 'errors' takes 1 of them beside 1 values",
        ),
        (
            Series("bought", [0, 1, 2]),
            "/series/1/values: are 0 or 1 for conversion metric 'bought', not 2",
        ),
    ],
)
def test_what_cannot_be_taken_is_told_by_its_path(series: Series, expected: str) -> None:
    """The rest of the batch is taken all the same."""
    assert [expected] == told(series)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e101])
def test_what_cannot_be_summed_up_is_not_taken(value: float) -> None:
    """One such value would spoil every sum that it is merged into."""
    for values in ([value], [1.0, value], [value, 1.0]):
        assert ["/series/1/values: must be numbers of at most 1e+100, without NaN"] == told(Series("latency", values))


def test_series_of_the_same_are_summed_up_together() -> None:
    """However a producer groups its observations."""
    apart, _ = sum_up(batch(Series("orders", [1.0]), Series("orders", [3.0])), metrics=METRICS, flags=(), now=NOW)
    whole, _ = sum_up(batch(Series("orders", [1.0, 3.0])), metrics=METRICS, flags=(), now=NOW)

    assert apart == whole
    assert [sums_of([1.0, 3.0])] == list(whole.values())


@pytest.mark.parametrize(
    ("at", "width_s", "start"),
    [
        (None, 10, "10:42:00"),
        (NOW - timedelta(seconds=8), 10, "10:41:50"),
        (NOW + timedelta(days=3), 10, "10:42:00"),
        (NOW - timedelta(hours=3), 3_600, "07:00:00"),
    ],
)
def test_observations_belong_to_their_time(at: datetime | None, width_s: int, start: str) -> None:
    """Late ones to their hour, and those of a clock that is ahead to now."""
    cells, _ = sum_up(batch(Series("orders", [1.0], at=at)), metrics=METRICS, flags=(), now=NOW)
    (cell,) = cells

    assert (width_s, start) == (cell.width_s, f"{datetime.fromtimestamp(cell.start_s, UTC):%H:%M:%S}")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"producer": ""}, "producer has 0 characters, expected 1 to 128"),
        ({"producer": "x" * 129}, "producer has 129 characters, expected 1 to 128"),
        ({"sequence": 0}, "sequence is 0, expected 1 or more: a producer counts its batches up"),
        (
            {"series": [Series("orders", ())] * (SERIES_PER_BATCH_MAX + 1)},
            "the batch has 1001 series, at most 1000 are allowed",
        ),
        (
            {"series": [Series("orders", [0.0] * (OBSERVATIONS_PER_BATCH_MAX + 1))]},
            "the batch has 10001 observations, at most 10000 are allowed",
        ),
    ],
)
def test_a_batch_that_is_none_is_refused(changed: dict[str, Any], message: str) -> None:
    """By what is wrong with it."""
    given_ = {
        "project": "shop",
        "environment": "production",
        "producer": "web-1",
        "sequence": 1,
        "series": (),
        **changed,
    }
    with pytest.raises(FlagstaffError) as caught:
        check_batch(Batch(**given_))

    assert message == str(caught.value)


@given(st.lists(st.integers(1, 200), max_size=300))
def test_a_batch_counts_once(sequences: Sequence[int]) -> None:
    """Whatever comes again or late: none counts twice, and within the window each counts."""
    newest, seen, taken = 0, 0, set()
    for sequence in sequences:
        after = follows(newest, seen, sequence)
        if after is None:
            assert sequence in taken or sequence <= newest - PRODUCER_WINDOW
        else:
            assert sequence not in taken
            newest, seen = after
            taken.add(sequence)
        assert seen < 2**63


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (MetricKind.COUNT, 6.0),
        (MetricKind.MEAN, 2.0),
        (MetricKind.CONVERSION, 2.0),
        (MetricKind.RATIO, 0.5),
    ],
)
def test_a_metric_comes_to_what_its_kind_says(kind: MetricKind, expected: float) -> None:
    """By the same sums."""
    assert expected == value_of(kind, sums_of([1.0, 2.0, 3.0], [2.0, 4.0, 6.0]))
    assert value_of(kind, EMPTY) is None


def test_a_ratio_over_nothing_has_no_value() -> None:
    """It is not zero, and no error either."""
    assert value_of(MetricKind.RATIO, sums_of([0.0], [0.0])) is None


@pytest.mark.parametrize("metric", [Metric("Not A Name", MetricKind.MEAN), Metric("a", MetricKind.MEAN, unit="x" * 33)])
def test_a_metric_is_checked(metric: Metric) -> None:
    """Its key and its unit."""
    with pytest.raises(FlagstaffError):
        check_metric(metric)
