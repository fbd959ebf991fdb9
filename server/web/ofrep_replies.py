"""Encode answers as OFREP's JSON, once; the bytes stay with the answer.

A single evaluation's body is also its entry in a bulk evaluation. Numbers are written as the flag's type has them: a
float always with a fraction or an exponent, an integer with neither, because clients compare types.

Source: OFREP 0.3.0, service/openapi.yaml.
"""

from collections.abc import Mapping
from typing import Any, Final, TypeAlias
from urllib.parse import quote

from server.core.evaluation.snapshot import Snapshot
from server.core.flags import ValueType
from server.core.json import Json
from server.core.resolution import ErrorCode, Resolution
from server.web.replies import compact

EVALUATE_PATH: Final = "/ofrep/v1/evaluate/flags"
EVENTS_PATH: Final = "/ofrep/v1/events"
INACTIVITY_DELAY_S: Final = 120
"""OFREP's own default: a page that is hidden for longer closes its event stream."""

Echo: TypeAlias = tuple[str, str]
"""The selector's key and value, as metadata repeats it."""

# OFREP has no TYPE_MISMATCH: which type is wanted is known only to the client.
_WIRE_CODES: Final = {ErrorCode.TYPE_MISMATCH: ErrorCode.GENERAL}


Encoded: TypeAlias = tuple[int, bytes]
"""The HTTP status of a single evaluation, and the body."""


def encoded_answer(resolution: Resolution, echo: Echo | None) -> Encoded:
    """What OFREP calls evaluationSuccess, evaluationFailure or flagNotFound; never raises."""
    slot: Any = "ofrep" if echo is None else ("ofrep", echo)
    known: Encoded | None = resolution.wire.get(slot)
    if known is None:
        known = resolution.wire[slot] = _encoded(resolution, echo)
    return known


def failure_body(key: str | None, code: ErrorCode, details: str, metadata: Mapping[str, Any] | None = None) -> bytes:
    """A failure; without a key for a bulk evaluation."""
    failure: dict[str, Any] = {} if key is None else {"key": key}
    # Python's provider reads errorDetails without asking whether it is there.
    failure |= {"errorCode": _WIRE_CODES.get(code, code).value, "errorDetails": details or code.value}
    return compact({**failure, "metadata": dict(metadata)} if metadata else failure)


def bulk_head() -> bytes:
    """What stands before the entries of a bulk evaluation."""
    return b'{"flags":['


def bulk_tail(snapshot: Snapshot, echo: Echo | None) -> bytes:
    """What stands behind them: the flag set's metadata, and where its changes are told; once per snapshot."""
    slot = f"ofrep.tail {echo}"
    known: bytes | None = snapshot.wire.get(slot)
    if known is None:
        known = snapshot.wire[slot] = b"]," + _tail(snapshot, echo)[1:]
    return known


def _tail(snapshot: Snapshot, echo: Echo | None) -> bytes:
    # `endpoint` and not `url`: a server behind a proxy does not know by which address it is reached.
    uri = f"{EVENTS_PATH}?flagSetId={quote(snapshot.flag_set, safe='')}"
    streams = [{"type": "sse", "endpoint": {"requestUri": uri}, "inactivityDelaySec": INACTIVITY_DELAY_S}]
    metadata = _metadata(snapshot.environment.metadata, echo)
    return compact({"metadata": metadata, "eventStreams": streams} if metadata else {"eventStreams": streams})


def _encoded(resolution: Resolution, echo: Echo | None) -> Encoded:
    try:
        return _status(resolution.error_code), _body(resolution, echo)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        details = (
            f"variant {resolution.variant!r} of flag {resolution.flag_key!r} has a value or metadata that JSON cannot"
            f" carry ({type(error).__name__}); change the variant"
        )
        return _status(ErrorCode.GENERAL), failure_body(resolution.flag_key, ErrorCode.GENERAL, details)


def _status(code: ErrorCode | None) -> int:
    if code is None:
        return 200
    return 404 if code is ErrorCode.FLAG_NOT_FOUND else 400


def _body(resolution: Resolution, echo: Echo | None) -> bytes:
    metadata = _metadata(resolution.metadata, echo)
    if resolution.error_code is not None:
        return failure_body(resolution.flag_key, resolution.error_code, resolution.error_message, metadata)
    success: dict[str, Any] = {"key": resolution.flag_key, "reason": resolution.reason.value}
    if resolution.value is not None:
        success["value"] = _typed(resolution.value, resolution.type)
    if resolution.variant is not None:
        success["variant"] = resolution.variant
    if metadata:
        success["metadata"] = metadata
    return compact(success)


def _typed(value: Json, type_: ValueType | None) -> Json:
    """A number in the form of the flag's type. Errors: OverflowError for an integer beyond a float's range."""
    if type_ is ValueType.FLOAT and type(value) is int:
        return float(value)
    if type_ is ValueType.INTEGER and type(value) is float and value.is_integer():
        return int(value)
    return value


def _metadata(metadata: Mapping[str, Any], echo: Echo | None) -> dict[str, Any]:
    # The flag's own entries win over the selector's echo, as with flagd.
    return dict(metadata) if echo is None else {echo[0]: echo[1], **metadata}
