"""Decode an evaluation context from its bytes, only as far as a rule reads it.

A context arrives as google.protobuf.Struct. Its attributes are separated without being decoded
(protos/flagstaff/raw/v1/views.proto), and only those that are asked for become Python values.

Bounds: the context's size and number of attributes are always checked. An attribute's depth is checked when it is
read; one that nobody reads stays bytes and costs nothing. A depth of 1 is a list or an object, 2 one inside it.
"""

from math import isfinite
from struct import Struct as Layout
from typing import Final

from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Value

from protos.flagstaff.raw.v1.views_pb2 import StructView
from server.core.errors import InvalidRequest, TooLarge
from server.core.json import Json
from server.core.limits import (
    CONTEXT_ATTRIBUTES_MAX,
    CONTEXT_BYTES_MAX,
    CONTEXT_DEPTH_MAX,
    CONTEXT_KEY_BYTES_MAX,
    CONTEXT_VALUE_BYTES_MAX,
)

# First byte of an encoded google.protobuf.Value: field number and wire type of its one member.
_NUMBER: Final = 0x11
_STRING: Final = 0x1A
_BOOLEAN: Final = 0x20

_NUMBER_BYTES: Final = 9
_FLAG_BYTES: Final = 2
_ONE_BYTE_LENGTH_MAX: Final = 0x7F
"""Longest text whose length takes one byte."""

_DOUBLE: Final = Layout("<d").unpack_from
_SMALL_BYTES: Final = min(CONTEXT_KEY_BYTES_MAX, CONTEXT_VALUE_BYTES_MAX)
"""A context of up to this size cannot hold a key or value that is too long."""

_SHOWN_CHARS: Final = 80

_parse = StructView.FromString
_EMPTY: Final[frozenset[str]] = frozenset()


def decode(raw: bytes, reads: frozenset[str] | None) -> dict[str, Json]:
    """The attributes named in `reads` that the context has; all of them when `reads` is None.

    Numbers are floats, as on the wire.
    Errors: InvalidRequest for bytes that are no context; TooLarge when a bound is passed. Nothing else.
    """
    if not raw:
        return {}
    if len(raw) > CONTEXT_BYTES_MAX:
        raise TooLarge(f"context has {len(raw)} bytes, at most {CONTEXT_BYTES_MAX} are allowed")
    try:
        fields = _parse(raw).fields
    except DecodeError:
        raise InvalidRequest("context is not a google.protobuf.Struct with UTF-8 keys") from None
    if len(fields) > CONTEXT_ATTRIBUTES_MAX:
        raise TooLarge(f"context has {len(fields)} attributes, at most {CONTEXT_ATTRIBUTES_MAX} are allowed")
    if len(raw) > _SMALL_BYTES:
        for name, encoded in fields.items():
            _check_size(name, encoded)
    if reads is None:
        return {name: _value(name, encoded) for name, encoded in fields.items()}
    context: dict[str, Json] = {}
    # Not by subscript: that would add an absent entry to the map.
    find = fields.get
    for name in reads:
        found = find(name)
        if found is not None:
            context[name] = _value(name, found)
    return context


def check(raw: bytes) -> None:
    """Refuse a context that `decode` would refuse for its size or form. Errors: InvalidRequest, TooLarge."""
    decode(raw, _EMPTY)


def _check_size(name: str, encoded: bytes) -> None:
    if len(name.encode()) > CONTEXT_KEY_BYTES_MAX:
        raise TooLarge(
            f"attribute {_shown(name)} has a name of {len(name.encode())} bytes,"
            f" at most {CONTEXT_KEY_BYTES_MAX} are allowed"
        )
    if len(encoded) > CONTEXT_VALUE_BYTES_MAX:
        raise TooLarge(
            f"attribute {_shown(name)} has a value of {len(encoded)} encoded bytes,"
            f" at most {CONTEXT_VALUE_BYTES_MAX} are allowed"
        )


def _value(name: str, encoded: bytes) -> Json:
    """Decode one google.protobuf.Value: plain scalars by hand, as nearly all are; the rest by protobuf."""
    size = len(encoded)
    if size > 1:
        first = encoded[0]
        if first == _STRING and encoded[1] == size - 2 and size - 2 <= _ONE_BYTE_LENGTH_MAX:
            try:
                return encoded[2:].decode()
            except UnicodeDecodeError:
                raise _malformed(name) from None
        if first == _NUMBER and size == _NUMBER_BYTES:
            number: float = _DOUBLE(encoded, 1)[0]
            if isfinite(number):
                return number
            raise _not_finite(name)
        if first == _BOOLEAN and size == _FLAG_BYTES and encoded[1] <= 1:
            return encoded[1] == 1
    return _parsed(name, encoded)


def _parsed(name: str, encoded: bytes) -> Json:
    try:
        value = Value.FromString(encoded)
    except DecodeError:
        raise _malformed(name) from None
    return _plain(name, value, 0)


def _plain(name: str, value: Value, depth: int) -> Json:
    """Turn a message into JSON. Recursion is bounded by CONTEXT_DEPTH_MAX."""
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "number_value":
            if isfinite(value.number_value):
                return value.number_value
            raise _not_finite(name)
        case "list_value":
            _check_depth(name, depth)
            return [_plain(name, item, depth + 1) for item in value.list_value.values]
        case "struct_value":
            _check_depth(name, depth)
            return {key: _plain(name, item, depth + 1) for key, item in value.struct_value.fields.items()}
        case _:
            # A null, or a value that says nothing, which other languages read as null, too.
            return None


def _check_depth(name: str, depth: int) -> None:
    if depth >= CONTEXT_DEPTH_MAX:
        raise TooLarge(f"attribute {_shown(name)} is nested deeper than {CONTEXT_DEPTH_MAX} lists and objects")


def _malformed(name: str) -> InvalidRequest:
    return InvalidRequest(f"attribute {_shown(name)} is not a google.protobuf.Value with UTF-8 text")


def _not_finite(name: str) -> InvalidRequest:
    return InvalidRequest(f"attribute {_shown(name)} is not a finite number; JSON has no other")


def _shown(name: str) -> str:
    return repr(name if len(name) <= _SHOWN_CHARS else name[: _SHOWN_CHARS - 3] + "...")
