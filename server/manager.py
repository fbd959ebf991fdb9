"""Manage flags in a process of its own, so that what is managed takes no turn from what is evaluated.

Its calls come from the processes that serve, by a socket; timed work is done here, too.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from server.collector import collect_seldom
from server.core.json import Json
from server.live.holder import Holder
from server.managing import Managing
from server.memory import return_memory
from server.rpc.doors.grpcio import GrpcServer
from server.rpc.drain import Drain
from server.rpc.relay import received
from server.running import run_on_loop
from server.settings import Settings

NICENESS: Final = 5
"""Where cores are few, evaluation has three times as much of them as what is managed."""


def run_manager(settings: Settings, *, started: Callable[[dict[str, Json]], None]) -> None:
    """Manage to the end: SIGTERM. Errors: InvalidRequest for a database URL that is none."""
    assert settings.manager is not None
    return_memory()
    collect_seldom()
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    # It passes nothing on, and those who ask it have found out who calls.
    own = replace(settings, manager=None, oidc=None)
    run_on_loop(_manage(own, settings.manager, started))


async def _manage(settings: Settings, socket: Path, started: Callable[[dict[str, Json]], None]) -> None:
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()
    managing = Managing(settings, Holder(settings.flag_set), loop)
    server = GrpcServer(received(managing.table()), Drain(), inner=True)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    # There is nothing to read anew: it holds no flags.
    loop.add_signal_handler(signal.SIGHUP, lambda: None)
    # Left behind by a process that was killed.
    socket.unlink(missing_ok=True)
    await server.start([f"unix:{socket}"])
    managing.start()
    started({"event": "serving"})
    await stopping.wait()
    await server.drain(delay_s=0, grace_s=settings.drain_grace_s)
    await managing.end()
