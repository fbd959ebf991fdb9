"""Syntax-tree nodes that know their place from birth: line 1 of generated code, which has no text.

`ast.fix_missing_locations` would visit every node of a finished tree, a quarter of the time that compiling takes.
"""

import ast


class _Placed:
    lineno = 1
    col_offset = 0
    end_lineno: int | None = 1
    end_col_offset: int | None = 0


class Argument(_Placed, ast.arg):
    """A parameter."""


class Assign(_Placed, ast.Assign):
    """An assignment."""


class Attribute(_Placed, ast.Attribute):
    """An attribute of a value."""


class BinOp(_Placed, ast.BinOp):
    """An operator between two values."""


class BoolOp(_Placed, ast.BoolOp):
    """A chain of `and` or `or`."""


class Call(_Placed, ast.Call):
    """A call."""


class Compare(_Placed, ast.Compare):
    """A comparison."""


class Constant(_Placed, ast.Constant):
    """A literal."""


class ExceptHandler(_Placed, ast.ExceptHandler):
    """One `except`."""


class Expr(_Placed, ast.Expr):
    """An expression as a statement."""


class FunctionDef(_Placed, ast.FunctionDef):
    """A function's definition."""


class If(_Placed, ast.If):
    """A condition over statements."""


class IfExp(_Placed, ast.IfExp):
    """A condition inside an expression."""


class Lambda(_Placed, ast.Lambda):
    """A function inside an expression."""


class List(_Placed, ast.List):
    """A list."""


class Name(_Placed, ast.Name):
    """A variable."""


class NamedExpr(_Placed, ast.NamedExpr):
    """A value bound on the way, by `:=`."""


class Return(_Placed, ast.Return):
    """The end of a function."""


class Subscript(_Placed, ast.Subscript):
    """An item of a value."""


class Try(_Placed, ast.Try):
    """Statements whose exceptions are handled."""


class Tuple(_Placed, ast.Tuple):
    """A tuple."""


class UnaryOp(_Placed, ast.UnaryOp):
    """An operator on one value."""
