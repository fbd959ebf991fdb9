"""Make one attempt of a delivery, and say what came of it.

The attempt has one timeout for all of it: name, connection, handshake, sending, answer. What decides is the answer's
status alone; its body is read up to a bound, for people to look at. Nothing is followed, unpacked or kept. Whatever a
receiver does is an outcome and no error.
"""

import asyncio
import os
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from webhooks import limits, signing
from webhooks.backoff import RETRY_AFTER_STATUSES
from webhooks.client import PROGRESS, Client, Progress
from webhooks.errors import AddressRefused, WebhookError
from webhooks.redaction import hide

CONTROL_HEADER: Final = "webhook-delivery"
"""An answer's header by which a receiver asks for less. Source: docs.svix.com, delivery control."""

DISABLE: Final = "disable"
ABORT: Final = "abort-message"
ATTEMPT_HEADER: Final = "webhook-attempt"
USER_AGENT: Final = "Flagstaff-Webhooks/1.0"

_GONE = 410


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One attempt, ready to be sent.

    Shapes: keys may be empty, for a receiver that knows us by its URL or a header; attempt counts from 1. Of headers
    those of the library's own names are not sent.
    """

    url: str = field(repr=False)
    body: bytes = field(repr=False)
    event_id: str
    attempt: int
    timeout_s: float
    keys: tuple[signing.Key, ...] = ()
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    method: str = "POST"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an attempt; no text of it holds a secret of the endpoint.

    Shapes: status_code is None when there was no answer; error is "" when it arrived; retry_after is the header as it
    came, when the status may have one; snippet is the text of an answer that is a failure, up to a bound; body is any
    answer's as bytes, which may repeat what it was sent. Units: took_ms of the whole attempt.
    """

    status_code: int | None = None
    error: str = ""
    retry_after: str | None = None
    gone: bool = False
    disable: bool = False
    abort: bool = False
    took_ms: int = 0
    snippet: str = ""
    body: bytes = field(default=b"", repr=False)

    @property
    def arrived(self) -> bool:
        """Whether the receiver took it: it answered 2xx."""
        return not self.error


async def send(client: Client, outgoing: Outgoing, *, now: float) -> Outcome:
    """Send it once and wait for the answer, timeout_s at most.

    Units: now in Unix seconds; it is signed with the message, so each attempt needs its own.
    """
    loop = asyncio.get_running_loop()
    started = loop.time()
    progress = Progress()
    PROGRESS.set(progress)
    try:
        async with asyncio.timeout(outgoing.timeout_s):
            answer = await _ask(client, outgoing, progress, now=now)
    except TimeoutError:
        waited_for = "answer" if progress.connected else "connection"
        answer = _Answer(error=f"no {waited_for} within {outgoing.timeout_s:g} s")
    except (aiohttp.ClientError, OSError, ValueError, WebhookError) as error:
        answer = _Answer(error=_mishap(error, outgoing))
    return _outcome(answer, outgoing, took_ms=round((loop.time() - started) * 1_000))


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    error: str = ""


async def _ask(client: Client, outgoing: Outgoing, progress: Progress, *, now: float) -> _Answer:
    url = URL(outgoing.url)
    headers = _headers(outgoing, int(now))
    loop = asyncio.get_running_loop()
    stale_until = loop.time() + limits.STALE_S
    try:
        return await _ask_once(client.session(url), url, headers, outgoing)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
        # A receiver may end a connection that lay idle just when we use it again, and that says nothing of the
        # receiver. Asking once more, by a new connection, cannot do what the schedule would not: without an answer
        # the message would be sent again in any case, only later and as a failure that people would look into.
        # One that ended later than a refusal takes to arrive was not stale: somebody was at work on it.
        if not progress.reused or loop.time() > stale_until:
            raise
    progress.connected = progress.reused = False
    return await _ask_once(client.session(url, fresh=True), url, headers, outgoing)


async def _ask_once(session: aiohttp.ClientSession, url: URL, headers: CIMultiDict[str], outgoing: Outgoing) -> _Answer:
    answer = await session.request(outgoing.method, url, data=outgoing.body, headers=headers, allow_redirects=False)
    try:
        body = await _body(answer)
        return _Answer(answer.status, answer.headers, body)
    finally:
        # One that is read to its end goes back to the pool; any other is closed, not drained.
        answer.close()


async def _body(answer: aiohttp.ClientResponse) -> bytes:
    """The answer's first bytes, as far as they come soon. That they do not changes nothing: its status has come."""
    content = answer.content
    if content.is_eof():
        return content.read_nowait()[: limits.ANSWER_BYTES_MAX]
    found = b""
    try:
        async with asyncio.timeout(limits.ANSWER_BODY_S):
            while len(found) < limits.ANSWER_BYTES_MAX and not content.at_eof():
                found += await content.readany()
    except (TimeoutError, aiohttp.ClientError, OSError):
        pass
    return found[: limits.ANSWER_BYTES_MAX]


def _headers(outgoing: Outgoing, timestamp: int) -> CIMultiDict[str]:
    """The endpoint's own, and over them those that the message is known by."""
    if outgoing.keys:
        known = signing.headers(outgoing.event_id, timestamp, outgoing.body, keys=outgoing.keys)
    else:
        known = {signing.ID_HEADER: outgoing.event_id, signing.TIMESTAMP_HEADER: str(timestamp)}
    ours = known | {
        "Content-Type": outgoing.content_type,
        # A body that is packed could be a thousand times what it says.
        "Accept-Encoding": "identity",
        ATTEMPT_HEADER: str(outgoing.attempt),
        "User-Agent": USER_AGENT,
    }
    if not outgoing.headers:
        return CIMultiDict(ours)
    headers = CIMultiDict(outgoing.headers)
    for name in _OURS:
        headers.popall(name, None)
    if "User-Agent" in headers:
        del ours["User-Agent"]
    headers.update(ours)
    return headers


_OURS: Final = (
    signing.ID_HEADER,
    signing.TIMESTAMP_HEADER,
    signing.SIGNATURE_HEADER,
    ATTEMPT_HEADER,
    "Connection",
    "Content-Length",
    "Expect",
    "Host",
    "Keep-Alive",
    "Proxy-Authorization",
    "TE",
    "Trailer",
    "Transfer-Encoding",
    "Upgrade",
)
"""Headers that frame a request or say what is signed; an endpoint's of these names are not sent."""


def _outcome(answer: _Answer, outgoing: Outgoing, *, took_ms: int) -> Outcome:
    if answer.status is None:
        return Outcome(error=answer.error, took_ms=took_ms)
    error = _refusal(answer.status)
    control = answer.headers.get(CONTROL_HEADER, "").strip().lower()
    retry_after = answer.headers.get("Retry-After") if answer.status in RETRY_AFTER_STATUSES else None
    return Outcome(
        status_code=answer.status,
        error=error,
        retry_after=retry_after[: limits.RETRY_AFTER_CHARS_MAX] if retry_after is not None else None,
        gone=answer.status == _GONE,
        disable=control == DISABLE,
        abort=control == ABORT,
        took_ms=took_ms,
        snippet=_snippet(answer, outgoing) if error else "",
        body=answer.body,
    )


def _refusal(status: int) -> str:
    if 200 <= status < 300:
        return ""
    if 300 <= status < 400:
        return f"answered {status}, and redirects are not followed: give the endpoint the URL that it leads to"
    return f"answered {status}"


def _snippet(answer: _Answer, outgoing: Outgoing) -> str:
    if not answer.body or answer.headers.get("Content-Encoding", "identity") != "identity":
        return ""
    text = answer.body.decode("utf-8", "replace")
    plain = "".join(char if char.isprintable() or char in "\n\t" else " " for char in text)
    return hide(plain, url=outgoing.url, headers=outgoing.headers)


def _mishap(error: Exception, outgoing: Outgoing) -> str:
    """What went wrong, in our words: those of the libraries may hold the URL, a header or what the receiver sent."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"its host's name could not be resolved: {_reason(error.os_error)}"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        cause = error.certificate_error
        return f"its certificate is not trusted: {getattr(cause, 'verify_message', '') or 'it does not fit its host'}"
    if isinstance(error, aiohttp.ClientConnectorSSLError | ssl.SSLError):
        return "the TLS handshake failed"
    if isinstance(error, aiohttp.ClientConnectorError):
        return _unconnected(error.os_error)
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the connection was closed before an answer"
    if isinstance(error, aiohttp.ClientResponseError | aiohttp.ClientPayloadError):
        return "what came is no HTTP answer, or its head is longer than is read"
    if isinstance(error, OSError | aiohttp.ClientConnectionError):
        return f"the connection broke before an answer: {_reason(error)}"
    return f"it cannot be sent as it is set: {type(error).__name__}; look at the endpoint's URL, headers and secrets"


def _unconnected(error: OSError) -> str:
    if isinstance(error, AddressRefused):
        return "its host's address is not public, and nothing is sent there unless the server's operator allows it"
    if isinstance(error, ConnectionError) and error.errno is None:
        # Both event loops say so of a connection that was made and ended before it was secure.
        return "the TLS handshake failed"
    if error.errno is None:
        return "none of its host's addresses could be connected to; those that are not public are not tried"
    return f"no connection: {_reason(error)}"


def _reason(error: BaseException) -> str:
    """What the system calls it."""
    if isinstance(error, socket.gaierror):
        return (error.strerror or "no answer").lower()
    number = getattr(error, "errno", None)
    return os.strerror(number).lower() if isinstance(number, int) and number > 0 else "it was closed"
