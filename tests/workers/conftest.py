"""Groups of workers over a database in a test's directory."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
TIMEOUT_S: Final = 90.0
FREE_PORTS: Final = ("--grpc-port=0", "--sync-port=0", "--http-port=0", "--drain-delay=0")


@dataclass(slots=True)
class Group:
    """A running `flagstaff serve`, and what it told."""

    process: subprocess.Popen[str]
    log: Path
    told: dict[str, Any] = field(default_factory=dict)

    @property
    def pids(self) -> list[int]:
        """The workers it started with."""
        pids: list[int] = self.told["workers"]
        return pids

    @property
    def ports(self) -> tuple[str, ...]:
        """As options for another server that wants the same."""
        return tuple(f"--{each}-port={self.told[f'{each}_port']}" for each in ("grpc", "sync", "http"))

    def logged(self) -> str:
        """Everything that it and its workers wrote."""
        return self.log.read_text(encoding="utf-8")

    def readiness(self) -> dict[str, Any]:
        """What one worker says, by a fresh connection."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.told['http_port']}/readyz", timeout=TIMEOUT_S) as reply:
            answer: dict[str, Any] = json.load(reply)
        return answer

    def stop(self) -> int:
        """Ask it to stop; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(TIMEOUT_S)


Start: TypeAlias = Callable[..., Group]
"""(*options, wait for the line) -> a group over this test's database."""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start servers, and end them after the test."""
    with starting(tmp_path) as begin:
        yield begin


@contextmanager
def starting(directory: Path, **variables: str) -> Iterator[Start]:
    """Start servers in a directory, and end them after the block."""
    groups: list[Group] = []
    ours = {name: value for name, value in os.environ.items() if not name.startswith("FLAGSTAFF_")}
    database = {"FLAGSTAFF_DATABASE_URL": f"sqlite:///{directory / 'flags.db'}"}
    environment = {**ours, "PYTHONPATH": str(ROOT), **database, **variables}

    def begin(*options: str, wait: bool = True) -> Group:
        log = directory / f"log-{len(groups)}"
        command = [sys.executable, "-m", "server", "serve", "--json", *FREE_PORTS, *options]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, cwd=directory, env=environment, stdout=subprocess.PIPE, stderr=output, text=True
            )
        group = Group(process, log)
        groups.append(group)
        if wait:
            line = _first_line(process)
            assert line, group.logged()
            group.told = json.loads(line)
        return group

    try:
        yield begin
    finally:
        for group in groups:
            # Its workers end by themselves then.
            group.process.kill()
            group.process.communicate()
            for pid in group.told.get("workers", ()):
                eventually(lambda pid=pid: not is_alive(pid))  # type: ignore[misc]


def _first_line(process: subprocess.Popen[str]) -> str:
    """A line of standard output; "" when there is none in time."""
    assert process.stdout is not None
    giving_up = threading.Timer(TIMEOUT_S, process.kill)
    giving_up.start()
    try:
        return process.stdout.readline()
    finally:
        giving_up.cancel()
        giving_up.join()


def is_alive(pid: int) -> bool:
    """Whether there is such a process, other than one that ended and was not yet asked about."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def eventually(condition: Callable[[], object]) -> None:
    """Wait until it holds."""
    until = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < until, "did not happen in time"
        time.sleep(0.02)


def answered_by(group: Group, accept: Callable[[dict[str, Any]], bool] = lambda answer: True) -> set[int]:
    """The processes that answer acceptably, of as many fresh connections as it takes to meet all of them."""
    pids: set[int] = set()

    def met_all() -> bool:
        answer = group.readiness()
        if accept(answer):
            pids.add(answer["pid"])
        return len(pids) >= len(group.pids)

    eventually(met_all)
    return pids
