"""Encode an answer into the bytes of each protocol, once; the bytes stay with the answer.

A Resolution is shared by every evaluation that gives it, so its encoded forms are kept in `Resolution.wire`,
by protocol and type. Replies are joined from such slices.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, TypeAlias

from protos.flagd.evaluation.v1 import evaluation_pb2 as flagd_v1
from protos.flagd.evaluation.v2 import evaluation_pb2 as flagd_v2
from protos.flagstaff.v1 import evaluation_pb2 as ours
from server.core.evaluation.snapshot import Snapshot
from server.core.flags import ValueType
from server.core.resolution import ErrorCode, Reason, Resolution

_SEVEN_BITS: Final = 0x7F

Echo: TypeAlias = tuple[str, str]
"""The selector's key and value, as a reply's metadata repeats it."""

_OURS_TYPE_MEMBER: Final = {
    bool: "bool_value",
    str: "string_value",
    int: "int_value",
    float: "double_value",
    dict: "object_value",
}
_FLAGD_V1: Final[dict[ValueType, Any]] = {
    ValueType.BOOLEAN: flagd_v1.ResolveBooleanResponse,
    ValueType.STRING: flagd_v1.ResolveStringResponse,
    ValueType.INTEGER: flagd_v1.ResolveIntResponse,
    ValueType.FLOAT: flagd_v1.ResolveFloatResponse,
    ValueType.OBJECT: flagd_v1.ResolveObjectResponse,
}
_FLAGD_V2: Final[dict[ValueType, Any]] = {
    ValueType.BOOLEAN: flagd_v2.ResolveBooleanResponse,
    ValueType.STRING: flagd_v2.ResolveStringResponse,
    ValueType.INTEGER: flagd_v2.ResolveIntResponse,
    ValueType.FLOAT: flagd_v2.ResolveFloatResponse,
    ValueType.OBJECT: flagd_v2.ResolveObjectResponse,
}
_ZERO: Final[dict[ValueType, Any]] = {
    ValueType.BOOLEAN: False,
    ValueType.STRING: "",
    ValueType.INTEGER: 0.0,
    ValueType.FLOAT: 0.0,
    ValueType.OBJECT: {},
}
_ANY_MEMBER: Final[dict[type, str]] = {
    bool: "bool_value",
    str: "string_value",
    int: "double_value",
    float: "double_value",
    dict: "object_value",
}


def ours_slice(resolution: Resolution) -> bytes:
    """Field 1 of EvaluateResponse and EvaluateBatchResponse: a flagstaff.v1.Resolution with tag and length."""
    known: bytes | None = resolution.wire.get("ours")
    if known is None:
        try:
            message = _ours(resolution)
        except (ValueError, TypeError, OverflowError) as error:
            message = _ours(_unwritable(resolution, error))
        known = resolution.wire["ours"] = field(1, message)
    return known


def ours_tail(snapshot: Snapshot) -> bytes:
    """Fields 2 and 3 of EvaluateResponse: the revision and the flag set; once per snapshot."""
    known: bytes | None = snapshot.wire.get("ours.tail")
    if known is None:
        tail = ours.EvaluateResponse(revision=snapshot.revision, flag_set=snapshot.flag_set)
        known = snapshot.wire["ours.tail"] = tail.SerializeToString()
    return known


def ours_late_tail(snapshot: Snapshot) -> bytes:
    """Fields 4 and 5 of a batch or stream reply: the revision and the flag set; once per snapshot."""
    known: bytes | None = snapshot.wire.get("ours.late_tail")
    if known is None:
        tail = ours.EvaluateStreamResponse(revision=snapshot.revision, flag_set=snapshot.flag_set)
        known = snapshot.wire["ours.late_tail"] = tail.SerializeToString()
    return known


def flagd_slot(version: int, expected: ValueType) -> str:
    """The name under which `Resolution.wire` keeps flagd's encoded reply."""
    return f"v{version}.{expected}"


def flagd_reply(resolution: Resolution, version: int, *, expected: ValueType, echo: Echo | None) -> bytes:
    """A Resolve*Response of flagd's protocol for an answer that is of the expected type.

    Version 1 has no absent value: it sends the zero value and an empty variant.
    Errors: ValueError, TypeError or OverflowError when protobuf cannot hold the value.
    """
    slot: Any = flagd_slot(version, expected) if echo is None else (version, expected, echo)
    known: bytes | None = resolution.wire.get(slot)
    if known is None:
        known = resolution.wire[slot] = _flagd(resolution, version, expected, echo)
    return known


def any_flag_entry(resolution: Resolution, *, flag_type: ValueType | None, echo: Echo | None) -> bytes:
    """One entry of ResolveAllResponse.flags; a failure has the zero value of its type and reason ERROR."""
    slot: Any = "v1.any" if echo is None else ("any", echo)
    known: bytes | None = resolution.wire.get(slot)
    if known is None:
        try:
            entry = _any_flag(resolution, flag_type, echo)
        except (ValueError, TypeError, OverflowError) as error:
            entry = _any_flag(_unwritable(resolution, error), flag_type, echo)
        known = resolution.wire[slot] = entry
    return known


def _ours(resolution: Resolution) -> bytes:
    message = ours.Resolution(
        flag_key=resolution.flag_key,
        reason=ours.Reason.Value(f"REASON_{resolution.reason.name}"),
        error_message=resolution.error_message,
    )
    value = resolution.value
    if value is not None:
        member = _OURS_TYPE_MEMBER.get(type(value))
        if member is None:
            raise TypeError(f"a {type(value).__name__} is no flag value")
        _fill(message, member, value)
    if resolution.variant is not None:
        message.variant = resolution.variant
    if resolution.error_code is not None:
        message.error_code = ours.ErrorCode.Value(f"ERROR_CODE_{resolution.error_code.name}")
    if resolution.metadata:
        message.metadata.update(resolution.metadata)
    return message.SerializeToString(deterministic=True)


def _flagd(resolution: Resolution, version: int, expected: ValueType, echo: Echo | None) -> bytes:
    message = (_FLAGD_V1 if version == 1 else _FLAGD_V2)[expected](reason=resolution.reason.value)
    if resolution.value is not None:
        _fill(message, "value", resolution.value)
    elif version == 1 and expected is ValueType.OBJECT:
        message.value.SetInParent()
    if resolution.variant is not None:
        message.variant = resolution.variant
    _add_metadata(message, resolution, echo)
    encoded: bytes = message.SerializeToString(deterministic=True)
    return encoded


def _any_flag(resolution: Resolution, flag_type: ValueType | None, echo: Echo | None) -> bytes:
    message = flagd_v1.AnyFlag(reason=resolution.reason.value, variant=resolution.variant or "")
    value = resolution.value
    if value is None and flag_type is not None:
        value = _ZERO[flag_type]
    if value is not None:
        member = _ANY_MEMBER.get(type(value))
        if member is None:
            raise TypeError(f"a {type(value).__name__} is no flag value")
        _fill(message, member, value)
    _add_metadata(message, resolution, echo)
    key = field(1, resolution.flag_key.encode())
    return field(1, key + field(2, message.SerializeToString(deterministic=True)))


def _add_metadata(message: Any, resolution: Resolution, echo: Echo | None) -> None:
    # The flag's own entries win over the selector's echo, as with flagd.
    metadata = resolution.metadata if echo is None else {echo[0]: echo[1], **resolution.metadata}
    if metadata:
        message.metadata.update(metadata)


def _fill(message: Any, member: str, value: Any) -> None:
    if isinstance(value, Mapping):
        struct = getattr(message, member)
        # An empty object is there, too.
        struct.SetInParent()
        struct.update(value)
    else:
        setattr(message, member, value)


def _unwritable(resolution: Resolution, error: Exception) -> Resolution:
    """An answer that says why its value cannot travel; JSON admits numbers and texts that protobuf does not."""
    return replace(
        resolution,
        value=None,
        variant=None,
        reason=Reason.ERROR,
        metadata={},
        error_code=ErrorCode.GENERAL,
        error_message=unwritable_message(resolution, error),
        wire={},
    )


def unwritable_message(resolution: Resolution, error: Exception) -> str:
    """What to tell a caller whose protocol cannot hold a value."""
    return (
        f"variant {resolution.variant!r} of flag {resolution.flag_key!r} has a value or metadata that this protocol"
        f" cannot carry ({type(error).__name__}); change the variant"
    )


def field(number: int, content: bytes) -> bytes:
    """A length-delimited protobuf field: tag, length, content."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(number: int) -> bytes:
    """A number >= 0 in protobuf's variable-length form."""
    encoded = bytearray()
    while number > _SEVEN_BITS:
        encoded.append(number & _SEVEN_BITS | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
