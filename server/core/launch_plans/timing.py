"""Say when the items of a launch plan happen: their offsets, moved to when things may happen, in their order."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from server.core.calendars import Calendar, Closure, is_open, next_open
from server.core.launch_plans.offsets import instant_of
from server.core.launch_plans.plan import Check, Item, Outside, Plan
from server.core.zones import zone


@dataclass(frozen=True, slots=True)
class Slot:
    """When an item happens."""

    item: Item
    planned_at: datetime
    """By its offset."""

    at: datetime
    """When it will, after it was moved."""

    outside: bool = False
    """It was planned for when nothing should happen."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Items that happen at one instant, as one commit."""

    at: datetime
    items: tuple[Item, ...]


def slots_of(plan: Plan, frozen: Mapping[str, Sequence[Closure]] | None = None) -> tuple[Slot, ...]:
    """When each item happens, in order; `frozen` holds windows by environment.

    None overtakes another: one that waits for a window to end has those after it wait. Where windows leave no instant
    at all, an item stays where it is, and is outside.
    """
    place = zone(plan.zone)
    planned = [(instant_of(item.offset, plan.launch_at, place), item) for item in plan.items]
    slots: list[Slot] = []
    # Sorted by time alone, so that items of one instant keep the order in which they were written.
    for planned_at, item in sorted(planned, key=lambda each: each[0]):
        calendar = _calendar(plan, item, frozen or {})
        at, outside = planned_at, not is_open(calendar, planned_at)
        if plan.outside is Outside.MOVE:
            earliest = max(at, slots[-1].at) if slots else at
            at = next_open(calendar, earliest) or earliest
        slots.append(Slot(item, planned_at, at, outside))
    return tuple(slots)


def ticks_of(slots: Sequence[Slot]) -> Iterator[Tick]:
    """What happens at once, in order."""
    for at, each in groupby(slots, key=lambda slot: slot.at):
        yield Tick(at, tuple(slot.item for slot in each))


def check_at(plan: Plan, check: Check) -> datetime:
    """From when on nothing happens without its go."""
    return instant_of(check.before, plan.launch_at, zone(plan.zone))


def _calendar(plan: Plan, item: Item, frozen: Mapping[str, Sequence[Closure]]) -> Calendar:
    windows = [each for environment in sorted(item.environments) for each in frozen.get(environment, ())]
    return Calendar(plan.calendar.hours, (*plan.calendar.closures, *windows))
