"""Encode a JSON value as deterministic CBOR (RFC 8949, 4.2.1), for the reference's bucketing v3."""

import math
import struct
from typing import Any, Final

UNSIGNED, NEGATIVE, TEXT, ARRAY, MAP = 0, 1, 3, 4, 5
SIZES: Final = ((0x100, 24, ">B"), (0x10000, 25, ">H"), (0x100000000, 26, ">I"), (0x10000000000000000, 27, ">Q"))
FLOATS: Final = ((0xF9, ">e"), (0xFA, ">f"), (0xFB, ">d"))


def canonical_cbor(value: Any) -> bytes:
    """The bytes of a JSON value; a number without fraction from -2**63 to 2**64-1 is an integer."""
    if value is None:
        return b"\xf6"
    if isinstance(value, bool):
        return b"\xf5" if value else b"\xf4"
    if isinstance(value, str):
        data = value.encode("utf-16-be", "surrogatepass").decode("utf-16-be", "replace").encode()
        return head(TEXT, len(data)) + data
    if isinstance(value, list):
        return head(ARRAY, len(value)) + b"".join(canonical_cbor(item) for item in value)
    if isinstance(value, dict):
        entries = sorted((canonical_cbor(key), canonical_cbor(item)) for key, item in value.items())
        return head(MAP, len(entries)) + b"".join(key + item for key, item in entries)
    return _number(float(value))


def head(major: int, argument: int) -> bytes:
    """The initial byte and its argument in the shortest form."""
    if argument < 24:
        return bytes([major << 5 | argument])
    code, form = next((code, form) for end, code, form in SIZES if argument < end)
    return bytes([major << 5 | code]) + struct.pack(form, argument)


def _number(value: float) -> bytes:
    if value.is_integer() and -(2.0**63) <= value < 2.0**64:
        number = int(value)
        return head(UNSIGNED, number) if number >= 0 else head(NEGATIVE, -1 - number)
    if math.isnan(value):
        return b"\xf9\x7e\x00"
    return next(bytes([code]) + data for code, form in FLOATS if (data := _packed(form, value)) is not None)


def _packed(form: str, value: float) -> bytes | None:
    """The value in this size, when nothing of it is lost."""
    try:
        data = struct.pack(form, value)
    except OverflowError:
        return None
    return data if struct.unpack(form, data)[0] == value else None
