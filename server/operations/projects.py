"""Manage projects."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, Engine

from server.core.access import Action, Principal, Scope
from server.core.changes import (
    Change,
    CreateEnvironment,
    CreateProject,
    DeleteEnvironment,
    DeleteProject,
    UpdateProject,
)
from server.core.environments import Environment, Project
from server.core.events import ProjectDeleted
from server.operations.places import confirmed, first_answer, may_read
from server.operations.writes import Write, Writer, Written, require
from server.store.commit import Part
from server.store.engine import reading
from server.store.environments import list_environments
from server.store.projects import list_projects, read_project
from server.store.versions import Thing, read_project_version

DEFAULT_ENVIRONMENTS: Final = ("development", "staging", "production")


@dataclass(frozen=True, slots=True)
class StoredProject:
    """A project as somebody may see it."""

    project: Project
    version: int
    environments: tuple[str, ...]
    """Keys of those that they may read."""


@dataclass(frozen=True, slots=True)
class Projects:
    """The projects of one database. Errors of writes: as Writer."""

    engine: Engine
    writer: Writer

    def create(self, project: Project, environments: Sequence[str], write: Write) -> Written:
        """Create a project with environments."""
        create = CreateProject(project.key, project.name, project.description)
        first, *others = environments or ("",)
        begin: list[Change] = [create, CreateEnvironment(Environment(project.key, first))] if first else [create]
        parts = [Part(first, begin)]
        parts += [Part(key, [CreateEnvironment(Environment(project.key, key))]) for key in others]
        return self.writer.write(project.key, parts, write)

    def read(self, key: str, principal: Principal) -> StoredProject:
        """One project. Errors: NotFound."""
        with reading(self.engine) as connection:
            return _seen(connection, read_project(connection, key), _keys(connection), principal)

    def list_readable(self, principal: Principal) -> list[StoredProject]:
        """Those in which somebody may read something, by key."""
        with reading(self.engine) as connection:
            keys = _keys(connection)
            found = [_seen(connection, project, keys, principal) for project in list_projects(connection)]
        return [each for each in found if each.environments or principal.may(Action.READ, Scope(each.project.key))]

    def update(self, key: str, *, name: str | None, description: str | None, write: Write) -> Written:
        """Rename or describe a project."""
        part = Part("", [UpdateProject(name, description)], expected_versions=_expected(key, write))
        return self.writer.write(key, [part], write)

    def delete(self, key: str, *, confirm: str, write: Write) -> Written:
        """Delete a project with its environments. Errors: InvalidRequest when it is not confirmed by its key."""
        require(write.principal, write.action, Scope(key))
        confirmed("project", key, confirm)
        # What is gone has no environments that could be named again.
        repeated = first_answer(self.engine, key, write, event=ProjectDeleted, key=key)
        if repeated is not None:
            return repeated
        with reading(self.engine) as connection:
            read_project(connection, key)
            environments = _keys(connection).get(key, [])
        parts = [Part(each, [DeleteEnvironment()]) for each in environments]
        parts.append(Part("", [DeleteProject()], expected_versions=_expected(key, write)))
        return self.writer.write(key, parts, write)


def _expected(key: str, write: Write) -> dict[Thing, int]:
    return {} if write.expected_version is None else {("project", key): write.expected_version}


def _keys(connection: Connection) -> dict[str, list[str]]:
    keys: dict[str, list[str]] = {}
    for stored in list_environments(connection):
        keys.setdefault(stored.environment.project, []).append(stored.environment.key)
    return keys


def _seen(connection: Connection, project: Project, keys: dict[str, list[str]], principal: Principal) -> StoredProject:
    readable = tuple(key for key in keys.get(project.key, []) if may_read(principal, project.key, key))
    return StoredProject(project, read_project_version(connection, project.key) or 0, readable)
