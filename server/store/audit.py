"""Append to the audit trail, list it, and verify that nobody touched it."""

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from typing import Any, Final

from sqlalchemy import Connection, insert, select

from server.core.audit import GENESIS, AuditEntry, chain_hash
from server.store import tables

_COLUMNS: Final = tables.audit_entries.c
_NAMES: Final = tuple(field.name for field in fields(AuditEntry))


def append_entries(connection: Connection, project: str, *, entries: Sequence[AuditEntry]) -> None:
    """Chain entries to the project's trail; their sequence and hashes are set here."""
    query = (
        select(_COLUMNS.sequence, _COLUMNS.hash)
        .where(_COLUMNS.project == project)
        .order_by(_COLUMNS.sequence.desc())
        .limit(1)
    )
    row = connection.execute(query).first()
    sequence, previous = (0, GENESIS) if row is None else (row[0], row[1])
    chained = []
    for entry in entries:
        sequence += 1
        numbered = replace(entry, sequence=sequence, previous_hash=previous)
        previous = chain_hash(numbered, previous)
        chained.append({**{name: getattr(numbered, name) for name in _NAMES}, "hash": previous})
    connection.execute(insert(tables.audit_entries), chained)


def list_entries(
    connection: Connection,
    *,
    project: str,
    environment: str | None = None,
    subject: tuple[str, str] | None = None,
    request_id: str | None = None,
    before_sequence: int | None = None,
    limit: int = 100,
) -> list[AuditEntry]:
    """The newest entries first; `subject` is (kind, key), `before_sequence` goes on where a page ended."""
    query = select(tables.audit_entries).where(_COLUMNS.project == project)
    if environment is not None:
        query = query.where(_COLUMNS.environment == environment)
    if subject is not None:
        query = query.where(_COLUMNS.subject_kind == subject[0], _COLUMNS.subject_key == subject[1])
    if request_id is not None:
        query = query.where(_COLUMNS.request_id == request_id)
    if before_sequence is not None:
        query = query.where(_COLUMNS.sequence < before_sequence)
    rows = connection.execute(query.order_by(_COLUMNS.sequence.desc()).limit(limit)).mappings()
    return [AuditEntry(**row) for row in rows]


def verify_chain(connection: Connection, *, project: str) -> list[str]:
    """What is wrong with a project's trail, one line for each entry; an empty list when it is whole.

    Entries cut off at the end leave no gap; compare the last hash with one kept elsewhere to notice that.
    """
    return list(_breaks(connection.execute(_whole_trail(project)).mappings()))


def _whole_trail(project: str) -> Any:
    return select(tables.audit_entries).where(_COLUMNS.project == project).order_by(_COLUMNS.sequence)


def _breaks(rows: Any) -> Iterator[str]:
    expected_sequence, previous = 1, GENESIS
    for row in rows:
        entry = AuditEntry(**row)
        if entry.sequence != expected_sequence:
            yield f"entry {expected_sequence} is missing, entry {entry.sequence} follows"
        if entry.previous_hash != previous:
            yield f"entry {entry.sequence} does not follow from the entry before it"
        if entry.hash != chain_hash(entry, entry.previous_hash):
            yield f"entry {entry.sequence} was changed after it was written"
        expected_sequence, previous = entry.sequence + 1, entry.hash
