"""Keep releases and what came to them; each thing that happens is in the audit trail in the same transaction."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, delete, func, insert, select, update

from server.core.change_requests.codec import read_value, write_value
from server.core.errors import Conflict, NotFound, Stale, StoreCorrupt, TooLarge
from server.core.flags import FlagDefinition
from server.core.json import Json
from server.core.limits import RELEASE_BYTES_MAX, RELEASES_ENDED_MAX, RELEASES_LIVE_MAX
from server.core.releases.codec import read_event, write_event
from server.core.releases.plan import Plan, Subject
from server.core.releases.progress import ENDED, Event, Progress, Release, State
from server.core.releases.walking import Move, Told
from server.store import release_tables as tables
from server.store.mapping import compact

KIND: Final = "release"
"""As the audit trail names its subjects of this kind."""

_COLUMNS: Final = tables.releases.c
_SUBJECTS: Final = tables.release_subjects.c
_EVENTS: Final = tables.release_events.c
_LIVING: Final = [state.value for state in State if state not in ENDED]
_ENDED: Final = [state.value for state in ENDED]


@dataclass(frozen=True, slots=True)
class StoredRelease:
    """A release as it is kept."""

    project: str
    id: str
    release: Release
    anchors: Mapping[Subject, FlagDefinition]
    """The flags as they were when it began; empty before."""

    created_by: str
    created_at: datetime
    updated_at: datetime
    next_at: datetime | None = None

    @property
    def holder(self) -> str:
        """What it is called where something is done by it."""
        return f"{KIND}:{self.id}"


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """What came to a release, and what came of it."""

    number: int
    event: Event | None
    """None for the first, by which it was drawn up."""

    told: tuple[Told, ...]
    move: Move | None
    revisions: Mapping[str, int]
    actor: str
    cause: str
    at: datetime
    release: Release | None = None
    """Of the first: as it was drawn up."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which releases to list; what is left out is not asked."""

    states: Collection[State] = ()
    environment: str = ""
    flag: str = ""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is kept."""

    live_max: int = RELEASES_LIVE_MAX
    ended_max: int = RELEASES_ENDED_MAX


BOUNDS: Final = Bounds()


def insert_release(
    connection: Connection, stored: StoredRelease, *, request_id: str = "", bounds: Bounds = BOUNDS
) -> None:
    """Keep a new release. Errors: TooLarge when the project has too many that have not ended."""
    count = connection.execute(
        select(func.count())
        .select_from(tables.releases)
        .where(_COLUMNS.project == stored.project, _COLUMNS.state.in_(_LIVING))
    ).scalar_one()
    if count >= bounds.live_max:
        raise TooLarge(
            f"project {stored.project!r} has {count} releases that have not ended, at most {bounds.live_max} are "
            "allowed; complete or abort some"
        )
    first = {"plan": write_value(stored.release.plan), "progress": write_value(stored.release.progress)}
    identity = {"project": stored.project, "id": stored.id, "created_by": stored.created_by}
    row = {**identity, "created_at": stored.created_at, **_row(stored)}
    connection.execute(insert(tables.releases), row)
    _save_subjects(connection, stored)
    _insert_event(
        connection, stored, event=first, told=(), actor=stored.created_by, at=stored.created_at, request_id=request_id
    )
    _forget_old(connection, stored.project, keep=bounds.ended_max)


def save_event(  # noqa: PLR0913  (what came, what came of it, and for whom)
    connection: Connection,
    before: StoredRelease,
    after: StoredRelease,
    *,
    event: Event,
    told: Sequence[Told],
    move: Move | None,
    revisions: Mapping[str, int],
    actor: str,
    cause: str,
    request_id: str = "",
) -> None:
    """Keep what came of an event. Errors: Stale when something else came meanwhile."""
    changed = connection.execute(
        update(tables.releases)
        .where(_is(before.project, before.id), _COLUMNS.event_count == before.release.progress.event_count)
        .values(**_changed(before, after))
    )
    if changed.rowcount != 1:
        raise Stale(f"release {before.id} went on meanwhile; read it again and repeat")
    if before.release.plan is not after.release.plan:
        connection.execute(
            delete(tables.release_subjects).where(_SUBJECTS.project == before.project, _SUBJECTS.release == before.id)
        )
        _save_subjects(connection, after)
    _insert_event(
        connection,
        after,
        event=write_event(event),
        told=told,
        move=move,
        revisions=revisions,
        actor=actor,
        cause=cause,
        at=after.updated_at,
        request_id=request_id,
    )


def save_next_at(connection: Connection, stored: StoredRelease, next_at: datetime | None) -> None:
    """Note when to look again at a release to which nothing happened."""
    if stored.next_at != next_at:
        connection.execute(update(tables.releases).where(_is(stored.project, stored.id)).values(next_at=next_at))


def read_release(connection: Connection, *, project: str, id: str) -> StoredRelease:
    """One release. Errors: NotFound; StoreCorrupt when its row cannot be used."""
    row = connection.execute(select(tables.releases).where(_is(project, id))).mappings().first()
    if row is None:
        raise NotFound(f"release {id!r} is not in project {project!r}")
    return _stored(row)


def list_releases(
    connection: Connection, *, project: str, wanted: Wanted, after: tuple[datetime, str] | None, limit: int
) -> list[StoredRelease]:
    """The newest first; `after` is where the page before ended."""
    conditions = [_COLUMNS.project == project]
    if wanted.states:
        conditions.append(_COLUMNS.state.in_([state.value for state in wanted.states]))
    if wanted.environment or wanted.flag:
        subjects = select(_SUBJECTS.release).where(_SUBJECTS.project == project)
        if wanted.environment:
            subjects = subjects.where(_SUBJECTS.environment == wanted.environment)
        if wanted.flag:
            subjects = subjects.where(_SUBJECTS.flag == wanted.flag)
        conditions.append(_COLUMNS.id.in_(subjects))
    if after is not None:
        at, id = after
        conditions.append((_COLUMNS.created_at < at) | ((_COLUMNS.created_at == at) & (_COLUMNS.id < id)))
    query = (
        select(tables.releases).where(*conditions).order_by(_COLUMNS.created_at.desc(), _COLUMNS.id.desc()).limit(limit)
    )
    return [_stored(row) for row in connection.execute(query).mappings()]


def find_due(connection: Connection, *, now: datetime, limit: int) -> list[tuple[str, str]]:
    """(project, id) of releases whose time has come, the earliest first."""
    query = select(_COLUMNS.project, _COLUMNS.id).where(_COLUMNS.next_at <= now).order_by(_COLUMNS.next_at).limit(limit)
    return [(project, id) for project, id in connection.execute(query)]


def hasten(connection: Connection, *, project: str, guard: str, now: datetime) -> None:
    """Have every release looked at now that may go by what a guard has said, instead of a few seconds later.

    One too many is looked at in vain: the guard's name may stand elsewhere in its plan.
    """
    connection.execute(
        update(tables.releases)
        .where(_COLUMNS.project == project, _COLUMNS.state.in_(_LIVING), _COLUMNS.next_at > now)
        .where(_COLUMNS.plan.contains(compact({"guard": guard})[1:-1], autoescape=True))
        .values(next_at=now)
    )


def find_next_at(connection: Connection) -> datetime | None:
    """The earliest instant at which a release wants to be looked at."""
    found: datetime | None = connection.execute(
        select(_COLUMNS.next_at).where(_COLUMNS.next_at.is_not(None)).order_by(_COLUMNS.next_at).limit(1)
    ).scalar()
    return found


def read_events(connection: Connection, *, project: str, id: str, behind: int = 0) -> list[StoredEvent]:
    """What came to a release, in order; those behind a number."""
    query = (
        select(tables.release_events)
        .where(_EVENTS.project == project, _EVENTS.release == id, _EVENTS.number > behind)
        .order_by(_EVENTS.number)
    )
    return [_event(row) for row in connection.execute(query).mappings()]


def find_known(connection: Connection, *, project: str, request_id: str) -> tuple[str, int, Json] | None:
    """(release, number, event) that came under a caller's request id before; None when none did."""
    query = select(_EVENTS.release, _EVENTS.number, _EVENTS.event).where(
        _EVENTS.project == project, _EVENTS.request_id == request_id
    )
    row = connection.execute(query).first() if request_id else None
    return None if row is None else (row[0], row[1], json.loads(row[2]))


def refuse_other_use(request_id: str) -> Conflict:
    """The error for a request id that was used for something else."""
    return Conflict(f"request id {request_id!r} was used for another change before; give each change its own")


def _is(project: str, id: str) -> Any:
    return (_COLUMNS.project == project) & (_COLUMNS.id == id)


def _changed(before: StoredRelease, after: StoredRelease) -> dict[str, Any]:
    """The columns that an event may change; what is long and is as it was is not written out again."""
    row = _progress_row(after)
    if before.release.plan is not after.release.plan:
        row |= _plan_row(after)
    if before.anchors is not after.anchors:
        row |= _anchors_row(after)
    return row


def _row(stored: StoredRelease) -> dict[str, Any]:
    return _progress_row(stored) | _plan_row(stored) | _anchors_row(stored)


def _plan_row(stored: StoredRelease) -> dict[str, Any]:
    plan = stored.release.plan
    return {"name": plan.name, "kind": plan.kind.value, "plan": _bounded(compact(write_value(plan)), "plan")}


def _anchors_row(stored: StoredRelease) -> dict[str, Any]:
    return {"anchors": _bounded(_anchors_text(stored.anchors), "flags")}


def _progress_row(stored: StoredRelease) -> dict[str, Any]:
    progress = stored.release.progress
    return {
        "state": progress.state.value,
        "progress": compact(write_value(progress)),
        "event_count": progress.event_count,
        "next_at": stored.next_at,
        "updated_at": stored.updated_at,
    }


def _bounded(text: str, what: str) -> str:
    size = len(text.encode("utf-8", "backslashreplace"))
    if size > RELEASE_BYTES_MAX:
        raise TooLarge(f"the release's {what} take {size} bytes, at most {RELEASE_BYTES_MAX} are allowed")
    return text


def _anchors_text(anchors: Mapping[Subject, FlagDefinition]) -> str:
    return compact([[environment, write_value(each)] for (environment, _), each in anchors.items()])


def _stored(row: Mapping[Any, Any]) -> StoredRelease:
    try:
        anchors = [(environment, read_value(FlagDefinition, each)) for environment, each in json.loads(row["anchors"])]
        return StoredRelease(
            project=row["project"],
            id=row["id"],
            release=Release(
                read_value(Plan, json.loads(row["plan"])), read_value(Progress, json.loads(row["progress"]))
            ),
            anchors={(environment, each.key): each for environment, each in anchors},
            created_by=row["created_by"],
            created_at=row["created_at"],
            updated_at=row["updated_at"],
            next_at=row["next_at"],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreCorrupt(
            f"the stored release {row['id']!r} is damaged ({type(error).__name__}); restore a backup"
        ) from None


def _event(row: Mapping[Any, Any]) -> StoredEvent:
    try:
        data, move = json.loads(row["event"]), json.loads(row["move"] or "null")
        first = row["number"] == 1
        return StoredEvent(
            number=row["number"],
            event=None if first else read_event(data),
            told=tuple(read_value(Told, each) for each in json.loads(row["told"])),
            move=None if move is None else read_value(Move, move),
            revisions=json.loads(row["revisions"]),
            actor=row["actor"],
            cause=row["cause"],
            at=row["at"],
            release=Release(read_value(Plan, data["plan"]), read_value(Progress, data["progress"])) if first else None,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreCorrupt(
            f"event {row['number']} of release {row['release']!r} is damaged ({type(error).__name__}); restore a backup"
        ) from None


def _insert_event(  # noqa: PLR0913  (a row, column by column)
    connection: Connection,
    stored: StoredRelease,
    *,
    event: Json,
    told: Sequence[Told],
    actor: str,
    at: datetime,
    request_id: str,
    move: Move | None = None,
    revisions: Mapping[str, int] | None = None,
    cause: str = "",
) -> None:
    row = {
        "project": stored.project,
        "release": stored.id,
        "number": stored.release.progress.event_count,
        "event": compact(event),
        "told": compact([write_value(each) for each in told]),
        "move": "" if move is None else compact(write_value(move)),
        "revisions": compact(dict(revisions or {})),
        "actor": actor,
        "cause": cause,
        "request_id": request_id,
        "at": at,
    }
    connection.execute(insert(tables.release_events), row)


def _save_subjects(connection: Connection, stored: StoredRelease) -> None:
    own = {"project": stored.project, "release": stored.id}
    subjects = stored.release.plan.subjects()
    connection.execute(
        insert(tables.release_subjects),
        [{**own, "environment": environment, "flag": flag} for environment, flag in subjects],
    )


def _forget_old(connection: Connection, project: str, *, keep: int) -> None:
    """Take away the oldest ended ones beyond what is kept; what became of them stays in the audit trail."""
    query = (
        select(_COLUMNS.id)
        .where(_COLUMNS.project == project, _COLUMNS.state.in_(_ENDED))
        .order_by(_COLUMNS.created_at.desc(), _COLUMNS.id.desc())
        .offset(keep)
        .limit(100)
    )
    old = list(connection.execute(query).scalars())
    if old:
        for table in (tables.release_events, tables.release_subjects):
            connection.execute(delete(table).where(table.c.project == project, table.c.release.in_(old)))
        connection.execute(delete(tables.releases).where(_COLUMNS.project == project, _COLUMNS.id.in_(old)))
