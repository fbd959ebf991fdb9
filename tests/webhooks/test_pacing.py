"""What an endpoint may get now: its cap, its rate and its breaker, and its part of a process's slots."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, update

from server.store.engine import reading, writing
from tests.webhooks.made import LEASE_S, NOW, after, enqueue
from webhooks import breaker, rates
from webhooks.breaker import Breaker
from webhooks.deliveries import claim
from webhooks.pacing import Opening, let_go, openings, share_out, spend
from webhooks.rates import Bucket, Rate
from webhooks.states import Lane
from webhooks.tables import endpoints


def opening(id_: str, room: int, under_way: int = 0) -> Opening:
    """An endpoint that has neither a rate nor trouble."""
    return Opening(id_, room, under_way, 15.0, None, None, Breaker())


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50)), max_size=60), st.integers(0, 200), st.integers(0, 9))
def test_slots_are_shared_out(found: list[tuple[int, int]], free: int, turn: int) -> None:
    """Nobody gets more than it has room for, nor all together more than is free; the last quarter goes one by one."""
    slots = 200
    given = [opening(f"ep_{number}", room, under_way) for number, (room, under_way) in enumerate(found)]
    shares = share_out(given, free, slots=slots, turn=turn)
    busy = sum(shares.get(each.endpoint_id, 0) for each in given if each.under_way)

    assert all(1 <= shares.get(each.endpoint_id, 1) <= each.room for each in given)
    assert sum(shares.values()) <= free
    assert busy <= max(0, free - slots // 4)
    if free >= sum(each.room for each in given) + slots // 4:
        assert shares == {each.endpoint_id: each.room for each in given}


def test_who_comes_first_changes() -> None:
    """Where there is one slot and many want it, another one gets it each time."""
    given = [opening(f"ep_{number}", 1) for number in range(5)]

    assert [[f"ep_{turn}"] for turn in range(5)] == [list(share_out(given, 1, slots=8, turn=turn)) for turn in range(5)]


@given(st.floats(0.5, 100), st.integers(1, 20), st.lists(st.tuples(st.floats(0, 3), st.integers(0, 40)), max_size=30))
def test_no_window_passes_a_rate_that_is_reserved(per_s: float, burst: int, history: list[tuple[float, int]]) -> None:
    """Tokens that are still to come are given with the wait for them: what is sent then keeps the rate all the same."""
    rate = Rate(per_s, burst)
    bucket, now = rates.full(rate, 0.0), 0.0
    sent: list[float] = []
    for step, wanted in history:
        now += step
        bucket, waits = rates.reserve(bucket, rate, now_s=now, wanted=wanted, ahead_s=1.0)
        assert len(waits) <= wanted
        assert all(0 <= wait <= 1.0 + 1e-6 for wait in waits)
        sent += [now + wait for wait in waits]

    assert sent == sorted(sent)
    for first in range(len(sent)):
        for last in range(first, len(sent)):
            assert last - first + 1 <= burst + (sent[last] - sent[first]) * per_s + 1e-6


def test_a_rate_that_is_reserved_is_used() -> None:
    """Who looks once a second gets all that the rate allows in that second."""
    rate = Rate(25.0, 1)
    bucket, got = Bucket(0.0, 0.0), 0
    for second in range(10):
        bucket, waits = rates.reserve(bucket, rate, now_s=float(second), wanted=100, ahead_s=1.0)
        got += len(waits)

    assert 250 == got


def test_a_rate_stands_in_the_row(engine: Engine) -> None:
    """So all dispatchers share it: what one reserved the next one does not get."""
    enqueue(engine, *"abcdefgh")
    with writing(engine) as connection:
        connection.execute(update(endpoints).values(rate_per_s=2.0, burst=3))
    with writing(engine) as connection:
        found = openings(connection, NOW)
        waits = spend(connection, found, {"ep_1": found[0].room}, NOW)
    with reading(engine) as connection:
        rooms = [[each.room for each in openings(connection, after(seconds))] for seconds in (0, 0.9, 1.4, 2.1)]

    assert {"ep_1": (0.0, 0.0, 0.0, 0.5, 1.0)} == waits
    assert [[], [1], [2], [4]] == rooms


def test_one_probe_is_sent(engine: Engine) -> None:
    """When a breaker's time is over one delivery goes, in all processes; the next one when it is lost or given back."""
    enqueue(engine, *"abc")
    with writing(engine) as connection:
        connection.execute(
            update(endpoints).values(
                breaker_state="open", breaker_opened=1, breaker_until_ms=int(after(5).timestamp() * 1_000)
            )
        )
    with writing(engine) as connection:
        assert [] == openings(connection, after(4))
        found = openings(connection, after(5))
        assert [1] == [each.room for each in found]
        claimed = claim(connection, rooms={"ep_1": 1}, lane=Lane.FRESH, claim_id="1", lease_s=LEASE_S, now=after(5))
        spend(connection, found, {"ep_1": len(claimed)}, after(5))
    with writing(engine) as connection:
        assert [] == openings(connection, after(6))
        assert [1] == [each.room for each in openings(connection, after(5 + breaker.PROBE_S))]
        let_go(connection, ["ep_1"], after(6))
        assert [1] == [each.room for each in openings(connection, after(6))]


def test_only_what_is_due_has_a_lane(engine: Engine) -> None:
    """So that nobody looks through what waits for later."""
    enqueue(engine, "a", "b")
    with reading(engine) as connection:
        [found] = openings(connection, NOW)
        assert [] == openings(connection, after(-1))

    assert frozenset({Lane.FRESH}) == found.lanes
    assert pytest.approx(15.0) == found.timeout_s
