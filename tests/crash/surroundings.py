"""Look at a server from beside: its health, asked again and again, and its memory and descriptors by /proc."""

import os
import random
import socket
import threading
import time
from pathlib import Path
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2 as health
from grpc_health.v1.health_pb2_grpc import HealthStub

from tests.conformance.processes import HOST, Ports

HEALTH_TIMEOUT_S: Final = 5.0
HEALTH_PAUSE_S: Final = 0.1
LOW_PORTS: Final = range(20_000, 32_000)
"""Below those that the system gives to clients: one that tries a free port of theirs may connect to itself."""

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


def low_ports(chance: random.Random) -> Ports:
    """Three ports that nobody listens on now, for a server that is to come back to them."""
    return Ports(*(_free(port) for port in _thrice(chance)))


def _thrice(chance: random.Random) -> list[int]:
    start = chance.randrange(LOW_PORTS.start, LOW_PORTS.stop, 100)
    return [start, start + 30, start + 60]


def _free(port: int) -> int:
    while True:
        with socket.socket() as listener:
            try:
                listener.bind((HOST, port))
            except OSError:
                port += 1
            else:
                return port


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


class HealthChecks:
    """Ask for health in a thread while the block runs, but for pauses."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._ends = threading.Event()
        self._wanted = threading.Event()
        self._idle = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self.asked = 0
        self.slowest_ms = 0
        self.failures: list[str] = []

    def __enter__(self) -> "HealthChecks":
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

    def _ask(self) -> None:
        while not self._ends.is_set():
            # A channel of its own after each pause: an old one would wait for its backoff first.
            with grpc.insecure_channel(f"{HOST}:{self._port}") as channel:
                ask = HealthStub(channel).Check
                while self._wanted.is_set() and not self._ends.is_set():
                    self._ask_once(ask)
                    self._ends.wait(HEALTH_PAUSE_S)
            self._idle.set()
            self._wanted.wait()

    def _ask_once(self, ask: Any) -> None:
        started_at = time.monotonic()
        try:
            status = ask(health.HealthCheckRequest(), timeout=HEALTH_TIMEOUT_S).status
            said = health.HealthCheckResponse.ServingStatus.Name(status)
        except grpc.RpcError as error:
            said = f"{error.code().name} {error.details()}"
        self.asked += 1
        self.slowest_ms = max(self.slowest_ms, round((time.monotonic() - started_at) * 1000))
        if said != "SERVING":
            self.failures.append(said)
