"""Read in one statement what every commit begins with: its project, its environment, and where their counters stand."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, bindparam, func, select

from server.core.audit import GENESIS
from server.core.environments import Project
from server.store import tables
from server.store.environments import STORED, StoredEnvironment, stored_environment
from server.store.projects import IS_PROJECT
from server.store.statements import Statement

_PROJECT: Final = tables.projects.c
_ENVIRONMENT: Final = tables.environments.c
_ENTRY: Final = tables.audit_entries.c
_LAST: Final = select(func.max(_ENTRY.sequence)).where(_ENTRY.project == bindparam("own_project")).scalar_subquery()
_OF_LAST: Final = (_ENTRY.project == _PROJECT.key) & (_ENTRY.sequence == _LAST)
_STANDING: Final = Statement(
    select(_ENTRY.sequence, _ENTRY.hash, _PROJECT.event_sequence)
    .select_from(tables.projects)
    .join(tables.audit_entries, _OF_LAST, isouter=True)
    .where(_PROJECT.key == bindparam("own_project"))
)
_PLACE: Final = Statement(
    select(
        _PROJECT.key,
        _PROJECT.name,
        _PROJECT.description,
        _PROJECT.event_sequence,
        _ENTRY.sequence,
        _ENTRY.hash,
        *STORED,
    )
    .select_from(tables.projects)
    .join(
        tables.environments,
        (_ENVIRONMENT.project == _PROJECT.key)
        & (_ENVIRONMENT.key == bindparam("own_key"))
        & _ENVIRONMENT.deleted_at.is_(None),
        isouter=True,
    )
    .join(tables.audit_entries, _OF_LAST, isouter=True)
    .where(_PROJECT.key == bindparam("own_project"), IS_PROJECT)
)
_KEY_AT: Final = [column.key for column in STORED].index("key")


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a project's trail and the order of its events end; it stays so until its writer adds to them."""

    entry_sequence: int
    entry_hash: str
    event_sequence: int


@dataclass(frozen=True, slots=True)
class Place:
    """A project and one of its environments, as a commit finds them."""

    project: Project
    environment: StoredEnvironment | None
    standing: Standing


def find_place(connection: Connection, *, project: str, environment: str) -> Place | None:
    """A project with this environment, if it is there; None when there is no such project.

    Errors: StoreCorrupt when the environment's row cannot be used.
    """
    row = _PLACE.first(connection, own_project=project, own_key=environment)
    if row is None:
        return None
    key, name, description, event_sequence, entry_sequence, entry_hash, *rest = row
    # Its key is there when the row is; the others might be damaged.
    is_there = rest[_KEY_AT] is not None
    return Place(
        Project(key, name, description),
        stored_environment(rest) if is_there else None,
        Standing(entry_sequence or 0, entry_hash or GENESIS, event_sequence),
    )


def read_standing(connection: Connection, project: str) -> Standing:
    """Where a project stands, or the server itself; at nought when it is not there."""
    row = _STANDING.first(connection, own_project=project)
    entry_sequence, entry_hash, event_sequence = row or (None, None, None)
    return Standing(entry_sequence or 0, entry_hash or GENESIS, event_sequence or 0)
