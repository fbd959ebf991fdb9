"""Read what is written of flags, as far as it says whether they are still of use."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, func, select

from server.core.definitions.problems import Problems
from server.core.flags import FlagDefinition
from server.store import release_tables, tables
from server.store.flagsets import in_parts, raw
from server.store.mapping import Document, merged, parse, parse_flag
from server.store.schedule_subjects import pending_about

_FLAG: Final = tables.flags.c
_CONFIG: Final = tables.flag_configs.c
_REVISION: Final = tables.revisions.c
_ENVIRONMENT: Final = tables.environments.c
_LOCK: Final = release_tables.flag_locks.c


@dataclass(frozen=True, slots=True)
class Written:
    """What is written of a flag in all of its project's environments."""

    definitions: Mapping[str, FlagDefinition]
    """Environment -> the flag there; without those that are damaged."""

    critical: frozenset[str]
    """Environments that are critical."""

    changed_at: datetime
    holders: tuple[str, ...] = ()
    """What is still to change it, as people read it."""

    @property
    def counting(self) -> Mapping[str, FlagDefinition]:
        """The environments that say whether it is of use: the critical ones, where it is in any."""
        chosen = {name: each for name, each in self.definitions.items() if name in self.critical}
        return chosen or self.definitions


def read_written(connection: Connection, project: str, keys: Collection[str]) -> dict[str, Written]:
    """What is written of these flags; without those that are gone, or that no environment can read."""
    query = select(_ENVIRONMENT.key, _ENVIRONMENT.critical).where(
        _ENVIRONMENT.project == project, _ENVIRONMENT.deleted_at.is_(None)
    )
    environments = {name: bool(is_critical) for name, is_critical in connection.execute(query)}
    critical = frozenset(name for name, is_critical in environments.items() if is_critical)
    definitions = _definitions(connection, project, keys)
    changed = _changed(connection, project, list(environments), keys=keys)
    holders = _holders(connection, project, definitions)
    return {
        key: Written(each, critical, changed[key], tuple(holders.get(key, ())))
        for key, each in definitions.items()
        if key in changed
    }


def last_changes(
    connection: Connection, project: str, keys: Collection[str], *, only_there: bool = False
) -> dict[str, datetime]:
    """Key -> when it was changed last; with `only_there` without those of which there is no flag any more."""
    names = select(_ENVIRONMENT.key).where(_ENVIRONMENT.project == project, _ENVIRONMENT.deleted_at.is_(None))
    found = _changed(connection, project, connection.execute(names).scalars().all(), keys=keys)
    if not only_there:
        return found
    query = select(_FLAG.key).where(_FLAG.project == project)
    there = {key for part in in_parts(query, _FLAG.key, keys) for key in connection.execute(part).scalars()}
    return {key: at for key, at in found.items() if key in there}


def created_at(connection: Connection, project: str, key: str) -> datetime | None:
    """When a flag came to be, since it was gone last; None when it has no revision."""
    here = (_REVISION.project == project) & (_REVISION.kind == "flag") & (_REVISION.key == key)
    names = connection.execute(
        select(_ENVIRONMENT.key).where(_ENVIRONMENT.project == project, _ENVIRONMENT.deleted_at.is_(None))
    ).scalars()
    found: list[datetime] = []
    for name in names.all():
        mine = here & (_REVISION.environment == name)
        gone = connection.execute(
            select(func.max(_REVISION.revision)).where(mine, _REVISION.document.is_(None))
        ).scalar()
        query = select(_REVISION.at).where(mine, _REVISION.revision > (gone or 0))
        at = connection.execute(query.order_by(_REVISION.revision).limit(1)).scalar()
        if at is not None:
            found.append(at)
    return min(found, default=None)


def _definitions(connection: Connection, project: str, keys: Collection[str]) -> dict[str, dict[str, FlagDefinition]]:
    """Key -> environment -> the flag there."""
    shared: dict[str, Document | None] = {}
    query = select(_FLAG.key, raw(_FLAG.document)).where(_FLAG.project == project)
    for part in in_parts(query, _FLAG.key, keys):
        shared.update((key, parse(document)) for key, document in connection.execute(part))
    found: dict[str, dict[str, FlagDefinition]] = {}
    own = select(_CONFIG.key, _CONFIG.environment, raw(_CONFIG.document)).where(_CONFIG.project == project)
    for part in in_parts(own, _CONFIG.key, keys):
        for key, environment, document in connection.execute(part):
            definition = parse_flag(key, merged(shared.get(key), parse(document)), problems=Problems())
            if definition is not None:
                found.setdefault(key, {})[environment] = definition
    return found


def _changed(
    connection: Connection, project: str, environments: Sequence[str], *, keys: Collection[str]
) -> dict[str, datetime]:
    """Key -> when it was changed last in any environment."""
    latest = (
        select(_REVISION.environment, _REVISION.key, func.max(_REVISION.revision).label("revision"))
        .where(_REVISION.project == project, _REVISION.environment.in_(environments), _REVISION.kind == "flag")
        .group_by(_REVISION.environment, _REVISION.key)
    )
    found: dict[str, datetime] = {}
    for part in in_parts(latest, _REVISION.key, keys):
        newest = part.subquery()
        query = (
            select(_REVISION.key, _REVISION.at)
            .join(
                newest,
                (_REVISION.environment == newest.c.environment)
                & (_REVISION.key == newest.c.key)
                & (_REVISION.revision == newest.c.revision),
            )
            .where(_REVISION.project == project, _REVISION.kind == "flag")
        )
        for key, at in connection.execute(query):
            found[key] = max(at, found.get(key, at))
    return found


def _holders(
    connection: Connection, project: str, definitions: Mapping[str, Mapping[str, FlagDefinition]]
) -> dict[str, list[str]]:
    """Key -> releases that move it, and schedules that are to change it."""
    found: dict[str, list[str]] = {}
    query = select(_LOCK.flag, _LOCK.holder).where(_LOCK.project == project).distinct()
    for part in in_parts(query, _LOCK.flag, list(definitions)):
        for key, holder in connection.execute(part):
            found.setdefault(key, []).append(holder.replace(":", " ", 1))
    things: dict[str, set[tuple[str, str]]] = {}
    for key, each in definitions.items():
        for environment in each:
            things.setdefault(environment, set()).add(("flag", key))
    for pending in pending_about(connection, project=project, things=things) if things else ():
        for key in sorted({each.key for each in pending.fields}):
            found.setdefault(key, []).append(f"schedule {pending.id}")
    return found
