"""Whoever changes what a launch plan is about is told, and so is the plan's owner of what else is to happen."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from server.core.changes import PutFlag
from server.core.edits import SetEnabled
from server.operations.launch_plans.foresight import ConflictKind
from server.store.commit import Part
from server.store.engine import writing
from server.store.locks import take_locks
from tests.operations.launch_plans.planned import EDITOR, begun, fill, item, launch, look, plans, write, writer
from tests.operations.schedules.scheduled import Shop
from tests.store.definitions import database, flag


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Engine]:
    """A shop with flags in SQLite."""
    with database(tmp_path, "sqlite", shop=True) as engine:
        fill(engine)
        yield engine


def _warnings(engine: Engine, key: str, environment: str = "production") -> tuple[str, ...]:
    part = Part(environment, [PutFlag(flag(key, description="by hand"))])
    return writer(engine).write("shop", [part], write(EDITOR)).warnings


def test_a_write_by_hand_names_the_plan(shop: Engine) -> None:
    """While it is not over, and only where it goes."""
    id = begun(shop, launch(item("go", "T-0")))

    assert [f"launch plan {id} (New UI) is about flag new-ui in production, too"] == list(_warnings(shop, "new-ui"))
    assert () == _warnings(shop, "banner")
    assert () == _warnings(shop, "new-ui", "staging")
    plans(shop).cancel(write(EDITOR), project="shop", id=id)
    put_again = writer(shop).write("shop", [Part("production", [PutFlag(flag("new-ui"))])], write(EDITOR))
    assert () == put_again.warnings


@pytest.mark.parametrize("locks", [True, False])
def test_what_else_is_to_happen_is_told(shop: Engine, locks: bool) -> None:
    """Schedules that wait, and releases that run, where they go; not what is about other flags."""
    schedule = Shop(shop).new(SetEnabled("new-ui", False))
    Shop(shop).new(SetEnabled("banner", False))
    with writing(shop) as connection:
        take_locks(connection, "shop", subjects=[("production", "new-ui")], holder="release:rl_1", locks=locks)
    id = begun(shop, launch(item("go", "T-0")))
    told = [each.message for each in look(shop, id).foresight.conflicts if each.kind is ConflictKind.OVERLAP]

    assert 2 == len(told)
    assert f"schedule {schedule} is to change" in told[0]
    assert "flag 'new-ui' in 'production' is moved by release:rl_1" in told[1]
    assert locks is ("refuses" in told[1])
