"""Serve flags on a port of the loopback interface for one test."""

import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import grpc.aio
import pytest

from server.core.evaluation.snapshot import CompiledFlag
from server.live.holder import Holder
from server.live.watch import Hub
from server.rpc.doors.grpcio import GrpcServer
from server.rpc.doors.relay import Relay
from server.rpc.doors.stalls import WRITE_STALL_S
from server.rpc.drain import Drain
from server.rpc.relay import received
from server.rpc.services import Services, make_services
from server.rpc.table import Table
from tests.fakes import fake_clock, holder_of, snapshot_of
from tests.rpc.flag_service import Service, flag_service
from tests.rpc.managing import Known


@dataclass
class Running:
    """A server and a channel to it."""

    services: Services
    server: GrpcServer
    port: int
    channel: Any
    """A grpc.aio.Channel; its published types know neither bytes without serializers nor streams without iterators."""

    async def call(self, path: str, raw: bytes = b"", **options: Any) -> bytes:
        """Send bytes to a unary method; the reply's bytes."""
        method = self.channel.unary_unary(path, request_serializer=None, response_deserializer=None)
        reply: bytes = await method(raw, **options)
        return reply

    async def refused(self, path: str, raw: bytes = b"", **options: Any) -> tuple[grpc.StatusCode, str]:
        """Send bytes to a unary method that is to refuse them; status and message."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.call(path, raw, **options)
        return caught.value.code(), caught.value.details() or ""


def connect(port: int, *options: tuple[str, Any]) -> Any:
    """A channel with a connection of its own."""
    return grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1), *options])


Serve: TypeAlias = Callable[..., Awaitable[Running]]


@pytest.fixture
def relayed() -> bool:
    """Whether calls of what is managed are passed on by a socket, as they are to a process of its own.

    Some modules do both. With RELAYED=1 all do, but for those that serve a table of their own making.
    """
    return bool(os.environ.get("RELAYED"))


@pytest.fixture
async def serve(relayed: bool) -> AsyncIterator[Serve]:
    """Start servers over flags, a holder or a bare table; they stop with the test."""
    running: list[Running] = []
    relays = AsyncExitStack()

    async def start(
        *flags: CompiledFlag,
        holder: Holder | None = None,
        hub: Hub | None = None,
        table: Table | None = None,
        write_stall_s: float = WRITE_STALL_S,
        connection_age_s: float | None = None,
        **options: Any,
    ) -> Running:
        options.setdefault("clock", fake_clock)
        if relayed and isinstance(table, Known):
            passed_on = await relays.enter_async_context(relaying(table.table))
            table = Known(passed_on, table.people)
        services = make_services(holder or holder_of(snapshot_of(*flags)), hub or Hub(), **options)
        server = GrpcServer(
            services.table if table is None else table,
            services.drain,
            write_stall_s=write_stall_s,
            connection_age_s=connection_age_s,
        )
        (port,) = await server.start(["127.0.0.1:0"])
        channel = connect(port)
        running.append(Running(services, server, port, channel))
        return running[-1]

    yield start
    for each in running:
        await each.channel.close(None)
        await each.server.stop()
    await relays.aclose()


@asynccontextmanager
async def relaying(table: Table) -> AsyncIterator[Table]:
    """A table that passes its calls on to another server, by a socket."""
    # Short, for the name of a socket may not be long.
    with tempfile.TemporaryDirectory() as directory:
        socket = Path(directory, "manager")
        server = GrpcServer(received(table), Drain(), inner=True)
        await server.start([f"unix:{socket}"])
        relay = Relay(socket)
        yield relay.table(table)
        await relay.close()
        await server.stop()


@pytest.fixture
async def service(tmp_path: Path, serve: Serve) -> AsyncIterator[Service]:
    """FlagService over a shop with one flag."""
    async with flag_service(tmp_path, serve) as serving:
        yield serving
