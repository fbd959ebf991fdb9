"""Manage environments."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from sqlalchemy import Connection, Engine, Table, func, select

from server.core.changes import (
    Change,
    CreateEnvironment,
    DeleteEnvironment,
    PutFlag,
    PutSegment,
    UpdateEnvironment,
)
from server.core.environments import Bucketing, Environment
from server.core.errors import Stale
from server.core.events import EnvironmentCreated, EnvironmentUpdated
from server.core.flagsets import FlagSet
from server.operations.bucketing import SAMPLE_USERS, moved_users
from server.operations.flagsets import COMMIT_ATTEMPTS_MAX, read_stored
from server.operations.places import confirmed, first_answer
from server.operations.writes import Write, Writer, Written
from server.store import tables
from server.store.commit import Part
from server.store.engine import reading
from server.store.environments import StoredEnvironment, list_environments, read_environment
from server.store.projects import read_project
from server.store.versions import ABSENT, Thing, read_versions

OWN_NAME: Final = "flagSetId"
"""The entry of an environment's metadata by which clients find it under a further name."""


@dataclass(frozen=True, slots=True)
class ManagedEnvironment:
    """An environment as it is managed."""

    stored: StoredEnvironment
    version: int
    flag_count: int
    segment_count: int


@dataclass(frozen=True, slots=True)
class Updated:
    """What an update did, and whom another bucketing moves."""

    written: Written
    moved: Mapping[str, int] = field(default_factory=dict)
    """Flag -> how many of the sample users get another variant."""

    sample_users: int = 0
    """0 when the bucketing did not change."""


@dataclass(frozen=True, slots=True)
class Environments:
    """The environments of one database. Errors of writes: as Writer."""

    engine: Engine
    writer: Writer

    def create(self, environment: Environment, write: Write) -> Written:
        """Create an environment without flags."""
        expected: dict[Thing, int] = {} if write.expected_version is None else _absent(environment, write)
        part = Part(environment.key, [CreateEnvironment(environment)], expected_versions=expected)
        return self.writer.write(environment.project, [part], write)

    def read(self, project: str, key: str) -> ManagedEnvironment:
        """One environment. Errors: NotFound."""
        with reading(self.engine) as connection:
            return _managed(connection, read_environment(connection, project=project, environment=key))

    def list_all(self, project: str) -> list[ManagedEnvironment]:
        """Those of a project, by key. Errors: NotFound when there is no such project."""
        with reading(self.engine) as connection:
            read_project(connection, project)
            return [
                _managed(connection, stored)
                for stored in list_environments(connection)
                if stored.environment.project == project
            ]

    def update(self, project: str, key: str, change: UpdateEnvironment, write: Write) -> Updated:
        """Set what a change has."""
        part = Part(key, [change], expected_versions=_expected(key, write))
        written = self.writer.write(project, [part], write)
        for event in written.events.get(key, ()):
            if isinstance(event, EnvironmentUpdated) and event.before.bucketing != event.after.bucketing:
                flag_set, _ = read_stored(self.engine, project=project, environment=key)
                return _with_moved(written, flag_set, event.before.bucketing, event.after.bucketing, write)
        return Updated(written)

    def clone(self, environment: Environment, *, source: str, write: Write) -> Written:
        """Create an environment, of which key and name count, with what another one has.

        Errors: NotFound when there is none to take it from; Stale when that one changes all the time.
        """
        project = environment.project
        repeated = first_answer(self.engine, project, write, event=EnvironmentCreated, key=environment.key)
        if repeated is not None:
            return repeated
        attempts = COMMIT_ATTEMPTS_MAX
        while True:
            flag_set, revision = read_stored(self.engine, project=project, environment=source)
            parts = [
                # Nothing to do there, but what all environments share must still be what was read.
                Part(source, (), expected_revision=revision),
                Part(environment.key, _cloned(environment, flag_set)),
            ]
            try:
                return self.writer.write(project, parts, write)
            except Stale:
                attempts -= 1
                if not attempts:
                    raise

    def delete(self, project: str, key: str, *, confirm: str, write: Write) -> Written:
        """Delete an environment with all that it has. Errors: InvalidRequest when it is not confirmed by its key."""
        confirmed("environment", key, confirm)
        part = Part(key, [DeleteEnvironment()], expected_versions=_expected(key, write))
        return self.writer.write(project, [part], write)


def _expected(key: str, write: Write) -> dict[Thing, int]:
    return {} if write.expected_version is None else {("environment", key): write.expected_version}


def _absent(environment: Environment, write: Write) -> dict[Thing, int]:
    return {("environment", environment.key): write.expected_version or ABSENT}


def _managed(connection: Connection, stored: StoredEnvironment) -> ManagedEnvironment:
    here = stored.environment
    version = read_versions(
        connection, project=here.project, environment=here.key, kind="environment", keys=[here.key]
    ).get(here.key, 0)
    counts = [_count(connection, here, table) for table in (tables.flag_configs, tables.segments)]
    return ManagedEnvironment(stored, version, *counts)


def _count(connection: Connection, here: Environment, table: Table) -> int:
    mine = (table.c.project == here.project) & (table.c.environment == here.key)
    return int(connection.execute(select(func.count()).select_from(table).where(mine)).scalar_one())


def _with_moved(written: Written, flag_set: FlagSet, before: Bucketing, after: Bucketing, write: Write) -> Updated:
    # A dry run left the stored one as it was.
    changed = replace(flag_set, environment=replace(flag_set.environment, bucketing=after))
    moved = moved_users(changed, before, now=int(write.now.timestamp()))
    warning = (
        f"units are dealt anew: of {SAMPLE_USERS} sample users, up to {max(moved.values(), default=0)} get another "
        f"variant of a flag, in {len(moved)} flags"
    )
    return Updated(replace(written, warnings=(*written.warnings, warning)), moved, SAMPLE_USERS)


def _cloned(wanted: Environment, source: FlagSet) -> list[Change]:
    copied = source.environment
    metadata = {name: value for name, value in copied.metadata.items() if name != OWN_NAME}
    environment = replace(copied, key=wanted.key, name=wanted.name, metadata=metadata, source="", freeze_windows=())
    return [
        CreateEnvironment(environment),
        *(PutSegment(segment) for segment in source.segments.values()),
        *(PutFlag(definition) for definition in source.flags.values()),
    ]
