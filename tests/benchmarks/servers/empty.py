"""Serve constant replies over grpc.aio, with the options and the loop of the real server and nothing else."""

import asyncio
import json
import sys
from typing import Any

import grpc
import grpc.aio

from server.rpc.doors.grpcio import server_options


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    def __init__(self, replies: dict[str, bytes]) -> None:
        self._methods = {path: grpc.unary_unary_rpc_method_handler(_constant(reply)) for path, reply in replies.items()}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return self._methods.get(handler_call_details.method)


def _constant(reply: bytes) -> Any:
    async def handle(_request: bytes, _context: Any) -> bytes:
        return reply

    return handle


async def _serve(replies: dict[str, bytes]) -> None:
    server = grpc.aio.server(handlers=[_Handlers(replies)], options=server_options())
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(json.dumps({"grpc_port": port}), flush=True)
    await server.wait_for_termination()


def main() -> None:
    """The argument is a JSON object: path -> reply in hexadecimal."""
    replies = {path: bytes.fromhex(reply) for path, reply in json.loads(sys.argv[1]).items()}
    try:
        import uvloop
    except ImportError:
        asyncio.run(_serve(replies))
    else:
        uvloop.run(_serve(replies))


if __name__ == "__main__":
    main()
