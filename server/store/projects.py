"""List projects, and keep a place for what belongs to none."""

from datetime import datetime
from typing import Final

from sqlalchemy import Connection, bindparam, insert, select

from server.core.audit import SERVER_TRAIL
from server.core.environments import Project
from server.core.errors import NotFound
from server.store import tables
from server.store.statements import Statement

_TABLE: Final = tables.projects.c
# The row of the server itself is no project.
IS_PROJECT: Final = (_TABLE.key != SERVER_TRAIL) & _TABLE.deleted_at.is_(None)
_QUERY: Final = select(_TABLE.key, _TABLE.name, _TABLE.description).where(IS_PROJECT)
_ONE: Final = Statement(_QUERY.where(_TABLE.key == bindparam("own_key")))


def list_projects(connection: Connection) -> list[Project]:
    """All projects, by key."""
    return [Project(*row) for row in connection.execute(_QUERY.order_by(_TABLE.key))]


def last_sequences(connection: Connection) -> dict[str, int]:
    """Each project's number of its last event, also of those that are deleted."""
    return {key: last for key, last in connection.execute(select(_TABLE.key, _TABLE.event_sequence))}


def find_project(connection: Connection, key: str) -> Project | None:
    """One project, or None."""
    row = _ONE.first(connection, own_key=key)
    return None if row is None else Project(*row)


def read_project(connection: Connection, key: str) -> Project:
    """One project. Errors: NotFound, naming those that exist."""
    project = find_project(connection, key)
    if project is None:
        known = ", ".join(each.key for each in list_projects(connection)[:10])
        raise NotFound(f"project {key!r} does not exist; there is: {known or 'none yet'}")
    return project


def was_deleted(connection: Connection, key: str) -> bool:
    """Whether a project was deleted, and not created again since."""
    query = select(_TABLE.key).where(_TABLE.key == key, _TABLE.deleted_at.is_not(None))
    return connection.execute(query).first() is not None


def ensure_server(connection: Connection, now: datetime) -> None:
    """Have a row for the server itself, to which what belongs to no project can refer."""
    if connection.execute(select(_TABLE.key).where(_TABLE.key == SERVER_TRAIL)).first() is None:
        connection.execute(insert(tables.projects), [{"key": SERVER_TRAIL, "created_at": now}])
