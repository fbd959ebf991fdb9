"""Read the number that a provider answered with."""

import json
from typing import Any, Final

from server.core.errors import InvalidRequest

SHOWN_CHARS_MAX: Final = 200
"""What is repeated of a provider's own words."""


def read_prometheus(body: bytes) -> float | None:
    """The one number of an answer to an instant query; None for an empty vector.

    Errors: InvalidRequest, saying what is wrong with the answer. Source: Prometheus' HTTP API v1, /api/v1/query.
    """
    answer = _parsed(body)
    if not isinstance(answer, dict) or answer.get("status") != "success":
        said = answer.get("error") if isinstance(answer, dict) else None
        raise InvalidRequest(f"Prometheus says: {_shown(said)}" if said else "the answer is not one of Prometheus")
    data = answer.get("data")
    kind, result = (data.get("resultType"), data.get("result")) if isinstance(data, dict) else (None, None)
    if kind == "scalar":
        return _sample(result)
    if kind != "vector" or not isinstance(result, list):
        raise InvalidRequest(f"the query gives a {_shown(kind)}, expected an instant vector or a scalar")
    if not result:
        return None
    if len(result) > 1:
        raise InvalidRequest(f"the query gives {len(result)} series, expected one: sum them up, or choose by labels")
    return _sample(result[0].get("value") if isinstance(result[0], dict) else None)


def read_json(body: bytes, pointer: str) -> float | None:
    """The number at an RFC 6901 pointer; None for a null, and where there is nothing. Errors: InvalidRequest."""
    value: Any = _parsed(body)
    for token in pointer.split("/")[1:]:
        key = token.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list) and key.isascii() and key.isdigit() and int(key) < len(value):
            value = value[int(key)]
        else:
            return None
    if value is None:
        return None
    return _number(value, f"what stands at {pointer or '/'}")


def split_query(query: str) -> tuple[str, str]:
    """Path and pointer of a query for HTTP: `/health#/errors/rate`, or a pointer alone. Errors: InvalidRequest."""
    path, found, pointer = query.partition("#")
    if not found:
        path, pointer = "", query
    if pointer and not pointer.startswith("/"):
        raise InvalidRequest(
            f"{_shown(pointer)} is no JSON pointer; it begins with /, and stands behind # where a path is"
        )
    # What is behind the address must not become another one.
    if path and (not path.startswith("/") or path.startswith("//") or "\\" in path or "/../" in f"{path}/"):
        raise InvalidRequest(f"{_shown(path)} is no path below the provider's address; it begins with one /")
    return path, pointer


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidRequest("the answer is not JSON") from None


def _sample(value: Any) -> float:
    if not isinstance(value, list) or len(value) != 2:
        raise InvalidRequest("the answer is not one of Prometheus")
    return _number(value[1], "the sample")


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise InvalidRequest(f"{what} is no number")
    try:
        # A whole number may be too large for one of floating point.
        return float(value)
    except (ValueError, OverflowError):
        raise InvalidRequest(f"{what} is {_shown(value)}, expected a number") from None


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= SHOWN_CHARS_MAX else text[:SHOWN_CHARS_MAX] + "..."
