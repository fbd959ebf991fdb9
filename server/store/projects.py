"""List projects."""

from typing import Final

from sqlalchemy import Connection, select

from server.core.environments import Project
from server.core.errors import NotFound
from server.store import tables

_TABLE: Final = tables.projects.c
_QUERY: Final = select(_TABLE.key, _TABLE.name, _TABLE.description).where(_TABLE.deleted_at.is_(None))


def list_projects(connection: Connection) -> list[Project]:
    """All projects, by key."""
    return [Project(*row) for row in connection.execute(_QUERY.order_by(_TABLE.key))]


def find_project(connection: Connection, key: str) -> Project | None:
    """One project, or None."""
    row = connection.execute(_QUERY.where(_TABLE.key == key)).first()
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
