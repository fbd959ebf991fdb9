"""Run what delivers: a thread with a loop of its own, so that no receiver and no database is waited for elsewhere.

It is loaded when there is somebody to deliver to: the client and its libraries take memory and a while to start.
"""

import asyncio
import contextlib
import logging
import random
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, Engine

from server.core.errors import StoreUnavailable
from server.operations.deliveries.fanning import Fanning
from server.operations.deliveries.sending import Depot
from server.store import failpoints
from server.store.engine import database_now
from webhooks.addresses import Allowed
from webhooks.client import open_client
from webhooks.dispatcher import Dispatcher, Figures, Surroundings
from webhooks.integrations.outgoing import formats
from webhooks.messages import Format
from webhooks.notices import KeptNotices
from webhooks.sealing import Sealer, derive_key
from webhooks.subscribed import Vault

REOPEN_S: Final = 1.0
"""After what delivers has failed as a whole, which nothing is known to bring about."""

log = logging.getLogger("flagstaff.deliveries")


@dataclass(frozen=True, slots=True)
class Sender:
    """What a server sends with. Shapes: keys, the newest first; source names the server in CloudEvents."""

    keys: tuple[bytes, ...] = field(repr=False)
    allowed: Allowed
    source: str

    def vault(self) -> Vault:
        """What opens endpoints' secrets."""
        return Vault(Sealer(derive_key(each) for each in self.keys), secrets.token_bytes)

    def formats(self) -> Mapping[str, Format]:
        """What bodies are made by."""
        return formats(self.source)


class Delivering:
    """A thread that delivers what is due, until it is stopped. Units: `now` gives the database's clock."""

    def __init__(self, engine: Engine, sender: Sender, *, now: Callable[[Connection], datetime] = database_now) -> None:
        self._depot, self._sender, self._fanning = Depot(engine, now), sender, Fanning(engine, now)
        self._dispatcher: Dispatcher | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="flagstaff-delivering", daemon=True)

    def start(self) -> None:
        """Begin to deliver; returns at once."""
        self._thread.start()

    def look(self) -> None:
        """Make deliveries of what was announced, and see what is due. Errors: StoreUnavailable, StoreCorrupt."""
        self._fanning.look()
        if self._dispatcher is not None:
            self._dispatcher.wake()

    def stop(self, *, timeout_s: float) -> None:
        """Let what is under way be answered, for so long; what is not is sent again by whoever comes next."""
        self._stopping.set()
        self._tell_to_stop()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    @property
    def figures(self) -> Figures:
        """What was done so far."""
        return Figures() if self._dispatcher is None else self._dispatcher.figures

    def _tell_to_stop(self) -> None:
        if self._loop is not None and self._dispatcher is not None:
            # It may be closing already.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._dispatcher.stop)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                    runner.run(self._deliver())
            except Exception:
                log.exception("delivering failed; trying again")
                self._stopping.wait(REOPEN_S)

    async def _deliver(self) -> None:
        self._loop = asyncio.get_running_loop()
        async with open_client(self._sender.allowed) as client:
            self._dispatcher = Dispatcher(
                Surroundings(
                    self._depot,
                    client,
                    self._sender.vault(),
                    KeptNotices(),
                    self._sender.formats(),
                    chance=random.random,
                    reach=failpoints.reach,
                    unavailable=(StoreUnavailable,),
                )
            )
            if self._stopping.is_set():
                return
            await self._dispatcher.run()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Uvloop sends a third more a second than asyncio's own loop, where it exists."""
    with contextlib.suppress(ImportError):
        import uvloop  # noqa: PLC0415  # Not on every platform.

        return uvloop.new_event_loop
    return None
