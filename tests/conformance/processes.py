"""Run a real server over a fresh database, and clients that speak JSON lines, each as a process of its own."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

from tests.conformance.testbed import ROOT

HOST: Final = "127.0.0.1"
DEADLINE_MS: Final = 5_000
"""Generous beside the providers' 500 ms: what a server answers is asked here, not how fast on a busy machine."""
START_TIMEOUT_S: Final = 60.0
ANSWER_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 20.0
LOG_LINES_SHOWN: Final = 40


@dataclass(frozen=True, slots=True)
class FlagSetFile:
    """What to import into a server before it starts."""

    content: Mapping[str, Any]
    project: str = "default"
    """One each: a flag has one set of variants throughout a project, and the testbed's sets share only keys."""

    source: str = ""
    bucketing: str = "v2"


@dataclass(frozen=True, slots=True)
class Ports:
    """Where a server listens; 0 takes a free port."""

    grpc: int = 0
    sync: int = 0
    http: int = 0


FREE_PORTS: Final = Ports()


@dataclass(slots=True)
class Server:
    """A running `flagstaff serve`."""

    process: subprocess.Popen[bytes]
    ports: Ports
    log: Path

    @property
    def port(self) -> int:
        """The gRPC port."""
        return self.ports.grpc

    def stop(self) -> None:
        """Ask for a drain, and wait; kill only what does not listen."""
        _stop(self.process)

    def kill(self) -> None:
        """Give it no chance to say goodbye."""
        self.process.kill()
        self.process.wait()


def start_server(folder: Path, flag_sets: Sequence[FlagSetFile]) -> Server:
    """Import the flag sets into a new database in `folder`, and serve it on a free port.

    Errors: AssertionError with the log when an import fails or the server does not come up.
    """
    database = f"sqlite:///{folder / 'flags.db'}"
    for number, flag_set in enumerate(flag_sets):
        import_flags(folder / f"flags-{number}.json", flag_set, database=database)
    return serve_database(folder, database)


def serve_database(
    folder: Path, database: str, *, ports: Ports = FREE_PORTS, options: Sequence[str] = (), module: str = "server"
) -> Server:
    """Serve a database that is there; the log is in `folder`. Errors: AssertionError with the log."""
    log = folder / "server.log"
    command = [sys.executable, "-m", module, "serve", "--database-url", database, "--host", HOST, "--json"]
    command += ["--grpc-port", str(ports.grpc), "--sync-port", str(ports.sync), "--http-port", str(ports.http)]
    command += ["--drain-delay", "0", *options]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=_environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    return Server(process, _wait_until_serving(process, log), log)


def tail(log: Path) -> str:
    """The last lines of a log, for a failure's report."""
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES_SHOWN:])


def import_flags(path: Path, flag_set: FlagSetFile, *, database: str) -> None:
    """Write the flags to a file and import it. Errors: AssertionError with what the command said."""
    path.write_text(json.dumps(flag_set.content), encoding="utf-8")
    command = [sys.executable, "-m", "server", "import", str(path), "--database-url", database, "--lenient"]
    command += ["--project", flag_set.project, "--bucketing", flag_set.bucketing]
    if flag_set.source:
        command += ["--source", flag_set.source]
    done = subprocess.run(
        command, cwd=ROOT, env=_environment(), capture_output=True, text=True, check=False, timeout=START_TIMEOUT_S
    )
    assert done.returncode == 0, f"import of {path} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"


def _environment() -> dict[str, str]:
    # Without what a developer has set for a server of their own.
    return {name: value for name, value in os.environ.items() if not name.startswith("FLAGSTAFF_")}


def _wait_until_serving(process: subprocess.Popen[bytes], log: Path) -> Ports:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError):
                event = json.loads(line)
                if isinstance(event, dict) and event.get("event") == "serving":
                    return Ports(event["grpc_port"], event["sync_port"], event["http_port"])
        if process.poll() is not None:
            break
        time.sleep(0.05)
    _stop(process)
    raise AssertionError(f"the server did not come up (exit code {process.returncode}):\n{tail(log)}")


@dataclass(slots=True)
class Driver:
    """A client in a process of its own: a line of JSON in, a line of JSON out (clients/README.md)."""

    process: subprocess.Popen[bytes]
    log: Path
    hello: dict[str, Any] = field(default_factory=dict)
    """What the client said of itself: `client`, `ready`, `error`."""

    _lines: queue.Queue[bytes] = field(default_factory=queue.Queue)
    _asked_count: int = 0

    def evaluate(self, type_: str, key: str, *, default: Any, context: Mapping[str, Any]) -> dict[str, Any]:
        """Evaluate one flag as the application would see it."""
        return self.ask("evaluate", type=type_, key=key, default=default, context=dict(context))

    def handle(self, event: str) -> None:
        """Register an event handler as the application would: ready, error, stale or change."""
        self.ask("handle", event=event)

    def take(self, event: str, *, timeout_s: float) -> dict[str, Any] | None:
        """The next event of a type that a handler got, after the one that was taken before; None when none comes."""
        taken: dict[str, Any] | None = self.ask("take", event=event, timeoutMs=round(timeout_s * 1000))["event"]
        return taken

    def forget(self) -> None:
        """Pass over the events that have come so far."""
        self.ask("forget")

    def status(self) -> str:
        """The provider's state as the application sees it."""
        return str(self.ask("status")["status"])

    def wait_until_ready(self, *, timeout_s: float) -> None:
        """Wait for READY. Errors: AssertionError with the last state."""
        deadline = time.monotonic() + timeout_s
        while (status := self.status()) != "READY" and time.monotonic() < deadline:
            time.sleep(0.05)
        assert status == "READY", f"the client is {status} after {timeout_s} s; it wrote:\n{tail(self.log)}"

    def ask(self, op: str, **arguments: Any) -> dict[str, Any]:
        """One question, one answer (clients/README.md)."""
        self._asked_count += 1
        asked = {"id": self._asked_count, "op": op, **arguments}
        self._write(asked)
        answer = self._read()
        assert answer.get("id") == self._asked_count, f"the client answered {answer} to {asked}"
        return answer

    def stop(self) -> None:
        """End the input, which ends the client."""
        assert self.process.stdin is not None
        with suppress(OSError):
            self.process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_TIMEOUT_S)
        _stop(self.process)
        if self.process.stdout is not None:
            self.process.stdout.close()

    def _write(self, message: Mapping[str, Any]) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise AssertionError(f"the client has ended; it wrote:\n{tail(self.log)}") from None

    def _read(self) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=ANSWER_TIMEOUT_S)
        except queue.Empty:
            line = b""
        assert line, f"the client does not answer; it wrote:\n{tail(self.log)}"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _pump(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(b"")


ServerOf: TypeAlias = Callable[[str, Sequence[FlagSetFile]], Server]
"""(name, what to serve) -> the running server of that name."""

DriverOf: TypeAlias = Callable[[str, Server | None, Mapping[str, Any]], Driver]
"""(client, server, options) -> the running client; without a server it connects to nothing."""


def start_driver(command: Sequence[str], options: Mapping[str, Any], *, port: int | None, log: Path) -> Driver:
    """Start a client and hand it its options (clients/README.md). Without a port it connects to nothing.

    Errors: AssertionError when it does not answer.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
        )
    driver = Driver(process, log)
    threading.Thread(target=driver._pump, daemon=True).start()
    driver._write({} if port is None else {"host": HOST, "port": port, "deadlineMs": DEADLINE_MS, **options})
    driver.hello = driver._read()
    return driver


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
