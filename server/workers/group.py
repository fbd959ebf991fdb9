"""Keep a number of worker processes serving on the same ports: start them, replace them, end them together."""

import asyncio
import base64
import contextlib
import json
import logging
import os
import pickle
import signal
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from server.core.errors import InvalidRequest
from server.core.json import Json
from server.settings import Settings
from server.workers.ports import reserved

PLATFORMS: Final = ("linux", "darwin")
BACKOFF_S: Final = 0.2
BACKOFF_S_MAX: Final = 10.0
STEADY_S: Final = 10.0
"""A worker that served this long did not die of its start: the next one starts soon again."""

STOP_MARGIN_S: Final = 10.0
"""What workers get beyond their drain, to keep the last good flags, before they are killed."""

TOLD_BYTES_MAX: Final = 16 * 1024 * 1024
"""One line of a worker; it names every flag set."""

MANAGER: Final = -1
"""The place of the process that manages flags; those that serve them count from 0."""

MANAGER_SOCKET: Final = "manager"

log = logging.getLogger("flagstaff.workers")


class WorkerFailed(OSError):
    """A worker could not start at all; another attempt would end alike."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker is told at its start."""

    settings: Settings
    log_json: bool = False
    log_level: str = "INFO"
    manages: bool = False
    """Whether it manages flags for the others, and evaluates none."""


def run_group(job: Job, *, count: int, apart: bool = False, started: Callable[[dict[str, Json]], None]) -> None:
    """Serve by `count` processes until SIGTERM or SIGINT. `started` is called once when all of them serve.

    With `apart` a further one manages flags for all of them. SIGHUP goes to all of them.
    Errors: PortUnavailable, WorkerFailed, InvalidRequest where ports cannot be shared.
    """
    if sys.platform not in PLATFORMS:
        raise InvalidRequest(
            f"several processes need Linux or macOS, this is {sys.platform}; "
            "leave --workers at 1, and --management here"
        )
    settings = job.settings
    grpc_ports = (settings.grpc_port, settings.sync_port)
    # HTTP's apart: the two of gRPC may be the same one, and workers could not tell that HTTP's is it too.
    with (
        reserved(settings.host, grpc_ports) as (grpc_port, sync_port),
        reserved(settings.host, (settings.http_port,)) as (http_port,),
        # Readable by this user alone. Short, for the name of a socket may not be long.
        tempfile.TemporaryDirectory(prefix="flagstaff-") as directory,
    ):
        settings = replace(
            settings,
            grpc_port=grpc_port,
            sync_port=sync_port,
            http_port=http_port,
            group_directory=Path(directory),
            manager=Path(directory, MANAGER_SOCKET) if apart else None,
        )
        places = [*range(count), *([MANAGER] if apart else [])]
        asyncio.run(_Group(replace(job, settings=settings), places).run(started))


class _Worker:
    """One process, and what it told."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.told: dict[str, Json] | None = None
        """None until it serves."""

        self.failure = ""
        self.serving_since = 0.0

    def signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)


class _Group:
    def __init__(self, job: Job, places: Sequence[int]) -> None:
        self._job, self._places = job, places
        self._workers: dict[int, _Worker] = {}
        self._stopping = asyncio.Event()
        self._all_serve = asyncio.Event()

    async def run(self, started: Callable[[dict[str, Json]], None]) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        keepers = [asyncio.create_task(self._keep(place)) for place in self._places]
        others = [asyncio.create_task(self._stopping.wait()), asyncio.create_task(self._tell(started))]
        try:
            # Keepers end only when stopping, or by an error.
            await asyncio.wait([others[0], *keepers], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._stopping.set()
            for task in others:
                task.cancel()
            await self._end_all()
            ended = await asyncio.gather(*keepers, return_exceptions=True)
        for error in ended:
            if isinstance(error, BaseException):
                raise error

    async def _tell(self, started: Callable[[dict[str, Json]], None]) -> None:
        await self._all_serve.wait()
        workers = [self._workers[place] for place in self._places if place != MANAGER]
        told = {**(workers[0].told or {}), "workers": [each.process.pid for each in workers]}
        if MANAGER in self._workers:
            told["manager"] = self._workers[MANAGER].process.pid
        started(told)

    def _reload(self) -> None:
        for worker in self._workers.values():
            # One that does not serve yet reads everything anew anyway, and may not know the signal yet.
            if worker.told is not None:
                worker.signal(signal.SIGHUP)

    async def _keep(self, place: int) -> None:
        """Have a worker in this place until the group stops. Errors: WorkerFailed."""
        delay_s = BACKOFF_S
        while not self._stopping.is_set():
            worker = self._workers[place] = await self._start(place)
            await self._attend(worker)
            code = await worker.process.wait()
            if self._stopping.is_set():
                return
            if worker.failure and not self._all_serve.is_set():
                raise WorkerFailed(worker.failure)
            steady = worker.told is not None and time.monotonic() - worker.serving_since > STEADY_S
            worker.told = None
            delay_s = BACKOFF_S if steady else delay_s
            log.error(
                "a worker ended; another one is started",
                extra={"worker": worker.process.pid, "exit_code": code, "why": worker.failure, "after_s": delay_s},
            )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await self._stopping.wait()
            delay_s = min(delay_s * 2, BACKOFF_S_MAX)

    async def _start(self, place: int) -> _Worker:
        # A fresh interpreter: gRPC's threads and locks do not survive a fork. It finds modules where we found them,
        # and not in whatever directory the server was started from. A session of its own keeps Ctrl-C from it, which
        # is for us to pass on.
        path = os.pathsep.join(os.path.abspath(entry or ".") for entry in sys.path)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "server.workers.worker"),
            stdin=PIPE,
            stdout=PIPE,
            limit=TOLD_BYTES_MAX,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,
        )
        log.info("starting a worker", extra={"worker": process.pid, "place": place})
        assert process.stdin is not None
        # The pipe stays open: by its end a worker knows that we are gone.
        settings = replace(self._job.settings, group_place=place)
        job = replace(self._job, settings=settings, manages=place == MANAGER)
        process.stdin.write(base64.b64encode(pickle.dumps(job)) + b"\n")
        with contextlib.suppress(ConnectionError):
            await process.stdin.drain()
        worker = _Worker(process)
        if self._stopping.is_set():
            worker.signal(signal.SIGTERM)
        return worker

    async def _attend(self, worker: _Worker) -> None:
        """Hear what the worker has to tell, to its end."""
        assert worker.process.stdout is not None
        async for line in worker.process.stdout:
            told = json.loads(line)
            if told["event"] == "failed":
                worker.failure = told["message"]
                continue
            worker.told, worker.serving_since = told, time.monotonic()
            if len(self._workers) == len(self._places) and all(each.told for each in self._workers.values()):
                self._all_serve.set()

    async def _end_all(self) -> None:
        """Let all that serve drain at once, and the one that manages for them after that."""
        await self._end([worker for place, worker in self._workers.items() if place != MANAGER])
        await self._end([worker for place, worker in self._workers.items() if place == MANAGER])

    async def _end(self, workers: Sequence[_Worker]) -> None:
        """Let them drain, and kill who does not end in time."""
        settings = self._job.settings
        for worker in workers:
            worker.signal(signal.SIGTERM)
        waiting = [asyncio.create_task(worker.process.wait()) for worker in workers]
        if not waiting:
            return
        await asyncio.wait(waiting, timeout=settings.drain_delay_s + settings.drain_grace_s + STOP_MARGIN_S)
        for worker in workers:
            if worker.process.returncode is None:
                log.error("a worker did not end in time and is killed", extra={"worker": worker.process.pid})
                worker.signal(signal.SIGKILL)
        await asyncio.gather(*waiting)
