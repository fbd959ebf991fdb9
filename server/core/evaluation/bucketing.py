"""Turn a unit into a bucket: hash, scale, compare."""

import struct
from typing import Final

import mmh3

from server.core.evaluation.compare import to_text
from server.core.json import Json
from server.core.limits import SHARE_PARTS

HASH_SPACE: Final = 2**32
_UINT64_MAX: Final = 2**64 - 1
_INT64_MIN: Final = -(2**63)


def hash32(data: bytes) -> int:
    """MurmurHash3 x86-32 with seed 0, unsigned.

    Bytes only: mmh3 5.3 takes text too, but ends the whole process by a segmentation fault when that text has a
    surrogate in it. Encoding it first raises UnicodeEncodeError instead.
    """
    return mmh3.hash(data, 0, False)


def bucket(hashed: int, total: int) -> int:
    """Scale a hash to 0..total-1 without a division. Source: flagd ADR high-precision-fractional-bucketing."""
    return (hashed * total) >> 32


def hash_limits(weights: tuple[int, ...]) -> tuple[int, ...]:
    """The hashes below which each arm ends: bucket(h, sum) < cumulative weight exactly when h < limit.

    Shapes: weights int[arms] >= 0, sum > 0; limits int[arms], non-decreasing, the last one 2**32.
    """
    total = sum(weights)
    limits, reached = [], 0
    for weight in weights:
        reached += weight
        limits.append(-((-reached * HASH_SPACE) // total))
    return tuple(limits)


def unit_text(value: Json) -> str | None:
    """A bucketing key as text: numbers as JSON writes them, so 33333, 33333.0 and "33333" are one unit.

    None when there is no key: null or the empty text.
    """
    return None if value is None or value == "" else to_text(value)


def share_bucket(salt: str, unit: Json) -> int | None:
    """The unit's place in 0..SHARE_PARTS-1 for a share with this salt; None without a bucketing key."""
    text = unit_text(unit)
    return None if text is None else bucket(hash32(f"{salt}:{text}".encode()), SHARE_PARTS)


def canonical_cbor(value: Json) -> bytes:
    """RFC 8949 section 4.2.1 deterministic encoding; whole numbers within 64 bits count as integers.

    Source: flagd ADR fractional-non-string-rand-units.
    """
    if value is None:
        return b"\xf6"
    if isinstance(value, bool):
        return b"\xf5" if value else b"\xf4"
    if isinstance(value, str):
        return text_cbor(value)
    if isinstance(value, int | float):
        return _cbor_number(value)
    if isinstance(value, list):
        return _head(4, len(value)) + b"".join(map(canonical_cbor, value))
    entries = sorted((canonical_cbor(key), canonical_cbor(item)) for key, item in value.items())
    return _head(5, len(entries)) + b"".join(key + item for key, item in entries)


def text_cbor(text: str) -> bytes:
    """`canonical_cbor` of a text, which nearly every bucketing key is."""
    encoded = text.encode()
    size = len(encoded)
    return (_TEXT_HEADS[size] if size < len(_TEXT_HEADS) else _head(3, size)) + encoded


def _cbor_number(value: float | int) -> bytes:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and _INT64_MIN <= value <= _UINT64_MAX:
        return _head(0, value) if value >= 0 else _head(1, -1 - value)
    number = float(value)
    if number != number:
        return b"\xf9\x7e\x00"
    for prefix, layout in ((b"\xf9", ">e"), (b"\xfa", ">f")):
        try:
            encoded = struct.pack(layout, number)
        except OverflowError:
            continue
        if struct.unpack(layout, encoded)[0] == number:
            return prefix + encoded
    return b"\xfb" + struct.pack(">d", number)


def _head(major: int, argument: int) -> bytes:
    if argument < 24:
        return bytes((major << 5 | argument,))
    for code, layout, limit in ((24, ">B", 1 << 8), (25, ">H", 1 << 16), (26, ">I", 1 << 32)):
        if argument < limit:
            return bytes((major << 5 | code,)) + struct.pack(layout, argument)
    return bytes((major << 5 | 27,)) + struct.pack(">Q", argument)


_TEXT_HEADS: Final = tuple(_head(3, size) for size in range(256))
"""What stands before a text of each usual length."""
