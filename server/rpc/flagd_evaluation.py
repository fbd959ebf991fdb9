"""Serve flagd.evaluation.v1 and v2, the protocols of OpenFeature's flagd providers.

Versions differ where there is no value to give: version 2 leaves value and variant out and the provider uses the
caller's default; version 1 answers NOT_FOUND when nothing matched, and sends the zero value for a disabled flag.

EventStream, the third part of both versions, stands in flagd_events.py.

Source: flagd, flag_evaluator.go and its ADRs disabled-flag-evaluation and support-code-default.
"""

from collections.abc import Callable
from typing import Final

from google.protobuf.message import DecodeError

from protos.flagd.evaluation.v1 import evaluation_pb2 as v1
from protos.flagstaff.raw.v1.views_pb2 import ResolveAllView, ResolveView
from server.core.evaluation.snapshot import CompiledFlag, Snapshot, missing
from server.core.flags import ValueType
from server.core.resolution import Reason, Resolution
from server.live.holder import Holder
from server.operations.counts import SeenBy, seen_by_nobody
from server.operations.evaluate import as_type, attributes_read, find, flag_keys, resolve_all, select
from server.rpc.call import Abort, Call
from server.rpc.context import decode
from server.rpc.convert import Echo, any_flag_entry, flagd_reply, flagd_slot, unwritable_message
from server.rpc.status import STATUS_BY_ERROR_CODE, Status
from server.rpc.table import Handler, Table, UnarySync, unary_sync

SERVICE_V1: Final = "flagd.evaluation.v1.Service"
SERVICE_V2: Final = "flagd.evaluation.v2.Service"
SELECTOR_HEADER: Final = "flagd-selector"

_METHODS: Final = {
    "ResolveBoolean": ValueType.BOOLEAN,
    "ResolveString": ValueType.STRING,
    "ResolveInt": ValueType.INTEGER,
    "ResolveFloat": ValueType.FLOAT,
    "ResolveObject": ValueType.OBJECT,
}

_NONE: Final[frozenset[str]] = frozenset()


def flagd_evaluation_table(holder: Holder, *, clock: Callable[[], float], seen_by: SeenBy = seen_by_nobody) -> Table:
    """Handlers of both versions but EventStream. Units: clock gives seconds since 1970, UTC, read once a request."""
    service = _FlagdEvaluation(holder, clock, seen_by)
    table: dict[str, Handler] = {}
    for version, name in ((1, SERVICE_V1), (2, SERVICE_V2)):
        for method, expected in _METHODS.items():
            table[f"/{name}/{method}"] = unary_sync(service.resolver(version, expected))
    # Version 2 has no bulk call.
    table[f"/{SERVICE_V1}/ResolveAll"] = unary_sync(service.resolve_all)
    return table


class _FlagdEvaluation:
    def __init__(self, holder: Holder, clock: Callable[[], float], seen_by: SeenBy) -> None:
        self._holder = holder
        self._clock = clock
        self._seen = {version: seen_by(f"flagd.v{version}") for version in (1, 2)}

    def resolver(self, version: int, expected: ValueType) -> UnarySync:
        """The handler of one Resolve method of one version."""
        slot = flagd_slot(version, expected)
        seen = self._seen[version]

        def resolve(raw: bytes, call: Call) -> bytes:
            try:
                view = ResolveView.FromString(raw)
            except DecodeError:
                raise _malformed("a Resolve request: flag_key text, context google.protobuf.Struct") from None
            snapshot, echo = self._select(call)
            flag = snapshot.flags.get(view.flag_key)
            if flag is None:
                decode(view.context, _NONE)
                absent = missing(snapshot.flag_set, view.flag_key)
                seen(snapshot, absent)
                raise _failure(absent)
            resolution = flag.evaluate(decode(view.context, flag.reads), int(self._clock()))
            # What is kept under the slot was found to be of the right type when it was put there.
            known: bytes | None = resolution.wire.get(slot) if echo is None else None
            seen(snapshot, resolution if known is not None else as_type(resolution, expected))
            return known or _reply(resolution, version, expected=expected, echo=echo)

        return resolve

    def resolve_all(self, raw: bytes, call: Call) -> bytes:
        """Every flag that version 1 can express, for one context."""
        try:
            view = ResolveAllView.FromString(raw)
        except DecodeError:
            raise _malformed("a ResolveAllRequest") from None
        snapshot, echo = self._select(call)
        context = decode(view.context, attributes_read(snapshot, flag_keys(snapshot)))
        answers = resolve_all(snapshot, context, now=int(self._clock()))
        for answer in answers.values():
            self._seen[1](snapshot, answer)
        entries = [
            any_flag_entry(answer, flag_type=snapshot.flags[key].type, echo=echo)
            for key, answer in answers.items()
            if _expressible(snapshot.flags[key], answer)
        ]
        if echo is not None:
            reply = v1.ResolveAllResponse()
            reply.metadata.update({echo[0]: echo[1]})
            entries.append(reply.SerializeToString())
        return b"".join(entries)

    def _select(self, call: Call) -> tuple[Snapshot, Echo | None]:
        selector = call.metadata(SELECTOR_HEADER)
        return select(self._holder, selector) if selector else (find(self._holder, ""), None)


def _reply(resolution: Resolution, version: int, *, expected: ValueType, echo: Echo | None) -> bytes:
    typed = as_type(resolution, expected)
    if typed.error_code is not None:
        raise _failure(typed)
    if version == 1 and typed.value is None and typed.reason is Reason.DEFAULT:
        raise Abort(
            Status.NOT_FOUND,
            f"flag {typed.flag_key!r} has no default variant and nothing else matched, so the caller's own default"
            " holds, which flagd.evaluation.v1 cannot say; give it a default variant, or use a client of version 2",
        )
    try:
        reply = flagd_reply(typed, version, expected=expected, echo=echo)
    except (ValueError, TypeError, OverflowError) as error:
        raise Abort(Status.INTERNAL, unwritable_message(typed, error)) from None
    if echo is None:
        resolution.wire[flagd_slot(version, expected)] = reply
    return reply


def _failure(resolution: Resolution) -> Abort:
    if resolution.error_code is None:
        return Abort(Status.INTERNAL, f"flag {resolution.flag_key!r} failed without saying why")
    return Abort(STATUS_BY_ERROR_CODE[resolution.error_code], resolution.error_message)


def _expressible(flag: CompiledFlag, answer: Resolution) -> bool:
    """Whether version 1's bulk reply has the flag: not without a default variant, not without any value."""
    return flag.has_default and not (answer.value is None and answer.reason is Reason.DEFAULT)


def _malformed(what: str) -> Abort:
    return Abort(Status.INVALID_ARGUMENT, f"the bytes are not {what}")
