"""Say what a metric is, and check one."""

from dataclasses import dataclass
from enum import StrEnum

from server.core.definitions.fields import name_problem
from server.core.definitions.places import check_text
from server.core.definitions.problems import shown
from server.core.errors import InvalidRequest
from server.core.guards.verdicts import Arm
from server.core.limits import METRIC_UNIT_CHARS_MAX, NAME_CHARS_MAX
from server.core.metrics.sums import Sums


class MetricKind(StrEnum):
    """What a metric's value is made of."""

    COUNT = "count"
    """The sum of what was observed: errors, orders."""

    MEAN = "mean"
    """The mean of what was observed: a latency, a basket."""

    RATIO = "ratio"
    """The sum of the values over the sum of the denominators beside them: errors over requests."""

    CONVERSION = "conversion"
    """The share of observations that are 1 among those that are 0 or 1: units that bought something."""


class Better(StrEnum):
    """Which way a metric is better."""

    HIGHER = "higher"
    LOWER = "lower"


@dataclass(frozen=True, slots=True)
class Metric:
    """What is observed in a project."""

    key: str
    kind: MetricKind
    better: Better = Better.HIGHER
    unit: str = ""
    """As people read it: ms, EUR."""

    description: str = ""


def check_metric(metric: Metric) -> None:
    """Errors: InvalidRequest, TooLarge, naming what is wrong with it."""
    if name_problem(metric.key):
        raise InvalidRequest(
            f"{shown(metric.key)} is no key of a metric; use 1 to {NAME_CHARS_MAX} of a-z, 0-9, dot, underscore and "
            "hyphen, beginning with a letter or digit"
        )
    check_text(f"the description of metric {metric.key!r}", metric.description)
    if len(metric.unit) > METRIC_UNIT_CHARS_MAX:
        raise InvalidRequest(
            f"the unit of metric {metric.key!r} has {len(metric.unit)} characters, at most {METRIC_UNIT_CHARS_MAX}"
        )


def value_of(kind: MetricKind, sums: Sums) -> float | None:
    """What a metric comes to by its sums; None when nothing was observed, or a ratio has nothing to be divided by."""
    if not sums.count:
        return None
    match kind:
        case MetricKind.COUNT:
            return sums.total
        case MetricKind.MEAN | MetricKind.CONVERSION:
            return sums.mean
        case MetricKind.RATIO:
            return None if sums.denominator_mean == 0 else sums.mean / sums.denominator_mean


def arm_of(kind: MetricKind, sums: Sums) -> Arm:
    """The same as a guard judges it."""
    return Arm(value_of(kind, sums), sums.count, sums=sums)
