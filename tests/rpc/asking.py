"""Call one service of a running server by the names of its methods."""

from collections.abc import Iterable
from typing import Any

import grpc

from tests.rpc.conftest import Serve
from tests.rpc.managing import called, refusal, token


class ServiceClient:
    """Calls the service of a module's messages; the server starts at the first call."""

    def __init__(self, serve: Serve, table: Any, module: Any) -> None:
        self._serve, self._table, self._module = serve, table, module
        (service,) = module.DESCRIPTOR.services_by_name.values()
        self._methods = {method.name: method for method in service.methods}
        self._path = f"/{service.full_name}/"
        self._channel: Any = None

    async def channel(self) -> Any:
        """The one connection."""
        if self._channel is None:
            self._channel = (await self._serve(table=self._table)).channel
        return self._channel

    async def ask(self, method: str, /, by: Any = "", **fields: Any) -> Any:
        """The reply to a request."""
        request, reply = self._types(method)
        return await called(await self.channel(), self._path + method, request(**fields), reply, by=by)

    async def refused(self, method: str, /, by: Any = "", **fields: Any) -> tuple[grpc.StatusCode, str]:
        """The status and message of a request that is refused."""
        request, _ = self._types(method)
        return await refusal(await self.channel(), self._path + method, request(**fields), by=by)

    async def send(self, method: str, requests: Iterable[Any], *, by: str = "") -> Any:
        """The reply to a stream of requests."""
        request, reply = self._types(method)
        call = (await self.channel()).stream_unary(
            self._path + method, request_serializer=request.SerializeToString, response_deserializer=reply.FromString
        )
        return await call(iter(requests), metadata=token(by))

    async def unsent(self, method: str, requests: Iterable[Any], *, by: str = "") -> tuple[grpc.StatusCode, str]:
        """The status and message of a stream that is refused."""
        try:
            await self.send(method, requests, by=by)
        except grpc.aio.AioRpcError as error:
            return error.code(), error.details() or ""
        raise AssertionError(f"{method} was not refused")

    def _types(self, method: str) -> tuple[Any, Any]:
        descriptor = self._methods[method]
        return getattr(self._module, descriptor.input_type.name), getattr(self._module, descriptor.output_type.name)
