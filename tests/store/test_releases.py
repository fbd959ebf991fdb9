"""Releases, their log, their templates and their locks on both databases."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import Engine

from server.core.changes import PutFlag
from server.core.errors import NotFound, Refused, TooLarge
from server.core.releases.plan import Check, Gates, Plan
from server.core.releases.progress import Act, State
from server.operations.releases.looking import agrees
from server.store.engine import reading, writing
from server.store.release_templates import Template, TemplateStep, delete_template, list_templates, put_template
from server.store.releases import Bounds, Wanted, find_due, hasten, insert_release, list_releases, read_release
from tests.operations.releasing import HOUR, PLAN, RULE, Yard, share
from tests.store.definitions import NOW, flag, put


@pytest.fixture
def yard(shop: Engine) -> Yard:
    """A flag whose rule lets nobody in yet."""
    put(shop, PutFlag(flag(rules=[RULE])))
    return Yard(shop)


def test_a_release_is_kept_as_it_is(yard: Yard) -> None:
    """With its log, which agrees; it moves, and is found by what it is about."""
    id = yard.started()
    yard.pass_time(HOUR)
    stored = yard.stored(id)
    with reading(yard.engine) as connection:
        by_flag = list_releases(
            connection, project="shop", wanted=Wanted([State.RUNNING], "production", "checkout"), after=None, limit=9
        )
        none = list_releases(connection, project="shop", wanted=Wanted(flag="x"), after=None, limit=9)
        with pytest.raises(NotFound):
            read_release(connection, project="shop", id="rel_none")

    assert ([id], []) == ([each.id for each in by_flag], none)
    assert agrees(stored, yard.events(id))
    assert (10, {("production", "checkout")}) == (yard.percent(), set(stored.anchors))


def test_what_is_due_is_found(yard: Yard) -> None:
    """By its time; and at once when a guard that it goes by has failed, but by no other one."""
    guarded = Gates(minimum_s=3600, checks=(Check("errors_%"),))
    id = yard.started(Plan("p", (share(1, guarded), share(100, Gates()))))
    with writing(yard.engine) as connection:
        hasten(connection, project="shop", guard="errors", now=NOW)
        hasten(connection, project="shop", guard="errorsXY", now=NOW)
        before = find_due(connection, now=NOW, limit=9)
        hasten(connection, project="shop", guard="errors_%", now=NOW)
        after = find_due(connection, now=NOW, limit=9)

    assert ([], [("shop", id)]) == (before, after)
    assert NOW == yard.next_at()


def test_bounds(yard: Yard) -> None:
    """So many live at most; the oldest that have ended go, and their flags are free."""
    first = yard.started()
    stored = yard.stored(first)
    with writing(yard.engine) as connection, pytest.raises(TooLarge, match="at most 1"):
        insert_release(connection, stored, bounds=Bounds(live_max=1))
    yard.do(first, Act.ABORT)
    second = yard.create(PLAN, now=NOW + timedelta(seconds=1))
    another = yard.stored(second)
    with writing(yard.engine) as connection:
        insert_release(connection, replace(another, id="rel_third"), bounds=Bounds(ended_max=0))
    with reading(yard.engine) as connection:
        left = list_releases(connection, project="shop", wanted=Wanted(), after=None, limit=9)

    assert {second, "rel_third"} == {each.id for each in left}


def test_templates(shop: Engine) -> None:
    """They are replaced by their name, and listed by it."""
    steps = (TemplateStep(1_000, Gates(minimum_s=60.0, approvals=1)), TemplateStep(100_000, Gates()))
    slow, quick = (Template("shop", name, "", steps, "ann", NOW) for name in ("slow", "quick"))
    with writing(shop) as connection:
        assert [None, None, slow] == [put_template(connection, each) for each in (slow, quick, slow)]
        assert [quick, slow] == list_templates(connection, "shop")
        assert slow == delete_template(connection, "shop", "slow")
        with pytest.raises(NotFound, match="there are: quick"):
            delete_template(connection, "shop", "slow")


def test_one_moves_a_flag(yard: Yard) -> None:
    """Nobody else begins to, and nobody else changes it where it is locked."""
    first = yard.started(Plan("p", (share(1), share(100)), locks=True))
    second = yard.create()
    with pytest.raises(Refused, match=f"release {first} moves flag"):
        yard.do(second, Act.START)
    with pytest.raises(Refused, match=f"release {first} runs on flag"):
        put(yard.engine, PutFlag(flag(rules=[])))
