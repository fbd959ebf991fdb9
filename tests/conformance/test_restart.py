"""Kill the server under official clients, change a flag while it is down, and hold that all come back by themselves.

The RPC providers keep answers in a cache, as they do unless told otherwise, and have one for the flag that changes. The
outage is shorter than the time after which they throw their answers away: they have to be told on their return.

Beside them are 500 subscriptions of our own API, which come back at the same time and record what they are told.
"""

import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final

import pytest

from tests.conformance.installations import CLIENTS as FOLDER
from tests.conformance.launchpad import CHANGING_FLAG, ServedLaunchpad
from tests.conformance.processes import Driver, DriverOf, start_driver

BACK_TIMEOUT_S: Final = 60.0
"""Providers wait up to 5 s or 12 s between attempts; the rest is for a busy machine."""

RPC: Final = {"cache": "lru"}
IN_PROCESS: Final = {"resolver": "in-process"}
CLIENTS: Final[Mapping[str, tuple[str, Mapping[str, str]]]] = {
    "python": ("python", RPC),
    "python in-process": ("python", IN_PROCESS),
    "node": ("node", RPC),
    "node in-process": ("node", IN_PROCESS),
    "java": ("java", RPC),
    "java in-process": ("java", IN_PROCESS),
    "go in-process": ("go", IN_PROCESS),
}
"""The driver of each, with its options. Go's provider speaks Connect in RPC mode, which is not served yet."""

KEEPS_ANSWERS: Final = {"python", "node", "java"}
VALUES: Final = ("foo", "bar")
STREAMS: Final = 500


@dataclass(slots=True)
class History:
    """What one client's application saw of the flag."""

    driver: Driver
    before: list[dict[str, Any]]
    during: dict[str, Any] = field(default_factory=dict)
    after: list[str] = field(default_factory=list)
    """Every value from the restart on, until the new one came; then once more when all clients were back."""

    live: list[str] = field(default_factory=list)
    """Likewise from a further change on, with the server up."""


def ask(driver: Driver) -> dict[str, Any]:
    """Evaluate the flag that changes."""
    return driver.evaluate("String", CHANGING_FLAG, default="mine", context={})


def follow(histories: Mapping[str, History], name: str, expected: str) -> None:
    """Ask all clients in turn until each has given the value that is expected, then all once more."""
    deadline = time.monotonic() + BACK_TIMEOUT_S
    seen = {client: getattr(history, name) for client, history in histories.items()}
    while time.monotonic() < deadline and any(expected not in values for values in seen.values()):
        for client, history in histories.items():
            if expected not in seen[client]:
                seen[client].append(ask(history.driver)["value"])
        time.sleep(0.05)
    for client, history in histories.items():
        seen[client].append(ask(history.driver)["value"])


@pytest.fixture(scope="module")
def skipped() -> dict[str, str]:
    """Clients that cannot be had here, with the reason."""
    return {}


@pytest.fixture(scope="module")
def herd(launchpad: ServedLaunchpad, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """Subscriptions in a process of their own, all told the value from before the outage."""
    launchpad.post("start?config=default")
    command = [sys.executable, str(FOLDER / "herd" / "driver.py")]
    options = {"streams": STREAMS, "key": CHANGING_FLAG}
    log = tmp_path_factory.mktemp("herd") / "client.log"
    driver = start_driver(command, options, port=launchpad.launchpad.ports.grpc, log=log)
    reach(driver, launchpad.launchpad.changing)
    yield driver
    driver.stop()


def reach(herd: Driver, value: str) -> None:
    """Wait until every subscription was told the value."""
    # Less than what a driver is given for an answer.
    assert STREAMS == herd.ask("reach", value=value, timeoutMs=50_000)["count"]


@pytest.fixture(scope="module")
def histories(
    launchpad: ServedLaunchpad, herd: Driver, driver_of: DriverOf, skipped: dict[str, str]
) -> dict[str, History]:
    """One outage for all clients together."""
    found: dict[str, History] = {}
    for name, (client, options) in CLIENTS.items():
        try:
            driver = driver_of(client, launchpad.launchpad.server, options)
        except pytest.skip.Exception as reason:
            skipped[name] = str(reason)
            continue
        found[name] = History(driver, [ask(driver), ask(driver)])
    old = launchpad.launchpad.changing
    launchpad.post("stop")
    launchpad.post("change")
    for name, history in found.items():
        # An RPC provider has nothing to answer with but its cache, and would hold the next one up.
        if name not in KEEPS_ANSWERS:
            history.during = ask(history.driver)
    launchpad.post("start?config=default")
    new = launchpad.launchpad.changing
    assert {old, new} == set(VALUES)
    follow(found, "after", new)
    reach(herd, new)
    launchpad.post("change")
    follow(found, "live", old)
    reach(herd, old)
    return found


@pytest.fixture(params=CLIENTS)
def history(request: pytest.FixtureRequest, histories: dict[str, History], skipped: dict[str, str]) -> History:
    """Every client in turn."""
    if request.param in skipped:
        pytest.skip(skipped[request.param])
    return histories[request.param]


def test_was_connected(history: History) -> None:
    """Before the outage each client had its answer from the server."""
    assert (True, None) == (history.driver.hello["ready"], history.driver.hello["error"])
    assert {"STATIC", "CACHED"} >= {details["reason"] for details in history.before}


def test_kept_an_answer(histories: dict[str, History]) -> None:
    """The RPC clients had an answer in their cache, which the change made wrong."""
    reasons = {name: histories[name].before[-1]["reason"] for name in KEEPS_ANSWERS & set(histories)}

    assert dict.fromkeys(reasons, "CACHED") == reasons


def test_answers_during_the_outage(histories: dict[str, History]) -> None:
    """An in-process client needs no server to answer as it last did."""
    during = {name: seen.during["value"] for name, seen in histories.items() if name not in KEEPS_ANSWERS}

    assert {name: histories[name].before[0]["value"] for name in during} == during


def test_comes_back_with_the_new_value(history: History) -> None:
    """Without a restart of its own, each client gives the value that was changed while the server was down."""
    old = history.before[0]["value"]

    assert history.driver.process.poll() is None
    assert old != history.after[-1]
    assert history.after[-1] in VALUES


def test_takes_no_step_back(history: History) -> None:
    """Once a client has given a new value, it never gives the old one again."""
    for seen in (history.after, history.live):
        assert seen[-1] == seen[-2]
        assert seen[-1] not in seen[:-2]


def test_hears_of_the_next_change(history: History) -> None:
    """The stream is back, not just the answer: a further change arrives as well."""
    assert history.before[0]["value"] == history.live[-1]


def test_subscriptions_miss_nothing(histories: dict[str, History], herd: Driver) -> None:
    """Each of 500 was told the same three values, one a revision: no gap, none out of order, no step back."""
    # What is told twice in a row to a subscription that came back twice is told once here.
    told = {tuple(key for key, _ in groupby(map(tuple, each))) for each in herd.ask("histories")["histories"]}
    revisions = [revision for revision, _ in max(told, key=len)]

    assert 1 == len(told), told
    assert [revisions[0], revisions[0] + 1, revisions[0] + 2] == revisions
    assert len(VALUES) == len({value for _, value in max(told, key=len)})
