"""Hold part of a project in memory, as it is in the database, so that changes are tried where nobody waits for it.

What is tried in the database itself and taken back has its turn there: everybody who writes to the project waits.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Table, insert, select

from server.core.changes import CreateEnvironment, CreateProject, DeleteEnvironment, UpdateEnvironment
from server.core.environments import Environment
from server.core.references import Target
from server.store import release_tables, tables
from server.store.engine import open_scratch, writing
from server.store.flagsets import in_parts
from server.store.neighbourhood import needed_by, subjects_of
from server.store.orders import Part
from server.store.rows import Base

PLACES: Final = (CreateProject, CreateEnvironment, UpdateEnvironment, DeleteEnvironment)
"""Changes that everything in an environment may depend on."""

_AT_ONCE: Final = 1_000


@dataclass(frozen=True, slots=True)
class Reach:
    """What is to be tried: where, and how much of it must be at hand."""

    project: str
    parts: tuple[Part, ...] = ()
    releases: tuple[str, ...] = ()
    """Ids of releases that are to be started, whose steps may refer to anything."""


@contextmanager
def scratch(connection: Connection, reach: Reach) -> Iterator[Connection]:
    """A transaction of a database in memory that has all that these changes touch, and all that depends on it.

    Nothing of the past is there, and nothing of it is kept. Errors: as `reading`; StoreCorrupt.
    """
    engine = open_scratch(Base.metadata)
    try:
        with writing(engine) as copy:
            _copy_places(connection, copy, reach)
            yield copy
    finally:
        engine.dispose()


def _copy_places(connection: Connection, copy: Connection, reach: Reach) -> None:
    project = reach.project
    _copy(connection, copy, tables.projects, {"key": project})
    _copy(connection, copy, tables.environments, {"project": project})
    _copy(connection, copy, release_tables.flag_locks, {"project": project})
    for id in reach.releases:
        _copy(connection, copy, release_tables.releases, {"project": project, "id": id})
    names = select(tables.environments.c.key).where(tables.environments.c.project == project)
    keys = list(connection.execute(names).scalars())
    needed = {key: _needed(connection, reach, key) for key in keys}
    flags = None if None in needed.values() else _of_kind("flag", (each for each in needed.values() if each))
    _copy(connection, copy, tables.flags, {"project": project}, keys=flags)
    for key, things in needed.items():
        here = {"project": project, "environment": key}
        flags = None if things is None else _of_kind("flag", [things])
        segments = None if things is None else _of_kind("segment", [things])
        _copy(connection, copy, tables.flag_configs, here, keys=flags)
        _copy(connection, copy, tables.segments, here, keys=segments)
        _copy(connection, copy, tables.segment_chunks, here, keys=segments, column="segment")
        _copy(connection, copy, tables.references, {**here, "kind": "flag"}, keys=flags)
        _copy(connection, copy, tables.references, {**here, "kind": "segment"}, keys=segments)


def _needed(connection: Connection, reach: Reach, environment: str) -> Collection[Target] | None:
    """What of an environment has to be there; None for all of it."""
    if reach.releases or any(isinstance(change, PLACES) for part in reach.parts for change in part.changes):
        return None
    subjects: dict[Target, set[Target]] = {}
    for part in reach.parts:
        for subject, named in subjects_of(part.changes).items():
            # Flags are shared, segments are not.
            if part.environment == environment:
                subjects.setdefault(subject, set()).update(named)
            elif subject[0] == "flag":
                subjects.setdefault(subject, set())
    return needed_by(connection, Environment(reach.project, environment), subjects=subjects) if subjects else ()


def _of_kind(kind: str, things: Iterable[Collection[Target]]) -> set[str]:
    return {key for each in things for of, key in each if of == kind}


def _copy(
    connection: Connection,
    copy: Connection,
    table: Table,
    where: Mapping[str, Any],
    *,
    keys: Collection[str] | None = None,
    column: str = "key",
) -> None:
    query = select(table).where(*(table.c[name] == value for name, value in where.items()))
    for part in in_parts(query, table.c[column], keys) if keys is not None else [query]:
        for rows in connection.execute(part).mappings().partitions(_AT_ONCE):
            copy.execute(insert(table), [dict(row) for row in rows])
