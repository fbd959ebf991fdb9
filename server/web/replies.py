"""Put together the answers that are sent over HTTP, and send them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from starlette.types import Send

HeaderLines: TypeAlias = tuple[tuple[bytes, bytes], ...]

JSON_TYPE: Final = (b"content-type", b"application/json")
RETRY_AFTER_S: Final = 1
"""Always in seconds: not every client reads a date."""

CLOSE: Final[HeaderLines] = ((b"connection", b"close"),)
"""For an answer to a request whose body was not read to its end."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One whole answer."""

    status: int
    body: bytes = b""
    headers: HeaderLines = ()
    """Beside content-type and content-length."""

    media_type: bytes = b"application/json"

    async def send(self, send: Send) -> None:
        """Send it."""
        headers = list(self.headers)
        if self.body:
            headers += [(b"content-type", self.media_type), (b"content-length", str(len(self.body)).encode())]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


def compact(value: Mapping[str, Any]) -> bytes:
    """JSON without spaces, in ASCII. Errors: ValueError for what JSON cannot say."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def failed(status: int, details: str, *, headers: HeaderLines = ()) -> Reply:
    """An answer that says only what went wrong, in the form of OFREP's own."""
    return Reply(status, compact({"errorDetails": details}), headers)


def try_later(details: str, *, after_s: int = RETRY_AFTER_S) -> Reply:
    """503: the same request may succeed in a moment."""
    return failed(503, details, headers=((b"retry-after", str(after_s).encode()),))
