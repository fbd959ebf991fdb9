"""Make databases and definitions for the store's tests."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine

from server.core.changes import Change, CreateEnvironment, CreateProject
from server.core.definitions.flags import read_flag
from server.core.definitions.problems import Problems
from server.core.definitions.segments import read_segment
from server.core.environments import Environment
from server.core.flags import FlagDefinition
from server.core.json import Json
from server.core.segments import Segment
from server.store.commit import Committed, commit
from server.store.engine import open_engine, reading
from server.store.environments import StoredEnvironment, read_environment
from server.store.flagsets import StoredFlagSet, load_documents
from server.store.migrations import migrate

NOW: Final = datetime(2026, 1, 1, 12, tzinfo=UTC)
SHOP: Final = Environment("shop", "production")
STAGING: Final = Environment("shop", "staging")


def new_engine(directory: Path) -> Engine:
    """A migrated database without content."""
    engine = open_engine(f"sqlite:///{directory}/flagstaff.db")
    migrate(engine)
    return engine


def new_shop(directory: Path) -> Engine:
    """A database with project shop and its environments production and staging."""
    engine = new_engine(directory)
    put(engine, CreateProject("shop"), CreateEnvironment(SHOP))
    put(engine, CreateEnvironment(STAGING), environment="staging")
    return engine


def put(engine: Engine, *changes: Change, environment: str = "production", **options: Any) -> Committed:
    """Commit to the shop."""
    given = {"project": "shop", "environment": environment, "actor": "ann", "now": NOW, **options}
    return commit(engine, changes=changes, **given)


def flag(key: str = "checkout", **fields: Json) -> FlagDefinition:
    """A sound boolean flag with some fields of its own."""
    data = {"variants": {"on": True, "off": False}, "default": "off", **fields}
    problems = Problems()
    definition = read_flag(key, data, problems=problems, path=f"/flags/{key}")
    problems.raise_if_any()
    assert definition is not None
    return definition


def segment(key: str, condition: Json) -> Segment:
    """A sound segment."""
    problems = Problems()
    value = read_segment(key, {"condition": condition}, problems=problems, path=f"/segments/{key}")
    problems.raise_if_any()
    assert value is not None
    return value


def stored(engine: Engine, environment: str = "production") -> StoredFlagSet:
    """Everything that an environment of the shop has."""
    with reading(engine) as connection:
        return load_documents(connection, project="shop", environment=environment)


def at(engine: Engine, environment: str = "production") -> StoredEnvironment:
    """An environment of the shop and its revision."""
    with reading(engine) as connection:
        return read_environment(connection, project="shop", environment=environment)


@contextmanager
def behind_our_back(engine: Engine) -> Iterator[sqlite3.Connection]:
    """A plain connection to the same file, as somebody with another program would have it."""
    connection = sqlite3.connect(engine.url.database or "")
    try:
        yield connection
        connection.commit()
    finally:
        connection.close()
