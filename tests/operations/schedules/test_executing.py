"""Schedules when they are due."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from server.core.access import Principal
from server.core.changes import PutFlag, RemoveFlag, UpdateEnvironment
from server.core.edits import ArchiveFlag, SetDefault
from server.core.environments import ApprovalPolicy, FreezeWindow
from server.core.schedules.conflicts import ConflictKind
from server.core.schedules.machine import Happening, State
from server.core.schedules.timing import Missed, Timing
from server.operations.schedules.executing import BATCH_MAX, Executing
from server.operations.schedules.plans import Plan
from server.operations.writes import Writer
from server.store.commit import Part
from tests.announced import announced
from tests.operations.protected import APPROVER, EDITOR, ask
from tests.operations.schedules.scheduled import HOUR, OFF, ON, Shop, every_hour, open_scheduled
from tests.store.definitions import KINDS, NOW, another, behind_our_back, flag, put, stored

SECOND = timedelta(seconds=1)


@pytest.fixture(params=KINDS)
def shop(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Shop]:
    """A shop in a database of each kind."""
    with open_scheduled(tmp_path, request.param) as opened:
        yield opened


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Shop]:
    """A shop in a file."""
    with open_scheduled(tmp_path) as opened:
        yield opened


def test_at_its_instant(shop: Shop) -> None:
    """Not before, and once; in the schedule's name, and its cause says which instant it was."""
    id = shop.new(ON, reason="Launch")
    assert NOW + HOUR == shop.wakes_at()
    assert 0 == shop.tick(NOW + HOUR - SECOND)
    assert not shop.enabled()
    assert [1, 0] == [shop.tick(NOW + HOUR), shop.tick(NOW + HOUR)]
    entry = shop.entries("flag")[0]

    assert (True, State.DONE, None) == (shop.enabled(), shop.state(id), shop.wakes_at())
    assert (f"schedule:{id}", "Launch", f"schedule:{id}@2026-01-01T13:00:00+00:00") == (
        entry.actor,
        entry.reason,
        entry.cause,
    )
    assert [(Happening.EXECUTED, NOW + HOUR)] == [(each.happening, each.instant) for each in shop.outcomes(id)]
    _, data = announced(shop.engine)[-1]
    assert ("2026-01-01T13:00:00+00:00", "2026-01-01T13:00:00+00:00", 0, None, False) == (
        *(data["due_at"], data["applied_at"], data["lag_ms"], data["next_at"], data["will_retry"]),
    )


def test_many_processes_execute_each_once(shop: Shop) -> None:
    """All find them due at once; what one has taken is not waited for twice."""
    put(shop.engine, *(PutFlag(flag(f"f{number}", enabled=False)) for number in range(2 * BATCH_MAX + 3)))
    ids = [shop.new(type(ON)(f"f{number}", True)) for number in range(2 * BATCH_MAX + 3)]
    engines = [another(shop.engine) for _ in range(3)]
    with ThreadPoolExecutor(3) as threads:
        counts = list(threads.map(lambda engine: Executing(Writer(engine)).carry_on(NOW + HOUR), engines))
    for engine in engines:
        engine.dispose()

    assert len(ids) == sum(counts)
    assert [[Happening.EXECUTED]] * len(ids) == [[each.happening for each in shop.outcomes(id)] for id in ids]
    assert len(ids) == len([each for each in shop.entries("flag") if each.actor.startswith("schedule:")])


def test_several_environments_are_one_commit(shop: Shop) -> None:
    """Either all of it happens or none."""
    put(shop.engine, PutFlag(flag(enabled=False)), environment="staging")
    parts = [Part("production", [ON]), Part("staging", [ON, SetDefault("checkout", "on")])]
    id = shop.new(parts=parts)
    put(shop.engine, RemoveFlag("checkout"), environment="staging")
    shop.tick(NOW + HOUR)

    assert (False, State.CONFLICTED) == (shop.enabled(), shop.state(id))
    put(shop.engine, PutFlag(flag(enabled=False)), environment="staging")
    shop.deciding.run(ask(EDITOR, now=NOW + 2 * HOUR), project="shop", id=id)

    assert (True, True, State.DONE) == (shop.enabled(), shop.enabled(environment="staging"), shop.state(id))


def test_a_recurrence_comes_again(one: Shop) -> None:
    """An instant at a time, until its end."""
    id = one.new(ON, timing=Timing(recurrence=every_hour(end_at=NOW + 2 * HOUR)))
    for number in (1, 2):
        put(one.engine, OFF)
        one.tick(NOW + number * HOUR + SECOND)
        assert one.enabled()
    put(one.engine, OFF)
    one.tick(NOW + 3 * HOUR)

    assert (False, State.DONE) == (one.enabled(), one.state(id))
    assert [NOW + HOUR, NOW + 2 * HOUR] == [each.instant for each in one.outcomes(id)]


@pytest.mark.parametrize(
    ("missed", "outcome", "state", "enabled"),
    [
        (Missed.RUN, Happening.EXECUTED, State.PENDING, True),
        (Missed.SKIP, Happening.SKIPPED, State.PENDING, False),
        (Missed.FAIL, Happening.FAILED, State.FAILED, False),
    ],
)
def test_instants_that_were_missed(one: Shop, missed: Missed, outcome: Happening, state: State, enabled: bool) -> None:
    """After three hours without a service: once, not at all, or a stop; within the grace time it is as usual."""
    id = one.new(ON, timing=Timing(recurrence=every_hour(), missed=missed, grace_s=60))
    one.tick(NOW + 4 * HOUR - SECOND)
    progress = one.progress(id)

    assert [(outcome, NOW + HOUR)] == [(each.happening, each.instant) for each in one.outcomes(id)]
    assert (state, enabled) == (progress.state, one.enabled())
    assert progress.due_at == (NOW + 4 * HOUR if state is State.PENDING else None)


@pytest.mark.parametrize("missed", list(Missed))
def test_a_little_late_is_not_missed(one: Shop, missed: Missed) -> None:
    """The grace time is for that."""
    one.new(ON, timing=Timing(at=NOW + HOUR, missed=missed, grace_s=60))
    one.tick(NOW + HOUR + timedelta(seconds=60))

    assert one.enabled()


def test_a_clock_that_is_set_back(one: Shop) -> None:
    """What was executed is not executed again."""
    id = one.new(ON, timing=Timing(recurrence=every_hour()))
    one.tick(NOW + HOUR)
    put(one.engine, OFF)
    one.tick(NOW + timedelta(minutes=30))
    one.tick(NOW + HOUR)

    assert (False, 1) == (one.enabled(), len(one.outcomes(id)))


@pytest.mark.parametrize(
    ("meanwhile", "kind"),
    [
        (lambda shop: put(shop.engine, RemoveFlag("checkout")), ConflictKind.DEPENDENCY_MISSING),
        (lambda shop: put(shop.engine, ArchiveFlag("checkout", NOW)), ConflictKind.REFUSED),
        (lambda shop: shop.gone.update(ann=Principal("ann")), ConflictKind.NOT_ALLOWED),
        (
            lambda shop: put(shop.engine, UpdateEnvironment(approval_policy=ApprovalPolicy(approvals=1))),
            ConflictKind.APPROVAL_MISSING,
        ),
        (
            lambda shop: put(
                shop.engine, UpdateEnvironment(freeze_windows=(FreezeWindow(NOW, NOW + 9 * HOUR, "Holidays"),))
            ),
            ConflictKind.FROZEN,
        ),
    ],
)
def test_what_is_in_the_way(one: Shop, meanwhile: object, kind: ConflictKind) -> None:
    """It is noted and told, nothing happens to the flag, and it is not tried again by itself."""
    assert callable(meanwhile)
    id = one.new(ON)
    meanwhile(one)
    for _ in range(2):
        one.tick(NOW + HOUR)
    progress = one.progress(id)

    assert (State.CONFLICTED, [kind]) == (progress.state, [each.kind for each in progress.conflicts])
    assert [(Happening.CONFLICTED, [kind])] == [
        (each.happening, [conflict.kind for conflict in each.conflicts]) for each in one.outcomes(id)
    ]
    assert "schedule.conflicted" == one.entries()[0].action
    assert None is one.wakes_at()


def test_only_if_unchanged(one: Shop) -> None:
    """A change by hand is a conflict then; without it, typed edits go together."""
    pinned = one.new(ON, only_if_unchanged=True)
    put(one.engine, PutFlag(flag(enabled=False, description="changed")))
    one.tick(NOW + HOUR)

    assert (False, [ConflictKind.VERSION_MISMATCH]) == (
        one.enabled(),
        [each.kind for each in one.progress(pinned).conflicts],
    )
    one.new(ON, at=NOW + 2 * HOUR)
    put(one.engine, PutFlag(flag(enabled=False, description="changed again")))
    one.tick(NOW + 2 * HOUR)

    document = stored(one.engine).flags["checkout"]
    assert document is not None
    assert (True, "changed again") == (one.enabled(), document["description"])


def test_two_for_the_same_instant(one: Shop) -> None:
    """The first wins, and the other one says who did, also when both were kept in spite of it."""
    first = one.new(ON)
    second = one.new(OFF, accept_conflicts=True, now=NOW + SECOND)
    one.tick(NOW + HOUR)

    assert (True, State.DONE, State.CONFLICTED) == (one.enabled(), one.state(first), one.state(second))
    assert [(ConflictKind.OVERLAP, first)] == [(each.kind, each.other) for each in one.progress(second).conflicts]


def test_one_in_conflict_beside_others(shop: Shop) -> None:
    """Those that share its transaction are made all the same, once, and in their order."""
    keys = [f"f{number}" for number in range(3)]
    put(shop.engine, *(PutFlag(flag(key, enabled=False)) for key in keys))
    ids = [shop.new(type(ON)(key, True), now=NOW + number * SECOND) for number, key in enumerate(keys)]
    put(shop.engine, RemoveFlag("f1"))
    before = stored(shop.engine).revision
    shop.tick(NOW + HOUR)

    assert [State.DONE, State.CONFLICTED, State.DONE] == [shop.state(id) for id in ids]
    assert before + 2 == stored(shop.engine).revision
    flags = [each for each in shop.entries("flag") if each.actor.startswith("schedule:")]
    assert [("f2", before + 2), ("f0", before + 1)] == [(each.subject_key, each.revision) for each in flags]


def test_approvals_of_its_own(one: Shop) -> None:
    """Counted when it is due; another time drops them."""
    put(one.engine, UpdateEnvironment(approval_policy=ApprovalPolicy(approvals=1)))
    id, moved = one.new(ON), one.new(SetDefault("checkout", "on"))
    for each in (id, moved):
        one.deciding.approve(ask(APPROVER), project="shop", id=each, text="fine")
    later = Plan(timing=Timing(at=NOW + 2 * HOUR))
    one.making.update(ask(EDITOR), project="shop", id=moved, plan=later)
    one.tick(NOW + 2 * HOUR)

    assert (True, State.DONE, State.CONFLICTED) == (one.enabled(), one.state(id), one.state(moved))


def test_a_kill_waits_for_nobody(one: Shop) -> None:
    """Neither for approvals nor for a freeze; turning a flag off is all it does."""
    put(one.engine, PutFlag(flag(enabled=True)))
    id = one.new(OFF)
    put(one.engine, UpdateEnvironment(approval_policy=ApprovalPolicy(approvals=1)))
    put(one.engine, UpdateEnvironment(freeze_windows=(FreezeWindow(NOW, NOW + 9 * HOUR, "Holidays"),)))
    one.tick(NOW + HOUR)

    assert (False, State.DONE) == (one.enabled(), one.state(id))


def test_it_is_announced_before(one: Shop) -> None:
    """Once for each instant."""
    id = one.new(ON, timing=Timing(at=NOW + HOUR, remind_s=600))
    soon = NOW + timedelta(minutes=50)
    assert soon == one.wakes_at()
    assert [1, 0] == [one.tick(soon), one.tick(soon + SECOND)]
    entry = one.entries()[0]

    assert ("schedule.due_soon", id, NOW + HOUR) == (entry.action, entry.subject_key, one.wakes_at())
    assert not one.enabled()


def test_an_archive_at_a_time_is_dated_then(one: Shop) -> None:
    """Not when somebody scheduled it."""
    one.new(ArchiveFlag("checkout", NOW))
    one.tick(NOW + HOUR)
    document = stored(one.engine).flags["checkout"]

    assert document is not None
    assert str(document["archivedAt"]).startswith("2026-01-01T13:00")


def test_one_that_cannot_be_read_holds_nobody_up(one: Shop) -> None:
    """It is looked at again an hour later."""
    damaged, sound = one.new(ON), one.new(SetDefault("checkout", "on"))
    with behind_our_back(one.engine) as outside:
        outside.execute("UPDATE schedule SET progress = '{' WHERE id = ?", (damaged,))
    one.tick(NOW + HOUR)

    assert (State.DONE, NOW + 2 * HOUR) == (one.state(sound), one.wakes_at())


def test_a_person_runs_it_early(one: Shop) -> None:
    """In their own name; then it is done, or a recurrence goes on as before."""
    id, again = one.new(ON), one.new(SetDefault("checkout", "on"), timing=Timing(recurrence=every_hour()))
    for each in (id, again):
        one.deciding.run(ask(EDITOR, now=NOW + SECOND), project="shop", id=each)
    entry = one.entries("flag")[0]

    assert (True, State.DONE, State.PENDING) == (one.enabled(), one.state(id), one.state(again))
    assert ("ann", NOW + HOUR) == (entry.actor, one.progress(again).due_at)
