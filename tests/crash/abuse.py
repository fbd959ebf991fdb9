"""Prove that a client that abuses HTTP/2 harms nobody but itself.

Every attack is made over plain sockets against a server of our own on this machine, with a number of frames that is
known before. While it goes on a client of good manners asks on; after it, the server is looked at from beside.
"""

import resource
import selectors
import socket
import struct
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import grpc

from protos.flagstaff.v1 import evaluation_pb2 as ours
from protos.flagstaff.v1.evaluation_pb2_grpc import EvaluationServiceStub
from tests.conformance.processes import HOST, FlagSetFile, Server, start_server
from tests.crash import frames
from tests.crash.frames import Connection, frame
from tests.crash.proofs import Effort, Results
from tests.crash.surroundings import (
    ASK_TIMEOUT_S,
    Asking,
    ask_health,
    cpu_s,
    descriptors,
    peak_mb,
    reset_peak,
    resident_mb,
)

CYCLES_WHOLE: Final = 200
"""With fewer cycles the attacks are smaller in proportion."""

RESETS: Final = 100_000
CONTINUATION_BYTES: Final = 500 * 2**20
HALF_OPEN: Final = 2_000
BOMB_BYTES: Final = 2**30
BOMBS: Final = 5
PINGS: Final = 10_000

GROWTH_MB_MAX: Final = 60.0
"""For any attack: what half a gigabyte of CONTINUATION may cost."""

HEALTH_S_MAX: Final = 1.0
HALF_OPEN_S_MAX: Final = 15.0
"""Three times the handshake timeout, for a busy machine."""

DESCRIPTORS_SPARE: Final = 1_000
DESCRIPTORS_SLACK: Final = 8
"""Files and sockets that a server opens and closes by itself meanwhile."""

SETTLE_S: Final = 10.0
PATH: Final = "/flagstaff.v1.EvaluationService/Evaluate"
FLAGS: Final = {"flags": {"on": {"variants": {"yes": True, "no": False}, "default": "yes"}}}

_RESETS_AT_ONCE: Final = 500
_MEBIBYTE: Final = 2**20


@dataclass(frozen=True, slots=True)
class Abuse:
    """What an attack gets."""

    port: int
    share: float
    results: Results

    def count(self, whole: int) -> int:
        """How much of something this run does."""
        return max(1, round(whole * self.share))


Attack: TypeAlias = Callable[[Abuse], None]


def prove(effort: Effort) -> Results:
    """Make every attack in turn against one server."""
    results = Results()
    share = min(1.0, effort.cycles / CYCLES_WHOLE)
    _want_descriptors(HALF_OPEN + DESCRIPTORS_SPARE)
    server = start_server(Path(effort.directory), [FlagSetFile(FLAGS)])
    abuse = Abuse(server.port, share, results)
    try:
        with Asking(server.port, _evaluate, pause_s=0.01) as healthy:
            # Its first seconds are warm-up, which is no attack's growth.
            time.sleep(1)
            for name, attack in ATTACKS.items():
                _look(name, attack, abuse, server=server, healthy=healthy)
    finally:
        server.stop()
    results.equal("the server ends as one that is well", 0, server.process.returncode, where="exit code")
    results.note("calls of a healthy client", healthy.asked)
    results.note("ms for the slowest of them", healthy.slowest_ms)
    return results


def _want_descriptors(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (count if hard == resource.RLIM_INFINITY else min(count, hard), hard)
        )


def _evaluate(channel: grpc.Channel) -> str:
    answer = EvaluationServiceStub(channel).Evaluate(ours.EvaluateRequest(flag_key="on"), timeout=ASK_TIMEOUT_S)
    return "" if answer.resolution.bool_value else f"answered {answer}"


def _look(name: str, attack: Attack, abuse: Abuse, *, server: Server, healthy: Asking) -> None:
    """Attack, and see that the server is as before."""
    results, pid = abuse.results, server.process.pid
    failed, asked = len(healthy.failures), healthy.asked
    before_mb, before_cpu_s, before_open = resident_mb(pid), cpu_s(pid), descriptors(pid)
    reset_peak(pid)
    attack(abuse)
    used_ms = round((cpu_s(pid) - before_cpu_s) * 1000)
    with grpc.insecure_channel(f"{HOST}:{server.port}") as channel:
        started_at = time.monotonic()
        problem = _problem(channel)
        took_s = time.monotonic() - started_at
    while healthy.asked < asked + 2 and not healthy.failures[failed:]:
        time.sleep(0.01)
    grown_mb = peak_mb(pid) - before_mb
    results.check("a healthy client's calls all succeed", not healthy.failures[failed:], f"{name}: {healthy.failures}")
    results.check("health answers afterwards", not problem, f"{name}: {problem}")
    results.check(f"it does so within {HEALTH_S_MAX:g} s", took_s <= HEALTH_S_MAX, f"{name}: {took_s:.2f} s")
    results.check(f"memory grows by {GROWTH_MB_MAX:g} MB or less", grown_mb <= GROWTH_MB_MAX, f"{name}: {grown_mb:.0f}")
    settled = _settles(pid, before_open)
    results.check("the connections are given back", settled, f"{name}: {before_open}, then {descriptors(pid)} open")
    results.note(f"MB grown by {name}", max(0, round(grown_mb)))
    results.note(f"ms of CPU by {name}", used_ms)


def _problem(channel: grpc.Channel) -> str:
    try:
        return ask_health(channel)
    except grpc.RpcError as error:
        return f"{error.code().name} {error.details()}"


def _settles(pid: int, before: int) -> bool:
    until = time.monotonic() + SETTLE_S
    while (is_more := descriptors(pid) > before + DESCRIPTORS_SLACK) and time.monotonic() < until:
        time.sleep(0.05)
    return not is_more


def rapid_reset(abuse: Abuse) -> None:
    """Open streams on one connection and reset each at once. Source: CVE-2023-44487."""
    block = frames.request_headers(PATH)
    last = 2 * abuse.count(RESETS)
    with Connection(abuse.port) as connection:
        for start in range(1, last, 2 * _RESETS_AT_ONCE):
            streams = range(start, min(start + 2 * _RESETS_AT_ONCE, last), 2)
            connection.send(b"".join(_reset(stream, block) for stream in streams))
            abuse.results.note("streams reset", 0 if connection.is_closed else len(streams))


def _reset(stream: int, block: bytes) -> bytes:
    opened = frame(frames.HEADERS, block, stream=stream, flags=frames.END_HEADERS)
    return opened + frame(frames.RST_STREAM, frames.CANCEL, stream=stream)


def continuation_flood(abuse: Abuse) -> None:
    """Send headers without end, in frames that each are small. Source: CVE-2024-27316 and its kin."""
    field = b"\x00" + frames.text("x") + frames.text("a" * 100)
    more = frame(frames.CONTINUATION, field * (frames.FRAME_BYTES_MAX // len(field)), stream=1)
    with Connection(abuse.port) as connection:
        connection.send(frame(frames.HEADERS, frames.request_headers(PATH), stream=1))
        for _ in range(abuse.count(CONTINUATION_BYTES) // len(more)):
            connection.send(more)
            if connection.is_closed:
                break
            abuse.results.note("frames of CONTINUATION")


def half_open(abuse: Abuse) -> None:
    """Connect many times and never finish the preface; the server has to hang up."""
    count = abuse.count(HALF_OPEN)
    with selectors.DefaultSelector() as selector:
        for _ in range(count):
            half = socket.create_connection((HOST, abuse.port), frames.TIMEOUT_S)
            half.sendall(frames.PREFACE[:10])
            half.setblocking(False)
            selector.register(half, selectors.EVENT_READ)
        opened_at = time.monotonic()
        while (left := len(selector.get_map())) and time.monotonic() < opened_at + HALF_OPEN_S_MAX:
            for key, _ in selector.select(0.1):
                assert isinstance(key.fileobj, socket.socket)
                if _hung_up(key.fileobj):
                    selector.unregister(key.fileobj)
                    key.fileobj.close()
        took_s = time.monotonic() - opened_at
        for key in list(selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
    abuse.results.check(
        "half-open connections are closed", not left, f"{left} of {count} are open after {took_s:.0f} s"
    )
    abuse.results.note("half-open connections", count)
    abuse.results.note("ms until they were closed", round(took_s * 1000))


def _hung_up(half: socket.socket) -> bool:
    try:
        return not half.recv(4096)
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def gzip_bomb(abuse: Abuse) -> None:
    """Send a request of a few megabytes that becomes a gigabyte."""
    bomb = gzip_of_zeros(abuse.count(BOMB_BYTES))
    message = b"\x01" + struct.pack(">I", len(bomb)) + bomb
    for _ in range(BOMBS):
        with Connection(abuse.port) as connection:
            block = frames.request_headers(PATH, encoding="gzip")
            connection.send(frame(frames.HEADERS, block, stream=1, flags=frames.END_HEADERS))
            _send_data(connection, message)
            connection.read_until_end(frames.TIMEOUT_S)
            status = connection.headers.partition(b"grpc-status")[2][:2]
        abuse.results.equal("a bomb is RESOURCE_EXHAUSTED", b"\x018", status, where="grpc-status")
        abuse.results.note("gzip bombs")


def gzip_of_zeros(byte_count: int) -> bytes:
    """So many zeros, compressed: one block of them, repeated, with the right end."""
    blocks = max(1, byte_count // _MEBIBYTE)
    zeros = bytes(_MEBIBYTE)
    deflate = zlib.compressobj(9, wbits=-15)
    block = deflate.compress(zeros) + deflate.flush(zlib.Z_FULL_FLUSH)
    checksum = 0
    for _ in range(blocks):
        checksum = zlib.crc32(zeros, checksum)
    head = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff"
    return head + block * blocks + deflate.flush() + struct.pack("<II", checksum, blocks * _MEBIBYTE % 2**32)


def _send_data(connection: Connection, message: bytes) -> None:
    """As much of a message as the server lets through; it need not want all of it."""
    place, until = 0, time.monotonic() + frames.TIMEOUT_S
    while place < len(message) and not connection.is_closed and time.monotonic() < until:
        if b"grpc-status" in connection.headers:
            return
        part = message[place : place + min(frames.FRAME_BYTES_MAX, *connection.window_bytes.values())]
        if not part:
            connection.read(wait_s=0.1)
            continue
        place += len(part)
        for name in (0, 1):
            connection.window_bytes[name] -= len(part)
        is_last = place == len(message)
        connection.send(frame(frames.DATA, part, stream=1, flags=frames.END_STREAM if is_last else 0))


def ping_flood(abuse: Abuse) -> None:
    """Ping without end; the server says that this is too much, and goes."""
    with Connection(abuse.port) as connection:
        for _ in range(PINGS):
            connection.send(frame(frames.PING, bytes(8)))
            # What came before the end of a connection may be lost with it.
            connection.read(wait_s=0.01)
            abuse.results.note("pings")
            if connection.goaway or connection.is_closed:
                break
        connection.read_until_end(frames.TIMEOUT_S)
        said = connection.goaway
    abuse.results.check("a ping flood gets a GOAWAY", said.endswith(b"too_many_pings"), f"the server said {said!r}")


ATTACKS: Final[Mapping[str, Attack]] = {
    "rapid reset": rapid_reset,
    "a flood of CONTINUATION": continuation_flood,
    "half-open connections": half_open,
    "gzip bombs": gzip_bomb,
    "a flood of pings": ping_flood,
}
