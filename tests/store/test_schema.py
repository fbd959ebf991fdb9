"""The quick look at the schema agrees with Alembic."""

from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

from server.store.engine import open_engine, writing
from server.store.schema import VERSIONS, is_newest, newest_revision


def test_the_newest_revision_is_alembics_head() -> None:
    """Files are numbered in the order of their revisions."""
    config = Config()
    config.set_main_option("script_location", str(VERSIONS.parent).replace("%", "%%"))

    assert ScriptDirectory.from_config(config).get_current_head() == newest_revision()


def test_a_new_database_is_not_the_newest(url: str) -> None:
    """A database without any table has to be migrated."""
    engine = open_engine(url)

    assert not is_newest(engine)
    engine.dispose()


def test_a_migrated_database_is_the_newest(empty: Engine) -> None:
    """After a migration there is nothing left to apply."""
    assert is_newest(empty)


def test_another_revision_is_not_the_newest(empty: Engine) -> None:
    """An older or a newer program's schema is left to Alembic's judgement."""
    with writing(empty) as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")

    assert not is_newest(empty)
