"""Find who refers to a flag or segment, directly or through others."""

from dataclasses import dataclass

from sqlalchemy import Connection, select

from server.core.environments import Environment
from server.core.references import Target
from server.store import tables
from server.store.flagsets import in_parts


@dataclass(frozen=True, slots=True)
class Use:
    """A flag or segment that refers to something."""

    user: Target
    through: tuple[Target, ...] = ()
    """A shortest way from it to what is used, without either end; () when it names that itself."""


def users_of(connection: Connection, where: Environment, used: Target) -> list[Use]:
    """Everything that a change of one thing can reach, the nearest first."""
    ways: dict[Target, tuple[Target, ...]] = {used: ()}
    frontier = [used]
    found: list[Use] = []
    while frontier:
        fresh: list[Target] = []
        for named, user in _naming(connection, where, frontier):
            if user not in ways:
                ways[user] = () if named == used else (named, *ways[named])
                fresh.append(user)
                found.append(Use(user, ways[user]))
        frontier = fresh
    return found


def _naming(connection: Connection, where: Environment, named: list[Target]) -> list[tuple[Target, Target]]:
    """(what is named, who names it), sorted."""
    columns = tables.references.c
    query = select(columns.target_kind, columns.target_key, columns.kind, columns.key).where(
        columns.project == where.project, columns.environment == where.key
    )
    wanted = set(named)
    pairs: set[tuple[Target, Target]] = set()
    for part in in_parts(query, columns.target_key, {key for _, key in named}):
        for target_kind, target_key, kind, key in connection.execute(part):
            if (target_kind, target_key) in wanted:
                pairs.add(((target_kind, target_key), (kind, key)))
    return sorted(pairs)
