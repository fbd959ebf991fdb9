"""Hold every address to its rate over HTTP too: 429 with Retry-After, before anything else is done for a request."""

from math import ceil
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from server.core.errors import Limited
from server.operations.pace import Paces
from server.web.replies import Reply, failed

UNLIMITED: Final = frozenset({"/healthz", "/readyz"})
"""Asked by balancers, which stand before many clients."""


def limited(app: ASGIApp, paces: Paces) -> ASGIApp:
    """The same application; itself where there is no rate."""
    if paces.per_address is None:
        return app

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in UNLIMITED:
            client = scope.get("client")
            try:
                paces.require_address(client[0] if client else "", lambda: _forwarded(scope))
            except Limited as error:
                await too_many(error).send(send)
                return
        await app(scope, receive, send)

    return serve


def too_many(error: Limited) -> Reply:
    """429, with whole seconds: not every client reads a date."""
    return failed(429, str(error), headers=((b"retry-after", str(max(1, ceil(error.retry_after_s))).encode()),))


def _forwarded(scope: Scope) -> list[str]:
    return [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
