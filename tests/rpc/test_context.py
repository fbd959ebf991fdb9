"""A context's bytes become the attributes that are asked for, or a refusal, and nothing else."""

import math
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Struct, Value
from hypothesis import example, given, settings
from hypothesis import strategies as st

from protos.flagstaff.raw.v1.views_pb2 import StructView
from server.core.errors import InvalidRequest, TooLarge
from server.core.limits import (
    CONTEXT_ATTRIBUTES_MAX,
    CONTEXT_BYTES_MAX,
    CONTEXT_DEPTH_MAX,
    CONTEXT_KEY_BYTES_MAX,
    CONTEXT_VALUE_BYTES_MAX,
)
from server.rpc.context import decode
from server.rpc.convert import field
from server.rpc.heads import HEADS, HEADS_MAX
from tests.fakes import struct, struct_bytes

# A lone surrogate is no text: no protobuf library can send one.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
scalars = st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=8
)


def entry(key: bytes, value: bytes) -> bytes:
    """One attribute of a Struct, as bytes that nobody checked."""
    return field(1, field(1, key) + field(2, value))


@given(st.dictionaries(texts, values, max_size=8))
def test_everything_comes_back(attributes: dict[str, Any]) -> None:
    """Decoding all of a context gives what was encoded, with numbers as floats."""
    assert attributes == decode(struct_bytes(attributes), None)


@given(st.dictionaries(texts, values, max_size=8), st.frozensets(texts, max_size=4))
def test_only_what_is_read_comes_back(attributes: dict[str, Any], reads: frozenset[str]) -> None:
    """Decoding some attributes gives exactly those of them that are there."""
    reads |= frozenset(list(attributes)[:2])

    assert {key: attributes[key] for key in reads & attributes.keys()} == decode(struct_bytes(attributes), reads)


@given(st.binary(max_size=400))
@example(entry(b"k", b"\x1a\x02\xff\xfe"))
@example(entry(b"k", b"\x0a"))
@example(entry(b"\xff", b"\x20\x01"))
def test_any_bytes_decode_or_are_refused(raw: bytes) -> None:
    """Nothing that a client can send raises anything but a refusal."""
    try:
        decoded = decode(raw, None)
    except (InvalidRequest, TooLarge):
        return
    assert Struct.FromString(raw).fields.keys() == decoded.keys()


# Fields of a Value in plain and in unusual forms: long varints, empty texts, true written as 2, an unknown field.
pieces = st.sampled_from(
    [
        *(b"\x08\x00", b"\x20\x00", b"\x20\x01", b"\x20\x02", b"\x20\x81\x00"),
        *(b"\x1a\x00", b"\x1a\x01x", b"\x1a\x81\x00x", b"\x1a\x02\xc3\xa9"),
        *(b"\x11" + bytes(8), b"\x11" + bytes(6) + b"\xf0\x3f", b"\x2a\x00", b"\x32\x00", b"\x78\x01"),
    ]
)


@given(st.lists(pieces, max_size=4).map(b"".join))
def test_any_value_decodes_as_protobuf_does(value: bytes) -> None:
    """The quick way for scalars agrees with protobuf's own, however the value is written."""
    reference = Struct(fields={"k": Value.FromString(value)})

    assert json_format.MessageToDict(reference) == decode(entry(b"k", value), None)


def scalar_bytes(scalar: Any) -> bytes:
    """A google.protobuf.Value."""
    encoded: bytes = struct({"k": scalar}).fields["k"].SerializeToString()
    return encoded


# Attributes as libraries write them and in every other way that the wire format knows: names and values of any length,
# in any order or missing, lengths written with more bytes than they need, fields that nobody knows, cut ends.
keys = st.sampled_from([b"", b"k", b"tier", "é".encode(), b"n" * 121, b"n" * 130])
written = st.one_of(
    st.lists(pieces, max_size=2).map(b"".join),
    st.binary(max_size=12),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=100, max_size=140).map(scalar_bytes),
    st.floats(allow_nan=False, allow_infinity=False).map(scalar_bytes),
    scalars.map(scalar_bytes),
)
bodies = st.one_of(
    st.tuples(keys, written).map(lambda both: field(1, both[0]) + field(2, both[1])),
    st.tuples(keys, written).map(lambda both: field(2, both[1]) + field(1, both[0])),
    st.tuples(keys, written, st.binary(max_size=4)).map(lambda all_: field(1, all_[0]) + field(2, all_[1]) + all_[2]),
    keys.map(lambda key: field(1, key)),
    written.map(lambda value: field(2, value)),
)
contexts = st.lists(
    st.one_of(
        bodies.map(lambda body: field(1, body)),
        bodies.map(lambda body: b"\x0a" + bytes([len(body) % 128 | 0x80, len(body) // 128]) + body),
        bodies.map(lambda body: b"\x0a" + bytes([len(body) % 128 | 0x80, len(body) // 128 | 0x80, 0]) + body),
        st.sampled_from([b"\x0a\x00", b"\x12\x00", b"\x78\x01", b"\x0a", b"\x0a\x7f", b"\x00"]),
    ),
    max_size=5,
).map(b"".join)


def decoded_by_protobuf(raw: bytes, reads: frozenset[str] | None) -> dict[str, Any] | None:
    """What protobuf's own messages say; None for what must be refused."""
    try:
        fields = StructView.FromString(raw).fields
        wanted = [name for name in fields if reads is None or name in reads]
        told = {name: json_format.MessageToDict(Value.FromString(fields[name])) for name in wanted}
    except (DecodeError, json_format.SerializeToJsonError, ValueError):
        return None
    return told


@given(contexts, st.none() | st.frozensets(st.sampled_from(["", "k", "tier", "é", "n" * 121, "n" * 130]), max_size=4))
@settings(max_examples=500)
def test_any_context_decodes_as_protobuf_does(raw: bytes, reads: frozenset[str] | None) -> None:
    """However a context is written, the quick way gives what protobuf's own messages say, or both refuse it."""
    expected = decoded_by_protobuf(raw, reads)
    if expected is not None:
        assert expected == decode(raw, reads)
        return
    with pytest.raises((InvalidRequest, TooLarge)):
        decode(raw, reads)


def test_heads_are_bounded() -> None:
    """However many names clients invent, what is remembered of them has a bound."""
    for number in range(HEADS_MAX + 10):
        decode(struct_bytes({f"name-{number}": True}), None)

    assert 0 < len(HEADS) <= HEADS_MAX


@pytest.mark.parametrize(
    "value",
    [b"\x1a\x02\xff\xfe", b"\x1a\x05abc", b"\x11\x00", b"\x20", b"\x2a\x05\x0a", b"\x32\xff\xff"],
    ids=["not UTF-8", "cut text", "cut number", "cut boolean", "cut object", "cut list"],
)
def test_malformed_value_is_refused_by_name(value: bytes) -> None:
    """A value that cannot be decoded is refused, and the message names its attribute."""
    with pytest.raises(InvalidRequest, match="'tier'"):
        decode(entry(b"tier", value), frozenset({"tier"}))


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_number_outside_json_is_refused(number: float) -> None:
    """JSON knows finite numbers only, alone or inside a list."""
    with pytest.raises(InvalidRequest, match="finite"):
        decode(struct_bytes({"n": number}), None)
    with pytest.raises(InvalidRequest, match="finite"):
        decode(struct_bytes({"n": [number]}), None)


def test_context_size_bound() -> None:
    """A context of exactly the bound is taken, one byte more is not."""
    value = struct_bytes({f"k{n}": "v" * 8000 for n in range(8)})
    room = CONTEXT_BYTES_MAX - len(value) - len(struct_bytes({"last": "v" * 200})) + 200
    exact = struct_bytes({**{f"k{n}": "v" * 8000 for n in range(8)}, "last": "v" * room})
    assert CONTEXT_BYTES_MAX == len(exact)

    assert 9 == len(decode(exact, None))
    with pytest.raises(TooLarge, match=str(CONTEXT_BYTES_MAX)):
        decode(exact + b"\x00", None)


def test_attribute_count_bound() -> None:
    """The bound on attributes is exact."""
    attributes = {str(n): 1.0 for n in range(CONTEXT_ATTRIBUTES_MAX)}

    assert CONTEXT_ATTRIBUTES_MAX == len(decode(struct_bytes(attributes), None))
    with pytest.raises(TooLarge, match=str(CONTEXT_ATTRIBUTES_MAX)):
        decode(struct_bytes({**attributes, "more": 1.0}), frozenset())


def test_key_size_bound() -> None:
    """The bound on an attribute's name counts bytes, and holds for attributes that nobody reads."""
    assert 1 == len(decode(struct_bytes({"é" * (CONTEXT_KEY_BYTES_MAX // 2): 1.0}), None))
    with pytest.raises(TooLarge, match=str(CONTEXT_KEY_BYTES_MAX)):
        decode(struct_bytes({"k" * (CONTEXT_KEY_BYTES_MAX + 1): 1.0}), frozenset())


def test_value_size_bound() -> None:
    """The bound on a value counts its encoded bytes: a text of three bytes less just fits."""
    fits = CONTEXT_VALUE_BYTES_MAX - 3

    assert {"k": "v" * fits} == decode(struct_bytes({"k": "v" * fits}), None)
    with pytest.raises(TooLarge, match=str(CONTEXT_VALUE_BYTES_MAX)):
        decode(struct_bytes({"k": "v" * (fits + 1)}), frozenset())


def nested(depth: int) -> Any:
    """A text inside so many lists."""
    return [nested(depth - 1)] if depth else "x"


def test_depth_bound() -> None:
    """The bound on nesting is exact, and depth far beyond protobuf's own bound is refused as calmly."""
    assert {"k": nested(CONTEXT_DEPTH_MAX)} == decode(struct_bytes({"k": nested(CONTEXT_DEPTH_MAX)}), None)
    with pytest.raises(TooLarge, match=str(CONTEXT_DEPTH_MAX)):
        decode(struct_bytes({"k": nested(CONTEXT_DEPTH_MAX + 1)}), None)
    value = b"\x1a\x01x"
    for _ in range(300):
        value = field(6, field(1, value))
    with pytest.raises(InvalidRequest):
        decode(entry(b"k", value), None)


def test_absent_attribute_stays_absent() -> None:
    """Asking for an attribute that the context lacks does not invent it."""
    assert {} == decode(struct_bytes({"a": "x"}), frozenset({"b"}))
    assert {} == decode(b"", None)


def test_repeated_key_counts_by_its_last_value() -> None:
    """A key that is sent twice has its last value, as protobuf maps do."""
    assert {"k": True} == decode(entry(b"k", b"\x1a\x01x") + entry(b"k", b"\x20\x01"), None)
