"""Look back: what happened to one thing, and which revision an environment was at when."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, func, select

from server.core.audit import AuditEntry
from server.core.environments import Environment
from server.core.errors import NotFound
from server.store import tables
from server.store.environments import find_environment
from server.store.flagsets import raw
from server.store.mapping import Document, as_text, environment_from_text, parse

Thing = tuple[str, str]
"""(kind, key)."""

OUT_OF_ORDER_MAX: Final = 100
"""Revisions by which the order of their instants may differ from their own: servers' clocks differ a little."""

_REVISIONS: Final = tables.revisions.c
_ENTRIES: Final = tables.audit_entries.c


@dataclass(frozen=True, slots=True)
class Moment:
    """An environment as one of its commits left it."""

    environment: Environment
    """As it was then."""

    revision: int
    """The commit's own; what it left holds until the next one."""

    at: datetime
    """When it was committed."""


def list_history(
    connection: Connection, where: Environment, thing: Thing, *, before_sequence: int | None = None, limit: int = 100
) -> list[AuditEntry]:
    """What happened to a flag, a segment or the environment itself, the newest first."""
    query = select(tables.audit_entries).where(*_about(where, thing))
    if before_sequence is not None:
        query = query.where(_ENTRIES.sequence < before_sequence)
    rows = connection.execute(query.order_by(_ENTRIES.sequence.desc()).limit(limit)).mappings()
    return [AuditEntry(**row) for row in rows]


def count_history(connection: Connection, where: Environment, thing: Thing) -> int:
    """How many entries `list_history` has in all."""
    return int(connection.execute(select(func.count()).where(*_about(where, thing))).scalar_one())


def entries_of_revision(
    connection: Connection, where: Environment, revision: int, things: Iterable[Thing]
) -> list[AuditEntry]:
    """What one commit did to some things, in its order."""
    found: list[AuditEntry] = []
    for thing in things:
        query = select(tables.audit_entries).where(*_about(where, thing), _ENTRIES.revision == revision)
        found += [AuditEntry(**row) for row in connection.execute(query).mappings()]
    return sorted(found, key=lambda entry: entry.sequence)


def moment_of(connection: Connection, *, project: str, environment: str, revision: int) -> Moment:
    """The commit that made a revision, or the last one before it: revisions leap where a backup was restored.

    Errors: NotFound when the environment never had such a revision, or was deleted then.
    """
    mine = (_REVISIONS.project == project, _REVISIONS.environment == environment)
    query = select(_REVISIONS.revision, _REVISIONS.at).where(*mine, _REVISIONS.revision <= revision)
    row = connection.execute(query.order_by(_REVISIONS.revision.desc()).limit(1)).first()
    newest = connection.execute(select(func.max(_REVISIONS.revision)).where(*mine)).scalar()
    if newest is None:
        raise NotFound(f"environment '{project}/{environment}' does not exist and never did")
    if row is None or revision > newest:
        raise NotFound(f"'{project}/{environment}' has revisions 1 to {newest}, asked for {revision}")
    (document,) = texts_at(connection, project, environment, things=[("environment", environment)], revision=row[0])
    if document is None:
        raise NotFound(f"'{project}/{environment}' was deleted at revision {row[0]} or before; ask for an earlier one")
    then = environment_from_text(project, environment, as_text(document))
    return Moment(then, row[0], row[1])


def moment_at(connection: Connection, *, project: str, environment: str, at: datetime) -> Moment:
    """What an environment was like at an instant. Errors: NotFound when it did not exist then."""
    mine = (_REVISIONS.project == project, _REVISIONS.environment == environment, _REVISIONS.at <= at)
    query = select(_REVISIONS.revision).where(*mine).order_by(_REVISIONS.at.desc(), _REVISIONS.revision.desc())
    found = connection.execute(query.limit(OUT_OF_ORDER_MAX)).scalars().all()
    if not found:
        # Says so when it never existed at all.
        moment_of(connection, project=project, environment=environment, revision=1)
        raise NotFound(f"'{project}/{environment}' did not exist yet at {at.isoformat()}")
    return moment_of(connection, project=project, environment=environment, revision=max(found))


def texts_at(
    connection: Connection, project: str, environment: str, *, things: Sequence[Thing], revision: int
) -> list[bytes | None]:
    """The documents of some things as of a revision, in their order; None for what did not exist."""
    found: list[bytes | None] = []
    for kind, key in things:
        query = (
            select(raw(_REVISIONS.document))
            .where(_REVISIONS.project == project, _REVISIONS.environment == environment)
            .where(_REVISIONS.kind == kind, _REVISIONS.key == key, _REVISIONS.revision <= revision)
            .order_by(_REVISIONS.revision.desc())
            .limit(1)
        )
        found.append(connection.execute(query).scalar())
    return found


def documents_at(connection: Connection, then: Moment, kind: str, keys: Collection[str]) -> dict[str, Document | None]:
    """The documents of some flags or segments as they were; None is one that is damaged."""
    listed = list(keys)
    where = then.environment
    texts = texts_at(
        connection, where.project, where.key, things=[(kind, key) for key in listed], revision=then.revision
    )
    return {key: parse(text) for key, text in zip(listed, texts, strict=True) if text is not None}


def things_touched(connection: Connection, where: Environment, *, after: int, until: int) -> set[Thing]:
    """What commits touched behind one revision, up to another."""
    query = (
        select(_REVISIONS.kind, _REVISIONS.key)
        .where(_REVISIONS.project == where.project, _REVISIONS.environment == where.key)
        .where(_REVISIONS.revision > after, _REVISIONS.revision <= until)
        .distinct()
    )
    return {(kind, key) for kind, key in connection.execute(query)}


def revisions_touching(
    connection: Connection, where: Environment, things: Iterable[Thing], *, after: int, until: int, limit: int
) -> list[int]:
    """The last revisions that touched any of some things, ascending; `limit` of each thing at most."""
    found: set[int] = set()
    for kind, key in things:
        query = (
            select(_REVISIONS.revision)
            .where(_REVISIONS.project == where.project, _REVISIONS.environment == where.key)
            .where(_REVISIONS.kind == kind, _REVISIONS.key == key)
            .where(_REVISIONS.revision > after, _REVISIONS.revision <= until)
            .order_by(_REVISIONS.revision.desc())
            .limit(limit)
        )
        found.update(connection.execute(query).scalars())
    return sorted(found)


def exists_now(connection: Connection, where: Environment) -> bool:
    """Whether the environment was not deleted since."""
    return find_environment(connection, project=where.project, environment=where.key) is not None


def _about(where: Environment, thing: Thing) -> tuple[Any, ...]:
    kind, key = thing
    return (
        _ENTRIES.project == where.project,
        _ENTRIES.subject_kind == kind,
        _ENTRIES.subject_key == key,
        _ENTRIES.environment == where.key,
    )
