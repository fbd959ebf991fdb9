"""Check JsonLogic rules: flagd's operators, their operands, the variants that they give, their size."""

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Final, TypeAlias

from server.core.definitions.operators import (
    ANSWERS_YES_OR_NO,
    ARITY,
    FLAGD_VARIABLES,
    OPERATORS,
    SUGARED,
    UNBOUNDED,
)
from server.core.definitions.problems import Path, Problems, names, shown
from server.core.definitions.references import references
from server.core.evaluation.operators import parse_version, version_order
from server.core.json import Json
from server.core.limits import (
    CONTEXT_KEY_BYTES_MAX,
    CONTEXT_VALUE_BYTES_MAX,
    LIST_ITEMS_MAX,
    RULE_DEPTH_MAX,
    RULE_NODES_MAX,
    WEIGHT_SUM_MAX,
)

__all__ = ["WHOLE_NUMBER_MAX", "check_rule", "number_problem", "references"]

WHOLE_NUMBER_MAX: Final = 2**53 - 1
"""Beyond it a 64-bit float, which other engines calculate with, skips whole numbers."""

SCALARS: Final = frozenset({str, int, float, bool, type(None)})

# Where a rule is not understood, lists and objects are counted: an operator has both, an arm of a split one more.
NESTING_MAX: Final = 3 * RULE_DEPTH_MAX
NODES_MAX: Final = 3 * RULE_NODES_MAX

# What becomes of a rule's value. A literal in result position must be a variant; which of its values get there
# differs: `and` gives its last operand or the first falsy one, `or` its last or the first truthy one.
OPERAND: Final = 0
IF_TRUTHY: Final = 1
IF_FALSY: Final = 2
RESULT: Final = IF_TRUTHY | IF_FALSY

_Check: TypeAlias = "Callable[[_Walk, list[Json], Path, int, int], None]"


def check_rule(
    rule: Json, *, path: Path, problems: Problems, variants: Mapping[str, Json] | None = None, lenient: bool = False
) -> None:
    """Report everything that is wrong with a condition, or with raw targeting when `variants` are given.

    Bounds are errors even when read leniently.
    """
    walk = _Walk(problems, variants, lenient or problems.lenient)
    errors, kept = len(problems.errors), problems.kept
    walk.visit(rule, path, 0, OPERAND if variants is None else RESULT)
    if walk.nodes > RULE_NODES_MAX:
        walk.too_many(path)
    if problems.kept > kept and len(problems.errors) == errors:
        # What was warned about was not looked into, and is kept.
        _hold_bounds(rule, path, problems)


def number_problem(value: float | int) -> str:
    """What is wrong with a number, whoever reads it: "" for nothing."""
    try:
        return "" if isfinite(value) else f"{value} is not a number in JSON"
    except OverflowError:
        return "this number is too large for a 64-bit float"


def _hold_bounds(rule: Json, path: Path, problems: Problems) -> None:
    """Report what could exhaust a reader of the rule, whether or not it has a meaning."""
    nodes = 0
    stack: list[tuple[Path, Json, int]] = [(path, rule, 0)]
    while stack:
        at, node, depth = stack.pop()
        if type(node) is dict or type(node) is list:
            nodes += 1
            if depth > NESTING_MAX or nodes > NODES_MAX or len(node) > LIST_ITEMS_MAX:
                problems.error(at, "the rule is nested too deeply, or too large, in a part that has no meaning")
                return
            items = node.items() if type(node) is dict else enumerate(node)
            stack.extend(((at, key), item, depth + 1) for key, item in items)
        elif type(node) in (int, float) and (problem := number_problem(node)):
            problems.error(at, problem)
            return


class _Walk:
    __slots__ = ("lenient", "nodes", "problems", "too_large", "variants")

    def __init__(self, problems: Problems, variants: Mapping[str, Json] | None, lenient: bool) -> None:
        self.problems = problems
        self.variants = variants
        self.lenient = lenient
        self.nodes = 0
        self.too_large = False

    def warn(self, path: Path, message: str) -> None:
        self.problems.warn(path, message, lenient=self.lenient)

    def visit(self, rule: Json, path: Path, depth: int, position: int) -> None:
        self.nodes += 1
        if self.nodes > RULE_NODES_MAX:
            self.too_many(path)
            return
        kind = type(rule)
        if kind is str:
            if position or len(rule) > CONTEXT_VALUE_BYTES_MAX:
                self.scalar(rule, path, position)
        elif kind is dict:
            if depth >= RULE_DEPTH_MAX:
                self.problems.error(path, f"operators are nested more than {RULE_DEPTH_MAX} deep")
            elif len(rule) == 1:
                ((operator, operand),) = rule.items()
                if operator == "var" and type(operand) is str and _is_usual(operand):
                    self.nodes += 1
                else:
                    self.operator(operator, operand, path, depth + 1, position)
            else:
                self.not_one_operator(rule, path)
        elif kind is list:
            self.items(rule, path, depth + 1, position)
        else:
            self.scalar(rule, path, position)

    def too_many(self, path: Path) -> None:
        """Report that the rule is too large: once, at the first part that is too much."""
        if not self.too_large:
            self.too_large = True
            self.problems.error(path, f"the rule has more than {RULE_NODES_MAX} operators and operands")

    def not_one_operator(self, rule: Mapping[str, Json], path: Path) -> None:
        if rule:
            listed = names(sorted(map(str, rule)))
            self.warn(path, f"an object in a rule holds exactly one operator, this one holds {len(rule)}: {listed}")
        else:
            self.warn(path, "an object in a rule holds exactly one operator, this one is empty")

    def items(self, items: list[Json], path: Path, depth: int, position: int) -> None:
        if position:
            self.warn(path, "a list is not a variant; a rule gives a variant's key, true, false or null")
        if len(items) > LIST_ITEMS_MAX:
            self.problems.error(path, f"the list has {len(items)} items, at most {LIST_ITEMS_MAX} are allowed")
        elif (kinds := set(map(type, items))) <= SCALARS:
            if kinds == {str} and max(map(len, items)) <= CONTEXT_VALUE_BYTES_MAX:
                return
            for index, item in enumerate(items):
                if type(item) is not str or len(item) > CONTEXT_VALUE_BYTES_MAX:
                    self.scalar(item, (path, index), OPERAND)
        elif depth > RULE_DEPTH_MAX:
            self.problems.error(path, f"operators and lists are nested more than {RULE_DEPTH_MAX} deep")
        else:
            for index, item in enumerate(items):
                self.visit(item, (path, index), depth, OPERAND)

    def scalar(self, value: Json, path: Path, position: int) -> None:
        match value:
            case str():
                if len(value) > CONTEXT_VALUE_BYTES_MAX:
                    message = f"the text has {len(value)} characters, at most {CONTEXT_VALUE_BYTES_MAX} are allowed"
                    self.problems.error(path, message)
            case None | bool():
                pass
            case int() | float():
                self.number(value, path)
                if number_problem(value):
                    return
            case _:
                self.problems.error(path, f"{type(value).__name__} is not a JSON value")
                return
        if position and value is not None and position & (IF_TRUTHY if value else IF_FALSY):
            self.result(value, path)

    def number(self, value: float | int, path: Path) -> None:
        if problem := number_problem(value):
            self.problems.error(path, problem)
        elif isinstance(value, int) and abs(value) > WHOLE_NUMBER_MAX:
            self.warn(
                path, f"{value} is beyond {WHOLE_NUMBER_MAX}, where numbers are no longer exact; write it as text"
            )

    def result(self, value: str | bool | float | int, path: Path) -> None:
        variants = self.variants
        if variants is None:
            return
        key = _variant_key(value)
        if key not in variants:
            self.warn(path, f"variant {shown(key)} does not exist; the flag has: {names(variants)}")

    def operator(self, operator: str, operand: Json, path: Path, depth: int, position: int) -> None:
        at = (path, operator)
        arity = ARITY.get(operator)
        if arity is None:
            self.no_operator(operator, operand, path)
            return
        if type(operand) is not list:
            if operator not in SUGARED:
                self.warn(at, f"{operator} takes a list of operands, not {shown(operand)}")
            operand = [operand]
        elif not arity[0] <= len(operand) <= arity[1]:
            self.warn(at, f"{operator} takes {_count(*arity)}, not {len(operand)}")
        if position and operator in ANSWERS_YES_OR_NO:
            self.yes_or_no(operator, at, position)
        check = _CHECKS.get(operator)
        if check is not None:
            check(self, operand, at, depth, position)
        else:
            for index, item in enumerate(operand):
                self.visit(item, (at, index), depth, OPERAND)

    def no_operator(self, operator: str, operand: Json, path: Path) -> None:
        if operator != "$ref":
            self.warn(path, f"unknown operator {shown(operator)}{self.problems.suggestion(str(operator), OPERATORS)}")
        elif not isinstance(operand, str):
            self.warn((path, operator), f"$ref takes a segment's key, not {shown(operand)}")

    def yes_or_no(self, operator: str, path: Path, position: int) -> None:
        wanted = [key for key, bit in (("true", IF_TRUTHY), ("false", IF_FALSY)) if position & bit]
        missing = [key for key in wanted if key not in (self.variants or ())]
        if missing:
            given = "true or false" if position == RESULT else wanted[0]
            helps = f'write {{"if": [{{"{operator}": ...}}, VARIANT, VARIANT]}}'
            message = (
                f"{operator} gives {given}, but the flag has no variant {' and no '.join(map(repr, missing))}; {helps}"
            )
            self.warn(path, message)

    def var(self, operands: list[Json], path: Path, _depth: int, _position: int) -> None:
        self.nodes += 1
        if operands:
            name = operands[0]
            if type(name) is not str or not _is_usual(name):
                self.variable(name, path)
            if len(operands) == 1:
                return
        for index, value in enumerate(operands[1:], start=1):
            if type(value) in SCALARS:
                self.scalar(value, (path, index), OPERAND)
            else:
                self.warn((path, index), "the default of var must be a text, number, true, false or null")

    def variable(self, name: Json, path: Path) -> None:
        if type(name) is int:
            if name < 0:
                self.warn(path, f"var takes an attribute's name or an index from 0 on, not {name}")
        elif type(name) is not str:
            self.warn(path, f"var takes an attribute's name, not {shown(name)}")
        elif len(name) > CONTEXT_KEY_BYTES_MAX:
            self.problems.error(
                path, f"the name has {len(name)} characters, at most {CONTEXT_KEY_BYTES_MAX} are allowed"
            )
        elif name.startswith("$flagd") and name not in FLAGD_VARIABLES and (len(name) == 6 or name[6] == "."):
            self.warn(path, f"{shown(name)} does not exist; $flagd has: flagKey, timestamp")

    def missing(self, operands: list[Json], path: Path, _depth: int, _position: int) -> None:
        if len(operands) > LIST_ITEMS_MAX:
            self.problems.error(path, f"the list has {len(operands)} items, at most {LIST_ITEMS_MAX} are allowed")
            return
        # Each name is looked up apart, unlike the items of other lists.
        self.nodes += len(operands)
        for index, name in enumerate(operands):
            if type(name) is str:
                self.variable(name, (path, index))
            else:
                self.warn((path, index), f"missing takes names of attributes, not {shown(name)}")

    def missing_some(self, operands: list[Json], path: Path, depth: int, position: int) -> None:
        match operands:
            case [int() | float() as needed, list() as wanted] if not isinstance(needed, bool):
                self.scalar(needed, (path, 0), OPERAND)
                self.missing(wanted, (path, 1), depth, position)
            case [_, _]:
                self.warn(path, "missing_some takes a number and a list of attributes' names")

    def if_(self, operands: list[Json], path: Path, depth: int, position: int) -> None:
        last = len(operands) - 1
        for index, operand in enumerate(operands):
            is_result = index % 2 == 1 or index == last
            self.visit(operand, (path, index), depth, position if is_result else OPERAND)

    def and_(self, operands: list[Json], path: Path, depth: int, position: int) -> None:
        self.chain(operands, path, depth, (position, position & IF_FALSY))

    def or_(self, operands: list[Json], path: Path, depth: int, position: int) -> None:
        self.chain(operands, path, depth, (position, position & IF_TRUTHY))

    def chain(self, operands: list[Json], path: Path, depth: int, positions: tuple[int, int]) -> None:
        last = len(operands) - 1
        for index, operand in enumerate(operands):
            self.visit(operand, (path, index), depth, positions[0 if index == last else 1])

    def string_test(self, operands: list[Json], path: Path, depth: int, _position: int) -> None:
        for index, operand in enumerate(operands):
            if type(operand) is str or type(operand) is dict:
                self.visit(operand, (path, index), depth, OPERAND)
            else:
                self.warn((path, index), f"this operator compares texts, not {shown(operand)}")

    def sem_ver(self, operands: list[Json], path: Path, depth: int, _position: int) -> None:
        for index, operand in enumerate(operands[:3]):
            at = (path, index)
            if index == 1:
                self.nodes += 1
                if version_order(operand) is None:
                    self.warn(at, f"{shown(operand)} does not compare versions; use one of: = != > < >= <= ~ ^")
            elif type(operand) is dict:
                self.visit(operand, at, depth, OPERAND)
            else:
                self.nodes += 1
                if parse_version(operand) is None:
                    self.warn(at, f"{shown(operand)} is not a version such as 1, 1.2 or 1.2.3-rc.1")

    def fractional(self, operands: list[Json], path: Path, depth: int, position: int) -> None:
        first = 0
        if operands and type(operands[0]) is not list:
            first = 1
            if type(operands[0]) is not dict:
                self.warn((path, 0), f"fractional buckets by an expression such as a var, not by {shown(operands[0])}")
            self.visit(operands[0], (path, 0), depth, OPERAND)
            if len(operands) == 1:
                self.warn(path, "fractional has no [variant, weight] to choose from")
        weights: list[int | None] = []
        for index in range(first, len(operands)):
            if self.nodes > RULE_NODES_MAX:
                return
            weights.append(self.arm(operands[index], (path, index), depth, position))
        known = [weight for weight in weights if weight is not None]
        if sum(known) > WEIGHT_SUM_MAX:
            self.warn(path, f"the sum of weights is {sum(known)}, at most {WEIGHT_SUM_MAX} is allowed")
        elif len(known) == len(weights) and known and sum(known) == 0:
            self.warn(path, "the sum of weights is 0, expected 1 or more")

    def arm(self, arm: Json, path: Path, depth: int, position: int) -> int | None:
        """Check one [variant, weight]; gives a literal weight, None for a computed one."""
        if type(arm) is not list or not 1 <= len(arm) <= 2:
            self.warn(path, "fractional chooses from lists of [variant] or [variant, weight]")
            return None
        self.nodes += 1
        self.visit(arm[0], (path, 0), depth, position)
        weight = arm[1] if len(arm) == 2 else 1
        if type(weight) is dict:
            self.visit(weight, (path, 1), depth, OPERAND)
            return None
        if type(weight) is int or (type(weight) is float and weight.is_integer()):
            if 0 <= weight <= WEIGHT_SUM_MAX:
                return int(weight)
            self.warn((path, 1), f"a weight of {shown(weight)} is not between 0 and {WEIGHT_SUM_MAX}")
        else:
            self.warn((path, 1), f"a weight is a whole number from 0 on or an expression, not {shown(weight)}")
        return None


def _is_usual(name: str) -> bool:
    """Whether a variable's name needs no further look."""
    return name[:1] != "$" and len(name) <= CONTEXT_KEY_BYTES_MAX


def _variant_key(value: str | bool | float | int) -> str:
    """The variant that a literal result stands for, as flagd turns results into keys."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(int(value)) if isfinite(value) and value == int(value) else repr(value)


def _count(least: int, most: int) -> str:
    if most == UNBOUNDED:
        return f"{least} or more operands"
    if least != most:
        return f"{least} or {most} operands"
    return f"{least} operand" if least == 1 else f"{least} operands"


_CHECKS: Final[Mapping[str, _Check]] = {
    "var": _Walk.var,
    "missing": _Walk.missing,
    "missing_some": _Walk.missing_some,
    "if": _Walk.if_,
    "and": _Walk.and_,
    "or": _Walk.or_,
    "starts_with": _Walk.string_test,
    "ends_with": _Walk.string_test,
    "sem_ver": _Walk.sem_ver,
    "fractional": _Walk.fractional,
}
