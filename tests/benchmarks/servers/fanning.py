"""Serve streams over grpc.aio that all write one constant message whenever SIGUSR1 comes, and do nothing else."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio

from server.rpc.doors.grpcio import server_options


class _Streams(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    def __init__(self, first: bytes, later: bytes) -> None:
        self._first, self._later = first, later
        self._next = asyncio.get_running_loop().create_future()
        self._count = 0
        self._method = grpc.unary_stream_rpc_method_handler(self._serve)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return self._method

    def wake(self) -> None:
        """Let every stream write."""
        self._count += 1
        woken, self._next = self._next, asyncio.get_running_loop().create_future()
        woken.set_result(None)

    async def _serve(self, _request: bytes, _context: Any) -> AsyncIterator[bytes]:
        told = self._count
        yield self._first
        while True:
            # Not for a stream that was still writing when the signal came.
            if told == self._count:
                # Shielded: a stream that is cancelled must not cancel what the others wait for.
                await asyncio.shield(self._next)
            told = self._count
            yield self._later


async def _serve(first: bytes, later: bytes) -> None:
    streams = _Streams(first, later)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, streams.wake)
    server = grpc.aio.server(handlers=[streams], options=server_options())
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(json.dumps({"grpc_port": port}), flush=True)
    await server.wait_for_termination()


def main() -> None:
    """The arguments are a stream's first message and the later ones, in hexadecimal."""
    first, later = map(bytes.fromhex, sys.argv[1:3])
    try:
        import uvloop
    except ImportError:
        asyncio.run(_serve(first, later))
    else:
        uvloop.run(_serve(first, later))


if __name__ == "__main__":
    main()
