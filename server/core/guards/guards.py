"""Say what is watched, and within which limits."""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from server.core.definitions.fields import name_problem
from server.core.definitions.problems import Problems, shown
from server.core.limits import GUARD_INTERVAL_S_MIN, GUARD_WINDOW_S_MAX, NAME_CHARS_MAX, TEXT_CHARS_MAX

SAMPLE_RATIO_MAX: Final = 1_000.0


class Method(StrEnum):
    """How a guard judges what was measured."""

    THRESHOLD = "threshold"
    """The value is held against the limits."""

    RATIO_TO_CONTROL = "ratio-to-control"
    """The value is held against the limits times the control's value at the same time."""


@dataclass(frozen=True, slots=True)
class Guard:
    """What is watched in an environment: a metric of our own, or what a provider answers to a query."""

    key: str
    environment: str

    metric: str = ""
    """Ours; then flag and variants say which observations. "" where a provider is asked."""

    flag: str = ""
    """"" for the observations of all flags."""

    variant: str = ""
    """"" for those of all variants."""

    control_variant: str = ""

    provider: str = ""
    """As the server's settings name it; "" for our own observations."""

    query: str = ""
    control_query: str = ""

    method: Method = Method.THRESHOLD
    low: float | None = None
    """What is less fails: a value, or with a control a multiple of its value."""

    high: float | None = None
    """What is more fails: a value, or with a control a multiple of its value."""

    margin: float = 0.0
    """With a control: how far beyond its multiple still passes, in units of the value."""

    sample_min: int = 0
    """Fewer observations never pass; a breach does not wait for them."""

    window_s: float = 300.0
    """Observations of this long are judged."""

    stale_after_s: float = 0.0
    """When the newest observation is older, there is no data; 0: it may be as old as the window."""

    initial_delay_s: float = 0.0
    """Judged from this long after something began that it watches."""

    interval_s: float = 10.0
    """Between two judgements; of a metric of our own also as soon as something was observed."""

    description: str = ""
    sample_ratio: float = 0.0
    """How many observations of the treatment there should be to each of the control's: 1 for a canary, whose slices are
    as large. When there are others, more than chance allows, nothing passes. 0: it is not asked."""


def check_guard(guard: Guard) -> None:
    """Errors: InvalidDefinition with everything that is wrong with a guard, by path."""
    problems = Problems()
    check_key(guard.key, path="/key", problems=problems)
    _check_source(guard, problems)
    _check_limits(guard, problems)
    for name, value, most in (
        ("window_s", guard.window_s, GUARD_WINDOW_S_MAX),
        ("interval_s", guard.interval_s, GUARD_WINDOW_S_MAX),
    ):
        if not GUARD_INTERVAL_S_MIN <= value <= most:
            problems.error(f"/{name}", f"is {value:g}, expected {GUARD_INTERVAL_S_MIN:g} to {most:g} seconds")
    for name, value in (("stale_after_s", guard.stale_after_s), ("initial_delay_s", guard.initial_delay_s)):
        if not 0 <= value <= GUARD_WINDOW_S_MAX:
            problems.error(f"/{name}", f"is {value:g}, expected 0 to {GUARD_WINDOW_S_MAX:g} seconds")
    if not 0 <= guard.sample_ratio <= SAMPLE_RATIO_MAX:
        problems.error("/sample_ratio", f"is {guard.sample_ratio:g}, expected 0 to {SAMPLE_RATIO_MAX:g}")
    elif guard.sample_ratio and not (guard.metric and guard.method is Method.RATIO_TO_CONTROL):
        problems.error("/sample_ratio", "is for a metric of our own with a control: a provider does not tell how many")
    if guard.sample_min < 0:
        problems.error("/sample_min", f"is {guard.sample_min}, expected 0 or more")
    for name, text in (("query", guard.query), ("control_query", guard.control_query)):
        if len(text) > TEXT_CHARS_MAX:
            problems.error(f"/{name}", f"has {len(text)} characters, at most {TEXT_CHARS_MAX} are allowed")
    if len(guard.description) > TEXT_CHARS_MAX:
        problems.error("/description", f"has more than {TEXT_CHARS_MAX} characters")
    problems.raise_if_any()


def check_key(key: str, *, path: str, problems: Problems) -> None:
    """Report what keeps a text from being a guard's or a policy's key."""
    if name_problem(key):
        problems.error(
            path,
            f"{shown(key)} cannot be used; use 1 to {NAME_CHARS_MAX} of a-z, 0-9, dot, underscore and hyphen, "
            "beginning with a letter or digit",
        )


def _check_source(guard: Guard, problems: Problems) -> None:
    if bool(guard.metric) == bool(guard.provider):
        problems.error("/metric", "name a metric, or a provider with a query, and not both")
    elif guard.provider:
        if not guard.query:
            problems.error("/query", "a provider needs a query")
        if guard.flag or guard.variant or guard.control_variant:
            problems.error("/flag", "a provider's query says itself what it is about; leave out flag and variants")
    elif guard.query or guard.control_query:
        problems.error("/query", "a query is for a provider; a metric of our own has none")
    elif (guard.variant or guard.control_variant) and not guard.flag:
        problems.error("/flag", "variants are a flag's: name the flag")
    if guard.method is Method.RATIO_TO_CONTROL and not (guard.control_variant or guard.control_query):
        wanted = "control_query" if guard.provider else "control_variant"
        problems.error(f"/{wanted}", "a ratio to the control needs a control")


def _check_limits(guard: Guard, problems: Problems) -> None:
    if guard.low is None and guard.high is None:
        problems.error("/high", "without a limit nothing ever fails; give low, high or both")
    for name, value in (("low", guard.low), ("high", guard.high), ("margin", guard.margin)):
        if value is not None and not math.isfinite(value):
            problems.error(f"/{name}", "must be a number")
    if guard.low is not None and guard.high is not None and guard.low > guard.high:
        problems.error("/low", f"is {guard.low:g}, above high, {guard.high:g}: nothing would ever pass")
    if guard.margin < 0 or (guard.margin and guard.method is Method.THRESHOLD):
        problems.error("/margin", "is 0 or more, and for ratios to a control")
