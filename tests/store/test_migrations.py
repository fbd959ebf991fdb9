"""A database gets the schema of this program, whole or not at all."""

from pathlib import Path
from typing import Final

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, inspect

from server.core.errors import StoreCorrupt, StoreUnavailable
from server.store import migrations
from server.store.engine import open_engine, reading
from server.store.migrations import SchemaState, migrate, require_current, schema_state
from server.store.tables import Base
from tests.store.definitions import behind_our_back

_ALL: Final = sorted(path.name[:4] for path in Path(migrations.__file__).parent.glob("versions/[0-9]*.py"))


def test_a_new_database_is_migrated_once(url: str) -> None:
    """The first start applies every migration, the next one none."""
    engine = open_engine(url)
    before = schema_state(engine)
    applied = [migrate(engine), migrate(engine)]

    assert SchemaState.BEHIND is before
    assert [_ALL, []] == applied
    assert SchemaState.CURRENT is schema_state(engine)
    engine.dispose()


def test_models_and_migrations_agree(empty: Engine) -> None:
    """What the migrations build is what the models say."""
    with reading(empty) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})

        assert [] == compare_metadata(context, Base.metadata)


def test_an_older_schema_asks_for_migration(url: str) -> None:
    """A server does not go on with a schema that is too old."""
    engine = open_engine(url)

    with pytest.raises(StoreUnavailable, match="run `flagstaff migrate`"):
        require_current(engine)
    engine.dispose()


def test_a_newer_schema_is_refused(empty: Engine) -> None:
    """What a newer program made is not touched."""
    with behind_our_back(empty) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")

    assert SchemaState.AHEAD is schema_state(empty)
    with pytest.raises(StoreCorrupt, match="made by a newer Flagstaff"):
        migrate(empty)
    with pytest.raises(StoreCorrupt, match="made by a newer Flagstaff"):
        require_current(empty)


def test_a_foreign_database_is_left_alone(url: str) -> None:
    """Another program's database gets none of our tables."""
    engine = open_engine(url)
    with behind_our_back(engine) as connection:
        connection.execute("CREATE TABLE songs (title TEXT)")

    with pytest.raises(StoreCorrupt, match="was not made by Flagstaff"):
        migrate(engine)
    with reading(engine) as ours:
        assert ["songs"] == inspect(ours).get_table_names()
    engine.dispose()
