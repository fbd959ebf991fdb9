"""Make databases and definitions for the store's tests."""

import functools
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

import pytest
from sqlalchemy import URL, Engine

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
from tests import postgres

KINDS: Final = ("sqlite", "postgresql")
ON_SQLITE: Final = pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
ON_POSTGRESQL: Final = pytest.mark.parametrize("kind", ["postgresql"], indirect=True)
NOW: Final = datetime(2026, 1, 1, 12, tzinfo=UTC)
SHOP: Final = Environment("shop", "production")
STAGING: Final = Environment("shop", "staging")


@contextmanager
def new_url(directory: Path, kind: str = "sqlite", *, template: str = "template0") -> Iterator[str]:
    """The address of a database that is not there yet, or is empty; gone afterwards."""
    if kind == "sqlite":
        yield f"sqlite:///{directory}/flagstaff.db"
        return
    url = postgres.create_database(postgres.required_url(), template=template)
    try:
        yield postgres.text_of(url)
    finally:
        postgres.drop_database(url)


def another(engine: Engine) -> Engine:
    """Another process's connections to the same database."""
    return open_engine(postgres.text_of(engine.url))


def new_engine(directory: Path) -> Engine:
    """A migrated database in a file, without content."""
    return _copied(directory, shop=False)


def new_shop(directory: Path) -> Engine:
    """A file with project shop and its environments production and staging."""
    return _copied(directory, shop=True)


def _copied(directory: Path, *, shop: bool) -> Engine:
    path = directory / "flagstaff.db"
    path.write_bytes(_file(shop=shop))
    return open_engine(f"sqlite:///{path}")


@functools.cache
def _file(*, shop: bool) -> bytes:
    # Made once and copied for each test: migrations take a tenth of a second.
    with tempfile.TemporaryDirectory(prefix="flagstaff-") as directory:
        path = Path(directory) / "flagstaff.db"
        engine = open_engine(f"sqlite:///{path}")
        migrate(engine)
        if shop:
            open_shop(engine)
        # The last connection that is closed leaves all in the one file.
        engine.dispose()
        assert [path] == list(path.parent.iterdir())
        return path.read_bytes()


def open_shop(engine: Engine) -> None:
    """Make the project and its environments."""
    put(engine, CreateProject("shop"), CreateEnvironment(SHOP))
    put(engine, CreateEnvironment(STAGING), environment="staging")


@contextmanager
def database(directory: Path, kind: str, *, shop: bool) -> Iterator[Engine]:
    """A migrated database of a kind, without content or with the shop."""
    if kind == "sqlite":
        engine = new_shop(directory) if shop else new_engine(directory)
        yield engine
        engine.dispose()
        return
    template = _template(postgres.required_url(), shop=shop)
    with new_url(directory, kind, template=template) as url:
        engine = open_engine(url)
        yield engine
        engine.dispose()


@functools.cache
def _template(server: URL, *, shop: bool) -> str:
    # Copied for each test: a fifth of the time that migrations take.
    url = postgres.create_database(server)
    engine = open_engine(postgres.text_of(url))
    migrate(engine)
    if shop:
        open_shop(engine)
    engine.dispose()
    return url.database or ""


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


class Outsider(Protocol):
    """A plain connection to the database, as somebody with another program would have it."""

    def execute(self, statement: str, values: Sequence[object] = (), /) -> Any:
        """Placeholders are question marks."""


@contextmanager
def behind_our_back(engine: Engine) -> Iterator[Outsider]:
    """Write past the door."""
    if engine.dialect.name == "postgresql":
        with postgres.connect(engine.url) as outside:
            yield _Outside(outside)
        return
    connection = sqlite3.connect(engine.url.database or "")
    try:
        yield connection
        connection.commit()
    finally:
        connection.close()


class _Outside:
    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def execute(self, statement: str, values: Sequence[object] = (), /) -> Any:
        return self._connection.execute(statement.replace("?", "%s"), values or None)


def unlock_history(engine: Engine, connection: Outsider) -> None:
    """Take away what keeps audit entries and revisions from being changed."""
    for table in ("audit_entry", "revision"):
        for verb in ("update", "delete"):
            on = f" ON {table}" if engine.dialect.name == "postgresql" else ""
            connection.execute(f"DROP TRIGGER {table}_refuses_{verb}{on}")
