"""Ask an ASGI application without a server."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Message


@dataclass
class Reply:
    """What came back."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()


async def ask(
    app: ASGIApp, path: str, *, method: str = "GET", headers: Sequence[tuple[str, str]] = (), body: bytes = b""
) -> Reply:
    """Send one request and take its whole reply."""
    reply = Reply()

    asked: list[bytes] = []

    async def receive() -> Message:
        if asked:
            # A client that stays.
            await asyncio.Event().wait()
        asked.append(body)
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            reply.status = message["status"]
            reply.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            reply.body += message.get("body", b"")

    path, _, query = path.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers],
        "client": ("test", 1),
        "server": ("test", 80),
    }
    await app(scope, receive, send)
    return reply
