"""What is tried in a copy in memory comes out as it would in the database, which hears nothing of it."""

from collections.abc import Sequence
from typing import Any, Final

import pytest
from sqlalchemy import Connection, Engine

from server.core.changes import AddSegmentKeys, Change, PutFlag, PutSegment, RemoveFlag, UpdateEnvironment
from server.core.edits import SetDefault, SetEnabled, SetVariants
from server.core.environments import Bucketing
from server.core.errors import FlagstaffError
from server.core.keylists import key_list
from server.core.segments import Segment
from server.store.commit import Part, Seen, commit_within, try_within
from server.store.engine import reading, writing
from server.store.saving import Cause
from server.store.scratch import Reach, scratch
from tests.store.definitions import NOW, flag, put, stored

ON_BASE: Final = [{"flag": "base", "variants": ["on"]}]
WHY: Final = Cause("shop", "ann", NOW, "", "", "")
CHANGES: Final[dict[str, Sequence[Change]]] = {
    "one flag": [SetDefault("checkout", "on")],
    "a flag that others need": [SetEnabled("base", False), RemoveFlag("checkout")],
    "one that others still need": [RemoveFlag("base")],
    "a segment that rules name": [AddSegmentKeys("large", key_list(["zoe"]))],
    "variants that another environment has, too": [SetVariants("base", {"on": True, "off": False, "new": True})],
    "a value that others serve": [SetVariants("base", {"on": False, "off": False})],
    "a rule about a segment that is not there": [PutFlag(flag(rules=[{"condition": {"$ref": "gone"}, "serve": "on"}]))],
    "a new flag on an old one": [PutFlag(flag("new", prerequisites=ON_BASE))],
    "everything": [UpdateEnvironment(bucketing=Bucketing.V3)],
}


@pytest.fixture
def full(shop: Engine) -> Engine:
    """A shop whose flags need one another, in two environments, and large and small segments."""
    put(shop, PutSegment(Segment("large", key_list=key_list(f"user-{each}" for each in range(11_000)))))
    put(shop, PutFlag(flag("base")), PutFlag(flag("other")))
    put(shop, PutFlag(flag(rules=[{"condition": {"$ref": "large"}, "serve": "on"}], prerequisites=ON_BASE)))
    put(shop, PutFlag(flag("base")), environment="staging")
    return shop


def tried(connection: Connection, parts: Sequence[Part], attempt: Any) -> Any:
    """What came of an attempt: what it would do to each environment, or why it is refused."""
    seen: list[Seen] = []
    try:
        attempt(connection, parts=parts, why=WHY, observe=seen.append)
    except FlagstaffError as error:
        return type(error), str(error)
    return [(each.after.flag_set.environment.key, each.after.events) for each in seen]


def test_the_same_comes_of_it(full: Engine) -> None:
    """Events in every environment that is touched, and refusals with their words; the database stays as it was."""
    before = stored(full).flags
    there, here = {}, {}
    for case, changes in CHANGES.items():
        parts = (Part("production", tuple(changes)),)
        with reading(full) as connection, scratch(connection, Reach("shop", parts)) as copy:
            there[case] = tried(copy, parts, commit_within)
        with writing(full, about="project/shop") as connection:
            here[case] = tried(connection, parts, try_within)

    assert here == there
    assert 3 == sum(isinstance(each, tuple) for each in here.values())
    assert before == stored(full).flags


def test_one_after_another(full: Engine) -> None:
    """What was tried first is there for what is tried next."""
    put_, then = Part("production", (PutFlag(flag("new")),)), Part("production", (SetDefault("new", "on"),))
    with reading(full) as connection, scratch(connection, Reach("shop", (put_, then))) as copy:
        commit_within(copy, parts=(put_,), why=WHY)
        made = commit_within(copy, parts=(then,), why=WHY)

    assert ["flag.updated"] == [each.type for each in made["production"].events]


def test_only_what_is_touched_is_copied(full: Engine) -> None:
    """With whatever it depends on, or depends on it; a change of the environment takes all of it."""
    counts = []
    for change in (SetDefault("other", "on"), SetDefault("base", "on"), UpdateEnvironment(name="Live")):
        reach = Reach("shop", (Part("production", (change,)),))
        with reading(full) as connection, scratch(connection, reach) as copy:
            rows = copy.exec_driver_sql("SELECT key FROM flag_config ORDER BY environment, key").scalars()
            counts.append(list(rows))

    assert [["other"], ["base", "checkout", "base"], ["base", "checkout", "other", "base"]] == counts


def test_nobody_waits(full: Engine) -> None:
    """It is tried while somebody else has the project's turn, and sees what was there before."""
    parts = (Part("production", (SetDefault("checkout", "on"),)),)
    with writing(full, about="project/shop") as writer:
        commit_within(writer, parts=(Part("production", (RemoveFlag("checkout"),)),), why=WHY)
        with reading(full) as connection, scratch(connection, Reach("shop", parts)) as copy:
            seen = tried(copy, parts, commit_within)

    assert [("production", ["flag.updated"])] == [(key, [each.type for each in events]) for key, events in seen]
