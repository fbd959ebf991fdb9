"""Find the flags of which the clock makes something that is to be written down."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias

from sqlalchemy import ColumnElement, Connection, func, select, update

from server.store import tables

_CONFIG: Final = tables.flag_configs.c
_REVISION: Final = tables.revisions.c

Place: TypeAlias = tuple[str, str, str]
"""Project, environment and the flag's key."""


@dataclass(frozen=True, slots=True)
class Settling:
    """A flag with an instant that is to be settled."""

    project: str
    environment: str
    key: str
    at: datetime

    @property
    def place(self) -> Place:
        """Where the flag is."""
        return self.project, self.environment, self.key


def find_settling(connection: Connection, *, limit: int, without: Collection[Place] = ()) -> list[Settling]:
    """The flags whose instants come first, in their order; those that are known to fail are passed over."""
    query = (
        select(_CONFIG.project, _CONFIG.environment, _CONFIG.key, _CONFIG.settles_at)
        .where(_CONFIG.settles_at.is_not(None))
        .order_by(_CONFIG.settles_at)
        .limit(limit + len(without))
    )
    found = [Settling(*row) for row in connection.execute(query)]
    return [each for each in found if each.place not in without][:limit]


def settles_at(connection: Connection, place: Place) -> datetime | None:
    """When a flag is to be settled next; None for one that has no instants, or is gone."""
    at: datetime | None = connection.execute(select(_CONFIG.settles_at).where(_of(place))).scalar()
    return at


def note_settled(connection: Connection, place: Place, *, next_at: datetime | None) -> None:
    """Say when a flag is to be settled next, where its configuration stays as it is written."""
    connection.execute(update(tables.flag_configs).where(_of(place)).values(settles_at=next_at))


def last_change(connection: Connection, *, project: str, environment: str) -> datetime | None:
    """When the environment was changed last, by its newest revision's own word."""
    query = select(func.max(_REVISION.at)).where(_REVISION.project == project, _REVISION.environment == environment)
    at: datetime | None = connection.execute(query).scalar()
    return at


def _of(place: Place) -> ColumnElement[bool]:
    project, environment, key = place
    return (_CONFIG.project == project) & (_CONFIG.environment == environment) & (_CONFIG.key == key)
