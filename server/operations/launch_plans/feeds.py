"""Write launch plans as an iCalendar file (RFC 5545), for calendars of people."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from icalendar import Calendar, Event

from server.core.launch_plans.machine import Done, State
from server.core.launch_plans.timing import Slot, check_at, slots_of
from server.store.launch_plans import StoredPlan

PRODUCT: Final = "-//Flagstaff//Launch plans//EN"
LENGTH: Final = timedelta(minutes=15)
"""An instant is not seen in most calendars."""

REFRESH: Final = timedelta(minutes=15)

_STATUS: Final = {State.DRAFT: "TENTATIVE", State.HELD: "TENTATIVE", State.CANCELLED: "CANCELLED"}


def calendar_of(plans: Iterable[StoredPlan], *, name: str) -> bytes:
    """Each item as an event, where it is or was, and each go/no-go point, when its answer is needed.

    What an item changes is not told beyond its title: calendars are shared with more people than flags are.
    """
    calendar = Calendar()
    calendar.add("prodid", PRODUCT)
    calendar.add("version", "2.0")
    calendar.add("x-wr-calname", name)
    calendar.add("refresh-interval", REFRESH, parameters={"VALUE": "DURATION"})
    for stored in plans:
        done = {each.item: each for each in stored.progress.done}
        for slot in slots_of(stored.plan):
            calendar.add_component(_item(stored, slot, done.get(slot.item.id)))
        for check in stored.plan.checks:
            answer = next((each for each in stored.progress.answers if each.check == check.id), None)
            said = "" if answer is None else ": go" if answer.go else ": no-go"
            event = _event(stored, f"check-{check.id}", check_at(stored.plan, check))
            event.add("summary", f"{stored.plan.name}: go or no-go, {check.text}{said}")
            event.add("description", f"To be answered by {', '.join(check.approvers)}")
            calendar.add_component(event)
    written: bytes = calendar.to_ical()
    return written


def _item(stored: StoredPlan, slot: Slot, done: Done | None) -> Event:
    event = _event(stored, slot.item.id, slot.at if done is None else done.at)
    became = "" if done is None else " (skipped)" if done.skipped else " (done)"
    event.add("summary", f"{stored.plan.name}: {slot.item.title or slot.item.id}{became}")
    places = ", ".join(sorted(slot.item.environments))
    told = [f"{slot.item.offset} of launch plan {stored.id}, in {stored.project}: {places}"]
    if stored.plan.owner:
        told.append(f"Owner: {stored.plan.owner}")
    if stored.progress.note:
        told.append(f"{stored.progress.state}: {stored.progress.note}")
    event.add("description", "\n".join(told))
    return event


def _event(stored: StoredPlan, part: str, at: datetime) -> Event:
    event = Event()
    # The same at each export, so that a calendar moves an event and makes no second one.
    event.add("uid", f"{stored.id}-{part}@{stored.project}.flagstaff")
    event.add("dtstamp", stored.updated_at)
    event.add("last-modified", stored.updated_at)
    event.add("sequence", stored.progress.step_count)
    event.add("dtstart", at)
    event.add("dtend", at + LENGTH)
    event.add("status", _STATUS.get(stored.progress.state, "CONFIRMED"))
    event.add("transp", "TRANSPARENT")
    return event
