"""One management write: who may, under which policies, and what it tells."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from server.core.access import OPEN, Action, Grant, Principal, Role
from server.core.changes import CreateEnvironment, PutFlag
from server.core.environments import Environment
from server.core.errors import PermissionDenied, Refused
from server.core.events import Event
from server.core.policies import Permit
from server.operations.writes import Outcome, Write, Writer
from server.store.commit import Part
from server.store.engine import reading
from server.store.environments import read_environment
from tests.announced import check_announced
from tests.store.definitions import NOW, flag, new_shop, put


@pytest.fixture
def shop(tmp_path: Path) -> Any:
    """A database with project shop."""
    engine = new_shop(tmp_path)
    yield engine
    check_announced(engine)
    engine.dispose()


def _write(*grants: Grant, **options: Any) -> Write:
    return Write(Principal("token:1", grants) if grants else OPEN, Action.EDIT, NOW, **options)


def _revision(engine: Engine, environment: str = "production") -> int:
    with reading(engine) as connection:
        return read_environment(connection, project="shop", environment=environment).revision


def test_a_write_tells_what_became_of_it(shop: Engine) -> None:
    """Applied, unchanged, or what a dry run would have done; nothing moves but by the first."""
    writer = Writer(shop)
    parts = [Part("production", [PutFlag(flag())])]
    tried = writer.write("shop", parts, _write(dry_run=True))
    done = writer.write("shop", parts, _write())
    again = writer.write("shop", parts, _write())

    assert [Outcome.WOULD_APPLY, Outcome.APPLIED, Outcome.UNCHANGED] == [each.outcome for each in (tried, done, again)]
    assert [{"production": 2}, {"production": 2}, {}] == [each.revisions for each in (tried, done, again)]
    assert 2 == _revision(shop)


def test_every_environment_that_is_written_to_is_asked_about(shop: Engine) -> None:
    """A grant for one environment does not let its holder write to another beside it."""
    only = Grant(Role.EDIT, "shop", "staging")
    parts = [Part(name, [PutFlag(flag())]) for name in ("staging", "production")]
    with pytest.raises(PermissionDenied, match=r"token:1 may not edit in shop/production; .*`edit` or `admin`"):
        Writer(shop).write("shop", parts, _write(only))

    assert 1 == _revision(shop, "staging")


def test_an_environment_that_shares_the_flag_is_asked_about_too(shop: Engine) -> None:
    """Another variant reaches every environment with the flag, so the right to one of them is not enough."""
    for name in ("production", "staging"):
        put(shop, PutFlag(flag()), environment=name)
    changed = flag(variants={"on": True, "off": False, "also": True})
    with pytest.raises(PermissionDenied, match="shop/production"):
        Writer(shop).write("shop", [Part("staging", [PutFlag(changed)])], _write(Grant(Role.EDIT, "shop", "staging")))

    assert (2, 2) == (_revision(shop), _revision(shop, "staging"))


def test_policies_are_asked_within_the_commit(shop: Engine) -> None:
    """They see what would happen where, and what one refuses is taken back."""
    seen: list[str] = []

    def frozen(_write: Write) -> Permit:
        def permit(environment: Environment, events: Sequence[Event]) -> None:
            seen.extend(f"{environment.flag_set} {event.type}" for event in events)
            raise Refused("frozen")

        return permit

    with pytest.raises(Refused):
        Writer(shop, (frozen,)).write("shop", [Part("production", [PutFlag(flag())])], _write())

    assert (["shop/production flag.created"], 1) == (seen, _revision(shop))


def test_creating_an_environment_needs_the_right_there(shop: Engine) -> None:
    """Somebody who administers the project may; an editor of another environment may not."""
    parts = [Part("canary", [CreateEnvironment(Environment("shop", "canary"))])]
    with pytest.raises(PermissionDenied):
        Writer(shop).write("shop", parts, replace(_write(Grant(Role.EDIT, "shop")), action=Action.ADMINISTER))
    done = Writer(shop).write("shop", parts, replace(_write(Grant(Role.ADMIN, "shop")), action=Action.ADMINISTER))

    assert {"canary": 1} == done.revisions
