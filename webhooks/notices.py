"""Keep what happened to the deliveries themselves until it is announced as an event like any other.

A notice is kept in the transaction of what it tells, and announced in another one. So whoever records deliveries never
waits for the order of a project's events, which its commits hold; and a notice that was kept is announced, whoever dies
in between.
"""

import json
from collections.abc import Callable

from sqlalchemy import Connection, delete, insert, select

from webhooks import limits
from webhooks.endpoints import Notice
from webhooks.tables import notices


class KeptNotices:
    """Where deliveries and endpoints write their notices."""

    def write(self, connection: Connection, notice: Notice) -> None:
        """Keep it until it is announced."""
        data = json.dumps(dict(notice.data), separators=(",", ":"))
        connection.execute(insert(notices).values(project=notice.project, type=notice.type, data=data))


def waiting_projects(connection: Connection) -> list[str]:
    """Projects with notices to announce, by name."""
    found = connection.execute(select(notices.c.project).distinct().order_by(notices.c.project))
    return list(found.scalars())


def announce_waiting(connection: Connection, project: str, announce: Callable[[Connection, list[Notice]], None]) -> int:
    """Announce a project's notices in their order, in the caller's transaction. Shapes: how many, 0 when none is left.

    Others that do so at once find them locked, or gone.
    """
    query = (
        select(notices)
        .where(notices.c.project == project)
        .order_by(notices.c.id)
        .limit(limits.ROWS_PER_SWEEP_MAX)
        .with_for_update(skip_locked=True)
    )
    rows = connection.execute(query).all()
    if rows:
        announce(connection, [Notice(row.type, row.project, json.loads(row.data)) for row in rows])
        connection.execute(delete(notices).where(notices.c.id.in_([row.id for row in rows])))
    return len(rows)
