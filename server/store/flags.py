"""Find flags of a project: one by its key, or those that fit a filter, a page at a time."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, exists, false, func, or_, select

from server.store import tables
from server.store.flagsets import in_parts, raw
from server.store.mapping import Document, parse
from server.store.position import position
from server.store.saving import TAG_SEPARATOR, owner_copy, searched, separated
from server.store.versions import read_versions

_FLAG: Final = tables.flags.c
_CONFIG: Final = tables.flag_configs.c


class Order(StrEnum):
    """What flags are sorted by; equals are in order of their keys."""

    KEY = "key"
    OWNER = "owner"
    KIND = "kind"
    TYPE = "type"
    VERSION = "version"


class Archived(StrEnum):
    """Whether archived flags are listed."""

    LEFT_OUT = "left-out"
    INCLUDED = "included"
    ONLY = "only"


@dataclass(frozen=True, slots=True)
class FlagFilter:
    """What a listed flag must be; empty fields ask for nothing."""

    text: str = ""
    """Is in the key or the description, whatever its case."""

    tags: tuple[str, ...] = ()
    """It has all of these."""

    owner: str = ""
    kinds: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    states: Mapping[str, bool] = field(default_factory=dict)
    """Environment -> whether the flag is on there. An archived flag is off wherever it is configured."""

    archived: Archived = Archived.LEFT_OUT


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a sorted list is wanted."""

    order: Order = Order.KEY
    descending: bool = False
    after: tuple[str | int, str] | None = None
    """What the list is sorted by, and the key, of the last flag before the page."""

    size: int = 100


@dataclass(frozen=True, slots=True)
class StoredConfig:
    """A flag's configuration in one environment."""

    environment: str
    version: int
    """The environment's revision that touched the flag last."""

    enabled: bool
    document: Document | None
    """None when it is damaged, or was not asked for."""


@dataclass(frozen=True, slots=True)
class StoredFlag:
    """What environments share of a flag, with its configurations."""

    key: str
    version: int
    document: Document | None
    """None when it is damaged."""

    sorted_by: str | int = ""
    configs: tuple[StoredConfig, ...] = ()


@dataclass(frozen=True, slots=True)
class Listed:
    """One page, and how many flags there are on all of them."""

    flags: tuple[StoredFlag, ...]
    total: int
    is_last: bool


def flag_owners(connection: Connection, project: str, keys: Collection[str]) -> dict[str, tuple[tuple[str, ...], str]]:
    """The tags of these flags, and whose they are; flags that are not there are missing."""
    query = select(_FLAG.key, _FLAG.tags, _FLAG.owner).where(_FLAG.project == project, _FLAG.key.in_(keys))
    return {
        key: (tuple(each for each in tags.split(TAG_SEPARATOR) if each), owner)
        for key, tags, owner in connection.execute(query)
    }


def list_flags(
    connection: Connection,
    *,
    project: str,
    environments: Sequence[str],
    configured_in: str = "",
    wanted: FlagFilter,
    page: Page,
    with_configs: bool = False,
) -> Listed:
    """One page of the flags that fit a filter, with their configurations in some environments.

    `configured_in` leaves out flags that are not configured there.
    """
    conditions = list(_conditions(project, wanted))
    if configured_in:
        conditions.append(_configured(configured_in))
    total = connection.execute(select(func.count()).select_from(tables.flags).where(*conditions)).scalar_one()
    by = _FLAG[page.order.value]
    query = select(_FLAG.key, _FLAG.version, raw(_FLAG.document), by.label("sorted_by")).where(*conditions)
    if page.after is not None:
        query = query.where(_behind(by, page))
    ordered = (by.desc(), _FLAG.key.desc()) if page.descending else (by, _FLAG.key)
    rows = connection.execute(query.order_by(*ordered).limit(page.size + 1)).all()
    keys = [row.key for row in rows[: page.size]]
    configs = _configs(connection, project, environments, keys=keys, with_documents=with_configs)
    flags = tuple(
        StoredFlag(key, version, parse(document), sorted_by, tuple(configs.get(key, ())))
        for key, version, document, sorted_by in rows[: page.size]
    )
    return Listed(flags, total, is_last=len(rows) <= page.size)


def find_flag(connection: Connection, *, project: str, environments: Sequence[str], key: str) -> StoredFlag | None:
    """One flag with its configurations in some environments; None when the project has no such flag."""
    query = select(_FLAG.version, raw(_FLAG.document)).where(_FLAG.project == project, _FLAG.key == key)
    row = connection.execute(query).first()
    if row is None:
        return None
    configs = _configs(connection, project, environments, keys=[key], with_documents=True)
    return StoredFlag(key, row[0], parse(row[1]), configs=tuple(configs.get(key, ())))


def versions_of_new(connection: Connection, *, project: str, environment: str, keys: Collection[str]) -> dict[str, int]:
    """Key -> version of the shared part, of those flags that an environment does not configure yet."""
    query = select(_FLAG.key, _FLAG.version).where(_FLAG.project == project, ~_configured(environment))
    found: dict[str, int] = {}
    for part in in_parts(query, _FLAG.key, keys):
        found.update((key, version) for key, version in connection.execute(part))
    return found


def environments_with(connection: Connection, *, project: str, key: str) -> list[str]:
    """The environments that configure a flag, in order."""
    query = select(_CONFIG.environment).where(_CONFIG.project == project, _CONFIG.key == key)
    return [name for (name,) in connection.execute(query.order_by(_CONFIG.environment))]


def environments_touched(connection: Connection, *, project: str, key: str, request_id: str) -> list[str]:
    """The environments in which the commit with a request id touched a flag, in order; none when there was no such."""
    columns = tables.audit_entries.c
    query = (
        select(columns.environment)
        .where(columns.project == project, columns.request_id == request_id)
        .where(columns.subject_kind == "flag", columns.subject_key == key)
        .distinct()
        .order_by(columns.environment)
    )
    return [name for (name,) in connection.execute(query)] if request_id else []


def _conditions(project: str, wanted: FlagFilter) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = [_FLAG.project == project]
    if wanted.text:
        found.append(position(_FLAG.search, searched(wanted.text, "").removesuffix("\n")) > 0)
    for tag in wanted.tags:
        # A tag that holds the separator would fit between others.
        has = position(_FLAG.tags, separated([tag])) > 0
        found.append(false() if TAG_SEPARATOR in tag else has)
    if wanted.owner:
        found.append(_FLAG.owner == owner_copy(wanted.owner))
    if wanted.kinds:
        found.append(_FLAG.kind.in_(wanted.kinds))
    if wanted.types:
        found.append(_FLAG.type.in_(wanted.types))
    if wanted.archived is Archived.LEFT_OUT:
        found.append(_FLAG.archived_at.is_(None))
    elif wanted.archived is Archived.ONLY:
        found.append(_FLAG.archived_at.is_not(None))
    for environment, enabled in wanted.states.items():
        found.append(_is_on(environment) if enabled else _is_off(environment))
    return found


def _configured(environment: str, *more: ColumnElement[bool]) -> ColumnElement[bool]:
    same = (_CONFIG.project == _FLAG.project) & (_CONFIG.key == _FLAG.key)
    return exists().where(same, _CONFIG.environment == environment, *more)


def _is_on(environment: str) -> ColumnElement[bool]:
    return and_(_FLAG.archived_at.is_(None), _configured(environment, _CONFIG.enabled.is_(True)))


def _is_off(environment: str) -> ColumnElement[bool]:
    off = or_(_CONFIG.enabled.is_(False), _FLAG.archived_at.is_not(None))
    return _configured(environment, off)


def _behind(by: Any, page: Page) -> ColumnElement[bool]:
    assert page.after is not None
    value, key = page.after
    if page.descending:
        return or_(by < value, and_(by == value, _FLAG.key < key))
    return or_(by > value, and_(by == value, _FLAG.key > key))


def _configs(
    connection: Connection, project: str, environments: Sequence[str], *, keys: Collection[str], with_documents: bool
) -> dict[str, list[StoredConfig]]:
    names = sorted(environments)
    versions = {
        name: read_versions(connection, project=project, environment=name, kind="flag", keys=keys) for name in names
    }
    document = [raw(_CONFIG.document)] if with_documents else []
    query = (
        select(_CONFIG.environment, _CONFIG.key, _CONFIG.enabled, *document)
        .where(_CONFIG.project == project, _CONFIG.environment.in_(names))
        .order_by(_CONFIG.environment)
    )
    found: dict[str, list[StoredConfig]] = {}
    for part in in_parts(query, _CONFIG.key, keys):
        for environment, key, enabled, *texts in connection.execute(part):
            version = versions[environment].get(key, 0)
            read = parse(texts[0]) if texts else None
            found.setdefault(key, []).append(StoredConfig(environment, version, bool(enabled), read))
    return found
