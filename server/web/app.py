"""Serve HTTP: whether the process lives and whether it can evaluate."""

from collections.abc import Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from server.live.holder import Holder


def make_app(holder: Holder, *, leaving: Callable[[], bool]) -> Starlette:
    """The ASGI application over what `holder` serves; `leaving` tells whether the server is about to stop."""

    async def healthz(_request: Request) -> Response:
        """The process answers."""
        return JSONResponse({"status": "ok"})

    async def readyz(_request: Request) -> Response:
        """Flags can be evaluated: 200, else 503. Says also which revisions, and since when they are stale."""
        serving = holder.serving
        ready = holder.ready and not leaving()
        body = {
            "ready": ready,
            "flagSets": {
                name: {"revision": each.revision, "flags": len(each.flags)} for name, each in serving.snapshots.items()
            },
            "staleSince": serving.stale_since,
        }
        return JSONResponse(body, status_code=200 if ready else 503)

    return Starlette(routes=[Route("/healthz", healthz), Route("/readyz", readyz)])
