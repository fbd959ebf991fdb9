"""Writers who wait at the same time share a transaction, and nothing else."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, text

from server.core.changes import PutFlag
from server.core.errors import InvalidDefinition, StoreCorrupt, StoreUnavailable
from server.store import turns
from server.store.turns import SHARED_MAX, take_turn
from tests.store.definitions import at, flag, put, stored

ABOUT = "project/shop"


class Together:
    """Works that come while one is under way, so that they wait together."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._pool = engine, ThreadPoolExecutor(2 * SHARED_MAX)
        self._entered, self._go_on = threading.Event(), threading.Event()
        self._first = self._pool.submit(take_turn, engine, ABOUT, self._hold)
        self.began = 0
        self._entered.wait()
        event.listen(engine, "begin", self._count)

    def _hold(self, _connection: Connection) -> None:
        self._entered.set()
        self._go_on.wait()

    def _count(self, _connection: Connection) -> None:
        self.began += 1

    def add(self, work: Callable[[], Any]) -> "Future[Any]":
        """One more, which waits behind those that came before."""
        queue = turns._queue(self._engine, ABOUT)
        before = len(queue.waiting)
        future = self._pool.submit(work)
        while len(queue.waiting) == before:
            threading.Event().wait(0.001)
        return future

    def end(self, *, first_fails: bool = False) -> None:
        """Let all of them go on, the one under way first, and wait for their end."""
        self._go_on.set()
        self._pool.shutdown()
        event.remove(self._engine, "begin", self._count)
        assert first_fails == (self._first.exception() is not None)


def test_those_who_wait_share_a_transaction(shop: Engine) -> None:
    """Each has a revision of its own, in the order in which they came."""
    together = Together(shop)
    futures = [together.add(lambda n=n: put(shop, PutFlag(flag(f"f{n}"))).revision) for n in range(5)]  # type: ignore[misc]
    together.end()

    assert ([2, 3, 4, 5, 6], 1) == ([future.result() for future in futures], together.began)


def test_more_than_share_one_come_next(shop: Engine) -> None:
    """Nobody is forgotten."""
    together = Together(shop)
    count = SHARED_MAX + 3
    futures = [together.add(lambda n=n: put(shop, PutFlag(flag(f"f{n}"))).revision) for n in range(count)]  # type: ignore[misc]
    together.end()

    assert (list(range(2, count + 2)), 2) == ([future.result() for future in futures], together.began)


def test_one_that_is_refused_takes_back_its_own(shop: Engine) -> None:
    """The others go on as if it had not been there; a dry run among them leaves nothing either."""
    bad = flag("bad", prerequisites=[{"flag": "gone", "variants": ["on"]}])
    together = Together(shop)
    first = together.add(lambda: put(shop, PutFlag(flag("a"))))
    refused = together.add(lambda: put(shop, PutFlag(flag("b")), PutFlag(bad)))
    tried = together.add(lambda: put(shop, PutFlag(flag("c")), dry_run=True))
    last = together.add(lambda: put(shop, PutFlag(flag("d"))))
    together.end()

    assert isinstance(refused.exception(), InvalidDefinition)
    assert (2, 3, 3, 1) == (first.result().revision, tried.result().revision, last.result().revision, together.began)
    assert {"a", "d"} == stored(shop).flags.keys()


def test_one_that_breaks_the_transaction_is_done_alone(shop: Engine) -> None:
    """As are the others then: whose fault it was is theirs alone."""

    def spoil(connection: Connection) -> None:
        connection.execute(text("DELETE FROM revision"))

    together = Together(shop)
    first = together.add(lambda: put(shop, PutFlag(flag("a"))))
    spoilt = together.add(lambda: take_turn(shop, ABOUT, spoil))
    last = together.add(lambda: put(shop, PutFlag(flag("b"))))
    together.end()

    assert isinstance(spoilt.exception(), StoreCorrupt)
    assert (2, 3) == (first.result().revision, last.result().revision)
    assert {"a", "b"} == stored(shop).flags.keys()


def test_a_commit_that_fails_fails_for_all(shop: Engine) -> None:
    """None of them was told that it was done, and none was."""

    def fail(_connection: Connection) -> None:
        raise StoreUnavailable("the disk failed")

    together = Together(shop)
    futures = [together.add(lambda n=n: put(shop, PutFlag(flag(f"f{n}")))) for n in range(3)]  # type: ignore[misc]
    event.listen(shop, "commit", fail)
    together.end(first_fails=True)
    event.remove(shop, "commit", fail)

    assert [StoreUnavailable] * 3 == [type(future.exception()) for future in futures]
    assert (1, {}) == (at(shop).revision, stored(shop).flags)
    assert 2 == put(shop, PutFlag(flag("later"))).revision


def test_an_error_reaches_who_caused_it(shop: Engine) -> None:
    """Also one that is no refusal; the next turn is taken as ever."""

    def fail(_connection: Connection) -> None:
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        take_turn(shop, ABOUT, fail)
    assert 2 == put(shop, PutFlag(flag())).revision
