"""Take deliveries from the database in batches, and bring back what became of them.

Everything here is for a thread that may wait for the database; no transaction is open while anything is sent. What is
secret about an endpoint is opened with its batch, and kept no longer than the batch is under way.
"""

import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, Protocol

from sqlalchemy import Connection

from webhooks import limits
from webhooks.deliveries import Claimed, Result, claim, give_back, record
from webhooks.endpoints import Notices
from webhooks.envelope import Event
from webhooks.errors import WebhookError
from webhooks.pacing import Opening, let_go, openings, share_out, spend
from webhooks.states import Lane
from webhooks.subscribed import Endpoint, Opened, Vault, find_endpoints, opened

RETRIES_FIRST_EVERY: Final = 4
"""In one turn of so many what is tried again comes first, so that fresh deliveries without end do not starve it."""

Reach = Callable[[str], None]
"""Told of each named point that a crash could hurt; see POINTS."""

POINTS: Final = (
    "deliveries.claiming",  # Claimed in the open transaction.
    "deliveries.claimed",  # That transaction is durable, nothing is sent.
    "deliveries.answered",  # A receiver has answered, and nobody else knows.
    "deliveries.recording",  # What became of deliveries is in the open transaction.
    "deliveries.recorded",  # That transaction is durable.
)


class Store(Protocol):
    """The database, as its owner opens it."""

    def claiming(self) -> AbstractContextManager[Connection]:
        """A transaction in which nobody else claims, in any process; committed at the block's end, else rolled back."""

    def recording(self) -> AbstractContextManager[Connection]:
        """A transaction that writes, committed in the same way."""

    def reading(self) -> AbstractContextManager[Connection]:
        """One view of the database."""

    def now(self, connection: Connection) -> datetime:
        """The time by the database's clock."""

    def events(self, connection: Connection, places: Collection[tuple[str, int]]) -> Mapping[tuple[str, int], Event]:
        """Events by their project and sequence number, as far as they are kept."""


@dataclass(frozen=True, slots=True)
class Job:
    """A claimed delivery with all that it takes to send it."""

    claimed: Claimed
    endpoint: Endpoint | None
    event: Event | None
    opened: Opened | None = field(default=None, repr=False)
    problem: str = ""
    """Why it cannot be sent; "" when it can."""

    wait_s: float = 0.0
    """How long it has to wait for its endpoint's rate."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What was claimed at once, by which time, and whether there may be more."""

    jobs: tuple[Job, ...]
    now: datetime
    retries: frozenset[str] = frozenset()
    """Deliveries of it that were tried before."""


@dataclass(frozen=True, slots=True)
class Space:
    """How much a process can take. Shapes: retries is how many of the free slots may go to what is tried again."""

    free: int
    retries: int
    slots: int


def take(store: Store, space: Space, *, vault: Vault, turn: int, reach: Reach) -> Batch:
    """Claim what there is room for, and read what it takes to send it."""
    with store.claiming() as connection:
        now = store.now(connection)
        claimed, retries, waits = _claim(connection, space, turn=turn, now=now)
        reach("deliveries.claiming")
    if not claimed:
        return Batch((), now)
    reach("deliveries.claimed")
    with store.reading() as connection:
        known = find_endpoints(connection, {each.endpoint_id for each in claimed})
        events = store.events(connection, {(each.project, each.sequence) for each in claimed})
    secrets = {id_: _opened(endpoint, vault) for id_, endpoint in known.items()}
    jobs = []
    waiting = {id_: iter(each) for id_, each in waits.items()}
    for each in claimed:
        wait_s = next(waiting.get(each.endpoint_id, iter(())), 0.0)
        job = Job(each, known.get(each.endpoint_id), events.get((each.project, each.sequence)), wait_s=wait_s)
        jobs.append(_ready(job, secrets.get(each.endpoint_id, "its endpoint is not kept any more")))
    return Batch(tuple(jobs), now, retries)


def bring(store: Store, results: Sequence[Result], *, notices: Notices, chance: float, reach: Reach) -> int:
    """Keep what became of claimed deliveries. Shapes: how many were still ours."""
    kept = 0
    for part in _apart(results):
        with store.recording() as connection:
            kept += len(record(connection, part, notices=notices, now=store.now(connection), chance=chance))
            reach("deliveries.recording")
        reach("deliveries.recorded")
    return kept


def return_unsent(store: Store, claimed: Sequence[Claimed]) -> None:
    """Let others claim at once what will not be sent by us."""
    with store.recording() as connection:
        now = store.now(connection)
        give_back(connection, claimed, now)
        let_go(connection, sorted({each.endpoint_id for each in claimed}), now)


def _claim(
    connection: Connection, space: Space, *, turn: int, now: datetime
) -> tuple[list[Claimed], frozenset[str], Mapping[str, tuple[float, ...]]]:
    found = openings(connection, now)
    shares = share_out(found, min(space.free, limits.CLAIM_MAX), slots=space.slots, turn=turn)
    chosen = [each for each in found if each.endpoint_id in shares]
    if not chosen:
        return [], frozenset(), {}
    # Longer than any of them can take, by construction: nobody else may send while an answer may still come.
    lease_s = max(each.timeout_s for each in chosen) + limits.LEASE_MARGIN_S
    retries_first = turn % RETRIES_FIRST_EVERY == 0
    claimed: list[Claimed] = []
    retries: frozenset[str] = frozenset()
    counts: Counter[str] = Counter()
    for lane in (Lane.RETRY, Lane.FRESH) if retries_first else (Lane.FRESH, Lane.RETRY):
        rooms = _rooms(chosen, shares, counts, lane, halved=retries_first and lane is Lane.RETRY)
        got = claim(
            connection,
            rooms=rooms,
            lane=lane,
            claim_id=uuid.uuid4().hex,
            lease_s=lease_s,
            now=now,
            limit=min(space.retries, limits.CLAIM_MAX) if lane is Lane.RETRY else limits.CLAIM_MAX,
        )
        claimed += got
        counts.update(each.endpoint_id for each in got)
        if lane is Lane.RETRY:
            retries = frozenset(each.id for each in got)
    return claimed, retries, spend(connection, chosen, counts, now)


def _rooms(
    chosen: Sequence[Opening], shares: Mapping[str, int], counts: Counter[str], lane: Lane, *, halved: bool
) -> dict[str, int]:
    rooms = {}
    for each in chosen:
        share = shares[each.endpoint_id] - counts[each.endpoint_id]
        room = (share + 1) // 2 if halved else share
        if room > 0 and lane in each.lanes:
            rooms[each.endpoint_id] = room
    return rooms


def _opened(endpoint: Endpoint, vault: Vault) -> Opened | str:
    try:
        return opened(endpoint, vault)
    except WebhookError as error:
        return str(error)


def _ready(job: Job, secrets: Opened | str) -> Job:
    if isinstance(secrets, str):
        return replace(job, problem=secrets)
    if job.event is None:
        return replace(job, problem="its event is not kept any more")
    return replace(job, opened=secrets)


def _apart(results: Sequence[Result]) -> list[list[Result]]:
    """Results of endpoints that did nothing but well, and all others: those have to wait for each other, these not."""
    mine: defaultdict[str, list[Result]] = defaultdict(list)
    for each in results:
        mine[each.claimed.endpoint_id].append(each)
    well: list[Result] = []
    others: list[Result] = []
    for found in mine.values():
        fine = all(each.arrived and not each.disable for each in found)
        (well if fine else others).extend(found)
    return [part for part in (well, others) if part]
