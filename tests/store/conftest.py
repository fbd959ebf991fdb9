"""Give the store's tests a database each, of every kind."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from tests.store.definitions import KINDS, database, new_url


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """The kind of database; `ON_SQLITE` and `ON_POSTGRESQL` choose one."""
    chosen: str = request.param
    return chosen


@pytest.fixture
def url(tmp_path: Path, kind: str) -> Iterator[str]:
    """Where a database may be made."""
    with new_url(tmp_path, kind) as address:
        yield address


@pytest.fixture
def empty(tmp_path: Path, kind: str) -> Iterator[Engine]:
    """A migrated database without content."""
    with database(tmp_path, kind, shop=False) as engine:
        yield engine


@pytest.fixture
def shop(tmp_path: Path, kind: str) -> Iterator[Engine]:
    """A database with project shop and its environments production and staging."""
    with database(tmp_path, kind, shop=True) as engine:
        yield engine
