"""A law: whatever changes come, and whatever subscribers do meanwhile, each that reads on hears of the latest."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from server.core.evaluation.difference import FlagChange
from server.live.watch import Hub
from tests.live.test_watch import step

FLAG_SET: Final = "shop/production"
ROUNDS_MAX: Final = 5_000
"""Of the loop, until all must have heard: those of several slow subscribers' turns, many times over."""

_Result = TypeVar("_Result")


class Reader:
    """Somebody who takes news as the streams' handlers do, and whose client may stop reading for a while."""

    def __init__(self, hub: Hub, timeout_s: float) -> None:
        self._hub, self._timeout_s = hub, timeout_s
        self.reads = asyncio.Event()
        self.reads.set()
        self.revisions: list[int] = []
        self.unheard: dict[str, int] = {}
        """Flags that changed since they were last told, and at which revision."""

        self.task = asyncio.get_running_loop().create_task(self._read())

    async def _read(self) -> None:
        with self._hub.subscribe(FLAG_SET) as subscription:
            while not subscription.closed:
                news = await subscription.take(timeout_s=self._timeout_s)
                if news is not None and news.snapshot is not None:
                    self.revisions.append(news.snapshot.revision)
                    for key in news.flags:
                        if self.unheard.get(key, 0) <= self.revisions[-1]:
                            self.unheard.pop(key, None)
                await self.reads.wait()
                # At least one round of the loop, as a write takes.
                await asyncio.sleep(0)


class Streams(RuleBasedStateMachine):
    """One hub, its readers, and what they must have heard."""

    readers = Bundle("readers")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.hub = Hub()
        self.revision = 0
        self.open: list[Reader] = []

    def run(self, what: Coroutine[Any, Any, _Result]) -> _Result:
        """Let the loop work until it is done."""
        return self.loop.run_until_complete(what)

    @rule(target=readers, timeout_s=st.sampled_from([0.0, 0.001, 60.0]), count=st.sampled_from([1, 1, 20]))
    def subscribe(self, timeout_s: float, count: int) -> list[Reader]:
        """One comes, or more than have a turn at once."""

        async def open_them() -> list[Reader]:
            fresh = [Reader(self.hub, timeout_s) for _ in range(count)]
            await asyncio.sleep(0)
            return fresh

        fresh = self.run(open_them())
        self.open += fresh
        return fresh

    @rule(key=st.sampled_from("abc"))
    def change(self, key: str) -> None:
        """A commit, after which the loop does nothing yet."""
        self.revision += 1
        for reader in self.open:
            reader.unheard[key] = self.revision

        async def publish() -> None:
            self.hub.publish([step(self.revision, **{key: FlagChange.UPDATE})])

        self.run(publish())

    @rule(readers=readers)
    def stall(self, readers: list[Reader]) -> None:
        """Their clients read no more."""
        for reader in readers:
            reader.reads.clear()

    @rule(readers=readers)
    def read_on(self, readers: list[Reader]) -> None:
        """Their clients read again."""
        for reader in readers:
            reader.reads.set()

    @rule(readers=consumes(readers))
    def leave(self, readers: list[Reader]) -> None:
        """Their calls are cancelled, wherever they are."""
        for reader in readers:
            reader.task.cancel()
            self.open.remove(reader)

    @rule(rounds=st.integers(1, 5))
    def go_on(self, rounds: int) -> None:
        """The loop works for some rounds."""

        async def pass_by() -> None:
            for _ in range(rounds):
                await asyncio.sleep(0)

        self.run(pass_by())

    @rule()
    def everybody_hears(self) -> None:
        """Those who read are told, though others do not read."""
        reading = [reader for reader in self.open if reader.reads.is_set()]

        async def heard() -> None:
            for _ in range(ROUNDS_MAX):
                if not any(reader.unheard for reader in reading):
                    break
                await asyncio.sleep(0.0001)

        self.run(heard())
        assert not any(reader.unheard for reader in reading)
        # Whoever was told of everything was told of the latest.
        assert {self.revision} >= {reader.revisions[-1] for reader in reading if reader.revisions}

    @invariant()
    def revisions_never_go_back(self) -> None:
        """In order, and none twice."""
        for reader in self.open:
            assert sorted(set(reader.revisions)) == reader.revisions

    def teardown(self) -> None:
        """All read on, hear of the latest, and leave at the server's end."""
        try:
            for reader in self.open:
                reader.reads.set()
            self.everybody_hears()
            self.run(asyncio.wait_for(_end(self.hub, self.open), 60))
            assert self.hub.count == 0
        finally:
            self.loop.close()


async def _end(hub: Hub, readers: list[Reader]) -> None:
    hub.close()
    await asyncio.gather(*(reader.task for reader in readers))
    # Those who left are cancelled by now.
    await asyncio.sleep(0)


TestStreams = Streams.TestCase
TestStreams.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
