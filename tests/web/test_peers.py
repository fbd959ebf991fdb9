"""Show the figures of a group of processes at once."""

import asyncio
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

import pytest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from server.web.peers import Peers, decoded, encoded

Join: TypeAlias = Callable[[int, float], Awaitable[Peers]]


class Figures(Collector):
    """One counter, one gauge and one histogram."""

    def __init__(self, number: float) -> None:
        self._number = number

    def collect(self) -> list[Metric]:
        """All of them by the same number."""
        calls = CounterMetricFamily("calls", "Calls.", labels=["status"])
        calls.add_metric(["OK"], self._number)
        took = HistogramMetricFamily("took", "Took.", buckets=[("1.0", 1), ("+Inf", 2)], sum_value=self._number)
        return [calls, GaugeMetricFamily("open", "Open.", value=self._number), took]


@pytest.fixture
async def directory() -> AsyncIterator[Path]:
    """A short name, as sockets need it."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.fixture
async def join(directory: Path) -> AsyncIterator[Join]:
    """Processes of one group, which leave it with the test."""
    joined: list[Peers] = []

    async def start(place: int, number: float) -> Peers:
        joined.append(Peers(directory, place, Figures(number)))
        await joined[-1].start()
        return joined[-1]

    yield start
    for peers in joined:
        await peers.stop()


async def text(peers: Peers) -> list[str]:
    """What a scrape shows, without comments."""
    shown = generate_latest(await peers.gather()).decode()
    return [line for line in shown.splitlines() if not line.startswith("#")]


async def test_everybody_shows_everybody(join: Join) -> None:
    """Each sample with the place of its process; the order is the same but for who was asked."""
    first, second = await join(0, 1), await join(1, 2)
    shown = await text(first)

    assert {'calls_total{status="OK",worker="0"} 1.0', 'calls_total{status="OK",worker="1"} 2.0'} <= set(shown)
    assert {'took_bucket{le="1.0",worker="1"} 1.0', 'took_sum{worker="1"} 2.0', 'open{worker="0"} 1.0'} <= set(shown)
    assert ("flagstaff_workers 2.0", sorted(shown)) == (shown[-1], sorted(await text(second)))


async def test_each_family_is_told_once(join: Join) -> None:
    """A scraper refuses a name that comes twice."""
    first, _ = await join(0, 1), await join(1, 2)
    names = [metric.name for metric in (await first.gather()).collect()]

    assert ["calls", "open", "took", "flagstaff_workers"] == names


async def test_who_left_is_left_out(join: Join) -> None:
    """And whoever takes the place is shown in it."""
    first, second = await join(0, 1), await join(1, 2)
    await second.stop()
    alone = await text(first)
    await join(1, 3)

    assert ("flagstaff_workers 1.0", 'open{worker="1"} 3.0' in await text(first)) == (alone[-1], True)


async def test_a_socket_that_was_left_behind(directory: Path, join: Join) -> None:
    """A process that was killed leaves its socket: nobody answers there, and its successor takes it over."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(directory / "1.sock"))
    first = await join(0, 1)
    alone = await text(first)
    await join(1, 2)

    assert ("flagstaff_workers 1.0", "flagstaff_workers 2.0") == (alone[-1], (await text(first))[-1])


async def test_who_stands_still_is_left_out(directory: Path, join: Join) -> None:
    """A scrape waits for nobody for long."""
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(directory / "1.sock"))
        silent.listen()
        first = await join(0, 1)
        async with asyncio.timeout(30):
            shown = await text(first)

    assert "flagstaff_workers 1.0" == shown[-1]


def test_figures_travel_as_they_are() -> None:
    """To JSON and back."""
    figures = Figures(1.5).collect()
    there: list[Metric] = decoded(encoded(figures))

    assert figures == there
