"""Read flags, segments and environments as they were at an earlier revision."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select

from server.core.errors import NotFound
from server.core.events import SubjectKind
from server.store import tables
from server.store.environments import read_environment
from server.store.flagsets import StoredFlagSet, raw
from server.store.garbage import collector_paused
from server.store.keylists import load_key_lists
from server.store.mapping import Document, as_text, environment_from_text, parse


@dataclass(frozen=True, slots=True)
class StoredRevision:
    """A thing as one commit left it."""

    revision: int
    at: datetime
    document: Document | None
    """None when the commit removed it."""


def list_revisions(
    connection: Connection, *, project: str, environment: str, key: str, kind: SubjectKind = "flag"
) -> list[StoredRevision]:
    """Every revision of one flag, segment or environment, the oldest first; empty when it never existed."""
    columns = tables.revisions.c
    query = (
        select(columns.revision, columns.at, raw(columns.document))
        .where(columns.project == project, columns.environment == environment)
        .where(columns.kind == kind, columns.key == key)
        .order_by(columns.revision)
    )
    return [StoredRevision(revision, at, parse(document)) for revision, at, document in connection.execute(query)]


def read_revision(
    connection: Connection, *, project: str, environment: str, key: str, revision: int, kind: SubjectKind = "flag"
) -> StoredRevision:
    """A flag, segment or environment as of a revision: the last one that touched it until then.

    Errors: NotFound when it did not exist then.
    """
    columns = tables.revisions.c
    query = (
        select(columns.revision, columns.at, raw(columns.document))
        .where(columns.project == project, columns.environment == environment)
        .where(columns.kind == kind, columns.key == key, columns.revision <= revision)
        .order_by(columns.revision.desc())
        .limit(1)
    )
    row = connection.execute(query).first()
    if row is None or row[2] is None:
        raise NotFound(f"{kind} {key!r} is not in revision {revision} of '{project}/{environment}'")
    return StoredRevision(row[0], row[1], parse(row[2]))


def load_documents_at(connection: Connection, *, project: str, environment: str, revision: int) -> StoredFlagSet:
    """A whole environment as of a revision. Errors: NotFound when it did not have that revision."""
    stored = read_environment(connection, project=project, environment=environment)
    if not 1 <= revision <= stored.revision:
        raise NotFound(f"'{project}/{environment}' has revisions 1 to {stored.revision}, asked for {revision}")
    with collector_paused():
        return _stored_at(connection, project, environment, revision=revision)


def _stored_at(connection: Connection, project: str, environment: str, *, revision: int) -> StoredFlagSet:
    of_kind = _documents_at(connection, project, environment, revision=revision)
    text = of_kind["environment"].get(environment)
    if text is None:
        raise NotFound(
            f"'{project}/{environment}' was deleted at revision {revision}; it has revisions before and after"
        )
    then = environment_from_text(project, environment, as_text(text))
    segments = {key: parse(document) for key, document in of_kind["segment"].items() if document is not None}
    return StoredFlagSet(
        then,
        revision,
        {key: parse(document) for key, document in of_kind["flag"].items() if document is not None},
        segments,
        # Of a large segment's keys only those of now are kept. They serve where they are the same as then; where they
        # are not, a rule that needs them fails and says so.
        load_key_lists(connection, then, segments),
    )


def _documents_at(
    connection: Connection, project: str, environment: str, *, revision: int
) -> Mapping[str, Mapping[str, bytes | str | None]]:
    table = tables.revisions
    last = (
        select(table.c.kind, table.c.key, func.max(table.c.revision).label("revision"))
        .where(table.c.project == project, table.c.environment == environment, table.c.revision <= revision)
        .group_by(table.c.kind, table.c.key)
        .subquery()
    )
    query = (
        select(table.c.kind, table.c.key, raw(table.c.document))
        .join_from(
            last,
            table,
            (table.c.kind == last.c.kind) & (table.c.key == last.c.key) & (table.c.revision == last.c.revision),
        )
        .where(table.c.project == project, table.c.environment == environment)
        .order_by(table.c.key)
    )
    found: dict[str, dict[str, bytes | str | None]] = {"environment": {}, "flag": {}, "segment": {}}
    for kind, key, document in connection.execute(query):
        found[kind][key] = document
    return found
