"""Change requests at their time, and those that are stale or forgotten."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from server.core.access import Principal
from server.core.change_requests.machine import Happening, State
from server.core.changes import PutFlag
from server.core.errors import (
    InvalidRequest,
    PermissionDenied,
)
from server.store.commit import Part
from tests.operations.protected import APPROVER, EDITOR, House, ask, default_of, entries_of, open_house
from tests.store.definitions import NOW, flag, put


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """Production has a flag, and asks for one approval."""
    yield from open_house(tmp_path)


def _scheduled(house: House, *, approved: bool = True, delay: timedelta = timedelta(hours=1)) -> str:
    id = house.asked()
    if approved:
        house.approve(id)
    house.review.schedule(ask(EDITOR), project="shop", id=id, at=NOW + delay)
    return id


def test_at_its_time(house: House) -> None:
    """Not before; then once, in the name of who scheduled it."""
    id = _scheduled(house)
    house.applying.apply_due(NOW + timedelta(minutes=59), project="shop", id=id)
    assert "off" == default_of(house)
    for _ in range(2):
        house.applying.apply_due(NOW + timedelta(hours=1), project="shop", id=id)

    assert ("on", State.APPLIED) == (default_of(house), house.read(id).progress.state)
    assert "ann" == entries_of(house, "flag")[0].actor
    assert 1 == house.happenings(id).count(Happening.APPLIED)


@pytest.mark.parametrize(
    ("meanwhile", "state", "why"),
    [
        (lambda house: None, State.OPEN, "has 0"),
        (lambda house: put(house.engine, PutFlag(flag(description="x"))), State.STALE, "is stale"),
        (lambda house: house.gone.update(ann=Principal("ann")), State.OPEN, "ann may not edit"),
    ],
)
def test_what_cannot_be_applied_at_its_time(house: House, meanwhile: Any, state: State, why: str) -> None:
    """It is noted with the reason, and not tried again by itself."""
    id = _scheduled(house, approved=False)
    meanwhile(house)
    for _ in range(2):
        house.applying.apply_due(NOW + timedelta(hours=2), project="shop", id=id)
    progress = house.read(id).progress

    assert (state, None, "off") == (progress.state, progress.apply_at, default_of(house))
    assert why in progress.note


@pytest.mark.parametrize("delay", [timedelta(0), timedelta(seconds=-1), timedelta(days=367)])
def test_a_time_that_cannot_be_meant(house: House, delay: timedelta) -> None:
    """The past, and more than a year ahead."""
    with pytest.raises(InvalidRequest, match="within a year"):
        _scheduled(house, delay=delay)


def test_a_schedule_is_taken_back(house: House) -> None:
    """By who may make the change; and by itself when the request changes."""
    id = _scheduled(house)
    with pytest.raises(PermissionDenied):
        house.review.unschedule(ask(APPROVER), project="shop", id=id)
    house.review.unschedule(ask(EDITOR), project="shop", id=id)
    house.applying.apply_due(NOW + timedelta(hours=2), project="shop", id=id)

    assert (State.APPROVED, "off") == (house.read(id).progress.state, default_of(house))


def test_looking_finds_what_is_stale_and_forgotten(house: House) -> None:
    """Also without anybody who approves or applies."""
    stale, forgotten = house.asked(), house.asked(Part("production", [PutFlag(flag("new"))]))
    put(house.engine, PutFlag(flag(description="changed")))
    later = NOW + timedelta(days=31)
    for id in (stale, forgotten):
        house.applying.outdate(NOW, project="shop", id=id)
    assert [State.STALE, State.OPEN] == [house.read(id).progress.state for id in (stale, forgotten)]
    house.applying.expire(later, project="shop", id=forgotten, since=NOW - timedelta(seconds=1))
    assert State.OPEN is house.read(forgotten).progress.state
    house.applying.expire(later, project="shop", id=forgotten, since=NOW)

    assert State.EXPIRED is house.read(forgotten).progress.state
