"""Judge what was measured by a guard's method: pass, fail, inconclusive, no data or error, and never an exception.

A breach is told at once, however small the sample: taking a change back is conservative and can be undone. What needs
a sample is the word that all is well. Whoever acts on a breach says how often it must be confirmed.

Each method has a version, which stands in what it says: a judgement is made again by the method that made it.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, TypeAlias

from server.core.guards.guards import Guard, Method
from server.core.guards.ratios import ratio_mismatch
from server.core.metrics.sums import Sums


class Verdict(StrEnum):
    """What a judgement comes to."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    """There is something, but not enough to say that all is well."""

    NO_DATA = "no-data"
    """Nothing was measured, or nothing of late."""

    ERROR = "error"
    """It could not be measured, or what was measured is no number."""


@dataclass(frozen=True, slots=True)
class Arm:
    """What was measured of one arm."""

    value: float | None = None
    """None when there is nothing; a provider's NaN says the same."""

    sample_count: int | None = None
    """Observations behind the value; None where a provider does not tell, and then it is never too few."""

    newest_at: datetime | None = None
    """Of the newest observation; None where nobody knows."""

    sums: Sums | None = None
    """Of our own observations, for methods that need more than the value."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a guard is judged by."""

    treatment: Arm
    control: Arm | None = None
    error: str = ""
    """Why it could not be measured; "" when it could."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What was said, by which method, and of what."""

    verdict: Verdict
    value: float | None
    threshold: float | None
    """What the value was held against: the limit that it broke, or the one that it is nearest to."""

    sample_count: int | None
    text: str
    method: str
    """Name and version, as `threshold/1`."""

    control_value: float | None = None


Judge: TypeAlias = Callable[[Summary, Guard], Judgement]


def judge(summary: Summary, guard: Guard, now: datetime) -> Judgement:
    """Judge by the newest version of the guard's method."""
    return judge_by(NEWEST[guard.method], summary, guard, now)


def judge_by(method: str, summary: Summary, guard: Guard, now: datetime) -> Judgement:
    """Judge by one method of METHODS, as is done again when what was said is checked. Errors: KeyError."""
    decide = METHODS[method]
    if summary.error:
        return _said(Verdict.ERROR, summary, method, f"it could not be measured: {summary.error}")
    arms = {"the value": summary.treatment}
    if guard.method is not Method.THRESHOLD:
        arms["the control's value"] = summary.control or Arm()
    for name, arm in arms.items():
        lacking = _lacking(name, arm, guard, now)
        if lacking is not None:
            return _said(lacking[0], summary, method, lacking[1])
    judgement = decide(summary, guard)
    mismatch = _mismatch(summary, guard) if judgement.verdict is Verdict.PASS else ""
    return replace(judgement, verdict=Verdict.INCONCLUSIVE, text=mismatch) if mismatch else judgement


def _mismatch(summary: Summary, guard: Guard) -> str:
    """What is wrong with the sizes of the arms; "" for nothing. A breach does not wait for that."""
    counts = (summary.treatment.sample_count, None if summary.control is None else summary.control.sample_count)
    treatment, control = counts
    if not guard.sample_ratio or treatment is None or control is None:
        return ""
    p = ratio_mismatch(treatment, control, guard.sample_ratio)
    if p is None:
        return ""
    return f"sample ratio mismatch: {treatment} to {control}, {guard.sample_ratio:g} to 1 is expected (p = {p:.1g})"


def _lacking(name: str, arm: Arm, guard: Guard, now: datetime) -> tuple[Verdict, str] | None:
    value = arm.value
    if value is None or math.isnan(value) or arm.sample_count == 0:
        return Verdict.NO_DATA, f"nothing was measured of {name}"
    if math.isinf(value):
        return Verdict.ERROR, f"{name} is {value}, which is no number to compare: something was divided by nothing"
    if guard.stale_after_s and arm.newest_at is not None:
        age = now - arm.newest_at
        if age > timedelta(seconds=guard.stale_after_s):
            seconds = f"{age.total_seconds():.0f} s old, at most {guard.stale_after_s:g} s are asked for"
            return Verdict.NO_DATA, f"the newest observation of {name} is {seconds}"
    return None


def _threshold(summary: Summary, guard: Guard) -> Judgement:
    return _compared(summary, guard, "threshold/1", guard.low, guard.high)


def _ratio_to_control(summary: Summary, guard: Guard) -> Judgement:
    """Hold the value against multiples of the control's: without a division, a control of 0 is like any other."""
    method = "ratio-to-control/1"
    control = summary.control.value if summary.control is not None else None
    if control is None or control < 0:
        text = f"the control's value is {control}, and a multiple of less than nothing says nothing"
        return _said(Verdict.ERROR, summary, method, text)
    low = None if guard.low is None else guard.low * control - guard.margin
    high = None if guard.high is None else guard.high * control + guard.margin
    return _compared(summary, guard, method, low, high)


def _compared(summary: Summary, guard: Guard, method: str, low: float | None, high: float | None) -> Judgement:
    value = summary.treatment.value
    if value is None:
        return _said(Verdict.NO_DATA, summary, method, "nothing was measured")
    if high is not None and value > high:
        return _said(Verdict.FAIL, summary, method, f"{value:g} is above {high:g}", high)
    if low is not None and value < low:
        return _said(Verdict.FAIL, summary, method, f"{value:g} is below {low:g}", low)
    nearest = min((each for each in (low, high) if each is not None), key=lambda each: abs(each - value), default=None)
    arms = [summary.treatment] if summary.control is None else [summary.treatment, summary.control]
    counts = [arm.sample_count for arm in arms if arm.sample_count is not None]
    if counts and min(counts) < guard.sample_min:
        text = f"{value:g} is within its limits, by {min(counts)} observations; {guard.sample_min} are asked for"
        return _said(Verdict.INCONCLUSIVE, summary, method, text, nearest)
    return _said(Verdict.PASS, summary, method, f"{value:g} is within its limits", nearest)


def _said(verdict: Verdict, summary: Summary, method: str, text: str, threshold: float | None = None) -> Judgement:
    control = summary.control
    return Judgement(
        verdict,
        _number(summary.treatment.value),
        threshold,
        summary.treatment.sample_count,
        text,
        method,
        None if control is None else _number(control.value),
    )


def _number(value: float | None) -> float | None:
    """What can be stored and sent as a number."""
    return value if value is not None and math.isfinite(value) else None


METHODS: Final[Mapping[str, Judge]] = {"threshold/1": _threshold, "ratio-to-control/1": _ratio_to_control}
"""Name and version -> how it judges what is there. A version that judged once stays."""

NEWEST: Final[Mapping[Method, str]] = {
    Method.THRESHOLD: "threshold/1",
    Method.RATIO_TO_CONTROL: "ratio-to-control/1",
}
