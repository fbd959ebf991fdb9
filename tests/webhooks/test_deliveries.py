"""A delivery is claimed by one, finished once, and never forgotten while it is not finished."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, update

from server.store.engine import reading, writing
from tests.webhooks.made import (
    LEASE_S,
    NOW,
    Written,
    add_endpoint,
    after,
    claim_all,
    enqueue,
    outcomes,
    statuses,
)
from webhooks import limits
from webhooks.deliveries import Claimed, Result, claim, give_back, record
from webhooks.endpoints import enable
from webhooks.finished import Wanted, remove_finished, replay
from webhooks.pacing import openings
from webhooks.states import Lane, Status
from webhooks.tables import endpoints

_ANY = Wanted("ep_1", statuses=tuple(Status))


def _record(engine: Engine, *results: Result, seconds: float = 0, written: Written | None = None) -> set[str]:
    with writing(engine) as connection:
        return record(connection, results, notices=written or Written(), now=after(seconds))


def _replay(engine: Engine, wanted: Wanted, *, finished_s: float = 0) -> int:
    with writing(engine) as connection:
        return replay(connection, wanted, finished_by=after(finished_s), now=after(finished_s + 1))


def _one(engine: Engine) -> Claimed:
    enqueue(engine, "a")
    return claim_all(engine)[0]


def test_what_is_claimed_is_claimed_once(engine: Engine) -> None:
    """Nobody else gets it while the lease lasts."""
    enqueue(engine, "a", "b")

    assert [2, 0] == [len(claim_all(engine)), len(claim_all(engine, now=after(LEASE_S - 1), claim_id="two"))]


def test_an_attempt_is_written_before_it_is_made(engine: Engine) -> None:
    """A crash while sending leaves a visible attempt of which nobody knows what became."""
    _one(engine)
    before = outcomes(engine)
    again = claim_all(engine, now=after(LEASE_S), claim_id="two")

    assert ["sending"] == before
    assert ["lost", "sending"] == outcomes(engine)
    assert [2] == [each.attempt_number for each in again]


def test_who_slept_through_its_lease_is_refused(engine: Engine) -> None:
    """The second claimer's result counts, whatever the first one says and whenever."""
    late = _one(engine)
    (second,) = claim_all(engine, now=after(LEASE_S), claim_id="two")

    assert set() == _record(engine, Result(late, error="timed out", retry_in_s=5))
    assert {second.id} == _record(engine, Result(second, 200))
    assert set() == _record(engine, Result(late, 200))
    assert ["delivered"] == statuses(engine)
    assert ["lost", "delivered"] == outcomes(engine)


def test_a_failed_one_waits_its_time(engine: Engine) -> None:
    """It is tried again in the other lane, when its wait is over and not before."""
    _record(engine, Result(_one(engine), 500, "answered 500", retry_in_s=5))

    assert [] == claim_all(engine, now=after(4.9), lane=Lane.RETRY)
    assert [] == claim_all(engine, now=after(5), lane=Lane.FRESH)
    assert [2] == [each.attempts_made for each in claim_all(engine, now=after(5), lane=Lane.RETRY)]


def test_the_last_failure_is_told(engine: Engine) -> None:
    """An exhausted delivery is a dead letter, and an event says so."""
    written = Written()
    _record(engine, Result(_one(engine), 500, "answered 500"), written=written)

    assert ["exhausted"] == statuses(engine)
    assert ["webhook.delivery_exhausted"] == [each.type for each in written.notices]
    assert {"event_id": "evt_1", "attempts": 1} == {
        name: written.notices[0].data[name] for name in ("event_id", "attempts")
    }


def test_a_message_may_be_refused_for_good(engine: Engine) -> None:
    """`webhook-delivery: abort-message` ends the delivery and nothing else."""
    _record(engine, Result(_one(engine), 400, "asked to stop", retry_in_s=5, abort=True))

    assert ["aborted"] == statuses(engine)
    with reading(engine) as connection:
        assert [] == openings(connection, after(60))


@pytest.mark.parametrize(("how", "why", "state"), [("gone", "gone", "gone"), ("disable", "asked", "disabled")])
def test_an_endpoint_can_ask_for_nothing_more(engine: Engine, how: str, why: str, state: str) -> None:
    """Its other deliveries are missed, those under way too, and an event says so."""
    enqueue(engine, "a", "b", "c")
    first, second = claim_all(engine, room=2)
    written = Written()
    _record(engine, Result(first, 410, "answered", retry_in_s=5, **{how: True}), written=written)

    assert ["missed"] * 3 == statuses(engine)
    assert set() == _record(engine, Result(second, 200))
    assert [("webhook.endpoint_disabled", why, 3)] == [
        (each.type, each.data["why"], each.data["pending"]) for each in written.notices
    ]
    with reading(engine) as connection:
        assert [(state, why)] == [tuple(row) for row in connection.execute(endpoints.select().with_only_columns(
            endpoints.c.state, endpoints.c.why))]  # fmt: skip


def test_an_endpoint_that_fails_for_long_is_disabled(engine: Engine) -> None:
    """By the time that it has been failing, and not by the number of failures."""
    written = Written()
    enqueue(engine, "a", "b")
    for place, seconds in enumerate((0, limits.FAILING_S_MAX - 1, limits.FAILING_S_MAX)):
        lanes = (Lane.FRESH, Lane.RETRY)
        claimed = [
            each for lane in lanes for each in claim_all(engine, now=after(seconds), claim_id=f"{place}", lane=lane)
        ]
        assert 2 == len(claimed)
        _record(engine, *(Result(each, 500, "no", retry_in_s=0) for each in claimed), seconds=seconds, written=written)

    assert ["missed"] * 2 == statuses(engine)
    assert ["failing"] == [each.data["why"] for each in written.notices]


def test_one_success_forgives(engine: Engine) -> None:
    """The time of failing begins anew after any delivery that arrived."""
    enqueue(engine, "a")
    _record(engine, Result(claim_all(engine)[0], 500, "no", retry_in_s=0))
    (second,) = claim_all(engine, now=after(60), lane=Lane.RETRY, claim_id="two")
    _record(engine, Result(second, 200), seconds=60)

    with reading(engine) as connection:
        assert [None] == list(
            connection.execute(endpoints.select().with_only_columns(endpoints.c.failing_since_ms)).scalars()
        )


def test_all_that_was_missed_is_made_up_for(engine: Engine) -> None:
    """Enabling tells it, and one replay sends everything that was not delivered, by a schedule from its start."""
    enqueue(engine, "a", "b")
    first, _second = claim_all(engine)
    _record(engine, Result(first, 410, "gone", gone=True))
    written = Written()
    with writing(engine) as connection:
        assert enable(connection, "ep_1", notices=written)
        assert not enable(connection, "ep_1", notices=written)

    assert [2, 0] == [_replay(engine, Wanted("ep_1")), _replay(engine, Wanted("ep_1"))]
    assert [1, 1] == [each.attempts_made for each in claim_all(engine, now=after(1), lane=Lane.RETRY, claim_id="two")]
    assert ["webhook.endpoint_recovered"] == [each.type for each in written.notices]


def test_nothing_is_replayed_to_a_disabled_endpoint(engine: Engine) -> None:
    """It stays a dead letter until the endpoint is enabled."""
    _record(engine, Result(_one(engine), 410, "gone", gone=True))

    assert 0 == _replay(engine, _ANY)


def test_an_unfinished_one_is_not_replayed(engine: Engine) -> None:
    """A replay neither doubles what is under way nor begins the schedule of what waits anew."""
    enqueue(engine, "a", "b")
    _record(engine, Result(claim_all(engine, room=1)[0], 500, "no", retry_in_s=50))

    assert 0 == _replay(engine, _ANY, finished_s=10)
    assert [] == claim_all(engine, now=after(49), lane=Lane.RETRY)


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        (Wanted("ep_1"), 0),
        (Wanted("ep_1", statuses=(Status.DELIVERED,)), 1),
        (Wanted("ep_2", statuses=(Status.DELIVERED,)), 0),
        (Wanted("ep_1", statuses=(Status.DELIVERED,), event_types=("flag.killed",)), 0),
        (Wanted("ep_1", statuses=(Status.DELIVERED,), ids=("dlv_other",)), 0),
        (Wanted("ep_1", statuses=(Status.DELIVERED,), since=after(1)), 0),
        (Wanted("ep_1", statuses=(Status.DELIVERED,), since=NOW, until=after(1)), 1),
        (Wanted("ep_1", statuses=(Status.DELIVERED,), until=NOW), 0),
    ],
)
def test_a_replay_takes_what_is_meant(engine: Engine, wanted: Wanted, count: int) -> None:
    """By endpoint, what became of it, type, id and time."""
    _record(engine, Result(_one(engine), 200))
    add_endpoint(engine, "ep_2")

    assert count == _replay(engine, wanted)


def test_retention_leaves_what_is_not_finished(engine: Engine) -> None:
    """Old age is no end: what waits or is under way stays, with its attempts."""
    enqueue(engine, "a", "b", "c")
    done, _under_way = claim_all(engine, room=2)
    _record(engine, Result(done, 200))
    with writing(engine) as connection:
        removed = remove_finished(connection, finished_by=after(10**6), statuses=tuple(Status))

    assert 1 == removed
    assert ["claimed", "pending"] == statuses(engine)
    assert ["sending"] == outcomes(engine)


def test_what_was_not_sent_can_be_given_back(engine: Engine) -> None:
    """A dispatcher that stops leaves no lease behind, and no attempt that was not made."""
    one = _one(engine)
    with writing(engine) as connection:
        give_back(connection, [one], NOW)
        give_back(connection, [one], NOW)

    assert [] == outcomes(engine)
    assert [1] == [each.attempt_number for each in claim_all(engine, claim_id="two")]


def test_the_cap_counts_what_is_under_way(engine: Engine) -> None:
    """An endpoint has room for as many as its cap less what is being sent to it; a lease that ended is room."""
    enqueue(engine, *"abcd")
    with writing(engine) as connection:
        connection.execute(update(endpoints).values(concurrency=3))
    claim_all(engine, room=2)
    with reading(engine) as connection:
        rooms = [each.room for now in (NOW, after(LEASE_S)) for each in openings(connection, now)]

    assert [1, 3] == rooms


def test_one_batch_is_shared_among_endpoints(engine: Engine) -> None:
    """No more than the limit is claimed, and none gets more than it has room for."""
    enqueue(engine, *"abc", endpoint_ids=("ep_1", "ep_2"))
    with writing(engine) as connection:
        rooms = {"ep_1": 2, "ep_2": 2}
        claimed = claim(connection, rooms=rooms, lane=Lane.FRESH, claim_id="1", lease_s=1, now=NOW, limit=3)

    assert ["ep_1", "ep_1", "ep_2"] == sorted(each.endpoint_id for each in claimed)


def test_an_ordered_endpoint_gets_one_flag_in_order(engine: Engine) -> None:
    """Of the deliveries of one key the earliest unfinished alone is claimed, also while it waits to be tried again."""
    enqueue(engine, "a", "a", "b", "", "")
    with writing(engine) as connection:
        connection.execute(update(endpoints).values(ordering="per_key"))
    first, *others = claim_all(engine)
    _record(engine, Result(first, 500, "no", retry_in_s=50), *(Result(each, 200) for each in others))

    assert [3, 4, 5] == [each.sequence for each in others]
    assert [] == claim_all(engine, now=after(49), claim_id="two")
    (again,) = claim_all(engine, now=after(50), claim_id="three", lane=Lane.RETRY)
    _record(engine, Result(again, 200), seconds=50)
    assert [2] == [each.sequence for each in claim_all(engine, now=after(50), claim_id="four")]


def test_many_claimers_share_the_work(engine: Engine) -> None:
    """Whoever claims at the same time, each delivery is claimed once and all are delivered."""
    enqueue(engine, *["a"] * 120)

    def work(place: int) -> list[str]:
        done: list[str] = []
        for turn in range(20):
            claimed = claim_all(engine, claim_id=f"{place}/{turn}", room=10)
            done += _record(engine, *(Result(each, 200) for each in claimed))
        return done

    with ThreadPoolExecutor(4) as pool:
        done = [id_ for ids in pool.map(work, range(4)) for id_ in ids]

    assert (120, 120) == (len(done), len(set(done)))
    assert {"delivered"} == set(statuses(engine))
    assert {"delivered"} == set(outcomes(engine))
    assert 120 == len(outcomes(engine))
