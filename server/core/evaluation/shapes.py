"""Read a rule into its shape: the structure with every constant taken out.

Rules of one shape share one code object (see code.py); what differs between them is bound to it as arguments. A shape
is a nested tuple whose first element names the node; an int in it is the place of a constant in `Reader.constants`.

    null true false | num i | str i | list i | object i     a constant
    big i                       a number with which whole numbers of a context are compared as doubles only
    items nodes                 a list with logic in it
    attribute i | key           a context attribute, by name; the targeting key
    path scope i [default]      a deeper place in the data; scope 0 is the context, n the item of the nth loop around
    data scope i                all of the data; i is the flag's key
    computed data name default  `var` whose name is computed
    now                         `$flagd.timestamp`
    not x | truth x | and xs | or xs | if xs
    compare op a b | between op a b c
    member x i kinds | empty x  `in` over constant scalars; over null and ""
    version x op i              `sem_ver` with a constant operator and target
    join xs                     `cat`
    call name xs                any other operator
    over name data xs           an operator that looks at the data itself
    absent (in_turn i x)s       `missing` over constant names
    flagd i                     all of `$flagd`
    fraction unit arms is       `fractional` with constant weights; is are the places of the hash limits
    weighted unit arms          `fractional` with computed weights
    loop name size xs body      `map`, `filter`, `reduce`, `all`, `some`, `none`
    fail i                      raises
    answer i | lookup x | choose xs     in result position: a Resolution, one found by value, a chain of conditions
    draw unit i results is      in result position: `fractional` with constant weights; draw_many by bisection
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, TypeAlias

from server.core.environments import Bucketing
from server.core.evaluation import operators
from server.core.evaluation.arms import NESTED, arms_after_unit, constant_weights, is_arm, share_arms
from server.core.evaluation.bucketing import hash_limits
from server.core.evaluation.compare import EXACT_INTEGER_MAX, as_double, text_of
from server.core.evaluation.failure import Failure
from server.core.flags import TARGETING_KEY
from server.core.json import Json
from server.core.keylists import KeyList
from server.core.resolution import ErrorCode, Resolution

Shape: TypeAlias = tuple[Any, ...]
Answer: TypeAlias = Callable[[Json], Resolution]

NULL: Final[Shape] = ("null",)
TRUE: Final[Shape] = ("true",)
FALSE: Final[Shape] = ("false",)
NOW: Final[Shape] = ("now",)
KEY: Final[Shape] = ("key",)
"""Not bound as a constant: it stands in nearly every rule."""

COMPARISONS: Final = frozenset({"==", "!=", "===", "!==", "<", "<=", ">", ">="})
CALLS: Final[Mapping[str, str]] = {
    "+": "add",
    "-": "subtract",
    "*": "multiply",
    "/": "divide",
    "%": "modulo",
    "min": "least",
    "max": "greatest",
    "in": "contains",
    "merge": "merge",
    "substr": "substring",
    "starts_with": "starts_with",
    "ends_with": "ends_with",
    "sem_ver": "semantic_version",
}
LOOPS: Final = frozenset({"map", "filter", "reduce", "all", "some", "none"})
FLAGD: Final = "$flagd"
CHAIN_ARMS_MAX: Final = 8
"""Up to here comparing arm by arm beats a bisection."""

_BETWEEN_OPERANDS: Final = 3
_ONLY_TEXTS: Final = frozenset({str})
_NO_NUMBERS: Final[frozenset[float]] = frozenset()


class Reader:
    """Reads one flag's rule; collects its constants and the context attributes that it looks at."""

    def __init__(self, *, flag_key: str, bucketing: Bucketing) -> None:
        self.flag_key = flag_key
        self.typed = bucketing is Bucketing.V3
        self.constants: list[Any] = []
        self.attributes: set[str] = set()
        self.reads_all = False
        self.clock_reads = 0
        self.clock_compared = 0
        self.instants: set[float] = set()
        """Constants that the clock is compared with."""

    @property
    def reads_clock_freely(self) -> bool:
        """Whether the rule does more with the clock than compare it with constants."""
        return self.clock_reads > self.clock_compared

    def bind(self, constant: Any) -> int:
        """Take a constant out; gives its place."""
        constants = self.constants
        place = len(constants)
        constants.append(constant)
        return place

    def result(self, rule: Json, answer: Answer) -> Shape:
        """Read a rule in result position, where a literal is a variant's key; `answer` finds the Resolution for it."""
        kind = type(rule)
        if kind is dict and len(rule) == 1:
            ((name, operands),) = rule.items()
            if type(operands) is list and operands:
                if name == "if":
                    return self._choose(operands, answer)
                if name == "fractional":
                    return self._draw(operands, answer)
        elif kind is not list and kind is not dict:
            return ("answer", self.bind(answer(rule)))
        return ("lookup", self.value(rule))

    def _choose(self, branches: Sequence[Json], answer: Answer) -> Shape:
        chain: list[Shape] = []
        for index in range(0, len(branches) - 1, 2):
            chain.append(self.value(branches[index]))
            chain.append(self.result(branches[index + 1], answer))
        chain.append(self.result(branches[-1] if len(branches) % 2 else None, answer))
        return ("choose", *chain)

    def _draw(self, arguments: list[Json], answer: Answer) -> Shape:
        unit, arms = self._unit(arguments, 0)
        weights = constant_weights(arms)
        if weights is None or not all(is_arm(arm) for arm in arms):
            return ("lookup", self._fractional(arguments, 0))
        otherwise = self.bind(answer(None))
        if not weights:
            return ("answer", otherwise)
        if len(arms) > CHAIN_ARMS_MAX and not any(type(arm[0]) in NESTED for arm in arms):
            answers = tuple(answer(arm[0]) for arm in arms)
            return ("draw_many", unit, otherwise, self.bind(answers), self.bind(hash_limits(weights)))
        results = tuple(self.result(arm[0], answer) for arm in arms)
        return ("draw", unit, otherwise, results, self._limits(weights))

    def _limits(self, weights: tuple[int, ...]) -> tuple[int, ...]:
        """Places of the hash limits of all arms but the last, which takes what is left."""
        return tuple(map(self.bind, hash_limits(weights)[:-1]))

    def value(self, rule: Json, scope: int = 0) -> Shape:
        """Read a rule whose value is wanted; scope counts the loops around it."""
        kind = type(rule)
        if kind is str:
            return ("str", self.bind(rule))
        if kind is dict and len(rule) == 1:
            ((name, argument),) = rule.items()
            if name == "var" and type(argument) is str and not scope:
                # Four in ten operators are an attribute without a path or a default.
                path = _path(argument)
                if len(path) == 1 and argument and argument != FLAGD:
                    return self._attribute(path[0])
            return self._operator(name, argument, scope)
        if rule is None:
            return NULL
        if kind is bool:
            return TRUE if rule else FALSE
        if kind is list:
            return self._list(rule, scope)
        if kind is dict:
            return ("object", self.bind(rule))
        number = as_double(rule)
        return ("num" if -EXACT_INTEGER_MAX < number < EXACT_INTEGER_MAX else "big", self.bind(number))

    def _list(self, rule: list[Json], scope: int) -> Shape:
        if NESTED.isdisjoint(map(type, rule)):
            return ("list", self.bind(rule))
        return ("items", *(self.value(item, scope) for item in rule))

    def _operator(self, name: str, argument: Json, scope: int) -> Shape:
        operands = argument if type(argument) is list else [argument]
        if name == "var":
            return self._variable(operands, scope)
        if name in COMPARISONS:
            share = self._share(operands, scope) if name == "===" else None
            return share or self._comparison(name, [self.value(operand, scope) for operand in operands])
        if name == "$ref":
            return self._fail(f"$ref names {_shown(argument)}, which is not a segment of this flag set")
        if name == "fractional":
            return self._fractional(operands, scope)
        if name in LOOPS:
            return self._loop(name, operands, scope)
        if name == "missing":
            return self._missing(operands, scope)
        if name == "in" and len(operands) > 1 and isinstance(operands[1], KeyList):
            return self._listed(self.value(operands[0], scope), operands[1])
        read = [self.value(operand, scope) for operand in operands]
        if name == "in" and len(read) > 1 and isinstance(operands[1], list) and read[1][0] == "list":
            member = self._member(read[0], operands[1])
            if member is not None:
                return member
        if name == "sem_ver" and len(operands) == 3:
            version = self._version(read[0], operands[1], operands[2])
            if version is not None:
                return version
        return self._plain(name, read, scope)

    def _plain(self, name: str, read: list[Shape], scope: int) -> Shape:
        if name in CALLS:
            return ("call", CALLS[name], *read)
        match name:
            case "and" | "or":
                return (name, *read) if read else NULL
            case "if":
                return _conditional(read)
            case "!":
                return ("not", read[0] if read else NULL)
            case "!!":
                return ("truth", read[0] if read else NULL)
            case "cat":
                return ("join", *read)
            case "missing_some":
                return ("over", "missing_some", self._data(scope), *read)
        return self._fail(f"{_shown(name)} is not an operator")

    def _comparison(self, name: str, read: list[Shape]) -> Shape:
        if len(read) == 2:
            operands, node = read, "compare"
        elif name in ("<", "<=", ">", ">=") and len(read) >= _BETWEEN_OPERANDS:
            operands, node = read[:_BETWEEN_OPERANDS], "between"
        else:
            operands, node = [*read, NULL, NULL][:2], "compare"
        if NOW in operands and all(operand[0] in ("now", "num") for operand in operands):
            self.clock_compared += operands.count(NOW)
            self.instants.update(self.constants[operand[1]] for operand in operands if operand[0] == "num")
        return (node, name, *operands)

    def _fail(self, message: str) -> Shape:
        return ("fail", self.bind(Failure(ErrorCode.PARSE_ERROR, f"flag {self.flag_key!r}: {message}")))

    def _variable(self, operands: list[Json], scope: int) -> Shape:
        name = operands[0] if operands else None
        default = self.value(operands[1], scope) if len(operands) > 1 else NULL
        if type(name) in NESTED:
            return ("computed", self._data(scope), self.value(name, scope), default)
        if name is None or name == "":
            return self._data(scope)
        path = _path(name if type(name) is str else text_of(name))
        if scope == 0:
            if path[0] == FLAGD:
                return self._flagd(path, default)
            if len(path) == 1 and default == NULL:
                return self._attribute(path[0])
            self.attributes.add(path[0])
        return ("path", scope, self.bind(path), default)

    def _attribute(self, name: str) -> Shape:
        self.attributes.add(name)
        return KEY if name == TARGETING_KEY else ("attribute", self.bind(name))

    def _data(self, scope: int) -> Shape:
        self.reads_all = self.reads_all or scope == 0
        self.clock_reads += scope == 0
        return ("data", scope, self.bind(self.flag_key))

    def _flagd(self, path: tuple[str, ...], default: Shape) -> Shape:
        """`$flagd` is ours alone: what a caller sends under that name is never seen."""
        match path[1:]:
            case ("flagKey",):
                return ("str", self.bind(self.flag_key))
            case ("timestamp",):
                self.clock_reads += 1
                return NOW
            case ():
                self.clock_reads += 1
                return ("flagd", self.bind(self.flag_key))
        return default

    def _missing(self, operands: list[Json], scope: int) -> Shape:
        names = operands[0] if operands and isinstance(operands[0], list) else operands
        if not all(isinstance(name, str | int | float) for name in names):
            return ("over", "missing", self._data(scope), *(self.value(operand, scope) for operand in operands))
        absent = [("in_turn", self.bind(name), self._variable([name], scope)) for name in names]
        return ("absent", *absent)

    def _member(self, needle: Shape, items: list[Json]) -> Shape | None:
        if items == [None, ""]:
            return ("empty", needle)  # What lowering asks of a unit.
        if _ONLY_TEXTS.issuperset(map(type, items)):
            return ("member", needle, self.bind(frozenset(items)), self.bind(_NO_NUMBERS), (bool(items), False, ()))
        if any(isinstance(item, float) and item != item for item in items):
            return None
        texts = frozenset(item for item in items if isinstance(item, str))
        numbers = frozenset(as_double(i) for i in items if isinstance(i, int | float) and not isinstance(i, bool))
        singles = tuple(one for one in (None, True, False) if any(item is one for item in items))
        kinds = (bool(texts), bool(numbers), singles)
        return ("member", needle, self.bind(texts), self.bind(numbers), kinds)

    def _listed(self, needle: Shape, keys: KeyList) -> Shape:
        if keys.chunks is None:
            # Never guessed: an answer without them could be another one than it was.
            return self._fail(
                f"the {keys.count} keys of a large segment (digest {keys.digest[:12]}) are not at hand: they are kept "
                "as they are now, and not where they are damaged"
            )
        return ("member", needle, self.bind(keys), self.bind(frozenset()), (True, False, ()))

    def _version(self, value: Shape, order: Json, target: Json) -> Shape | None:
        compare = operators.version_order(order)
        parsed = None if isinstance(target, list | dict) else operators.parse_version(target)
        if isinstance(order, list | dict) or isinstance(target, list | dict):
            return None
        if compare is None or parsed is None:
            return NULL
        return ("version", value, self.bind(compare), self.bind(parsed))

    def _fractional(self, arguments: list[Json], scope: int) -> Shape:
        unit, arms = self._unit(arguments, scope)
        if not all(is_arm(arm) for arm in arms):
            return NULL
        variants = tuple(self.value(arm[0], scope) for arm in arms)
        weights = constant_weights(arms)
        if weights is None:
            shares = (self.value(arm[1] if len(arm) > 1 else 1, scope) for arm in arms)
            return ("weighted", unit, *zip(variants, shares, strict=True))
        if not weights:
            return NULL
        return ("fraction", unit, variants, self._limits(weights))

    def _share(self, operands: list[Json], scope: int) -> Shape | None:
        """A split over texts that is compared with one of them becomes a split over truths; None for all else."""
        arms = share_arms(operands)
        if arms is None:
            return None
        unit = self._unit(operands[0]["fractional"], scope)[0]
        truths = tuple(TRUE if each[0] == operands[1] else FALSE for each in arms)
        return ("truth", ("fraction", unit, truths, self._limits(constant_weights(arms) or ())))

    def _unit(self, arguments: list[Json], scope: int) -> tuple[Shape, list[Json]]:
        """The first argument when it is not an arm, and the arms."""
        arms = arms_after_unit(arguments)
        if arms is arguments:
            return self._shorthand(scope), arms
        first = arguments[0]
        if first is None and not self.typed:
            return self._shorthand(scope), arms
        read = self.value(first, scope)
        if read[0] in ("str", "join"):
            return ("text", read, self.typed), arms
        if not self.typed:
            self._shorthand(scope)  # A null unit falls back to it, so its attribute is read too.
        return ("unit", scope, read, self.bind(self.flag_key), self.typed), arms

    def _shorthand(self, scope: int) -> Shape:
        if scope == 0:
            self.attributes.add(TARGETING_KEY)
        return ("shorthand", scope, self.bind(self.flag_key), self.typed)

    def _loop(self, name: str, operands: list[Json], scope: int) -> Shape:
        items = self.value(operands[0] if operands else None, scope)
        body = self.value(operands[1] if len(operands) > 1 else None, scope + 1)
        initial = (self.value(operands[2], scope),) if name == "reduce" and len(operands) > 2 else ()
        return ("loop", name, scope + 1, node_count(body), items, body, *initial)


@lru_cache(maxsize=4_096)
def _path(name: str) -> tuple[str, ...]:
    """The steps of a name with dots. The same few names stand in all flags, so they share the texts, too."""
    return tuple(name.split("."))


def node_count(shape: Shape) -> int:
    """Nodes of a shape, its own included: what one turn of a loop costs; inner loops count their body once more."""
    return 1 + sum(node_count(part) for part in shape if isinstance(part, tuple))


def _conditional(read: list[Shape]) -> Shape:
    if len(read) <= 1:
        return read[0] if read else NULL
    return ("if", *read) if len(read) % 2 else ("if", *read, NULL)


def _shown(value: Json) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
