"""Send requests from a process of its own: nghttp2's h2load, or for gRPC a grpcio client where it is not installed."""

import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc

from tests.benchmarks.processes import HOST, ROOT, Running, environment

TIMEOUT_S: Final = 300
REPLY_BYTES_MAX: Final = 64 * 1024 * 1024
_FRAME_HEAD_BYTES: Final = 5
_FINISHED: Final = re.compile(r"finished in ([\d.]+)(us|ms|s)")
_COUNTS: Final = re.compile(r"requests: (\d+) total.* (\d+) succeeded, (\d+) failed")
_DATA: Final = re.compile(r"traffic: .*?\((\d+)\) total.*\((\d+)\) data")
_SECONDS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of requests did."""

    request_count: int
    wall_s: float
    server_cpu_s: float
    client_cpu_s: float

    @property
    def per_s(self) -> float:
        """Requests a second of wall time."""
        return self.request_count / self.wall_s

    @property
    def cpu_us(self) -> float:
        """Server time a request."""
        return self.server_cpu_s / self.request_count * 1e6

    @property
    def client_cores(self) -> float:
        """How many cores the client had busy all the time."""
        return self.client_cpu_s / self.wall_s


@dataclass(frozen=True, slots=True)
class Shape:
    """How requests are spread: connections, and calls in flight on each."""

    connections: int
    in_flight: int


def client_name() -> str:
    """What sends the requests here."""
    return "h2load" if shutil.which("h2load") else "a grpcio client (h2load is not installed)"


def frame(message: bytes) -> bytes:
    """One message as it travels on a gRPC stream."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def ask_once(server: Running, path: str, message: bytes) -> bytes:
    """One call by an ordinary client; its reply is what every further call must weigh."""
    with grpc.insecure_channel(
        f"{HOST}:{server.port}", options=(("grpc.max_receive_message_length", REPLY_BYTES_MAX),)
    ) as channel:
        reply: bytes = channel.unary_unary(path, None, None)(message, timeout=60, wait_for_ready=True)
    return reply


def send(server: Running, path: str, messages: Sequence[bytes], *, reply_bytes: int, count: int, shape: Shape) -> Load:
    """Make `count` calls, each with these messages on its stream, and wait for all replies.

    Shapes: reply_bytes is the sum of one call's replies without their frames. Errors: RuntimeError when a call fails
    or what came back weighs something else.
    """
    if shutil.which("h2load") is None:
        return _send_by_grpcio(server, path, messages, count=count, shape=shape)
    with tempfile.NamedTemporaryFile() as body:
        body.write(b"".join(map(frame, messages)))
        body.flush()
        arguments = ["-n", str(count), "-c", str(shape.connections), "-m", str(shape.in_flight), "-w", "20", "-W", "24"]
        spent = Spent(server)
        printed = _h2load([*arguments, "-d", body.name], server, path)
        spent.end()
    expected = count * (reply_bytes + _FRAME_HEAD_BYTES * len(messages))
    return _load_of(printed, path, count=count, bytes_=expected, spent=spent)


def latencies_ms(server: Running, path: str, message: bytes, *, per_s: int, duration_s: int) -> list[float]:
    """Send requests at a fixed rate, whether earlier ones are answered or not; how long each took, sorted.

    Units: per_s is a multiple of 10, as many connections share it. Source: h2load paces in bursts, so its figures
    compare with each other only.
    """
    with tempfile.TemporaryDirectory() as folder:
        body, log = Path(folder, "body"), Path(folder, "log")
        body.write_bytes(frame(message))
        count = per_s * duration_s
        arguments = ["-n", str(count), "-c", "10", "-m", "100", "--rps", str(per_s // 10), f"--log-file={log}"]
        _h2load([*arguments, "-d", str(body)], server, path)
        return sorted(int(line.split()[2]) / 1_000 for line in log.read_text().splitlines())


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value below which a share of the sorted values lies."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def post(server: Running, path: str, body: bytes, *, reply_bytes: int, count: int, connections: int) -> Load:
    """POST JSON over HTTP/1.1 so many times, one request at a time on each connection.

    Errors: RuntimeError without h2load, when a request fails, or when the replies' bodies weigh something else.
    """
    if shutil.which("h2load") is None:
        raise RuntimeError("requests over HTTP need nghttp2's h2load, which is not installed")
    with tempfile.NamedTemporaryFile() as file:
        file.write(body)
        file.flush()
        arguments = ["--h1", "-n", str(count), "-c", str(connections), "-d", file.name]
        spent = Spent(server)
        printed = _run_h2load(
            [*arguments, "-H", "content-type: application/json"], f"http://{HOST}:{server.hello['http_port']}{path}"
        )
        spent.end()
    return _load_of(printed, path, count=count, bytes_=count * reply_bytes, spent=spent)


class Spent:
    """CPU time of a server, and of clients that began and ended meanwhile."""

    def __init__(self, server: Running) -> None:
        self._server = server
        self.server_s, self.client_s = -server.cpu_s(), -_ended_children_cpu_s()

    def end(self) -> None:
        """Stop counting."""
        self.server_s += self._server.cpu_s()
        self.client_s += _ended_children_cpu_s()


def _ended_children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _load_of(printed: str, path: str, *, count: int, bytes_: int, spent: Spent) -> Load:
    wall, counts, data = _FINISHED.search(printed), _COUNTS.search(printed), _DATA.search(printed)
    if not (wall and counts and data) or int(counts[2]) != count or int(data[2]) != bytes_:
        raise RuntimeError(f"calls of {path} failed, expected {count} and {bytes_} bytes:\n{printed}")
    return Load(count, float(wall[1]) * _SECONDS[wall[2]], spent.server_s, spent.client_s)


def _h2load(arguments: Sequence[str], server: Running, path: str) -> str:
    headers = ["-H", "content-type: application/grpc", "-H", "te: trailers"]
    return _run_h2load([*headers, *arguments], f"http://{HOST}:{server.port}{path}")


def _run_h2load(arguments: Sequence[str], url: str) -> str:
    command = ["h2load", "-t", "1", *arguments, url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
    if done.returncode:
        raise RuntimeError(f"h2load ended with {done.returncode}: {done.stderr[-500:]}")
    return done.stdout


def _send_by_grpcio(server: Running, path: str, messages: Sequence[bytes], *, count: int, shape: Shape) -> Load:
    with tempfile.TemporaryDirectory() as folder:
        body = Path(folder, "body")
        body.write_bytes(b"".join(map(frame, messages)))
        figures = [count, shape.connections, shape.in_flight]
        command = [sys.executable, "-m", "tests.benchmarks.servers.client", f"{HOST}:{server.port}", path, str(body)]
        spent = Spent(server)
        done = subprocess.run(
            [*command, *map(str, figures)],
            cwd=ROOT, env=environment(), capture_output=True, text=True, check=False, timeout=TIMEOUT_S,
        )  # fmt: skip
        spent.end()
    if done.returncode:
        raise RuntimeError(f"the client ended with {done.returncode}: {done.stderr[-500:]}")
    return Load(count, float(done.stdout), spent.server_s, spent.client_s)
