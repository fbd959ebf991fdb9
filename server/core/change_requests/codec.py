"""Write proposed changes as JSON and read them back exactly, whatever types of changes there are.

The form follows the dataclasses: an object for each, by field names. So a new type of change needs nothing here, and a
field that a later version adds has its default when an older text is read.
"""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, Final, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

from server.core.changes import Change
from server.core.errors import InvalidRequest
from server.core.json import Json
from server.core.keylists import KeyList, key_list

VERSION: Final = 1
"""Of the form; a text of another one is refused, and never guessed at."""

CHANGES: Final[Mapping[str, type[Any]]] = {each.__name__: each for each in get_args(Change)}


@dataclass(frozen=True, slots=True)
class Proposed:
    """What is to be done in one environment."""

    environment: str
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Content:
    """What a change request asks for."""

    parts: tuple[Proposed, ...]
    replace_variants: bool = False


def write_content(content: Content) -> dict[str, Json]:
    """Proposed changes as JSON; `read_content` gives the same back."""
    return {
        "version": VERSION,
        "replaceVariants": content.replace_variants,
        "parts": [
            {"environment": part.environment, "changes": [_write_change(change) for change in part.changes]}
            for part in content.parts
        ],
    }


def read_content(data: Json) -> Content:
    """Read what `write_content` wrote. Errors: InvalidRequest when this version of the program cannot."""
    if not isinstance(data, dict) or data.get("version") != VERSION:
        raise InvalidRequest("the stored changes are in a form that this version cannot read; ask for them again")
    try:
        parts = tuple(
            Proposed(part["environment"], tuple(_read_change(change) for change in part["changes"]))
            for part in data["parts"]
        )
        return Content(parts, data["replaceVariants"] is True)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise InvalidRequest(f"the stored changes cannot be read ({what}); ask for them again") from None


def write_value(value: Any) -> Json:
    """A dataclass, or what one may hold, as JSON."""
    return _write(value)


def read_value(type_: Any, data: Json) -> Any:
    """Read a value of a type as `write_value` wrote it. Errors: KeyError, TypeError, ValueError for another one."""
    return _reader(type_)(data)


def _write_change(change: Change) -> dict[str, Json]:
    return {"type": type(change).__name__, **_write_fields(change)}


def _read_change(data: Mapping[str, Json]) -> Change:
    made: Change = _read_fields(CHANGES[data["type"]], {name: value for name, value in data.items() if name != "type"})
    return made


def _write_fields(value: Any) -> dict[str, Json]:
    return {field.name: _write(getattr(value, field.name)) for field in fields(value)}


def _write(value: Any) -> Json:
    match value:
        case Enum():
            return value.value
        case KeyList():
            # By its chunks, a list of one key would be as long as one of thousands.
            named = {"keys": sorted(value)} if value.chunks is not None else {}
            return named or {"count": value.count, "digest": value.digest}
        case datetime():
            return value.isoformat()
        case bytes():
            return base64.b64encode(value).decode("ascii")
        case frozenset() | set():
            return sorted(_write(item) for item in value)
        case tuple() | list():
            return [_write(item) for item in value]
        case Mapping():
            return {name: _write(item) for name, item in value.items()}
    return _write_fields(value) if is_dataclass(value) else value


def _read_fields(type_: Any, data: Mapping[str, Json]) -> Any:
    hints: dict[str, Any] = _hints(type_)
    # A name that this version does not know is an error: leaving it out would be another change.
    return type_(**{name: _reader(hints[name])(value) for name, value in data.items()})


@cache
def _hints(type_: Any) -> dict[str, Any]:
    return {name: hint for name, hint in get_type_hints(type_).items() if name in {each.name for each in fields(type_)}}


Read: TypeAlias = Callable[[Json], Any]


def _as_it_is(value: Json) -> Any:
    return value


@cache
def _reader(hint: Any) -> Read:
    """How a value of a type is read. Errors: TypeError for a type that is not foreseen."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return _union_reader(arguments)
    if origin is Literal or hint in (Any, str, int, float, bool, NoneType):
        return _as_it_is
    if origin is tuple:
        return _tuple_reader(arguments)
    if origin in (frozenset, Sequence, list):
        item = _reader(arguments[0])
        made: Callable[..., Any] = frozenset if origin is frozenset else tuple
        return lambda value: made(item(each) for each in value)
    if origin is not None and issubclass(origin, Mapping):
        item = _reader(arguments[1])
        return lambda value: {name: item(each) for name, each in value.items()}
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint
    if hint is datetime:
        return datetime.fromisoformat
    if hint is bytes:
        return lambda value: base64.b64decode(value, validate=True)
    if hint is KeyList:
        return _read_key_list
    if is_dataclass(hint) and isinstance(hint, type):
        return lambda value: _read_fields(hint, value)
    raise TypeError(f"{hint} is no type that a change may hold; teach server/core/change_requests/codec.py")


def _read_key_list(value: Json) -> KeyList:
    return key_list(value["keys"]) if "keys" in value else KeyList(value["count"], value["digest"])


def _tuple_reader(arguments: tuple[Any, ...]) -> Read:
    if len(arguments) == 2 and arguments[1] is ...:
        item = _reader(arguments[0])
        return lambda value: tuple(item(each) for each in value)
    items = [_reader(each) for each in arguments]
    return lambda value: tuple(item(each) for item, each in zip(items, value, strict=True))


def _union_reader(arguments: tuple[Any, ...]) -> Read:
    """At most one of the members may be written as an object or a list, so that what is read says which it is."""
    plain = {each for each in arguments if each in (str, int, float, bool, NoneType)}
    others = [each for each in arguments if each not in plain]
    if not others:
        return _as_it_is
    if len(others) > 1 or (str in plain and _is_text(others[0])):
        raise TypeError(f"a union of {arguments} cannot be told apart when it is read")
    other = _reader(others[0])
    return lambda value: value if type(value) in plain else other(value)


def _is_text(hint: Any) -> bool:
    return hint in (datetime, bytes) or (isinstance(hint, type) and issubclass(hint, Enum))
