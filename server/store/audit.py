"""Append to the audit trail, list it, and verify that nobody touched it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any, Final, cast

from sqlalchemy import Connection, Engine, Select, func, or_, select
from sqlalchemy.exc import OperationalError

from server.core.audit import GENESIS, ROW, SERVER_TRAIL, AuditEntry, Row, chain_hash
from server.core.trails import Mark, Verification, Verified
from server.store import tables
from server.store.columns import stored_instant
from server.store.engine import reading, strictly_decoded
from server.store.standing import Standing, read_standing
from server.store.statements import insert_rows

PAGE_ROWS: Final = 5_000
"""Entries that one transaction reads for a verification; a driver may have all of them in memory."""

PORTION_ROWS: Final = 250
"""Entries between two pauses there; some milliseconds of work."""

SCANNED_MAX: Final = 50_000
"""Entries that one answer looks through at most, where no index knows which ones fit."""

_OUT_OF_ORDER_MAX: Final = 1_000
"""Entries by which the order of instants may differ from that of sequence numbers: servers' clocks differ a little."""

_COLUMNS: Final = tables.audit_entries.c
_NAMES: Final = tuple(field.name for field in fields(AuditEntry))
# Instants as the driver gives them: making them takes as long as reading all the rest.
_ROW_COLUMNS: Final = tuple(_COLUMNS[name] if name != "at" else stored_instant(_COLUMNS.at) for name in ROW)
_EXACT: Final = ("environment", "actor", "action", "subject_kind", "subject_key", "cause", "request_id")
_SEARCHED: Final = ("subject_key", "actor", "action", "reason", "cause", "before", "after")


@dataclass(frozen=True, slots=True)
class EntryFilter:
    """Which entries are wanted; what is None does not matter."""

    environment: str | None = None
    """"" is what belongs to no environment."""

    actor: str | None = None
    action: str | None = None
    subject_kind: str | None = None
    subject_key: str | None = None
    cause: str | None = None
    request_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    """The first instant that is not wanted any more."""

    text: str = ""
    """Part of the subject's key, the actor, the action, the reason, the cause or a document; case does not matter for
    ASCII letters."""

    @property
    def is_indexed(self) -> bool:
        """Whether the database finds the entries without looking through others."""
        return self.request_id is not None or (self.subject_kind is not None and self.subject_key is not None)


def append_entries(
    connection: Connection, project: str, *, entries: Sequence[AuditEntry], standing: Standing | None = None
) -> None:
    """Chain entries to the project's trail, which ends as `standing` says; their sequence and hashes are set here."""
    standing = standing or read_standing(connection, project)
    sequence, previous = standing.entry_sequence, standing.entry_hash
    chained = []
    for entry in entries:
        sequence += 1
        numbered = replace(entry, sequence=sequence, previous_hash=previous)
        previous = chain_hash(numbered, previous)
        chained.append({**{name: getattr(numbered, name) for name in _NAMES}, "hash": previous})
    insert_rows(connection, tables.audit_entries, chained)


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


def find_entries(
    connection: Connection, project: str, wanted: EntryFilter, *, before_sequence: int | None = None, limit: int = 100
) -> tuple[list[AuditEntry], int | None]:
    """The newest entries that fit, and where to go on: None when there are no more.

    A filter that no index serves looks through SCANNED_MAX entries and no more; there may be fewer than `limit` then,
    or none, and more behind them.
    """
    first, end = _bounds(connection, project, wanted)
    if before_sequence is not None:
        end = min(end, before_sequence)
    start = first if wanted.is_indexed else max(first, end - SCANNED_MAX)
    query = _fitting(select(tables.audit_entries), project, wanted)
    query = query.where(_COLUMNS.sequence >= start, _COLUMNS.sequence < end)
    rows = connection.execute(query.order_by(_COLUMNS.sequence.desc()).limit(limit)).mappings()
    entries = [AuditEntry(**row) for row in rows]
    if len(entries) == limit and entries[-1].sequence > first:
        return entries, entries[-1].sequence
    return entries, start if start > first else None


def entries_after(
    connection: Connection, project: str, wanted: EntryFilter, *, sequence: int, limit: int
) -> tuple[list[AuditEntry], int]:
    """The oldest entries behind one that fit, and the sequence number up to which the trail was looked through."""
    last = last_sequence(connection, project)
    end = min(last, sequence + SCANNED_MAX)
    query = _fitting(select(tables.audit_entries), project, wanted)
    query = query.where(_COLUMNS.sequence > sequence, _COLUMNS.sequence <= end)
    rows = connection.execute(query.order_by(_COLUMNS.sequence).limit(limit)).mappings()
    entries = [AuditEntry(**row) for row in rows]
    return entries, entries[-1].sequence if len(entries) == limit else end


def last_sequence(connection: Connection, project: str) -> int:
    """The sequence number of a trail's last entry; 0 for an empty one."""
    query = select(_COLUMNS.sequence).where(_COLUMNS.project == project).order_by(_COLUMNS.sequence.desc()).limit(1)
    return connection.execute(query).scalar() or 0


def read_head(connection: Connection, project: str) -> Mark:
    """The last entry of a trail: its place and its hash; 0 and GENESIS for an empty one."""
    query = (
        select(_COLUMNS.sequence, _COLUMNS.hash)
        .where(_COLUMNS.project == project)
        .order_by(_COLUMNS.sequence.desc())
        .limit(1)
    )
    row = connection.execute(query).first()
    return Mark(0, GENESIS) if row is None else Mark(row[0], row[1])


def list_trails(connection: Connection) -> list[str]:
    """The server's own trail, "", and that of every project that exists or has entries."""
    found = {SERVER_TRAIL, *connection.execute(select(tables.projects.c.key)).scalars()}
    newest: Any = None
    while True:
        # From one to the next by the index: a trail may have millions of entries.
        query = select(func.min(_COLUMNS.project))
        newest = connection.execute(query if newest is None else query.where(_COLUMNS.project > newest)).scalar()
        if newest is None:
            return sorted(found, key=str)
        found.add(newest)


def verify_trail(
    engine: Engine, project: str, *, marks: Iterable[Mark] = (), between: Callable[[], None] = lambda: None
) -> Verified:
    """Read a whole trail and say what is wrong with it. `between` is called after each portion of some milliseconds.

    Entries that are cut off at the end leave no gap: they are noticed by the environments' revisions, and by marks
    that were kept elsewhere. Errors: StoreUnavailable, StoreCorrupt.
    """
    with reading(engine) as connection:
        verification = _verification(connection, project, marks)
    while True:
        # A transaction for each page: nobody's log or vacuum has to wait for the end of millions of entries.
        with reading(engine) as connection:
            if not _take_page(connection, verification, between=between):
                return verification.end()


def verify_chain(connection: Connection, *, project: str) -> list[str]:
    """What is wrong with a project's trail, one line for each entry; an empty list when it is whole."""
    verification = _verification(connection, project, ())
    while _take_page(connection, verification, between=lambda: None):
        pass
    return [str(each) for each in verification.end().breaks]


def count_strays(connection: Connection, trails: Iterable[Verified]) -> int:
    """Rows beyond those that the verified trails have; 0 in a sound table."""
    count = connection.execute(select(func.count()).select_from(tables.audit_entries)).scalar_one()
    return max(0, int(count) - sum(each.entry_count for each in trails))


def _verification(connection: Connection, project: str, marks: Iterable[Mark]) -> Verification:
    columns = tables.environments.c
    rows = connection.execute(select(columns.key, columns.revision).where(columns.project == project))
    revisions = {key: revision for key, revision in rows if type(revision) is int}
    return Verification(project, marks=marks, environments=revisions)


def _take_page(connection: Connection, verification: Verification, *, between: Callable[[], None]) -> bool:
    """Verify the next PAGE_ROWS entries; False when there are no more."""
    query = (
        select(*_ROW_COLUMNS)
        .where(_COLUMNS.project == verification.project, _COLUMNS.sequence > verification.last_sequence)
        .order_by(_COLUMNS.sequence)
        .limit(PAGE_ROWS)
    )
    before = verification.last_sequence
    try:
        with strictly_decoded(connection):
            result = connection.execute(query)
            # The driver's own rows, which are tuples: wrapping them takes a third of the time.
            cursor: Any = result.cursor
            while rows := cursor.fetchmany(PORTION_ROWS):
                verification.take(rows)
                between()
            result.close()
    except (ValueError, TypeError, OperationalError, connection.dialect.loaded_dbapi.Error):
        # The transaction goes on: only a text that could not be read was asked for.
        return _take_one_by_one(connection, verification)
    return verification.last_sequence > before


def _take_one_by_one(connection: Connection, verification: Verification) -> bool:
    """Verify a page in which a value is not of its column's type, such as an instant that is none."""
    query = (
        select(_COLUMNS.sequence)
        .where(_COLUMNS.project == verification.project, _COLUMNS.sequence > verification.last_sequence)
        .order_by(_COLUMNS.sequence)
        .limit(PAGE_ROWS)
    )
    sequences = list(connection.execute(query).scalars())
    for sequence in sequences:
        own = _COLUMNS.project == verification.project, _COLUMNS.sequence == sequence
        try:
            rows = connection.execute(select(*_ROW_COLUMNS).where(*own)).all()
        except (ValueError, TypeError):
            verification.unreadable(sequence)
        else:
            verification.take(cast("Sequence[Row]", rows))
    return bool(sequences)


def _bounds(connection: Connection, project: str, wanted: EntryFilter) -> tuple[int, int]:
    """The first sequence number that can fit, and the first one behind the last that can."""
    first, end = 1, last_sequence(connection, project) + 1
    mine = select(_COLUMNS.sequence).where(_COLUMNS.project == project)
    if wanted.since is not None:
        query = mine.where(_COLUMNS.at >= wanted.since).order_by(_COLUMNS.at, _COLUMNS.sequence).limit(1)
        found = connection.execute(query).scalar()
        first = end if found is None else max(1, found - _OUT_OF_ORDER_MAX)
    if wanted.until is not None:
        query = mine.where(_COLUMNS.at < wanted.until).order_by(_COLUMNS.at.desc(), _COLUMNS.sequence.desc()).limit(1)
        found = connection.execute(query).scalar()
        end = first if found is None else min(end, found + 1 + _OUT_OF_ORDER_MAX)
    return first, end


def _fitting(query: Select[Any], project: str, wanted: EntryFilter) -> Select[Any]:
    query = query.where(_COLUMNS.project == project)
    for name in _EXACT:
        value = getattr(wanted, name)
        if value is not None:
            query = query.where(_COLUMNS[name] == value)
    if wanted.since is not None:
        query = query.where(_COLUMNS.at >= wanted.since)
    if wanted.until is not None:
        query = query.where(_COLUMNS.at < wanted.until)
    if wanted.text:
        query = query.where(or_(*(_COLUMNS[name].icontains(wanted.text, autoescape=True) for name in _SEARCHED)))
    return query
