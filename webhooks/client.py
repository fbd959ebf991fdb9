"""Hold the connections that deliveries share: bounded, checked where each is opened, without cookies or redirects.

One client serves a process, on the loop that it was opened on.
"""

import asyncio
import concurrent.futures
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final
from weakref import WeakSet

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import Connection
from yarl import URL

from webhooks import limits
from webhooks.addresses import Allowed, host_socket_factory, socket_factory

_NEVER: Final = aiohttp.ClientTimeout(total=None, sock_connect=None)
"""The sender's own timeout covers all of an attempt; aiohttp's would be a second one, rounded up to whole seconds."""


@dataclass(slots=True)
class Progress:
    """How far an attempt came, written by the client as it goes."""

    connected: bool = False
    reused: bool = False
    """Whether its connection had carried an attempt before: it may have ended while it lay idle."""


PROGRESS: Final[ContextVar[Progress]] = ContextVar("progress")
"""Of the attempt that a task is making. The client's own traces could tell as much, at a tenth of an attempt's cost."""


@dataclass(frozen=True, slots=True)
class Client:
    """Sessions by whether the host was allowed by its name, and whether a new connection is wanted."""

    allowed: Allowed
    sessions: dict[tuple[bool, bool], aiohttp.ClientSession] = field(repr=False)

    def session(self, url: URL, *, fresh: bool = False) -> aiohttp.ClientSession:
        """What a URL is asked by; `fresh` is for a connection of its own."""
        return self.sessions[self.allowed.has_host(url.raw_host or ""), fresh]


class Names(AbstractResolver):
    """Looks names up in threads of its own: one that hangs takes nobody's thread but another name's."""

    def __init__(self) -> None:
        self._threads = concurrent.futures.ThreadPoolExecutor(limits.LOOKUPS_MAX, thread_name_prefix="hook-names")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of a name, by the system's resolver. Errors: OSError."""
        found = await asyncio.get_running_loop().run_in_executor(self._threads, _look_up, host, port, family)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=each,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for each, address in found
        ]

    async def close(self) -> None:
        """Wait for nobody: a lookup cannot be stopped, and ends by the resolver's own timeout."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class _Certain(AbstractResolver):
    """Takes no addresses for an error, which the client would not survive."""

    def __init__(self, names: AbstractResolver) -> None:
        self._names = names

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._names.resolve(host, port, family)
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "no address")
        return found

    async def close(self) -> None:
        await self._names.close()


@asynccontextmanager
async def open_client(
    allowed: Allowed | None = None,
    *,
    ssl_context: ssl.SSLContext | None = None,
    resolver: AbstractResolver | None = None,
    connections: int = limits.CONNECTIONS_MAX,
    per_host: int = limits.CONNECTIONS_PER_HOST_MAX,
) -> AsyncIterator[Client]:
    """A client that reaches public addresses, and what the operator allowed.

    TLS is always verified; `ssl_context` is for operators with an authority of their own.
    """
    allowed = allowed if allowed is not None else Allowed()
    trusted = ssl_context if ssl_context is not None else ssl.create_default_context()
    async with AsyncExitStack() as stack:
        names = _Certain(resolver if resolver is not None else Names())
        stack.push_async_callback(names.close)
        sessions = {}
        for by_name, factory in ((False, socket_factory(allowed)), (True, host_socket_factory(allowed))):
            for fresh in (False, True):
                connector = _Connector(
                    ssl=trusted,
                    resolver=names,
                    socket_factory=factory,
                    limit=connections,
                    limit_per_host=per_host,
                    **({"force_close": True} if fresh else {"keepalive_timeout": limits.KEEP_ALIVE_S}),
                )
                sessions[by_name, fresh] = await stack.enter_async_context(_session(connector))
        yield Client(allowed, sessions)


def _session(connector: aiohttp.BaseConnector) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=_NEVER,
        trust_env=False,
        auto_decompress=False,
        read_bufsize=limits.ANSWER_BYTES_MAX,
    )


class _Connector(aiohttp.TCPConnector):
    """Writes into the Progress of whoever asks for a connection."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._used: WeakSet[Any] = WeakSet()

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Any], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        connection = await super().connect(req, traces, timeout)
        progress = PROGRESS.get()
        progress.connected = True
        progress.reused = connection.protocol in self._used
        self._used.add(connection.protocol)
        return connection


def _look_up(host: str, port: int, family: socket.AddressFamily) -> list[tuple[socket.AddressFamily, str]]:
    found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG)
    # Both families have their address first; the port is known.
    return [(each, str(target[0])) for each, _, _, _, target in found]
