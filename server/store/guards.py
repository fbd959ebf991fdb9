"""Keep guards, with what was said of them last."""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, delete, func, insert, or_, select, update

from server.core.change_requests.codec import read_value, write_value
from server.core.errors import Conflict, NotFound, Stale, StoreCorrupt, TooLarge
from server.core.guards.guards import Guard
from server.core.guards.verdicts import Judgement
from server.core.limits import GUARDS_MAX
from server.store import tables
from server.store.mapping import compact

_GUARDS: Final = tables.guards.c


@dataclass(frozen=True, slots=True)
class Judged:
    """What was said of a guard, and when."""

    judgement: Judgement
    at: datetime


@dataclass(frozen=True, slots=True)
class StoredGuard:
    """A guard as it is kept."""

    project: str
    guard: Guard
    version: int
    since: datetime
    """What was observed before says nothing to it."""

    next_at: datetime | None
    last: Judged | None
    updated_at: datetime


def insert_guard(connection: Connection, stored: StoredGuard) -> None:
    """Keep a new guard. Errors: Conflict when there is one of its key, TooLarge when there are too many."""
    project, key = stored.project, stored.guard.key
    if connection.execute(select(_GUARDS.key).where(_is(project, key))).first() is not None:
        raise Conflict(f"guard {key!r} is in project {project!r} already")
    query = select(func.count()).select_from(tables.guards).where(_GUARDS.project == project)
    count = connection.execute(query).scalar_one()
    if count >= GUARDS_MAX:
        raise TooLarge(f"project {project!r} has {count} guards, at most {GUARDS_MAX} are allowed; delete some")
    connection.execute(insert(tables.guards), {"project": project, "key": key, **_row(stored)})


def save_guard(connection: Connection, before: StoredGuard, after: StoredGuard) -> StoredGuard:
    """Keep a guard that somebody changed. Errors: Stale when it changed since it was read."""
    kept = replace(after, version=before.version + 1)
    changed = connection.execute(
        update(tables.guards)
        .where(_is(before.project, before.guard.key), _GUARDS.version == before.version)
        .values(_row(kept))
    )
    if changed.rowcount != 1:
        raise Stale(f"guard {before.guard.key!r} changed meanwhile; read it again and repeat")
    return kept


def save_judged(connection: Connection, stored: StoredGuard, judged: Judged) -> None:
    """Keep what was said of a guard."""
    connection.execute(
        update(tables.guards)
        .where(_is(stored.project, stored.guard.key))
        .values(judgement=compact(write_value(judged)))
    )


def claim(connection: Connection, stored: StoredGuard, next_at: datetime) -> bool:
    """Take a guard's turn, so that nobody else judges it now; False when somebody did."""
    was = _GUARDS.next_at.is_(None) if stored.next_at is None else _GUARDS.next_at == stored.next_at
    query = update(tables.guards).where(_is(stored.project, stored.guard.key), was).values(next_at=next_at)
    return connection.execute(query).rowcount == 1


def restart_guards(connection: Connection, project: str, keys: Collection[str], *, since: datetime) -> None:
    """Let guards look at nothing from before an instant."""
    connection.execute(
        update(tables.guards).where(_GUARDS.project == project, _GUARDS.key.in_(keys)).values(since=since)
    )


def delete_guard(connection: Connection, project: str, key: str) -> None:
    """Watch it no more; what was said of it stays until it is too old."""
    connection.execute(delete(tables.guards).where(_is(project, key)))


def read_guard(connection: Connection, project: str, key: str) -> StoredGuard:
    """One guard. Errors: NotFound, StoreCorrupt."""
    row = connection.execute(select(tables.guards).where(_is(project, key))).mappings().first()
    if row is None:
        raise NotFound(f"guard {key!r} is not in project {project!r}")
    return _stored(row)


def list_guards(connection: Connection, project: str) -> list[StoredGuard]:
    """A project's guards, by key. Errors: StoreCorrupt."""
    query = select(tables.guards).where(_GUARDS.project == project).order_by(_GUARDS.key)
    return [_stored(row) for row in connection.execute(query).mappings()]


def guards_about(connection: Connection, project: str, metric: str) -> list[str]:
    """Keys of guards that watch a metric."""
    query = select(_GUARDS.key).where(_GUARDS.project == project, _GUARDS.metric == metric).order_by(_GUARDS.key)
    return list(connection.execute(query).scalars())


def due_guards(
    connection: Connection, *, now: datetime, touched: Iterable[tuple[str, str, str]] = ()
) -> list[StoredGuard]:
    """Guards whose time has come, and those of (project, environment, metric) that something was observed of."""
    observed = [
        (_GUARDS.project == project) & (_GUARDS.environment == environment) & (_GUARDS.metric == metric)
        for project, environment, metric in touched
    ]
    query = select(tables.guards).where(or_(_GUARDS.next_at <= now, *observed)).order_by(_GUARDS.next_at)
    return [_stored(row) for row in connection.execute(query).mappings()]


def waiting_guards(connection: Connection, *, now: datetime) -> list[StoredGuard]:
    """Guards whose time has yet to come."""
    query = select(tables.guards).where(_GUARDS.next_at > now).order_by(_GUARDS.next_at)
    return [_stored(row) for row in connection.execute(query).mappings()]


def first_guard_at(connection: Connection) -> datetime | None:
    """When the next guard is to be judged."""
    query = select(_GUARDS.next_at).where(_GUARDS.next_at.is_not(None)).order_by(_GUARDS.next_at).limit(1)
    found: datetime | None = connection.execute(query).scalar()
    return found


def _is(project: str, key: str) -> Any:
    return (_GUARDS.project == project) & (_GUARDS.key == key)


def _row(stored: StoredGuard) -> dict[str, Any]:
    return {
        "environment": stored.guard.environment,
        "metric": stored.guard.metric,
        "document": compact(write_value(stored.guard)),
        "version": stored.version,
        "since": stored.since,
        "next_at": stored.next_at,
        "judgement": "" if stored.last is None else compact(write_value(stored.last)),
        "updated_at": stored.updated_at,
    }


def _stored(row: Mapping[Any, Any]) -> StoredGuard:
    try:
        guard: Guard = read_value(Guard, json.loads(row["document"]))
        last = read_value(Judged, json.loads(row["judgement"])) if row["judgement"] else None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreCorrupt(
            f"the stored guard {row['key']!r} is damaged ({type(error).__name__}); restore a backup"
        ) from None
    return StoredGuard(row["project"], guard, row["version"], row["since"], row["next_at"], last, row["updated_at"])
