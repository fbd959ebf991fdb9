"""Official providers take the steps of a timeline at their second, also while no server runs."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

from tests.conformance.installations import IN_PROCESS_CLIENTS
from tests.conformance.processes import Driver, DriverOf, FlagSetFile, Server, import_flags, start_server

AHEAD_S: Final = 20.0
"""From the commit to the step: enough to reach all clients and to kill the server, on a busy machine."""

STEP_TIMEOUT_S: Final = 10.0


def launch(**share: Any) -> FlagSetFile:
    """A flag that is on for a share of all."""
    rule = {"id": "launch", "serve": "on", "share": share}
    flag = {"type": "boolean", "variants": {"on": True, "off": False}, "default": "off", "rules": [rule]}
    return FlagSetFile({"flags": {"launch": flag}})


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server of its own, for it is killed; the flag is on."""
    server = start_server(tmp_path, [launch(percent=100)])
    yield server
    server.kill()


def is_on(driver: Driver) -> bool:
    """What the application sees, of a unit that says who it is."""
    answer = driver.evaluate("Boolean", "launch", default=False, context={"targetingKey": "ann"})
    assert answer["errorCode"] in (None, ""), answer
    return bool(answer["value"])


def test_a_step_is_taken_without_a_server(tmp_path: Path, server: Server, driver_of: DriverOf) -> None:
    """The step came with the flags; when its second comes, each provider looks at its own clock."""
    drivers = {name: driver_of(name, server, {"resolver": "in-process"}) for name in IN_PROCESS_CLIENTS}
    assert dict.fromkeys(drivers, True) == {name: is_on(driver) for name, driver in drivers.items()}
    step_at = int(time.time() + AHEAD_S)
    step = {"at": datetime.fromtimestamp(step_at, UTC).isoformat(), "percent": 100}
    database = f"sqlite:///{tmp_path / 'flags.db'}"
    import_flags(tmp_path / "step.json", launch(percent=0, steps=[step]), database=database)
    while any(map(is_on, drivers.values())):
        time.sleep(0.05)
    server.kill()
    assert time.time() < step_at, "the flags reached the clients too late to tell anything"

    seen_at: dict[str, float] = {}
    while len(seen_at) < len(drivers) and time.time() < step_at + STEP_TIMEOUT_S:
        seen_at |= {name: time.time() for name, driver in drivers.items() if name not in seen_at and is_on(driver)}
        time.sleep(0.02)
    assert set(drivers) == set(seen_at)
    assert min(seen_at.values()) >= step_at
