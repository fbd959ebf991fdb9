"""Items of launch plans that start a release: in the preview, in the conflicts, and when their time has come."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from server.core.access import Action, Grant, Principal, Role
from server.core.change_requests.codec import Content
from server.core.changes import PutFlag, UpdateEnvironment
from server.core.edits import SetEnabled, SetOffVariant
from server.core.environments import FreezeWindow
from server.core.errors import InvalidDefinition, NotFound, PermissionDenied, Refused
from server.core.launch_plans.machine import State
from server.core.launch_plans.plan import Item, Outside, Starts, read_plan, write_plan
from server.core.releases.plan import Plan
from server.core.releases.progress import Act
from server.core.releases.progress import State as ReleaseState
from server.operations.launch_plans.foresight import ConflictKind
from tests.operations.launch_plans.planned import (
    APPROVER,
    EDITOR,
    LAUNCH,
    begun,
    carry_on,
    item,
    launch,
    look,
    make,
    plans,
    told,
    write,
)
from tests.operations.releasing import PLAN, RULE, Yard, open_yard, share
from tests.store.definitions import flag, put


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    """Both environments have a flag whose rule lets nobody in yet."""
    yield from open_yard(tmp_path)


def start(release: str, offset: str = "T-0", id: str = "go") -> Item:
    """An item that starts a release."""
    return Item(id, offset, Content(()), Action.EDIT, starts=Starts(release))


def conflicts(engine: Engine, id: str) -> list[tuple[ConflictKind, str]]:
    """What stands in a plan's way."""
    return [(each.kind, each.message) for each in look(engine, id).foresight.conflicts]


def test_it_starts_at_its_time(yard: Yard) -> None:
    """After the changes of its instant, in the plan's name and with it as the cause; from then on it goes by itself."""
    release = yard.create()
    id = begun(yard.engine, launch(start(release), item("say", "T-0", SetOffVariant("checkout", "off"))))
    carry_on(yard.engine, LAUNCH - timedelta(seconds=1))
    assert ReleaseState.CREATED is yard.state(release)
    carry_on(yard.engine, LAUNCH)

    assert (ReleaseState.RUNNING, 1) == (yard.state(release), yard.percent())
    assert State.COMPLETED is look(yard.engine, id).stored.progress.state
    happened = [each for each in told(yard.engine) if each[0] in ("flag.updated", "release.started", "plan.executed")]
    by, because = f"plan:{id}", f"plan:{id}@{LAUNCH.isoformat()}"
    flags = [("flag.updated", by, because)] * 2
    assert [*flags, ("release.started", by, because), ("plan.executed", by, because)] == happened
    yard.pass_time(LAUNCH + timedelta(hours=1) - yard.stored(release).created_at)
    assert 10 == yard.percent()


def test_it_is_seen_beforehand(yard: Yard) -> None:
    """What the flag will be then and after, and what of that the release moves; nothing is left of trying."""
    release = yard.create(replace(PLAN, locks=True))
    after = item("off", "T+1d", SetEnabled("checkout", False))
    id = make(yard.engine, launch(start(release), after))
    foresight = look(yard.engine, id).foresight

    first, second = foresight.foreseen
    assert ["flag checkout: share of rule beta 0 % -> 1 %"] == list(first.lines["production"])
    assert 1 == first.documents["production"]["checkout"]["rules"][0]["share"]["percent"]
    assert 1 == second.documents["production"]["checkout"]["rules"][0]["share"]["percent"]
    found = conflicts(yard.engine, id)
    words = f"flag 'checkout' in 'production' is moved by release {release} from item 'go' on, which refuses other"
    assert [ConflictKind.OVERLAP] == [kind for kind, message in found if words in message]
    assert (ReleaseState.CREATED, 0, ["release.created"]) == (yard.state(release), yard.percent(), yard.told())


def test_one_that_cannot_begin_holds_the_plan(yard: Yard) -> None:
    """With the reason, and what else was due at that instant is taken back; it goes on when somebody has seen to it."""
    put(yard.engine, PutFlag(flag("banner")))
    release, other = yard.create(), yard.create()
    id = begun(yard.engine, launch(start(release), item("banner", "T-0", SetEnabled("banner", False))))
    yard.do(other, Act.START)
    assert any(kind is ConflictKind.INVALID and other in text for kind, text in conflicts(yard.engine, id))
    carry_on(yard.engine, LAUNCH)
    stored = look(yard.engine, id).stored

    assert (State.HELD, True) == (stored.progress.state, yard.flag("banner").is_on)
    assert f"{other} moves flag 'checkout' in 'production' already" in stored.progress.note
    assert ReleaseState.CREATED is yard.state(release)
    yard.do(other, Act.ABORT)
    plans(yard.engine).resume(write(EDITOR, LAUNCH), project="shop", id=id)
    carry_on(yard.engine, LAUNCH)
    assert (ReleaseState.RUNNING, False) == (yard.state(release), yard.flag("banner").is_on)


def test_one_that_was_started_before(yard: Yard) -> None:
    """By hand, meanwhile: a plan is not started with it, and says so."""
    release = yard.create()
    id = make(yard.engine, launch(start(release)))
    yard.do(release, Act.START)

    with pytest.raises(Refused, match="the release is running; it was started before"):
        plans(yard.engine).start(write(EDITOR), project="shop", id=id)


def test_approvals_are_the_releases_own(yard: Yard) -> None:
    """Told beforehand; without them at that time the plan is held, with them it begins."""
    yard.protect(approvals=1)
    release = yard.create()
    id = begun(yard.engine, launch(start(release)))
    assert [ConflictKind.APPROVAL] == [kind for kind, _ in conflicts(yard.engine, id)]
    carry_on(yard.engine, LAUNCH)
    assert "cannot start yet" in look(yard.engine, id).stored.progress.note
    yard.do(release, Act.APPROVE, APPROVER)
    plans(yard.engine).resume(write(EDITOR, LAUNCH), project="shop", id=id)
    carry_on(yard.engine, LAUNCH)

    assert ReleaseState.RUNNING is yard.state(release)


def test_a_frozen_environment(yard: Yard) -> None:
    """A freeze moves the item, or is told where nothing is moved."""
    window = FreezeWindow(LAUNCH - timedelta(hours=1), LAUNCH + timedelta(hours=1), "Holidays")
    put(yard.engine, UpdateEnvironment(freeze_windows=(window,)))
    release = yard.create()
    moved = plans(yard.engine).create(write(EDITOR), project="shop", plan=launch(start(release)))
    stays = plans(yard.engine).create(
        write(EDITOR), project="shop", plan=launch(start(release), outside=Outside.REPORT)
    )

    assert [window.ends_at] == [slot.at for slot in moved.foresight.slots]
    assert ConflictKind.FROZEN in {each.kind for each in stays.foresight.conflicts}


@pytest.mark.parametrize(
    ("items", "error", "words"),
    [
        ((start("rel_none"),), NotFound, "rel_none"),
        ((replace(item("a", "T-0"), starts=Starts("rel_a")),), InvalidDefinition, "make an item of each"),
        ((Item("a", "T-0", Content(()), Action.EDIT),), InvalidDefinition, "starts no release"),
        (
            (start("rel_a"), start("rel_a", "T+1d", "b")),
            InvalidDefinition,
            "/items/1/start_release: 'rel_a' is started",
        ),
    ],
)
def test_what_cannot_be_started(yard: Yard, items: tuple[Item, ...], error: type[Exception], words: str) -> None:
    """It is refused when the plan is made, and names what is wrong."""
    with pytest.raises(error, match=words):
        make(yard.engine, launch(*items))


def test_it_takes_the_right_to_edit_what_it_moves(yard: Yard) -> None:
    """Where the release goes, and not only where the plan changes something itself."""
    release = yard.create(Plan("p", (share(5, environment="staging"),)))
    elsewhere = Principal("token:ed", (Grant(Role.EDIT, "shop", "production"),))

    with pytest.raises(PermissionDenied, match="shop/staging"):
        make(yard.engine, launch(start(release)), elsewhere)


def test_overlaps_are_told_to_others(yard: Yard) -> None:
    """Another plan about the flag that the release moves."""
    put(yard.engine, PutFlag(flag(rules=[RULE])))
    first = begun(yard.engine, launch(start(yard.create())))
    second = make(yard.engine, launch(item("off", "T-0", SetEnabled("checkout", False))))

    assert any(f"launch plan {first}" in text for _, text in conflicts(yard.engine, second))


def test_plans_of_old_are_read() -> None:
    """Those that were stored before releases could be started, and those that start one."""
    plan = launch(item("a", "T-0"), replace(start("rel_a"), starts=Starts("rel_a", (("production", "checkout"),))))
    data = write_plan(plan)
    assert plan == read_plan(data)
    del data["items"][0]["starts"]

    assert plan == read_plan(data)
