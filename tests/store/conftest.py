"""Give the store's tests a database each."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from tests.store.definitions import new_engine, new_shop


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Engine]:
    """A migrated database without content."""
    engine = new_engine(tmp_path)
    yield engine
    engine.dispose()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Engine]:
    """A database with project shop and its environments production and staging."""
    engine = new_shop(tmp_path)
    yield engine
    engine.dispose()
