"""Launch plans do what they are to do at its time, once, as one commit each."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from server.core.access import Grant, Principal, Role
from server.core.changes import PutFlag, RemoveFlag, UpdateEnvironment
from server.core.edits import SetDefault, SetEnabled
from server.core.environments import ApprovalPolicy, FreezeWindow
from server.core.launch_plans.machine import State
from server.core.launch_plans.plan import Check, Missed, Moved, Outside
from server.operations.launch_plans.ahead import look_ahead, still_foreseen
from server.operations.launch_plans.foresight import ConflictKind
from server.operations.launch_plans.running import LOOK_AGAIN, Running
from server.scheduling.launch_plans import DueLaunchPlans
from server.store.engine import reading, writing
from server.store.launch_plans import first_plan_at
from server.store.locks import take_locks
from tests.announced import check_announced
from tests.operations.launch_plans.planned import (
    APPROVER,
    EDITOR,
    LAUNCH,
    begun,
    carry_on,
    fill,
    happened,
    item,
    launch,
    look,
    make,
    plans,
    served,
    told,
    usual,
    write,
    writer,
)
from tests.store.definitions import KINDS, NOW, another, at, behind_our_back, database, flag, put, stored

DAY = timedelta(days=1)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Engine]:
    """A shop with flags in SQLite."""
    with database(tmp_path, "sqlite", shop=True) as engine:
        fill(engine)
        yield engine
        check_announced(engine)


@pytest.fixture(params=KINDS)
def shops(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """A shop with flags, in a database of each kind."""
    with database(tmp_path, request.param, shop=True) as engine:
        fill(engine)
        yield engine
        check_announced(engine)


def _next_at(engine: Engine) -> object:
    with reading(engine) as connection:
        return first_plan_at(connection)


def test_it_goes_on_by_itself_to_its_end(shops: Engine) -> None:
    """Each instant is one commit a place, nothing is early, and everything is told."""
    id = begun(shops, usual())
    revision = at(shops).revision
    assert LAUNCH - 7 * DAY == _next_at(shops)
    carry_on(shops, LAUNCH - 7 * DAY - timedelta(microseconds=1))
    assert (True, "off") == served(shops, environment="staging")
    carry_on(shops, LAUNCH - 7 * DAY)
    assert [(True, "on"), (True, "off")] == [served(shops, environment=each) for each in ("staging", "production")]
    carry_on(shops, LAUNCH)
    assert [(True, "on"), (False, "off")] == [served(shops, each) for each in ("new-ui", "banner")]
    assert revision + 1 == at(shops).revision
    carry_on(shops, LAUNCH + 14 * DAY)
    detail = look(shops, id)

    assert (State.COMPLETED, None) == (detail.stored.progress.state, _next_at(shops))
    assert (False, "on") == served(shops)
    assert ["created", "started", "executed", "executed", "executed", "completed"] == happened(shops, id)
    cause = f"plan:{id}@{LAUNCH.isoformat()}"
    assert [
        ("flag.updated", f"plan:{id}", cause), ("flag.updated", f"plan:{id}", cause),
        ("plan.executed", f"plan:{id}", cause),
    ] == [each for each in told(shops) if each[2] == cause]  # fmt: skip
    assert {"production": revision + 1} == detail.stored.progress.done[1].revisions


def test_many_processes_do_each_instant_once(shops: Engine) -> None:
    """Each has connections of its own, and all find it due at once."""
    ids = [begun(shops, launch(item("a", "T-0", SetDefault("banner", "on")), item("b", "T+1h"))) for _ in range(3)]
    engines = [another(shops) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda engine: Running(writer(engine)).carry_on(LAUNCH), engines))
        list(threads.map(lambda engine: Running(writer(engine)).carry_on(LAUNCH + DAY / 24), engines))
    for engine in engines:
        engine.dispose()

    assert [["created", "started", "executed", "executed", "completed"]] * 3 == [happened(shops, id) for id in ids]


def test_one_that_cannot_be_done_takes_nothing_with_it(shops: Engine) -> None:
    """The whole instant is taken back, the plan is held with the reason, and other plans go on."""
    broken = begun(shops, launch(item("a", "T-0"), item("gone", "T-0", SetEnabled("banner", False))))
    sound = begun(shops, launch(item("b", "T-0", SetDefault("new-ui", "on"), environment="staging")))
    put(shops, RemoveFlag("banner"))
    carry_on(shops, LAUNCH)
    detail = look(shops, broken)

    assert [State.HELD, State.COMPLETED] == [look(shops, id).stored.progress.state for id in (broken, sound)]
    assert (True, "off") == served(shops)
    assert "conflicted" == happened(shops, broken)[-1]
    assert "banner" in detail.stored.progress.note
    assert ["missing"] == [each.kind for each in detail.foresight.conflicts if each.items == ("a", "gone")]


def test_a_held_plan_goes_on_when_somebody_says_so(shop: Engine) -> None:
    """What became due meanwhile is done at once; what was skipped is not."""
    id = begun(shop, usual())
    plans(shop).hold(write(), project="shop", id=id)
    carry_on(shop, LAUNCH + DAY)
    assert (True, "off") == served(shop)
    later = write(EDITOR, LAUNCH + DAY)
    plans(shop).skip(later, project="shop", id=id, items=["try"])
    plans(shop).resume(later, project="shop", id=id)
    carry_on(shop, LAUNCH + DAY)

    assert [(True, "on"), (True, "off")] == [served(shop, environment=each) for each in ("production", "staging")]
    assert ["created", "started", "held", "skipped", "resumed", "executed"] == happened(shop, id)


@pytest.mark.parametrize(
    ("missed", "happens"),
    [
        (Missed.HOLD, ["missed"]),
        (Missed.RUN, ["executed", "completed"]),
        (Missed.SKIP, ["skipped", "completed"]),
    ],
)
def test_after_a_long_silence(shop: Engine, missed: Missed, happens: list[str]) -> None:
    """No server ran at its time: it is held, done or left out, as the plan says."""
    id = begun(shop, launch(item("go", "T-0"), missed=missed))
    carry_on(shop, LAUNCH + 2 * DAY)

    assert ["created", "started", *happens] == happened(shop, id)


def test_without_a_go_it_waits(shop: Engine) -> None:
    """Only who is named may give it; a no holds what is under way."""
    id = begun(shop, usual(checks=(Check("legal", "Legal agrees", ("token:bob",)),)))
    carry_on(shop, LAUNCH - 7 * DAY)
    carry_on(shop, LAUNCH)
    assert ["created", "started", "executed", "held"] == happened(shop, id)
    assert "needs a go for 'legal'" in look(shop, id).stored.progress.note
    plans(shop).answer(write(APPROVER, LAUNCH), project="shop", id=id, check="legal", go=True, text="")
    plans(shop).resume(write(EDITOR, LAUNCH), project="shop", id=id)
    carry_on(shop, LAUNCH)
    assert (True, "on") == served(shop)
    plans(shop).answer(write(APPROVER, LAUNCH), project="shop", id=id, check="legal", go=False, text="A lawsuit")

    assert (State.HELD, "A lawsuit") == (look(shop, id).stored.progress.state, look(shop, id).stored.progress.note)


def test_approvals_are_asked_for_when_it_is_done(shop: Engine) -> None:
    """One that lacks them is held; with them it goes on, unless somebody has changed the flag since."""
    put(shop, UpdateEnvironment(approval_policy=ApprovalPolicy(approvals=1)))
    id = begun(shop, launch(item("go", "T-0"), item("more", "T+1d", SetDefault("banner", "on"))))
    assert ["approval"] * 2 == [each.kind for each in look(shop, id).foresight.conflicts]
    carry_on(shop, LAUNCH)
    assert "asks for 1 approval" in look(shop, id).stored.progress.note
    plans(shop).approve(write(APPROVER), project="shop", id=id, text="Yes")
    plans(shop).resume(write(EDITOR, LAUNCH), project="shop", id=id)
    carry_on(shop, LAUNCH)
    assert (True, "on") == served(shop)
    put(shop, PutFlag(flag("banner", description="changed")))
    carry_on(shop, LAUNCH + DAY)

    assert "was for what there was before: flag 'banner'" in look(shop, id).stored.progress.note
    resumed = plans(shop).resume(write(EDITOR, LAUNCH + DAY), project="shop", id=id)
    assert () == resumed.stored.progress.approvals


@pytest.mark.parametrize(("moved", "state"), [(Moved.REPORT, State.COMPLETED), (Moved.HOLD, State.HELD)])
def test_what_others_changed_meanwhile(shop: Engine, moved: Moved, state: State) -> None:
    """It is told beforehand, and holds the plan where that is wanted; a resumed one takes it as it is."""
    id = begun(shop, launch(item("go", "T-0"), moved=moved, remind_before_s=3_600))
    put(shop, PutFlag(flag("new-ui", description="changed")))
    carry_on(shop, LAUNCH - timedelta(hours=1))
    reminder = look(shop, id).steps[-1]
    assert ("due-soon", ("go",)) == (reminder.happening.value, reminder.items)
    assert "flag 'new-ui' in 'production' had version" in reminder.text
    carry_on(shop, LAUNCH)
    assert state is look(shop, id).stored.progress.state
    if state is State.HELD:
        plans(shop).resume(write(EDITOR, LAUNCH), project="shop", id=id)
        carry_on(shop, LAUNCH)

    assert (True, "on") == served(shop)


def test_a_frozen_environment_has_it_wait(shop: Engine) -> None:
    """It is done at the end of the window, or as soon as that is taken away."""
    id = begun(shop, launch(item("go", "T-0")))
    put(shop, UpdateEnvironment(freeze_windows=(FreezeWindow(LAUNCH - DAY, LAUNCH + DAY, "Audit"),)))
    assert [LAUNCH + DAY] == [each.at for each in look(shop, id).foresight.slots]
    carry_on(shop, LAUNCH)
    assert LAUNCH + LOOK_AGAIN == _next_at(shop)
    put(shop, UpdateEnvironment(freeze_windows=()))
    carry_on(shop, LAUNCH + LOOK_AGAIN)

    assert (True, "on") == served(shop)


def test_a_frozen_environment_refuses_what_is_only_reported(shop: Engine) -> None:
    """The plan is held and says why."""
    id = begun(shop, launch(item("go", "T-0"), outside=Outside.REPORT))
    put(shop, UpdateEnvironment(freeze_windows=(FreezeWindow(LAUNCH - DAY, LAUNCH + DAY, "Audit"),)))
    assert {"frozen", "outside"} == {each.kind for each in look(shop, id).foresight.conflicts}
    carry_on(shop, LAUNCH)

    assert "is frozen until" in look(shop, id).stored.progress.note


def test_rights_are_asked_for_when_it_is_done(shop: Engine) -> None:
    """Who lost theirs loses the plan's effect, and it is told."""
    gone = {EDITOR.actor: Principal(EDITOR.actor, (Grant(Role.READ),))}
    id = begun(shop, launch(item("go", "T-0")))
    assert [] == Running(writer(shop, gone.get)).carry_on(LAUNCH)

    assert "token:ed may not edit in shop/production" in look(shop, id).stored.progress.note


def test_a_damaged_row_is_set_aside(shop: Engine) -> None:
    """It is told, and not tried again and again."""
    id = begun(shop, launch(item("go", "T-0")))
    with behind_our_back(shop) as outside:
        outside.execute("UPDATE launch_plan SET plan = '{}' WHERE id = ?", (id,))
    due = DueLaunchPlans(Running(writer(shop)))
    due.carry_on(LAUNCH)

    with reading(shop) as connection:
        assert due.next_at(connection) is None


def test_what_it_would_do_is_told_beforehand(shop: Engine) -> None:
    """Each instant on top of those before, with the definitions then; nothing is changed by looking."""
    id = make(shop, usual())
    before = at(shop).revision
    seen = look(shop, id).foresight.foreseen

    assert [("try",), ("go", "banner"), ("end",)] == [each.items for each in seen]
    assert ["flag new-ui: default off -> on", "flag banner: state on -> off"] == list(seen[1].lines["production"])
    assert ["flag new-ui: state on -> off"] == list(seen[2].lines["production"])
    last = seen[2].documents["production"]["new-ui"]
    assert isinstance(last, dict)
    assert "on" == last["default"]
    assert before == at(shop).revision
    assert replace(seen[0], at=NOW).documents["staging"].keys() == stored(shop, "staging").flags.keys()


def test_a_release_that_has_its_flag_to_itself_holds_the_plan(shop: Engine) -> None:
    """The plan was started all the same: the release might have been over by then."""
    with writing(shop) as connection:
        take_locks(connection, "shop", subjects=[("production", "new-ui")], holder="release:rl_1", locks=True)
    id = begun(shop, launch(item("go", "T-0")))
    carry_on(shop, LAUNCH)

    assert "release rl_1 runs on flag 'new-ui'" in look(shop, id).stored.progress.note


def test_looking_waits_for_nobody(shops: Engine) -> None:
    """A plan is shown, with all that it will come to, while somebody else has the project's turn."""
    id = make(shops, usual())
    with writing(shops, about="project/shop"):
        foresight = look(shops, id).foresight

    assert [("try",), ("go", "banner"), ("end",)] == [each.items for each in foresight.foreseen]


def test_what_was_looked_at_beforehand(shops: Engine) -> None:
    """It is taken in the turn while nothing has moved that the plan touches, and looked at anew where something has."""
    looking = plans(shops)
    seen = looking.look(EDITOR, look(shops, make(shops, usual())).stored, NOW)
    ahead = look_ahead(shops, seen)
    put(shops, PutFlag(flag("another")))
    with writing(shops, about="project/shop") as connection:
        assert ahead.foresight is still_foreseen(connection, seen, ahead)
        other = replace(seen, now=NOW + DAY)
        assert ahead.foresight is not still_foreseen(connection, other, ahead)
    put(shops, RemoveFlag("new-ui"))
    with writing(shops, about="project/shop") as connection:
        anew = still_foreseen(connection, seen, ahead)

    assert {ConflictKind.MISSING, ConflictKind.MOVED} <= {each.kind for each in anew.conflicts}
