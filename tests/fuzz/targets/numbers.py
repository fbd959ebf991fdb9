"""Feed any double and any text to the conversions of numbers: what is written is read back."""

import math
import struct

from server.core.evaluation.compare import as_double, number_text, parse_float, text_of, to_number

DOUBLE_BYTES = 8


def test_one(data: bytes) -> None:
    """The first eight bytes are a double and a whole number, the rest is a text."""
    head = data[:DOUBLE_BYTES].ljust(DOUBLE_BYTES, b"\0")
    for number in (
        struct.unpack("<d", head)[0],
        int.from_bytes(head, "little", signed=True),
        int.from_bytes(data[:40]),
    ):
        _round_trip(number)
    text = data[DOUBLE_BYTES:].decode("utf-8", "surrogateescape")
    for read in (to_number, parse_float):
        value = read(text)
        assert type(value) in (int, float), f"{text!r} was read as {value!r}"
        assert value != value or read(number_text(value)) == value, f"{text!r} was read as {value!r}"


def _round_trip(number: float | int) -> None:
    text = number_text(number)
    again = to_number(text)
    if math.isnan(number):
        assert text == "NaN"
    else:
        assert again == as_double(number), f"{number!r} was written {text!r} and read as {again!r}"
        assert text_of(again) == text, f"{number!r} was written {text!r}, then {text_of(again)!r}"
