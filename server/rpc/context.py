"""Decode an evaluation context from its bytes, only as far as a rule reads it.

A context arrives as google.protobuf.Struct. Only the attributes that are asked for become Python values: quickly where
all of the context is written as libraries write it (heads.py), else by protobuf, which separates them without decoding
(protos/flagstaff/raw/v1/views.proto). Whatever is to be refused is refused by the second way.

Bounds: the context's size and number of attributes are always checked. An attribute's depth is checked when it is
read; one that nobody reads stays bytes and costs nothing. A depth of 1 is a list or an object, 2 one inside it.
"""

from math import isfinite
from struct import Struct as Layout
from struct import error as LayoutError
from typing import Final

from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Value

from protos.flagstaff.raw.v1.views_pb2 import StructView
from server.core.errors import FlagstaffError, InvalidRequest, TooLarge
from server.core.json import Json
from server.core.limits import (
    CONTEXT_ATTRIBUTES_MAX,
    CONTEXT_BYTES_MAX,
    CONTEXT_DEPTH_MAX,
    CONTEXT_KEY_BYTES_MAX,
    CONTEXT_VALUE_BYTES_MAX,
)
from server.rpc.heads import AROUND_NAME_BYTES, HEADS, NAME_LENGTH_AT, learn_head

# First byte of an encoded google.protobuf.Value: field number and wire type of its one member.
_NUMBER: Final = 0x11
_STRING: Final = 0x1A
_BOOLEAN: Final = 0x20

_NUMBER_BYTES: Final = 9
_FLAG_BYTES: Final = 2
_ONE_BYTE_LENGTH_MAX: Final = 0x7F
"""Longest text whose length takes one byte."""

_DOUBLE_BYTES: Final = 8
_DOUBLE: Final = Layout("<d").unpack_from
_SMALL_BYTES: Final = min(CONTEXT_KEY_BYTES_MAX, CONTEXT_VALUE_BYTES_MAX)
"""A context of up to this size cannot hold a key or value that is too long."""

_ENTRY: Final = b"\x0a"
"""The byte that begins an attribute; whatever else it stands in, a context has no more attributes than such bytes."""

_NAMED_ENTRY_BYTES_MIN: Final = 5
_FEW_BYTES: Final = _NAMED_ENTRY_BYTES_MIN * CONTEXT_ATTRIBUTES_MAX
"""A context of up to this size cannot hold too many attributes."""

_LENGTH_BYTES_MAX: Final = 3
"""Of the length of an attribute in a context that is not too large."""

_SEVEN_BITS: Final = 0x7F
_SHOWN_CHARS: Final = 80

_parse = StructView.FromString
_EMPTY: Final[frozenset[str]] = frozenset()


def decode(raw: bytes, reads: frozenset[str] | None) -> dict[str, Json]:
    """The attributes named in `reads` that the context has; all of them when `reads` is None.

    Numbers are floats, as on the wire.
    Errors: InvalidRequest for bytes that are no context; TooLarge when a bound is passed. Nothing else.
    """
    size = len(raw)
    if size > CONTEXT_BYTES_MAX:
        raise TooLarge(f"context has {size} bytes, at most {CONTEXT_BYTES_MAX} are allowed")
    if size > _FEW_BYTES and raw.count(_ENTRY) > CONTEXT_ATTRIBUTES_MAX:
        return _thoroughly(raw, reads)
    context: dict[str, Json] = {}
    find = HEADS.get
    at = 0
    try:
        while at < size:
            head = find(raw[at : at + raw[at + NAME_LENGTH_AT] + AROUND_NAME_BYTES]) or learn_head(raw, at)
            if head is None:
                at = _take_one(raw, at, reads, context)
                continue
            name, skip_bytes, text_bytes, value = head
            at += skip_bytes
            if text_bytes > 0:
                start = at
                at += text_bytes
                if reads is None or name in reads:
                    context[name] = raw[start:at].decode()
            elif reads is None or name in reads:
                if text_bytes:
                    (value,) = _DOUBLE(raw, at - _DOUBLE_BYTES)
                    if not isfinite(value):
                        raise _Unusual
                context[name] = value
    except (_Unusual, IndexError, LayoutError, UnicodeDecodeError, DecodeError, FlagstaffError):
        at = -1
    # Malformed, too large, or written as no library does: the thorough way knows which.
    return context if at == size else _thoroughly(raw, reads)


class _Unusual(Exception):
    """The context is not a sequence of attributes with nothing between them."""


def _take_one(raw: bytes, at: int, reads: frozenset[str] | None, context: dict[str, Json]) -> int:
    """Read one attribute without a head by protobuf; gives the place after it.

    Errors: those that `decode` expects, for what is no good or cannot be read by itself.
    """
    start, size, shift = at + 1, 0, 0
    if raw[at : at + 1] != _ENTRY:
        raise _Unusual
    while True:
        byte = raw[start]
        size |= (byte & _SEVEN_BITS) << shift
        start, shift = start + 1, shift + 7
        if byte <= _SEVEN_BITS:
            break
        if shift == 7 * _LENGTH_BYTES_MAX:
            raise _Unusual
    if start + size > len(raw):
        raise _Unusual
    # One, or none: protobuf takes an entry with an unknown field in it for no entry.
    for name, encoded in _parse(raw[at : start + size]).fields.items():
        _check_size(name, encoded)
        if reads is None or name in reads:
            context[name] = _value(name, encoded)
    return start + size


def _thoroughly(raw: bytes, reads: frozenset[str] | None) -> dict[str, Json]:
    """The attributes by protobuf. Errors: as `decode`."""
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
