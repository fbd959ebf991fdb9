"""Write HTTP/2 frames to a socket as no honest client would, and find a few things in what comes back."""

import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from tests.conformance.processes import HOST

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA: Final = 0x0
HEADERS: Final = 0x1
RST_STREAM: Final = 0x3
SETTINGS: Final = 0x4
PING: Final = 0x6
GOAWAY: Final = 0x7
WINDOW_UPDATE: Final = 0x8
CONTINUATION: Final = 0x9
END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
CANCEL: Final = struct.pack(">I", 8)
FRAME_BYTES_MAX: Final = 16_384
WINDOW_BYTES: Final = 65_535
TIMEOUT_S: Final = 30.0

_HEAD_BYTES: Final = 9


def frame(kind: int, payload: bytes = b"", *, stream: int = 0, flags: int = 0) -> bytes:
    """One frame. Source: RFC 9113 section 4.1."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def request_headers(path: str, *, encoding: str = "") -> bytes:
    """A gRPC request's header block: literals, nothing indexed. Source: RFC 7541 section 6.2.2."""
    block = b"\x83\x86\x04" + text(path) + b"\x01" + text("localhost")
    block += b"\x00" + text("te") + text("trailers") + b"\x00" + text("content-type") + text("application/grpc")
    return block + (b"\x00" + text("grpc-encoding") + text(encoding) if encoding else b"")


def text(value: str) -> bytes:
    """A short text as header blocks have them, not Huffman-coded. Source: RFC 7541 section 5.2."""
    raw = value.encode()
    assert len(raw) < 0x7F, "longer texts have a longer length"
    return bytes([len(raw)]) + raw


class Connection:
    """A connection that says what it is told to, and keeps count of what the server says."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection((HOST, port), TIMEOUT_S)
        self._unread = b""
        self.goaway = b""
        """The payload of the server's GOAWAY; b"" without one."""

        self.headers = b""
        """All header blocks of the server, as they came."""

        self.window_bytes = {0: WINDOW_BYTES, 1: WINDOW_BYTES}
        """What may be sent yet: in all, and on the first stream."""

        self.is_closed = False
        self._has_settings = False

    def __enter__(self) -> "Connection":
        self.send(PREFACE + frame(SETTINGS))
        # Their acknowledgement must not come between frames that belong together.
        until = time.monotonic() + TIMEOUT_S
        while not self._has_settings and not self.is_closed and time.monotonic() < until:
            self.read(wait_s=0.1)
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, raw: bytes) -> None:
        """Send bytes, and take in what the server has said meanwhile; a closed connection swallows them."""
        try:
            # Both sides would wait for ever if neither read.
            view = memoryview(raw)
            while view and not self.is_closed:
                self._socket.setblocking(False)
                with suppress(BlockingIOError):
                    view = view[self._socket.send(view) :]
                self.read(wait_s=0.01 if view else 0.0)
        except OSError:
            self.is_closed = True

    def read(self, *, wait_s: float) -> None:
        """Take in what the server says; waits for the first of it."""
        self._socket.settimeout(wait_s)
        with suppress(TimeoutError, BlockingIOError):
            while not self.is_closed:
                try:
                    part = self._socket.recv(1 << 16)
                except (ConnectionError, BrokenPipeError):
                    part = b""
                if not part:
                    self.is_closed = True
                self._unread += part
                self._socket.setblocking(False)
        for kind, flags, stream, payload in self._frames():
            self._take(kind, flags, stream=stream, payload=payload)

    def read_until_end(self, timeout_s: float) -> None:
        """Take in what the server says until it goes away, ends the first stream, or says nothing for too long."""
        until = time.monotonic() + timeout_s
        while not (self.goaway or self.is_closed or b"grpc-status" in self.headers) and time.monotonic() < until:
            self.read(wait_s=0.1)

    def _frames(self) -> Iterator[tuple[int, int, int, bytes]]:
        while len(self._unread) >= _HEAD_BYTES:
            end = _HEAD_BYTES + int.from_bytes(self._unread[:3], "big")
            if len(self._unread) < end:
                return
            kind, flags, stream = struct.unpack(">BBI", self._unread[3:_HEAD_BYTES])
            payload, self._unread = self._unread[_HEAD_BYTES:end], self._unread[end:]
            yield kind, flags, stream, payload

    def _take(self, kind: int, flags: int, *, stream: int, payload: bytes) -> None:
        if kind == GOAWAY:
            self.goaway = payload
        elif kind == HEADERS:
            self.headers += payload
        elif kind == WINDOW_UPDATE:
            self.window_bytes[stream] = self.window_bytes.get(stream, 0) + int.from_bytes(payload, "big")
        elif kind == SETTINGS and not flags & ACK:
            self._has_settings = True
            self._take_settings(payload)
            with suppress(OSError):
                self._socket.send(frame(SETTINGS, flags=ACK))

    def _take_settings(self, payload: bytes) -> None:
        for name, value in struct.iter_unpack(">HI", payload):
            if name == 0x4:
                self.window_bytes[1] += value - WINDOW_BYTES
