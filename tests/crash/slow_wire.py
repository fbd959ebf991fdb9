"""Stand between a server and its database, and be as slow as is wanted."""

import contextlib
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Final

_HOST: Final = "127.0.0.1"
_CHUNK_BYTES: Final = 65_536


class SlowWire:
    """A port that leads to another one; what passes is held back for `delay_s`, in both directions."""

    def __init__(self, target_port: int) -> None:
        self._target = (_HOST, target_port)
        self._listener = socket.create_server((_HOST, 0))
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.delay_s = 0.0
        self.connection_count = 0
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no connections any more, and cut those that there are."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for each in self._open:
                _end(each)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connection_count += 1
            try:
                server = socket.create_connection(self._target, timeout=5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            with self._lock:
                self._open |= {client, server}
            for one, other in ((client, server), (server, client)):
                _Pipe(self, one, other).start()


class _Pipe:
    """One direction of one connection."""

    def __init__(self, wire: SlowWire, source: socket.socket, sink: socket.socket) -> None:
        self._wire, self._source, self._sink = wire, source, sink
        self._held: deque[tuple[float, bytes]] = deque()
        self._more = threading.Condition()

    def start(self) -> None:
        """Read at once, so that the sender never waits; write when it is time."""
        for work in (self._read, self._write):
            threading.Thread(target=work, daemon=True).start()

    def _read(self) -> None:
        data = b"."
        while data:
            try:
                data = self._source.recv(_CHUNK_BYTES)
            except OSError:
                data = b""
            with self._more:
                self._held.append((time.monotonic(), data))
                self._more.notify()

    def _write(self) -> None:
        for data in self._due():
            try:
                self._sink.sendall(data)
            except OSError:
                break
        _end(self._sink)
        _end(self._source)

    def _due(self) -> Iterator[bytes]:
        while True:
            with self._more:
                while not self._held:
                    self._more.wait()
                came_at, data = self._held.popleft()
            if not data:
                return
            # Asked again and again: a wire that is quick again holds nothing back any more.
            while time.monotonic() < came_at + self._wire.delay_s:
                time.sleep(0.02)
            yield data


def _end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
