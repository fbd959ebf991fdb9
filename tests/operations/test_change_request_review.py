"""Change requests are opened by writes and reviewed: who may, what counts, what is told."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from server.core.access import Grant, Principal, Role
from server.core.change_requests.machine import Happening, State
from server.core.changes import PutFlag
from server.core.errors import (
    Conflict,
    InvalidDefinition,
    InvalidRequest,
    Outdated,
    PermissionDenied,
    Refused,
    Stale,
)
from server.operations.writes import Outcome
from server.store.change_requests import Wanted
from server.store.commit import Part
from tests.operations.protected import APPROVER, EDITOR, ON, OTHER, READER, House, ask, default_of, open_house
from tests.store.definitions import NOW, at, flag, put


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """Production has a flag, and asks for one approval."""
    yield from open_house(tmp_path)


def test_a_write_becomes_a_request(house: House) -> None:
    """Nothing is changed; what was asked for, and what differs, is kept."""
    before = at(house.engine).revision
    written = house.write(ON, reason="Summer sale", cause="SHOP-7")
    request = house.read(written.change_request)

    assert (Outcome.REQUESTED, before) == (written.outcome, at(house.engine).revision)
    assert (State.OPEN, "ann", "Summer sale", "SHOP-7") == (
        request.progress.state,
        request.author,
        request.title,
        request.cause,
    )
    assert {"production": ["flag checkout: default off -> on"]} == request.lines


def test_ones_own_approval_is_refused(house: House) -> None:
    """Also for somebody who may approve everything else."""
    both = Principal("ann", (Grant(Role.EDIT), Grant(Role.APPROVE)))
    id = house.asked(by=both)
    with pytest.raises(Refused, match="one's own approval does not count"):
        house.approve(id, both)


def test_who_is_not_among_the_named_cannot_approve(house: House) -> None:
    """The policy says who counts; a yes of others would say what it does not mean."""
    house.protect(approvals=1, actors=("eve",))
    id = house.asked()
    with pytest.raises(Refused, match="bob is not among those whose approval counts in: production"):
        house.approve(id)
    with pytest.raises(PermissionDenied, match="ann may not approve"):
        house.approve(id, EDITOR)

    assert State.APPROVED is house.approve(id, OTHER).progress.state


def test_other_content_drops_the_approvals(house: House) -> None:
    """And makes whoever changed it one of its authors."""
    id = house.asked()
    house.approve(id)
    revised = house.review.revise(
        ask(Principal("bob", (Grant(Role.ADMIN),)), reason="Other words"),
        project="shop",
        id=id,
        parts=[Part("production", [PutFlag(flag(description="new"))])],
        replace_variants=False,
    ).request
    assert (State.OPEN, (), ("ann", "bob"), 2) == (
        revised.progress.state,
        revised.progress.approvals,
        revised.progress.authors,
        revised.progress.content_number,
    )
    with pytest.raises(Refused, match="own approval"):
        house.approve(id)
    house.approve(id, OTHER)
    house.apply(id)

    assert "off" == default_of(house)


def test_approving_what_is_stale_is_refused(house: House) -> None:
    """Whoever reads an old difference must not agree to it."""
    id = house.asked()
    put(house.engine, PutFlag(flag(description="changed by somebody")))
    with pytest.raises(Outdated):
        house.approve(id)

    assert State.STALE is house.read(id).progress.state


def test_the_content_that_was_read_is_what_is_approved(house: House) -> None:
    """Who names the content that they read is refused when it is another by now."""
    id = house.asked()
    house.review.rebase(ask(EDITOR), project="shop", id=id)
    with pytest.raises(Stale, match="has content 2, expected 1"):
        house.approve(id, expected_version=1)

    assert State.APPROVED is house.approve(id, expected_version=2).progress.state


def test_a_dry_run_says_that_it_would_be_a_request(house: House) -> None:
    """And keeps none."""
    written = house.write(ON, dry_run=True)
    page = house.review.page(READER, project="shop", wanted=Wanted(), after=None, limit=10)

    assert (Outcome.WOULD_APPLY, 0) == (written.outcome, page.count)
    assert ("shop/production asks for one approval: a change request would be opened",) == written.warnings


def test_dry_runs_of_every_step_keep_nothing(house: House) -> None:
    """They tell how it would be."""
    id = house.asked()
    approved = house.approve(id, dry_run=True)
    assert (State.APPROVED, State.OPEN) == (approved.progress.state, house.read(id).progress.state)
    house.approve(id)
    assert Outcome.WOULD_APPLY is house.apply(id, dry_run=True).outcome

    assert (State.APPROVED, "off") == (house.read(id).progress.state, default_of(house))


def test_sent_again_with_its_id(house: House) -> None:
    """Every call gets its first answer and does nothing twice; the id for something else is refused."""
    first, again = house.asked(request_id="r1"), house.asked(request_id="r1")
    assert first == again
    with pytest.raises(Conflict, match="'r1' was used for another change"):
        house.write(Part("production", [PutFlag(flag("other"))]), request_id="r1")
    for _ in range(2):
        house.approve(first, request_id="r2")
    revisions = [house.apply(first, request_id="r3").revisions for _ in range(2)]
    with pytest.raises(Conflict):
        house.review.comment(ask(EDITOR, request_id="r3"), project="shop", id=first, text="x")

    assert [Happening.OPENED, Happening.COMPLETED, Happening.APPLIED] == house.happenings(first)
    assert revisions[0] == revisions[1]


def test_what_cannot_be_committed_is_not_asked_for(house: House) -> None:
    """A definition that is not sound is refused at once, not after somebody reviewed it."""
    with pytest.raises(InvalidDefinition):
        house.write(
            Part("production", [PutFlag(flag(rules=[{"id": "r", "condition": {"$ref": "no"}, "serve": "on"}]))])
        )
    with pytest.raises(PermissionDenied):
        house.write(ON, by=READER)


def test_a_no(house: House) -> None:
    """Needs a reason and keeps it; the author may ask for something else, and others may not apply it."""
    id = house.asked()
    with pytest.raises(InvalidRequest, match="why"):
        house.review.reject(ask(APPROVER), project="shop", id=id, text=" ")
    with pytest.raises(PermissionDenied):
        house.review.reject(ask(EDITOR), project="shop", id=id, text="no")
    rejected = house.review.reject(ask(APPROVER), project="shop", id=id, text="Not in December").request
    with pytest.raises(Refused, match="that is rejected cannot be applied"):
        house.apply(id)

    assert (State.REJECTED, "Not in December") == (rejected.progress.state, rejected.progress.note)
    assert State.OPEN is house.review.rebase(ask(EDITOR), project="shop", id=id).request.progress.state


def test_only_authors_and_administrators_withdraw(house: House) -> None:
    """And nothing comes after it but words."""
    id = house.asked()
    with pytest.raises(PermissionDenied):
        house.review.withdraw(ask(APPROVER), project="shop", id=id, text="")
    house.review.withdraw(ask(EDITOR), project="shop", id=id, text="Wrong flag")
    with pytest.raises(Refused, match="that is withdrawn cannot be approved; ask for the change again"):
        house.approve(id)
    house.review.comment(ask(APPROVER), project="shop", id=id, text="Good")

    assert State.WITHDRAWN is house.read(id).progress.state


def test_only_who_may_read_all_its_places_reads_it(house: House) -> None:
    """A right to one environment shows no change that reaches another one, too."""
    parts = [Part(name, [PutFlag(flag("both"))]) for name in ("production", "staging")]
    id, mine = house.asked(*parts), house.asked()
    local = Principal("lou", (Grant(Role.READ, "shop", "production"),))
    with pytest.raises(PermissionDenied):
        house.review.read(local, project="shop", id=id)
    with pytest.raises(PermissionDenied):
        house.review.page(local, project="shop", wanted=Wanted(), after=None, limit=9)
    page = house.review.page(local, project="shop", wanted=Wanted(environment="production"), after=None, limit=9)

    assert [mine] == [each.id for each in page.requests]


def test_lists_are_filtered_and_paged(house: House) -> None:
    """By state, author, place and thing; the newest first, each once."""
    ids = [
        house.asked(Part("production", [PutFlag(flag(f"f{number}"))]), now=NOW + timedelta(seconds=number))
        for number in range(5)
    ]
    house.review.withdraw(ask(EDITOR), project="shop", id=ids[0], text="")

    def listed(wanted: Wanted, limit: int = 100) -> list[str]:
        found: list[str] = []
        after = None
        while True:
            page = house.review.page(READER, project="shop", wanted=wanted, after=after, limit=limit)
            found += [each.id for each in page.requests]
            if len(page.requests) < limit:
                return found
            after = page.requests[-1].created_at, page.requests[-1].id

    assert ids[::-1] == listed(Wanted(), limit=2) == listed(Wanted(author="ann"))
    assert ids[:1] == listed(Wanted(states=[State.WITHDRAWN]))
    assert ids[3:4] == listed(Wanted(subject=("flag", "f3")))
    assert [] == listed(Wanted(environment="staging")) == listed(Wanted(author="bob"))


def test_the_detail_says_what_is_asked_for_now(house: House) -> None:
    """How many approvals each place asks for, whose count, and what has moved."""
    house.protect(approvals=2)
    id = house.asked()
    house.approve(id)
    put(house.engine, PutFlag(flag(description="changed")))
    detail = house.review.read_detail(READER, project="shop", id=id)

    assert [("production", 2, ("bob",))] == [
        (each.environment, each.needed_count, tuple(each.approvers)) for each in detail.approvals
    ]
    assert ["checkout"] == [each.key for each in detail.moved]
