"""Put events into the outbox, in the transaction of the change that caused them."""

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from server.store import tables
from server.store.causing import with_cause
from server.store.standing import Standing, read_standing
from server.store.statements import insert_rows, update_rows


@dataclass(frozen=True, slots=True)
class Announcement:
    """One event to be announced; `payload` is JSON text."""

    environment: str
    type: str
    payload: str
    at: datetime


def announce(
    connection: Connection, project: str, *, announcements: Sequence[Announcement], standing: Standing | None = None
) -> None:
    """Give each event its id and its place in the project's one order, and keep it until it is delivered.

    The order ends as `standing` says. What led to them, as server/store/causing.py knows it, is kept with them.
    """
    last = (standing or read_standing(connection, project)).event_sequence
    rows = [
        {
            "project": project,
            "sequence": last + place,
            # Random, not counted: a database restored from a backup must not give an old id to another event.
            "id": f"evt_{uuid.uuid4().hex}",
            "environment": each.environment,
            "type": each.type,
            "payload": with_cause(each.payload),
            "at": each.at,
        }
        for place, each in enumerate(announcements, start=1)
    ]
    insert_rows(connection, tables.outbox, rows)
    update_rows(connection, tables.projects, [{"key": project, "event_sequence": last + len(rows)}])


def payload_text(fields: dict[str, str | int], *, before: str | None, after: str | None) -> str:
    """An event's payload; `before` and `after` are JSON text already and are not read again."""
    head = json.dumps(fields, separators=(",", ":"), ensure_ascii=False)
    return f'{head[:-1]},"before":{before or "null"},"after":{after or "null"}}}'
