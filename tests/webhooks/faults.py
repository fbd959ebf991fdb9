"""Answer webhooks in every way that real receivers do, most of them wrong: one name a fault."""

import asyncio
import email.utils
import gzip
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

HUGE_BYTES: Final = 100_000_000
DRIP_S: Final = 0.05
"""Between two bytes of an answer that never gets done."""

_CHUNK = b"x" * 65_536


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it came. Shapes: header names in lower case; connection counts them from 1."""

    at: float
    path: str
    headers: Mapping[str, str]
    body: bytes
    connection: int
    method: str = "POST"

    @property
    def event_id(self) -> str:
        """Of its header."""
        return self.headers.get("webhook-id", "")


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request, and the connection to answer it by."""

    request: Received
    writer: asyncio.StreamWriter
    argument: str
    """What stands in the path behind the fault's name."""

    count: int
    """How many requests came for this path before, on any connection."""

    earlier: int
    """How many came on this connection before."""

    async def answer(self, status: int, *lines: str, body: bytes = b"ok") -> None:
        """One that is well-formed."""
        head = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", *lines, "", ""]
        await self.write("\r\n".join(head).encode() + body)

    async def write(self, raw: bytes) -> None:
        """Bytes as they are."""
        self.writer.write(raw)
        await self.writer.drain()


Fault = Callable[[Exchange], Awaitable[None]]


class Hangs(Exception):
    """Ends an exchange by a reset: what the other end sees of a process that was killed."""


async def _ok(exchange: Exchange) -> None:
    await exchange.answer(200)


async def _status(exchange: Exchange) -> None:
    body = b"" if exchange.argument in ("204", "304") else b"as you wish"
    await exchange.answer(int(exchange.argument), body=body)


async def _reset(_exchange: Exchange) -> None:
    raise Hangs


async def _close(exchange: Exchange) -> None:
    exchange.writer.close()


async def _silence(exchange: Exchange) -> None:
    await _until_it_leaves(exchange)


async def _slow(exchange: Exchange) -> None:
    await asyncio.sleep(float(exchange.argument))
    await exchange.answer(200)


async def _drip_head(exchange: Exchange) -> None:
    await exchange.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    await _drip(exchange)


async def _drip_body(exchange: Exchange) -> None:
    await exchange.write(
        b"HTTP/1.1 " + (exchange.argument or "200").encode() + b" OK\r\nContent-Length: 100000\r\n\r\n"
    )
    await _drip(exchange)


async def _huge(exchange: Exchange) -> None:
    await exchange.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % HUGE_BYTES)
    for _ in range(HUGE_BYTES // len(_CHUNK)):
        await exchange.write(_CHUNK)


async def _endless(exchange: Exchange) -> None:
    await exchange.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        await exchange.write(b"%x\r\n%b\r\n" % (len(_CHUNK), _CHUNK))


async def _gzip_bomb(exchange: Exchange) -> None:
    await exchange.answer(200, "Content-Encoding: gzip", body=gzip.compress(bytes(10_000_000)))


async def _huge_head(exchange: Exchange) -> None:
    await exchange.write(b"HTTP/1.1 200 OK\r\nX-Huge: " + _CHUNK + b"\r\nContent-Length: 0\r\n\r\n")


async def _many_headers(exchange: Exchange) -> None:
    lines = [f"X-Many-{number}: 1" for number in range(10_000)]
    await exchange.answer(200, *lines)


async def _garbage(exchange: Exchange) -> None:
    await exchange.write(b"\x00\xff<html>secret-of-the-receiver</html>\r\n\r\n")
    exchange.writer.close()


async def _http_09(exchange: Exchange) -> None:
    await exchange.write(b"It works!\n")
    exchange.writer.close()


async def _short_body(exchange: Exchange) -> None:
    await exchange.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nshort")
    exchange.writer.close()


async def _long_body(exchange: Exchange) -> None:
    await exchange.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")


async def _bad_length(exchange: Exchange) -> None:
    await exchange.write(b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\nok")


async def _continues(exchange: Exchange) -> None:
    while True:
        await exchange.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)
        await asyncio.sleep(DRIP_S)


async def _hinted(exchange: Exchange) -> None:
    await exchange.write(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
    await exchange.answer(200)


async def _redirect(exchange: Exchange) -> None:
    status, _, target = exchange.argument.partition("/")
    where = {
        "self": exchange.request.path,
        "metadata": "http://169.254.169.254/latest/meta-data/",
    }.get(target, f"/{target}")
    await exchange.answer(int(status), f"Location: {where}")


async def _retry_after(exchange: Exchange) -> None:
    status, _, what = exchange.argument.partition("/")
    later = email.utils.formatdate(time.time() + 120, usegmt=True)
    text = {"date": later, "absurd": "9" * 500, "garbage": "soon", "negative": "-5"}.get(what, what)
    await exchange.answer(int(status), *([f"Retry-After: {text}"] if text else []))


async def _flap(exchange: Exchange) -> None:
    await exchange.answer(200 if exchange.count % 2 else int(exchange.argument or "500"))


async def _odd(exchange: Exchange) -> None:
    """Refuses every message's odd attempts, so that none is refused twice in a row, whatever comes beside it."""
    attempt = int(exchange.request.headers.get("webhook-attempt", "0"))
    await exchange.answer(int(exchange.argument or "500") if attempt % 2 else 200)


async def _stale(exchange: Exchange) -> None:
    """Answers one request on each connection, and ends it when the next one is there, as late as can be."""
    if exchange.earlier:
        exchange.writer.close()
    else:
        await exchange.answer(200)


async def _at_work(exchange: Exchange) -> None:
    """Answers one request on each connection; with the next it is busy for so long, and then ends it."""
    if exchange.earlier:
        await asyncio.sleep(float(exchange.argument))
        exchange.writer.close()
    else:
        await exchange.answer(200)


async def _dies(exchange: Exchange) -> None:
    await exchange.answer(200)
    raise Hangs


async def _control(exchange: Exchange) -> None:
    what, _, status = exchange.argument.partition("/")
    await exchange.answer(int(status or "200"), f"Webhook-Delivery: {what}")


async def _echo(exchange: Exchange) -> None:
    """Says back what it was sent, with whatever is secret in it."""
    text = json.dumps({"path": exchange.request.path, **exchange.request.headers})
    await exchange.answer(400, body=text.encode())


async def _cookie(exchange: Exchange) -> None:
    await exchange.answer(200, "Set-Cookie: id=1; Path=/")


FAULTS: Final[dict[str, Fault]] = {
    "at-work": _at_work,
    "bad-length": _bad_length,
    "close": _close,
    "continues": _continues,
    "control": _control,
    "cookie": _cookie,
    "dies": _dies,
    "drip-body": _drip_body,
    "drip-head": _drip_head,
    "echo": _echo,
    "endless": _endless,
    "flap": _flap,
    "garbage": _garbage,
    "gzip-bomb": _gzip_bomb,
    "hinted": _hinted,
    "http-09": _http_09,
    "huge": _huge,
    "huge-head": _huge_head,
    "long-body": _long_body,
    "many-headers": _many_headers,
    "odd": _odd,
    "ok": _ok,
    "redirect": _redirect,
    "reset": _reset,
    "retry-after": _retry_after,
    "short-body": _short_body,
    "silence": _silence,
    "slow": _slow,
    "stale": _stale,
    "status": _status,
}
"""By the first part of a path; what stands behind it is the fault's argument."""


async def _drip(exchange: Exchange) -> None:
    while True:
        await exchange.write(b"x")
        await asyncio.sleep(DRIP_S)


async def _until_it_leaves(exchange: Exchange) -> None:
    while not exchange.writer.transport.is_closing():
        await asyncio.sleep(DRIP_S)
