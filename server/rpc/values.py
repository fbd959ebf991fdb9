"""Turn JSON values into messages and back."""

import json
from typing import Final

from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.struct_pb2 import Struct, Value

from server.core.errors import InvalidRequest
from server.core.json import Json

_EXACT_MAX: Final = 2**53
"""Whole numbers up to here are taken for integers: JSON's numbers travel as doubles."""


def json_of(message: Struct | Value) -> Json:
    """A JSON value as its message has it, with whole numbers as such. Errors: InvalidRequest when it has none."""
    try:
        return _with_integers(MessageToDict(message))
    except (ValueError, RecursionError):
        raise InvalidRequest("a value is nested too deeply, or holds a number that JSON has not") from None


def value_of(value: Json) -> Value:
    """A JSON value as a message. Errors: InvalidRequest when it is nested too deeply for one."""
    try:
        return ParseDict(value, Value()) if value is not None else Value(null_value=0)  # type: ignore[arg-type]  # NULL_VALUE.
    except (ParseError, RecursionError):
        raise InvalidRequest(f"a value of {len(json.dumps(value))} characters is nested too deeply") from None


def _with_integers(value: Json) -> Json:
    if isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT_MAX:
        return int(value)
    if isinstance(value, list):
        return [_with_integers(item) for item in value]
    if isinstance(value, dict):
        return {name: _with_integers(item) for name, item in value.items()}
    return value
