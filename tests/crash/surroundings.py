"""Look at a server from beside: questions asked again and again, memory and descriptors by /proc."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

import grpc
from grpc_health.v1 import health_pb2 as health
from grpc_health.v1.health_pb2_grpc import HealthStub

from tests.conformance.processes import HOST

ASK_TIMEOUT_S: Final = 10.0
"""Far more than anybody should wait: whether there is an answer is asked, and how slow the slowest was is told."""

PAUSE_S: Final = 0.1
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_OPTIONS: Final = (("grpc.use_local_subchannel_pool", 1),)


def resident_mb(pid: int) -> float:
    """Resident memory. Units: MB of 2**20 bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES / 2**20


def cpu_s(pid: int) -> float:
    """User and system time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def descriptors(pid: int) -> int:
    """Open file descriptors."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def descriptors_of(pid: int, path: Path) -> int:
    """Those that belong to a file, or to files beside it whose names go on: SQLite's log and index."""
    names = Path(f"/proc/{pid}/fd").iterdir()
    return sum(os.readlink(name).startswith(str(path)) for name in names if name.is_symlink())


def reset_peak(pid: int) -> None:
    """Begin anew with the most memory that a process held. Source: proc(5), clear_refs."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_mb(pid: int) -> float:
    """The most memory that a process held since `reset_peak`. Units: MB of 2**20 bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("the system does not tell a process's peak of memory")


Question: TypeAlias = Callable[[grpc.Channel], str]
"""Asks a server something; gives what was wrong with the answer, "" for nothing. May raise grpc.RpcError."""


def ask_health(channel: grpc.Channel) -> str:
    """Whether the server says that it serves."""
    status = HealthStub(channel).Check(health.HealthCheckRequest(), timeout=ASK_TIMEOUT_S).status
    return "" if status == health.HealthCheckResponse.SERVING else health.HealthCheckResponse.ServingStatus.Name(status)


class Asking:
    """Ask a question again and again, in a thread, while the block runs, but for pauses."""

    def __init__(self, port: int, question: Question, *, pause_s: float = PAUSE_S) -> None:
        self._port = port
        self._question = question
        self._pause_s = pause_s
        self._ends = threading.Event()
        self._wanted = threading.Event()
        self._idle = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.asked = 0
        self.slowest_ms = 0
        self.failures: list[str] = []

    def __enter__(self) -> "Asking":
        self._wanted.set()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._wanted.set()
        self._thread.join()

    def pause(self) -> None:
        """Ask no further, and wait until no question is under way."""
        self._idle.clear()
        self._wanted.clear()
        self._idle.wait()

    def resume(self) -> None:
        """Ask again."""
        self._wanted.set()

    def _run(self) -> None:
        while not self._ends.is_set():
            # A channel of its own after each pause: an old one would wait for its backoff first.
            with grpc.insecure_channel(f"{HOST}:{self._port}", options=_OPTIONS) as channel:
                while self._wanted.is_set() and not self._ends.is_set():
                    self._ask_once(channel)
                    self._ends.wait(self._pause_s)
            self._idle.set()
            self._wanted.wait()

    def _ask_once(self, channel: grpc.Channel) -> None:
        started_at = time.monotonic()
        try:
            problem = self._question(channel)
        except grpc.RpcError as error:
            problem = f"{error.code().name} {error.details()}"
        except Exception as error:
            # Whoever waits for this thread would wait for ever.
            problem = repr(error)
        self.asked += 1
        self.slowest_ms = max(self.slowest_ms, round((time.monotonic() - started_at) * 1000))
        if problem:
            self.failures.append(problem)
