"""List flags by how much they are still of use, a page at a time."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select

from server.core.flags import FlagKind
from server.core.staleness import StaleState
from server.store import tables
from server.store.flagsets import raw
from server.store.mapping import Document, parse
from server.store.position import position
from server.store.saving import TAG_SEPARATOR, owner_copy, separated
from server.store.staleness import StoredStaleness, stored_of
from server.store.staleness_tables import flag_staleness

_ROW: Final = flag_staleness.c
_FLAG: Final = tables.flags.c


@dataclass(frozen=True, slots=True)
class StaleFilter:
    """Which flags are listed; empty fields ask for nothing."""

    states: Collection[StaleState] = (StaleState.POTENTIALLY_STALE, StaleState.STALE)
    owner: str = ""
    tags: Collection[str] = ()
    kinds: Collection[FlagKind] = ()


@dataclass(frozen=True, slots=True)
class StalePage:
    """Which part of the list is wanted."""

    by_age: bool = True
    """The longest stale first; else by key."""

    after: tuple[str, str] | None = None
    """What the last one before the page was sorted by, and its key."""

    size: int = 100


@dataclass(frozen=True, slots=True)
class ListedStaleness:
    """A flag of the list, with what it is."""

    stored: StoredStaleness
    document: Document
    """What all environments share of it."""


@dataclass(frozen=True, slots=True)
class StaleList:
    """One page, and how many there are on all of them."""

    flags: tuple[ListedStaleness, ...]
    total: int
    is_last: bool
    end: tuple[str, str] | None = None
    """Where the page ended."""


def list_stale(connection: Connection, project: str, wanted: StaleFilter, page: StalePage) -> StaleList:
    """One page of the flags that are as wanted."""
    conditions = list(_conditions(project, wanted))
    joined = and_(_FLAG.project == _ROW.project, _FLAG.key == _ROW.key)
    counted = select(func.count()).select_from(flag_staleness).join(tables.flags, joined).where(*conditions)
    total = connection.execute(counted).scalar_one()
    since = func.coalesce(_ROW.noticed_at, _ROW.changed_at, type_=_ROW.changed_at.type)
    query = select(flag_staleness, raw(_FLAG.document).label("document"), since.label("since")).join(
        tables.flags, joined
    )
    if page.after is not None:
        query = query.where(_behind(since, page))
    ordered = (since, _ROW.key) if page.by_age else (_ROW.key,)
    rows = connection.execute(query.where(*conditions).order_by(*ordered).limit(page.size + 1)).mappings().all()
    listed = tuple(ListedStaleness(stored_of(row), parse(row["document"]) or {}) for row in rows[: page.size])
    end = None
    if listed:
        last = rows[len(listed) - 1]
        end = (last["since"].isoformat(), last["key"])
    return StaleList(listed, total, is_last=len(rows) <= page.size, end=end)


def _behind(since: Any, page: StalePage) -> ColumnElement[bool]:
    assert page.after is not None
    at, key = page.after
    if not page.by_age:
        return _ROW.key > key
    instant = datetime.fromisoformat(at)
    return or_(since > instant, and_(since == instant, _ROW.key > key))


def _conditions(project: str, wanted: StaleFilter) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = [
        _ROW.project == project,
        _ROW.state.in_([each.value for each in wanted.states]),
    ]
    if wanted.owner:
        found.append(_FLAG.owner == owner_copy(wanted.owner))
    found += [position(_FLAG.tags, separated([tag.replace(TAG_SEPARATOR, "")])) > 0 for tag in wanted.tags]
    if wanted.kinds:
        found.append(_FLAG.kind.in_([each.value for each in wanted.kinds]))
    return found
