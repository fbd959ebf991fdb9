"""Let web pages of other origins ask, where the operator allows it."""

from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import urlsplit

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from server.core.errors import InvalidRequest

ANY: Final = "*"
MAX_AGE_S: Final = 600
"""How long a browser may keep the answer to a preflight."""

ALLOWED_HEADERS: Final = (
    "authorization", "content-type", "flagd-selector", "if-none-match", "x-api-key",
    "baggage", "traceparent", "tracestate",
)  # fmt: skip
EXPOSED_HEADERS: Final = ("ETag", "Retry-After")
"""Without these a page cannot evaluate conditionally, nor wait as long as it should."""


def cors(origins: Sequence[str], *, headers: Iterable[str]) -> Middleware:
    """The middleware that answers preflights. Shapes: headers are further names that a page may send."""
    return Middleware(
        CORSMiddleware,
        allow_origins=list(origins),
        allow_methods=["GET", "POST"],
        allow_headers=[*ALLOWED_HEADERS, *headers],
        expose_headers=list(EXPOSED_HEADERS),
        max_age=MAX_AGE_S,
    )


def parse_origin(text: str) -> str:
    """An origin as browsers write it, or `*` for all. Errors: InvalidRequest."""
    if text == ANY:
        return text
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc or text != f"{parts.scheme}://{parts.netloc}".lower():
        raise InvalidRequest(f"{text!r} is no origin; write https://app.example.com, without a path, or * for all")
    return text
