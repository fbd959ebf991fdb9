"""List projects."""

from sqlalchemy import Connection, select

from server.core.environments import Project
from server.store import tables


def list_projects(connection: Connection) -> list[Project]:
    """All projects, by key."""
    columns = tables.projects.c
    rows = connection.execute(select(columns.key, columns.name).order_by(columns.key))
    return [Project(key, name) for key, name in rows]
