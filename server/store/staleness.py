"""Keep how much each flag is still of use, and find those that are to be looked at again."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, func, or_, select, update

from server.core.errors import StoreCorrupt
from server.core.flags import FlagKind
from server.core.staleness import DEFAULT_POLICY, Exempt, Facts, Served, StalePolicy, StaleState
from server.store import release_tables, tables
from server.store.flagsets import in_parts
from server.store.mapping import compact
from server.store.projects import IS_PROJECT
from server.store.staleness_tables import flag_staleness, staleness_looks
from server.store.statements import delete_rows, insert_rows, update_rows

SCANNED_MAX: Final = 2_000
"""Audit entries that one look goes through."""

_ROW: Final = flag_staleness.c
_LOOK: Final = staleness_looks.c
_FLAG: Final = tables.flags.c
_CONFIG: Final = tables.flag_configs.c
_ENTRY: Final = tables.audit_entries.c
_REVISION: Final = tables.revisions.c
_ENVIRONMENT: Final = tables.environments.c
_LOCK: Final = release_tables.flag_locks.c


@dataclass(frozen=True, slots=True)
class Look:
    """How far a project's flags have been looked at."""

    project: str
    sequence: int = 0
    filled_after: str | None = ""
    policy: StalePolicy = DEFAULT_POLICY
    policy_version: int = 0
    is_new: bool = True


@dataclass(frozen=True, slots=True)
class StoredStaleness:
    """What was decided of a flag last."""

    key: str
    state: StaleState
    facts: Facts
    stale_at: datetime | None = None
    next_at: datetime | None = None
    said_by: str = ""
    said: str = ""


@dataclass(frozen=True, slots=True)
class Touched:
    """What happened to a project's flags behind an audit entry."""

    sequence: int
    """Up to here it was looked through."""

    keys: frozenset[str] = frozenset()
    removed: frozenset[str] = frozenset()
    """Those that were gone from an environment meanwhile, and may be others now."""

    everything: bool = False
    """An environment is another: all flags are to be looked at."""


def first_at(connection: Connection) -> datetime | None:
    """When a flag is to be looked at next, of all projects."""
    at: datetime | None = connection.execute(select(func.min(_ROW.next_at))).scalar()
    return at


def due_flags(connection: Connection, *, now: datetime, limit: int) -> list[tuple[str, str]]:
    """(project, key) of flags whose instant has come, the earliest first."""
    query = select(_ROW.project, _ROW.key).where(_ROW.next_at <= now).order_by(_ROW.next_at).limit(limit)
    return [(project, key) for project, key in connection.execute(query)]


def projects_behind(connection: Connection) -> list[str]:
    """Projects in which something happened that was not looked at."""
    last = select(func.max(_ENTRY.sequence)).where(_ENTRY.project == tables.projects.c.key).scalar_subquery()
    query = (
        select(tables.projects.c.key)
        .join(staleness_looks, _LOOK.project == tables.projects.c.key, isouter=True)
        .where(IS_PROJECT)
        .where(or_(_LOOK.project.is_(None), _LOOK.filled_after.is_not(None), _LOOK.sequence < last))
        .order_by(tables.projects.c.key)
    )
    return list(connection.execute(query).scalars())


def read_look(connection: Connection, project: str) -> Look:
    """How far a project was looked at. Errors: StoreCorrupt for a policy that cannot be read."""
    row = connection.execute(select(staleness_looks).where(_LOOK.project == project)).first()
    if row is None:
        return Look(project)
    return Look(project, row.sequence, row.filled_after, _policy(project, row.policy), row.policy_version, False)


def save_look(connection: Connection, look: Look) -> None:
    """Keep how far a project was looked at, and its policy."""
    row = {
        "project": look.project,
        "sequence": look.sequence,
        "filled_after": look.filled_after,
        "policy": "" if look.policy == DEFAULT_POLICY else compact(_written_policy(look.policy)),
        "policy_version": look.policy_version,
    }
    (insert_rows if look.is_new else update_rows)(connection, staleness_looks, [row])


def touched_flags(connection: Connection, project: str, *, behind: int) -> Touched:
    """Which flags were touched behind an audit entry, as far as one look goes."""
    query = (
        select(_ENTRY.sequence, _ENTRY.action, _ENTRY.subject_kind, _ENTRY.subject_key, _ENTRY.revision)
        .where(_ENTRY.project == project, _ENTRY.sequence > behind)
        .order_by(_ENTRY.sequence)
        .limit(SCANNED_MAX)
    )
    sequence, keys, removed, everything = behind, set(), set(), False
    for sequence, action, kind, key, revision in connection.execute(query):  # noqa: B007  (the last one is kept)
        if kind == "environment":
            everything = True
        # What only was said of a flag, as that it is stale, makes no revision.
        elif kind == "flag" and revision:
            keys.add(key)
            if action == "flag.removed":
                removed.add(key)
    return Touched(sequence, frozenset(keys), frozenset(removed), everything)


def keys_behind(connection: Connection, project: str, *, after: str, limit: int) -> list[str]:
    """Keys of a project's flags behind one, in order, also of those that are gone and still have a row."""
    flags = select(_FLAG.key).where(_FLAG.project == project, _FLAG.key > after).order_by(_FLAG.key).limit(limit)
    rows = select(_ROW.key).where(_ROW.project == project, _ROW.key > after).order_by(_ROW.key).limit(limit)
    found = {*connection.execute(flags).scalars(), *connection.execute(rows).scalars()}
    return sorted(found)[:limit]


def read_stored(connection: Connection, project: str, keys: Collection[str]) -> dict[str, StoredStaleness]:
    """What was decided of these flags; those that nobody has looked at are left out."""
    query = select(flag_staleness).where(_ROW.project == project)
    return {
        row["key"]: stored_of(row)
        for part in in_parts(query, _ROW.key, keys)
        for row in connection.execute(part).mappings()
    }


def save_stored(
    connection: Connection, project: str, rows: Sequence[StoredStaleness], *, known: Collection[str]
) -> None:
    """Keep what was decided; `known` has the keys that have a row."""
    written = [{"project": project, **_row(each)} for each in rows]
    insert_rows(connection, flag_staleness, [row for row in written if row["key"] not in known])
    update_rows(connection, flag_staleness, [row for row in written if row["key"] in known])


def forget_stored(connection: Connection, project: str, keys: Collection[str]) -> None:
    """Forget flags that are gone."""
    delete_rows(connection, flag_staleness, [{"project": project, "key": key} for key in sorted(keys)])


def look_at_all(connection: Connection, project: str) -> None:
    """Have all flags of a project looked at again."""
    connection.execute(update(staleness_looks).where(_LOOK.project == project).values(filled_after=""))


def stored_of(row: Any) -> StoredStaleness:
    """What a row of flag_staleness says."""
    facts = Facts(
        created_at=row["created_at"],
        changed_at=row["changed_at"],
        served=Served(row["served"]) if row["is_one"] else None,
        lifetime_days=row["lifetime_days"],
        exempt=Exempt(row["exempt"]) if row["exempt"] else None,
        snoozed_until=row["snoozed_until"],
        marked_at=row["marked_at"],
        noticed_at=row["noticed_at"],
    )
    return StoredStaleness(
        row["key"], StaleState(row["state"]), facts, row["stale_at"], row["next_at"], row["said_by"], row["said"]
    )


def _row(stored: StoredStaleness) -> dict[str, Any]:
    facts = stored.facts
    return {
        "key": stored.key,
        "state": stored.state.value,
        "exempt": "" if facts.exempt is None else facts.exempt.value,
        "created_at": facts.created_at,
        "changed_at": facts.changed_at,
        "is_one": facts.served is not None,
        "served": None if facts.served is None else facts.served.variant,
        "lifetime_days": facts.lifetime_days,
        "snoozed_until": facts.snoozed_until,
        "marked_at": facts.marked_at,
        "said_by": stored.said_by,
        "said": stored.said,
        "noticed_at": facts.noticed_at,
        "stale_at": stored.stale_at,
        "next_at": stored.next_at,
    }


def _written_policy(policy: StalePolicy) -> dict[str, Any]:
    return {
        "lifetimes": {kind.value: days for kind, days in policy.lifetimes.items()},
        "quiet_days": policy.quiet_days,
        "unchanged_days": policy.unchanged_days,
        "grace_days": policy.grace_days,
    }


def _policy(project: str, text: str) -> StalePolicy:
    if not text:
        return DEFAULT_POLICY
    try:
        given = json.loads(text)
        lifetimes = {FlagKind(kind): days for kind, days in given.pop("lifetimes").items()}
        return StalePolicy({**DEFAULT_POLICY.lifetimes, **lifetimes}, **given)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreCorrupt(
            f"the staleness policy of project {project!r} is damaged ({type(error).__name__}); set it again"
        ) from None
