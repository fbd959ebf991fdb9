"""Tokens that other processes made: looked for while their first call waits, and not too often."""

import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from server.core.access import Grant, Role
from server.live.callers import Callers
from server.operations.tokens import NewToken
from tests.rpc.access import SECRET, House, as_admin, new_house
from tests.rpc.test_access import EVALUATE, MANAGED, REFLECT, RESOLVE, STREAM, SYNC, outcome


class Counting(Callers):
    """Counts who asked for a look."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.asked = 0

    def ask(self) -> "Future[None] | None":
        """Look now."""
        self.asked += 1
        return super().ask()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A database with tokens."""
    yield from new_house(tmp_path)


@pytest.fixture
def followed(house: House) -> Iterator[House]:
    """A house whose tokens are followed, but looked at by itself only once an hour."""
    house.callers = Counting(house.tokens.engine, lambda: SECRET, poll_s=3_600.0)
    house.callers.start()
    while not house.callers.loaded:
        time.sleep(0.01)
    yield house
    house.callers.stop()


def made_elsewhere(house: House) -> str:
    """A token that this process has not heard of."""
    return house.tokens.create(NewToken("test", (Grant(Role.ADMIN),)), as_admin()).text


@pytest.mark.parametrize("path", [EVALUATE, RESOLVE, STREAM, SYNC, MANAGED, REFLECT])
async def test_a_token_that_another_process_made_is_good_at_once(followed: House, path: str) -> None:
    """The database is looked at while its first call waits, whatever kind of call that is."""
    assert "reached" == await outcome(followed.table(), path, made_elsewhere(followed))


async def test_a_token_that_nobody_made_is_looked_for_once_in_a_while(followed: House) -> None:
    """However often it comes; one that is not whole, or that has ended, is never looked for."""
    table, unknown = followed.table(), followed.unknown(Grant(Role.EVALUATE))
    ended, cut = followed.revoked(Grant(Role.READ)).text, unknown[:-1] + "!"
    found = [await outcome(table, EVALUATE, text) for text in (*[unknown] * 5, ended, cut)]

    assert ["UNAUTHENTICATED"] * 7 == found
    assert isinstance(followed.callers, Counting)
    assert 1 == followed.callers.asked


async def test_a_token_that_cannot_be_looked_for(followed: House, tmp_path: Path) -> None:
    """Nobody can say whether it is good while the database is gone: a client asks again, and does not give up."""
    table, text = followed.table(), made_elsewhere(followed)
    followed.tokens.engine.dispose()
    (tmp_path / "flagstaff.db").rename(tmp_path / "away.db")

    assert "UNAVAILABLE" == await outcome(table, EVALUATE, text)
