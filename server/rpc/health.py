"""Serve grpc.health.v1: SERVING exactly while flags can be evaluated."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Final

from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2

from server.rpc.call import Abort, Call
from server.rpc.drain import Drain
from server.rpc.status import Status
from server.rpc.table import Table, server_stream, unary_sync

SERVICE: Final = "grpc.health.v1.Health"
POLL_S: Final = 5.0
"""A watcher looks by itself this often, should nobody have called `refresh`."""

_SERVING: Final[int] = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING: Final[int] = health_pb2.HealthCheckResponse.NOT_SERVING
_SERVICE_UNKNOWN: Final[int] = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Health:
    """The state of the server and of each of its services, which stand and fall together."""

    def __init__(
        self, services: Iterable[str], ready: Callable[[], bool], *, drain: Drain, poll_s: float = POLL_S
    ) -> None:
        self._names = ("", *sorted(services))
        self._ready = ready
        self._drain = drain
        self._poll_s = poll_s
        self._changed = asyncio.Event()
        drain.when_leaving(self.refresh)
        drain.when_ending(self.refresh)

    def refresh(self) -> None:
        """Have every watcher look again, after flags were loaded or the server began to leave."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def table(self) -> Table:
        """The service's handlers."""
        return {
            f"/{SERVICE}/Check": unary_sync(self.check),
            f"/{SERVICE}/List": unary_sync(self.list),
            f"/{SERVICE}/Watch": server_stream(self.watch),
        }

    def status(self, name: str) -> int:
        """A service's health_pb2 status; "" is the whole server."""
        if name not in self._names:
            return _SERVICE_UNKNOWN
        return _SERVING if self._ready() and not self._drain.leaving else _NOT_SERVING

    def check(self, raw: bytes, call: Call) -> bytes:
        """Answer once. Errors: NOT_FOUND for a service that this server does not have."""
        name = _name(raw)
        status = self.status(name)
        if status == _SERVICE_UNKNOWN:
            known = ", ".join(self._names[1:])
            raise Abort(Status.NOT_FOUND, f"service {name[:80]!r} is not served here; there are: {known}")
        return _reply(status)

    def list(self, raw: bytes, call: Call) -> bytes:
        """Answer for every service."""
        try:
            health_pb2.HealthListRequest.FromString(raw)
        except DecodeError:
            raise Abort(Status.INVALID_ARGUMENT, "the bytes are not a HealthListRequest") from None
        statuses = {name: health_pb2.HealthCheckResponse(status=self.status(name)) for name in self._names}
        encoded: bytes = health_pb2.HealthListResponse(statuses=statuses).SerializeToString()
        return encoded

    async def watch(self, raw: bytes, call: Call) -> AsyncIterator[bytes]:
        """Answer now and at each change, until the server ends its streams."""
        name = _name(raw)
        sent: int | None = None
        while True:
            # Taken before the look, so that a change in between is not missed.
            changed = self._changed
            status = self.status(name)
            if status != sent:
                sent = status
                yield _reply(status)
            if self._drain.ending:
                return
            try:
                async with asyncio.timeout(self._poll_s):
                    await changed.wait()
            except TimeoutError:
                continue


def _name(raw: bytes) -> str:
    try:
        name: str = health_pb2.HealthCheckRequest.FromString(raw).service
    except DecodeError:
        raise Abort(Status.INVALID_ARGUMENT, "the bytes are not a HealthCheckRequest") from None
    return name


def _reply(status: int) -> bytes:
    encoded: bytes = health_pb2.HealthCheckResponse(status=status).SerializeToString()
    return encoded
