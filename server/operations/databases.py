"""Open the database for what an operation does with it: read what is there, or make it fit to be written."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from types import ModuleType

from sqlalchemy import Engine

from server.core.errors import StoreUnavailable
from server.store.engine import is_there as has_content
from server.store.engine import open_engine, shown
from server.store.schema import is_newest


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
        if not has_content(engine):
            raise StoreUnavailable(
                f"{shown(engine)} does not exist; name the right one with --database-url, "
                "or make it with `flagstaff import FILE`"
            )
        if not is_newest(engine):
            _migrations().require_current(engine)
        yield engine


@contextmanager
def open_to_write(url: str) -> Iterator[Engine]:
    """Open a database, made and migrated as needed. Errors: as `open_to_read`, without the absent one."""
    with _opened(url) as engine:
        if not is_newest(engine):
            _migrations().migrate(engine)
        yield engine


def migrate(url: str) -> list[str]:
    """Make the database or bring its schema up to date; gives the migrations applied. Errors: as `open_to_write`."""
    with _opened(url) as engine:
        return [] if is_newest(engine) else _migrations().migrate(engine)


def read_state(url: str) -> DatabaseState:
    """How the database stands, without making or changing it. Errors: StoreUnavailable, StoreCorrupt."""
    with _opened(url) as engine:
        if not has_content(engine):
            return DatabaseState.ABSENT
        return DatabaseState.CURRENT if is_newest(engine) else DatabaseState(_migrations().schema_state(engine))


def is_there(url: str) -> bool:
    """Whether the database exists. Errors: InvalidRequest for a URL that is none."""
    with _opened(url) as engine:
        return has_content(engine)


def _migrations() -> ModuleType:
    """Loaded only where there is something to migrate, or to refuse: it brings Alembic along, a tenth of a start."""
    from server.store import migrations  # noqa: PLC0415

    return migrations


def local_name(url: str) -> str:
    """A path for what belongs to the database and is kept on this machine: beside its file, or in this directory.

    Errors: InvalidRequest for a URL that is none.
    """
    with _opened(url) as engine:
        address = engine.url
    if address.get_backend_name() == "sqlite":
        return address.database or ""
    # The port tells two servers of one machine apart; a host may be an address with colons, or a directory.
    host = (address.host or "local").replace("/", "_").replace(":", "_")
    return f"{address.database}@{host}{f'_{address.port}' if address.port else ''}"


@contextmanager
def _opened(url: str) -> Iterator[Engine]:
    engine = open_engine(url)
    try:
        yield engine
    finally:
        engine.dispose()
