"""Say what a schedule is to do and when, before there is one."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from server.core.access import Action
from server.core.errors import InvalidRequest
from server.core.limits import SCHEDULED_AHEAD_DAYS_MAX
from server.core.schedules.conflicts import ConflictKind, ScheduleConflict
from server.core.schedules.timing import Timing, check_timing, next_due
from server.operations.schedules.steps import in_the_way
from server.store.commit import Part


@dataclass(frozen=True, slots=True)
class Plan:
    """What a schedule is to do, and when; for one that is there already, None leaves as it is."""

    parts: Sequence[Part] | None = None
    replace_variants: bool = False
    action: Action = Action.EDIT
    """What one must be allowed to make the change."""

    timing: Timing | None = None
    only_if_unchanged: bool = False
    """Not when what it would change has another version by then than now."""

    accept_conflicts: bool = False
    """Keep it in spite of what stands in its way now: that may be otherwise when it is due."""


def first_due(timing: Timing, now: datetime) -> datetime:
    """The first instant. Errors: InTheWay when all are past; InvalidRequest, InvalidDefinition."""
    check_timing(timing)
    due_at = next_due(timing, now)
    if due_at is None:
        text = f"{'its instant' if timing.at is not None else 'its last instant'} is past"
        raise in_the_way([ScheduleConflict(ConflictKind.PAST_INSTANT, text)])
    if due_at > now + timedelta(days=SCHEDULED_AHEAD_DAYS_MAX):
        raise InvalidRequest(
            f"{due_at.isoformat()} is more than {SCHEDULED_AHEAD_DAYS_MAX} days ahead; give an earlier time"
        )
    return due_at
