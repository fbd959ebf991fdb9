"""Decide how much each endpoint may get now: by its cap, its rate and its breaker, which stand in its row.

The caller keeps others from claiming meanwhile, so that what is decided here holds for all processes together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, bindparam, exists, func, or_, select, update

from webhooks import breaker as breakers
from webhooks import limits, rates
from webhooks.breaker import Breaker
from webhooks.rates import Bucket, Rate
from webhooks.states import EndpointState, Lane, Status
from webhooks.tables import deliveries, endpoints, to_ms

_COLUMN: Final = endpoints.c


@dataclass(frozen=True, slots=True)
class Opening:
    """An endpoint with something due, and room for it."""

    endpoint_id: str
    room: int
    under_way: int
    timeout_s: float
    rate: Rate | None
    bucket: Bucket | None
    breaker: Breaker
    """As it is once something is sent: half-open, when that is a probe."""

    probes: bool = False
    lanes: frozenset[Lane] = frozenset(Lane)
    """Those with something due."""

    version: int = 0
    """Of what its owner decides."""


def openings(connection: Connection, now: datetime) -> list[Opening]:
    """Enabled endpoints that something may be sent to now, by id."""
    rows = connection.execute(_DUE, {"now_ms": to_ms(now)})
    found = (_opening(row, now) for row in rows)
    return [each for each in found if each.room > 0]


def share_out(found: Sequence[Opening], free: int, *, slots: int, turn: int) -> dict[str, int]:
    """How many of `free` places of a process each gets. Shapes: id -> at least 1.

    Alike for all that have room for it; who comes first changes from turn to turn. The last quarter of all places is
    for endpoints that have nothing under way, one for each: however many hang, others get on.
    """
    shares: dict[str, int] = {}
    start = turn % len(found) if found else 0
    left = free
    # Those with little room first: what they leave is shared by the others.
    waiting = sorted((*found[start:], *found[:start]), key=lambda each: each.room)
    for number, each in enumerate(waiting):
        spare = left - slots // limits.RESERVED_PART
        if each.under_way == 0 and left > 0:
            spare = max(spare, 1)
        share = min(each.room, max(1, left // (len(waiting) - number)), spare)
        if share > 0:
            shares[each.endpoint_id] = share
            left -= share
    return shares


def spend(
    connection: Connection, found: Sequence[Opening], counts: Mapping[str, int], now: datetime
) -> dict[str, tuple[float, ...]]:
    """Take so many from each endpoint's rate, and say which of them is a probe.

    Shapes: for an endpoint with a rate, the seconds that each of them has to wait before it is sent.
    """
    waits: dict[str, tuple[float, ...]] = {}
    spent, probes = [], []
    for each in found:
        count = counts.get(each.endpoint_id, 0)
        if count and each.rate is not None and each.bucket is not None:
            bucket, waits[each.endpoint_id] = _reserved(each.bucket, each.rate, now.timestamp(), count)
            tokens_at = round(bucket.counted_at_s * 1_000)
            spent.append({"endpoint": each.endpoint_id, "to_tokens": bucket.tokens, "to_counted": tokens_at})
        if count and each.probes:
            probes.append({"endpoint": each.endpoint_id, **breaker_values(each.breaker)})
    if spent:
        connection.execute(_SPEND, spent)
    if probes:
        connection.execute(SET_BREAKER, probes)
    return waits


def let_go(connection: Connection, endpoint_ids: Sequence[str], now: datetime) -> None:
    """Let another probe be sent at once where one was claimed and given back."""
    connection.execute(
        update(endpoints)
        .where(_COLUMN.id.in_(endpoint_ids), _COLUMN.breaker_state == breakers.State.HALF_OPEN)
        .values(breaker_until_ms=to_ms(now))
    )


def read_breaker(row: Any) -> Breaker:
    """The breaker of an endpoint's row."""
    return Breaker(
        breakers.State(row.breaker_state), row.breaker_failures, row.breaker_opened, row.breaker_until_ms / 1_000
    )


def breaker_values(breaker: Breaker) -> dict[str, object]:
    """What SET_BREAKER is given of it."""
    return {
        "to_state": breaker.state,
        "to_failures": breaker.failures,
        "to_opened": breaker.opened,
        "to_until": round(breaker.until_s * 1_000),
    }


def _opening(row: Any, now: datetime) -> Opening:
    now_s = now.timestamp()
    room = row.concurrency - row.under_way
    breaker, through = breakers.let_through(read_breaker(row), now_s)
    probes = breaker.state is not breakers.State.CLOSED
    if probes:
        room = min(room, 1) if through else 0
    rate = bucket = None
    if row.rate_per_s is not None:
        rate = Rate(row.rate_per_s, row.burst)
        kept = row.bucket_tokens
        bucket = rates.full(rate, now_s) if kept is None else Bucket(kept, row.bucket_at_ms / 1_000)
        room = len(_reserved(bucket, rate, now_s, room)[1])
    lanes = frozenset(lane for lane, due in ((Lane.FRESH, row.fresh), (Lane.RETRY, row.retry)) if due)
    return Opening(
        row.id, room, row.under_way, row.timeout_ms / 1_000, rate, bucket, breaker, probes, lanes, row.version
    )


def _reserved(bucket: Bucket, rate: Rate, now_s: float, wanted: int) -> tuple[Bucket, tuple[float, ...]]:
    return rates.reserve(bucket, rate, now_s=now_s, wanted=wanted, ahead_s=limits.AHEAD_S)


def _due(lane: Lane) -> ColumnElement[bool]:
    # A question for each lane: the index has the lane before the instant, and what waits for later may be many.
    column = deliveries.c
    return exists().where(
        column.endpoint_id == _COLUMN.id, column.lane == lane, column.due_at_ms <= bindparam("now_ms")
    )


_UNDER_WAY: Final = (
    select(func.count())
    .select_from(deliveries)
    .where(
        deliveries.c.endpoint_id == _COLUMN.id,
        deliveries.c.status == Status.CLAIMED,
        deliveries.c.due_at_ms > bindparam("now_ms"),
    )
    .scalar_subquery()
)
_DUE: Final = (
    select(
        _COLUMN.id,
        _COLUMN.concurrency,
        _COLUMN.version,
        _COLUMN.timeout_ms,
        _COLUMN.rate_per_s,
        _COLUMN.burst,
        _COLUMN.bucket_tokens,
        _COLUMN.bucket_at_ms,
        _COLUMN.breaker_state,
        _COLUMN.breaker_failures,
        _COLUMN.breaker_opened,
        _COLUMN.breaker_until_ms,
        _UNDER_WAY.label("under_way"),
        _due(Lane.FRESH).label("fresh"),
        _due(Lane.RETRY).label("retry"),
    )
    .where(
        _COLUMN.state == EndpointState.ENABLED,
        or_(_COLUMN.breaker_state == breakers.State.CLOSED, _COLUMN.breaker_until_ms <= bindparam("now_ms")),
        or_(_due(Lane.FRESH), _due(Lane.RETRY)),
    )
    .order_by(_COLUMN.id)
)
_SPEND: Final = (
    update(endpoints)
    .where(_COLUMN.id == bindparam("endpoint"))
    .values(bucket_tokens=bindparam("to_tokens"), bucket_at_ms=bindparam("to_counted"))
)
SET_BREAKER: Final = (
    update(endpoints)
    .where(_COLUMN.id == bindparam("endpoint"))
    .values(
        breaker_state=bindparam("to_state"),
        breaker_failures=bindparam("to_failures"),
        breaker_opened=bindparam("to_opened"),
        breaker_until_ms=bindparam("to_until"),
    )
)
