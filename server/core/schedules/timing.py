"""Say when a schedule is due, and what becomes of an instant that nobody was there for."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from server.core.errors import InvalidDefinition, InvalidRequest, Problem
from server.core.limits import SCHEDULE_GRACE_S_MAX, SCHEDULE_REMINDER_S_MAX, SCHEDULED_AHEAD_DAYS_MAX
from server.core.schedules.recurrence import Recurrence, next_occurrence, occurrences, recurrence_problems

GRACE_S: Final = 60
"""How late an execution may be, unless somebody says otherwise, before its instant counts as missed."""

COMPARED_MAX: Final = 50
"""Of a recurrence's instants, as many are compared with those of others."""


class Missed(StrEnum):
    """What becomes of an instant that was missed by more than the grace time: the service was down."""

    RUN = "run"
    """It is made up for: once, however many instants were missed."""

    SKIP = "skip"
    """It is left out."""

    FAIL = "fail"
    """The schedule stops, and somebody has to look at it."""


@dataclass(frozen=True, slots=True)
class Timing:
    """When something is due: at one instant, or at those of a recurrence."""

    at: datetime | None = None
    recurrence: Recurrence | None = None
    missed: Missed = Missed.RUN
    grace_s: int = GRACE_S
    remind_s: int = 0
    """So long before each instant it is announced; 0: not at all."""


def check_timing(timing: Timing) -> None:
    """Refuse what is not sound. Errors: InvalidRequest, InvalidDefinition with every problem."""
    if (timing.at is None) is (timing.recurrence is None):
        raise InvalidRequest("a schedule is for one instant (`at`) or for a recurrence; give one of them")
    problems = [
        Problem(f"/{name}", f"{value} s is not from 0 to {most} s")
        for name, value, most in (
            ("grace_s", timing.grace_s, SCHEDULE_GRACE_S_MAX),
            ("remind_s", timing.remind_s, SCHEDULE_REMINDER_S_MAX),
        )
        if not 0 <= value <= most
    ]
    if timing.recurrence is not None:
        problems += recurrence_problems(timing.recurrence, path="/recurrence")
    if problems:
        raise InvalidDefinition(problems)


def next_due(timing: Timing, after: datetime) -> datetime | None:
    """The first instant after another; None when there is none."""
    if timing.recurrence is not None:
        return next_occurrence(timing.recurrence, after)
    return timing.at if timing.at is not None and timing.at > after else None


def due_instants(timing: Timing, now: datetime) -> Sequence[datetime]:
    """The instants from now on that are compared with those of other schedules, in order."""
    if timing.recurrence is None:
        return [timing.at] if timing.at is not None and timing.at >= now else []
    return occurrences(timing.recurrence, now, now + timedelta(days=SCHEDULED_AHEAD_DAYS_MAX), COMPARED_MAX)


def is_missed(timing: Timing, due_at: datetime, now: datetime) -> bool:
    """Whether an instant is so long ago that what is missed has its own rule."""
    return now - due_at > timedelta(seconds=timing.grace_s)


def remind_at(timing: Timing, due_at: datetime | None) -> datetime | None:
    """When an instant is announced; None when it is not."""
    if due_at is None or not timing.remind_s:
        return None
    return due_at - timedelta(seconds=timing.remind_s)
