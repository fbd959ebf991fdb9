"""Serve flagd.sync.v1: whole flag sets, for clients that evaluate them in their own process.

A stream sends its flag set at once and again after every change that alters what is sent. The text is encoded once a
revision, kept with the snapshot, and the same bytes go to every stream. A subscriber that reads slowly misses what came
in between and gets the latest.

Source: flagd, sync-service handler.go and its ADR static-and-dynamic-context.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Struct

from protos.flagd.sync.v1 import sync_pb2 as messages
from server.core.errors import InvalidRequest
from server.core.evaluation.exporting import join_flags, too_large
from server.core.evaluation.snapshot import Snapshot
from server.core.limits import SYNC_BYTES_MAX, SYNC_CONTEXT_BYTES_MAX
from server.live.holder import Holder
from server.live.watch import Hub
from server.operations.evaluate import find, select
from server.rpc.call import Abort, Call
from server.rpc.convert import field
from server.rpc.flagd_evaluation import SELECTOR_HEADER
from server.rpc.room import Room
from server.rpc.status import Status
from server.rpc.table import Table, server_stream, unary_sync

SERVICE: Final = "flagd.sync.v1.FlagSyncService"
LOOK_S: Final = 60.0
"""A stream looks by itself this often, should it not have been told of a change."""

SENDING_BYTES_MAX: Final = 256 * 1024 * 1024
"""Messages that are being written at once, all streams together: what a crowd that does not read costs in memory."""

_WIRE: Final = "flagd.sync.v1"


def flagd_sync_table(
    holder: Holder,
    hub: Hub,
    *,
    static_context: Mapping[str, str],
    metadata: bool = True,
    look_s: float = LOOK_S,
    sending_bytes_max: int = SENDING_BYTES_MAX,
) -> Table:
    """Handlers of the service. Without `metadata`, GetMetadata is UNIMPLEMENTED.

    Errors: InvalidRequest when the static context is too large to be sent along.
    """
    service = _FlagdSync(holder, hub, static_context, look_s, Room(sending_bytes_max))
    return {
        f"/{SERVICE}/SyncFlags": server_stream(service.sync_flags),
        f"/{SERVICE}/FetchAllFlags": unary_sync(service.fetch_all_flags),
        f"/{SERVICE}/GetMetadata": unary_sync(service.get_metadata if metadata else _no_metadata),
    }


class _FlagdSync:
    def __init__(self, holder: Holder, hub: Hub, static_context: Mapping[str, str], look_s: float, room: Room) -> None:
        self._holder = holder
        self._hub = hub
        self._look_s = look_s
        self._room = room
        context = Struct()
        context.update(static_context)
        # Field 2 of two messages. Present also when it is empty: the Python provider takes an absent one as a mistake.
        self._context = field(2, context.SerializeToString(deterministic=True))
        if len(self._context) > SYNC_CONTEXT_BYTES_MAX:
            raise InvalidRequest(
                f"the fixed context values take {len(self._context)} bytes, at most {SYNC_CONTEXT_BYTES_MAX} are sent "
                "along to in-process clients; give fewer or shorter ones"
            )

    async def sync_flags(self, raw: bytes, call: Call) -> AsyncIterator[bytes]:
        """The flag set now and after every change; ends with the hub, or when the set is gone or no longer sent."""
        flag_set = self._select(_read(messages.SyncFlagsRequest, raw), call).flag_set
        sent = b""
        with self._hub.subscribe(flag_set) as subscription:
            while not subscription.closed:
                # Not what the mailbox holds: a new alias or a reload without changes may have come after it.
                message = self._message(find(self._holder, flag_set))
                if message != sent:
                    async with self._room.hold(len(message)):
                        # There may be a newer one by now.
                        message = self._message(find(self._holder, flag_set))
                        yield message
                # Of two equal ones the newer is kept, which the next comparison knows at sight.
                sent = message
                await subscription.take(timeout_s=self._look_s)

    def fetch_all_flags(self, raw: bytes, call: Call) -> bytes:
        """The flag set once, without the context."""
        message = self._message(self._select(_read(messages.FetchAllFlagsRequest, raw), call))
        return message[: -len(self._context)]

    def get_metadata(self, raw: bytes, call: Call) -> bytes:
        """The static context, as older clients ask for it."""
        _read(messages.GetMetadataRequest, raw)
        return self._context

    def _select(self, request: Any, call: Call) -> Snapshot:
        selector = call.metadata(SELECTOR_HEADER) or request.selector
        return select(self._holder, selector)[0] if selector else find(self._holder, "")

    def _message(self, snapshot: Snapshot) -> bytes:
        """An encoded SyncFlagsResponse. Errors: Abort when the set is not for sending."""
        known: bytes | None = snapshot.wire.get(_WIRE)
        if known is None:
            known = snapshot.wire[_WIRE] = field(1, _text(snapshot)) + self._context
        return known


def _text(snapshot: Snapshot) -> bytes:
    if not snapshot.environment.sync:
        raise Abort(
            Status.FAILED_PRECONDITION,
            f"sync is off for flag set {snapshot.flag_set!r}, so it is evaluated by the server only; use the "
            "provider's RPC mode, or switch sync on with `flagstaff import --sync`",
        )
    # A quarantined flag has no export. In the order of keys, so that equal sets are equal texts, in every worker.
    flags = sorted((key, flag.exported) for key, flag in snapshot.flags.items() if flag.exported)
    text = join_flags(flags)
    if len(text) > SYNC_BYTES_MAX:
        # Not by any commit; the set was there before the bound, or was written behind our back.
        raise Abort(Status.FAILED_PRECONDITION, too_large(snapshot.flag_set, len(text)))
    return text


def _no_metadata(raw: bytes, call: Call) -> bytes:
    raise Abort(
        Status.UNIMPLEMENTED,
        "GetMetadata is switched off on this server (--disable-sync-metadata); each message of SyncFlags has the same "
        "values as its sync_context",
    )


def _read(kind: Any, raw: bytes) -> Any:
    try:
        return kind.FromString(raw)
    except DecodeError:
        raise Abort(Status.INVALID_ARGUMENT, f"the bytes are not a {kind.DESCRIPTOR.name}") from None
