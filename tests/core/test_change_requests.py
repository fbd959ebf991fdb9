"""Change requests: how they go on, whose approval counts, and what is kept of the changes."""

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from types import NoneType, UnionType
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.access import Action, Grant, Principal, Role
from server.core.change_requests.approvals import approvers, lacking, may_approve, nobody_knows
from server.core.change_requests.codec import (
    CHANGES,
    Content,
    Proposed,
    read_content,
    read_value,
    write_content,
    write_value,
)
from server.core.change_requests.machine import (
    ARROWS,
    CLOSED,
    Happening,
    Progress,
    State,
    Step,
    advance,
    opened,
)
from server.core.changes import AddSegmentKeys, Change, PutFlag, PutSegment
from server.core.environments import ApprovalPolicy, Environment
from server.core.errors import InvalidRequest, Refused
from server.core.events import FlagCreated
from server.core.flags import FlagDefinition
from server.core.keylists import KeyList, key_list
from server.core.segments import Segment
from tests.store.definitions import flag
from tests.strategies import flag_definitions

NOW: Final = datetime(2026, 1, 1, 12, tzinfo=UTC)
APPROVER: Final = (Grant(Role.APPROVE),)

_steps = st.builds(
    Step,
    happening=st.sampled_from([each for each in Happening if each is not Happening.OPENED]),
    actor=st.sampled_from(("ann", "bob", "eve")),
    at=st.integers(0, 1_000).map(lambda minutes: NOW + timedelta(minutes=minutes)),
    text=st.sampled_from(("", "because")),
    grants=st.sampled_from(((), APPROVER, (Grant(Role.EDIT, "shop", "production"),))),
    apply_at=st.just(NOW + timedelta(days=2)),
    revisions=st.sampled_from((None, {"production": 7})),
)


def _opened() -> Progress:
    return opened(Step(Happening.OPENED, "ann", NOW), Action.EDIT)


def _walked(steps: list[Step]) -> list[Progress]:
    """Every state on the way; steps that are refused change nothing."""
    way = [_opened()]
    for step in steps:
        try:
            way.append(advance(way[-1], step))
        except Refused:
            continue
    return way


@given(st.lists(_steps, max_size=30))
def test_no_way_leaves_the_table(steps: list[Step]) -> None:
    """Whatever happens in whatever order: a step is in the table or refused, and each counts one."""
    for before, step in zip(way := _walked(steps), steps, strict=False):
        arrow = ARROWS.get((before.state, step.happening))
        if arrow is None:
            with pytest.raises(Refused):
                advance(before, step)
        else:
            assert arrow == advance(before, step).state

    assert list(range(1, len(way) + 1)) == [each.step_count for each in way]


@given(st.lists(_steps, max_size=30))
def test_nothing_comes_after_the_end(steps: list[Step]) -> None:
    """One that is applied, withdrawn or expired stays so, and has no time to be applied at."""
    way = _walked(steps)
    ends = [place for place, each in enumerate(way) if each.state in CLOSED]

    assert all(each.state == way[place].state for place in ends[:1] for each in way[place:])
    assert all(each.apply_at is None for each in way if each.state not in (State.OPEN, State.APPROVED))


@given(st.lists(_steps, max_size=30))
def test_approvals_are_for_what_they_were_given_for(steps: list[Step]) -> None:
    """Other content, and other things beneath it, leave none; and whoever says yes twice counts once."""
    progress = _opened()
    for step in steps:
        try:
            progress = advance(progress, step)
        except Refused:
            continue
        if step.happening in (Happening.REVISED, Happening.OUTDATED):
            assert () == progress.approvals
        actors = [each.actor for each in progress.approvals]
        assert len(set(actors)) == len(actors)
        if step.happening is Happening.REVISED:
            assert step.actor in progress.authors
    assert 1 <= progress.content_number <= 1 + len(steps)


@given(st.lists(_steps, max_size=30))
def test_progress_is_read_back_as_it_was(steps: list[Step]) -> None:
    """Every progress that there is survives being stored."""
    progress = _walked(steps)[-1]

    assert progress == read_value(Progress, json.loads(json.dumps(write_value(progress))))


def test_every_state_and_step_has_a_place_in_the_table() -> None:
    """A state that nothing leads to, or a step that can never be taken, would be a slip."""
    assert set(State) == {State.OPEN, *ARROWS.values()}
    assert set(Happening) == {Happening.OPENED, *(happening for _, happening in ARROWS)}


def _environment(**policy: Any) -> Environment:
    return Environment("shop", "production", approval_policy=ApprovalPolicy(**policy))


def _approved(*people: tuple[str, tuple[Grant, ...]]) -> Progress:
    progress = _opened()
    for actor, grants in people:
        progress = advance(progress, Step(Happening.APPROVED, actor, NOW, grants=grants))
    return progress


EVENTS: Final = [FlagCreated("checkout", flag())]


def test_ones_own_approval_never_counts() -> None:
    """Neither that of who asked for it, nor of who changed what it asks for."""
    progress = advance(_opened(), Step(Happening.REVISED, "bob", NOW))
    for actor in ("ann", "bob", "eve"):
        progress = advance(progress, Step(Happening.APPROVED, actor, NOW, grants=APPROVER))

    assert ("eve",) == approvers(progress, _environment(approvals=1), nobody_knows)
    assert "one's own approval" in may_approve(progress, Principal("bob", APPROVER), {})


@pytest.mark.parametrize(
    ("policy", "counting"),
    [
        ({"approvals": 2}, ("bob", "eve")),
        ({"approvals": 2, "roles": (Role.ADMIN,)}, ("eve",)),
        ({"approvals": 2, "actors": ("bob", "ann")}, ("bob",)),
        ({"approvals": 2, "roles": (Role.ADMIN,), "actors": ("bob",)}, ("bob", "eve")),
    ],
)
def test_who_counts_is_the_policys_to_say(policy: Any, counting: tuple[str, ...]) -> None:
    """By role, by name, or anybody who may approve there."""
    reader, elsewhere = (Grant(Role.READ),), (Grant(Role.APPROVE, "shop", "staging"),)
    progress = _approved(("bob", APPROVER), ("eve", (Grant(Role.ADMIN),)), ("rita", reader), ("stan", elsewhere))

    assert counting == approvers(progress, _environment(**policy), nobody_knows)


def test_roles_count_as_they_are_now() -> None:
    """Somebody who lost the role meanwhile does not count, where that can be known."""
    progress = _approved(("bob", APPROVER), ("eve", APPROVER))
    environment = _environment(approvals=2)
    who_is = {"bob": Principal("bob")}.get

    assert "" == lacking(progress, environment, EVENTS, who_is=nobody_knows)
    assert "shop/production asks for 2 approvals and has 1 (eve)" == lacking(
        progress, environment, EVENTS, who_is=who_is
    )


def test_a_policy_of_none_lacks_nothing() -> None:
    """Whoever took the policy away meanwhile took the need away."""
    assert "" == lacking(_opened(), _environment(approvals=0), EVENTS, who_is=nobody_knows)


JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@cache
def _values(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a type that a change may hold: flags as they are written, anything else by the types of its fields."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return JSON
    if hint is FlagDefinition:
        return flag_definitions()
    if hint is KeyList:
        # At hand, or known by number and digest alone.
        keys = st.lists(st.sampled_from(("ann", "bob", "zoë")), max_size=3).map(key_list)
        return keys | st.builds(KeyList, st.integers(), st.text())
    if is_dataclass(hint) and isinstance(hint, type):
        return st.deferred(
            lambda: st.fixed_dictionaries(
                {name: _values(each) for name, each in get_type_hints(hint).items() if name in _fields(hint)}
            ).map(lambda values: hint(**values))
        )
    if origin in (Union, UnionType):
        return st.one_of([_values(each) for each in arguments])
    if origin is tuple and arguments[1:] == (...,):
        return st.lists(_values(arguments[0]), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*map(_values, arguments))
    if origin is not None and issubclass(origin, Mapping):
        return st.dictionaries(_values(arguments[0]), _values(arguments[1]), max_size=3)
    plain: dict[Any, st.SearchStrategy[Any]] = {
        datetime: st.datetimes(timezones=st.just(UTC)).map(lambda each: each.replace(fold=0)),
        float: st.floats(allow_nan=False, allow_infinity=False),
        NoneType: st.none(),
    }
    return plain[hint] if hint in plain else st.from_type(hint)


def _fields(type_: Any) -> set[str]:
    return {each.name for each in fields(type_)}


def _changes() -> st.SearchStrategy[Any]:
    types: list[Any] = list(CHANGES.values())
    return st.one_of([_values(each) for each in types])


@given(st.lists(_changes(), max_size=4), st.booleans())
def test_changes_are_read_back_as_they_were(proposed: list[Change], replaces: bool) -> None:
    """Every type of change there is, with whatever its fields may hold: the same values, in the same order."""
    content = Content((Proposed("production", tuple(proposed)), Proposed("staging", ())), replaces)
    text = json.dumps(write_content(content))
    back = read_content(json.loads(text))

    assert content == back
    assert repr(content) == repr(back)
    assert text == json.dumps(write_content(back))


def test_few_keys_take_little_room() -> None:
    """They are kept as such, and not as the chunks of a list; a list without its keys by number and digest."""
    added = AddSegmentKeys("large", key_list(["zoë", "ann"]))
    head = PutSegment(Segment("large", key_list=KeyList(20_000, "d")))
    content = Content((Proposed("production", (added, head)),))
    changes = write_content(content)["parts"][0]["changes"]

    assert {"keys": ["ann", "zoë"]} == changes[0]["keys"]
    assert {"count": 20_000, "digest": "d"} == changes[1]["segment"]["key_list"]
    assert content == (back := read_content(write_content(content)))
    assert isinstance(back.parts[0].changes[0], AddSegmentKeys) and "zoë" in back.parts[0].changes[0].keys


def test_every_type_of_change_can_be_kept() -> None:
    """A new type of change is known by being part of the union."""
    assert set(get_args(Change)) == set(CHANGES.values())


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data.update(version=2),
        lambda data: data.pop("version"),
        lambda data: data["parts"][0]["changes"][0].update(type="Explode"),
        lambda data: data["parts"][0]["changes"][0].update(colour="red"),
        lambda data: data["parts"][0]["changes"][0].pop("definition"),
        lambda data: data["parts"][0]["changes"][0]["definition"]["flag"].update(type="colour"),
        lambda data: data.update(parts=None),
    ],
)
def test_changes_that_cannot_be_read_are_refused(spoil: Any) -> None:
    """Nothing is guessed, and no field is left out."""
    data = write_content(Content((Proposed("production", (PutFlag(flag()),)),)))
    spoil(data)
    with pytest.raises(InvalidRequest, match="ask for the"):
        read_content(data)
