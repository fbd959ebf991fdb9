"""Wait for what is numbered (audit entries, events): one look at the database in a while, for all who wait."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeAlias

from server.core.errors import TooLarge

POLL_S: Final = 0.25
WATCHERS_MAX: Final = 1_000

LastSequences: TypeAlias = Callable[[frozenset[str]], Awaitable[Mapping[str, int]]]
"""Gives the last sequence number of each of some trails."""


class Trails:
    """Wakes those who wait for a trail to grow. Everything here runs on the event loop."""

    def __init__(self, look: LastSequences, *, poll_s: float = POLL_S, watchers_max: int = WATCHERS_MAX) -> None:
        self._look, self._poll_s, self._watchers_max = look, poll_s, watchers_max
        self._waiting: dict[asyncio.Future[None], tuple[str, int]] = {}
        self._looking: asyncio.Task[None] | None = None

    async def wait(self, project: str, sequence: int, *, timeout_s: float) -> bool:
        """Whether the trail got an entry behind a sequence number within a time.

        Errors: TooLarge when too many wait already; what looking raises.
        """
        if len(self._waiting) >= self._watchers_max:
            raise TooLarge(f"{self._watchers_max} streams wait for news already, the most here; come again later")
        grown = asyncio.get_running_loop().create_future()
        self._waiting[grown] = (project, sequence)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._watch())
        try:
            async with asyncio.timeout(timeout_s):
                await grown
        except TimeoutError:
            return False
        finally:
            self._waiting.pop(grown, None)
        return True

    async def _watch(self) -> None:
        while self._waiting:
            await asyncio.sleep(self._poll_s)
            projects = frozenset(project for project, _ in self._waiting.values())
            try:
                last = await self._look(projects)
            except Exception as error:
                # Whoever waits is told, and may come again.
                for grown in self._waiting:
                    if not grown.done():
                        grown.set_exception(error)
                return
            for grown, (project, sequence) in self._waiting.items():
                if not grown.done() and last.get(project, 0) > sequence:
                    grown.set_result(None)
