"""Hold thousands of gRPC server streams and note when messages arrive, as cheaply as a client can.

It speaks just enough HTTP/2 by itself: a client library would need more of the cores than the server that is measured.
One line of JSON on standard input is answered by one line on standard output; times are those of the monotonic clock,
which all processes of a machine share.
"""

import json
import os
import selectors
import socket
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any, Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
_NAMES: Final = {DATA: "the last message", HEADERS: "a status, in HPACK", RST_STREAM: "a reset"}
_INITIAL_WINDOW_SIZE: Final = 4
_CANCEL: Final = 8
_HEAD_BYTES: Final = 9

STALLED_WINDOW_BYTES: Final = 64
"""Room for a first word such as `provider_ready`, and for nothing that follows."""

WINDOW_BYTES: Final = 2**30
READ_BYTES: Final = 256 * 1024
QUIET_S: Final = 1.0
ENDS_SHOWN: Final = 5
OPEN_TIMEOUT_S: Final = 60.0


def frame(kind: int, flags: int, stream: int, *, payload: bytes = b"") -> bytes:
    """One HTTP/2 frame."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _literal(text: str) -> bytes:
    assert len(text) < 127, "longer strings need HPACK's longer lengths"
    return bytes((len(text),)) + text.encode()


def call_headers(path: str) -> bytes:
    """The headers of a gRPC call, in HPACK without compression."""
    names = b"\x83\x86\x04" + _literal(path) + b"\x01" + _literal("localhost")
    return names + b"\x0f\x10" + _literal("application/grpc") + b"\x00" + _literal("te") + _literal("trailers")


class Connection:
    """One connection and its streams."""

    def __init__(self, address: tuple[str, int], told: Callable[[int, bytes], None]) -> None:
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._told = told
        self._read = b""
        self._partial: dict[int, bytearray] = defaultdict(bytearray)
        self._next = 1
        self.open: set[int] = set()
        """Streams that the server has not ended."""

        self.ends: dict[int, str] = {}
        """How it ended the others."""

        window = _INITIAL_WINDOW_SIZE.to_bytes(2, "big") + STALLED_WINDOW_BYTES.to_bytes(4, "big")
        self.socket.sendall(PREFACE + frame(SETTINGS, 0, 0, payload=window) + self._widen(0))

    def call(self, path: str, request: bytes, *, stalled: bool) -> int:
        """Open a stream; a stalled one gives the server no room to write."""
        stream, self._next = self._next, self._next + 2
        message = b"\0" + len(request).to_bytes(4, "big") + request
        frames = frame(HEADERS, END_HEADERS, stream, payload=call_headers(path))
        frames += frame(DATA, END_STREAM, stream, payload=message)
        self.socket.sendall(frames + (b"" if stalled else self._widen(stream)))
        self.open.add(stream)
        return stream

    def cancel(self, stream: int) -> None:
        """Reset a stream."""
        self.open.discard(stream)
        self.socket.sendall(frame(RST_STREAM, 0, stream, payload=_CANCEL.to_bytes(4, "big")))

    def read(self) -> None:
        """Take what has arrived."""
        read = self._read + self.socket.recv(READ_BYTES)
        if not read:
            raise RuntimeError("the server closed a connection")
        place = 0
        while len(read) - place >= _HEAD_BYTES:
            end = place + _HEAD_BYTES + int.from_bytes(read[place : place + 3], "big")
            if end > len(read):
                break
            stream = int.from_bytes(read[place + 5 : place + 9], "big")
            self._take(read[place + 3], read[place + 4], stream, payload=read[place + _HEAD_BYTES : end])
            place = end
        self._read = read[place:]

    def _take(self, kind: int, flags: int, stream: int, *, payload: bytes) -> None:
        if kind == DATA:
            self._message(stream, payload)
        elif kind == SETTINGS and not flags & ACK:
            self.socket.sendall(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            self.socket.sendall(frame(PING, ACK, 0, payload=payload))
        elif kind == GOAWAY:
            raise RuntimeError(f"the server sent a connection away: {payload[8:]!r}")
        if kind == RST_STREAM or (kind in (DATA, HEADERS) and flags & END_STREAM):
            self.open.discard(stream)
            how = f"code {int.from_bytes(payload, 'big')}" if kind == RST_STREAM else f"{payload[-80:]!r}"
            self.ends[stream] = f"{_NAMES[kind]}: {how}"

    def _message(self, stream: int, payload: bytes) -> None:
        partial = self._partial[stream]
        partial += payload
        while len(partial) >= 5 and len(partial) >= (size := 5 + int.from_bytes(partial[1:5], "big")):
            self._told(stream, bytes(partial[5:size]))
            del partial[:size]

    @staticmethod
    def _widen(stream: int) -> bytes:
        return frame(WINDOW_UPDATE, 0, stream, payload=WINDOW_BYTES.to_bytes(4, "big"))


class Crowd:
    """All connections, and when a message first came on each stream since it was armed."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._path: str = config["path"]
        self._request = bytes.fromhex(config["request"])
        self._wanted: bytes = config["wanted"].encode()
        self._arrived: dict[tuple[int, int], float] = {}
        self._healthy: set[tuple[int, int]] = set()
        self._stalled: set[tuple[int, int]] = set()
        self._heard = 0.0
        self._armed = False
        self._selector = selectors.DefaultSelector()
        self._connections = [
            Connection((config["host"], config["port"]), lambda stream, message, place=place: self._told(  # type: ignore[misc]
                (place, stream), message))
            for place in range(config["connections"])
        ]  # fmt: skip
        for connection in self._connections:
            self._selector.register(connection.socket, selectors.EVENT_READ, connection.read)
        self._lines: list[bytes] = []
        self._input = b""
        self._ended = False
        self._selector.register(0, selectors.EVENT_READ, self._read_line)

    def serve(self) -> None:
        """Answer lines until they end."""
        while not self._ended:
            self._pump(lambda: bool(self._lines) or self._ended, time.monotonic() + 3_600)
            while self._lines:
                print(json.dumps(self._answer(json.loads(self._lines.pop(0)))), flush=True)

    def _answer(self, question: dict[str, Any]) -> dict[str, Any]:
        match question["op"]:
            case "open":
                return self._open(question["healthy"], question["stalled"])
            case "arm":
                self._arrived.clear()
                self._armed = True
                return {}
            case "arrived":
                until = time.monotonic() + question["timeout_s"]
                self._pump(lambda: len(self._arrived) >= len(self._healthy), until)
                self._armed = False
                lost = self._lost(self._healthy)
                return {"at": sorted(self._arrived.values()), "lost": lost, "ends": self._ends() if lost else []}
            case "release":
                ended = self._lost(self._stalled)
                for place, stream in self._stalled:
                    self._connections[place].cancel(stream)
                self._stalled.clear()
                return {"ended": ended}
            case unknown:
                return {"error": f"unknown op {unknown!r}"}

    def _open(self, healthy: int, stalled: int) -> dict[str, Any]:
        """Spread streams over the connections and wait until each has heard a first message and all is quiet."""
        self._arrived.clear()
        self._wanted, wanted = b"", self._wanted
        self._armed = True
        start = time.monotonic()
        fresh = [self._call(number, stalled=False) for number in range(healthy)]
        self._healthy.update(fresh)
        self._stalled.update(self._call(number, stalled=True) for number in range(stalled))
        self._pump(lambda: all(each in self._arrived for each in fresh), start + OPEN_TIMEOUT_S)
        opened_s = time.monotonic() - start
        self._heard = max(self._heard, time.monotonic())
        self._pump(lambda: time.monotonic() - self._heard > QUIET_S, time.monotonic() + OPEN_TIMEOUT_S)
        self._wanted, self._armed = wanted, False
        opened = sum(each in self._arrived for each in fresh)
        return {"opened": opened, "opened_s": opened_s, "lost": self._lost(self._healthy)}

    def _call(self, number: int, *, stalled: bool) -> tuple[int, int]:
        place = number % len(self._connections)
        if number % 100 == 0:
            # What has come in is read on the way, or both sides could wait for each other.
            self._pump(lambda: False, time.monotonic())
        return place, self._connections[place].call(self._path, self._request, stalled=stalled)

    def _lost(self, streams: set[tuple[int, int]]) -> int:
        return sum(stream not in self._connections[place].open for place, stream in streams)

    def _ends(self) -> list[tuple[str, int]]:
        """How streams that were to stay were ended, and how many so; the most frequent first."""
        ends = Counter(self._connections[place].ends.get(stream, "") for place, stream in self._healthy)
        return [(how, count) for how, count in ends.most_common() if how][:ENDS_SHOWN]

    def _told(self, which: tuple[int, int], message: bytes) -> None:
        self._heard = now = time.monotonic()
        if self._armed and which not in self._stalled and self._wanted in message:
            self._arrived.setdefault(which, now)

    def _pump(self, done: Callable[[], bool], until: float) -> None:
        while True:
            for key, _ in self._selector.select(max(0.0, min(0.1, until - time.monotonic()))):
                key.data()
            if done() or time.monotonic() >= until:
                return

    def _read_line(self) -> None:
        read = os.read(0, 65_536)
        *lines, self._input = (self._input + read).split(b"\n")
        self._lines += lines
        if not read:
            self._ended = True
            self._selector.unregister(0)


def main() -> None:
    """The argument is a JSON object: host, port, path, request in hexadecimal, connections, wanted."""
    crowd = Crowd(json.loads(sys.argv[1]))
    print("{}", flush=True)
    crowd.serve()


if __name__ == "__main__":
    main()
