"""Answer every gRPC call with PERMISSION_DENIED, as a proxy does that knows no such user.

python -m tests.conformance.forbidden        prints its port and serves until it is stopped
"""

import asyncio

import grpc

from tests.conformance.processes import HOST


class Forbidding(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # Generic in its stubs only.
    """A handler for each call there is; as a stream in both directions it fits all four shapes."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes]":
        """Refuse."""
        return grpc.stream_stream_rpc_method_handler(_refuse)


async def _refuse(requests: object, context: "grpc.aio.ServicerContext[bytes, bytes]") -> None:
    await context.abort(grpc.StatusCode.PERMISSION_DENIED, "forbidden")


async def main() -> None:
    """Listen on a free port, and tell it."""
    server = grpc.aio.server(handlers=[Forbidding()])
    port = server.add_insecure_port(f"{HOST}:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
