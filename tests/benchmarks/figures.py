"""Hold what benchmarks find: each figure beside another one of the same run, with the noise and the goal."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Final, TypeAlias

HIGHER: Final = ">="
LOWER: Final = "<="


@dataclass(frozen=True, slots=True)
class Spread:
    """Several measurements of one thing: the middle, and how far the noise reached."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Sum up measurements; at least one."""
    return Spread(median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure should reach: `of` is "ratio" or "value"."""

    of: str
    relation: str
    limit: float
    source: str = ""

    def __str__(self) -> str:
        return f"{self.of} {self.relation} {_number(self.limit)}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of a benchmark's results."""

    name: str
    unit: str
    value: Spread
    baseline: str = ""
    """What was measured beside it, in the same unit."""

    beside: Spread | None = None
    ratio: Spread | None = None
    """Of the rounds: how many times better than the baseline."""

    goal: Goal | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None without a goal."""
        if self.goal is None:
            return None
        found = self.ratio if self.goal.of == "ratio" else self.value
        assert found is not None, f"{self.name} has a goal for a ratio and no baseline"
        reached = found.median
        return reached >= self.goal.limit if self.goal.relation == HIGHER else reached <= self.goal.limit


Say: TypeAlias = Callable[[str], None]
Benchmark: TypeAlias = Callable[[Say], list[Figure]]
"""Runs one benchmark; `say` tells the reader what it is doing."""


def faster(
    name: str, mine: Sequence[float], *, than: str, theirs: Sequence[float], unit: str = "us", goal: Goal | None = None
) -> Figure:
    """Durations, round by round; the ratio is how many times shorter mine are."""
    ratios = [their / my for my, their in zip(mine, theirs, strict=True)]
    return Figure(name, unit, spread(mine), than, spread(theirs), spread(ratios), goal)


def more(
    name: str, mine: Sequence[float], *, than: str, theirs: Sequence[float], unit: str = "/s", goal: Goal | None = None
) -> Figure:
    """Rates, round by round; the ratio is how many times higher mine are."""
    ratios = [my / their for my, their in zip(mine, theirs, strict=True)]
    return Figure(name, unit, spread(mine), than, spread(theirs), spread(ratios), goal)


def as_json(results: dict[str, list[Figure]]) -> str:
    """All results for machines."""
    listed = {
        name: [{**asdict(figure), "goal": str(figure.goal or ""), "met": figure.met} for figure in figures]
        for name, figures in results.items()
    }
    return json.dumps(listed, indent=2)


def as_table(figures: Sequence[Figure]) -> str:
    """A benchmark's results as a Markdown table."""
    rows: list[tuple[str, ...]] = [
        ("figure", "median (min..max)", "beside", "median (min..max)", "ratio", "goal", "met")
    ]
    rows += [_row(figure) for figure in figures]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rows.insert(1, tuple("-" * width for width in widths))
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    notes = [f"{figure.name}: {figure.note}" for figure in figures if figure.note]
    return "\n".join([*lines, *([""] if notes else []), *notes])


def _row(figure: Figure) -> tuple[str, ...]:
    met = {True: "yes", False: "NO", None: ""}[figure.met]
    return (
        figure.name,
        f"{_spread(figure.value)} {figure.unit}",
        figure.baseline,
        f"{_spread(figure.beside)} {figure.unit}" if figure.beside else "",
        _spread(figure.ratio) if figure.ratio else "",
        str(figure.goal or ""),
        met,
    )


def _spread(values: Spread) -> str:
    if values.low == values.high:
        return _number(values.median)
    return f"{_number(values.median)} ({_number(values.low)}..{_number(values.high)})"


def _number(value: float) -> str:
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"
