"""Keep roll-back policies, how far each has come, and what it took back."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, delete, func, insert, select, update

from server.core.access import Grant
from server.core.change_requests.codec import read_value, write_value
from server.core.errors import Conflict, NotFound, Stale, StoreCorrupt, TooLarge
from server.core.guards.machine import Progress, next_at
from server.core.guards.policies import Policy, TriggerKind
from server.core.limits import ROLLBACK_POLICIES_MAX
from server.store import tables
from server.store.mapping import compact

_POLICIES: Final = tables.rollback_policies.c
_TRIGGERS: Final = tables.rollback_triggers.c


@dataclass(frozen=True, slots=True)
class Taken:
    """A flag that was taken back."""

    key: str
    revision: int
    """What it was before is what this revision had."""

    after: int
    """The revision that took it back: somebody else changed it since when another one touched it last."""


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """A policy as it is kept."""

    project: str
    policy: Policy
    progress: Progress
    author: str
    grants: tuple[Grant, ...]
    taken: tuple[Taken, ...] = ()
    version: int = 1
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Kept:
    """What is kept in one column each."""

    grants: tuple[Grant, ...] = ()
    taken: tuple[Taken, ...] = ()


def insert_policy(connection: Connection, stored: StoredPolicy, *, now: datetime) -> None:
    """Keep a new policy. Errors: Conflict when there is one of its key, TooLarge when there are too many."""
    project, key = stored.project, stored.policy.key
    if connection.execute(select(_POLICIES.key).where(_is(project, key))).first() is not None:
        raise Conflict(f"roll-back policy {key!r} is in project {project!r} already")
    query = select(func.count()).select_from(tables.rollback_policies).where(_POLICIES.project == project)
    count = connection.execute(query).scalar_one()
    if count >= ROLLBACK_POLICIES_MAX:
        raise TooLarge(
            f"project {project!r} has {count} roll-back policies, at most {ROLLBACK_POLICIES_MAX} are allowed; "
            "delete some"
        )
    connection.execute(insert(tables.rollback_policies), {"project": project, "key": key, **_row(stored, now)})
    _save_triggers(connection, stored)


def save_policy(
    connection: Connection, before: StoredPolicy, after: StoredPolicy, *, now: datetime, changed_by_people: bool = True
) -> StoredPolicy:
    """Keep a policy that somebody changed, or that went on, which is no new version of it.

    Its transaction is the project's. Errors: Stale when somebody changed it since it was read.
    """
    kept = replace(after, version=before.version + changed_by_people, updated_at=now)
    changed = connection.execute(
        update(tables.rollback_policies)
        .where(_is(before.project, before.policy.key), _POLICIES.version == before.version)
        .values(_row(kept, now))
    )
    if changed.rowcount != 1:
        raise Stale(f"roll-back policy {before.policy.key!r} went on meanwhile; read it again and repeat")
    if before.policy.triggers != after.policy.triggers:
        _delete_triggers(connection, before.project, before.policy.key)
        _save_triggers(connection, after)
    return kept


def delete_policy(connection: Connection, project: str, key: str) -> None:
    """Watch no more; what happened to it stays until it is too old."""
    _delete_triggers(connection, project, key)
    connection.execute(delete(tables.rollback_policies).where(_is(project, key)))


def read_policy(connection: Connection, project: str, key: str) -> StoredPolicy:
    """One policy. Errors: NotFound, StoreCorrupt."""
    row = connection.execute(select(tables.rollback_policies).where(_is(project, key))).mappings().first()
    if row is None:
        raise NotFound(f"roll-back policy {key!r} is not in project {project!r}")
    return _stored(row)


def list_policies(connection: Connection, project: str) -> list[StoredPolicy]:
    """A project's policies, by key. Errors: StoreCorrupt."""
    query = select(tables.rollback_policies).where(_POLICIES.project == project).order_by(_POLICIES.key)
    return [_stored(row) for row in connection.execute(query).mappings()]


def policies_about(connection: Connection, project: str, kind: TriggerKind, name: str) -> list[StoredPolicy]:
    """Policies with a trigger of this kind and name, by key."""
    about = select(_TRIGGERS.policy).where(
        _TRIGGERS.project == project, _TRIGGERS.kind == kind.value, _TRIGGERS.name == name
    )
    query = select(tables.rollback_policies).where(_POLICIES.project == project, _POLICIES.key.in_(about))
    return [_stored(row) for row in connection.execute(query.order_by(_POLICIES.key)).mappings()]


def due_policies(connection: Connection, *, now: datetime) -> list[tuple[str, str]]:
    """(project, key) of policies that time alone moves now, the earliest first."""
    query = select(_POLICIES.project, _POLICIES.key).where(_POLICIES.next_at <= now).order_by(_POLICIES.next_at)
    return [(project, key) for project, key in connection.execute(query)]


def first_policy_at(connection: Connection) -> datetime | None:
    """When time alone moves the next policy."""
    query = select(_POLICIES.next_at).where(_POLICIES.next_at.is_not(None)).order_by(_POLICIES.next_at).limit(1)
    found: datetime | None = connection.execute(query).scalar()
    return found


def _is(project: str, key: str) -> Any:
    return (_POLICIES.project == project) & (_POLICIES.key == key)


def _save_triggers(connection: Connection, stored: StoredPolicy) -> None:
    named: Collection[tuple[str, str]] = {(each.kind.value, each.name) for each in stored.policy.triggers}
    rows = [
        {"project": stored.project, "policy": stored.policy.key, "kind": kind, "name": name}
        for kind, name in sorted(named)
    ]
    connection.execute(insert(tables.rollback_triggers), rows)


def _delete_triggers(connection: Connection, project: str, key: str) -> None:
    mine = (_TRIGGERS.project == project) & (_TRIGGERS.policy == key)
    connection.execute(delete(tables.rollback_triggers).where(mine))


def _row(stored: StoredPolicy, now: datetime) -> dict[str, Any]:
    return {
        "environment": stored.policy.environment,
        "state": stored.progress.state.value,
        "document": compact(write_value(stored.policy)),
        "progress": compact(write_value(stored.progress)),
        "taken": compact(write_value(_Kept(taken=stored.taken))),
        "author": stored.author,
        "grants": compact(write_value(_Kept(grants=stored.grants))),
        "version": stored.version,
        "next_at": next_at(stored.policy, stored.progress),
        "updated_at": now,
    }


def _stored(row: Mapping[Any, Any]) -> StoredPolicy:
    try:
        return StoredPolicy(
            row["project"],
            read_value(Policy, json.loads(row["document"])),
            read_value(Progress, json.loads(row["progress"])),
            row["author"],
            read_value(_Kept, json.loads(row["grants"])).grants,
            read_value(_Kept, json.loads(row["taken"])).taken,
            row["version"],
            row["updated_at"],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreCorrupt(
            f"the stored roll-back policy {row['key']!r} is damaged ({type(error).__name__}); restore a backup"
        ) from None
