"""A launch plan goes on by its table, in order, not early, and not without its go."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.access import Action
from server.core.calendars import Calendar, Closure, read_hours
from server.core.change_requests.codec import Content, Proposed, read_value, write_value
from server.core.edits import SetEnabled
from server.core.errors import InvalidDefinition, InvalidRequest, Refused
from server.core.launch_plans.machine import (
    ARROWS,
    CLOSED,
    Complete,
    Execute,
    Happening,
    Hold,
    Progress,
    Remind,
    Skip,
    State,
    Step,
    Wait,
    advance,
    created,
    decide,
    next_at,
)
from server.core.launch_plans.offsets import instant_of, offset_problem
from server.core.launch_plans.plan import Check, Item, Missed, Outside, Plan, check_plan, read_plan, write_plan
from server.core.launch_plans.timing import Slot, slots_of, ticks_of
from server.core.zones import zone


def at(text: str) -> datetime:
    """An instant in UTC, by its date and time."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


LAUNCH = at("2026-12-01T09:00")


def item(id: str, offset: str, environment: str = "production") -> Item:
    """An item that turns on the flag of its name."""
    return Item(id, offset, Content((Proposed(environment, (SetEnabled(id, True),)),)), Action.EDIT)


def plan(*items: Item, **more: Any) -> Plan:
    """A plan in Berlin."""
    return Plan("Launch", "Europe/Berlin", LAUNCH, items, **more)


def step(happening: Happening, now: datetime = LAUNCH, **more: Any) -> Step:
    """Something that Ann did."""
    return Step(happening, "ann", now, **more)


def scheduled(now: datetime = LAUNCH - timedelta(days=10)) -> Progress:
    """A plan that was started."""
    return advance(created(step(Happening.CREATED, now)), step(Happening.STARTED, now))


THREE = plan(item("internal", "T-7d"), item("some", "T-1d 09:00"), item("all", "T-0"))


@pytest.mark.parametrize(
    ("offset", "expected"),
    [
        ("T-0", "2026-12-01T09:00"),
        ("T+2h", "2026-12-01T11:00"),
        ("T-90m", "2026-12-01T07:30"),
        ("T-1d 09:00", "2026-11-30T08:00"),
        ("T 12:15", "2026-12-01T11:15"),
        ("T+1w", "2026-12-08T09:00"),
        # Ten o'clock stays ten o'clock, also before clocks are put back.
        ("T-60d", "2026-10-02T08:00"),
    ],
)
def test_offsets(offset: str, expected: str) -> None:
    """Days are those of the calendar, hours and minutes as they pass."""
    assert "" == offset_problem(offset)
    assert at(expected) == instant_of(offset, LAUNCH, zone("Europe/Berlin"))


@pytest.mark.parametrize(
    "text", ["", "t-1d", "T-7", "T-1d 25:00", "T+2h 09:00", "T-1d 9:00", "T-99999d", "T-1y", "T--1d"]
)
def test_offsets_that_are_refused(text: str) -> None:
    """What is not quite an offset is none."""
    assert "is not like T-7d" in offset_problem(text)


def test_what_is_wrong_with_a_plan() -> None:
    """Every problem has its path."""
    wrong = plan(
        item("a", "T-0"), item("a", "sometime"), Item("_", "T-0", Content(()), Action.EDIT),
        checks=(Check("legal", "", ()),), grace_s=-1, remind_before_s=10**9,
    )  # fmt: skip
    wrong = replace(wrong, zone="Mars", name="")

    with pytest.raises(InvalidDefinition) as caught:
        check_plan(wrong)
    assert [
        "/name", "/zone", "/grace_s", "/remind_before_s", "/items/1/id", "/items/2/id", "/items/1/offset", "/items/2",
        "/checks/0/approvers", "/checks/0/text",
    ] == [each.path for each in caught.value.problems]  # fmt: skip


def test_a_plan_is_kept_as_it_is() -> None:
    """It is written as JSON and read back the same; another form is refused."""
    hours, _ = read_hours("MON-FRI 09:00-17:00 Europe/Berlin", path="")
    full = replace(THREE, calendar=Calendar(hours, (Closure(LAUNCH, LAUNCH + timedelta(days=1)),)), owner="ann")
    full = replace(full, checks=(Check("legal", "Legal agrees", ("bob",)),), missed=Missed.SKIP, outside=Outside.REPORT)
    progress = replace(scheduled(), note="so")

    assert full == read_plan(write_plan(full))
    assert progress == read_value(Progress, write_value(progress))
    with pytest.raises(InvalidRequest):
        read_plan({"version": 99})


def test_items_go_on_in_their_order() -> None:
    """Not before their time, each once, and then it is complete."""
    progress, slots, seen = scheduled(), slots_of(THREE), []
    now = LAUNCH - timedelta(days=9)
    while not isinstance(found := decide(THREE, progress, slots, now), Complete):
        if isinstance(found, Wait):
            assert found.until is not None
            assert isinstance(decide(THREE, progress, slots, found.until - timedelta(microseconds=1)), Wait)
            now = found.until
            continue
        assert isinstance(found, Execute)
        seen.append((now, [each.id for each in found.tick.items]))
        done = tuple(each.id for each in found.tick.items)
        progress = advance(progress, step(Happening.EXECUTED, now, items=done, revisions={"production": 1}))

    assert [(at("2026-11-24T09:00"), ["internal"]), (at("2026-11-30T08:00"), ["some"]), (LAUNCH, ["all"])] == seen
    assert State.COMPLETED is advance(progress, step(Happening.COMPLETED)).state


def test_items_of_one_instant_are_one_tick() -> None:
    """In the order in which they are written, whatever their offsets look like."""
    ticks = list(ticks_of(slots_of(plan(item("b", "T-0"), item("late", "T+1h"), item("a", "T 10:00")))))

    assert [["b", "a"], ["late"]] == [[each.id for each in tick.items] for tick in ticks]


def test_without_a_go_it_is_held() -> None:
    """What comes before the check's time happens; nothing from then on does, until somebody says go."""
    checked = replace(THREE, checks=(Check("legal", "Legal agrees", ("bob",), before="T-1d"),))
    slots, progress = slots_of(checked), scheduled()
    early, late = at("2026-11-24T09:00"), at("2026-12-01T09:00")
    assert isinstance(decide(checked, progress, slots, early), Execute)
    progress = advance(progress, step(Happening.EXECUTED, early, items=("internal", "some")))
    held = decide(checked, progress, slots, late)
    go = advance(progress, step(Happening.ANSWERED_GO, late, check="legal"))
    no = advance(go, step(Happening.ANSWERED_NO_GO, late, check="legal", text="Not yet"))

    assert isinstance(held, Hold)
    assert "'all' needs a go for 'legal'" in held.why
    assert isinstance(decide(checked, go, slots, late), Execute)
    assert (State.HELD, "Not yet") == (no.state, no.note)


@pytest.mark.parametrize(
    ("missed", "hours", "expected"),
    [
        (Missed.HOLD, 0.9, Execute), (Missed.HOLD, 1.1, Hold), (Missed.SKIP, 1.1, Skip), (Missed.RUN, 99, Execute),
    ],
)  # fmt: skip
def test_what_is_missed(missed: Missed, hours: float, expected: type) -> None:
    """Within the grace time it happens; later what the plan says. What somebody resumes is not missed again."""
    late = replace(plan(item("all", "T-0")), missed=missed)
    slots, now = slots_of(late), LAUNCH + timedelta(hours=hours)

    assert isinstance(decide(late, scheduled(), slots, now), expected)
    resumed = advance(advance(scheduled(), step(Happening.HELD)), step(Happening.RESUMED, now))
    assert isinstance(decide(late, resumed, slots, now + timedelta(minutes=1)), Execute)


def test_somebody_is_reminded_once() -> None:
    """As long before as the plan says, and not again."""
    reminding = replace(plan(item("all", "T-0")), remind_before_s=3_600)
    slots, progress, soon = slots_of(reminding), scheduled(), LAUNCH - timedelta(hours=1)
    assert Wait(soon) == decide(reminding, progress, slots, LAUNCH - timedelta(days=1))
    assert isinstance(decide(reminding, progress, slots, soon), Remind)
    progress = advance(progress, step(Happening.DUE_SOON, soon, items=("all",)))

    assert LAUNCH == next_at(reminding, progress, slots, soon)


def test_what_falls_outside_is_moved_with_what_follows() -> None:
    """To the next open instant; where it is only reported it stays."""
    hours, _ = read_hours("MON-FRI 09:00-17:00 Europe/Berlin", path="")
    weekend = replace(
        plan(item("early", "T-3d"), item("same", "T-2d", "staging")), calendar=Calendar(hours)
    )  # T-0 is a Tuesday.
    frozen = {"production": [Closure(at("2026-11-30T00:00"), at("2026-11-30T12:00"))]}

    assert [at("2026-11-30T08:00")] * 2 == [each.at for each in slots_of(weekend)]
    assert [at("2026-11-30T12:00")] * 2 == [each.at for each in slots_of(weekend, frozen)]
    assert all(each.outside for each in slots_of(weekend))
    stays = slots_of(replace(weekend, outside=Outside.REPORT))
    assert [at("2026-11-28T09:00"), at("2026-11-29T09:00")] == [each.at for each in stays]


HAPPENINGS = st.lists(st.sampled_from(Happening), max_size=30)


@given(HAPPENINGS)
def test_it_never_leaves_its_table(happenings: list[Happening]) -> None:
    """What is no arrow is refused and changes nothing; replaying what happened gives the same."""
    progress, history = created(step(Happening.CREATED)), []
    for number, happening in enumerate(happenings):
        taken = step(happening, LAUNCH + timedelta(minutes=number), check="legal", items=(f"i{number}",))
        if (progress.state, happening) in ARROWS:
            before, progress = progress, advance(progress, taken)
            history.append(taken)
            assert ARROWS[before.state, happening] is progress.state
            assert progress.step_count == before.step_count + 1
            assert before.finished <= progress.finished
            assert happening is not Happening.UPDATED or (progress.approvals, progress.answers) == ((), ())
        else:
            with pytest.raises(Refused):
                advance(progress, taken)
    again = created(step(Happening.CREATED))
    for each in history:
        again = advance(again, each)

    assert again == progress
    assert CLOSED.isdisjoint(state for state, _ in ARROWS)


@given(
    st.lists(st.sampled_from(["T-0", "T-1d", "T-1h", "T+5m", "T+1d 09:00", "T-3d 23:30"]), min_size=1, max_size=8),
    st.lists(st.timedeltas(timedelta(minutes=1), timedelta(hours=20)), min_size=20, max_size=60),
    st.sampled_from(Missed),
)
def test_nothing_is_early_twice_or_out_of_order(offsets: list[str], waits: list[timedelta], missed: Missed) -> None:
    """However seldom somebody looks: each item is over at most once, after its time, and in the plan's order."""
    some = replace(plan(*(item(f"i{number}", each) for number, each in enumerate(offsets))), missed=missed)
    slots = slots_of(some)
    due = {slot.item.id: slot.at for slot in slots}
    now, progress = LAUNCH - timedelta(days=4), scheduled()
    for wait in waits:
        now += wait
        while not isinstance(found := decide(some, progress, slots, now), Wait | Complete):
            assert not isinstance(found, Remind)
            ids = tuple(each.id for each in found.tick.items)
            assert all(due[each] <= now for each in ids)
            if isinstance(found, Hold):
                progress = advance(progress, step(Happening.MISSED, now, items=ids, text=found.why))
                progress = advance(progress, step(Happening.RESUMED, now))
                continue
            happening = Happening.EXECUTED if isinstance(found, Execute) else Happening.SKIPPED
            progress = advance(progress, step(happening, now, items=ids, due_at=found.tick.at))
    over = [each.item for each in progress.done]

    assert [slot.item.id for slot in slots][: len(over)] == over


def test_a_slot_says_when() -> None:
    """What was planned is kept beside what will be."""
    assert Slot(THREE.items[0], at("2026-11-24T09:00"), at("2026-11-24T09:00")) == slots_of(THREE)[0]
