"""Parse JSON text strictly, YAML text likewise, into plain values."""

import json
from collections import Counter
from collections.abc import Iterator
from math import isfinite
from typing import Final, NoReturn

from server.core.definitions.problems import Path, Problems, shown
from server.core.definitions.yaml import parse_yaml
from server.core.errors import InvalidDefinition, Problem
from server.core.json import Json
from server.core.limits import DOCUMENT_BYTES_MAX

YAML_SUFFIXES: Final = (".yaml", ".yml")
JSON_SUFFIX: Final = ".json"


def parse_text(text: str | bytes, *, name: str = "") -> Json:
    """Read JSON or YAML: by the name's suffix, else whichever of the two it is.

    Refused in both: a key that stands twice, NaN, infinity, half a surrogate pair, and what has no JSON form.

    Errors: InvalidDefinition, with line and column where the syntax is broken.
    """
    decoded = _decode(text)
    suffix = name.lower()
    if suffix.endswith(JSON_SUFFIX):
        return _parse_json(decoded)
    if suffix.endswith(YAML_SUFFIXES):
        return _parse_yaml(decoded)
    try:
        return _parse_json(decoded)
    except _NotJson as error:
        try:
            return _parse_yaml(decoded)
        except InvalidDefinition:
            if decoded.lstrip()[:1] in ("{", "["):
                raise error from None
            raise


class _NotJson(InvalidDefinition):
    """The text is not JSON at all; it may be YAML."""


class _Repeated(dict[str, Json]):
    """An object in which a key stands twice, until the path to it is found."""

    names: tuple[str, ...] = ()


def _decode(text: str | bytes) -> str:
    byte_count = len(text) if isinstance(text, bytes) else len(text.encode("utf-8", "surrogatepass"))
    if byte_count > DOCUMENT_BYTES_MAX:
        _refuse(f"the document has {byte_count} bytes, at most {DOCUMENT_BYTES_MAX} are allowed")
    try:
        if isinstance(text, bytes):
            return text.decode("utf-8-sig")
        text.encode()
    except UnicodeDecodeError as error:
        _refuse(f"byte {error.start} is not UTF-8 text; save the document as UTF-8")
    except UnicodeEncodeError as error:
        _refuse(f"character {error.start} is half of a surrogate pair, which no UTF-8 text can hold")
    return text.removeprefix("\ufeff")


def _parse_json(text: str) -> Json:
    repeated: list[_Repeated] = []
    infinite: list[float] = []

    def collect(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
        values = dict(pairs)
        if len(values) == len(pairs):
            return values
        marked = _Repeated(values)
        marked.names = tuple(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        repeated.append(marked)
        return marked

    def number(digits: str) -> float:
        value = float(digits)
        if not isfinite(value):
            infinite.append(value)
        return value

    try:
        data = json.loads(text, object_pairs_hook=collect, parse_float=number, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise _NotJson(
            [Problem("", f"line {error.lineno} column {error.colno}: {error.msg}; this is not JSON")]
        ) from None
    except RecursionError:
        _refuse("objects and lists are nested too deeply")
    except ValueError:
        _refuse("a number has too many digits")
    problems = Problems()
    if repeated:
        for path, key in _repeated_keys(data, ""):
            problems.error((path, key), "this key stands twice in its object; keep one")
    if infinite:
        problems.error("", "a number is too large for a 64-bit float")
    if "\\u" in text:
        _check_surrogates(data, problems)
    problems.raise_if_any()
    return data


def _parse_yaml(text: str) -> Json:
    data = parse_yaml(text)
    problems = Problems()
    if "\\u" in text or "\\U" in text:
        _check_surrogates(data, problems)
    problems.raise_if_any()
    return data


def _refuse_constant(name: str) -> NoReturn:
    _refuse(f"{name} is not a number in JSON")


def _refuse(message: str) -> NoReturn:
    raise InvalidDefinition([Problem("", message)])


def _walk(data: Json, root: Path) -> Iterator[tuple[Path, Json]]:
    """Every value with its path, without recursion: the parser lets deeper nesting through than Python's stack."""
    stack: list[tuple[Path, Json]] = [(root, data)]
    while stack:
        path, value = stack.pop()
        yield path, value
        if isinstance(value, dict):
            stack.extend(((path, key), item) for key, item in value.items())
        elif isinstance(value, list):
            stack.extend(((path, index), item) for index, item in enumerate(value))


def _repeated_keys(data: Json, root: Path) -> Iterator[tuple[Path, str]]:
    for path, value in _walk(data, root):
        if isinstance(value, _Repeated):
            yield from ((path, key) for key in value.names)


def _check_surrogates(data: Json, problems: Problems) -> None:
    """JSON and YAML can escape half of a surrogate pair, which no UTF-8 text, database or message can hold."""
    for path, value in _walk(data, ""):
        texts = [value] if isinstance(value, str) else value.keys() if isinstance(value, dict) else []
        for text in texts:
            if any("\ud800" <= char <= "\udfff" for char in text):
                readable = text.encode("utf-8", "replace").decode()
                problems.error(
                    _readable(path), f"{shown(readable)} has half of a surrogate pair, which is not a character"
                )


def _readable(path: Path) -> Path:
    if isinstance(path, str):
        return path
    parent, key = path
    return _readable(parent), key.encode("utf-8", "replace").decode() if isinstance(key, str) else key
