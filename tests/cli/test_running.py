"""A server runs on a loop that need not wait for long."""

import sys
from collections.abc import Iterator

import pytest

from server.running import GIVE_WAY_S, run_on_loop


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Other tests run as Python does by itself."""
    before = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before)


def test_threads_give_way_to_the_loop() -> None:
    """Python by itself asks them to after 5 ms, ten times as long."""

    async def look() -> float:
        return sys.getswitchinterval()

    usual = sys.getswitchinterval()

    assert GIVE_WAY_S == pytest.approx(run_on_loop(look()))
    assert usual > 5 * GIVE_WAY_S
