"""List environments with the revision that each is at."""

from dataclasses import dataclass

from sqlalchemy import Connection, select

from server.core.environments import Environment
from server.core.errors import NotFound
from server.store import tables
from server.store.mapping import environment_from_row


@dataclass(frozen=True, slots=True)
class StoredEnvironment:
    """An environment and its last commit's revision."""

    environment: Environment
    revision: int


def list_environments(connection: Connection) -> list[StoredEnvironment]:
    """All environments of all projects, by project and key."""
    columns = tables.environments.c
    rows = connection.execute(select(tables.environments).order_by(columns.project, columns.key)).mappings()
    return [StoredEnvironment(environment_from_row(dict(row)), row["revision"]) for row in rows]


def find_environment(connection: Connection, *, project: str, environment: str) -> StoredEnvironment | None:
    """One environment, or None."""
    columns = tables.environments.c
    query = select(tables.environments).where(columns.project == project, columns.key == environment)
    row = connection.execute(query).mappings().first()
    return None if row is None else StoredEnvironment(environment_from_row(dict(row)), row["revision"])


def read_environment(connection: Connection, *, project: str, environment: str) -> StoredEnvironment:
    """One environment. Errors: NotFound, naming those that exist."""
    stored = find_environment(connection, project=project, environment=environment)
    if stored is None:
        known = ", ".join(each.environment.flag_set for each in list_environments(connection)[:10])
        raise NotFound(f"environment '{project}/{environment}' does not exist; there is: {known or 'none yet'}")
    return stored
