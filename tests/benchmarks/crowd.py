"""Hold many streams from a process of their own, commit beside it, and see when each stream heard of the commit."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Engine

from server.core.changes import PutFlag
from server.core.definitions.flags import read_flag
from server.core.definitions.problems import Problems
from server.core.flags import FlagDefinition
from server.store.commit import commit as commit_to
from server.store.engine import open_engine
from tests.benchmarks.load import percentile
from tests.benchmarks.processes import HOST, ROOT, Running, environment

EVENTS: Final = "/flagd.evaluation.v1.Service/EventStream"
EVENT: Final = "configuration_change"
ARRIVAL_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Delivery:
    """One commit and the streams that heard of it; from the commit's return, which may come after the first hears."""

    commit_s: float
    p50_ms: float
    p99_ms: float
    last_ms: float


class Crowd:
    """The client process. Streams that are `stalled` get no room to read more than a first word."""

    def __init__(self, server: Running, *, connections: int, path: str = EVENTS, wanted: str = EVENT) -> None:
        self._name = str(server.process.args)
        config = {"host": HOST, "port": server.port, "path": path, "request": "", "wanted": wanted}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.peers.crowd", json.dumps({**config, "connections": connections})],
            cwd=ROOT, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._read()
        self.healthy = 0

    def __enter__(self) -> "Crowd":
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def open(self, healthy: int, *, stalled: int = 0) -> float:
        """Open streams; how many seconds until each had its first message. Errors: RuntimeError when one has none."""
        answer = self._ask(op="open", healthy=healthy, stalled=stalled)
        if answer["opened"] != healthy or answer["lost"]:
            raise RuntimeError(f"{answer['opened']} of {healthy} streams began, {answer['lost']} are lost")
        self.healthy += healthy
        return float(answer["opened_s"])

    def release(self) -> int:
        """Reset the stalled streams; how many of them the server had ended before."""
        return int(self._ask(op="release")["ended"])

    def deliver(self, commit: Callable[[], object]) -> Delivery:
        """Commit once and wait for all healthy streams. Errors: RuntimeError when not all of them heard of it."""
        self._ask(op="arm")
        start = time.monotonic()
        commit()
        returned = time.monotonic()
        answer = self._ask(op="arrived", timeout_s=ARRIVAL_TIMEOUT_S)
        if len(answer["at"]) != self.healthy or answer["lost"]:
            heard = f"{len(answer['at'])} of {self.healthy} streams of {self._name} heard of a commit"
            lost = f"{answer['lost']} are lost, ended by {answer['ends']}"
            raise RuntimeError(f"{heard} within {ARRIVAL_TIMEOUT_S:g} s, {lost}")
        waits = [(at - returned) * 1_000 for at in answer["at"]]
        return Delivery(returned - start, percentile(waits, 0.5), percentile(waits, 0.99), waits[-1])

    def _ask(self, **question: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the client of the streams ended with {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


class Changing:
    """One flag of a database whose default is another one after each commit by this process."""

    def __init__(self, url: str, key: str, document: Mapping[str, Any]) -> None:
        self._engine: Engine = open_engine(url)
        self._key = key
        self._document = deepcopy(dict(document))

    def __enter__(self) -> "Changing":
        return self

    def __exit__(self, *_: object) -> None:
        self._engine.dispose()

    def commit(self) -> int:
        """Commit; the revision."""
        self._document["default"] = next(
            name for name in self._document["variants"] if name != self._document["default"]
        )
        problems = Problems()
        definition = read_flag(self._key, self._document, problems=problems, path="")
        assert isinstance(definition, FlagDefinition), problems.errors
        done = commit_to(
            self._engine, project="default", environment="production", changes=[PutFlag(definition)],
            actor="benchmark", now=datetime.now(UTC),
        )  # fmt: skip
        return done.revision
