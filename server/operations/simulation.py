"""Say what a write would do to evaluations, before it is made."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from server.core.errors import (
    ApprovalNeeded,
    Conflict,
    FlagstaffError,
    InvalidDefinition,
    NotFound,
    PermissionDenied,
    Refused,
    Stale,
    TooLarge,
)
from server.core.events import Event
from server.core.simulation.moves import Simulated, simulate
from server.operations.writes import Trial, Write


class InTheWayKind(StrEnum):
    """What kind of thing stands in the way of a write."""

    STALE = "stale"
    """Something changed since the caller read it."""

    EXISTS = "exists"
    MISSING = "missing"
    PERMISSION = "permission"
    """The caller may not make the change."""

    REFUSED = "refused"
    """The state of things: a freeze, dependents."""

    APPROVAL = "approval"
    """Others must agree: the write would open a change request."""

    TOO_LARGE = "too-large"
    INVALID = "invalid"
    """The definition is not sound, or the request not understood."""


@dataclass(frozen=True, slots=True)
class InTheWay:
    """One reason for which a write would be refused."""

    kind: InTheWayKind
    message: str
    path: str = ""
    """A JSON pointer into the definitions, for INVALID."""


@dataclass(frozen=True, slots=True)
class EnvironmentSimulation:
    """What a write would do in one environment."""

    environment: str
    revision: int
    """That it was tried on."""

    events: tuple[Event, ...]
    simulated: Simulated


@dataclass(frozen=True, slots=True)
class Simulation:
    """What a write would do everywhere."""

    environments: tuple[EnvironmentSimulation, ...]
    in_the_way: tuple[InTheWay, ...]
    """Empty when the write would be made."""


_KINDS: Final[Mapping[type[FlagstaffError], InTheWayKind]] = {
    Stale: InTheWayKind.STALE,
    Conflict: InTheWayKind.EXISTS,
    NotFound: InTheWayKind.MISSING,
    PermissionDenied: InTheWayKind.PERMISSION,
    ApprovalNeeded: InTheWayKind.APPROVAL,
    Refused: InTheWayKind.REFUSED,
    TooLarge: InTheWayKind.TOO_LARGE,
}


def simulate_write(
    propose: Callable[[Write], object], write: Write, *, sample: Callable[[str], Sequence[Mapping[str, Any]]]
) -> Simulation:
    """Try a write and evaluate what it touches, before and after, for a sample of contexts.

    `propose` makes the write with what it is given, by way of `Writer.write`. Shapes: sample gives the contexts for an
    environment's flag set, by its name.
    Errors: PermissionDenied when the principal may not read what the write touches; as `propose` for what cannot even
    be tried.
    """
    trial = Trial()
    propose(replace(write, dry_run=True, trial=trial))
    environments: list[EnvironmentSimulation] = []
    for seen in trial.seen:
        events = seen.after.events
        if not events:
            continue
        environment = seen.after.flag_set.environment
        contexts = sample(environment.flag_set)
        now = int(write.now.timestamp())
        simulated = simulate(seen.before, seen.after.flag_set, events=events, sample=contexts, now=now)
        environments.append(EnvironmentSimulation(environment.key, seen.revision, events, simulated))
    found = dict.fromkeys(each for error in trial.in_the_way for each in _described(error))
    return Simulation(tuple(environments), tuple(found))


def _described(error: FlagstaffError) -> list[InTheWay]:
    if isinstance(error, InvalidDefinition):
        return [InTheWay(InTheWayKind.INVALID, problem.message, problem.path) for problem in error.problems]
    kind = next((kind for type_, kind in _KINDS.items() if isinstance(error, type_)), InTheWayKind.INVALID)
    return [InTheWay(kind, str(error))]
