"""What holds deliveries back: an endpoint's rate and its breaker, as laws over any history."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhooks import breaker, rates
from webhooks.breaker import Breaker, State
from webhooks.errors import InvalidSetting
from webhooks.rates import Bucket, Rate


@given(
    st.floats(0.1, 100),
    st.integers(1, 20),
    st.lists(st.tuples(st.floats(-2, 5), st.integers(0, 30)), max_size=60),
)
def test_no_window_passes_the_rate(per_s: float, burst: int, history: list[tuple[float, int]]) -> None:
    """In any t seconds at most burst + t * rate are sent, also when a clock goes back for a while."""
    rate = Rate(per_s, burst)
    bucket, now, latest = rates.full(rate, 0), 0.0, 0.0
    sent: list[tuple[float, int]] = []
    for step, wanted in history:
        now = max(0.0, now + step)
        latest = max(latest, now)
        bucket, taken = rates.take(bucket, rate, now_s=now, wanted=wanted)
        sent.append((latest, taken))

    for first in range(len(sent)):
        for last in range(first, len(sent)):
            window = sent[last][0] - sent[first][0]
            assert sum(count for _, count in sent[first : last + 1]) <= burst + window * per_s + 1e-6


@given(st.floats(0.1, 100), st.integers(1, 20), st.floats(0, 50), st.floats(0, 1e6))
def test_after_its_wait_a_token_is_there(per_s: float, burst: int, tokens: float, now: float) -> None:
    """And not before: who waits as long as was said is served."""
    rate, bucket = Rate(per_s, burst), Bucket(min(tokens, burst), now)
    wait = rates.wait_s(bucket, rate, now)

    assert 1 == rates.take(bucket, rate, now_s=now + wait + 1e-6 + now * 1e-9)[1]
    assert (wait == 0) == (rates.take(bucket, rate, now_s=now)[1] == 1)


@pytest.mark.parametrize(("per_s", "burst"), [(0, 1), (-1, 1), (10_001, 1), (float("nan"), 1), (1, 0), (1, 10_001)])
def test_a_wrong_rate_is_refused(per_s: float, burst: int) -> None:
    """Nothing and anything are no rates."""
    with pytest.raises(InvalidSetting, match="/rate"):
        rates.read_rate(per_s, burst)


@given(st.lists(st.tuples(st.sampled_from(["ask", "fail", "succeed"]), st.floats(0, 400)), max_size=80))
def test_never_two_probes(history: list[tuple[str, float]]) -> None:
    """While a probe is under way nothing else goes, until it is answered or lost; while it is open, nothing does."""
    held, now, probe_at = Breaker(), 0.0, None
    for what, step in history:
        now += step
        before = held
        if what == "ask":
            held, goes = breaker.let_through(held, now)
            if before.state is not State.CLOSED:
                assert goes == (now >= before.until_s)
            if goes and held.state is State.HALF_OPEN:
                assert probe_at is None or now - probe_at >= breaker.PROBE_S
                probe_at = now
        else:
            held = breaker.succeeded(held) if what == "succeed" else breaker.failed(held, now)
            if held.state is not State.HALF_OPEN and before.state is not State.OPEN:
                probe_at = None
            if held.state is State.OPEN:
                assert held.until_s <= now + breaker.OPEN_S_MAX * 1.2


def test_a_breaker_opens_probes_and_closes() -> None:
    """Five failures open it for 30 s; a failed probe for 60; a good one closes it."""
    held = Breaker()
    for _ in range(breaker.FAILURES_TO_OPEN):
        assert breaker.let_through(held, 0) == (held, True)
        held = breaker.failed(held, 0)
    assert (State.OPEN, 30.0) == (held.state, held.until_s)
    assert not breaker.let_through(held, 29)[1]
    held, goes = breaker.let_through(held, 30)
    assert goes
    assert not breaker.let_through(held, 31)[1]
    held = breaker.failed(held, 31)
    assert (State.OPEN, 91.0) == (held.state, held.until_s)
    held, _ = breaker.let_through(held, 91)
    assert Breaker() == breaker.succeeded(held)
