"""Pass calls on to the process that manages, by a socket that only this user can open.

Who calls was found out before, and limits, figures and streams that end with their caller's token are this process's.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio

from server.core.errors import StoreUnavailable
from server.operations.requests import HEADER, request_id
from server.rpc.call import Abort, Call
from server.rpc.details import retry_details
from server.rpc.doors.grpcio import REPLY_BYTES_MAX
from server.rpc.relay import END, PRINCIPAL_HEADER, REFUSAL, REQUEST_HEADER, decode_refusal, encode_principal
from server.rpc.status import Status
from server.rpc.table import Handler, Kind, Table

WAIT_S: Final = 10.0
"""How long a call waits for a process that is about to start; one that was killed is there again in two seconds."""

OPTIONS: Final = (
    ("grpc.max_receive_message_length", REPLY_BYTES_MAX),
    ("grpc.max_send_message_length", REPLY_BYTES_MAX),
    ("grpc.max_metadata_size", 1024 * 1024),
    ("grpc.absolute_max_metadata_size", 1024 * 1024),
    # It is on this machine: when it is there again, nobody is to wait for as long as a network would ask for.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    # Neither a proxy nor a service configuration stands between.
    ("grpc.enable_http_proxy", 0),
)

_GONE: Final = (
    "the process that manages flags ended meanwhile; whether the change was made is not known: ask again with the same "
    "request_id, or read first"
)


class Relay:
    """A connection to the process that manages."""

    def __init__(self, socket: Path, *, wait_s: float = WAIT_S) -> None:
        """On the event loop. The process need not be there yet."""
        self._wait_s = wait_s
        # Its published types know neither bytes without serializers nor streams without iterators.
        self._channel: Any = grpc.aio.insecure_channel(f"unix:{socket}", options=OPTIONS)

    def table(self, table: Table) -> Table:
        """Handlers of the same paths and kinds, that pass their calls on."""
        return {path: Handler(handler.kind, self._passing(path, handler.kind)) for path, handler in table.items()}

    async def close(self) -> None:
        """Pass nothing on any more."""
        await self._channel.close(None)

    def _passing(self, path: str, kind: Kind) -> Callable[..., Any]:
        match kind:
            case Kind.UNARY_ASYNC:
                return self._unary(path)
            case Kind.SERVER_STREAM:
                return self._server_stream(path)
            case Kind.BIDI:
                return self._bidi(path)
            case Kind.UNARY_SYNC:
                raise ValueError(f"{path} answers at once; what does so need not be passed on")

    def _unary(self, path: str) -> Callable[..., Any]:
        method = self._channel.unary_unary(path, None, None)

        async def serve(raw: bytes, call: Call) -> bytes:
            passed = await self._passed(call)
            try:
                reply = await method(raw, metadata=passed.metadata, timeout=call.deadline_s())
            except grpc.aio.AioRpcError as error:
                raise _broken(error) from None
            return passed.message(reply)

        return serve

    def _server_stream(self, path: str) -> Callable[..., Any]:
        method = self._channel.unary_stream(path, None, None)

        async def serve(raw: bytes, call: Call) -> AsyncIterator[bytes]:
            passed = await self._passed(call)
            replies = method(raw, metadata=passed.metadata, timeout=call.deadline_s())
            async with aclosing(_messages(replies, passed)) as messages:
                async for message in messages:
                    yield message

        return serve

    def _bidi(self, path: str) -> Callable[..., Any]:
        method = self._channel.stream_stream(path, None, None)

        async def serve(given: AsyncIterator[bytes], call: Call) -> AsyncIterator[bytes]:
            passed = await self._passed(call)
            replies = method(metadata=passed.metadata, timeout=call.deadline_s())
            sending = asyncio.create_task(_send(given, replies))
            try:
                async with aclosing(_messages(replies, passed)) as messages:
                    async for message in messages:
                        yield message
            except asyncio.CancelledError:
                # A call is cancelled by what could not be sent: a caller's message that is one too many, say.
                if sending.done() and not sending.cancelled() and (why := sending.exception()) is not None:
                    raise why from None
                raise
            finally:
                sending.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await sending

        return serve

    async def _passed(self, call: Call) -> "_Passed":
        """Errors: StoreUnavailable when the process is not there in time."""
        if self._channel.get_state(try_to_connect=True) is not grpc.ChannelConnectivity.READY:
            try:
                async with asyncio.timeout(self._wait_s):
                    await self._channel.channel_ready()
            except TimeoutError:
                raise StoreUnavailable(
                    "the process that manages flags is not there; nothing was done, try again in a moment"
                ) from None
        return _Passed(call)


class _Passed:
    """What is said of one call."""

    def __init__(self, call: Call) -> None:
        self._identifier = request_id(call.metadata(HEADER))
        self.metadata = (
            (PRINCIPAL_HEADER, encode_principal(call.principal)),
            (REQUEST_HEADER, self._identifier),
        )

    def message(self, reply: bytes) -> bytes:
        """What a reply holds. Errors: Abort, as the call ended there."""
        if reply[0] == REFUSAL:
            raise decode_refusal(reply[1:], request_id=self._identifier)
        return reply[1:]


async def _messages(replies: Any, passed: _Passed) -> AsyncGenerator[bytes, None]:
    """What a stream says, until it says that this was all, or ends. Errors: Abort."""
    try:
        async for reply in replies:
            if reply[0] == END:
                return
            yield passed.message(reply)
    except grpc.aio.AioRpcError as error:
        raise _broken(error) from None
    finally:
        replies.cancel()


def _broken(error: grpc.aio.AioRpcError) -> Abort:
    """How a call ends that nobody has answered."""
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Abort(Status.DEADLINE_EXCEEDED, "the deadline has passed")
    return Abort(Status.UNAVAILABLE, _GONE, retry_details(Status.UNAVAILABLE, _GONE))


async def _send(messages: AsyncIterator[bytes], replies: Any) -> None:
    """Pass on what a caller sends. A failure of its own ends the call; one of the call is the reader's to say."""
    try:
        async for message in messages:
            await replies.write(message)
        await replies.done_writing()
    except (grpc.aio.BaseError, asyncio.InvalidStateError):
        return
    except Exception:
        replies.cancel()
        raise
