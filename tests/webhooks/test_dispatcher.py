"""A dispatcher over a real database and a real receiver: what is due arrives, once, however either behaves."""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager
from typing import Final

import pytest
from sqlalchemy import Connection, Engine, select, update
from standardwebhooks import Webhook

from server.operations.deliveries.sending import Depot
from server.store.engine import writing
from tests.webhooks.dispatching import SECRET, columns, counts, dispatching, happen, settled, subscribe
from tests.webhooks.receiver import Receiver, receiving
from webhooks.backoff import Schedule
from webhooks.dispatcher import STOPPED
from webhooks.rates import Rate
from webhooks.sealing import Sealer, derive_key
from webhooks.states import Ordering
from webhooks.subscribed import Vault
from webhooks.tables import attempts, deliveries, endpoints, notices

AT_ONCE: Final = Schedule((0.0,) * 30)
ONCE: Final = Schedule((0.0,))
ON_SQLITE: Final = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


@pytest.fixture
async def receiver() -> Receiver:
    """Nothing has come yet."""
    return Receiver()


@pytest.fixture
async def url(receiver: Receiver) -> AsyncIterator[str]:
    """Where it listens."""
    async with receiving(receiver) as port:
        yield f"http://127.0.0.1:{port}"


async def test_what_happens_is_delivered(engine: Engine, receiver: Receiver, url: str) -> None:
    """Signed, with the event's id, once for each endpoint; the attempt and its outcome are kept."""
    subscribe(engine, f"{url}/ok/1", "ep_1")
    subscribe(engine, f"{url}/ok/2", "ep_2", format="cloudevents")
    async with dispatching(engine) as dispatcher:
        happen(engine, 3)
        dispatcher.wake()
        await settled(engine, {"delivered": 6})

    for request in receiver.requests:
        assert request.event_id == Webhook(SECRET).verify(request.body, dict(request.headers))["id"]
    assert {"/ok/1": 3, "/ok/2": 3} == Counter(each.path for each in receiver.requests)
    assert 2 * [("application/json",), ("application/cloudevents+json",)] == 2 * sorted(
        {(each.headers["content-type"],) for each in receiver.requests}, reverse=True
    )
    assert 6 * [(1, "delivered", 200, "")] == columns(engine, attempts, "number", "outcome", "status_code", "error")
    assert (6, 6, 0) == (dispatcher.figures.sent, dispatcher.figures.delivered, dispatcher.under_way)


async def test_what_fails_is_tried_again(engine: Engine, receiver: Receiver, url: str) -> None:
    """With the same bytes and another number, until it arrives."""
    subscribe(engine, f"{url}/flap/503", schedule=AT_ONCE)
    happen(engine)
    async with dispatching(engine):
        await settled(engine, {"delivered": 1})

    assert ["1", "2"] == [each.headers["webhook-attempt"] for each in receiver.requests]
    assert 1 == len({(each.event_id, each.body) for each in receiver.requests})
    assert [("failed", "answered 503"), ("delivered", "")] == columns(engine, attempts, "outcome", "error")


async def test_the_last_failure_is_a_dead_letter(engine: Engine, receiver: Receiver, url: str) -> None:
    """When the schedule has no more attempts, which is kept to be announced."""
    subscribe(engine, f"{url}/status/500", schedule=ONCE)
    happen(engine)
    async with dispatching(engine):
        await settled(engine, {"exhausted": 1})

    assert ["webhook.delivery_exhausted"] == [type_ for (type_,) in columns(engine, notices, "type")]


async def test_a_wait_that_is_asked_for_is_kept(engine: Engine, url: str) -> None:
    """The delivery comes no sooner, and nothing else is sent meanwhile, nor is an attempt of it used up."""
    subscribe(engine, f"{url}/retry-after/429/600", concurrency=1)
    happen(engine, 3)
    async with dispatching(engine):
        async with asyncio.timeout(60):
            while ("open",) not in columns(engine, endpoints, "breaker_state"):
                await asyncio.sleep(0.02)
    [(until_ms,)] = columns(engine, endpoints, "breaker_until_ms")
    [(started_ms,)] = columns(engine, attempts, "started_at_ms")
    due = sorted(due for due, count in columns(engine, deliveries, "due_at_ms", "attempt_count") if count)

    assert {"pending": 3} == counts(engine)
    assert until_ms >= started_ms + 600_000
    assert 1 == len(due)
    assert due[0] >= started_ms + 600_000


async def test_a_receiver_that_fails_is_left_alone(engine: Engine, receiver: Receiver, url: str) -> None:
    """After so many failures in a row its breaker opens: what waits is not sent, and uses up no attempt."""
    subscribe(engine, f"{url}/status/500", concurrency=5)
    happen(engine, 40)
    async with dispatching(engine) as dispatcher:
        async with asyncio.timeout(60):
            while ("open",) not in columns(engine, endpoints, "breaker_state"):
                await asyncio.sleep(0.02)
        dispatcher.wake()
    tried = [count for (count,) in columns(engine, deliveries, "attempt_count")]

    assert {"pending": 40} == counts(engine)
    assert len(receiver.requests) == sum(tried) < 20


async def test_an_endpoint_that_is_gone_gets_no_more(engine: Engine, receiver: Receiver, url: str) -> None:
    """410 ends it; what it still had to get is missed."""
    subscribe(engine, f"{url}/status/410", concurrency=1)
    happen(engine, 5)
    async with dispatching(engine):
        await settled(engine, {"missed": 5})

    assert [("gone",)] == columns(engine, endpoints, "state")
    assert 1 == len(receiver.requests)


async def test_the_cap_holds_for_all_processes(engine: Engine, receiver: Receiver, url: str) -> None:
    """Two dispatchers at once have no more under way to an endpoint than it takes, and send nothing twice."""
    subscribe(engine, f"{url}/slow/0.02", concurrency=3)
    happen(engine, 30)
    async with dispatching(engine), dispatching(engine):
        await settled(engine, {"delivered": 30})

    assert receiver.at_once_max <= 3
    assert 30 == len(receiver.requests) == len({each.event_id for each in receiver.requests})


async def test_many_dispatchers_send_once(engine: Engine, receiver: Receiver, url: str) -> None:
    """Whoever claims what."""
    for number in range(4):
        subscribe(engine, f"{url}/ok/{number}", f"ep_{number}", concurrency=20)
    happen(engine, 50)
    async with dispatching(engine), dispatching(engine), dispatching(engine):
        await settled(engine, {"delivered": 200})

    assert 200 == len(receiver.requests) == len({(each.path, each.event_id) for each in receiver.requests})
    assert {1} == {number for (number,) in columns(engine, attempts, "number")}


async def test_one_that_hangs_keeps_nobody_waiting(engine: Engine, receiver: Receiver, url: str) -> None:
    """Others get all of theirs while it holds as many slots as it may."""
    subscribe(engine, f"{url}/silence", "ep_bad", concurrency=50)
    subscribe(engine, f"{url}/ok", "ep_good", concurrency=2)
    happen(engine, 60)
    async with dispatching(engine, slots=20, stop_s=0.0):
        async with asyncio.timeout(60):
            while counts(engine).get("delivered") != 60:
                await asyncio.sleep(0.02)
        assert 15 >= Counter(each.path for each in receiver.requests)["/silence"]


@ON_SQLITE
async def test_an_ordered_endpoint_gets_a_flag_in_order(engine: Engine, receiver: Receiver, url: str) -> None:
    """Also when messages fail and come again: each is accepted before the next of its flag is sent."""
    subscribe(engine, f"{url}/flap/503", ordering=Ordering.PER_KEY, schedule=AT_ONCE)
    happen(engine, 12, keys=("a", "b", "c"))
    async with dispatching(engine):
        await settled(engine, {"delivered": 12})

    accepted: dict[str, list[int]] = {}
    for place, request in enumerate(receiver.requests):
        if place % 2:
            body = json.loads(request.body)
            accepted.setdefault(body["data"]["metric_key"], []).append(body["sequence"])
    assert ["a", "b", "c"] == sorted(accepted)
    assert all(found == sorted(set(found)) and len(found) == 4 for found in accepted.values())


async def test_a_stop_waits_for_answers(engine: Engine, receiver: Receiver, url: str) -> None:
    """What is under way is answered and kept; what was claimed and not sent is given back, as if never claimed."""
    subscribe(engine, f"{url}/slow/0.2", "ep_1")
    subscribe(engine, f"{url}/ok", "ep_slow", rate=Rate(2.0, 1))
    happen(engine, 2)
    async with dispatching(engine):
        async with asyncio.timeout(60):
            while len(receiver.requests) < 3:
                await asyncio.sleep(0.01)

    assert {"delivered": 3, "pending": 1} == counts(engine)
    assert 3 * [("delivered",)] == columns(engine, attempts, "outcome")


async def test_a_stop_does_not_wait_for_ever(engine: Engine, receiver: Receiver, url: str) -> None:
    """What is not answered by then counts as failed, for nobody knows; it holds no lease."""
    subscribe(engine, f"{url}/silence")
    happen(engine)
    async with dispatching(engine, stop_s=0.1):
        async with asyncio.timeout(60):
            while not receiver.requests:
                await asyncio.sleep(0.01)

    assert [("pending", "")] == columns(engine, deliveries, "status", "claim_id")
    assert [("failed", STOPPED)] == columns(engine, attempts, "outcome", "error")
    assert [("closed",)] == columns(engine, endpoints, "breaker_state")


async def test_a_lost_lease_is_not_recorded(engine: Engine, receiver: Receiver, url: str) -> None:
    """When another has claimed it meanwhile, that one's word counts."""
    subscribe(engine, f"{url}/slow/0.5")
    happen(engine)
    async with dispatching(engine) as dispatcher:
        async with asyncio.timeout(60):
            while not receiver.requests:
                await asyncio.sleep(0.01)
            with writing(engine) as connection:
                connection.execute(update(deliveries).values(claim_id="another"))
            while not dispatcher.figures.outrun:
                await asyncio.sleep(0.02)

    assert [("claimed", "another")] == columns(engine, deliveries, "status", "claim_id")


class Failing(Depot):
    """A database that refuses some transactions."""

    refused = 0

    def recording(self) -> AbstractContextManager[Connection]:
        """As ever, after two that fail."""
        return self._refusing() if self.refused < 2 else super().recording()

    @contextlib.contextmanager
    def _refusing(self) -> Iterator[Connection]:
        self.refused += 1
        with super().recording() as connection:
            yield connection
            raise OSError("the disk is full")


@ON_SQLITE
@pytest.mark.parametrize(("unavailable", "tracebacks"), [((OSError,), [False]), ((), [True, True])])
async def test_a_database_that_fails_is_waited_for(
    engine: Engine,
    receiver: Receiver,
    url: str,
    caplog: pytest.LogCaptureFixture,
    unavailable: tuple[type[Exception], ...],
    tracebacks: list[bool],
) -> None:
    """What came of a delivery is kept until it can be written down, not sent again; what is expected is told once."""
    subscribe(engine, f"{url}/ok")
    happen(engine)
    async with dispatching(engine, store=Failing(engine), unavailable=unavailable) as dispatcher:
        await settled(engine, {"delivered": 1})

    assert 1 == len(receiver.requests)
    assert 2 == dispatcher.figures.troubles
    told = [each for each in caplog.records if "wait for the database" in each.getMessage()]
    assert tracebacks == [bool(each.exc_info) for each in told]


@ON_SQLITE
@pytest.mark.parametrize("how", ["format", "seal", "event"])
async def test_what_cannot_be_made_ready_is_not_sent(engine: Engine, receiver: Receiver, url: str, how: str) -> None:
    """The attempt says why; it counts as one of the schedule's and says nothing of the receiver."""
    subscribe(engine, f"{url}/ok", schedule=ONCE)
    happen(engine)
    vault = Vault(Sealer([derive_key(b"x" * 32)]), bytes)
    with writing(engine) as connection:
        if how == "format":
            connection.execute(update(endpoints).values(format="carrier-pigeon"))
        if how == "event":
            connection.exec_driver_sql("DELETE FROM outbox")
    async with dispatching(engine, **({"vault": vault} if how == "seal" else {})):
        await settled(engine, {"exhausted" if how != "seal" else "pending": 1})
        async with asyncio.timeout(60):
            while not [row for row in columns(engine, attempts, "outcome") if row == ("failed",)]:
                await asyncio.sleep(0.02)
    [(error,)] = columns(engine, attempts, "error")

    assert {"format": "knows no format 'carrier-pigeon'", "seal": "by a key that is not here", "event": "is not kept"}[
        how
    ] in error
    assert [] == receiver.requests
    assert [("closed",)] == columns(engine, endpoints, "breaker_state")


async def test_a_finished_endpoint_is_not_claimed_for(engine: Engine, receiver: Receiver, url: str) -> None:
    """Disabled while deliveries wait: they are missed, and the dispatcher lets them be."""
    subscribe(engine, f"{url}/control/disable", concurrency=1)
    happen(engine, 4)
    async with dispatching(engine):
        await settled(engine, {"delivered": 1, "missed": 3})

    assert [("disabled", "asked")] == columns(engine, endpoints, "state", "why")
    with writing(engine) as connection:
        assert [] == connection.execute(select(deliveries.c.id).where(deliveries.c.due_at_ms.is_not(None))).all()
