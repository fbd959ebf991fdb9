"""Receive webhooks as badly as real receivers do: one path a fault, over raw sockets.

It keeps what it received, and can append it to a ledger on disk before it answers, so that a proof knows what arrived
whoever was killed meanwhile. `python -m tests.webhooks.receiver --ledger FILE` runs it as a process of its own and
prints its URL.
"""

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import socket
import ssl
import struct
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.webhooks.faults import FAULTS, Exchange, Hangs, Received


@dataclass
class Ledger:
    """What arrived, on disk before it is answered; requests that come together share a write."""

    path: Path
    _lines: list[str] = field(default_factory=list)
    _written: asyncio.Future[None] | None = None

    async def append(self, received: Received) -> None:
        """Returns when it is durable."""
        self._lines.append(
            json.dumps(
                {
                    "at": received.at,
                    "path": received.path,
                    "id": received.event_id,
                    "attempt": received.headers.get("webhook-attempt", ""),
                    "timestamp": received.headers.get("webhook-timestamp", ""),
                    "signature": received.headers.get("webhook-signature", ""),
                    "sha256": hashlib.sha256(received.body).hexdigest(),
                    "body": received.body.decode("utf-8", "replace"),
                }
            )
        )
        if self._written is None:
            self._written = asyncio.ensure_future(self._write())
        await asyncio.shield(self._written)

    async def _write(self) -> None:
        # After all that is ready to run: what it brings goes into the same write.
        await asyncio.sleep(0)
        lines, self._lines, self._written = self._lines, [], None
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(line + "\n" for line in lines))
            file.flush()
            os.fsync(file.fileno())


@dataclass
class Receiver:
    """A server whose answers are as bad as the path says; see tests/webhooks/faults.py."""

    ledger: Ledger | None = None
    keep: bool = True
    """Whether requests are kept in memory."""

    see: Callable[[Received], None] | None = None
    """Told of each request before it is answered."""

    requests: list[Received] = field(default_factory=list)
    connections: int = 0
    at_once_max: int = 0
    """The most requests that were being answered at the same time."""

    _at_once: int = 0
    _counts: Counter[str] = field(default_factory=Counter)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until either end is tired of it."""
        self.connections += 1
        number, earlier = self.connections, 0
        try:
            while not writer.is_closing():
                request = await _read(reader, number)
                if request is None:
                    return
                await self._exchange(request, writer, earlier)
                earlier += 1
        except Hangs:
            _reset_at_once(writer)
        except (ConnectionError, ssl.SSLError):
            return
        finally:
            writer.close()

    async def _exchange(self, request: Received, writer: asyncio.StreamWriter, earlier: int) -> None:
        if self.keep:
            self.requests.append(request)
        if self.see is not None:
            self.see(request)
        if self.ledger is not None:
            await self.ledger.append(request)
        name, _, argument = request.path.lstrip("/").partition("?")[0].partition("/")
        count = self._counts[request.path]
        self._counts[request.path] += 1
        self._at_once += 1
        self.at_once_max = max(self.at_once_max, self._at_once)
        try:
            await FAULTS[name](Exchange(request, writer, argument, count, earlier))
        finally:
            self._at_once -= 1


@contextlib.asynccontextmanager
async def receiving(receiver: Receiver, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve on a free port of the loopback address, which is what this gives."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await receiver.serve(reader, writer)
        except asyncio.CancelledError:
            # The test is over; the streams' own callback would report it.
            pass
        finally:
            tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls, backlog=1_024)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


@contextlib.contextmanager
def refusing() -> Iterator[int]:
    """A port where nobody listens, and that nobody else gets meanwhile."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@contextlib.contextmanager
def unanswering() -> Iterator[int]:
    """A port whose queue is full: a connection to it is neither made nor refused, as behind a firewall that drops."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            held = stack.enter_context(socket.socket())
            held.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                held.connect(listener.getsockname())
        yield listener.getsockname()[1]


async def _read(reader: asyncio.StreamReader, connection: int) -> Received | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:]) if name}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    except asyncio.IncompleteReadError:
        return None
    return Received(time.time(), path, headers, body, connection, method)


def _reset_at_once(writer: asyncio.StreamWriter) -> None:
    raw: socket.socket | None = writer.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _main(ledger: str) -> None:
    receiver = Receiver(Ledger(Path(ledger)) if ledger else None, keep=False)
    async with receiving(receiver) as port:
        print(f"http://127.0.0.1:{port}", flush=True)
        # Its starter holds the other end: it ends with it, however that ends.
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ledger", default="", help="append what arrives to this file, before it is answered")
    asyncio.run(_main(parser.parse_args().ledger))
