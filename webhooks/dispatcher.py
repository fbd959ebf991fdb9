"""Deliver what is due, for as long as it runs: claim, send, keep what came of it.

One dispatcher runs on an event loop; several may run at once, in as many processes. The loop itself never waits for the
database: that is done by a thread, a batch at a time. What is claimed is sent at once, so what waits is always in the
database, where all see it.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeVar

from webhooks import limits
from webhooks.backoff import DEFAULT, delay_s, read_retry_after
from webhooks.batches import Batch, Job, Reach, Space, Store, Taker, bring, return_unsent
from webhooks.client import Client
from webhooks.deliveries import Claimed, Result
from webhooks.endpoints import Notices
from webhooks.errors import WebhookError
from webhooks.messages import Format, calls
from webhooks.sender import Outcome, send
from webhooks.subscribed import Vault

log = logging.getLogger("flagstaff.deliveries")

STOPPED: Final = "the server was stopped before an answer came"
TROUBLE_S: Final = 0.5
"""The first wait after a failure of the database; it doubles up to TROUBLE_S_MAX."""

T = TypeVar("T")


def nowhere(_point: str) -> None:
    """Let every point pass."""


@dataclass(slots=True)
class Figures:
    """What a dispatcher has done since it was made."""

    sent: int = 0
    delivered: int = 0
    failed: int = 0
    unsent: int = 0
    """Could not be made ready, such as by a template that is wrong."""

    given_back: int = 0
    outrun: int = 0
    """Results that came when their lease was over and were refused."""

    troubles: int = 0
    """Failures of the database."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a dispatcher works with."""

    store: Store
    client: Client
    vault: Vault
    notices: Notices
    formats: Mapping[str, Format]
    chance: Callable[[], float]
    """A number from 0 up to, and without, 1, another one at each call."""

    reach: Reach = nowhere
    slots: int = limits.SLOTS
    stop_s: float = limits.STOP_S
    unavailable: tuple[type[Exception], ...] = ()
    """What the store raises while its database cannot be reached: told in one line, and once."""


class Dispatcher:
    """Runs until it is told to stop."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._with = surroundings
        self.figures = Figures()
        self._stopping = asyncio.Event()
        self._stirred = asyncio.Event()
        """Set when the loop has something to do."""

        self._due = True
        """Whether something may be there to claim."""

        self._tasks: dict[asyncio.Task[None], str] = {}
        """What is under way, and its delivery."""

        self._retries: set[str] = set()
        self._results: list[Result] = []
        self._unsent: list[Claimed] = []
        self._taker = Taker(surroundings.store, surroundings.vault, surroundings.reach)
        self._trouble_s = 0.0
        self._reported = ""
        self._clock = (datetime.now(UTC).timestamp(), 0.0)
        """The database's time in Unix seconds, and the loop's at that moment."""

        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: ThreadPoolExecutor | None = None

    @property
    def under_way(self) -> int:
        """How many deliveries are being sent."""
        return len(self._tasks)

    def wake(self) -> None:
        """Look for due deliveries now; from any thread, also when it does not run."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._look)

    def stop(self) -> None:
        """Let `run` end: nothing more is sent, and what is under way has stop_s to be answered; on its own loop."""
        self._stopping.set()
        self._stirred.set()

    async def run(self) -> None:
        """Deliver until `stop`. What was claimed and not sent is given back, and all that came of the rest is kept."""
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hook-deliveries")
        try:
            while not self._stopping.is_set():
                await self._go_on()
                await self._rest()
        finally:
            self._stopping.set()
            await self._end()
            self._thread.shutdown(wait=False)
            self._loop = None

    def _look(self) -> None:
        self._due = True
        self._stirred.set()

    async def _go_on(self) -> None:
        """One turn: bring what is done, take what is due."""
        self._stirred.clear()
        try:
            await self._bring()
            space = self._space()
            if self._due and space.free > 0:
                self._due = False
                batch = await self._in_thread(self._taker.take, space)
                self._due |= batch.more
                self._send_all(batch)
            self._trouble_s = 0.0
            self._reported = ""
        except Exception as error:
            # The loop must live on: a database that fails comes back, and what is to be kept is kept then.
            self._trouble_s = min(max(TROUBLE_S, 2 * self._trouble_s), limits.TROUBLE_S_MAX)
            self._report("deliveries wait for the database; trying again", error)

    def _report(self, what: str, error: Exception) -> None:
        self.figures.troubles += 1
        if not isinstance(error, self._with.unavailable):
            log.error(what, exc_info=error)
        elif str(error) != self._reported:
            self._reported = str(error)
            log.warning(what, extra={"error": self._reported})

    async def _rest(self) -> None:
        """Wait for something to do, long enough that several things are done at once."""
        if self._trouble_s:
            await _wait(self._stopping, self._trouble_s)
            self._due = True
            return
        if self._tasks or self._results:
            await _wait(self._stopping, limits.TURN_S)
        if not self._due and not await _wait(self._stirred, limits.POLL_S):
            self._due = True

    async def _bring(self) -> None:
        if self._unsent:
            unsent = list(self._unsent)
            await self._in_thread(return_unsent, self._with.store, unsent)
            del self._unsent[: len(unsent)]
            self.figures.given_back += len(unsent)
        while self._results:
            results = self._results[: limits.CLAIM_MAX]
            kept = await self._in_thread(self._keep, results)
            del self._results[: len(results)]
            self.figures.outrun += len(results) - kept
            # Their endpoints have room again.
            self._due = True

    def _keep(self, results: list[Result]) -> int:
        given = self._with
        return bring(given.store, results, notices=given.notices, chance=given.chance(), reach=given.reach)

    def _space(self) -> Space:
        slots = self._with.slots
        free = slots - len(self._tasks)
        # At most half of the slots: a herd that is tried again leaves room for what is new.
        return Space(free, min(free, slots // 2 - len(self._retries)), slots)

    def _send_all(self, batch: Batch) -> None:
        assert self._loop is not None
        taken_at = self._loop.time()
        self._clock = (batch.now.timestamp(), taken_at)
        self._retries |= batch.retries
        for job in batch.jobs:
            task = self._loop.create_task(self._deliver(job, taken_at))
            self._tasks[task] = job.claimed.id
            task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._retries.discard(self._tasks.pop(task))
        self._stirred.set()

    async def _deliver(self, job: Job, taken_at: float) -> None:
        assert self._loop is not None
        if job.wait_s:
            await _wait(self._stopping, job.wait_s)
        # A process that slept (a laptop, SIGSTOP) may wake when its lease is over, and others have sent it already.
        late = self._loop.time() - taken_at > job.wait_s + limits.LEASE_MARGIN_S / 2
        if self._stopping.is_set() or late:
            self._unsent.append(job.claimed)
            return
        try:
            outcome, unsent = await self._attempt(job)
        except asyncio.CancelledError:
            self._results.append(self._result(job, Outcome(error=STOPPED), unsent=True))
            raise
        self._with.reach("deliveries.answered")
        self._results.append(self._result(job, outcome, unsent=unsent))

    async def _attempt(self, job: Job) -> tuple[Outcome, bool]:
        """What came of it, and whether that is our own doing."""
        if job.problem or job.event is None or job.opened is None:
            return Outcome(error=job.problem), True
        try:
            number = job.claimed.attempt_number
            steps = calls(self._with.formats, job.event, job.opened, keys=job.keys, attempt=number)
            call = next(steps, None)
            if call is None:
                # Its format tells nothing of such an event, and that is done.
                return Outcome(), True
            while True:
                outcome = await send(self._with.client, call, now=self._now_s())
                if not outcome.arrived:
                    return outcome, False
                try:
                    call = steps.send(outcome)
                except StopIteration:
                    return outcome, False
        except WebhookError as error:
            return Outcome(error=f"it could not be made ready: {error}"[: limits.ERROR_CHARS_MAX]), True
        except Exception as error:
            # A format's mistake must not keep the delivery under way for ever; what it says may hold anything.
            log.exception("a delivery could not be made ready", extra={"delivery": job.claimed.id})
            return Outcome(error=f"it could not be made ready: {type(error).__name__}"), True

    def _result(self, job: Job, outcome: Outcome, *, unsent: bool) -> Result:
        self.figures.sent += not unsent
        self.figures.unsent += unsent
        self.figures.delivered += outcome.arrived
        self.figures.failed += not outcome.arrived
        schedule = job.opened.subscription.schedule if job.opened is not None else None
        asked_s = read_retry_after(outcome.retry_after, datetime.fromtimestamp(self._now_s(), UTC))
        return Result(
            job.claimed,
            outcome.status_code,
            outcome.error,
            retry_in_s=delay_s(
                job.claimed.attempts_made,
                chance=self._with.chance(),
                schedule=schedule or DEFAULT,
                retry_after_s=asked_s,
            ),
            gone=outcome.gone,
            disable=outcome.disable,
            abort=outcome.abort,
            wait_s=asked_s,
            unsent=unsent,
        )

    def _now_s(self) -> float:
        """The database's time: messages are signed with it, whatever the clock of this machine says."""
        assert self._loop is not None
        told_s, at = self._clock
        return told_s + self._loop.time() - at

    async def _end(self) -> None:
        """Wait for the answers, and keep all that is to be kept."""
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=self._with.stop_s)
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(tuple(self._tasks))
        for _ in range(3):
            try:
                await self._bring()
                return
            except Exception as error:
                self._report("deliveries are left to the end of their leases", error)
                await asyncio.sleep(TROUBLE_S)

    async def _in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        assert self._loop is not None
        return await self._loop.run_in_executor(self._thread, work, *arguments)


async def _wait(event: asyncio.Event, seconds: float) -> bool:
    """Whether it was set within this time."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
