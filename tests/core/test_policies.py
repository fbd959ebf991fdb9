"""Freezes and approvals: what is in the way of a change, and for whom."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from server.core.access import Grant, Principal, Role, Scope
from server.core.environments import ApprovalPolicy, Covered, Environment, FreezeWindow
from server.core.events import EnvironmentUpdated, Event, FlagCreated, FlagUpdated, SegmentCreated
from server.core.flags import Flag, FlagConfig, FlagDefinition, ValueType
from server.core.policies import Asking, counts_as_approver, freeze_problem, is_kill, needs_approval
from server.core.segments import Segment

NOON = datetime(2026, 12, 24, 12, tzinfo=UTC)
WINDOW = FreezeWindow(NOON - timedelta(hours=1), NOON + timedelta(hours=1), "Holidays")
HERE = Environment("shop", "production")
FROZEN = replace(HERE, freeze_windows=(WINDOW,))
ANN = Principal("oidc:ann", (Grant(Role.EDIT, "shop"),))
ON = FlagDefinition(Flag("a", ValueType.BOOLEAN, {"on": True, "off": False}), FlagConfig(default="on"))
OFF = replace(ON, config=replace(ON.config, enabled=False))
CREATED = FlagCreated("a", ON)
KILLED = FlagUpdated("a", ON, OFF)
REVIVED = FlagUpdated("a", OFF, ON)


def with_windows(*windows: FreezeWindow) -> Environment:
    """The environment with these windows alone."""
    return replace(HERE, freeze_windows=windows)


def test_a_freeze_says_which_window_and_until_when() -> None:
    """Whoever is stopped knows why, when it ends, and what else there is."""
    problem = freeze_problem(FROZEN, [CREATED], Asking(ANN, NOON))

    assert "'shop/production' is frozen until 2026-12-24 13:00 UTC: Holidays; wait" in problem


@pytest.mark.parametrize(("minutes", "is_frozen"), [(-61, False), (-60, True), (59, True), (60, False)])
def test_a_window_begins_at_its_start_and_ends_before_its_end(minutes: int, is_frozen: bool) -> None:
    """Two windows that meet leave no gap and no overlap."""
    assert is_frozen is bool(freeze_problem(FROZEN, [CREATED], Asking(ANN, NOON + timedelta(minutes=minutes))))


def test_of_several_windows_the_longest_is_told() -> None:
    """It says when the change can really be made."""
    longer = replace(WINDOW, ends_at=NOON + timedelta(days=2), reason="Audit")

    assert "until 2026-12-26 12:00 UTC: Audit" in freeze_problem(
        with_windows(WINDOW, longer), [CREATED], Asking(ANN, NOON)
    )


@pytest.mark.parametrize(
    ("events", "passes"),
    [
        ([KILLED], True),
        ([KILLED, CREATED], False),
        ([REVIVED], False),
        ([FlagUpdated("a", ON, replace(OFF, config=replace(OFF.config, default="off")))], False),
        ([FlagUpdated("a", OFF, OFF)], False),
        ([SegmentCreated("s", Segment("s", True))], False),
        ([EnvironmentUpdated("production", FROZEN, with_windows(WINDOW, replace(WINDOW, reason="More")))], True),
        ([EnvironmentUpdated("production", FROZEN, HERE)], False),
        ([EnvironmentUpdated("production", FROZEN, replace(HERE, name="P", freeze_windows=(WINDOW, WINDOW)))], False),
    ],
)
def test_a_kill_and_a_further_window_pass(events: list[Event], passes: bool) -> None:
    """Nothing else does: neither what comes with a kill nor the end of the freeze itself."""
    assert passes is not bool(freeze_problem(FROZEN, events, Asking(ANN, NOON)))


def test_a_window_lets_some_change_things() -> None:
    """By role in this place, or by name."""
    elsewhere = Principal("oidc:bob", (Grant(Role.EDIT, "garden"),))
    for named in ({"roles": (Role.EDIT,)}, {"actors": ("oidc:ann",)}):
        frozen = with_windows(replace(WINDOW, **named))
        assert ("", True) == (
            freeze_problem(frozen, [CREATED], Asking(ANN, NOON)),
            bool(freeze_problem(frozen, [CREATED], Asking(elsewhere, NOON))),
        )


@pytest.mark.parametrize(
    ("role", "reason", "problem"),
    [
        (Role.BYPASS, "The bank is down", ""),
        (Role.BYPASS, " ", "takes a reason"),
        (Role.ADMIN, "The bank is down", "oidc:ann may not bypass it"),
    ],
)
def test_a_bypass_takes_its_permission_and_a_reason(role: Role, reason: str, problem: str) -> None:
    """An administrator has it only when it was given by name."""
    somebody = Principal("oidc:ann", (Grant(role, "shop"),))
    found = freeze_problem(FROZEN, [CREATED], Asking(somebody, NOON, reason, bypass=True))

    assert problem in found
    assert bool(problem) is bool(found)


def test_a_kill_is_nothing_but_turning_off() -> None:
    """A flag that changes in any other way at the same time is not killed."""
    assert [True, False, False] == [is_kill(each) for each in (KILLED, REVIVED, CREATED)]


def test_a_policy_asks_for_approvals_of_what_it_covers() -> None:
    """Never of a kill, and of nothing while it asks for none."""
    asks = replace(HERE, approval_policy=ApprovalPolicy(1, covers=(Covered.FLAG,)))
    rename = EnvironmentUpdated("production", asks, replace(asks, name="P"))

    given: list[list[Event]] = [[CREATED], [KILLED, CREATED], [KILLED], [rename]]

    assert [True, True, False, False] == [needs_approval(asks, events) for events in given]
    assert not needs_approval(HERE, [CREATED])


@pytest.mark.parametrize(
    ("policy", "counts"),
    [
        (ApprovalPolicy(1), (True, True, False)),
        (ApprovalPolicy(1, roles=(Role.ADMIN,)), (False, True, False)),
        (ApprovalPolicy(1, actors=("bob", "eve")), (True, False, False)),
        (ApprovalPolicy(1, roles=(Role.ADMIN,), actors=("bob",)), (True, True, False)),
    ],
)
def test_who_counts_as_approver(policy: ApprovalPolicy, counts: tuple[bool, ...]) -> None:
    """Whom the policy names, by role or by name, among those who may approve here."""
    people = [
        Principal("bob", (Grant(Role.APPROVE, "shop", "production"),)),
        Principal("cid", (Grant(Role.ADMIN),)),
        Principal("eve", (Grant(Role.EDIT), Grant(Role.APPROVE, "garden"))),
    ]

    assert counts == tuple(counts_as_approver(policy, each, Scope("shop", "production")) for each in people)
