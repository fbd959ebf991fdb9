"""Serve one constant reply over HTTP by Starlette and uvicorn, with the settings of the real server."""

import asyncio
import json
import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


def _application(reply: bytes) -> Starlette:
    async def handle(request: Request) -> Response:
        await request.body()
        return Response(reply, media_type="application/json")

    return Starlette(routes=[Route("/{path:path}", handle, methods=["POST"])])


async def _serve(reply: bytes) -> None:
    config = uvicorn.Config(
        _application(reply),
        host="127.0.0.1",
        port=0,
        http="h11",
        ws="none",
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        proxy_headers=False,
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    print(json.dumps({"grpc_port": 0, "http_port": port}), flush=True)
    await serving


def main() -> None:
    """The argument is the reply in hexadecimal."""
    reply = bytes.fromhex(sys.argv[1])
    try:
        import uvloop
    except ImportError:
        asyncio.run(_serve(reply))
    else:
        uvloop.run(_serve(reply))


if __name__ == "__main__":
    main()
