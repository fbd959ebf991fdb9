"""Show the figures of all processes of a group at once, whichever of them is asked.

Processes share the HTTP port, so a scrape reaches any of them. Each also listens on a socket in the group's directory,
which only its user can open, and gives its figures there; the one that is asked asks the others, and tells them apart
by a label.
"""

import asyncio
import contextlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from server.core.json import Json

LABEL: Final = "worker"
TIMEOUT_S: Final = 1.0
"""A process that does not answer in this time is left out of a scrape."""


class Peers:
    """One process in its group."""

    def __init__(self, directory: Path, place: int, figures: Collector) -> None:
        self._directory, self._place, self._figures = directory, place, figures
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Give figures to the others. Errors: OSError."""
        path = self._path(self._place)
        # Left behind by the process that had this place before.
        path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._give, path)

    async def stop(self) -> None:
        """Give none any more."""
        if self._server is not None:
            self._server.close()
            self._path(self._place).unlink(missing_ok=True)

    async def gather(self) -> "Gathered":
        """Everybody's figures, this process's included."""
        places = sorted(int(path.stem) for path in self._directory.glob("*.sock") if path.stem.isdecimal())
        others = [place for place in places if place != self._place]
        replies = await asyncio.gather(*(self._ask(place) for place in others))
        told = {self._place: list(self._figures.collect())}
        told.update({place: reply for place, reply in zip(others, replies, strict=True) if reply is not None})
        return Gathered(told)

    async def _ask(self, place: int) -> list[Metric] | None:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                reader, writer = await asyncio.open_unix_connection(self._path(place))
                try:
                    return decoded(json.loads(await reader.read()))
                finally:
                    writer.close()
        except (OSError, TimeoutError, ValueError):
            # It is about to start or to end, or it stands still.
            return None

    async def _give(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            writer.write(json.dumps(encoded(self._figures.collect())).encode())
            writer.close()
            await writer.wait_closed()

    def _path(self, place: int) -> Path:
        return self._directory / f"{place}.sock"


class Gathered(Collector):
    """Figures of several processes, each sample with the place of its own."""

    def __init__(self, told: dict[int, list[Metric]]) -> None:
        self._told = told

    def collect(self) -> Iterable[Metric]:
        """Every family once, with everybody's samples."""
        families: dict[str, Metric] = {}
        for place, metrics in self._told.items():
            for metric in metrics:
                family = families.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
                for sample in metric.samples:
                    family.add_sample(sample.name, {**sample.labels, LABEL: str(place)}, sample.value)
        yield from families.values()
        yield GaugeMetricFamily("flagstaff_workers", "Processes whose figures are shown.", value=len(self._told))


def encoded(metrics: Iterable[Metric]) -> Json:
    """Figures as JSON."""
    return [
        [
            metric.name,
            metric.documentation,
            metric.type,
            [[each.name, each.labels, each.value] for each in metric.samples],
        ]
        for metric in metrics
    ]


def decoded(told: Sequence[tuple[str, str, str, list[tuple[str, dict[str, str], float]]]]) -> list[Metric]:
    """Figures from JSON."""
    metrics: list[Metric] = []
    for name, documentation, kind, samples in told:
        metric = Metric(name, documentation, kind)
        for sample_name, labels, value in samples:
            metric.add_sample(sample_name, labels, value)
        metrics.append(metric)
    return metrics
