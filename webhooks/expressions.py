"""Evaluate a JMESPath expression within bounds.

JMESPath cannot loop, and can still take for ever: `[@,@][] | [@,@][] | ...` doubles a list with every eight characters.
So each evaluation has a number of steps. Every part of the expression that is visited costs one, and every value that
is built, compared or given to a function costs what it weighs: one for each value in it and one for every 32
characters. Nothing grows past the steps that are left, since what is built is weighed before the next part sees it.

Source: https://jmespath.org/specification.html; `jmespath` is its reference implementation.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import jmespath
from jmespath.exceptions import IncompleteExpressionError, JMESPathError, JMESPathTypeError, ParseError
from jmespath.functions import Functions
from jmespath.visitor import Options, TreeInterpreter

from webhooks import limits
from webhooks.errors import EvaluationFailed, InvalidSetting
from webhooks.words import suggestion

CHARS_PER_STEP: Final = 32
_SHOWN_CHARS: Final = 60

_QUOTED: Final = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|`(?P<json>(?:\\.|[^`\\])*)`""", re.DOTALL)
_BUILDERS: Final = frozenset(
    {
        *("projection", "filter_projection", "value_projection", "flatten"),
        *("multi_select_list", "multi_select_dict", "function_expression"),
    }
)
"""Nodes whose values are new; all others give a part of what is there."""

_TOO_DEEP: Final = f"is nested deeper than {limits.EXPRESSION_DEPTH_MAX}; for many values write contains(`[...]`, x)"


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression that was read and checked."""

    text: str
    tree: Any
    """The library's nodes: `type`, `value` and `children`."""

    def value(self, document: Mapping[str, Any]) -> Any:
        """What it gives for a document of plain JSON. Errors: EvaluationFailed."""
        try:
            return _Interpreter().visit(self.tree, document)
        except EvaluationFailed:
            raise
        except JMESPathTypeError as error:
            raise EvaluationFailed(_type_message(error)) from None
        except Exception as error:
            # The library lets Python's own errors through (a text compared to a number, a slice by 0), one by one.
            raise EvaluationFailed(f"{type(error).__name__}: {str(error)[:_SHOWN_CHARS]}") from None


def is_true(value: Any) -> bool:
    """Truth as JMESPath has it: all but false, null and what is empty; 0 is true."""
    return not (value is None or value is False or (isinstance(value, str | list | dict) and not value))


def compile_expression(text: str, path: str) -> Expression:
    """Read an expression.

    Errors: InvalidSetting, which says where in it: for what is no JMESPath, too long or too deep, and for functions
    that there are not or that take another number of arguments.
    """
    if not text.strip() or len(text) > limits.EXPRESSION_CHARS_MAX:
        most = limits.EXPRESSION_CHARS_MAX
        raise InvalidSetting.at(path, f"an expression has 1 to {most} characters, not {len(text)}")
    tree = _parsed(text, path)
    for node, depth in _nodes(tree):
        if depth > limits.EXPRESSION_DEPTH_MAX:
            raise InvalidSetting.at(path, _TOO_DEEP)
        if isinstance(node, dict) and node.get("type") == "function_expression":
            _check_function(node, path)
    return Expression(text, tree)


def _parsed(text: str, path: str) -> Any:
    try:
        _check_literals(text, path)
        return jmespath.compile(text).parsed
    except IncompleteExpressionError:
        raise InvalidSetting.at(path, f"it ends too early, after {_shown(text[-20:])}") from None
    except ParseError as error:
        where = _shown(text[error.lex_position : error.lex_position + 20])
        raise InvalidSetting.at(path, f"not JMESPath at character {error.lex_position + 1}: {where}") from None
    except RecursionError:
        raise InvalidSetting.at(path, _TOO_DEEP) from None
    except (JMESPathError, ValueError, TypeError, LookupError) as error:
        raise InvalidSetting.at(path, f"not JMESPath: {_shown(str(error))}") from None


def _check_literals(text: str, path: str) -> None:
    """Refuse what is no JSON between backquotes: the library would read it as a text, and warn."""
    for found in _QUOTED.finditer(text):
        literal = found["json"]
        if literal is None:
            continue
        try:
            json.loads(literal.replace("\\`", "`"))
        except ValueError:
            raise InvalidSetting.at(
                path,
                f"{_shown(literal)} at character {found.start() + 1} is no JSON; a text stands between ' and ', as "
                "in data.owner == 'checkout'",
            ) from None


def _nodes(tree: Any) -> Iterator[tuple[Any, int]]:
    """Every node and every value of a literal, with how deep it stands."""
    rest: list[tuple[Any, int]] = [(tree, 1)]
    while rest:
        node, depth = rest.pop()
        yield node, depth
        inner: Iterable[Any] = ()
        if isinstance(node, dict) and "children" in node and "type" in node:
            inner = [node["value"]] if node["type"] == "literal" else node["children"]
        elif isinstance(node, dict):
            inner = node.values()
        elif isinstance(node, list):
            inner = node
        rest.extend((each, depth + 1) for each in inner)


def _check_function(node: Mapping[str, Any], path: str) -> None:
    name, given = node["value"], len(node["children"])
    spec = Functions.FUNCTION_TABLE.get(name)
    if spec is None:
        raise InvalidSetting.at(
            path, f"there is no function {_shown(name)}{suggestion(name, Functions.FUNCTION_TABLE)}"
        )
    signature = spec["signature"]
    at_least = bool(signature) and bool(signature[-1].get("variadic"))
    if given < len(signature) or (given > len(signature) and not at_least):
        wanted = f"{'at least ' if at_least else ''}{len(signature)}"
        raise InvalidSetting.at(path, f"{name}() takes {wanted} argument{'s'[: len(signature) != 1]}, not {given}")


class _Interpreter(TreeInterpreter):
    """The library's, counting its steps."""

    def __init__(self) -> None:
        super().__init__(Options(custom_functions=_CountedFunctions(self)))
        self.left = limits.EXPRESSION_STEPS_MAX

    def visit(self, node: Any, *args: Any, **kwargs: Any) -> Any:
        self.pay(1)
        value = super().visit(node, *args, **kwargs)
        if node["type"] in _BUILDERS:
            self.pay(weight(value, self.left))
        return value

    def visit_comparator(self, node: Any, value: Any) -> Any:
        sides = [self.visit(child, value) for child in node["children"]]
        for side in sides:
            self.pay(weight(side, self.left))
        known: Any = {**node, "children": [{"type": "literal", "value": side, "children": []} for side in sides]}
        return super().visit_comparator(known, value)

    def pay(self, steps: int) -> None:
        """Take from what is left."""
        self.left -= steps
        if self.left < 0:
            raise EvaluationFailed(f"it takes more than {limits.EXPRESSION_STEPS_MAX} steps for this event")


class _CountedFunctions(Functions):
    """The library's, which pay for their arguments."""

    def __init__(self, interpreter: _Interpreter) -> None:
        self._interpreter = interpreter

    def call_function(self, function_name: str, resolved_args: Iterable[Any]) -> Any:
        arguments = list(resolved_args)
        self._interpreter.pay(weight(arguments, self._interpreter.left))
        return super().call_function(function_name, arguments)


def weight(value: Any, enough: int) -> int:
    """Values in a value, and one more for every 32 characters; counts until it is more than enough."""
    found, rest = 0, [value]
    while rest and found <= enough:
        each = rest.pop()
        found += 1
        if isinstance(each, str):
            found += len(each) // CHARS_PER_STEP
        elif isinstance(each, list):
            rest.extend(each)
        elif isinstance(each, dict):
            rest.extend(each.values())
    return found


def _type_message(error: JMESPathTypeError) -> str:
    message = f"{error.function_name}() takes {' or '.join(error.expected_types)}, and was given {error.actual_type}"
    if error.actual_type == "null":
        message += (
            "; what an event does not have is null: ask for it before, as in data.tags && contains(data.tags, 'x')"
        )
    return message


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 3] + "...")
