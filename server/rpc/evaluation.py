"""Serve flagstaff.v1.EvaluationService: one flag, a batch, or a stream of evaluations.

Requests are read through the views of protos/flagstaff/raw/v1, which leave contexts encoded. A field that a client
splits into several parts, as the wire format allows and no library does, counts by its last part.
"""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import chain
from typing import Final

from google.protobuf.message import DecodeError

from protos.flagstaff.raw.v1.views_pb2 import BatchView, ResolveView, StreamView
from protos.flagstaff.v1 import evaluation_pb2 as ours
from server.core.errors import FlagstaffError, InvalidRequest, TooLarge
from server.core.evaluation.snapshot import Snapshot, missing
from server.core.flags import ValueType
from server.core.limits import BATCH_CONTEXTS_MAX, BATCH_EVALUATIONS_MAX
from server.core.resolution import Resolution
from server.live.holder import Holder
from server.operations.counts import Seen, unseen
from server.operations.evaluate import Answers, as_type, attributes_read, find, flag_keys, resolve_batch
from server.rpc.call import Abort, Call, OrderlyEnd
from server.rpc.context import decode
from server.rpc.convert import field, ours_late_tail, ours_slice, ours_tail, varint
from server.rpc.drain import Drain
from server.rpc.status import STATUS_BY_CODE, Status
from server.rpc.table import Table, bidi, unary_async, unary_sync

SERVICE: Final = "flagstaff.v1.EvaluationService"

_NONE: Final[frozenset[str]] = frozenset()
_TYPES: Final[dict[int, ValueType | None]] = {
    ours.VALUE_TYPE_UNSPECIFIED: None,
    **{ours.ValueType.Value(f"VALUE_TYPE_{each.name}"): each for each in ValueType},
}
_ONE_BYTE_PLACES: Final = 0x80
"""Places below this take one byte as a varint."""

_ID_FIELD: Final = varint(1 << 3)
_RESOLUTION_TAG: Final = varint(2 << 3 | 2)
_SEVEN_BITS: Final = 0x7F
_ID_BYTES_MAX: Final = 10
_STREAM_ID_MASK: Final = 2**64 - 1


def evaluation_table(holder: Holder, *, clock: Callable[[], float], drain: Drain, seen: Seen = unseen) -> Table:
    """The service's handlers. Units: clock gives seconds since 1970, UTC; it is read once a message."""
    service = _Evaluation(holder, clock, drain, seen)
    return {
        f"/{SERVICE}/Evaluate": unary_sync(service.evaluate),
        f"/{SERVICE}/EvaluateBatch": unary_async(service.evaluate_batch),
        f"/{SERVICE}/EvaluateStream": bidi(service.evaluate_stream),
    }


class _Evaluation:
    def __init__(self, holder: Holder, clock: Callable[[], float], drain: Drain, seen: Seen) -> None:
        self._holder = holder
        self._clock = clock
        self._drain = drain
        self._seen = seen

    def evaluate(self, raw: bytes, call: Call) -> bytes:
        try:
            view = ResolveView.FromString(raw)
        except DecodeError:
            raise _malformed("EvaluateRequest") from None
        snapshot = find(self._holder, view.flag_set)
        resolution = self._resolve(snapshot, view)
        return ours_slice(resolution) + ours_tail(snapshot)

    async def evaluate_batch(self, raw: bytes, call: Call) -> bytes:
        try:
            view = BatchView.FromString(raw)
        except DecodeError:
            raise _malformed("EvaluateBatchRequest") from None
        snapshot = find(self._holder, view.flag_set)
        keys: Sequence[str] = list(view.flag_keys) or flag_keys(snapshot)
        raw_contexts: Sequence[bytes] = view.contexts
        _check_batch(len(keys), len(raw_contexts))
        reads = attributes_read(snapshot, keys)
        try:
            contexts = [decode(each, reads) for each in raw_contexts]
        except FlagstaffError:
            raise _bad_context(raw_contexts, reads) from None
        answers = await resolve_batch(snapshot, keys, contexts=contexts, now=int(self._clock()))
        parts = [ours_slice(resolution) for resolution in answers.distinct]
        indices = _indices(answers.columns, distinct_count=len(parts))
        for answer, count in zip(answers.distinct, _occurrences(answers, indices), strict=True):
            self._seen(snapshot, answer, count)
        parts.append(field(2, indices))
        parts.append(_encoded_keys(snapshot, keys))
        parts.append(ours_late_tail(snapshot))
        return b"".join(parts)

    async def evaluate_stream(self, messages: AsyncIterator[bytes], call: Call) -> AsyncIterator[bytes]:
        async for raw in messages:
            yield self._answer(raw)
        if self._drain.ending:
            raise OrderlyEnd(Status.UNAVAILABLE, "the server is stopping; what was read is answered, open a new stream")

    def _answer(self, raw: bytes) -> bytes:
        """The reply to one message of a stream; what is wrong with it is said in the reply."""
        try:
            view = StreamView.FromString(raw)
        except DecodeError:
            return _stream_error(_leading_id(raw), _malformed("EvaluateStreamRequest"))
        try:
            snapshot = find(self._holder, view.flag_set)
            resolution = self._resolve(snapshot, view)
        except FlagstaffError as error:
            return _stream_error(view.id, Abort(STATUS_BY_CODE[error.code], str(error)))
        head = _ID_FIELD + varint(view.id) if view.id else b""
        # The same slice as in EvaluateResponse, under the tag of this message's field 2.
        return head + _RESOLUTION_TAG + ours_slice(resolution)[1:] + ours_late_tail(snapshot)

    def _resolve(self, snapshot: Snapshot, view: ResolveView | StreamView) -> Resolution:
        resolution = self._answer_to(snapshot, view)
        self._seen(snapshot, resolution)
        return resolution

    def _answer_to(self, snapshot: Snapshot, view: ResolveView | StreamView) -> Resolution:
        flag = snapshot.flags.get(view.flag_key)
        if flag is None:
            decode(view.context, _NONE)
            return missing(snapshot.flag_set, view.flag_key)
        resolution = flag.evaluate(decode(view.context, flag.reads), int(self._clock()))
        if not view.expected_type:
            return resolution
        expected = _TYPES.get(view.expected_type)
        if expected is None:
            raise InvalidRequest(f"expected_type {view.expected_type} is not one of flagstaff.v1.ValueType")
        return as_type(resolution, expected)


def _malformed(message: str) -> Abort:
    return Abort(Status.INVALID_ARGUMENT, f"the bytes are not a flagstaff.v1.{message}")


def _check_batch(flag_count: int, context_count: int) -> None:
    if context_count > BATCH_CONTEXTS_MAX:
        raise TooLarge(f"batch has {context_count} contexts, at most {BATCH_CONTEXTS_MAX} are allowed; send several")
    evaluation_count = flag_count * max(1, context_count)
    if evaluation_count > BATCH_EVALUATIONS_MAX:
        raise TooLarge(
            f"batch asks for {evaluation_count} evaluations ({flag_count} flags x {context_count} contexts),"
            f" at most {BATCH_EVALUATIONS_MAX} are allowed; send several"
        )


def _bad_context(raw_contexts: Sequence[bytes], reads: frozenset[str] | None) -> Abort:
    """Find the context that was refused; only a refusal pays for knowing its place."""
    for index, raw in enumerate(raw_contexts):
        try:
            decode(raw, reads)
        except FlagstaffError as error:
            return Abort(STATUS_BY_CODE[error.code], f"contexts[{index}]: {error}")
    return Abort(Status.INVALID_ARGUMENT, "a context cannot be decoded")


def _indices(columns: Sequence[Sequence[int]], *, distinct_count: int) -> bytes:
    """Places as packed varints, a row for each context."""
    if distinct_count <= _ONE_BYTE_PLACES:
        width = len(columns)
        rows = bytearray(width * len(columns[0])) if columns else bytearray()
        for offset, column in enumerate(columns):
            rows[offset::width] = bytes(column)
        return bytes(rows)
    places = [varint(place) for place in range(distinct_count)]
    return b"".join([places[place] for place in chain.from_iterable(zip(*columns, strict=True))])


def _occurrences(answers: Answers, indices: bytes) -> Sequence[int]:
    """How often each distinct answer was given; counted in the encoded places where those have one byte each."""
    counts = [0] * len(answers.distinct)
    width = len(answers.columns)
    place = 0
    for offset, column in enumerate(answers.columns):
        known = place
        row: Sequence[int] = indices[offset::width] if len(counts) <= _ONE_BYTE_PLACES else column
        left = len(row)
        # An answer belongs to one flag, so those of a column have the places that follow the last column's.
        while left and place < len(counts) and (found := row.count(place)):
            counts[place] = found
            left -= found
            place += 1
        if left:
            # The flag was asked for twice.
            for again, found in Counter(row).items():
                counts[again] += found if again < known else 0
    return counts


def _encoded_keys(snapshot: Snapshot, keys: Sequence[str]) -> bytes:
    if keys is not snapshot.wire.get("keys"):
        return b"".join([field(3, key.encode()) for key in keys])
    known: bytes | None = snapshot.wire.get("ours.keys")
    if known is None:
        known = snapshot.wire["ours.keys"] = b"".join([field(3, key.encode()) for key in keys])
    return known


def _stream_error(identifier: int, abort: Abort) -> bytes:
    error = ours.StreamError(code=abort.code, message=abort.message)
    return ours.EvaluateStreamResponse(id=identifier, error=error).SerializeToString()


def _leading_id(raw: bytes) -> int:
    """The id of a message that cannot be decoded, when it stands first, as every library writes it; else 0."""
    if raw[:1] != _ID_FIELD:
        return 0
    identifier = 0
    for place, byte in enumerate(raw[1 : 1 + _ID_BYTES_MAX]):
        identifier |= (byte & _SEVEN_BITS) << 7 * place
        if byte <= _SEVEN_BITS:
            return identifier & _STREAM_ID_MASK
    return 0
