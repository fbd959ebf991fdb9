"""Give the tests of hooks a shop in a database of every kind."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from tests.store.definitions import KINDS, database


@pytest.fixture(params=KINDS)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """A database with project shop, and no hook."""
    with database(tmp_path, request.param, shop=True) as engine:
        yield engine
