"""Tell the version of a thing: the revision of the commit that touched it last.

A project belongs to no environment: its version is the sequence number of the last audit entry about it.
"""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

from sqlalchemy import Connection, func, select

from server.core.environments import Environment
from server.core.errors import Conflict, Stale
from server.core.events import SubjectKind
from server.store import tables
from server.store.flagsets import in_parts

ABSENT: Final = -1
"""Stands for the version of what must not exist."""

Thing: TypeAlias = tuple[SubjectKind, str]
"""("flag", key), ("segment", key), ("environment", key) or ("project", key)."""

NO_VERSIONS: Final[Mapping[Thing, int]] = MappingProxyType({})


def read_versions(
    connection: Connection, *, project: str, environment: str, kind: str, keys: Collection[str] | None = None
) -> dict[str, int]:
    """Key -> version, of the things of a kind that exist; of all of them when no keys are given."""
    columns = tables.revisions.c
    latest = (
        select(columns.key, func.max(columns.revision).label("revision"))
        .where(columns.project == project, columns.environment == environment, columns.kind == kind)
        .group_by(columns.key)
    )
    versions: dict[str, int] = {}
    for part in in_parts(latest, columns.key, keys):
        newest = part.subquery()
        query = (
            select(columns.key, columns.revision)
            .join(newest, (columns.key == newest.c.key) & (columns.revision == newest.c.revision))
            .where(columns.project == project, columns.environment == environment, columns.kind == kind)
            # What was removed has a last revision too, without a document.
            .where(columns.document.is_not(None))
        )
        versions.update((key, revision) for key, revision in connection.execute(query))
    return versions


def read_project_version(connection: Connection, project: str) -> int | None:
    """A project's version; None when it does not exist."""
    columns = tables.audit_entries.c
    query = (
        select(columns.sequence, columns.after)
        .where(columns.project == project, columns.environment == "", columns.subject_kind == "project")
        .order_by(columns.sequence.desc())
        .limit(1)
    )
    row = connection.execute(query).first()
    return None if row is None or row.after is None else row.sequence


def check_flag_versions(connection: Connection, project: str, *, expected: Mapping[str, int]) -> None:
    """Refuse when what environments share of a flag is not at the version by which its reader knew it.

    Errors: as `check_versions`.
    """
    columns = tables.flags.c
    for key, version in expected.items():
        query = select(columns.version).where(columns.project == project, columns.key == key)
        found = connection.execute(query).scalar()
        _compare(f"flag {key!r}", project, found, version)


def check_versions(connection: Connection, environment: Environment, *, expected: Mapping[Thing, int]) -> None:
    """Refuse when a thing is not at the version by which its reader knew it.

    Errors: Stale; Conflict when something exists that must not.
    """
    where = environment.flag_set if environment.key else environment.project
    for (kind, key), version in expected.items():
        found = (
            read_project_version(connection, key)
            if kind == "project"
            else read_versions(
                connection, project=environment.project, environment=environment.key, kind=kind, keys=[key]
            ).get(key)
        )
        _compare(f"{kind} {key!r}", where, found, version)


def _compare(thing: str, where: str, found: int | None, expected: int) -> None:
    if expected == ABSENT and found is not None:
        raise Conflict(f"{thing} exists already in {where!r}, at version {found}")
    if expected not in (ABSENT, found):
        now = "does not exist any more" if found is None else f"has version {found}"
        raise Stale(f"{thing} in {where!r} {now}, expected version {expected}; read it again and repeat the change")
