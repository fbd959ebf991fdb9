"""Keep answers to actions, and count how often automation changes flags."""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, delete, insert, select, update

from server.core.errors import Conflict
from server.core.json import Json
from server.store import tables
from server.store.action_tables import answers, paces
from server.store.causing import PAYLOAD_FIELD
from server.store.mapping import compact
from server.store.outbox import last_event
from webhooks.rates import Bucket, Rate, full, take, wait_s

KEPT: Final = timedelta(hours=24)
"""How long an answer is given again."""

EVENTS_LOOKED_MAX: Final = 1_000
"""How far back the events of an action are looked for."""

EVENTS_TOLD_MAX: Final = 100
PACES_KEPT_S: Final = 24 * 3600.0
"""A bucket that was not asked for so long is full, and need not be kept."""


def find_answer(
    connection: Connection, actor: str, *, key: str, digest: str, now: datetime
) -> Mapping[str, Json] | None:
    """What the same request was answered; None for a new one. Errors: Conflict for a key of something else."""
    columns = answers.c
    query = select(columns.digest, columns.answer).where(
        columns.actor == actor, columns.key == key, columns.at > now - KEPT
    )
    row = connection.execute(query).first()
    if row is None:
        return None
    if row.digest != digest:
        raise Conflict(f"idempotency key {key!r} was used for something else before; give each request its own")
    kept: Mapping[str, Json] = json.loads(row.answer)
    return kept


def keep_answer(
    connection: Connection, actor: str, *, key: str, digest: str, answer: Mapping[str, Json], now: datetime
) -> None:
    """Keep what a request was answered; the first of two that were under way at once stays. Old ones go."""
    connection.execute(delete(answers).where(answers.c.at <= now - KEPT))
    if find_answer(connection, actor, key=key, digest=digest, now=now) is None:
        row = {"actor": actor, "key": key, "digest": digest, "answer": compact(dict(answer)), "at": now}
        connection.execute(insert(answers), row)


def take_turn(connection: Connection, where: tuple[str, str, str], *, rate: Rate, now_s: float) -> float:
    """Count one change of a flag by automation: 0 when it may be made, else seconds until the next one may.

    Shapes: where is project, environment ("" for what all of them share) and flag.
    """
    project, environment, flag = where
    columns = paces.c
    row = {"project": project, "environment": environment, "flag": flag}
    here = (columns.project == project, columns.environment == environment, columns.flag == flag)
    stored = connection.execute(select(columns.tokens, columns.counted_at_s).where(*here)).first()
    before = full(rate, now_s) if stored is None else Bucket(stored.tokens, stored.counted_at_s)
    after, taken = take(before, rate, now_s=now_s)
    if not taken:
        return wait_s(before, rate, now_s)
    counted = {"tokens": after.tokens, "counted_at_s": after.counted_at_s}
    if stored is None:
        # A new flag comes seldom enough to look for those that nobody changes any more.
        connection.execute(delete(paces).where(columns.counted_at_s < now_s - PACES_KEPT_S))
        connection.execute(insert(paces), {**row, **counted})
    else:
        connection.execute(update(paces).where(*here).values(counted))
    return 0.0


def events_of(connection: Connection, project: str, action_id: str) -> tuple[str, ...]:
    """The ids of the events that an action led to a moment ago, in their order."""
    columns = tables.outbox.c
    query = (
        select(columns.id)
        .where(
            columns.project == project,
            columns.sequence > last_event(connection, project) - EVENTS_LOOKED_MAX,
            columns.payload.contains(f'"action": "{action_id}"', autoescape=True),
        )
        .order_by(columns.sequence)
        .limit(EVENTS_TOLD_MAX)
    )
    return tuple(connection.execute(query).scalars())


def hops_of(connection: Connection, project: str, event_id: str) -> int:
    """How many automations led to an event; 0 for one that is not known in the project."""
    columns = tables.outbox.c
    query = select(columns.payload).where(columns.id == event_id, columns.project == project)
    payload = connection.execute(query).scalar()
    if payload is None:
        return 0
    caused = json.loads(payload).get(PAYLOAD_FIELD) or {}
    return int(caused.get("hops", 0))
