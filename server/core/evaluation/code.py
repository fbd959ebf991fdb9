"""Turn a shape into a code object, through Python's own syntax tree; no source text is put together.

    def bind(k0, k1, ..., look, failed):
        def evaluate(c, t):
            try:
                if <condition>: return k0
                return k1
            except Exception as e:
                return failed(e)
        return evaluate

c is the context, t the clock, k0... the constants that the shape left out. One code object serves every rule of its
shape. Temporary values are bound by `:=`, so each operand is evaluated once.
"""

import ast
import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import mmh3

from server.core.evaluation import compare, operators
from server.core.evaluation.bucketing import canonical_cbor
from server.core.evaluation.shapes import NULL, Shape
from server.core.flags import TARGETING_KEY
from server.core.json import Json

LOAD: Final = ast.Load()
STORE: Final = ast.Store()
SHAPES_KEPT: Final = 4_096
CHAIN_EXPRESSION_MAX: Final = 8
"""Longer chains of conditions become a function of their own, so that expressions do not nest without bound."""

_NATIVE: Final[Mapping[str, type[ast.cmpop]]] = {"<": ast.Lt, "<=": ast.LtE, ">": ast.Gt, ">=": ast.GtE}
_GENERAL: Final[Mapping[str, str]] = {
    "==": "loose_equal",
    "===": "strict_equal",
    "<": "less",
    "<=": "less_equal",
    ">": "greater",
    ">=": "greater_equal",
}
_NEGATED: Final[Mapping[str, str]] = {"!=": "==", "!==": "==="}
_PLAIN_TEXT: Final = frozenset({"str", "attribute", "path", "now"})
_TRUTH_VALUED: Final = frozenset({"not", "truth", "compare", "between", "member", "version", "true", "false", "null"})
_TRUTH_CALLS: Final = frozenset({"contains", "starts_with", "ends_with", "semantic_version"})


@lru_cache(maxsize=SHAPES_KEPT)
def binder(shape: Shape, count: int, answers: bool) -> Callable[..., Any]:
    """The function that binds `count` constants to a shape's code.

    After the constants it takes `look` (value -> Resolution) and `failed` (exception -> Resolution). With `answers` the
    code returns Resolutions; without, it returns the rule's value, uses neither of the two, and raises Failure.
    """
    emitter = _Emitter()
    body = emitter.result(shape) if answers else [ast.Return(emitter.value(shape))]
    if emitter.loops:
        body.insert(0, ast.Assign([ast.Name("s", STORE)], _call("Steps")))
    body = [*emitter.functions, *body]
    if answers:
        handler = ast.ExceptHandler(_name("Exception"), "e", [ast.Return(_call("failed", _name("e")))])
        body = [ast.Try(body, [handler], [], [])]
    parameters = [f"k{index}" for index in range(count)]
    inner = _function("evaluate", ["c", "t"], body)
    outer = _function("bind", [*parameters, "look", "failed"], [inner, ast.Return(_name("evaluate"))])
    module = ast.fix_missing_locations(ast.Module([outer], []))
    namespace = dict(_HELPERS)
    exec(compile(module, "<rule>", "exec"), namespace)  # noqa: S102 - A tree made here, from shapes only.
    bind: Callable[..., Any] = namespace["bind"]
    return bind


class _Emitter:
    """Builds the syntax tree of one shape."""

    def __init__(self) -> None:
        self.temporaries = 0
        self.functions: list[ast.stmt] = []
        self.loops = False
        self.scopes: list[str] = []

    def result(self, shape: Shape) -> list[ast.stmt]:
        """Statements that return a Resolution."""
        match shape:
            case ("answer", int(place)):
                return [ast.Return(_constant(place))]
            case ("choose", *chain):
                statements: list[ast.stmt] = []
                for index in range(0, len(chain) - 1, 2):
                    statements.append(ast.If(self.test(chain[index]), self.result(chain[index + 1]), []))
                return statements + self.result(chain[-1])
            case ("draw", unit, otherwise, answers, limits):
                return self._draw(unit, otherwise, answers, limits)
            case ("draw_many", unit, otherwise, answers, limits):
                found = ast.Subscript(
                    _constant(answers), _call("bisect_right", _constant(limits), _name("h")), LOAD
                )
                return [*self._hash_or(unit, otherwise), ast.Return(found)]
            case ("lookup", value):
                return [ast.Return(_call("look", self.value(value)))]
        raise AssertionError(f"{shape[0]} is not a shape in result position")

    def _draw(self, unit: Shape, otherwise: int, answers: Sequence[int], limits: Sequence[int]) -> list[ast.stmt]:
        statements = self._hash_or(unit, otherwise)
        for answer, limit in zip(answers, limits, strict=False):
            below = _compare(_name("h"), ast.Lt(), _constant(limit))
            statements.append(ast.If(below, [ast.Return(_constant(answer))], []))
        return [*statements, ast.Return(_constant(answers[-1]))]

    def _hash_or(self, unit: Shape, otherwise: int) -> list[ast.stmt]:
        hashed, optional = self._hash(unit)
        statements: list[ast.stmt] = [ast.Assign([ast.Name("h", STORE)], hashed)]
        if optional:
            none = _compare(_name("h"), ast.Is(), ast.Constant(None))
            statements.append(ast.If(none, [ast.Return(_constant(otherwise))], []))
        return statements

    def value(self, shape: Shape) -> ast.expr:  # noqa: C901, PLR0911, PLR0912 - One arm a node: a table of cases.
        """An expression that gives the rule's value."""
        match shape:
            case ("null",):
                return ast.Constant(None)
            case ("true",):
                return ast.Constant(True)
            case ("false",):
                return ast.Constant(False)
            case ("num" | "str" | "list" | "object", int(place)):
                return _constant(place)
            case ("items", *items):
                return ast.List([self.value(item) for item in items], LOAD)
            case ("now",):
                return _name("t")
            case ("attribute", int(place)):
                return ast.Call(ast.Attribute(_name("c"), "get", LOAD), [_constant(place)], [])
            case ("path", int(scope), int(place), default):
                rest = [] if default == NULL else [self.value(default)]
                return _call("follow", _name(_data_name(scope)), _constant(place), *rest)
            case ("data", int(scope), int(place)):
                return _name(f"d{scope}") if scope else _call("whole", _name("c"), _constant(place), _name("t"))
            case ("flagd", int(place)):
                return _call("flagd_properties", _constant(place), _name("t"))
            case ("computed", data, name, default):
                return _call("variable", self.value(data), self.value(name), self.value(default))
            case ("over", str(function), data, *operands):
                return _call(function, self.value(data), *map(self.value, operands))
            case ("absent", *names):
                pairs = [ast.Tuple([_constant(place), self.value(read)], LOAD) for _, place, read in names]
                return _call("absent", *pairs)
            case ("not", operand):
                return ast.UnaryOp(ast.Not(), self.test(operand))
            case ("truth", operand):
                return ast.IfExp(self.test(operand), ast.Constant(True), ast.Constant(False))
            case ("and" | "or" as operator, *operands):
                return self._logic(operator, operands)
            case ("if", *branches):
                return self._conditional(branches)
            case ("compare", str(operator), left, right):
                return self._comparison(operator, left, right)
            case ("between", str(operator), *operands):
                return _call("between", _name(_GENERAL[operator]), *map(self.value, operands))
            case ("member", needle, int(texts), int(numbers), kinds):
                return self._member(needle, texts, numbers, kinds)
            case ("version", operand, int(order), int(target)):
                return _call("version_matches", self.value(operand), _constant(order), _constant(target))
            case ("join", *parts):
                return self._join(parts)
            case ("call", str(function), *operands):
                return _call(function, *map(self.value, operands))
            case ("fraction", unit, variants, limits):
                return self._fraction(unit, variants, limits)
            case ("weighted", unit, *arms):
                pairs = [ast.Tuple([self._later(variant), self._later(weight)], LOAD) for variant, weight in arms]
                return _call("pick", self._hash(unit)[0], ast.Tuple(pairs, LOAD))
            case ("loop", str(name), int(scope), int(nodes), items, body, *initial):
                return self._loop(name, scope, nodes, (items, body, *initial))
            case ("fail", int(place)):
                return _call("fail", _constant(place))
        raise AssertionError(f"{shape[0]} is not a shape")

    def test(self, shape: Shape) -> ast.expr:
        """An expression that is true for Python exactly when the rule's value is true for JsonLogic."""
        match shape:
            case ("and" | "or" as operator, *operands):
                tests = [self.test(operand) for operand in operands]
                return tests[0] if len(tests) == 1 else ast.BoolOp(ast.And() if operator == "and" else ast.Or(), tests)
            case ("truth", operand):
                return self.test(operand)
            case ("fraction", unit, (("true",), ("false",)), (int(limit),)):
                hashed, optional = self._hash(unit)
                if not optional:
                    return _compare(hashed, ast.Lt(), _constant(limit))
                kept, again = self._keep(hashed)
                known = _compare(kept, ast.IsNot(), ast.Constant(None))
                return ast.BoolOp(ast.And(), [known, _compare(again(), ast.Lt(), _constant(limit))])
        return self.value(shape) if _gives_truth(shape) else _call("truthy", self.value(shape))

    def _keep(self, value: ast.expr) -> tuple[ast.expr, Callable[[], ast.expr]]:
        """The value bound to a temporary, and a maker of further references to it."""
        self.temporaries += 1
        name = f"v{self.temporaries}"
        return ast.NamedExpr(ast.Name(name, STORE), value), lambda: _name(name)

    def _logic(self, operator: str, operands: Sequence[Shape]) -> ast.expr:
        if len(operands) > CHAIN_EXPRESSION_MAX:
            return self._own_function(self._logic_statements(operator, operands))
        result = self.value(operands[-1])
        for operand in reversed(operands[:-1]):
            kept, again = self._keep(self.value(operand))
            test = kept if _gives_truth(operand) else _call("truthy", kept)
            result = ast.IfExp(test, result, again()) if operator == "and" else ast.IfExp(test, again(), result)
        return result

    def _logic_statements(self, operator: str, operands: Sequence[Shape]) -> list[ast.stmt]:
        statements: list[ast.stmt] = []
        for operand in operands[:-1]:
            kept, again = self._keep(self.value(operand))
            test: ast.expr = _call("truthy", kept)
            test = ast.UnaryOp(ast.Not(), test) if operator == "and" else test
            statements.append(ast.If(test, [ast.Return(again())], []))
        return [*statements, ast.Return(self.value(operands[-1]))]

    def _conditional(self, branches: Sequence[Shape]) -> ast.expr:
        pairs = [(branches[index], branches[index + 1]) for index in range(0, len(branches) - 1, 2)]
        if len(pairs) > CHAIN_EXPRESSION_MAX:
            statements: list[ast.stmt] = [ast.If(self.test(a), [ast.Return(self.value(b))], []) for a, b in pairs]
            return self._own_function([*statements, ast.Return(self.value(branches[-1]))])
        result = self.value(branches[-1])
        for condition, value in reversed(pairs):
            result = ast.IfExp(self.test(condition), self.value(value), result)
        return result

    def _own_function(self, body: list[ast.stmt]) -> ast.expr:
        name = f"f{len(self.functions)}"
        self.functions.append(_function(name, self.scopes, body))
        return _call(name, *map(_name, self.scopes))

    def _comparison(self, operator: str, left: Shape, right: Shape) -> ast.expr:
        if operator in _NEGATED:
            return ast.UnaryOp(ast.Not(), self._comparison(_NEGATED[operator], left, right))
        if operator in _NATIVE:
            return self._order(operator, left, right)
        if left[0] in ("num", "str", "true", "false", "null"):
            left, right = right, left
        kind = right[0]
        if kind == "null":
            return _compare(self.value(left), ast.Is(), ast.Constant(None))
        strict = operator == "==="
        if strict and kind in ("true", "false"):
            return _compare(self.value(left), ast.Is(), self.value(right))
        if strict and kind == "str":
            return _compare(self.value(left), ast.Eq(), self.value(right))
        if kind not in ("num", "str", "true", "false"):
            return _call(_GENERAL[operator], self.value(left), self.value(right))
        kept, again = self._keep(self.value(left))
        equal = _compare(kept, ast.Eq(), self.value(right))
        if strict:
            return ast.BoolOp(ast.And(), [equal, _compare(_class(again()), ast.IsNot(), _name("bool"))])
        others = "NOT_TEXT" if kind == "str" else "NOT_NUMBERS"
        differs = _compare(_class(again()), ast.In(), _name(others))
        general = _call("loose_equal", again(), self.value(right))
        return ast.BoolOp(ast.Or(), [equal, ast.BoolOp(ast.And(), [differs, general])])

    def _order(self, operator: str, left: Shape, right: Shape) -> ast.expr:
        native = _NATIVE[operator]()
        if right[0] in ("num", "now"):
            kept, again = self._keep(self.value(left))
            fast = _compare(again(), native, self.value(right))
            general = _call(_GENERAL[operator], again(), self.value(right))
        elif left[0] in ("num", "now"):
            kept, again = self._keep(self.value(right))
            fast = _compare(self.value(left), native, again())
            general = _call(_GENERAL[operator], self.value(left), again())
        else:
            return _call(_GENERAL[operator], self.value(left), self.value(right))
        return ast.IfExp(_compare(_class(kept), ast.In(), _name("NUMBERS")), fast, general)

    def _member(self, needle: Shape, texts: int, numbers: int, kinds: tuple[bool, bool, Any]) -> ast.expr:
        has_texts, has_numbers, singles = kinds
        value = self.value(needle)
        if has_numbers or not has_texts or set(singles) - {None}:
            flags = [ast.Constant(any(one is single for single in singles)) for one in (None, True, False)]
            return _call("is_member", value, _constant(texts), _constant(numbers), *flags)
        kept, again = self._keep(value)
        text = _compare(_class(kept), ast.Is(), _name("str"))
        found = ast.BoolOp(ast.And(), [text, _compare(again(), ast.In(), _constant(texts))])
        if not singles:
            return found
        return ast.BoolOp(ast.Or(), [found, _compare(again(), ast.Is(), ast.Constant(None))])

    def _join(self, parts: Sequence[Shape]) -> ast.expr:
        if self.scopes or not 0 < len(parts) <= 4 or any(part[0] not in _PLAIN_TEXT for part in parts):
            return _call("join", *map(self.value, parts))
        texts = [self._text(part) for part in parts]
        joined = texts[0]
        for text in texts[1:]:
            joined = ast.BinOp(joined, ast.Add(), text)
        return joined

    def _text(self, part: Shape) -> ast.expr:
        if part[0] == "str":
            return self.value(part)
        kept, again = self._keep(self.value(part))
        return ast.IfExp(_compare(_class(kept), ast.Is(), _name("str")), again(), _call("to_text", again()))

    def _hash(self, unit: Shape) -> tuple[ast.expr, bool]:
        """An expression for the unit's hash, and whether it may be None."""
        match unit:
            case ("text", read, bool(typed)):
                text = self.value(read)
                return _hash_call(_call("canonical_cbor", text) if typed else text), False
            case ("shorthand", 0, int(place), False):
                get = ast.Call(ast.Attribute(_name("c"), "get", LOAD), [ast.Constant(TARGETING_KEY)], [])
                kept, again = self._keep(get)
                is_text = ast.BoolOp(ast.And(), [_compare(_class(kept), ast.Is(), _name("str")), again()])
                hashed = _hash_call(ast.BinOp(_constant(place), ast.Add(), again()))
                return ast.IfExp(is_text, hashed, ast.Constant(None)), True
            case ("shorthand", int(scope), int(place), bool(typed)):
                data = _name(_data_name(scope))
                return _call("shorthand_hash", data, _constant(place), ast.Constant(typed)), True
            case ("unit", int(scope), read, int(place), bool(typed)):
                data = _name(_data_name(scope))
                return _call("unit_hash", self.value(read), data, _constant(place), ast.Constant(typed)), True
        raise AssertionError(f"{unit[0]} is not a unit")

    def _fraction(self, unit: Shape, variants: Sequence[Shape], limits: Sequence[int]) -> ast.expr:
        hashed, optional = self._hash(unit)
        kept, again = self._keep(hashed)
        if len(variants) > CHAIN_EXPRESSION_MAX:
            statements: list[ast.stmt] = [ast.Expr(kept)]
            for variant, limit in zip(variants, limits, strict=False):
                below = _compare(again(), ast.Lt(), _constant(limit))
                statements.append(ast.If(below, [ast.Return(self.value(variant))], []))
            if optional:
                none = _compare(again(), ast.Is(), ast.Constant(None))
                statements.insert(1, ast.If(none, [ast.Return(ast.Constant(None))], []))
            return self._own_function([*statements, ast.Return(self.value(variants[-1]))])
        chain = self.value(variants[-1])
        for index in range(len(limits) - 1, -1, -1):
            below = _compare(again(), ast.Lt(), _constant(limits[index]))
            chain = ast.IfExp(below, self.value(variants[index]), chain)
        known = _compare(kept, ast.IsNot(), ast.Constant(None))
        return ast.IfExp(known, chain, ast.Constant(None))

    def _later(self, shape: Shape) -> ast.expr:
        return ast.Lambda(_arguments([]), self.value(shape))

    def _loop(self, name: str, scope: int, nodes: int, parts: tuple[Shape, ...]) -> ast.expr:
        self.loops = True
        items, body, *initial = parts
        listed = self.value(items)
        start = [self.value(part) for part in initial]
        self.scopes.append(f"d{scope}")
        function = ast.Lambda(_arguments([f"d{scope}"]), self.value(body))
        self.scopes.pop()
        return _call(f"loop_{name}", _name("s"), ast.Constant(nodes), listed, function, *start)


def _gives_truth(shape: Shape) -> bool:
    """Whether a shape's value is a bool or None, for which Python and JsonLogic agree on truth."""
    return (
        shape[0] in _TRUTH_VALUED
        or (shape[0] == "call" and shape[1] in _TRUTH_CALLS)
        or (shape[0] == "loop" and shape[1] in ("all", "some", "none"))
    )


def _data_name(scope: int) -> str:
    return f"d{scope}" if scope else "c"


def _name(name: str) -> ast.expr:
    return ast.Name(name, LOAD)


def _constant(place: int) -> ast.expr:
    return ast.Name(f"k{place}", LOAD)


def _call(function: str, *arguments: ast.expr) -> ast.expr:
    return ast.Call(ast.Name(function, LOAD), list(arguments), [])


def _hash_call(data: ast.expr) -> ast.expr:
    return ast.Call(ast.Name("murmur", LOAD), [data, ast.Constant(0), ast.Constant(False)], [])


def _class(value: ast.expr) -> ast.expr:
    return ast.Attribute(value, "__class__", LOAD)


def _compare(left: ast.expr, operator: ast.cmpop, right: ast.expr) -> ast.expr:
    return ast.Compare(left, [operator], [right])


def _arguments(names: Sequence[str]) -> ast.arguments:
    return ast.arguments([], [ast.arg(name) for name in names], None, [], [], None, [])


def _function(name: str, parameters: Sequence[str], body: list[ast.stmt]) -> ast.stmt:
    return ast.FunctionDef(name, _arguments(parameters), body, [])


def _whole(context: Mapping[str, Json], flag_key: str, now: int) -> dict[str, Json]:
    return {**context, "$flagd": _flagd_properties(flag_key, now)}


def _flagd_properties(flag_key: str, now: int) -> dict[str, Json]:
    return {"flagKey": flag_key, "timestamp": now}


def _absent(*pairs: tuple[Json, Json]) -> list[Json]:
    return [name for name, value in pairs if value is None or value == ""]


def _between(order: Callable[[Json, Json], bool], low: Json, middle: Json, high: Json) -> bool:
    return order(low, middle) and order(middle, high)


def _is_member(  # noqa: PLR0917 - Called from generated code only.
    value: Json, texts: frozenset[str], numbers: frozenset[float], null: bool, true: bool, false: bool
) -> bool:
    if value is None or value is True or value is False:
        return null if value is None else true if value else false
    if isinstance(value, str):
        return value in texts
    return isinstance(value, int | float) and not math.isnan(value) and compare.as_double(value) in numbers


def _version_matches(value: Json, order: Callable[[Any, Any], bool], target: operators.Version) -> bool | None:
    version = operators.parse_version(value)
    return None if version is None else order(version, target)


_HELPERS: Final[Mapping[str, Any]] = {
    **{name: getattr(operators, name) for name in dir(operators) if name.startswith("loop_")},
    **{name: getattr(operators, name) for name in ("add", "subtract", "multiply", "divide", "modulo", "least")},
    **{name: getattr(operators, name) for name in ("greatest", "contains", "merge", "substring", "starts_with")},
    **{name: getattr(operators, name) for name in ("ends_with", "semantic_version", "join", "follow", "variable")},
    **{name: getattr(operators, name) for name in ("missing", "missing_some", "pick", "unit_hash", "shorthand_hash")},
    **{name: getattr(operators, name) for name in ("fail", "Steps")},
    **{name: getattr(compare, name) for name in ("truthy", "to_text", "NUMBERS", "NOT_NUMBERS", "NOT_TEXT")},
    **{name: getattr(compare, name) for name in _GENERAL.values()},
    "absent": _absent,
    "between": _between,
    "bisect_right": bisect_right,
    "canonical_cbor": canonical_cbor,
    "flagd_properties": _flagd_properties,
    "is_member": _is_member,
    "murmur": mmh3.hash,
    "version_matches": _version_matches,
    "whole": _whole,
}
