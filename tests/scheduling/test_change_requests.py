"""Change requests are applied at their time by one process of many."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from server.core.access import OPEN, Action, Grant, Principal, Role
from server.core.change_requests.machine import Happening, State
from server.core.changes import PutFlag, UpdateEnvironment
from server.core.environments import ApprovalPolicy
from server.operations.change_requests.applying import Applying
from server.operations.change_requests.review import Review
from server.operations.writes import Write, Writer
from server.scheduling.change_requests import LEASE, ChangeRequestClock, DueChangeRequests
from server.scheduling.clockwork import Clockwork
from server.store.commit import Part
from server.store.engine import reading
from server.store.leases import acquire
from tests.store.definitions import KINDS, NOW, another, database, flag, put, stored

APPROVER = Principal("bob", (Grant(Role.APPROVE),))


@pytest.fixture(params=KINDS)
def shop(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """A shop whose production asks for one approval, in a database of each kind."""
    with database(tmp_path, request.param, shop=True) as engine:
        put(engine, PutFlag(flag()), UpdateEnvironment(approval_policy=ApprovalPolicy(approvals=1)))
        yield engine


def _write(principal: Principal = OPEN) -> Write:
    return Write(principal, Action.EDIT, NOW)


def _scheduled(engine: Engine, key: str = "checkout", at: datetime = NOW + timedelta(hours=1)) -> str:
    writer = Writer(engine)
    part = Part("production", [PutFlag(flag(key, default="on"))])
    id = writer.write("shop", [part], _write()).change_request
    Review(writer).approve(_write(APPROVER), project="shop", id=id, text="")
    Review(writer).schedule(_write(), project="shop", id=id, at=at)
    return id


def _state(engine: Engine, id: str) -> State:
    return Review(Writer(engine)).read(OPEN, project="shop", id=id).progress.state


def _clock(engine: Engine, now: datetime, **options: Any) -> ChangeRequestClock:
    return ChangeRequestClock(engine, Applying(Writer(engine)), clock=lambda: now, **options)


def _due(engine: Engine) -> DueChangeRequests:
    return DueChangeRequests(engine, Applying(Writer(engine)))


def _next_at(engine: Engine) -> datetime | None:
    with reading(engine) as connection:
        return _due(engine).next_at(connection)


def test_it_is_applied_when_its_time_has_come(shop: Engine) -> None:
    """Not before, and those whose time came earlier go first."""
    later, sooner = _scheduled(shop), _scheduled(shop, "new", NOW + timedelta(minutes=30))
    due = _due(shop)
    due.carry_on(NOW + timedelta(minutes=29))
    assert [State.APPROVED, State.APPROVED] == [_state(shop, id) for id in (later, sooner)]
    assert NOW + timedelta(minutes=30) == _next_at(shop)
    due.carry_on(NOW + timedelta(minutes=30))
    assert [State.APPROVED, State.APPLIED] == [_state(shop, id) for id in (later, sooner)]
    assert NOW + timedelta(minutes=60) == _next_at(shop)
    due.carry_on(NOW + timedelta(minutes=60))

    assert (State.APPLIED, None) == (_state(shop, later), _next_at(shop))


def test_many_processes_apply_it_once(shop: Engine) -> None:
    """Each has a database connection of its own, and all find them due at once."""
    ids = [_scheduled(shop, f"f{number}") for number in range(5)]
    engines = [another(shop) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda engine: _due(engine).carry_on(NOW + timedelta(hours=2)), engines))
    for engine in engines:
        engine.dispose()
    review = Review(Writer(shop))
    steps = [[each.happening for each in review.read_detail(OPEN, project="shop", id=id).steps] for id in ids]

    assert [1] * 5 == [each.count(Happening.APPLIED) for each in steps]
    assert {f"f{number}" for number in range(5)} < stored(shop).flags.keys()


def test_while_another_process_is_at_it_nothing_is_done_here(shop: Engine) -> None:
    """Its lease says so; what is forgotten stays as it is."""
    id = Writer(shop).write("shop", [Part("production", [PutFlag(flag(default="on"))])], _write()).change_request
    assert acquire(shop, LEASE, holder="another", ttl_s=60) is not None

    assert not _clock(shop, NOW + timedelta(days=30)).look()
    assert State.OPEN is _state(shop, id)


def test_one_that_cannot_be_applied_does_not_hold_up_the_others(shop: Engine) -> None:
    """It is noted, and the next one is applied."""
    stale = _scheduled(shop, at=NOW + timedelta(minutes=1))
    sound = _scheduled(shop, "new", NOW + timedelta(minutes=2))
    put(shop, PutFlag(flag(description="changed")))
    _due(shop).carry_on(NOW + timedelta(hours=2))

    assert [State.STALE, State.APPLIED] == [_state(shop, id) for id in (stale, sound)]


def test_what_moved_is_found_by_looking(shop: Engine) -> None:
    """After a commit to its environment; when nothing was committed nothing is compared."""
    id = Writer(shop).write("shop", [Part("production", [PutFlag(flag(default="on"))])], _write()).change_request
    clock = _clock(shop, NOW)
    assert (True, False) == (clock.look(), clock.look())
    put(shop, PutFlag(flag(description="changed")))
    assert clock.look()

    assert State.STALE is _state(shop, id)


def test_what_is_forgotten_expires(shop: Engine) -> None:
    """After a month in which nothing happened."""
    id = Writer(shop).write("shop", [Part("production", [PutFlag(flag(default="on"))])], _write()).change_request
    _clock(shop, NOW + timedelta(days=29)).look()
    assert State.OPEN is _state(shop, id)
    _clock(shop, NOW + timedelta(days=30)).look()

    assert State.EXPIRED is _state(shop, id)


def test_the_thread_outlives_a_database_that_is_away(shop: Engine) -> None:
    """It goes on looking, and finds what is forgotten when the database is back."""
    id = Writer(shop).write("shop", [Part("production", [PutFlag(flag(default="on"))])], _write()).change_request
    looked = threading.Event()
    away = [True]

    def tell_time() -> datetime:
        looked.set()
        if away[0]:
            raise RuntimeError("no time is to be had")
        return NOW + timedelta(days=31)

    clock = ChangeRequestClock(shop, Applying(Writer(shop)), clock=tell_time, poll_s=0.01)
    clock.start()
    try:
        assert looked.wait(30)
        away[0] = False
        assert _becomes(shop, id, State.EXPIRED)
    finally:
        clock.stop()


def test_the_clockwork_applies_it(shop: Engine) -> None:
    """Without anybody who calls."""
    id = _scheduled(shop)
    clockwork = Clockwork(shop, [_due(shop)], clock=lambda: NOW + timedelta(hours=1), look_s=0.01)
    clockwork.start()
    try:
        assert _becomes(shop, id, State.APPLIED)
    finally:
        clockwork.stop()


def _becomes(engine: Engine, id: str, state: State) -> bool:
    for _ in range(3_000):
        if _state(engine, id) is state:
            return True
        threading.Event().wait(0.01)
    return False
