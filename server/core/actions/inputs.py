"""Hold what a caller gave an action against what it takes."""

import math
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Final

from server.core.actions.values import ENVIRONMENT, PROJECT, ActionType, Input, Shape
from server.core.definitions.problems import pointer
from server.core.errors import InvalidDefinition, Problem
from server.core.json import Json
from server.core.limits import TEXT_CHARS_MAX

LIST_MAX: Final = 10_000
"""Texts or numbers in one list."""

_WHOLE_MAX: Final = 2**63

WHERE: Final = (
    Input(PROJECT, Shape.TEXT, "Project", "The project's key.", True, example="shop", pick="/v1/projects"),
    Input(
        ENVIRONMENT,
        Shape.TEXT,
        "Environment",
        "The environment's key.",
        True,
        example="production",
        pick="/v1/projects/{project}/environments",
    ),
)


def all_inputs(type_: ActionType) -> tuple[Input, ...]:
    """An action's inputs with those that say where."""
    project, environment = WHERE
    where = (project,) if type_.in_environment is False else (project, _in(environment, type_))
    return (*where, *type_.inputs)


def _in(environment: Input, type_: ActionType) -> Input:
    if type_.in_environment:
        return environment
    return Input(
        ENVIRONMENT,
        Shape.TEXT,
        "Environment",
        "The environment's key; it may be left out.",
        example="production",
        pick=environment.pick,
    )


def read_inputs(type_: ActionType, given: Mapping[str, Json]) -> dict[str, Json]:
    """What was given, without what is null. Errors: InvalidDefinition with every problem and its path."""
    inputs = {each.name: each for each in all_inputs(type_)}
    problems = [
        Problem(pointer("", name), f"{type_.name} has no such input; it has: {', '.join(inputs)}")
        for name in given
        if name not in inputs
    ]
    read = {name: value for name, value in given.items() if value is not None and name in inputs}
    for name, each in inputs.items():
        value = read.get(name)
        if value is None or value == "":
            read.pop(name, None)
            if each.required:
                problems.append(Problem(pointer("", name), f"{type_.name} needs it: {each.says}"))
        else:
            problems.extend(Problem(pointer("", name), told) for told in _complaints(each, value))
    if problems:
        raise InvalidDefinition(problems)
    return read


def _complaints(each: Input, value: Json) -> Iterator[str]:
    expected, fits = _SHAPES[each.shape]
    if not fits(value):
        yield f"expected {expected}, not {_kind(value)}"
        return
    if isinstance(value, str) and len(value) > TEXT_CHARS_MAX:
        yield f"has {len(value)} characters, at most {TEXT_CHARS_MAX} are allowed"
    if any("\0" in text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)):
        yield "has the character NUL, which cannot be stored; take it out"
    if isinstance(value, list) and len(value) > LIST_MAX:
        yield f"has {len(value)} items, at most {LIST_MAX} are allowed"
    if each.choices and value not in each.choices:
        yield f"expected one of: {', '.join(each.choices)}"
    if each.shape in (Shape.INTEGER, Shape.NUMBER, Shape.NUMBERS):
        numbers = value if isinstance(value, list) else [value]
        least = -math.inf if each.least is None else each.least
        most = math.inf if each.most is None else each.most
        if not all(least <= number <= most for number in numbers):
            yield f"expected {least:g} to {most:g}"


def _is_number(value: Json) -> bool:
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) < _WHOLE_MAX
    return isinstance(value, float) and math.isfinite(value)


def _is_whole(value: Json) -> bool:
    return _is_number(value) and float(value).is_integer()


def is_instant(value: Json) -> bool:
    """Whether a value is an instant with its offset."""
    try:
        return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


def _kind(value: Json) -> str:
    names = {bool: "a boolean", str: "a text", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), "null")


_SHAPES: Final[Mapping[Shape, tuple[str, Callable[[Json], bool]]]] = {
    Shape.TEXT: ("a text", lambda value: isinstance(value, str)),
    Shape.BOOLEAN: ("true or false", lambda value: isinstance(value, bool)),
    Shape.INTEGER: ("a whole number", _is_whole),
    Shape.NUMBER: ("a number", _is_number),
    Shape.TEXTS: ("a list of texts", lambda value: isinstance(value, list) and all(isinstance(x, str) for x in value)),
    Shape.NUMBERS: ("a list of numbers", lambda value: isinstance(value, list) and all(map(_is_number, value))),
    Shape.INSTANT: ("an instant with its offset, such as 2026-12-01T09:00:00Z", is_instant),
    Shape.OBJECT: ("an object", lambda value: isinstance(value, dict)),
    Shape.VALUES: ("an object of names and values", lambda value: isinstance(value, dict)),
}
