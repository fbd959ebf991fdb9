"""Start servers as processes of their own, and look at their time and memory through /proc."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
HOST: Final = "127.0.0.1"
START_TIMEOUT_S: Final = 120.0
STOP_TIMEOUT_S: Final = 20.0
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Running:
    """A server that has said where it listens."""

    process: "subprocess.Popen[bytes]"
    port: int
    hello: Mapping[str, Any]
    start_s: float
    """From starting the process until it said so."""

    def cpu_s(self) -> float:
        """User and system time that the process has used, with its workers when it has some."""
        return sum(map(_cpu_s, [self.process.pid, *self.hello.get("workers", ())]))

    def resident_mb(self) -> float:
        """Memory that the process holds now."""
        return resident_mb(self.process.pid)

    def peak_mb(self) -> float:
        """The most memory that it ever held."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
        raise RuntimeError("the system does not tell a process's peak of memory")

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_TIMEOUT_S)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def resident_mb(pid: int | str = "self") -> float:
    """Resident memory of a process. Units: MB of 2**20 bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES / 2**20


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def environment() -> dict[str, str]:
    """What our processes run with: the repository is importable, nothing is set through FLAGSTAFF_ variables.

    Python keeps what it compiled, as it does where it is installed: starts would compile all of it anew otherwise.
    """
    unwanted = ("FLAGSTAFF_", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    return {**kept, "PYTHONPATH": str(ROOT)}


def import_document(document: Mapping[str, Any], folder: Path, *options: str) -> tuple[str, float]:
    """Import a flag set into a new database in a folder; gives its URL, and how long the command took."""
    path = folder / "flags.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    url = f"sqlite:///{folder / 'flags.db'}"
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "server", "import", str(path), "--database-url", url, "--json", *options],
        cwd=ROOT, env=environment(), capture_output=True, text=True, check=False, timeout=START_TIMEOUT_S,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"the import ended with {done.returncode}: {(done.stdout + done.stderr)[-2_000:]}")
    return url, time.perf_counter() - start


def serve(url: str, *options: str) -> Running:
    """Start `flagstaff serve` over a database, on free ports."""
    ports = ["--grpc-port", "0", "--sync-port", "0", "--http-port", "0", "--drain-delay", "0"]
    command = [sys.executable, "-m", "server", "serve", "--database-url", url, "--host", HOST, *ports, "--json"]
    return _start([*command, "--log-level", "error", *options])


def serve_nothing(replies: Mapping[str, bytes]) -> Running:
    """Start a server whose handlers are empty: each path has one constant reply."""
    listed = json.dumps({path: reply.hex() for path, reply in replies.items()})
    return _start([sys.executable, "-m", "tests.benchmarks.servers.empty", listed])


def serve_nothing_over_http(reply: bytes) -> Running:
    """Start an application of Starlette on uvicorn whose only handler has one constant reply."""
    return _start([sys.executable, "-m", "tests.benchmarks.servers.empty_http", reply.hex()])


def serve_streams(first: bytes, later: bytes) -> Running:
    """Start a server of grpc.aio whose streams write a constant message whenever SIGUSR1 comes."""
    return _start([sys.executable, "-m", "tests.benchmarks.servers.fanning", first.hex(), later.hex()])


def deliver(url: str) -> Running:
    """Start a process that delivers what happens in a database, and does nothing else."""
    return _start([sys.executable, "-m", "tests.benchmarks.servers.delivering", url])


def _start(command: Sequence[str]) -> Running:
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert process.stdout is not None
    for line in process.stdout:
        with suppress(ValueError):
            hello = json.loads(line)
            return Running(process, int(hello["grpc_port"]), hello, time.perf_counter() - start)
    raise RuntimeError(f"the server ended with {process.wait()} instead of serving")
