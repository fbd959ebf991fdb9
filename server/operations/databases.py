"""Open the database for what an operation does with it: read what is there, or make it fit to be written."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

from sqlalchemy import Engine

from server.core.errors import StoreUnavailable
from server.store import migrations
from server.store.engine import open_engine, shown


class DatabaseState(StrEnum):
    """How a database stands to this program."""

    ABSENT = "absent"
    CURRENT = "current"
    BEHIND = "behind"
    AHEAD = "ahead"


@contextmanager
def open_to_read(url: str) -> Iterator[Engine]:
    """Open a database that is there with this program's schema; it is not made and not migrated.

    Errors: StoreUnavailable when it is absent or older, StoreCorrupt, InvalidRequest for a URL that is none.
    """
    with _opened(url) as engine:
        if not _exists(engine):
            raise StoreUnavailable(
                f"{shown(engine)} does not exist; name the right one with --database-url, "
                "or make it with `flagstaff import FILE`"
            )
        migrations.require_current(engine)
        yield engine


@contextmanager
def open_to_write(url: str) -> Iterator[Engine]:
    """Open a database, made and migrated as needed. Errors: as `open_to_read`, without the absent one."""
    with _opened(url) as engine:
        migrations.migrate(engine)
        yield engine


def migrate(url: str) -> list[str]:
    """Make the database or bring its schema up to date; gives the migrations applied. Errors: as `open_to_write`."""
    with _opened(url) as engine:
        return migrations.migrate(engine)


def read_state(url: str) -> DatabaseState:
    """How the database stands, without making or changing it. Errors: StoreUnavailable, StoreCorrupt."""
    with _opened(url) as engine:
        return DatabaseState(migrations.schema_state(engine)) if _exists(engine) else DatabaseState.ABSENT


def is_there(url: str) -> bool:
    """Whether the database exists. Errors: InvalidRequest for a URL that is none."""
    with _opened(url) as engine:
        return _exists(engine)


@contextmanager
def _opened(url: str) -> Iterator[Engine]:
    engine = open_engine(url)
    try:
        yield engine
    finally:
        engine.dispose()


def _exists(engine: Engine) -> bool:
    # Looking by a connection would make an empty file.
    return Path(engine.url.database or "").exists()
