"""Make small pieces of Python's syntax tree."""

import ast
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from server.core.evaluation import nodes

LOAD: Final = ast.Load()
STORE: Final = ast.Store()
_NAMES_KEPT: Final = 256
"""Variables whose nodes are kept: half of all nodes read one of few."""


def data_name(scope: int) -> str:
    """The variable that holds a scope's data."""
    return f"d{scope}" if scope else "c"


@lru_cache(maxsize=_NAMES_KEPT)
def load(identifier: str) -> ast.expr:
    """Read a variable. One node stands wherever the same one is read, since nobody edits a finished tree."""
    return nodes.Name(identifier, LOAD)


@lru_cache(maxsize=_NAMES_KEPT)
def constant(place: int) -> ast.expr:
    """Read a bound constant; a node that is shared as `load`'s are."""
    return nodes.Name(f"k{place}", LOAD)


def call(called: str, *operands: ast.expr) -> ast.expr:
    """Call a name of runtime.py or a function made beside."""
    return nodes.Call(load(called), list(operands), [])


def encoded(text: ast.expr) -> ast.expr:
    """The text's UTF-8 bytes."""
    return nodes.Call(nodes.Attribute(text, "encode", LOAD), [], [])


def hash_call(data: ast.expr) -> ast.expr:
    """MurmurHash3 x86-32 of bytes, seed 0, unsigned."""
    return nodes.Call(load("murmur"), [data, nodes.Constant(0), nodes.Constant(False)], [])


def class_of(value: ast.expr) -> ast.expr:
    """The value's class."""
    return nodes.Attribute(value, "__class__", LOAD)


def compared(left: ast.expr, operator: ast.cmpop, right: ast.expr) -> ast.expr:
    """One comparison."""
    return nodes.Compare(left, [operator], [right])


def arguments(names: Sequence[str]) -> ast.arguments:
    """Positional parameters."""
    return ast.arguments([], [nodes.Argument(each) for each in names], None, [], [], None, [])


def function(identifier: str, parameters: Sequence[str], body: list[ast.stmt]) -> ast.stmt:
    """A function definition."""
    return nodes.FunctionDef(identifier, arguments(parameters), body, [])
