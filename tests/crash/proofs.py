"""Count how often each invariant held, and print it as a table."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

EXAMPLES_SHOWN_MAX: Final = 5


@dataclass(frozen=True, slots=True)
class Effort:
    """How long a proof may go on."""

    cycles: int
    import_flags: int
    seed: int
    directory: str
    storm_s: float = 0.0
    """How long several processes at once are killed at random, where a proof does so; 0: not at all."""


@dataclass(slots=True)
class Tally:
    """One invariant: how often it was looked at, and where it did not hold."""

    checked: int = 0
    broken: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Results:
    """All invariants of a proof, in the order in which they first came up."""

    tallies: dict[str, Tally] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    """What happened meanwhile, such as how many processes were killed."""

    def check(self, invariant: str, holds: bool, where: str) -> None:
        """Count one look at an invariant."""
        tally = self.tallies.setdefault(invariant, Tally())
        tally.checked += 1
        if not holds:
            tally.broken.append(where)

    def equal(self, invariant: str, expected: object, actual: object, *, where: str) -> None:
        """Count one look at two things that must be the same."""
        self.check(invariant, expected == actual, f"{where}: expected {_cut(expected)}, found {_cut(actual)}")

    def note(self, what: str, count: int = 1) -> None:
        """Count something that happened."""
        self.notes[what] = self.notes.get(what, 0) + count

    @property
    def hold(self) -> bool:
        """Whether something was looked at and nothing was broken."""
        return bool(self.tallies) and not any(tally.broken for tally in self.tallies.values())


Proof: TypeAlias = Callable[[Effort], Results]


def table(name: str, results: Results) -> str:
    """The results as text, with examples of what broke."""
    width = max((len(invariant) for invariant in results.tallies), default=10)
    lines = [f"{name}: {', '.join(f'{count} {what}' for what, count in results.notes.items())}", ""]
    lines.append(f"  {'invariant':{width}}  {'checked':>8}  {'broken':>6}")
    for invariant, tally in results.tallies.items():
        lines.append(f"  {invariant:{width}}  {tally.checked:>8}  {len(tally.broken):>6}")
        lines += [f"    {example}" for example in tally.broken[:EXAMPLES_SHOWN_MAX]]
    return "\n".join(lines)


def _cut(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 300 else text[:297] + "..."
