"""Bring a database to the content of a backup, whole or not at all, so that no client sees it go backwards.

A backup is first read into a database beside, at the schema that it was made with, migrated there and checked. Only
then is the real one emptied and filled, in one transaction: servers that run on it see one commit. Every environment
gets a revision that is higher than any that a client can have seen, also when what it saw is lost: the instant of the
restore in seconds since 1970. Revisions leap there and count on.
"""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final

from sqlalchemy import Connection, Engine, LargeBinary, column, delete, insert, select, table, update

from server.core.environments import Environment
from server.core.errors import InvalidRequest, Refused, StoreCorrupt
from server.store import failpoints, tables
from server.store.audit import verify_chain
from server.store.backup import LEFT_OUT, Header, Rows, check_backup, read_backup
from server.store.engine import open_engine, reading, writing
from server.store.environments import StoredEnvironment, list_environments
from server.store.garbage import collector_paused
from server.store.lasting import lifted
from server.store.mapping import environment_text
from server.store.migrations import known_versions, migrate
from server.store.saving import Cause, Record, save_records
from server.store.tables import Base, Instant

EVENT: Final = "environment.restored"
"""An announcement and an audit entry of its own: no flag was edited, and all may be others."""

PROBLEMS_SHOWN_MAX: Final = 10
_ROWS_AT_ONCE: Final = 1_000


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did."""

    created_at: datetime
    """When the backup was made."""

    row_count: int
    revisions: Mapping[str, int]
    """Flag set -> its revision now."""

    gone: tuple[str, ...]
    """Flag sets that were there before and are not in the backup."""


def restore(
    engine: Engine,
    stream: IO[bytes],
    *,
    actor: str,
    now: datetime,
    reason: str = "",
    replace: bool = False,
    accept_broken_trail: bool = False,
) -> Restored:
    """Bring the database to a backup's content; `stream` can be read twice.

    Errors: InvalidRequest when it is no whole backup or of a later version; Refused when the database holds something
    and `replace` is not given; StoreCorrupt when the backup's audit trail does not verify; StoreUnavailable.
    """
    start = stream.tell()
    header = check_backup(stream)
    stream.seek(start)
    _refuse_later(header)
    migrate(engine)
    with _staged(stream, header) as stage, reading(stage) as content:
        if not accept_broken_trail:
            _check_trail(content)
        with collector_paused(), writing(engine, unhurried=True) as connection:
            return _replace(connection, content, header, why=(actor, now, reason), replace=replace)


def _refuse_later(header: Header) -> None:
    if header.schema not in known_versions():
        raise InvalidRequest(
            f"the backup has schema {header.schema}, which this version does not know; restore it with the version "
            "that made it, or a later one"
        )


@contextmanager
def _staged(stream: IO[bytes], header: Header) -> Iterator[Engine]:
    """The backup's content in a database beside, at today's schema."""
    with tempfile.TemporaryDirectory(prefix="flagstaff-restore-") as directory:
        stage = open_engine(f"sqlite:///{Path(directory)}/stage.db")
        try:
            migrate(stage, target=header.schema)
            with collector_paused(), writing(stage) as connection:
                for rows in read_backup(stream):
                    _insert_rows(connection, rows)
            migrate(stage)
            yield stage
        finally:
            stage.dispose()


def _insert_rows(connection: Connection, rows: Rows) -> None:
    # The tables of that schema, which today's classes need not fit.
    types: dict[str, Any] = {"instant": Instant, "bytes": LargeBinary}
    into = table(rows.table, *(column(each.name, types.get(each.kind)) for each in rows.columns))
    names = [each.name for each in rows.columns]
    connection.execute(insert(into), [dict(zip(names, row, strict=True)) for row in rows.rows])


def _check_trail(content: Connection) -> None:
    problems = [
        f"{project}: {problem}"
        for project in content.execute(select(tables.projects.c.key).order_by(tables.projects.c.key)).scalars()
        for problem in verify_chain(content, project=project)
    ]
    if problems:
        more = f" and {len(problems) - PROBLEMS_SHOWN_MAX} more" if len(problems) > PROBLEMS_SHOWN_MAX else ""
        raise StoreCorrupt(
            f"the audit trail in the backup does not verify: {'; '.join(problems[:PROBLEMS_SHOWN_MAX])}{more}; "
            "nothing was changed; restore another backup, or accept the broken trail explicitly"
        )


def _replace(
    connection: Connection, content: Connection, header: Header, *, why: tuple[str, datetime, str], replace: bool
) -> Restored:
    before = {each.environment.flag_set: each.revision for each in list_environments(connection)}
    sequences = _sequences(connection)
    if sequences and not replace:
        raise Refused(
            f"the database holds {len(before)} environments of {len(sequences)} projects already; "
            "restore into an empty one, or say that its content is to be replaced"
        )
    with lifted(connection):
        row_count = _copy(content, connection)
    failpoints.reach("restore.copied")
    restored = list_environments(connection)
    _leap_events(connection, sequences, now=why[1])
    revisions = {each.environment.flag_set: _leap(each.revision, before, each, now=why[1]) for each in restored}
    _record(connection, restored, revisions, why=why, created_at=header.created_at)
    gone = tuple(sorted(before.keys() - revisions.keys()))
    return Restored(header.created_at, row_count, revisions, gone)


def _copy(content: Connection, connection: Connection) -> int:
    mine = [each for each in Base.metadata.sorted_tables if each.name not in LEFT_OUT]
    for each in reversed(mine):
        connection.execute(delete(each))
    count = 0
    for each in mine:
        found = content.execution_options(yield_per=_ROWS_AT_ONCE).execute(select(each)).mappings()
        for rows in found.partitions():
            connection.execute(insert(each), [dict(row) for row in rows])
            count += len(rows)
    return count


def _sequences(connection: Connection) -> dict[str, int]:
    columns = tables.projects.c
    return {key: sequence for key, sequence in connection.execute(select(columns.key, columns.event_sequence))}


def _leap_events(connection: Connection, before: Mapping[str, int], *, now: datetime) -> None:
    """Let the order of events go on behind all that subscribers can have seen."""
    columns = tables.projects.c
    for key, sequence in _sequences(connection).items():
        higher = max(sequence, before.get(key, 0), int(now.timestamp()))
        connection.execute(update(tables.projects).where(columns.key == key).values(event_sequence=higher))


def _leap(revision: int, before: Mapping[str, int], stored: StoredEnvironment, *, now: datetime) -> int:
    return max(revision + 1, before.get(stored.environment.flag_set, 0) + 1, int(now.timestamp()))


def _record(
    connection: Connection,
    restored: list[StoredEnvironment],
    revisions: Mapping[str, int],
    *,
    why: tuple[str, datetime, str],
    created_at: datetime,
) -> None:
    actor, now, reason = why
    by_project: dict[str, list[Environment]] = {}
    for each in restored:
        by_project.setdefault(each.environment.project, []).append(each.environment)
    for project, environments in sorted(by_project.items()):
        cause = Cause(project, actor, now, reason, f"backup:{created_at.astimezone(UTC).isoformat()}", "")
        records = [_restored_record(each, revisions[each.flag_set]) for each in environments]
        save_records(connection, cause, records=records, damaged=())


def _restored_record(environment: Environment, revision: int) -> Record:
    text = environment_text(environment)
    return Record(environment.key, revision, EVENT, "environment", environment.key, text, text)
