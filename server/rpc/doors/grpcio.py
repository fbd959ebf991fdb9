"""Carry the table over grpc.aio, the official library and the reference for how gRPC behaves."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import aclosing
from math import inf
from typing import Any, Final, TypeAlias

import grpc
import grpc.aio

from server.core.access import OPEN, Principal
from server.rpc.call import Abort, MetadataEntry, abort_for
from server.rpc.doors.batches import seen_through
from server.rpc.doors.messages import Requests
from server.rpc.doors.stalls import WRITE_STALL_S, Stalls, Writing
from server.rpc.drain import Drain
from server.rpc.status import Status
from server.rpc.table import Bidi, Handler, Kind, ServerStream, Table, UnaryAsync, UnarySync

MESSAGE_BYTES_MAX: Final = 4 * 1024 * 1024
"""A request, after decompression; gRPC's customary bound."""

REPLY_BYTES_MAX: Final = 64 * 1024 * 1024
"""A reply: room for the largest batch, whose client has to raise its own bound of 4 MiB."""

PENDING_REQUESTS_MAX: Final = 20_000
CONCURRENT_STREAMS_MAX: Final = 256
INNER_STREAMS_MAX: Final = 100_000
"""Of the one connection by which a process of ours passes on the calls of all its clients."""

STALLED_STATUS_S: Final = 1.0
"""How long to wait while the status goes to a client that does not read. It lies behind the message that is not
read, and the core delivers it whenever the client reads on."""

DRAIN_DELAY_S: Final = 2.0
DRAIN_GRACE_S: Final = 10.0

_DETAILS_HEADER: Final = "grpc-status-details-bin"
_GRPC_STATUS: Final = {code.value[0]: code for code in grpc.StatusCode}

Serve: TypeAlias = Callable[[Any, Any], Coroutine[Any, Any, Any]]


def server_options(
    *, reuse_port: bool = False, connection_age_s: float | None = None, inner: bool = False
) -> tuple[tuple[str, int], ...]:
    """Settings of the C core that differ from its defaults, each with its reason."""
    # The core adds a jitter of a tenth. A connection that is too old takes no new calls; those in flight end by
    # themselves.
    age = () if connection_age_s is None else (("grpc.max_connection_age_ms", round(connection_age_s * 1000)),)
    # Who calls may have many roles, and what they sent was weighed where they sent it to.
    sizes = (("grpc.max_metadata_size", 2**20), ("grpc.absolute_max_metadata_size", 2**20)) if inner else ()
    return (
        *age,
        *sizes,
        # By default the core refuses a part of the calls above 1,000 that wait to be accepted, with CANCELLED, which
        # nobody retries: a quarter of 5,000 clients that reconnected at once lost their stream for good.
        ("grpc.server.max_pending_requests", PENDING_REQUESTS_MAX),
        ("grpc.server.max_pending_requests_hard_limit", PENDING_REQUESTS_MAX),
        # The defence against a flood of opened and reset streams; unlimited by default. 100,000 of them on one
        # connection cost 0.3 to 0.4 s of CPU and 6 MB at 256, 0.7 s and 17 MB at 1,000, 3.5 s and 300 MB without a
        # limit. Whether fewer would cost less did not show on a busy machine. Half of it is the core's, which reads
        # the frames, the rest the library's, which some 2,000 calls reach before any handler is asked; a server with
        # nothing of ours takes about as long.
        # A client with more calls queues them; a proxy that carries many clients opens a further connection.
        ("grpc.max_concurrent_streams", INNER_STREAMS_MAX if inner else CONCURRENT_STREAMS_MAX),
        # A connection that never finishes its handshake is closed after this instead of two minutes.
        ("grpc.server_handshake_timeout_ms", 5_000),
        # A second server on the same port must fail, not take half of the connections in silence.
        ("grpc.so_reuseport", int(reuse_port)),
        # Clients ping every 10 to 30 seconds, also without a call; the core's minimum of 5 minutes would send them
        # away with too_many_pings. Below half a second it is a flood, and they are.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 500),
        # Finds clients that are gone without a word, whose streams would stay open for hours.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.max_receive_message_length", REPLY_BYTES_MAX if inner else MESSAGE_BYTES_MAX),
        ("grpc.max_send_message_length", REPLY_BYTES_MAX),
    )


class AddressUnavailable(OSError):
    """An address that cannot be listened on."""


class GrpcServer:
    """A grpc.aio server over a table, on any number of addresses."""

    def __init__(
        self,
        table: Table,
        drain: Drain,
        *,
        write_stall_s: float = WRITE_STALL_S,
        connection_age_s: float | None = None,
        inner: bool = False,
    ) -> None:
        """`inner` serves processes of ours, which have weighed their calls already."""
        self._connection_age_s, self._inner = connection_age_s, inner
        self._handlers = _Handlers(table, drain, write_stall_s)
        self._drain = drain
        self._server: grpc.aio.Server | None = None

    async def start(
        self,
        addresses: Sequence[str],
        *,
        reuse_port: bool = False,
        credentials: Callable[[], grpc.ServerCredentials] | None = None,
    ) -> tuple[int, ...]:
        """Listen on `host:port` addresses and serve; the port of each, which port 0 leaves to the system.

        `credentials` is asked once for each address.

        Errors: AddressUnavailable when one of them cannot be had; then nothing is served.
        """
        options = server_options(reuse_port=reuse_port, connection_age_s=self._connection_age_s, inner=self._inner)
        server = grpc.aio.server(handlers=[self._handlers], options=options)
        ports: list[int] = []
        for place, address in enumerate(addresses):
            if address in addresses[:place] and not address.endswith(":0"):
                ports.append(ports[addresses.index(address)])
                continue
            try:
                ports.append(_add_port(server, address, credentials))
            except RuntimeError as error:
                await server.stop(None)
                raise AddressUnavailable(
                    f"cannot listen on {address} ({error}); is another server running there? Choose another port"
                ) from None
        await server.start()
        self._server = server
        return tuple(ports)

    async def drain(self, *, delay_s: float = DRAIN_DELAY_S, grace_s: float = DRAIN_GRACE_S) -> None:
        """Leave without a failed call: say so, wait until clients went elsewhere, end streams, finish calls, stop.

        Takes at most delay_s + grace_s. Source: without the delay, a call that arrives as the server stops is
        cancelled; without ending streams ourselves they use up the whole grace and are cut off.
        """
        self._drain.leave()
        await asyncio.sleep(delay_s)
        self._drain.end_streams()
        loop = asyncio.get_running_loop()
        until = loop.time() + grace_s
        await self._handlers.wait_streams_ended(grace_s)
        await self.stop(grace_s=max(0.0, until - loop.time()))

    async def stop(self, *, grace_s: float | None = None) -> None:
        """Stop, giving calls in flight some time; None cuts them off."""
        if self._server is not None:
            await self._server.stop(grace_s)

    async def wait(self) -> None:
        """Return when the server has stopped."""
        if self._server is not None:
            await self._server.wait_for_termination()


def _add_port(server: grpc.aio.Server, address: str, credentials: Callable[[], grpc.ServerCredentials] | None) -> int:
    if credentials is None:
        return server.add_insecure_port(address)
    return server.add_secure_port(address, credentials())


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """The table as the library asks for it. No serializers: messages stay bytes."""

    def __init__(self, table: Table, drain: Drain, write_stall_s: float) -> None:
        self._open_streams = 0
        self._stalls = Stalls(write_stall_s)
        self._readers: set[Requests] = set()
        self._all_ended = asyncio.Event()
        self._drain = drain
        drain.when_ending(self._end_readers)
        # Made once: nothing but this look-up stands between a call and its handler.
        self._methods = {path: self._method(path, handler) for path, handler in table.items()}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Find a method; None makes the library answer UNIMPLEMENTED."""
        return self._methods.get(handler_call_details.method)

    async def wait_streams_ended(self, timeout_s: float) -> None:
        """Wait until no stream is open, but not longer than a time."""
        if self._open_streams:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._all_ended.wait()
            except TimeoutError:
                return

    def _method(self, path: str, handler: Handler) -> Any:
        match handler.kind:
            case Kind.UNARY_SYNC:
                return grpc.unary_unary_rpc_method_handler(_serve_unary_sync(path, handler.function))
            case Kind.UNARY_ASYNC:
                return grpc.unary_unary_rpc_method_handler(_serve_unary_async(path, handler.function))
            case Kind.SERVER_STREAM:
                return grpc.unary_stream_rpc_method_handler(self._serve_stream(path, handler.function))
            case Kind.BIDI:
                return grpc.stream_stream_rpc_method_handler(self._serve_bidi(path, handler.function))

    def _serve_stream(self, path: str, function: ServerStream) -> Serve:
        async def serve(request: bytes, context: Any) -> None:
            call = _GrpcCall(context)
            writing = self._stalls.begin()
            self._open_streams += 1
            try:
                await _send_all(function(request, call), call, context, writing)
            except grpc.aio.BaseError:
                raise _gone() from None
            except asyncio.CancelledError:
                if not writing.caught():
                    raise
                await _abort_stalled(context, call, self._stalls.stall_s)
            except Exception as error:
                await _abort(context, call, abort_for(error, path))
            finally:
                self._stalls.end(writing)
                self._stream_ended()

        return serve

    def _serve_bidi(self, path: str, function: Bidi) -> Serve:
        async def serve(_: Any, context: Any) -> None:
            call = _GrpcCall(context)
            requests = Requests(context)
            self._open_streams += 1
            self._readers.add(requests)
            if self._drain.ending:
                requests.end()
            try:
                await _send_all(function(requests, call), call, context)
                if requests.gone:
                    # The library would send a status, in a batch that fails and is never freed.
                    raise _gone()
            except grpc.aio.BaseError:
                raise _gone() from None
            except Exception as error:
                await _abort(context, call, abort_for(error, path))
            finally:
                requests.end()
                self._readers.discard(requests)
                self._stream_ended()

        return serve

    def _stream_ended(self) -> None:
        self._open_streams -= 1
        if self._open_streams == 0 and self._drain.ending:
            self._all_ended.set()

    def _end_readers(self) -> None:
        for reader in self._readers:
            reader.end()


def _serve_unary_sync(path: str, function: UnarySync) -> Serve:
    async def serve(request: bytes, context: Any) -> bytes:
        call = _GrpcCall(context)
        try:
            reply = function(request, call)
        except Exception as error:
            await _abort(context, call, abort_for(error, path))
            raise
        if call.has_metadata:
            await call.send_metadata()
        return reply

    return serve


def _serve_unary_async(path: str, function: UnaryAsync) -> Serve:
    async def serve(request: bytes, context: Any) -> bytes:
        call = _GrpcCall(context)
        try:
            reply = await function(request, call)
        except Exception as error:
            await _abort(context, call, abort_for(error, path))
            raise
        if call.has_metadata:
            await call.send_metadata()
        return reply

    return serve


def _gone() -> asyncio.CancelledError:
    """What to raise when a message cannot be sent for the client has left; the library logs other errors at length."""
    return asyncio.CancelledError("the call is over")


async def _send_all(
    replies: AsyncIterator[bytes], call: "_GrpcCall", context: Any, writing: Writing | None = None
) -> None:
    write, time = context.write, asyncio.get_running_loop().time
    async with aclosing(replies) as messages:  # type: ignore[type-var]
        first = True
        async for reply in messages:
            if first and call.has_metadata:
                await call.send_metadata()
            first = False
            if writing is None:
                await seen_through(write(reply))
            else:
                writing.since = time()
                await seen_through(write(reply))
                writing.since = inf
    if call.has_metadata:
        await call.send_metadata(initial=first)


async def _abort(context: Any, call: "_GrpcCall", abort: Abort) -> None:
    """End the call with a status. Always raises, as the library wants it."""
    trailing = [*call.trailing_metadata, *abort.trailing]
    if abort.details:
        trailing.append((_DETAILS_HEADER, abort.details))
    code = _GRPC_STATUS[abort.code if abort.code is not Status.OK else Status.INTERNAL]
    await context.abort(code, abort.message, tuple(trailing))


async def _abort_stalled(context: Any, call: "_GrpcCall", stall_s: float) -> None:
    """Leave a status with the core for a client that does not read now. Always raises."""
    told = f"the client has not read for {stall_s:g} s, the longest that a message waits; open a new stream"
    try:
        async with asyncio.timeout(STALLED_STATUS_S):
            await _abort(context, call, Abort(Status.RESOURCE_EXHAUSTED, told))
    except (TimeoutError, grpc.aio.BaseError):
        # The core refuses a status while the first message, which carries the initial metadata, is still with it.
        raise _gone() from None


class _GrpcCall:
    """What grpc.aio knows of a call, looked up when a handler asks."""

    __slots__ = ("_context", "_initial", "_trailing", "principal")

    def __init__(self, context: Any) -> None:
        self._context = context
        self.principal: Principal = OPEN
        self._initial: list[MetadataEntry] | None = None
        self._trailing: list[MetadataEntry] | None = None

    @property
    def has_metadata(self) -> bool:
        return self._initial is not None or self._trailing is not None

    @property
    def initial_metadata(self) -> list[MetadataEntry]:
        if self._initial is None:
            self._initial = []
        return self._initial

    @property
    def trailing_metadata(self) -> list[MetadataEntry]:
        if self._trailing is None:
            self._trailing = []
        return self._trailing

    @property
    def peer(self) -> str:
        peer: str = self._context.peer()
        return peer

    def certificate_names(self) -> Sequence[str]:
        found = self._context.auth_context()
        # The core gives the names of a certificate that it has verified, and else none.
        names = [*found.get("x509_subject_alternative_name", ()), *found.get("x509_common_name", ())]
        return [name.decode("utf-8", "replace") for name in names]

    def metadata(self, name: str) -> str | None:
        for key, value in self._context.invocation_metadata():
            if key == name:
                return value if isinstance(value, str) else None
        return None

    def metadata_values(self, name: str) -> Sequence[str]:
        sent = self._context.invocation_metadata()
        return [value for key, value in sent if key == name and isinstance(value, str)]

    def deadline_s(self) -> float | None:
        remaining: float | None = self._context.time_remaining()
        return remaining

    async def send_metadata(self, *, initial: bool = True) -> None:
        """Hand what the handler left to the library."""
        if initial and self._initial:
            await self._context.send_initial_metadata(tuple(self._initial))
            self._initial = None
        if self._trailing:
            self._context.set_trailing_metadata(tuple(self._trailing))
