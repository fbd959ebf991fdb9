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
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from types import CodeType, FunctionType
from typing import Any, Final

from server.core.evaluation import nodes
from server.core.evaluation.runtime import NAMES
from server.core.evaluation.shapes import KEY, NULL, Shape
from server.core.evaluation.syntax import (
    LOAD,
    STORE,
    arguments,
    call,
    class_of,
    compared,
    constant,
    data_name,
    encoded,
    function,
    hash_call,
    load,
)
from server.core.flags import TARGETING_KEY

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
_PLAIN_TEXT: Final = frozenset({"str", "attribute", "key", "path", "now"})
_TRUTH_VALUED: Final = frozenset(
    {"not", "truth", "compare", "between", "member", "empty", "version", "true", "false", "null"}
)
_TRUTH_CALLS: Final = frozenset({"contains", "starts_with", "ends_with", "semantic_version"})
_GLOBALS: Final[dict[str, Any]] = dict(NAMES)
"""One for all generated functions: hundreds of copies would take megabytes."""


@lru_cache(maxsize=SHAPES_KEPT)
def binder(shape: Shape, count: int, answers: bool) -> Callable[..., Any]:
    """The function that binds `count` constants to a shape's code.

    After the constants it takes `look` (value -> Resolution) and `failed` (exception -> Resolution). With `answers` the
    code returns Resolutions; without, it returns the rule's value, uses neither of the two, and raises Failure.
    """
    emitter = _Emitter()
    body: list[ast.stmt] = emitter.result(shape) if answers else [nodes.Return(emitter.value(shape))]
    if emitter.loops:
        body.insert(0, nodes.Assign([nodes.Name("s", STORE)], call("Steps")))
    body = [*emitter.functions, *body]
    if answers:
        handler = nodes.ExceptHandler(load("Exception"), "e", [nodes.Return(call("failed", load("e")))])
        body = [nodes.Try(body, [handler], [], [])]
    parameters = [f"k{index}" for index in range(count)]
    inner = function("evaluate", ["c", "t"], body)
    outer = function("bind", [*parameters, "look", "failed"], [inner, nodes.Return(load("evaluate"))])
    module = compile(ast.Module([outer], []), "<rule>", "exec")
    code = next(constant for constant in module.co_consts if isinstance(constant, CodeType))
    return FunctionType(code, _GLOBALS)


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
                return [nodes.Return(constant(place))]
            case ("choose", *chain):
                statements: list[ast.stmt] = []
                for index in range(0, len(chain) - 1, 2):
                    statements.append(nodes.If(self.test(chain[index]), self.result(chain[index + 1]), []))
                return statements + self.result(chain[-1])
            case ("draw", unit, otherwise, results, limits):
                return self._draw(unit, otherwise, results, limits)
            case ("draw_many", unit, otherwise, answers, limits):
                found = nodes.Subscript(constant(answers), call("bisect_right", constant(limits), load("h")), LOAD)
                return [*self._hash_or(unit, otherwise), nodes.Return(found)]
            case ("lookup", value):
                return [nodes.Return(call("look", self.value(value)))]
        raise AssertionError(f"{shape[0]} is not a shape in result position")

    def _draw(self, unit: Shape, otherwise: int, results: Sequence[Shape], limits: Sequence[int]) -> list[ast.stmt]:
        statements = self._hash_or(unit, otherwise)
        for result, limit in zip(results, limits, strict=False):
            below = compared(load("h"), ast.Lt(), constant(limit))
            statements.append(nodes.If(below, self.result(result), []))
        return [*statements, *self.result(results[-1])]

    def _hash_or(self, unit: Shape, otherwise: int) -> list[ast.stmt]:
        hashed, optional = self._hash(unit)
        statements: list[ast.stmt] = [nodes.Assign([nodes.Name("h", STORE)], hashed)]
        if optional:
            none = compared(load("h"), ast.Is(), nodes.Constant(None))
            statements.append(nodes.If(none, [nodes.Return(constant(otherwise))], []))
        return statements

    def value(self, shape: Shape) -> ast.expr:  # noqa: PLR0912 - One arm a node: a table of cases.
        """An expression that gives the rule's value."""
        match shape:
            case ("null",):
                return nodes.Constant(None)
            case ("true",):
                return nodes.Constant(True)
            case ("false",):
                return nodes.Constant(False)
            case ("num" | "big" | "str" | "list" | "object", int(place)):
                return constant(place)
            case ("items", *items):
                return nodes.List([self.value(item) for item in items], LOAD)
            case ("now",):
                return load("t")
            case ("attribute", int(place)):
                return nodes.Call(nodes.Attribute(load("c"), "get", LOAD), [constant(place)], [])
            case ("key",):
                return nodes.Call(nodes.Attribute(load("c"), "get", LOAD), [nodes.Constant(TARGETING_KEY)], [])
            case ("path", int(scope), int(place), default):
                rest = [] if default == NULL else [self.value(default)]
                return call("follow", load(data_name(scope)), constant(place), *rest)
            case ("data", int(scope), int(place)):
                return load(f"d{scope}") if scope else call("whole", load("c"), constant(place), load("t"))
            case ("flagd", int(place)):
                return call("flagd_properties", constant(place), load("t"))
            case ("computed", data, name, default):
                return call("variable", self.value(data), self.value(name), self.value(default))
            case ("over", str(function), data, *operands):
                return call(function, self.value(data), *map(self.value, operands))
            case ("absent", *names):
                pairs = [nodes.Tuple([constant(place), self.value(read)], LOAD) for _, place, read in names]
                return call("absent", *pairs)
            case ("not", operand):
                return nodes.UnaryOp(ast.Not(), self.test(operand))
            case ("truth", operand):
                return nodes.IfExp(self.test(operand), nodes.Constant(True), nodes.Constant(False))
            case ("and" | "or" as operator, *operands):
                return self._logic(operator, operands)
            case ("if", *branches):
                return self._conditional(branches)
            case ("compare", str(operator), left, right):
                return self._comparison(operator, left, right)
            case ("between", str(operator), *operands):
                return call("between", load(_GENERAL[operator]), *map(self.value, operands))
            case ("member", needle, int(texts), int(numbers), kinds):
                return self._member(needle, texts, numbers, kinds)
            case ("empty", needle):
                kept, again = self._keep(self.value(needle))
                none = compared(kept, ast.Is(), nodes.Constant(None))
                return nodes.BoolOp(ast.Or(), [none, compared(again(), ast.Eq(), nodes.Constant(""))])
            case ("version", operand, int(order), int(target)):
                return call("version_matches", self.value(operand), constant(order), constant(target))
            case ("join", *parts):
                return self._join(parts)
            case ("call", ("starts_with" | "ends_with") as function, text, ("str", int(place))):
                return self._affix(function, text, place)
            case ("call", str(function), *operands):
                return call(function, *map(self.value, operands))
            case ("fraction", unit, variants, limits):
                return self._fraction(unit, variants, limits)
            case ("weighted", unit, *arms):
                later = [self._later(*arm) for arm in arms]
                return call("pick", self._hash(unit)[0], nodes.Tuple(later, LOAD))
            case ("loop", str(name), int(scope), int(cost), items, body, *initial):
                return self._loop(name, scope, cost, (items, body, *initial))
            case ("fail", int(place)):
                return call("fail", constant(place))
        raise AssertionError(f"{shape[0]} is not a shape")

    def test(self, shape: Shape) -> ast.expr:
        """An expression that is true for Python exactly when the rule's value is true for JsonLogic."""
        match shape:
            case ("and" | "or" as operator, *operands):
                tests = [self.test(operand) for operand in operands]
                return (
                    tests[0] if len(tests) == 1 else nodes.BoolOp(ast.And() if operator == "and" else ast.Or(), tests)
                )
            case ("truth", operand):
                return self.test(operand)
            case ("fraction", unit, (("true",), ("false",)), (int(limit),)):
                hashed, optional = self._hash(unit)
                if not optional:
                    return compared(hashed, ast.Lt(), constant(limit))
                kept, again = self._keep(hashed)
                known = compared(kept, ast.IsNot(), nodes.Constant(None))
                return nodes.BoolOp(ast.And(), [known, compared(again(), ast.Lt(), constant(limit))])
        return self.value(shape) if _gives_truth(shape) else call("truthy", self.value(shape))

    def _keep(self, value: ast.expr) -> tuple[ast.expr, Callable[[], ast.expr]]:
        """The value bound to a temporary, and a maker of further references to it."""
        self.temporaries += 1
        name = f"v{self.temporaries}"
        return nodes.NamedExpr(nodes.Name(name, STORE), value), lambda: load(name)

    def _logic(self, operator: str, operands: Sequence[Shape]) -> ast.expr:
        if len(operands) > CHAIN_EXPRESSION_MAX:
            return self._own_function(self._logic_statements(operator, operands))
        result = self.value(operands[-1])
        for operand in reversed(operands[:-1]):
            kept, again = self._keep(self.value(operand))
            test = kept if _gives_truth(operand) else call("truthy", kept)
            result = nodes.IfExp(test, result, again()) if operator == "and" else nodes.IfExp(test, again(), result)
        return result

    def _logic_statements(self, operator: str, operands: Sequence[Shape]) -> list[ast.stmt]:
        statements: list[ast.stmt] = []
        for operand in operands[:-1]:
            kept, again = self._keep(self.value(operand))
            test: ast.expr = call("truthy", kept)
            test = nodes.UnaryOp(ast.Not(), test) if operator == "and" else test
            statements.append(nodes.If(test, [nodes.Return(again())], []))
        return [*statements, nodes.Return(self.value(operands[-1]))]

    def _conditional(self, branches: Sequence[Shape]) -> ast.expr:
        pairs = [(branches[index], branches[index + 1]) for index in range(0, len(branches) - 1, 2)]
        if len(pairs) > CHAIN_EXPRESSION_MAX:
            statements: list[ast.stmt] = [nodes.If(self.test(a), [nodes.Return(self.value(b))], []) for a, b in pairs]
            return self._own_function([*statements, nodes.Return(self.value(branches[-1]))])
        result = self.value(branches[-1])
        for condition, value in reversed(pairs):
            result = nodes.IfExp(self.test(condition), self.value(value), result)
        return result

    def _own_function(self, body: list[ast.stmt]) -> ast.expr:
        name = f"f{len(self.functions)}"
        self.functions.append(function(name, self.scopes, body))
        return call(name, *map(load, self.scopes))

    def _comparison(self, operator: str, left: Shape, right: Shape) -> ast.expr:
        if operator in _NEGATED:
            return nodes.UnaryOp(ast.Not(), self._comparison(_NEGATED[operator], left, right))
        if operator in _NATIVE:
            return self._order(operator, left, right)
        if left[0] in ("num", "str", "true", "false", "null"):
            left, right = right, left
        kind = right[0]
        if kind == "null":
            return compared(self.value(left), ast.Is(), nodes.Constant(None))
        strict = operator == "==="
        if strict and kind in ("true", "false"):
            return compared(self.value(left), ast.Is(), self.value(right))
        if strict and kind == "str":
            return compared(self.value(left), ast.Eq(), self.value(right))
        if kind not in ("num", "str", "true", "false"):
            return call(_GENERAL[operator], self.value(left), self.value(right))
        kept, again = self._keep(self.value(left))
        equal = compared(kept, ast.Eq(), self.value(right))
        if strict:
            return nodes.BoolOp(ast.And(), [equal, compared(class_of(again()), ast.IsNot(), load("bool"))])
        others = "NOT_TEXT" if kind == "str" else "NOT_NUMBERS"
        differs = compared(class_of(again()), ast.In(), load(others))
        general = call("loose_equal", again(), self.value(right))
        return nodes.BoolOp(ast.Or(), [equal, nodes.BoolOp(ast.And(), [differs, general])])

    def _order(self, operator: str, left: Shape, right: Shape) -> ast.expr:
        native = _NATIVE[operator]()
        if right[0] in ("num", "now"):
            kept, again = self._keep(self.value(left))
            fast = compared(again(), native, self.value(right))
            general = call(_GENERAL[operator], again(), self.value(right))
        elif left[0] in ("num", "now"):
            kept, again = self._keep(self.value(right))
            fast = compared(self.value(left), native, again())
            general = call(_GENERAL[operator], self.value(left), again())
        else:
            return call(_GENERAL[operator], self.value(left), self.value(right))
        return nodes.IfExp(compared(class_of(kept), ast.In(), load("NUMBERS")), fast, general)

    def _member(self, needle: Shape, texts: int, numbers: int, kinds: tuple[bool, bool, Any]) -> ast.expr:
        has_texts, has_numbers, singles = kinds
        value = self.value(needle)
        if has_numbers or not has_texts or set(singles) - {None}:
            flags = [nodes.Constant(any(one is single for single in singles)) for one in (None, True, False)]
            return call("is_member", value, constant(texts), constant(numbers), *flags)
        kept, again = self._keep(value)
        text = compared(class_of(kept), ast.Is(), load("str"))
        found = nodes.BoolOp(ast.And(), [text, compared(again(), ast.In(), constant(texts))])
        if not singles:
            return found
        return nodes.BoolOp(ast.Or(), [found, compared(again(), ast.Is(), nodes.Constant(None))])

    def _affix(self, function: str, text: Shape, place: int) -> ast.expr:
        """A text's start or end beside a constant, asked of the text itself; null when it is no text."""
        kept, again = self._keep(self.value(text))
        method = nodes.Attribute(again(), function.replace("_", ""), LOAD)
        is_text = compared(class_of(kept), ast.Is(), load("str"))
        return nodes.IfExp(is_text, nodes.Call(method, [constant(place)], []), nodes.Constant(None))

    def _join(self, parts: Sequence[Shape]) -> ast.expr:
        if self.scopes or not 0 < len(parts) <= 4 or any(part[0] not in _PLAIN_TEXT for part in parts):
            return call("join", *map(self.value, parts))
        texts = [self._text(part) for part in parts]
        joined = texts[0]
        for text in texts[1:]:
            joined = nodes.BinOp(joined, ast.Add(), text)
        return joined

    def _text(self, part: Shape) -> ast.expr:
        if part[0] == "str":
            return self.value(part)
        kept, again = self._keep(self.value(part))
        return nodes.IfExp(compared(class_of(kept), ast.Is(), load("str")), again(), call("to_text", again()))

    def _hash(self, unit: Shape) -> tuple[ast.expr, bool]:
        """An expression for the unit's hash, and whether it may be None."""
        match unit:
            case ("text", read, bool(typed)):
                text = self.value(read)
                return hash_call(call("text_cbor", text) if typed else encoded(text)), False
            case ("shorthand", 0, int(place), False):
                kept, again = self._keep(self.value(KEY))
                is_text = nodes.BoolOp(ast.And(), [compared(class_of(kept), ast.Is(), load("str")), again()])
                hashed = hash_call(encoded(nodes.BinOp(constant(place), ast.Add(), again())))
                return nodes.IfExp(is_text, hashed, nodes.Constant(None)), True
            case ("shorthand", int(scope), int(place), bool(typed)):
                data = load(data_name(scope))
                return call("shorthand_hash", data, constant(place), nodes.Constant(typed)), True
            case ("unit", int(scope), read, int(place), bool(typed)):
                kept, again = self._keep(self.value(read))
                data = load(data_name(scope))
                general = call("unit_hash", again(), data, constant(place), nodes.Constant(typed))
                data_of_text = call("text_cbor", again()) if typed else encoded(again())
                usual = compared(class_of(kept), ast.Is(), load("str"))
                return nodes.IfExp(usual, hash_call(data_of_text), general), True
        raise AssertionError(f"{unit[0]} is not a unit")

    def _fraction(self, unit: Shape, variants: Sequence[Shape], limits: Sequence[int]) -> ast.expr:
        hashed, optional = self._hash(unit)
        kept, again = self._keep(hashed)
        if len(variants) > CHAIN_EXPRESSION_MAX:
            statements: list[ast.stmt] = [nodes.Expr(kept)]
            for variant, limit in zip(variants, limits, strict=False):
                below = compared(again(), ast.Lt(), constant(limit))
                statements.append(nodes.If(below, [nodes.Return(self.value(variant))], []))
            if optional:
                none = compared(again(), ast.Is(), nodes.Constant(None))
                statements.insert(1, nodes.If(none, [nodes.Return(nodes.Constant(None))], []))
            return self._own_function([*statements, nodes.Return(self.value(variants[-1]))])
        chain = self.value(variants[-1])
        for index in range(len(limits) - 1, -1, -1):
            below = compared(again(), ast.Lt(), constant(limits[index]))
            chain = nodes.IfExp(below, self.value(variants[index]), chain)
        known = compared(kept, ast.IsNot(), nodes.Constant(None))
        return nodes.IfExp(known, chain, nodes.Constant(None))

    def _later(self, *parts: Shape) -> ast.expr:
        """A tuple of functions that evaluate the parts when they are needed."""
        return nodes.Tuple([nodes.Lambda(arguments([]), self.value(part)) for part in parts], LOAD)

    def _loop(self, name: str, scope: int, cost: int, parts: tuple[Shape, ...]) -> ast.expr:
        self.loops = True
        items, body, *initial = parts
        listed = self.value(items)
        start = [self.value(part) for part in initial]
        self.scopes.append(f"d{scope}")
        function = nodes.Lambda(arguments([f"d{scope}"]), self.value(body))
        self.scopes.pop()
        return call(f"loop_{name}", load("s"), nodes.Constant(cost), listed, function, *start)


def _gives_truth(shape: Shape) -> bool:
    """Whether a shape's value is a bool or None, for which Python and JsonLogic agree on truth."""
    return (
        shape[0] in _TRUTH_VALUED
        or (shape[0] == "call" and shape[1] in _TRUTH_CALLS)
        or (shape[0] == "loop" and shape[1] in ("all", "some", "none"))
    )
