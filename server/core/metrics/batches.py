"""Take a batch of observations apart: what can be taken, and what cannot, each with its path."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from server.core.definitions.problems import names, shown, suggestion
from server.core.errors import InvalidRequest, Problem, TooLarge
from server.core.limits import (
    METRIC_DAYS,
    METRIC_FINE_KEPT_S,
    METRIC_FINE_S,
    METRIC_STEPS_MAX,
    OBSERVATIONS_PER_BATCH_MAX,
    OBSERVED_VALUE_MAX,
    PRODUCER_CHARS_MAX,
    PRODUCER_WINDOW,
    SERIES_PER_BATCH_MAX,
)
from server.core.metrics.metrics import Metric, MetricKind
from server.core.metrics.sums import Sums, merge, sums_of

HOUR_S: Final = 3_600
_SEQUENCE_MAX: Final = 2**63 - 1


class Taken(StrEnum):
    """What became of a batch."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    """It was applied before, or is too far behind its producer's newest to be known."""

    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Series:
    """Observations of one metric that belong together."""

    metric: str
    values: Sequence[float]
    denominators: Sequence[float] = ()
    """For ratios: as many."""

    flag: str = ""
    """"" for what belongs to no flag."""

    variant: str = ""
    step: int = 0
    """Of a release; 0 outside of any."""

    at: datetime | None = None
    """When they were observed; None: now."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What a producer sends at once; its sequence numbers are its own, and count up."""

    project: str
    environment: str
    producer: str
    sequence: int
    series: Sequence[Series]


@dataclass(frozen=True, slots=True)
class Cell:
    """Whose observations are summed up together."""

    environment: str
    metric: str
    flag: str
    variant: str
    step: int
    width_s: int
    """Of the stretch of time."""

    start_s: int
    """Of the stretch of time, in seconds since 1970."""


Cells = dict[Cell, Sums]


def check_batch(batch: Batch) -> None:
    """Refuse a batch that cannot be applied as one. Errors: InvalidRequest, TooLarge."""
    if not batch.producer or len(batch.producer) > PRODUCER_CHARS_MAX:
        raise InvalidRequest(f"producer has {len(batch.producer)} characters, expected 1 to {PRODUCER_CHARS_MAX}")
    if not 0 < batch.sequence <= _SEQUENCE_MAX:
        raise InvalidRequest(f"sequence is {batch.sequence}, expected 1 or more: a producer counts its batches up")
    if len(batch.series) > SERIES_PER_BATCH_MAX:
        raise TooLarge(f"the batch has {len(batch.series)} series, at most {SERIES_PER_BATCH_MAX} are allowed")
    count = sum(len(each.values) for each in batch.series)
    if count > OBSERVATIONS_PER_BATCH_MAX:
        raise TooLarge(f"the batch has {count} observations, at most {OBSERVATIONS_PER_BATCH_MAX} are allowed")


def sum_up(
    batch: Batch,
    *,
    metrics: Mapping[str, Metric],
    flags: Collection[str],
    now: datetime,
    similar: Collection[str] = (),
) -> tuple[Cells, list[Problem]]:
    """The sums of what can be taken of a batch, and why the rest cannot; a series is taken whole or not at all.

    `similar` are further keys of metrics, for hints.
    """
    cells: Cells = {}
    problems: list[Problem] = []
    for place, series in enumerate(batch.series):
        problem = _problem(series, metrics, flags, now, similar)
        if problem is not None:
            problems.append(Problem(f"/series/{place}/{problem[0]}", problem[1]))
        elif series.values:
            cell = _cell(batch.environment, series, now)
            sums = sums_of(series.values, series.denominators)
            known = cells.get(cell)
            cells[cell] = sums if known is None else merge(known, sums)
    return cells, problems


def follows(newest: int, seen: int, sequence: int) -> tuple[int, int] | None:
    """A producer's newest sequence number, and which before it came, with one more; None when it came before.

    Shapes: bit i of `seen` says that `newest - i` came, for i below PRODUCER_WINDOW. What is further behind counts as
    come: nobody knows. Source: RFC 4303, 3.4.3, the window against replays.
    """
    if sequence > newest:
        moved = sequence - newest
        kept = (seen << moved) & ((1 << PRODUCER_WINDOW) - 1) if moved < PRODUCER_WINDOW else 0
        return sequence, kept | 1
    bit = 1 << (newest - sequence) if newest - sequence < PRODUCER_WINDOW else 0
    return None if not bit or seen & bit else (newest, seen | bit)


def _problem(
    series: Series,
    metrics: Mapping[str, Metric],
    flags: Collection[str],
    now: datetime,
    similar: Collection[str],
) -> tuple[str, str] | None:
    metric = metrics.get(series.metric)
    if metric is None:
        return "metric", f"there is no metric {shown(series.metric)}{suggestion(series.metric, similar or metrics)}"
    if series.flag and series.flag not in flags:
        return "flag", f"there is no flag {shown(series.flag)} in this environment"
    if series.variant and not series.flag:
        return "variant", "a variant is a flag's: name the flag"
    if not 0 <= series.step < METRIC_STEPS_MAX:
        return "step", f"is {series.step}, expected 0 to {METRIC_STEPS_MAX - 1}"
    if series.at is not None and series.at < now - timedelta(days=METRIC_DAYS):
        return "observed_at", f"is more than {METRIC_DAYS} days ago"
    return _denominators_problem(metric, series) or _values_problem(metric, series)


def _denominators_problem(metric: Metric, series: Series) -> tuple[str, str] | None:
    wanted = len(series.values) if metric.kind is MetricKind.RATIO else 0
    if len(series.denominators) != wanted:
        said = f"{metric.kind} metric {metric.key!r} takes {wanted} of them beside {len(series.values)} values"
        return "denominators", f"there are {len(series.denominators)}; {said}"
    return None


def _values_problem(metric: Metric, series: Series) -> tuple[str, str] | None:
    for name, values in (("values", series.values), ("denominators", series.denominators)):
        # Two comparisons of C's speed for all of them: NaN is told by the sum, which it makes NaN, too.
        if values and not (
            max(values) <= OBSERVED_VALUE_MAX and min(values) >= -OBSERVED_VALUE_MAX and not math.isnan(sum(values))
        ):
            return name, f"must be numbers of at most {OBSERVED_VALUE_MAX:g}, without NaN"
    if metric.kind is MetricKind.CONVERSION and not {0.0, 1.0}.issuperset(series.values):
        odd = names(sorted({f"{each:g}" for each in series.values if each not in (0.0, 1.0)}))
        return "values", f"are 0 or 1 for conversion metric {metric.key!r}, not {odd}"
    return None


def _cell(environment: str, series: Series, now: datetime) -> Cell:
    now_s = now.timestamp()
    # A producer whose clock is ahead must not write where nobody reads yet.
    at_s = now_s if series.at is None else min(series.at.timestamp(), now_s)
    width_s = METRIC_FINE_S if at_s > now_s - METRIC_FINE_KEPT_S else HOUR_S
    start_s = int(at_s // width_s) * width_s
    return Cell(environment, series.metric, series.flag, series.variant, series.step, width_s, start_s)
