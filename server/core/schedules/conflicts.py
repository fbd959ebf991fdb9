"""Name what stands in the way of a scheduled change: at save as a warning or a refusal, and again when it is due."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from server.core.errors import (
    ApprovalNeeded,
    Conflict,
    FlagstaffError,
    InvalidDefinition,
    NotFound,
    PermissionDenied,
    Refused,
    Stale,
)
from server.core.schedules.fields import Field, meeting


class ConflictKind(StrEnum):
    """What kind of thing stands in the way."""

    VERSION_MISMATCH = "version-mismatch"
    """What it would change was changed, and it is to be made only if not."""

    OVERLAP = "overlap"
    """Another schedule changes the same field."""

    DEPENDENCY_MISSING = "dependency-missing"
    """Something that it needs or changes does not exist (any more)."""

    INVALID_REFERENCE = "invalid-reference"
    """What would come out is not sound: a variant, segment or value that does not fit."""

    PAST_INSTANT = "past-instant"
    FROZEN = "frozen"
    APPROVAL_MISSING = "approval-missing"
    NOT_ALLOWED = "not-allowed"
    """Whoever made or last changed the schedule may not make its change any more."""

    REFUSED = "refused"
    """Anything else in the state of things: dependents, a lock, an archived flag."""


@dataclass(frozen=True, slots=True)
class ScheduleConflict:
    """One thing in the way."""

    kind: ConflictKind
    text: str
    environment: str = ""
    field: str = ""
    """For OVERLAP: what both change, such as `flag new-ui: enabled`."""

    other: str = ""
    """For OVERLAP: the other schedule's id."""

    blocking: bool = True
    """Whether the schedule is not kept, or not executed, because of it."""

    def __str__(self) -> str:
        """Say it in words."""
        where = f" in {self.environment}" if self.environment else ""
        return f"{self.kind}{where}: {self.text}"


_KINDS: Final[Sequence[tuple[type[FlagstaffError], ConflictKind]]] = (
    (Stale, ConflictKind.VERSION_MISMATCH),
    # Something exists that must not.
    (Conflict, ConflictKind.VERSION_MISMATCH),
    (NotFound, ConflictKind.DEPENDENCY_MISSING),
    (PermissionDenied, ConflictKind.NOT_ALLOWED),
    (ApprovalNeeded, ConflictKind.APPROVAL_MISSING),
    (Refused, ConflictKind.REFUSED),
    (InvalidDefinition, ConflictKind.INVALID_REFERENCE),
)


def conflict_of(error: FlagstaffError, environment: str = "") -> ScheduleConflict:
    """An error of the commit, as a conflict."""
    kind = next((kind for type_, kind in _KINDS if isinstance(error, type_)), ConflictKind.INVALID_REFERENCE)
    return ScheduleConflict(kind, str(error), environment)


@dataclass(frozen=True, slots=True)
class Planned:
    """What a schedule changes, and when."""

    id: str
    fields: frozenset[Field]
    instants: Sequence[datetime]
    """From now on, in order."""


def overlaps(mine: Planned, others: Iterable[Planned]) -> list[ScheduleConflict]:
    """Where other schedules change the same field: at the same instant nobody knows which of them wins.

    At different instants it is usual, on in the morning and off at night, and only told.
    """
    found: list[ScheduleConflict] = []
    for other in others:
        met = meeting(mine.fields, other.fields)
        if met is None or other.id == mine.id:
            continue
        at = min(set(mine.instants) & set(other.instants), default=None)
        when = _when(other.instants) if at is None else f"at the same instant, {_told(at)}"
        text = f"schedule {other.id} changes {met.described}, too, {when}"
        found.append(
            ScheduleConflict(
                ConflictKind.OVERLAP, text, met.environment, met.described, other.id, blocking=at is not None
            )
        )
    return found


def _when(instants: Sequence[datetime]) -> str:
    return f"next at {_told(instants[0])}" if instants else "when somebody runs it"


def _told(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")
