"""Schedules as people make, change and stop them."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from server.core.access import Action, Grant, Principal, Role
from server.core.changes import PutFlag, UpdateEnvironment
from server.core.edits import RemoveRule, SetDefault
from server.core.environments import FreezeWindow
from server.core.errors import (
    InTheWay,
    InvalidDefinition,
    InvalidRequest,
    PermissionDenied,
    Refused,
    TooLarge,
)
from server.core.schedules.conflicts import ConflictKind
from server.core.schedules.machine import Happening, State, Step
from server.core.schedules.recurrence import Recurrence, RuleKind
from server.core.schedules.timing import Timing
from server.operations.schedules.plans import Plan
from server.operations.writes import Outcome
from server.store.commit import Part
from server.store.engine import writing
from server.store.schedules import Bounds, Wanted, insert_schedule, read_schedule
from tests.operations.protected import APPROVER, EDITOR, READER, ask
from tests.operations.schedules.scheduled import HOUR, OFF, ON, Shop, every_hour, open_scheduled
from tests.store.definitions import NOW, flag, put

STAGING_EDITOR = Principal("sue", (Grant(Role.EDIT, "shop", "staging"),))


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """A shop in a file."""
    with open_scheduled(tmp_path) as opened:
        yield opened


@pytest.mark.parametrize(
    ("edits", "kind"),
    [
        ([SetDefault("checkout", "nothing")], ConflictKind.INVALID_REFERENCE),
        ([SetDefault("unknown", "on")], ConflictKind.DEPENDENCY_MISSING),
        ([RemoveRule("checkout", "beta")], ConflictKind.DEPENDENCY_MISSING),
    ],
)
def test_what_cannot_be_made_now(shop: Shop, edits: list[SetDefault], kind: ConflictKind) -> None:
    """It is refused with its kind, or kept where that is accepted: it may be otherwise when it is due."""
    with pytest.raises(InTheWay) as refused:
        shop.create(*edits)
    kept = shop.create(*edits, accept_conflicts=True)

    assert [kind.name] == [each for each, _, _ in refused.value.things]
    assert [kind] == [each.kind for each in kept.conflicts]


def test_what_comes_to_be_until_it_is_due(shop: Shop) -> None:
    """A schedule may use what another one brings before."""
    shop.new(parts=[Part("production", [PutFlag(flag("new", enabled=False))])])
    second = shop.new(type(ON)("new", True), at=NOW + 2 * HOUR, accept_conflicts=True)
    shop.tick(NOW + 2 * HOUR)

    assert (State.DONE, True) == (shop.state(second), shop.enabled("new"))


def test_a_freeze_is_told_by_its_instant(shop: Shop) -> None:
    """One that is over by then is nothing; one that lasts is a warning, for it may be lifted."""
    put(shop.engine, UpdateEnvironment(freeze_windows=(FreezeWindow(NOW, NOW + 2 * HOUR, "Holidays"),)))
    during, after = shop.create(ON), shop.create(ON, at=NOW + 3 * HOUR)
    frozen = [each for each in during.conflicts if each.kind is ConflictKind.FROZEN]

    assert [False] == [each.blocking for each in frozen]
    assert "Holidays" in frozen[0].text
    assert not [each for each in after.conflicts if each.kind is ConflictKind.FROZEN]


@pytest.mark.parametrize(
    ("timing", "error"),
    [
        (Timing(at=NOW), InTheWay),
        (Timing(), InvalidRequest),
        (Timing(at=NOW + HOUR, recurrence=every_hour()), InvalidRequest),
        (Timing(at=NOW + timedelta(days=9_999)), InvalidRequest),
        (Timing(at=NOW + HOUR, grace_s=-1), InvalidDefinition),
        (Timing(at=NOW + HOUR, remind_s=10**9), InvalidDefinition),
        (Timing(recurrence=Recurrence(RuleKind.CRON, "61 * * * *", "UTC", NOW)), InvalidDefinition),
        (Timing(recurrence=every_hour(end_at=NOW + timedelta(minutes=1))), InTheWay),
    ],
)
def test_times_that_cannot_be_meant(shop: Shop, timing: Timing, error: type[Exception]) -> None:
    """Past, none, two, too far, and what is wrong with a rule."""
    with pytest.raises(error):
        shop.create(timing=timing)


def test_only_who_may_make_the_change(shop: Shop) -> None:
    """In every environment that it reaches, when it is made and when it is changed."""
    for person in (READER, STAGING_EDITOR):
        with pytest.raises(PermissionDenied):
            shop.create(ON, by=person)
    id = shop.new(ON)
    with pytest.raises(PermissionDenied):
        shop.making.update(ask(STAGING_EDITOR), project="shop", id=id, plan=Plan(timing=Timing(at=NOW + 2 * HOUR)))
    with pytest.raises(PermissionDenied):
        shop.deciding.cancel(ask(READER), project="shop", id=id, text="")
    shop.deciding.cancel(ask(APPROVER), project="shop", id=id, text="Not now")

    assert (State.CANCELLED, "Not now") == (shop.state(id), shop.progress(id).note)


def test_a_dry_run_keeps_nothing(shop: Shop) -> None:
    """It says what would stand in the way."""
    shop.new(ON)
    went = shop.create(OFF, at=NOW + 2 * HOUR, dry_run=True)
    page = shop.looking.page(READER, project="shop", wanted=Wanted(), after=None, limit=10)

    assert (Outcome.WOULD_APPLY, 1, 1) == (went.written.outcome, len(went.conflicts), page.count)


def test_only_if_unchanged_is_for_one_instant(shop: Shop) -> None:
    """A recurrence changes what it changes again."""
    with pytest.raises(InvalidRequest, match="for a single instant"):
        shop.create(ON, timing=Timing(recurrence=every_hour()), only_if_unchanged=True)
    id = shop.new(ON, only_if_unchanged=True)
    with pytest.raises(InvalidRequest, match="for a single instant"):
        again = Plan(timing=Timing(recurrence=every_hour()))
        shop.making.update(ask(EDITOR), project="shop", id=id, plan=again)


def test_another_title_changes_nothing_else(shop: Shop) -> None:
    """What it does only if nothing changed is so still, as of now."""
    id = shop.new(ON, only_if_unchanged=True)
    shop.making.update(ask(EDITOR, reason="Launch"), project="shop", id=id, plan=Plan())
    put(shop.engine, PutFlag(flag(enabled=False, description="changed")))
    shop.tick(NOW + HOUR)

    assert [ConflictKind.VERSION_MISMATCH] == [each.kind for each in shop.progress(id).conflicts]


def test_a_conflict_is_settled_by_another_time(shop: Shop) -> None:
    """It waits again then, and is executed."""
    id = shop.new(ON, only_if_unchanged=True)
    put(shop.engine, PutFlag(flag(enabled=False, description="changed")))
    shop.tick(NOW + HOUR)
    assert State.CONFLICTED is shop.state(id)
    again = Plan([Part("production", [ON])], timing=Timing(at=NOW + 3 * HOUR))
    shop.making.update(ask(EDITOR, now=NOW + 2 * HOUR), project="shop", id=id, plan=again)
    assert State.PENDING is shop.state(id)
    shop.tick(NOW + 3 * HOUR)

    assert (State.DONE, True) == (shop.state(id), shop.enabled())


def test_what_is_done_is_done(shop: Shop) -> None:
    """It cannot be moved, run or cancelled."""
    id = shop.new(ON)
    shop.tick(NOW + HOUR)
    attempts: list[Callable[[], object]] = [
        lambda: shop.making.update(ask(EDITOR), project="shop", id=id, plan=Plan(timing=Timing(at=NOW + 9 * HOUR))),
        lambda: shop.deciding.run(ask(EDITOR, now=NOW + 2 * HOUR), project="shop", id=id),
        lambda: shop.deciding.cancel(ask(EDITOR), project="shop", id=id, text=""),
    ]
    for attempt in attempts:
        with pytest.raises(Refused, match="a schedule that is done cannot be"):
            attempt()


def test_there_is_a_bound(shop: Shop) -> None:
    """On schedules that are not closed."""
    id = shop.new(ON)
    with writing(shop.engine, about="project/shop") as connection:
        schedule = read_schedule(connection, project="shop", id=id)
        with pytest.raises(TooLarge, match="at most 1 are allowed"):
            insert_schedule(connection, schedule, Step(Happening.CREATED, "ann", NOW), bounds=Bounds(living_max=1))


def test_who_runs_it_needs_the_right(shop: Shop) -> None:
    """The schedule's maker's does not help."""
    id = shop.new(ON)
    with pytest.raises(PermissionDenied):
        shop.deciding.run(ask(APPROVER, action=Action.EDIT), project="shop", id=id)

    assert not shop.enabled()
