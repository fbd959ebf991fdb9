"""Serve gRPC reflection, so that tools such as grpcurl need no .proto files.

The package's servicer speaks v1alpha; v1 has the same messages under another name, so it is mounted twice.
"""

from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Final

from google.protobuf import descriptor_pool
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha._async import ReflectionServicer

from protos.flagd.pool import POOL as FLAGD_POOL
from server.rpc.call import Abort, Call
from server.rpc.status import Status
from server.rpc.table import Table, bidi

SERVICES: Final = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")


def reflection_table(services: Iterable[str]) -> Table:
    """Handlers that describe the named services and themselves."""
    # Only v1alpha has a descriptor here, and a tool asks for the descriptor of everything that is listed.
    listed = {*services, SERVICES[1]}
    servicer = ReflectionServicer(listed, pool=_Pools(descriptor_pool.Default(), FLAGD_POOL))

    async def reflect(messages: AsyncIterator[bytes], call: Call) -> AsyncIterator[bytes]:
        async for reply in servicer.ServerReflectionInfo(_requests(messages), None):
            yield reply.SerializeToString()

    return {f"/{service}/ServerReflectionInfo": bidi(reflect) for service in SERVICES}


async def _requests(messages: AsyncIterator[bytes]) -> AsyncIterator[Any]:
    async for raw in messages:
        try:
            yield reflection_pb2.ServerReflectionRequest.FromString(raw)
        except DecodeError:
            raise Abort(Status.INVALID_ARGUMENT, "the bytes are not a ServerReflectionRequest") from None


class _Pools:
    """Several descriptor pools that are asked in turn; flagd's messages live in one of their own."""

    def __init__(self, *pools: Any) -> None:
        self._pools = pools

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def find(*arguments: Any) -> Any:
            for pool in self._pools[:-1]:
                try:
                    return getattr(pool, name)(*arguments)
                except KeyError:
                    continue
            return getattr(self._pools[-1], name)(*arguments)

        return find
