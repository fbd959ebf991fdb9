"""Change requests are applied once, by the policies of the moment, or in an emergency."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from server.core.access import Action, Grant, Principal, Role
from server.core.change_requests.machine import Happening, State
from server.core.changes import CreateEnvironment, PutFlag, RemoveFlag, UpdateEnvironment
from server.core.edits import ArchiveFlag
from server.core.environments import ApprovalPolicy, Covered, Environment, FreezeWindow
from server.core.errors import (
    ApprovalNeeded,
    Outdated,
    PermissionDenied,
    Refused,
)
from server.operations.writes import Outcome
from server.store.audit import verify_chain
from server.store.commit import Part
from server.store.engine import reading
from server.store.revisions import list_revisions
from tests.operations.protected import (
    APPROVER,
    EDITOR,
    FIREFIGHTER,
    ON,
    OPERATOR,
    OTHER,
    House,
    ask,
    default_of,
    entries_of,
    open_house,
)
from tests.store.definitions import NOW, at, flag, put, stored


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """Production has a flag, and asks for one approval."""
    yield from open_house(tmp_path)


def test_approved_and_applied(house: House) -> None:
    """With the approval that was asked for it is applied, by whoever may make the change."""
    id = house.asked(reason="Summer sale")
    assert State.APPROVED is house.approve(id).progress.state
    written = house.apply(id)
    entry = entries_of(house, "flag")[0]

    assert (Outcome.APPLIED, "on") == (written.outcome, default_of(house))
    assert ("ann", "Summer sale", f"change-request:{id}") == (entry.actor, entry.reason, entry.cause)
    assert State.APPLIED is house.read(id).progress.state
    assert house.read(id).progress.revisions == written.revisions == {"production": at(house.engine).revision}


def test_what_reaches_several_environments_is_applied(house: House) -> None:
    """What its first part changes of a flag in all of them is nobody else's change for the second."""
    put(house.engine, PutFlag(flag()), environment="staging")
    id = house.asked(*(Part(name, [ArchiveFlag("checkout", NOW)]) for name in ("production", "staging")))
    house.approve(id)
    written = house.apply(id)

    assert (Outcome.APPLIED, {"production", "staging"}) == (written.outcome, set(written.revisions))
    assert State.APPLIED is house.read(id).progress.state


def test_what_is_so_already_is_applied_without_a_change(house: House) -> None:
    """Told alike by a dry run, the call and the call sent again."""
    id = house.asked()
    house.write(ON, by=FIREFIGHTER, bypass_approval=True, reason="The bank is down")
    house.review.rebase(ask(EDITOR), project="shop", id=id)
    tried = house.apply(id, dry_run=True)
    applied, again = (house.apply(id, request_id="r1") for _ in range(2))

    assert [Outcome.UNCHANGED] * 3 == [each.outcome for each in (tried, applied, again)]
    assert State.APPLIED is house.read(id).progress.state


def test_everything_is_in_the_audit_trail(house: House) -> None:
    """Each step has its entry with who and why, and the chain holds."""
    id = house.asked(reason="Sale")
    house.review.comment(ask(APPROVER), project="shop", id=id, text="Why now?")
    house.approve(id)
    house.apply(id)
    entries = entries_of(house, "change-request")
    with reading(house.engine) as connection:
        assert [] == verify_chain(connection, project="shop")

    assert [f"change-request.{each}" for each in ("applied", "completed", "commented", "opened")] == [
        each.action for each in entries
    ]
    assert ["ann", "bob", "bob", "ann"] == [each.actor for each in entries]
    assert {id} == {each.subject_key for each in entries}
    assert house.read(id).digest in (entries[1].after or "")


def test_it_is_not_applied_without_its_approvals(house: House) -> None:
    """Neither by its author nor by its approver, and it says what is lacking."""
    house.protect(approvals=2)
    id = house.asked()
    assert State.OPEN is house.approve(id).progress.state
    with pytest.raises(ApprovalNeeded, match=r"shop/production asks for 2 approvals and has 1 \(bob\)"):
        house.apply(id)
    with pytest.raises(PermissionDenied, match="bob may not edit"):
        house.apply(id, APPROVER)
    house.approve(id, OTHER)

    assert Outcome.APPLIED is house.apply(id).outcome


def test_what_moved_makes_it_stale(house: House) -> None:
    """The conflict names each thing with both versions; asked anew it needs approvals anew."""
    id = house.asked()
    house.approve(id)
    put(house.engine, PutFlag(flag(description="changed by somebody")))
    with pytest.raises(Outdated, match="'checkout' in 'production' had version 2 and has version 4 now") as caught:
        house.apply(id)
    stale = house.read(id).progress
    rebased = house.review.rebase(ask(EDITOR), project="shop", id=id).request

    assert [("production", "flag", "checkout", 2, 4)] == [
        (each.environment, each.kind, each.key, each.expected, each.found) for each in caught.value.moved
    ]
    assert (State.STALE, ()) == (stale.state, stale.approvals)
    assert (State.OPEN, ()) == (rebased.progress.state, rebased.progress.approvals)
    assert "flag checkout: description" in rebased.lines["production"][0] + rebased.lines["production"][1]
    house.approve(id)
    assert Outcome.APPLIED is house.apply(id).outcome


def test_what_was_so_already_must_stay_so(house: House) -> None:
    """A request that leaves a flag as it is does not undo what others do to it meanwhile."""
    id = house.asked(Part("production", [PutFlag(flag()), PutFlag(flag("new"))]))
    house.approve(id)
    put(house.engine, PutFlag(flag(default="on")))
    with pytest.raises(Outdated, match="'checkout'"):
        house.apply(id)


def test_a_policy_that_asks_for_more_meanwhile(house: House) -> None:
    """Approvals are counted by the policy of the moment; what does not suffice any more waits again."""
    id = house.asked()
    house.approve(id)
    house.protect(approvals=2)
    with pytest.raises(ApprovalNeeded, match="has 1"):
        house.apply(id)
    assert State.OPEN is house.read(id).progress.state
    house.protect(approvals=0)

    assert Outcome.APPLIED is house.apply(id).outcome


def test_an_approver_who_lost_the_role(house: House) -> None:
    """Does not count any more, where that can be known."""
    id = house.asked()
    house.approve(id)
    house.gone["bob"] = Principal("bob")
    with pytest.raises(ApprovalNeeded, match="asks for 1 approval and has 0"):
        house.apply(id)

    assert [Happening.OPENED, Happening.COMPLETED, Happening.LACKING] == house.happenings(id)


def test_every_environment_has_its_say(house: House) -> None:
    """A request that reaches several needs what each of them asks for; and is one commit."""
    house.protect("staging", approvals=1, actors=("eve",))
    parts = [Part(name, [PutFlag(flag("both"))]) for name in ("production", "staging")]
    id = house.asked(*parts)
    assert State.OPEN is house.approve(id).progress.state
    with pytest.raises(ApprovalNeeded, match="shop/staging asks for 1 approval and has 0"):
        house.apply(id)
    assert "both" not in stored(house.engine).flags
    assert State.APPROVED is house.approve(id, OTHER).progress.state

    assert {"production", "staging"} == house.apply(id).revisions.keys()


def test_an_environment_that_shares_the_flag_is_asked_too(house: House) -> None:
    """Another variant written to staging reaches production, whose policy asks for approvals."""
    put(house.engine, PutFlag(flag()), environment="staging")
    changed = flag(variants={"on": True, "off": False, "also": True})
    id = house.asked(Part("staging", [PutFlag(changed)]))
    with pytest.raises(ApprovalNeeded, match="shop/production"):
        house.apply(id)
    house.approve(id)

    assert {"production", "staging"} == house.apply(id).revisions.keys()


def test_a_kill_needs_nobody(house: House) -> None:
    """Also while a request for the same flag waits, which it makes stale."""
    id = house.asked()
    off = Part("production", [PutFlag(flag(enabled=False))])
    written = house.write(off, by=OPERATOR, action=Action.KILL)

    assert Outcome.APPLIED is written.outcome
    with pytest.raises(Outdated):
        house.approve(id)


def test_a_plain_write_that_only_kills_needs_nobody(house: House) -> None:
    """It is the change that counts, not the call that makes it."""
    assert Outcome.APPLIED is house.write(Part("production", [PutFlag(flag(enabled=False))])).outcome


def test_in_an_emergency(house: House) -> None:
    """With the right to it and a reason, and it stands out in the audit trail."""
    with pytest.raises(PermissionDenied, match="ann may not do without them"):
        house.write(ON, bypass_approval=True, reason="Fire")
    with pytest.raises(Refused, match="takes a reason"):
        house.write(ON, by=FIREFIGHTER, bypass_approval=True, reason=" ")
    written = house.write(ON, by=FIREFIGHTER, bypass_approval=True, reason="Fire")
    entry = entries_of(house, "flag")[0]

    assert Outcome.APPLIED is written.outcome
    assert ("fay", "Fire", "bypass") == (entry.actor, entry.reason, entry.cause)


def test_a_request_is_applied_in_an_emergency(house: House) -> None:
    """Without the approvals that it lacks; both the change and the request say so."""
    id = house.asked()
    with pytest.raises(PermissionDenied):
        house.apply(id, bypass_approval=True, reason="Fire")
    assert Outcome.APPLIED is house.apply(id, FIREFIGHTER, bypass_approval=True, reason="Fire").outcome
    change, request = entries_of(house, "flag")[0], entries_of(house, "change-request")[0]

    assert f"bypass: change-request:{id}" == change.cause
    assert ("change-request.applied", "bypass: Fire") == (request.action, request.reason)


def test_it_is_applied_once(house: House) -> None:
    """Many who want to apply it at once: one does, the others find it applied."""
    id = house.asked()
    house.approve(id)

    def attempt(_: int) -> str:
        try:
            return house.apply(id).outcome
        except Refused as error:
            return str(error)

    with ThreadPoolExecutor(4) as threads:
        outcomes = list(threads.map(attempt, range(8)))
    with reading(house.engine) as connection:
        revisions = list_revisions(connection, project="shop", environment="production", key="checkout")

    assert 1 == outcomes.count(Outcome.APPLIED)
    assert 2 == len(revisions)
    assert 1 == house.happenings(id).count(Happening.APPLIED)


def test_a_frozen_environment_can_be_asked_for_changes(house: House) -> None:
    """They wait for approvals, and then for the end of the freeze."""
    window = FreezeWindow(NOW - timedelta(hours=1), NOW + timedelta(hours=1), "sale")
    put(house.engine, UpdateEnvironment(freeze_windows=(window,)))
    id = house.asked()
    house.approve(id)
    with pytest.raises(Refused, match="frozen until"):
        house.apply(id)
    assert State.APPROVED is house.read(id).progress.state

    assert Outcome.APPLIED is house.apply(id, now=NOW + timedelta(hours=2)).outcome


def test_the_policy_itself_is_protected(house: House) -> None:
    """Who would take it away asks the others first; one that covers flags alone does not."""
    none = Part("production", [UpdateEnvironment(approval_policy=ApprovalPolicy())])
    admin = Principal("adam", (Grant(Role.ADMIN),))
    assert Outcome.REQUESTED is house.write(none, by=admin, action=Action.ADMINISTER).outcome
    house.protect(approvals=1, covers=(Covered.FLAG,))

    assert Outcome.APPLIED is house.write(none, by=admin, action=Action.ADMINISTER).outcome


def test_a_request_keeps_the_right_that_it_takes(house: House) -> None:
    """What an administrator asked for is not applied by somebody who may only edit."""
    admin = Principal("adam", (Grant(Role.ADMIN),))
    id = house.asked(Part("production", [UpdateEnvironment(name="Live")]), by=admin, action=Action.ADMINISTER)
    house.approve(id)
    with pytest.raises(PermissionDenied, match="ann may not administer"):
        house.apply(id)

    assert Outcome.APPLIED is house.apply(id, admin).outcome


def test_removing_and_creating_go_the_same_way(house: House) -> None:
    """What must not exist is a version, too: somebody who created it meanwhile makes the request stale."""
    id = house.asked(Part("production", [PutFlag(flag("new"))]))
    house.approve(id)
    put(house.engine, PutFlag(flag("new", default="on")))
    with pytest.raises(Outdated, match="'new' in 'production' did not exist and has version"):
        house.apply(id)
    gone = house.asked(Part("production", [RemoveFlag("checkout")]))
    house.approve(gone)
    house.apply(gone)

    assert {"new"} == stored(house.engine).flags.keys()


def test_new_environments_are_nobodys_to_approve(house: House) -> None:
    """There is no policy yet."""
    part = Part("canary", [CreateEnvironment(Environment("shop", "canary"))])
    admin = Principal("adam", (Grant(Role.ADMIN),))

    assert Outcome.APPLIED is house.write(part, by=admin, action=Action.ADMINISTER).outcome


def test_a_write_to_what_nobody_protects_goes_through(house: House) -> None:
    """Staging asks for nothing."""
    assert Outcome.APPLIED is house.write(Part("staging", [PutFlag(flag())])).outcome


def test_an_environment_that_got_the_flag_meanwhile(house: House) -> None:
    """A change of variants would reach it, and nobody has seen that."""
    id = house.asked(Part("production", [PutFlag(flag(variants={"on": True, "off": False, "also": True}))]))
    house.approve(id)
    put(house.engine, PutFlag(flag()), environment="staging")
    with pytest.raises(Outdated, match="would change flag 'checkout' in 'staging' too by now"):
        house.apply(id)
    house.review.rebase(ask(EDITOR), project="shop", id=id)
    house.approve(id)

    assert {"production", "staging"} == house.apply(id).revisions.keys()
