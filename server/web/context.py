"""Read an evaluation context from the JSON body of a request, within the bounds of every context.

Numbers become floats, as in the other protocols, so that a flag answers alike whichever way it is asked. A context's
size is counted in what its texts take in UTF-8 and 8 bytes a number.
"""

import json
from math import isfinite
from typing import Final, NoReturn

from server.core.errors import InvalidRequest, TooLarge
from server.core.json import Json
from server.core.limits import (
    CONTEXT_ATTRIBUTES_MAX,
    CONTEXT_BYTES_MAX,
    CONTEXT_DEPTH_MAX,
    CONTEXT_KEY_BYTES_MAX,
    CONTEXT_VALUE_BYTES_MAX,
)

_NUMBER_BYTES: Final = 8
_SHOWN_CHARS: Final = 80
_SMALL_BYTES: Final = min(CONTEXT_KEY_BYTES_MAX, CONTEXT_VALUE_BYTES_MAX, CONTEXT_BYTES_MAX)
"""A body of up to this size cannot hold a key or value that is too long: JSON is never shorter than its texts."""

_EXAMPLE: Final = '{"context": {"targetingKey": "user-1"}}'


def read_context(body: bytes) -> dict[str, Json]:
    """The context in a body such as `{"context": {...}}`; {} when it has none.

    Errors: InvalidRequest for bytes that are no such body; TooLarge when a bound is passed. Nothing else.
    """
    parsed = _parse(body)
    if type(parsed) is not dict:
        raise InvalidRequest(f"the body is not a JSON object such as {_EXAMPLE}")
    context = parsed.get("context")
    if context is None:
        return {}
    if type(context) is not dict:
        raise InvalidRequest(f"`context` is not a JSON object; the body looks like {_EXAMPLE}")
    # An escape may be half of a surrogate pair, which shows when the text is encoded to be measured.
    _check(context, measured=len(body) > _SMALL_BYTES or b"\\u" in body)
    return context


def _parse(body: bytes) -> Json:
    if not body:
        raise InvalidRequest(f"the body is empty; send a JSON object such as {_EXAMPLE}")
    try:
        return _DECODER.decode(body.decode())
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"byte {error.start} of the body is not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise InvalidRequest(f"the body is not JSON: {error.msg} at line {error.lineno} column {error.colno}") from None
    except RecursionError:
        raise TooLarge("the body is nested too deeply") from None


def _refuse_constant(name: str) -> NoReturn:
    raise InvalidRequest(f"{name} is not a number in JSON")


# Integers are read as floats, too: other protocols have no others, and Python's own take quadratic time to read.
_DECODER: Final = json.JSONDecoder(parse_int=float, parse_constant=_refuse_constant)


def _check(context: dict[str, Json], *, measured: bool) -> None:
    if len(context) > CONTEXT_ATTRIBUTES_MAX:
        raise TooLarge(f"context has {len(context)} attributes, at most {CONTEXT_ATTRIBUTES_MAX} are allowed")
    context_bytes = 0
    for name, value in context.items():
        if type(value) is str and not measured:
            continue
        try:
            value_bytes = _size(name, value, 0)
            name_bytes = len(name.encode())
        except UnicodeEncodeError:
            raise InvalidRequest(
                f"attribute {_shown(name)} has half of a surrogate pair, which is not a character"
            ) from None
        if name_bytes > CONTEXT_KEY_BYTES_MAX:
            raise TooLarge(
                f"attribute {_shown(name)} has a name of {name_bytes} bytes,"
                f" at most {CONTEXT_KEY_BYTES_MAX} are allowed"
            )
        if value_bytes > CONTEXT_VALUE_BYTES_MAX:
            raise TooLarge(
                f"attribute {_shown(name)} has a value of {value_bytes} bytes,"
                f" at most {CONTEXT_VALUE_BYTES_MAX} are allowed"
            )
        context_bytes += name_bytes + value_bytes
    if context_bytes > CONTEXT_BYTES_MAX:
        raise TooLarge(f"context has {context_bytes} bytes, at most {CONTEXT_BYTES_MAX} are allowed")


def _size(name: str, value: Json, depth: int) -> int:
    """Bytes of a value, which is checked on the way. Recursion is bounded by CONTEXT_DEPTH_MAX."""
    if type(value) is str:
        return len(value.encode())
    if type(value) is float:
        if isfinite(value):
            return _NUMBER_BYTES
        raise InvalidRequest(f"attribute {_shown(name)} has a number that is too large for a 64-bit float")
    if type(value) is list:
        _check_depth(name, depth)
        return sum([1 + _size(name, item, depth + 1) for item in value])
    if type(value) is dict:
        _check_depth(name, depth)
        return sum([1 + len(key.encode()) + _size(name, item, depth + 1) for key, item in value.items()])
    return 1


def _check_depth(name: str, depth: int) -> None:
    if depth >= CONTEXT_DEPTH_MAX:
        raise TooLarge(f"attribute {_shown(name)} is nested deeper than {CONTEXT_DEPTH_MAX} lists and objects")


def _shown(name: str) -> str:
    return ascii(name if len(name) <= _SHOWN_CHARS else name[: _SHOWN_CHARS - 3] + "...")
