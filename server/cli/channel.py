"""Open a gRPC channel to a server as an operator describes it: address, token, TLS."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from server.core.errors import InvalidRequest

if TYPE_CHECKING:
    import grpc

DEFAULT_SERVER: Final = "localhost:8013"
DEFAULT_PORT: Final = 8013
DEFAULT_TIMEOUT_S: Final = 60.0

MESSAGE_BYTES_MAX: Final = 128 * 1024 * 1024
"""An exported environment comes in one message."""


@dataclass(frozen=True, slots=True)
class Target:
    """A server, and what it is told of its client."""

    address: str
    tls: bool = False
    tls_ca: Path | None = None
    """Who signs the server's certificate, PEM; None: the authorities that gRPC knows."""

    client_certificate: Path | None = None
    client_key: Path | None = None
    token: str = ""
    timeout_s: float = DEFAULT_TIMEOUT_S
    """For each call with one answer."""

    @property
    def is_here(self) -> bool:
        """Whether what is sent stays on this machine."""
        host = self.address.rpartition(":")[0].strip("[]")
        return self.address.startswith("unix:") or host in ("localhost", "::1") or host.startswith("127.")


def read_address(text: str) -> tuple[str, bool]:
    """HOST:PORT as gRPC takes it, and whether it asks for TLS. Errors: InvalidRequest."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "", text
    if scheme not in ("", "http", "https"):
        raise InvalidRequest(f"server {text!r} begins with {scheme}://; expected HOST:PORT or https://HOST:PORT")
    if rest.startswith("unix:"):
        return rest, False
    address = rest.removesuffix("/")
    if not address or not set(address).isdisjoint("/ "):
        raise InvalidRequest(f"server {text!r} is not HOST:PORT, such as {DEFAULT_SERVER}")
    # The colons of an IPv6 address stand in brackets.
    if ":" not in address.rpartition("]")[2]:
        address = f"{address}:{DEFAULT_PORT}"
    return address, scheme == "https"


def read_token(text: str) -> str:
    """A token out of a file or a variable. Errors: InvalidRequest, without the token, when it cannot be one."""
    token = text.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise InvalidRequest("the token is not one line of visible ASCII characters without spaces")
    return token


def open_channel(target: Target) -> "grpc.Channel":
    """Connect when the first call is made; each call carries the token, and a deadline if it has one answer.

    Errors: InvalidRequest when a file for TLS cannot be used.
    """
    import grpc

    options = [("grpc.max_receive_message_length", MESSAGE_BYTES_MAX), ("grpc.max_send_message_length", -1)]
    if target.tls:
        channel = grpc.secure_channel(target.address, _credentials(target), options)
    else:
        channel = grpc.insecure_channel(target.address, options)
    return grpc.intercept_channel(channel, _telling(target))


def _credentials(target: Target) -> "grpc.ChannelCredentials":
    import grpc

    if (target.client_certificate is None) != (target.client_key is None):
        raise InvalidRequest("--tls-client-cert and --tls-client-key belong together; one of them is missing")
    return grpc.ssl_channel_credentials(
        _bytes(target.tls_ca), _bytes(target.client_key), _bytes(target.client_certificate)
    )


def _bytes(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidRequest(f"cannot read {path}: {error.strerror or error}") from None


def _telling(target: Target) -> Any:
    """An interceptor that adds the token and the deadline."""
    import grpc

    class Details(grpc.ClientCallDetails):
        def __init__(self, given: Any, timeout_s: float | None) -> None:
            proof = [("authorization", f"Bearer {target.token}")] if target.token else []
            self.method = given.method
            self.timeout = given.timeout if given.timeout is not None else timeout_s
            self.metadata = (*(given.metadata or ()), *proof)
            self.credentials = given.credentials
            self.wait_for_ready = given.wait_for_ready
            self.compression = given.compression

    class Telling(
        grpc.UnaryUnaryClientInterceptor,  # type: ignore[type-arg]  # Generic for mypy alone.
        grpc.UnaryStreamClientInterceptor,  # type: ignore[type-arg]  # Generic for mypy alone.
        grpc.StreamUnaryClientInterceptor,  # type: ignore[type-arg]  # Generic for mypy alone.
        grpc.StreamStreamClientInterceptor,  # type: ignore[type-arg]  # Generic for mypy alone.
    ):
        def intercept_unary_unary(self, go_on: Callable[..., Any], details: Any, request: Any) -> Any:
            return go_on(Details(details, target.timeout_s), request)

        def intercept_unary_stream(self, go_on: Callable[..., Any], details: Any, request: Any) -> Any:
            return go_on(Details(details, None), request)

        def intercept_stream_unary(self, go_on: Callable[..., Any], details: Any, requests: Any) -> Any:
            return go_on(Details(details, None), requests)

        def intercept_stream_stream(self, go_on: Callable[..., Any], details: Any, requests: Any) -> Any:
            return go_on(Details(details, None), requests)

    return Telling()
