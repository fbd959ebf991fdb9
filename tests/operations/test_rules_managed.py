"""Who may write rules, as whom they act, and what is refused when they are written."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from server.core.access import Action, Grant, Principal, Role, Scope
from server.core.actions.values import Done, Status
from server.core.changes import PutFlag
from server.core.errors import (
    InvalidDefinition,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    Stale,
)
from server.core.rules.rules import Act, Definition, Deliver, Wanted
from server.operations.writes import Outcome
from tests.announced import check_announced
from tests.operations.ruling import EDITOR, KILL, ON, House
from tests.store.definitions import database, flag, put


@pytest.fixture
def one(tmp_path: Path) -> Iterator[House]:
    """The same on SQLite."""
    with database(tmp_path, "sqlite", shop=True) as engine:
        put(engine, PutFlag(flag(owner="web", tags=["shop"])), PutFlag(flag("banner", owner="ads")))
        yield House(engine)
        check_announced(engine)


def test_a_rule_acts_as_its_author_may_still(one: House) -> None:
    """What was taken from them was taken from it; what they got later it has not."""
    one.create()
    one.who[EDITOR.actor] = Principal(EDITOR.actor, (Grant(Role.READ), Grant(Role.ADMIN, "other")))
    one.flip()
    one.carry_on()
    ((_, principal),) = one.done

    assert principal.may(Action.READ, Scope("shop", "production"))
    assert not principal.may(Action.EDIT, Scope("shop", "production"))
    assert not principal.may(Action.ADMINISTER, Scope("other"))


def test_nobody_writes_a_rule_that_does_what_they_may_not(one: House) -> None:
    """Neither for all environments, nor for one."""
    operator = Principal("token:op", (Grant(Role.OPERATE),))
    there = Principal("token:there", (Grant(Role.EDIT, "shop", "staging"),))
    for who in (operator, there):
        with pytest.raises(PermissionDenied):
            one.create(by=who)
    id = one.create()
    with pytest.raises(PermissionDenied):
        one.rules.enable("shop", id, one.write(operator), enabled=False)
    with pytest.raises(PermissionDenied):
        one.rules.update("shop", id, lambda before: replace(before, name="mine"), one.write(there))


def test_whoever_edits_a_rule_is_its_author(one: House) -> None:
    """It acts as them from then on."""
    id = one.create()
    other = Principal("token:other", (Grant(Role.EDIT, "shop"),))
    written = one.rules.update("shop", id, lambda before: replace(before, name="two"), one.write(other))

    assert ("token:other", other.grants, 2) == (written.rule.author, written.rule.grants, written.rule.version)
    with pytest.raises(Stale):
        one.rules.update("shop", id, lambda before: replace(before, name="x"), one.write(expected_version=1))


def test_a_disabled_rule_misses_what_happens(one: House) -> None:
    """And does not make up for it."""
    id = one.create()
    one.rules.enable("shop", id, one.write(reason="too eager"), enabled=False)
    one.flip()
    one.carry_on()
    one.rules.enable("shop", id, one.write(), enabled=True)
    one.flip()
    one.carry_on()

    assert 1 == len(one.done)
    assert ["rule.created", "rule.disabled", "rule.enabled"] == [type_ for type_, _ in one.told()]


def test_what_waits_is_dropped_with_its_rule(one: House) -> None:
    """Disabled, it does nothing more; deleted, it leaves nothing."""
    id = one.create()
    one.flip()
    one.running().finding.look()
    one.rules.enable("shop", id, one.write(), enabled=False)
    one.carry_on()
    assert [("refused", "the rule was disabled")] == one.results(id)
    one.rules.delete("shop", id, one.write())
    with pytest.raises(NotFound, match="is not in project 'shop'"):
        one.rules.read("shop", id)
    assert [] == one.done


@pytest.mark.parametrize(
    ("then", "when", "says"),
    [
        (KILL, Wanted(()), "/when/event_types: name types"),
        (KILL, Wanted(("flag.killd",)), "/when/event_types/0: no event is called 'flag.killd'"),
        (KILL, Wanted(("flag.stale",), expression="data.["), "/when/expression"),
        (Act("kil_flag", {}), ON, "/then/action: there is no action 'kil_flag'"),
        (Act("find_flags", {}), ON, "/then/action: find_flags changes nothing"),
        (Act("kill_flag", {}), ON, "/then/inputs/flag_key: flag.targeting_changed: kill_flag needs it"),
        (Act("kill_flag", {"flag_key": 3}), ON, "/then/inputs/flag_key: flag.targeting_changed: expected a text"),
        (Act("kill_flag", {"flag_key": "a", "b": 1}), ON, "/then/inputs/b"),
        (Act("kill_flag", {"flag_key": "{{ data.flg }}"}), ON, "/then/inputs/flag_key: flag.targeting_changed: line 1"),
        (Act("kill_flag", {"flag_key": "{{ data.x"}), ON, "/then/inputs/flag_key"),
        (Act("kill_flag", {"flag_key": "a", "project": "b"}), ON, "/then/inputs/project: a rule acts in its own"),
        (Deliver(""), ON, "/then/endpoint_id: name an endpoint"),
    ],
)
def test_what_would_never_work_is_refused(one: House, then: Any, when: Wanted, says: str) -> None:
    """With its path, when the rule is written."""
    with pytest.raises(InvalidDefinition) as caught:
        one.create(then, when)

    assert says in str(caught.value)


def test_a_rule_is_tried_on_an_event(one: House) -> None:
    """One that happened, or one that is made up; nothing is done."""
    one.flip()
    definition = Definition("try", ON, KILL)
    made_up = {"type": "flag.targeting_changed", "data": {"flag_key": "banner"}, "environment": "staging"}
    tried = one.rules.try_on("shop", definition, event=made_up)
    other = one.rules.try_on("shop", definition, event={"type": "flag.killed", "data": {}})

    assert tried.asked is not None
    assert ("banner", "staging", False) == (
        tried.asked.inputs["flag_key"],
        tried.asked.inputs["environment"],
        other.wanted,
    )
    assert [] == one.done
    for wrong in ({"event": None}, {"event_id": "evt_1", "event": made_up}, {"event": {"type": "x", "data": {}}}):
        with pytest.raises(InvalidRequest):
            one.rules.try_on("shop", definition, **wrong)
    with pytest.raises(NotFound):
        one.rules.try_on("shop", definition, event_id="evt_1")


def test_a_request_that_is_sent_again_makes_no_second_rule(one: House) -> None:
    """By its request id; a dry run makes none."""
    definition = Definition("one", ON, KILL)
    dry = one.rules.create("shop", definition, one.write(dry_run=True))
    first = one.rules.create("shop", definition, one.write(request_id="r1"))
    second = one.rules.create("shop", definition, one.write(request_id="r1"))

    assert [Outcome.WOULD_APPLY, Outcome.APPLIED, Outcome.UNCHANGED] == [each.outcome for each in (dry, first, second)]
    assert [first.rule.id] == [second.rule.id] == [each.id for each in one.rules.list_all("shop")[0]]


def test_a_done_status_is_kept(one: House) -> None:
    """Also where others are asked first."""
    id = one.create()
    one.answer = lambda asked, _: Done("act_1", asked.name, Status.PENDING_APPROVAL, change_request="cr_1")
    one.flip()
    one.carry_on()

    assert [("done", "pending_approval")] == one.results(id)
