"""Official providers that keep answers hear of every change, also after the server was away."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from tests.conformance.processes import FREE_PORTS, DriverOf, FlagSetFile, Ports, Server, import_flags, serve_database

WAIT_S: Final = 45.0
CLIENTS: Final = ("python", "node")
OPTIONS: Final = {"cache": "lru", "retryBackoffMaxMs": 1_000, "retryGracePeriod": 30}
"""A grace period that outlasts a restart, within which Python's provider keeps its answers."""


class Shop:
    """One text flag, a server, and a client of it."""

    def __init__(self, folder: Path, client: str, driver_of: DriverOf) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self.database = f"sqlite:///{folder / 'flags.db'}"
        self.imported(1)
        self.server = self.served()
        self.driver = driver_of(client, self.server, OPTIONS)

    def imported(self, number: int) -> None:
        """Commit: the flag gives this number."""
        flag = {"state": "ENABLED", "variants": {"now": str(number)}, "defaultVariant": "now"}
        import_flags(self._folder / "flags.json", FlagSetFile({"flags": {"f": flag}}), database=self.database)

    def served(self, *, ports: Ports = FREE_PORTS) -> Server:
        """Serve the flag."""
        server = serve_database(self._folder, self.database, ports=ports)
        self._stack.callback(server.stop)
        return server

    def restarted(self, number: int, *, end: Callable[[Server], None]) -> None:
        """End the server, commit while it is down, and serve on the same ports."""
        end(self.server)
        self.imported(number)
        self.server = self.served(ports=self.server.ports)

    def answer(self) -> dict[str, Any]:
        """What the client says."""
        return self.driver.evaluate("String", "f", default="default", context={})

    def values_until(self, number: int) -> list[str]:
        """The values that the client gives one after the other, each once, until it gives this number."""
        values: list[str] = []
        until = time.monotonic() + WAIT_S
        while (value := self.answer()["value"]) != str(number) and time.monotonic() < until:
            values.extend([value] if value not in values else [])
            time.sleep(0.05)
        return [*values, value]

    def close(self) -> None:
        """End the servers."""
        self._stack.close()


@pytest.fixture(params=CLIENTS)
def shop(request: pytest.FixtureRequest, tmp_path: Path, driver_of: DriverOf) -> Iterator[Shop]:
    """A shop with each client."""
    made = Shop(tmp_path, request.param, driver_of)
    yield made
    made.close()


def kept(shop: Shop) -> list[str]:
    """Ask until the client answers by itself."""
    until = time.monotonic() + WAIT_S
    while (answer := shop.answer())["reason"] != "CACHED" and time.monotonic() < until:
        time.sleep(0.05)
    return [answer["value"], answer["reason"]]


def test_a_change_replaces_a_kept_answer(shop: Shop) -> None:
    """From the old answer to the new one, which is kept in its turn."""
    assert ["1", "CACHED"] == kept(shop)
    shop.imported(2)
    values = shop.values_until(2)

    assert values[-1:] == ["2"]
    assert set(values) <= {"1", "2"}
    assert ["2", "CACHED"] == kept(shop)


@pytest.mark.parametrize("end", [Server.kill, Server.stop], ids=["killed", "drained"])
def test_a_change_during_a_restart_replaces_a_kept_answer(shop: Shop, end: Callable[[Server], None]) -> None:
    """Nobody announced it, and the client was never told that its server is another one; later changes come too."""
    assert ["1", "CACHED"] == kept(shop)
    shop.restarted(2, end=end)
    first = shop.values_until(2)
    held = kept(shop)
    shop.imported(3)

    assert ("2", ["2", "CACHED"], "3") == (first[-1], held, shop.values_until(3)[-1])
