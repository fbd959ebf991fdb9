"""Read what a client sent over HTTP, no more of it than the bounds allow."""

import asyncio
from typing import Final, TypeAlias

from starlette.types import Receive, Scope

BODY_BYTES_MAX: Final = 1024 * 1024
"""A request's body; flagd's own bound."""

BODY_DISCARDED_BYTES_MAX: Final = 4 * BODY_BYTES_MAX
"""Of a body that is too large, this much is read and thrown away: who still writes does not see the answer."""

BODY_TIMEOUT_S: Final = 10.0
"""A body that takes longer to arrive is not waited for."""

_JSON: Final = b"application/json"

Headers: TypeAlias = dict[bytes, bytes]
"""Values by name in lower case; of two of one name, the later."""


class Refused(Exception):
    """End a request with a status before anything was evaluated."""

    def __init__(self, status: int, details: str) -> None:
        super().__init__(details)
        self.status = status
        self.details = details


def headers_of(scope: Scope) -> Headers:
    """A request's headers."""
    return dict(scope["headers"])


def text_header(headers: Headers, name: str) -> str | None:
    """The text of a header by its name in lower case; None when it was not sent."""
    value = headers.get(name.encode("latin-1"))
    return None if value is None else value.decode("latin-1")


def check_says_json(headers: Headers) -> None:
    """Refuse a body that does not say that it is JSON. Errors: Refused 415.

    A page of another origin can have a browser send any body without asking first, but none that says so.
    """
    if b"content-type" not in headers:
        raise Refused(415, "the body has no Content-Type; send application/json")
    check_is_json(headers)


def check_is_json(headers: Headers) -> None:
    """Refuse a body that says it is something else. One that does not say is taken for JSON. Errors: Refused 415."""
    given = headers.get(b"content-type")
    if given is None or given == _JSON:
        return
    media_type, _, parameters = given.lower().partition(b";")
    media_type = media_type.strip()
    if media_type != _JSON and not (media_type.startswith(b"application/") and media_type.endswith(b"+json")):
        raise Refused(415, "the body has another Content-Type than application/json; send JSON and say so")
    if b"charset" in parameters and b"utf-8" not in parameters:
        raise Refused(415, "the body has another charset than UTF-8, which JSON is written in")


async def read_body(headers: Headers, receive: Receive) -> bytes:
    """The whole body. Errors: Refused 413 when it is too large, 408 when it takes too long, 400 when it breaks off."""
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return await _read(headers, receive)
    except TimeoutError:
        raise Refused(408, f"the body did not arrive within {BODY_TIMEOUT_S:.0f} s; send it again") from None


async def _read(headers: Headers, receive: Receive) -> bytes:
    declared = headers.get(b"content-length", b"")
    # HTTP's parser has refused a length that is no number.
    if declared.isdigit() and int(declared) > BODY_BYTES_MAX:
        await _discard(receive, 0)
        raise _too_large()
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        return _checked(message.get("body", b""))
    parts: list[bytes] = []
    body_bytes = 0
    while message["type"] == "http.request":
        part = message.get("body", b"")
        body_bytes += len(part)
        if body_bytes > BODY_BYTES_MAX:
            if message.get("more_body", False):
                await _discard(receive, body_bytes)
            raise _too_large()
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)
        message = await receive()
    raise Refused(400, "the body broke off")


def _checked(body: bytes) -> bytes:
    if len(body) > BODY_BYTES_MAX:
        raise _too_large()
    return body


async def _discard(receive: Receive, read_bytes: int) -> None:
    while read_bytes <= BODY_DISCARDED_BYTES_MAX:
        message = await receive()
        read_bytes += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body", False):
            return


def _too_large() -> Refused:
    return Refused(413, f"the body has more than {BODY_BYTES_MAX} bytes, the most that is read")
