"""Keep the figures of calls: how many, how they ended, how long they took, how many streams are open.

Plain numbers that are changed on the event loop and read by a scrape on the same loop, so there is no lock.
"""

from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

SECONDS_BOUNDS: Final = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
)  # fmt: skip
"""Upper ends of a histogram's buckets; an evaluation takes some 10 us, a large batch a second."""


@dataclass(slots=True)
class Histogram:
    """How often something took how long."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(SECONDS_BOUNDS) + 1))
    """By bucket of SECONDS_BOUNDS; the last one has what took longer."""

    sum_s: float = 0.0

    def add(self, took_s: float) -> None:
        """Count one."""
        self.counts[bisect_left(SECONDS_BOUNDS, took_s)] += 1
        self.sum_s += took_s

    @property
    def buckets(self) -> list[tuple[str, float]]:
        """(upper end, how many took at most as long), as Prometheus has them."""
        ends = [*(str(bound) for bound in SECONDS_BOUNDS), "+Inf"]
        return list(zip(ends, accumulate(self.counts), strict=True))


@dataclass(slots=True)
class MethodFigures:
    """The figures of one method or route."""

    ended: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Status -> calls that ended with it."""

    took: Histogram = field(default_factory=Histogram)
    """Of calls with one reply; how long a stream was open says nothing about speed."""

    open_streams: int = 0
    sent: int = 0
    """Messages that streams have sent."""


class CallFigures(dict[str, MethodFigures]):
    """Figures by the name of a method or route. Names come from tables of ours, never from a request."""

    def __missing__(self, name: str) -> MethodFigures:
        figures = self[name] = MethodFigures()
        return figures
