"""Keep change requests and what happens to them; each step is in the audit trail in the same transaction."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection, delete, func, insert, select, update

from server.core.change_requests.codec import Content, read_content, read_value, write_content, write_value
from server.core.change_requests.machine import CLOSED, Happening, Progress, State, Step
from server.core.errors import NotFound, Stale, StoreCorrupt, TooLarge
from server.core.limits import (
    CHANGE_REQUEST_BYTES_MAX,
    CHANGE_REQUEST_STEPS_MAX,
    CHANGE_REQUESTS_CLOSED_MAX,
    CHANGE_REQUESTS_OPEN_MAX,
)
from server.store import tables
from server.store.change_request_steps import About, keep_step
from server.store.mapping import compact
from server.store.versions import Thing

Versions: TypeAlias = Mapping[str, Mapping[Thing, int]]
"""Environment -> thing -> its version; ABSENT for one that must not exist."""

_COLUMNS: Final = tables.change_requests.c
_SUBJECTS: Final = tables.change_request_subjects.c
_LIVING: Final = [state.value for state in State if state not in CLOSED]


@dataclass(frozen=True, slots=True)
class StoredRequest:
    """A change request: what it asks for, and how far it has come."""

    project: str
    id: str
    title: str
    cause: str
    content: str
    """As text; `content_of` reads it."""

    base: Versions
    """What it was asked for against."""

    lines: Mapping[str, Sequence[str]]
    """Environment -> what would differ there."""

    progress: Progress
    created_at: datetime
    updated_at: datetime

    @property
    def author(self) -> str:
        """Who asked for it first."""
        return self.progress.authors[0]

    @property
    def digest(self) -> str:
        """SHA-256 of what it asks for; the audit trail says by it what was approved."""
        return hashlib.sha256(self.content.encode("utf-8", "backslashreplace")).hexdigest()


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which change requests to list; what is left out is not asked."""

    states: Collection[State] = ()
    author: str = ""
    environment: str = ""
    subject: tuple[str, str] | None = None
    """(kind, key)."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is kept."""

    open_max: int = CHANGE_REQUESTS_OPEN_MAX
    closed_max: int = CHANGE_REQUESTS_CLOSED_MAX
    steps_max: int = CHANGE_REQUEST_STEPS_MAX


BOUNDS: Final = Bounds()


def content_text(content: Content) -> str:
    """What a change request asks for, as it is stored. Errors: TooLarge."""
    text = compact(write_content(content))
    size = len(text.encode("utf-8", "backslashreplace"))
    if size > CHANGE_REQUEST_BYTES_MAX:
        raise TooLarge(
            f"the change has {size} bytes as a change request, at most {CHANGE_REQUEST_BYTES_MAX} are allowed; "
            "ask for it in parts"
        )
    return text


def content_of(request: StoredRequest) -> Content:
    """What a change request asks for. Errors: InvalidRequest when this version cannot read it."""
    return read_content(json.loads(request.content))


def insert_request(
    connection: Connection, request: StoredRequest, step: Step, *, request_id: str = "", bounds: Bounds = BOUNDS
) -> None:
    """Keep a new change request. Errors: TooLarge when the project has too many that are not closed."""
    mine = _COLUMNS.project == request.project
    count = connection.execute(
        select(func.count()).select_from(tables.change_requests).where(mine, _COLUMNS.state.in_(_LIVING))
    ).scalar_one()
    if count >= bounds.open_max:
        raise TooLarge(
            f"project {request.project!r} has {count} change requests that are not closed, at most "
            f"{bounds.open_max} are allowed; apply or withdraw some"
        )
    identity = {"project": request.project, "id": request.id, "author": request.author}
    row = {**identity, "created_at": request.created_at, **_row(request)}
    connection.execute(insert(tables.change_requests), row)
    _save_subjects(connection, request)
    keep_step(connection, _about(request), step, request_id=request_id)
    _forget_old(connection, request.project, keep=bounds.closed_max)


def save_step(
    connection: Connection,
    before: StoredRequest,
    after: StoredRequest,
    step: Step,
    *,
    request_id: str = "",
    bounds: Bounds = BOUNDS,
) -> None:
    """Keep what happened to a change request.

    Errors: Stale when something else happened to it since it was read; TooLarge when too much has happened.
    """
    if after.progress.step_count > bounds.steps_max and step.happening is Happening.COMMENTED:
        raise TooLarge(
            f"{before.id} has {before.progress.step_count} comments and other steps, "
            f"at most {bounds.steps_max} are allowed"
        )
    changed = connection.execute(
        update(tables.change_requests)
        .where(_is(before.project, before.id), _COLUMNS.step_count == before.progress.step_count)
        .values(**_row(after))
    )
    if changed.rowcount != 1:
        raise Stale(f"change request {before.id} went on meanwhile; read it again and repeat")
    if before.base != after.base:
        connection.execute(
            delete(tables.change_request_subjects).where(
                _SUBJECTS.project == before.project, _SUBJECTS.change_request == before.id
            )
        )
        _save_subjects(connection, after)
    keep_step(connection, _about(after), step, request_id=request_id)


def read_request(connection: Connection, *, project: str, id: str) -> StoredRequest:
    """One change request. Errors: NotFound; StoreCorrupt when its row cannot be used."""
    row = connection.execute(select(tables.change_requests).where(_is(project, id))).mappings().first()
    if row is None:
        raise NotFound(f"change request {id!r} is not in project {project!r}")
    return _stored(row)


def list_requests(
    connection: Connection, *, project: str, wanted: Wanted, after: tuple[datetime, str] | None, limit: int
) -> tuple[list[StoredRequest], int]:
    """The newest first, and how many there are in all; `after` is where the page before ended."""
    conditions = [_COLUMNS.project == project]
    if wanted.states:
        conditions.append(_COLUMNS.state.in_([state.value for state in wanted.states]))
    if wanted.author:
        conditions.append(_COLUMNS.author == wanted.author)
    if wanted.environment or wanted.subject:
        subjects = select(_SUBJECTS.change_request).where(_SUBJECTS.project == project)
        if wanted.environment:
            subjects = subjects.where(_SUBJECTS.environment == wanted.environment)
        if wanted.subject:
            subjects = subjects.where(_SUBJECTS.kind == wanted.subject[0], _SUBJECTS.key == wanted.subject[1])
        conditions.append(_COLUMNS.id.in_(subjects))
    count = connection.execute(select(func.count()).select_from(tables.change_requests).where(*conditions)).scalar_one()
    if after is not None:
        at, id = after
        conditions.append((_COLUMNS.created_at < at) | ((_COLUMNS.created_at == at) & (_COLUMNS.id < id)))
    query = (
        select(tables.change_requests)
        .where(*conditions)
        .order_by(_COLUMNS.created_at.desc(), _COLUMNS.id.desc())
        .limit(limit)
    )
    return [_stored(row) for row in connection.execute(query).mappings()], count


def find_due(connection: Connection, *, now: datetime) -> list[tuple[str, str]]:
    """(project, id) of change requests whose time to be applied has come, the earliest first."""
    query = select(_COLUMNS.project, _COLUMNS.id).where(_COLUMNS.apply_at <= now).order_by(_COLUMNS.apply_at)
    return [(project, id) for project, id in connection.execute(query)]


def first_due_at(connection: Connection) -> datetime | None:
    """The earliest time that one is to be applied at; None when none has a time."""
    query = select(_COLUMNS.apply_at).where(_COLUMNS.apply_at.is_not(None)).order_by(_COLUMNS.apply_at).limit(1)
    return connection.execute(query).scalar()


def find_idle(connection: Connection, *, since: datetime) -> list[tuple[str, str]]:
    """(project, id) of those that are not closed, to which nothing happened since an instant."""
    query = select(_COLUMNS.project, _COLUMNS.id).where(
        _COLUMNS.state.in_(_LIVING), _COLUMNS.updated_at <= since, _COLUMNS.apply_at.is_(None)
    )
    return [(project, id) for project, id in connection.execute(query)]


def find_touching(connection: Connection, *, project: str, environment: str) -> list[str]:
    """Ids of those that wait and would change something in an environment."""
    query = (
        select(_COLUMNS.id)
        .where(_COLUMNS.project == project, _COLUMNS.state.in_([State.OPEN.value, State.APPROVED.value]))
        .where(
            _COLUMNS.id.in_(
                select(_SUBJECTS.change_request).where(
                    _SUBJECTS.project == project, _SUBJECTS.environment == environment
                )
            )
        )
    )
    return list(connection.execute(query).scalars())


def _is(project: str, id: str) -> Any:
    return (_COLUMNS.project == project) & (_COLUMNS.id == id)


def _row(request: StoredRequest) -> dict[str, Any]:
    progress = request.progress
    return {
        "state": progress.state.value,
        "title": request.title,
        "cause": request.cause,
        "content": request.content,
        "base": compact(write_base(request.base)),
        "lines": compact({name: list(lines) for name, lines in request.lines.items()}),
        "progress": compact(write_value(progress)),
        "step_count": progress.step_count,
        "apply_at": progress.apply_at,
        "updated_at": request.updated_at,
    }


def _stored(row: Mapping[Any, Any]) -> StoredRequest:
    try:
        return StoredRequest(
            project=row["project"],
            id=row["id"],
            title=row["title"],
            cause=row["cause"],
            content=row["content"],
            base=read_base(json.loads(row["base"])),
            lines=json.loads(row["lines"]),
            progress=read_value(Progress, json.loads(row["progress"])),
            created_at=row["created_at"],
            updated_at=row["updated_at"],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreCorrupt(
            f"the stored change request {row['id']!r} is damaged ({type(error).__name__}); restore a backup"
        ) from None


def write_base(base: Versions) -> dict[str, list[list[Any]]]:
    """Versions as JSON; `read_base` gives the same back."""
    return {name: [[kind, key, version] for (kind, key), version in each.items()] for name, each in base.items()}


def read_base(data: Mapping[str, list[Any]]) -> dict[str, dict[Thing, int]]:
    """Read what `write_base` wrote."""
    return {name: {(kind, key): version for kind, key, version in each} for name, each in data.items()}


def _save_subjects(connection: Connection, request: StoredRequest) -> None:
    own = {"project": request.project, "change_request": request.id}
    rows = [
        {**own, "environment": environment, "kind": kind, "key": key}
        for environment, things in request.base.items()
        for kind, key in things
    ]
    if rows:
        connection.execute(insert(tables.change_request_subjects), rows)


def _about(request: StoredRequest) -> About:
    return About(
        request.project, request.id, request.title, request.cause, request.base, request.digest, request.progress
    )


def _forget_old(connection: Connection, project: str, *, keep: int) -> None:
    """Take away the oldest closed ones beyond what is kept; what became of them stays in the audit trail."""
    closed = [state.value for state in CLOSED]
    query = (
        select(_COLUMNS.id)
        .where(_COLUMNS.project == project, _COLUMNS.state.in_(closed))
        .order_by(_COLUMNS.created_at.desc(), _COLUMNS.id.desc())
        .offset(keep)
        .limit(100)
    )
    old = list(connection.execute(query).scalars())
    if old:
        for table in (tables.change_request_steps, tables.change_request_subjects):
            connection.execute(delete(table).where(table.c.project == project, table.c.change_request.in_(old)))
        connection.execute(delete(tables.change_requests).where(_COLUMNS.project == project, _COLUMNS.id.in_(old)))
