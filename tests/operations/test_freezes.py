"""A freeze holds management writes back, in every environment that they reach."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from server.core.access import OPEN, Action, Grant, Principal, Role
from server.core.changes import Change, PutFlag, UpdateEnvironment
from server.core.environments import FreezeWindow
from server.core.errors import Refused
from server.operations.freezes import permit_unless_frozen
from server.operations.writes import Write, Writer, Written
from server.store.audit import list_entries
from server.store.commit import Part
from server.store.engine import reading
from tests.announced import check_announced
from tests.store.definitions import NOW, at, flag, new_shop, put

WINDOW = FreezeWindow(NOW - timedelta(days=1), NOW + timedelta(days=1), "Holidays")
EDITOR = Write(Principal("token:1", (Grant(Role.EDIT),)), Action.EDIT, NOW)


@pytest.fixture
def frozen(tmp_path: Path) -> Iterator[Engine]:
    """A shop with one flag everywhere, whose production is frozen."""
    engine = new_shop(tmp_path)
    for name in ("production", "staging"):
        put(engine, PutFlag(flag()), environment=name)
    put(engine, UpdateEnvironment(freeze_windows=(WINDOW,)))
    yield engine
    check_announced(engine)
    engine.dispose()


def write(engine: Engine, change: Change, how: Write = EDITOR, *, environment: str = "production") -> Written:
    """Make one change as the server does."""
    return Writer(engine, (permit_unless_frozen,)).write("shop", [Part(environment, [change])], how)


def test_nothing_changes_while_it_is_frozen(frozen: Engine) -> None:
    """Neither here nor from an environment beside that shares the flag; a dry run says so too."""
    changed = PutFlag(flag(variants={"on": True, "off": False, "also": True}))
    for environment in ("production", "staging"):
        for how in (EDITOR, replace(EDITOR, dry_run=True)):
            with pytest.raises(Refused, match="'shop/production' is frozen until 2026-01-02 12:00 UTC: Holidays"):
                write(frozen, changed, how, environment=environment)

    assert (3, 2) == (at(frozen).revision, at(frozen, "staging").revision)


def test_a_kill_passes(frozen: Engine) -> None:
    """Also for those who may bypass nothing."""
    assert {"production": 4} == write(frozen, PutFlag(flag(enabled=False))).revisions


def test_the_trail_tells_a_bypass(frozen: Engine) -> None:
    """Who stepped over a freeze is found by the entry's cause."""
    how = replace(EDITOR, principal=OPEN, bypass_approval=True, reason="The bank is down", cause="INC-1")
    write(frozen, PutFlag(flag("other")), how)

    with reading(frozen) as connection:
        entry = list_entries(connection, project="shop")[0]
    assert ("flag.created", "The bank is down", "bypass: INC-1") == (entry.action, entry.reason, entry.cause)


def test_it_ends_by_itself(frozen: Engine) -> None:
    """At the window's end, without a change."""
    assert {"production": 4} == write(frozen, PutFlag(flag("b")), replace(EDITOR, now=WINDOW.ends_at)).revisions
