"""A lease is one process's at a time, and its token tells who had it first."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import Engine, update

from server.core.errors import LeaseLost
from server.store import tables
from server.store.engine import database_now, reading, writing
from server.store.leases import Lease, acquire, held, release, renew, require
from tests.store.definitions import another

TTL_S = 60.0


@pytest.fixture
def other(empty: Engine) -> Iterator[Engine]:
    """Another process's connections to the same database."""
    engine = another(empty)
    yield engine
    engine.dispose()


def is_held(engine: Engine, lease: Lease) -> bool:
    """Asked in a transaction of its own."""
    with reading(engine) as connection:
        return held(connection, lease)


def move_end(engine: Engine, by_s: float) -> None:
    """As if the database's clock had been set, the other way."""
    with writing(engine) as connection:
        end = database_now(connection) + timedelta(seconds=by_s)
        connection.execute(update(tables.leases).values(expires_at=end))


def test_one_holder_at_a_time(empty: Engine, other: Engine) -> None:
    """Others get nothing, the holder itself gets it no second time, and another name is another lease."""
    first = acquire(empty, "sweep", holder="a", ttl_s=TTL_S)

    assert Lease("sweep", "a", 1, TTL_S) == first
    assert [None, None] == [acquire(other, "sweep", holder=each, ttl_s=TTL_S) for each in ("b", "a")]
    assert acquire(other, "deliver", holder="b", ttl_s=TTL_S) == Lease("deliver", "b", 1, TTL_S)


def test_a_token_is_higher_at_every_hand_over(empty: Engine, other: Engine) -> None:
    """Also after a release, when nobody held it for a while."""
    tokens = []
    for engine in (empty, other, empty):
        lease = acquire(engine, "sweep", holder="x", ttl_s=TTL_S)
        assert lease is not None
        tokens.append(lease.token)
        release(engine, lease)

    assert [1, 2, 3] == tokens


def test_an_expired_lease_is_anybodys(empty: Engine, other: Engine) -> None:
    """Who had it can neither renew it nor act by it nor release what is now another's."""
    first = acquire(empty, "sweep", holder="a", ttl_s=TTL_S)
    move_end(other, -0.001)
    second = acquire(other, "sweep", holder="b", ttl_s=TTL_S)
    assert first is not None and second is not None
    release(empty, first)

    assert (False, False) == (renew(empty, first), is_held(empty, first))
    assert (2, True) == (second.token, is_held(other, second))
    with pytest.raises(LeaseLost, match="'sweep' is no longer held by a with token 1"), writing(empty) as connection:
        require(connection, first)


def test_an_expired_lease_is_lost_before_another_takes_it(empty: Engine) -> None:
    """Its holder was away for too long, whether or not somebody was there."""
    lease = acquire(empty, "sweep", holder="a", ttl_s=TTL_S)
    assert lease is not None
    move_end(empty, -0.001)

    assert (False, False) == (is_held(empty, lease), renew(empty, lease))


def test_renewing_moves_the_end(empty: Engine, other: Engine) -> None:
    """To a whole term from now, under the same token."""
    lease = acquire(empty, "sweep", holder="a", ttl_s=TTL_S)
    assert lease is not None
    move_end(empty, 1.0)
    renewed = renew(empty, lease)
    with reading(other) as connection:
        left = connection.execute(tables.leases.select()).one().expires_at - database_now(connection)

    assert renewed
    assert timedelta(seconds=TTL_S / 2) < left <= timedelta(seconds=TTL_S)


def test_a_clock_that_was_set_back_blocks_nobody(empty: Engine, other: Engine) -> None:
    """A lease that would last longer than its term is free, with a higher token."""
    acquire(empty, "sweep", holder="a", ttl_s=TTL_S)
    move_end(empty, 3_600.0)
    taken = acquire(other, "sweep", holder="b", ttl_s=TTL_S)

    assert taken == Lease("sweep", "b", 2, TTL_S)


def test_asking_for_a_held_lease_takes_no_lock(empty: Engine, other: Engine) -> None:
    """It answers at once while another process writes."""
    acquire(empty, "sweep", holder="a", ttl_s=TTL_S)
    with writing(empty):
        assert acquire(other, "sweep", holder="b", ttl_s=TTL_S) is None


def test_nothing_is_held_in_a_new_database(empty: Engine) -> None:
    """A lease of another database is none here."""
    assert not is_held(empty, Lease("sweep", "a", 1, TTL_S))
    assert not renew(empty, Lease("sweep", "a", 1, TTL_S))
