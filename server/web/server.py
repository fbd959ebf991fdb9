"""Serve an application over HTTP on a socket of ours, by uvicorn, within bounds."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator, Mapping
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from server.web.access import CERTIFICATE

HTTP_KEEP_ALIVE_S: Final = 5
"""A connection without a request is kept for this long; balancers that keep theirs longer open a new one."""

HTTP_BACKLOG: Final = 1024
HTTP_CONNECTIONS_MAX: Final = 10_000
"""Event streams and requests together; what comes beyond is answered with 503, and healthy ones go on."""

HTTP_HEADER_BYTES_MAX: Final = 32 * 1024
"""The first line and all headers of a request: room for tokens and baggage."""

HTTP_END_S: Final = 5
"""Streams have been ended when this begins, so only answers in flight are waited for."""


class AddressUnavailable(OSError):
    """An address that cannot be listened on."""


def listen(host: str, port: int, *, reuse_port: bool) -> socket.socket:
    """A socket that listens, before anybody serves it. Errors: AddressUnavailable."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse_port:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((host, port))
        listener.listen(HTTP_BACKLOG)
    except OSError as error:
        listener.close()
        raise AddressUnavailable(
            f"cannot listen on {host}:{port} ({error.strerror}); is another server running there? Choose another port"
        ) from None
    return listener


class _Connection(H11Protocol):
    """A connection that tells requests by which names its client has proved itself."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        proved = transport.get_extra_info("ssl_object")
        certificate = None if proved is None else proved.getpeercert()
        if certificate:
            self.app_state = {**self.app_state, CERTIFICATE: names_of(certificate)}


def names_of(certificate: Mapping[str, Any]) -> list[str]:
    """The names in a verified certificate, as Python reads it: the alternative ones, then the common one."""
    alternative = [name for _, name in certificate.get("subjectAltName", ())]
    subject = [value for part in certificate.get("subject", ()) for kind, value in part if kind == "commonName"]
    return [*alternative, *subject]


class HttpServer(uvicorn.Server):
    """Uvicorn without its own handling of signals, which belong to the whole server."""

    def __init__(self, app: object, tls: ssl.SSLContext | None) -> None:
        super().__init__(
            uvicorn.Config(
                app,  # type: ignore[arg-type]  # Any ASGI application.
                ssl_context_factory=None if tls is None else lambda _config, _default: tls,
                # Named, so that what else is installed changes neither bounds nor behaviour.
                http=_Connection,
                ws="none",
                log_config=None,
                access_log=False,
                lifespan="off",
                server_header=False,
                # A client's address is nowhere used, so nobody need be trusted to name it.
                proxy_headers=False,
                limit_concurrency=HTTP_CONNECTIONS_MAX,
                h11_max_incomplete_event_size=HTTP_HEADER_BYTES_MAX,
                timeout_keep_alive=HTTP_KEEP_ALIVE_S,
                timeout_graceful_shutdown=HTTP_END_S,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield
