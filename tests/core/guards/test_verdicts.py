"""A breach is told at once, a pass only of enough, and whatever was measured there is a verdict."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from server.core.guards.guards import Guard, Method
from server.core.guards.verdicts import METHODS, NEWEST, Arm, Judgement, Summary, Verdict, judge, judge_by

NOW = datetime(2026, 11, 25, 10, 42, tzinfo=UTC)
LATE = NOW - timedelta(seconds=301)
HIGH = Guard("errors", "production", metric="errors", high=0.05, sample_min=100, stale_after_s=300)
LOW = Guard("sales", "production", metric="sales", low=0.02, sample_min=100)
BAND = Guard("load", "production", metric="load", low=1, high=2)
RATIO = replace(HIGH, method=Method.RATIO_TO_CONTROL, high=1.2)
RATIO_LOW = replace(HIGH, method=Method.RATIO_TO_CONTROL, high=None, low=0.9)
EVEN = replace(RATIO, sample_ratio=1.0)
FINITE = st.floats(-1e6, 1e6)
ANY = st.floats(allow_nan=True, allow_infinity=True)


def arm(value: float | None, count: int | None = 1_000, newest_at: datetime | None = NOW) -> Arm:
    """What was measured of one arm."""
    return Arm(value, count, newest_at)


@pytest.mark.parametrize(
    ("guard", "treatment", "control", "expected"),
    [
        (HIGH, arm(0.04), None, Verdict.PASS),
        (HIGH, arm(0.05), None, Verdict.PASS),
        (HIGH, arm(0.06), None, Verdict.FAIL),
        (HIGH, arm(0.06, count=1), None, Verdict.FAIL),
        (HIGH, arm(0.04, count=99), None, Verdict.INCONCLUSIVE),
        (HIGH, arm(0.04, count=100), None, Verdict.PASS),
        (HIGH, arm(0.04, count=None), None, Verdict.PASS),
        (HIGH, arm(0.04, newest_at=None), None, Verdict.PASS),
        (HIGH, arm(0.04, newest_at=NOW + timedelta(hours=1)), None, Verdict.PASS),
        (HIGH, arm(0.06, newest_at=LATE), None, Verdict.NO_DATA),
        (HIGH, arm(None, count=None), None, Verdict.NO_DATA),
        (HIGH, arm(0.0, count=0), None, Verdict.NO_DATA),
        (HIGH, arm(math.nan), None, Verdict.NO_DATA),
        (HIGH, arm(math.inf), None, Verdict.ERROR),
        (HIGH, arm(-math.inf), None, Verdict.ERROR),
        (LOW, arm(0.01), None, Verdict.FAIL),
        (LOW, arm(0.02), None, Verdict.PASS),
        (LOW, arm(0.03, newest_at=LATE), None, Verdict.PASS),
        (BAND, arm(0.5), None, Verdict.FAIL),
        (BAND, arm(1.5), None, Verdict.PASS),
        (BAND, arm(2.5), None, Verdict.FAIL),
        (RATIO, arm(0.12), arm(0.1), Verdict.PASS),
        (RATIO, arm(0.13), arm(0.1), Verdict.FAIL),
        (RATIO, arm(0.13, count=3), arm(0.1, count=3), Verdict.FAIL),
        (RATIO, arm(0.11, count=1_000), arm(0.1, count=99), Verdict.INCONCLUSIVE),
        (RATIO, arm(0.11), None, Verdict.NO_DATA),
        (EVEN, arm(0.11, count=1_000), arm(0.1, count=1_100), Verdict.PASS),
        (EVEN, arm(0.11, count=1_000), arm(0.1, count=1_200), Verdict.INCONCLUSIVE),
        (EVEN, arm(0.13, count=1_000), arm(0.1, count=1_200), Verdict.FAIL),
        (EVEN, arm(0.11, count=1_000), arm(0.1, count=None), Verdict.PASS),
        (replace(EVEN, sample_ratio=0.5), arm(0.11, count=1_000), arm(0.1, count=2_000), Verdict.PASS),
        (replace(EVEN, sample_ratio=0.5), arm(0.11, count=1_200), arm(0.1, count=2_000), Verdict.INCONCLUSIVE),
        (RATIO, arm(0.11, count=1_000), arm(0.1, count=9_000), Verdict.PASS),
        (RATIO, arm(0.11), arm(None), Verdict.NO_DATA),
        (RATIO, arm(0.11), arm(0.1, newest_at=LATE), Verdict.NO_DATA),
        (RATIO, arm(0.11), arm(math.nan), Verdict.NO_DATA),
        (RATIO, arm(0.11), arm(math.inf), Verdict.ERROR),
        (RATIO, arm(0.11), arm(-0.1), Verdict.ERROR),
        (RATIO, arm(0.01), arm(0.0), Verdict.FAIL),
        (RATIO, arm(0.0), arm(0.0), Verdict.PASS),
        (replace(RATIO, margin=0.02), arm(0.01), arm(0.0), Verdict.PASS),
        (RATIO_LOW, arm(0.08), arm(0.1), Verdict.FAIL),
        (RATIO_LOW, arm(0.095), arm(0.1), Verdict.PASS),
    ],
)
def test_verdicts(guard: Guard, treatment: Arm, control: Arm | None, expected: Verdict) -> None:
    """The table of what is said of what."""
    judgement = judge(Summary(treatment, control), guard, NOW)

    assert expected is judgement.verdict, judgement.text


@pytest.mark.parametrize("guard", [HIGH, LOW, RATIO])
def test_what_could_not_be_measured_is_an_error(guard: Guard) -> None:
    """Also beside a value that would fail: nobody knows what it is worth."""
    judgement = judge(Summary(arm(9.0), arm(0.1), error="the provider answered 503"), guard, NOW)

    assert Verdict.ERROR is judgement.verdict
    assert "it could not be measured: the provider answered 503" == judgement.text


def test_a_breach_says_what_it_broke() -> None:
    """Value, threshold, sample and method are there, so that anybody can follow."""
    expected = Judgement(
        Verdict.FAIL, 0.5, 0.25, 1_000, "0.5 is above 0.25", method="ratio-to-control/1", control_value=0.125
    )

    assert expected == judge(Summary(arm(0.5), arm(0.125)), replace(RATIO, high=2.0), NOW)


@given(st.sampled_from([HIGH, LOW, BAND, RATIO, RATIO_LOW]), st.none() | ANY, st.none() | ANY)
def test_every_measurement_has_a_verdict(guard: Guard, value: float | None, control: float | None) -> None:
    """Whatever a provider answers; and what is told is a number or nothing."""
    judgement = judge(Summary(arm(value), arm(control)), guard, NOW)

    assert judgement.verdict in Verdict
    assert judgement.value is None or math.isfinite(judgement.value)
    assert judgement.text


@given(st.sampled_from([HIGH, LOW, BAND, RATIO, RATIO_LOW]), ANY, ANY)
def test_the_method_named_judges_the_same_again(guard: Guard, value: float, control: float) -> None:
    """A judgement is replayed by the method and version that it names."""
    summary = Summary(arm(value), arm(control))
    judgement = judge(summary, guard, NOW)

    assert judgement == judge_by(judgement.method, summary, guard, NOW)


@given(FINITE, FINITE, st.floats(0, 1e6))
def test_a_wider_limit_never_fails_what_passed(value: float, high: float, more: float) -> None:
    """Monotone in the threshold, above."""
    before = judge(Summary(arm(value)), replace(HIGH, high=high), NOW)
    after = judge(Summary(arm(value)), replace(HIGH, high=high + more), NOW)

    assert not (before.verdict is Verdict.PASS and after.verdict is Verdict.FAIL)


@given(FINITE, FINITE, st.floats(0, 1e6))
def test_a_lower_limit_never_fails_what_passed(value: float, low: float, less: float) -> None:
    """Monotone in the threshold, below."""
    before = judge(Summary(arm(value)), replace(LOW, low=low), NOW)
    after = judge(Summary(arm(value)), replace(LOW, low=low - less), NOW)

    assert not (before.verdict is Verdict.PASS and after.verdict is Verdict.FAIL)


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 100), st.integers(-20, 20))
def test_another_unit_changes_no_verdict(value: float, control: float, high: float, exponent: int) -> None:
    """Milliseconds or seconds: values scaled alike are judged alike. By powers of two, which round nothing."""
    assume(value == 0 or value > 1e-200)
    assume(control == 0 or control > 1e-200)
    scale = 2.0**exponent
    ratio = replace(RATIO, high=high)
    absolute = replace(HIGH, high=high)

    assert (
        judge(Summary(arm(value), arm(control)), ratio, NOW).verdict
        is judge(Summary(arm(value * scale), arm(control * scale)), ratio, NOW).verdict
    )
    assert (
        judge(Summary(arm(value)), absolute, NOW).verdict
        is judge(Summary(arm(value * scale)), replace(absolute, high=high * scale), NOW).verdict
    )


@given(st.sampled_from([HIGH, LOW, BAND, RATIO, RATIO_LOW]), FINITE, FINITE, st.integers(1, 10_000))
def test_no_sample_hides_a_breach(guard: Guard, value: float, control: float, count: int) -> None:
    """What fails of many observations fails of few: a roll-back never waits for a sample."""
    many = judge(Summary(arm(value, 10_000), arm(control, 10_000)), guard, NOW)
    few = judge(Summary(arm(value, count), arm(control, count)), guard, NOW)

    assert (many.verdict is Verdict.FAIL) == (few.verdict is Verdict.FAIL)


def test_every_method_can_be_judged_by() -> None:
    """The table has what each name means today, and the limit of none is forgotten."""
    assert set(Method) == set(NEWEST)
    assert set(NEWEST.values()) <= set(METHODS)
