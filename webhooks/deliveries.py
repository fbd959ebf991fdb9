"""Claim deliveries, and keep what became of them.

Every function works in the caller's transaction and takes the time by the database's clock, `now`; nothing is sent
while one is open. A claim has a lease: when it ends, another may claim the same delivery, and the first one's result is
refused, by its claim id. So each delivery is finished once, and sent again only when nobody knows what became of it.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, Select, and_, bindparam, delete, exists, insert, select, update

from webhooks import endpoints as health
from webhooks import limits
from webhooks.endpoints import Fare, Notice, Notices, Seen
from webhooks.states import EndpointState, Lane, Ordering, Outcome, Status
from webhooks.tables import attempts, deliveries, endpoints, to_ms

_COLUMN: Final = deliveries.c


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery that its claimer may send, until its lease ends."""

    id: str
    claim_id: str
    endpoint_id: str
    event_id: str
    project: str
    sequence: int
    event_type: str
    attempt_number: int
    attempts_made: int
    """By the present round of its schedule, this one included."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of sending a claimed delivery."""

    claimed: Claimed
    status_code: int | None = None
    error: str = ""
    """Why it failed, redacted; "" when it did not."""

    retry_in_s: float | None = None
    """How long to wait for the next attempt; None when the schedule has none left. Of no matter when it arrived."""

    gone: bool = False
    """The receiver said that the endpoint is no more (410)."""

    disable: bool = False
    """It asked not to be sent anything more."""

    abort: bool = False
    """It asked not to be sent this message again."""

    wait_s: float | None = None
    """For how long it asked to be sent nothing at all (Retry-After)."""

    unsent: bool = False
    """It could not be made ready, which says nothing of the receiver."""

    @property
    def arrived(self) -> bool:
        """Whether it was delivered: a receiver that asks for less may have taken this one all the same."""
        return not self.error

    @property
    def silent(self) -> bool:
        """Whether there was nothing to tell: its format says nothing of such an event, and nobody was asked."""
        return self.arrived and self.unsent

    @property
    def down(self) -> bool:
        """Whether the receiver itself failed, and not only this message with it."""
        code = self.status_code
        return not (self.arrived or self.unsent) and (code is None or code >= 500 or code in _DOWN)


_DOWN: Final = frozenset({408, 425, 429})


def claim(
    connection: Connection,
    *,
    rooms: Mapping[str, int],
    lane: Lane,
    claim_id: str,
    lease_s: float,
    now: datetime,
    limit: int = limits.CLAIM_MAX,
) -> list[Claimed]:
    """Take due deliveries for these endpoints, at most so many for each, those that wait longest first.

    Each gets its row of an attempt. `claim_id` must be new for every call.
    """
    found: list[str] = []
    lost: list[str] = []
    for endpoint_id, room in rooms.items():
        most = min(room, limit - len(found))
        if most > 0:
            asked = {"endpoint": endpoint_id, "lane": lane, "now_ms": to_ms(now), "most": most}
            for id_, claim_before in connection.execute(_CLAIMABLE, asked):
                found.append(id_)
                if claim_before:
                    lost.append(id_)
    if not found:
        return []
    if lost:
        _mark_lost(connection, lost)
    taken = connection.execute(
        update(deliveries)
        .where(_COLUMN.id.in_(found))
        .values(
            status=Status.CLAIMED,
            claim_id=claim_id,
            due_at_ms=to_ms(now) + int(lease_s * 1_000),
            attempt_count=_COLUMN.attempt_count + 1,
        )
        .returning(*_CLAIMED)
    ).all()
    claimed = sorted((Claimed(*row) for row in taken), key=lambda each: (each.project, each.sequence, each.endpoint_id))
    connection.execute(
        insert(attempts),
        [
            {
                "delivery_id": each.id,
                "number": each.attempt_number,
                "claim_id": claim_id,
                "outcome": Outcome.SENDING,
                "started_at_ms": to_ms(now),
            }
            for each in claimed
        ],
    )
    return claimed


def record(
    connection: Connection, results: Sequence[Result], *, notices: Notices, now: datetime, chance: float = 0.5
) -> set[str]:
    """Keep what came of claimed deliveries. Shapes: the ids that were still the claimer's; others are left alone.

    An endpoint that has been failing for FAILING_S_MAX, or that said so itself, is disabled, and its deliveries are
    missed; every such end, and every exhausted delivery, is told to `notices` in the same transaction. `chance` as
    `breaker.failed` has it.
    """
    ids = {each.claimed.endpoint_id for each in results}
    fares = health.fares(connection, ids)
    troubled = not all(each.arrived for each in results) or not all(each.at_ease for each in fares.values())
    # Endpoints first, always in this order: who disables one locks it before its deliveries too. Where nothing of them
    # changes, others may do the same at once.
    health.lock(connection, ids, exclusive=troubled)
    if troubled:
        fares = health.fares(connection, ids)
    held = _held(connection, results)
    kept = [each for each in results if each.claimed.id in held]
    if not kept:
        return set()
    connection.execute(_RECORD, [_recorded(each, to_ms(now)) for each in kept])
    connection.execute(_END_ATTEMPT, [_ended(each, to_ms(now)) for each in kept])
    for each in kept:
        if _status(each) is Status.EXHAUSTED:
            notices.write(connection, _exhausted(each))
    mine = defaultdict(list)
    for each in kept:
        mine[each.claimed.endpoint_id].append(each)
    if troubled or any(each.gone or each.disable for each in kept):
        for endpoint_id in sorted(mine):
            _judge(connection, fares[endpoint_id], mine[endpoint_id], notices=notices, now=now, chance=chance)
    return {each.claimed.id for each in kept}


def give_back(connection: Connection, claimed: Collection[Claimed], now: datetime) -> None:
    """Let others claim at once what was claimed and not sent, as if it had never been claimed."""
    for each in claimed:
        mine = (_COLUMN.id == each.id) & (_COLUMN.claim_id == each.claim_id)
        undone = connection.execute(
            update(deliveries)
            .where(mine)
            .values(
                status=Status.PENDING,
                claim_id="",
                due_at_ms=to_ms(now),
                attempt_count=_COLUMN.attempt_count - 1,
            )
        )
        if undone.rowcount:
            connection.execute(
                delete(attempts).where(attempts.c.delivery_id == each.id, attempts.c.number == each.attempt_number)
            )


_CLAIMED: Final = (
    _COLUMN.id,
    _COLUMN.claim_id,
    _COLUMN.endpoint_id,
    _COLUMN.event_id,
    _COLUMN.project,
    _COLUMN.sequence,
    _COLUMN.event_type,
    _COLUMN.attempt_count,
    (_COLUMN.attempt_count - _COLUMN.round_start).label("attempts_made"),
)
_RECORD: Final = (
    update(deliveries)
    .where(_COLUMN.id == bindparam("delivery"))
    .values(
        status=bindparam("to_status"),
        lane=Lane.RETRY,
        claim_id="",
        due_at_ms=bindparam("to_due"),
        finished_at_ms=bindparam("to_finished"),
    )
)
_END_ATTEMPT: Final = (
    update(attempts)
    .where(attempts.c.delivery_id == bindparam("delivery"), attempts.c.number == bindparam("attempt"))
    .values(
        outcome=bindparam("to_outcome"),
        status_code=bindparam("to_code"),
        error=bindparam("to_error"),
        ended_at_ms=bindparam("to_ended"),
    )
)


def _claimable() -> Select[str, str]:
    earlier = deliveries.alias("earlier").c
    waits = exists().where(
        earlier.endpoint_id == _COLUMN.endpoint_id,
        earlier.ordering_key == _COLUMN.ordering_key,
        earlier.sequence < _COLUMN.sequence,
        earlier.due_at_ms.is_not(None),
    )
    asked = endpoints.c.id == bindparam("endpoint")
    enabled = exists().where(asked, endpoints.c.state == EndpointState.ENABLED)
    ordered = exists().where(asked, endpoints.c.ordering == Ordering.PER_KEY)
    return (
        select(_COLUMN.id, _COLUMN.claim_id)
        .where(
            _COLUMN.endpoint_id == bindparam("endpoint"),
            _COLUMN.lane == bindparam("lane"),
            _COLUMN.due_at_ms <= bindparam("now_ms"),
            enabled,
            ~and_(ordered, _COLUMN.ordering_key != "", waits),
        )
        .order_by(_COLUMN.due_at_ms, _COLUMN.sequence)
        .limit(bindparam("most"))
        .with_for_update(skip_locked=True, of=deliveries)
    )


_CLAIMABLE: Final = _claimable()


def _mark_lost(connection: Connection, ids: Sequence[str]) -> None:
    connection.execute(
        update(attempts)
        .where(attempts.c.delivery_id.in_(ids), attempts.c.outcome == Outcome.SENDING)
        .values(outcome=Outcome.LOST)
    )


def _held(connection: Connection, results: Sequence[Result]) -> set[str]:
    claims = {each.claimed.id: each.claimed.claim_id for each in results}
    query = select(_COLUMN.id, _COLUMN.claim_id).where(_COLUMN.id.in_(claims)).order_by(_COLUMN.id).with_for_update()
    return {id_ for id_, claim_id in connection.execute(query) if claim_id == claims[id_]}


def _status(result: Result) -> Status:
    if result.arrived:
        return Status.DELIVERED
    if result.abort:
        return Status.ABORTED
    return Status.EXHAUSTED if result.retry_in_s is None else Status.PENDING


def _recorded(result: Result, now_ms: int) -> dict[str, object]:
    status = _status(result)
    again = status is Status.PENDING and result.retry_in_s is not None
    return {
        "delivery": result.claimed.id,
        "to_status": status,
        "to_due": now_ms + int((result.retry_in_s or 0) * 1_000) if again else None,
        "to_finished": None if again else now_ms,
    }


def _ended(result: Result, now_ms: int) -> dict[str, object]:
    return {
        "delivery": result.claimed.id,
        "attempt": result.claimed.attempt_number,
        "to_outcome": Outcome.DELIVERED if result.arrived else Outcome.FAILED,
        "to_code": result.status_code,
        "to_error": result.error[: limits.ERROR_CHARS_MAX],
        "to_ended": now_ms,
    }


def _exhausted(result: Result) -> Notice:
    claimed = result.claimed
    return Notice(
        "webhook.delivery_exhausted",
        claimed.project,
        {
            "endpoint_id": claimed.endpoint_id,
            "event_id": claimed.event_id,
            "event_type": claimed.event_type,
            "attempts": claimed.attempts_made,
            "last_error": result.error[: limits.ERROR_CHARS_MAX],
        },
    )


def _judge(
    connection: Connection,
    fare: Fare,
    results: Sequence[Result],
    *,
    notices: Notices,
    now: datetime,
    chance: float,
) -> None:
    results = [each for each in results if not each.silent]
    if not results:
        return
    if any(each.gone for each in results):
        health.end(connection, fare.id, EndpointState.GONE, why="gone", notices=notices, now=now)
    elif any(each.disable for each in results):
        health.end(connection, fare.id, EndpointState.DISABLED, why="asked", notices=notices, now=now)
    else:
        waits = [each.wait_s for each in results if each.wait_s is not None]
        seen = Seen(
            arrived=any(each.arrived for each in results),
            down=sum(each.down for each in results),
            wait_s=max(waits, default=None),
        )
        health.note(connection, fare, seen, chance=chance, notices=notices, now=now)
