"""Give a commit that is sent again its first answer."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection, insert, select

from server.core.errors import Conflict
from server.store import tables
from server.store.environments import find_environment
from server.store.flagsets import touched_of
from server.store.orders import Committed, Order, Part
from server.store.replay import read_past


def answered_before(connection: Connection, order: Order) -> dict[str, Committed] | None:
    """What a commit with this request id did; None when there was none.

    Errors: Conflict when the id was used for something else.
    """
    if not order.why.request_id:
        return None
    columns = tables.requests.c
    row = connection.execute(
        select(columns.digest, columns.revision, columns.unchanged).where(
            columns.project == order.project, columns.id == order.why.request_id
        )
    ).first()
    if row is None:
        return None
    if row.digest != order.digest:
        raise Conflict(
            f"request id {order.why.request_id!r} was used for another change before; give each change its own"
        )
    return {part.environment: _past(connection, order, part, first=row.revision) for part in order.parts}


def is_answered(connection: Connection, project: str, *, request_id: str, digest: str) -> bool:
    """Whether something that is no commit was done for a request id already. Errors: Conflict for another thing."""
    if not request_id:
        return False
    columns = tables.requests.c
    query = select(columns.digest).where(columns.project == project, columns.id == request_id)
    found = connection.execute(query).scalar()
    if found not in (None, digest):
        raise Conflict(f"request id {request_id!r} was used for something else before; give each write its own")
    return found is not None


def note_done(connection: Connection, project: str, *, request_id: str, digest: str, at: datetime) -> None:
    """Keep that something that is no commit was done."""
    if request_id:
        row = {"project": project, "id": request_id, "digest": digest, "environment": "", "revision": 0}
        connection.execute(insert(tables.requests), {**row, "unchanged": False, "at": at})


def _past(connection: Connection, order: Order, part: Part, *, first: int) -> Committed:
    past = read_past(connection, order.project, part.environment, request_id=order.why.request_id)
    # The request keeps the revision of its first part; where nothing moved, another one is at what it was.
    revision = first if part is order.parts[0] else past.revision or _revision(connection, order, part)
    others = {part.environment for part in order.parts}
    elsewhere = {name: at for name, at in past.elsewhere.items() if name not in others}
    touched = touched_of(revision, past.subjects)
    return Committed(revision, past.events, touched, not past.subjects, elsewhere)


def _revision(connection: Connection, order: Order, part: Part) -> int:
    stored = find_environment(connection, project=order.project, environment=part.environment)
    return 0 if stored is None else stored.revision


def note_answer(connection: Connection, order: Order, committed: Mapping[str, Committed]) -> None:
    """Keep what a commit with a request id did."""
    first = order.parts[0].environment
    row = {
        "project": order.project,
        "id": order.why.request_id,
        "digest": order.digest,
        "environment": first,
        "revision": committed[first].revision,
        "unchanged": all(each.unchanged for each in committed.values()),
        "at": order.why.now,
    }
    connection.execute(insert(tables.requests), row)
