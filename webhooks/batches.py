"""Take deliveries from the database in batches, and bring back what became of them.

Everything here is for a thread that may wait for the database; no transaction is open while anything is sent. What is
secret about an endpoint is opened with its batch, and kept no longer than the batch is under way.
"""

import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol

from sqlalchemy import Connection

from webhooks import limits
from webhooks.deliveries import Claimed, Result, claim, give_back, record
from webhooks.endpoints import Notices
from webhooks.envelope import Event
from webhooks.errors import WebhookError
from webhooks.pacing import Opening, let_go, openings, share_out, spend
from webhooks.signing import Key
from webhooks.states import Lane
from webhooks.subscribed import Endpoint, Opened, Vault, find_endpoints, opened

RETRIES_FIRST_EVERY: Final = 4
"""In one turn of so many what is tried again comes first, so that fresh deliveries without end do not starve it."""

Reach = Callable[[str], None]
"""Told of each named point that a crash could hurt; see POINTS."""

_NO_WAITS: Final[Iterator[float]] = iter(())

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
    event: Event | None
    opened: Opened | None = field(default=None, repr=False)
    keys: tuple[Key, ...] = field(default=(), repr=False)
    problem: str = ""
    """Why it cannot be sent; "" when it can."""

    wait_s: float = 0.0
    """How long it has to wait for its endpoint's rate."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What was claimed at once."""

    jobs: tuple[Job, ...]
    now: datetime
    """By the database's clock."""

    more: bool = False
    """Whether there was more for which there is room."""
    retries: frozenset[str] = frozenset()
    """Deliveries of it that were tried before."""


@dataclass(frozen=True, slots=True)
class Space:
    """How much a process can take. Shapes: retries is how many of the free slots may go to what is tried again."""

    free: int
    retries: int
    slots: int


@dataclass(frozen=True, slots=True)
class Known:
    """An endpoint that deliveries are under way to, with its secrets, or why they cannot be opened."""

    version: int
    opened: Opened | None = field(repr=False)
    problem: str = ""


class Taker:
    """Claims, and knows the endpoints of the last batch, so that those that go on are not opened at every turn."""

    def __init__(self, store: Store, vault: Vault, reach: Reach) -> None:
        self._store, self._vault, self._reach = store, vault, reach
        self._known: dict[str, Known] = {}
        self._turn = 0

    def take(self, space: Space) -> Batch:
        """Claim what there is room for, and read what it takes to send it."""
        self._turn += 1
        with self._store.claiming() as connection:
            now = self._store.now(connection)
            got = _claim(connection, space, turn=self._turn, now=now)
            self._reach("deliveries.claiming")
        if not got.claimed:
            self._known = {}
            return Batch((), now)
        self._reach("deliveries.claimed")
        with self._store.reading() as connection:
            known = self._open(connection, got.versions)
            events = self._store.events(connection, {(each.project, each.sequence) for each in got.claimed})
        keys = {id_: each.opened.keys(now) if each.opened is not None else () for id_, each in known.items()}
        waiting = {id_: iter(each) for id_, each in got.waits.items()}
        jobs = []
        for each in got.claimed:
            endpoint, event = known[each.endpoint_id], events.get((each.project, each.sequence))
            problem = endpoint.problem or ("" if event is not None else "its event is not kept any more")
            wait_s = next(waiting.get(each.endpoint_id, _NO_WAITS), 0.0)
            jobs.append(Job(each, event, endpoint.opened, keys[each.endpoint_id], problem, wait_s))
        return Batch(tuple(jobs), now, got.more, got.retries)

    def _open(self, connection: Connection, versions: Mapping[str, int]) -> dict[str, Known]:
        before = self._known
        stale = {id_ for id_, version in versions.items() if id_ not in before or before[id_].version != version}
        found = find_endpoints(connection, stale) if stale else {}
        self._known = {
            id_: before[id_] if id_ not in stale else _known(found.get(id_), self._vault) for id_ in versions
        }
        return self._known


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


@dataclass(frozen=True, slots=True)
class _Got:
    claimed: Sequence[Claimed] = ()
    retries: frozenset[str] = frozenset()
    waits: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    versions: Mapping[str, int] = field(default_factory=dict)
    more: bool = False


def _claim(connection: Connection, space: Space, *, turn: int, now: datetime) -> _Got:
    found = openings(connection, now)
    shares = share_out(found, min(space.free, limits.CLAIM_MAX), slots=space.slots, turn=turn)
    chosen = [each for each in found if each.endpoint_id in shares]
    if not chosen:
        return _Got()
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
    waits = spend(connection, chosen, counts, now)
    versions = {each.endpoint_id: each.version for each in chosen if counts[each.endpoint_id]}
    more = any(shares.get(each.endpoint_id, 0) < each.room for each in found)
    return _Got(claimed, retries, waits, versions, more)


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


def _known(endpoint: Endpoint | None, vault: Vault) -> Known:
    if endpoint is None:
        return Known(0, None, "its endpoint is not kept any more")
    try:
        return Known(endpoint.version, opened(endpoint, vault))
    except WebhookError as error:
        return Known(endpoint.version, None, str(error))


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
