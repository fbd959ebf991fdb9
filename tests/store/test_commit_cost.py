"""A commit asks few things of the database, and as few with many flags and environments."""

import re
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, event

from server.core.changes import CreateEnvironment, PutFlag
from server.core.environments import Environment
from server.store.engine import open_engine, reading
from tests.store.definitions import ON_SQLITE, flag, put

GOES_THROUGH = re.compile(r"SCAN |SEARCH (flag|flag_config|revision|reference) .*\((project=\?)?\)")
"""In SQLite's words: all rows, or all those of a project. Not of the trail, whose last entry is found so."""

ASKED_MAX = 12
"""The turn, what the change touches and depends on, who else moves it, six writes, and the end."""


@pytest.fixture
def asked(shop: Engine) -> Iterator[tuple[Engine, list[str]]]:
    """Connections of their own to the shop, and the statements that ran there."""
    statements: list[str] = []
    engine = open_engine(str(shop.url))
    event.listen(engine, "connect", lambda driver, _record: driver.set_trace_callback(statements.append))
    yield engine, statements
    engine.dispose()


@ON_SQLITE
def test_a_change_of_one_flag_asks_few_things(asked: tuple[Engine, list[str]]) -> None:
    """Each of them is a round trip to a database on another machine."""
    engine, statements = asked
    put(engine, PutFlag(flag()))
    statements.clear()

    put(engine, PutFlag(flag(rules=[{"id": "r", "serve": "on"}])))

    assert len(statements) <= ASKED_MAX, statements


@ON_SQLITE
def test_no_sum_is_made_again(asked: tuple[Engine, list[str]]) -> None:
    """A change that reaches other environments adds to what was counted there; counting all would cost by the flag."""
    engine, statements = asked
    put(engine, CreateEnvironment(Environment("shop", "development")), environment="development")
    for environment in ("production", "staging", "development"):
        put(engine, PutFlag(flag()), PutFlag(flag("other")), environment=environment)
    statements.clear()

    done = put(engine, PutFlag(flag(description="shared")))

    assert {"development": 3, "staging": 3} == done.elsewhere
    assert [] == [each for each in statements if "sum(" in each.lower()]


@ON_SQLITE
def test_no_statement_goes_through_all_flags(asked: tuple[Engine, list[str]]) -> None:
    """Each finds its rows by an index whose every column it knows, or by more of it than the project."""
    engine, statements = asked
    for environment in ("production", "staging"):
        put(engine, PutFlag(flag()), environment=environment)
    statements.clear()
    put(engine, PutFlag(flag(description="shared")))

    selects = [each for each in statements if each.startswith("SELECT")]
    with reading(engine) as connection:
        plans = {each: connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {each}").all() for each in selects}

    details = [(row[3], each) for each, rows in plans.items() for row in rows]
    assert any("flag_config" in detail for detail, _ in details)
    assert [] == [found for found in details if GOES_THROUGH.search(found[0])]
