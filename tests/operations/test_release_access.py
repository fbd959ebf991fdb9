"""Who may move a release, who must agree, and who is kept from its flags."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from server.core.access import Grant, Principal, Role
from server.core.edits import RemoveRule, SetEnabled
from server.core.errors import Conflict, PermissionDenied, Refused, Stale
from server.core.releases.plan import Check, Gates, Plan
from server.core.releases.progress import Act, State
from server.operations.releases.moving import running_on
from server.operations.writes import Outcome
from server.store.commit import Part
from server.store.engine import reading
from tests.operations.protected import APPROVER, EDITOR, FIREFIGHTER, OPERATOR, OTHER, READER, ask
from tests.operations.releasing import HOUR, PLAN, Yard, open_yard, share
from tests.store.definitions import put


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    """Both environments have a flag whose rule lets nobody in yet."""
    yield from open_yard(tmp_path)


def test_a_lock_keeps_others_out(yard: Yard) -> None:
    """All but itself, a kill, and who may bypass it with a reason; until it ends."""
    id = yard.started(replace(PLAN, locks=True))
    off, edit = SetEnabled("checkout", False), RemoveRule("checkout", "beta")
    with pytest.raises(Refused, match=f"release {id} runs on flag 'checkout'"):
        put(yard.engine, edit)
    writer = yard.releases.writer
    with pytest.raises(Refused, match="runs on flag"):
        writer.write("shop", [Part("production", [edit])], ask(FIREFIGHTER, bypass_approval=True))
    bypass = ask(FIREFIGHTER, bypass_approval=True, reason="burns", dry_run=True)
    assert Outcome.WOULD_APPLY is writer.write("shop", [Part("production", [edit])], bypass).outcome
    with pytest.raises(Refused, match="runs on flag"):
        writer.write("shop", [Part("production", [edit])], ask(EDITOR, bypass_approval=True, reason="mine"))
    yard.pass_time(HOUR)
    put(yard.engine, off)
    yard.do(id, Act.ABORT)
    put(yard.engine, edit)

    assert () == yard.flag().config.rules


def test_a_flag_is_moved_by_one_at_a_time(yard: Yard) -> None:
    """A second release of the flag does not start, and says why; it can when the first has ended."""
    first, second = yard.started(), yard.create()
    with pytest.raises(Refused, match=f"release {first} moves flag"):
        yard.do(second, Act.START)
    with reading(yard.engine) as connection:
        assert first == running_on(connection, "shop", "production", "checkout")
        assert "" == running_on(connection, "shop", "staging", "checkout")
    yard.do(first, Act.ROLL_BACK)
    yard.do(second, Act.START)
    with pytest.raises(Refused, match=f"release {second} moves flag"):
        yard.do(first, Act.ROLL_BACK)


def test_a_protected_environment_asks_before_the_start(yard: Yard) -> None:
    """It waits for approvals of its own, starts with the last of them, and goes on without further ones."""
    yard.protect(approvals=2)
    id = yard.create()
    yard.do(id, Act.START)
    assert (State.AWAITING_START, 0) == (yard.state(id), yard.percent())
    with pytest.raises(Refused, match="own approval does not count"):
        yard.do(id, Act.APPROVE, Principal("ann", (Grant(Role.APPROVE),)))
    yard.do(id, Act.APPROVE, APPROVER)
    assert State.AWAITING_START is yard.state(id)
    yard.do(id, Act.APPROVE, OTHER)
    yard.pass_time(HOUR)

    assert (State.RUNNING, 10) == (yard.state(id), yard.percent())


def test_other_content_needs_other_approvals(yard: Yard) -> None:
    """Who agreed to one plan did not agree to another; after the start there is no other plan."""
    yard.protect(approvals=1)
    id = yard.create()
    yard.do(id, Act.APPROVE, APPROVER)
    other = Plan("Checkout", (share(50), share(100)))
    yard.releases.revise(ask(EDITOR), project="shop", id=id, plan=other)
    yard.do(id, Act.START)
    assert State.AWAITING_START is yard.state(id)
    yard.do(id, Act.APPROVE, APPROVER)

    assert 50 == yard.percent()
    with pytest.raises(Refused, match="running cannot be revised"):
        yard.releases.revise(ask(EDITOR), project="shop", id=id, plan=other)


def test_who_has_lost_the_right_moves_nothing_more(yard: Yard) -> None:
    """It is told once and tried again; a roll-back needs no such right."""
    gates = Gates(minimum_s=3600, checks=(Check("errors"),))
    id = yard.started(Plan("p", (share(1), share(10, gates), share(100, gates))))
    yard.gone["ann"] = Principal("ann")
    for minutes in (60, 61, 62):
        yard.pass_time(timedelta(minutes=minutes))
    blocked = yard.stored(id).release.progress.blocked

    assert (1, 1) == (yard.percent(), yard.told().count("release.blocked"))
    assert "ann may not edit" in blocked
    del yard.gone["ann"]
    yard.pass_time(timedelta(minutes=63))
    assert (10, "") == (yard.percent(), yard.stored(id).release.progress.blocked)


@pytest.mark.parametrize(
    ("act", "by", "allowed"),
    [
        (Act.START, EDITOR, True),
        (Act.START, READER, False),
        (Act.START, OPERATOR, False),
        (Act.START, APPROVER, False),
        (Act.ABORT, OPERATOR, False),
        (Act.APPROVE, READER, False),
        (Act.APPROVE, EDITOR, False),
    ],
)
def test_who_may_do_what(yard: Yard, act: Act, by: Principal, allowed: bool) -> None:
    """To move it takes the right to edit, to agree that to approve."""
    id = yard.create()
    if allowed:
        yard.do(id, act, by)
        return
    with pytest.raises(PermissionDenied):
        yard.do(id, act, by)


@pytest.mark.parametrize("act", [Act.PAUSE, Act.HOLD, Act.ROLL_BACK])
def test_who_may_kill_may_stop(yard: Yard, act: Act) -> None:
    """An operator stops a release and takes it back, and drives it no further."""
    id = yard.started()
    yard.do(id, act, OPERATOR)
    with pytest.raises(PermissionDenied):
        yard.do(id, Act.ADVANCE, OPERATOR)


def test_a_call_that_is_sent_again(yard: Yard) -> None:
    """Happens once; under the id of something else it is refused; and nothing stale is taken."""
    id = yard.create(request_id="c1")
    assert id == yard.create(request_id="c1")
    for _ in range(2):
        yard.do(id, Act.START, request_id="s1")
    with pytest.raises(Conflict):
        yard.do(id, Act.PAUSE, request_id="s1")
    with pytest.raises(Stale, match="version 2, expected 1"):
        yard.do(id, Act.PAUSE, expected_version=1)

    assert 1 == yard.told().count("release.started")
