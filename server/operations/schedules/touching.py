"""Say which schedules wait to change what somebody changes by hand: nothing takes them away silently."""

from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import Final

from sqlalchemy import Connection

from server.core.events import Event, FlagRemoved, FlagUpdated, SegmentRemoved
from server.store.schedule_subjects import Pending, pending_about

NAMED_MAX: Final = 20
"""Schedules that one write's warnings name."""


def touched_schedules(connection: Connection, project: str, events: Mapping[str, Sequence[Event]]) -> tuple[str, ...]:
    """A warning for each schedule that waits and sets something of what an environment's events are about."""
    things: dict[str, set[tuple[str, str]]] = {}
    gone: dict[tuple[str, str, str], str] = {}
    for environment, each in events.items():
        for event in each:
            if event.kind in ("flag", "segment", "environment"):
                things.setdefault(environment, set()).add((event.kind, event.key))
                what = _gone(event)
                if what:
                    gone[environment, event.kind, event.key] = what
    if not things:
        return ()
    pending = pending_about(connection, project=project, things=things)
    told = [_warning(each, gone) for each in pending[:NAMED_MAX]]
    more = [f"and {len(pending) - NAMED_MAX} more schedules"] if len(pending) > NAMED_MAX else []
    return (*told, *more)


def _gone(event: Event) -> str:
    if isinstance(event, FlagRemoved | SegmentRemoved):
        return "does not exist then"
    if isinstance(event, FlagUpdated) and event.before.flag.archived_at is None and event.after.flag.archived_at:
        return "is archived then"
    return ""


def _warning(schedule: Pending, gone: Mapping[tuple[str, str, str], str]) -> str:
    first = min(schedule.fields)
    title = f" ({schedule.title})" if schedule.title else ""
    at = "" if schedule.due_at is None else f" at {schedule.due_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    told = f"schedule {schedule.id}{title} is to change {first.described} in {first.environment}{at}"
    missing = next((gone[each.thing] for each in sorted(schedule.fields) if each.thing in gone), "")
    return (
        f"{told}, which {missing}: it will be in conflict unless you cancel it or bring that back" if missing else told
    )
