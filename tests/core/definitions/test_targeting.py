"""What is wrong with a rule, and where."""

import pytest

from server.core.definitions.operators import ARITY
from server.core.definitions.problems import Problems
from server.core.definitions.references import reference_paths, references, uses_shorthand
from server.core.definitions.targeting import check_rule
from server.core.json import Json
from server.core.limits import LIST_ITEMS_MAX, RULE_DEPTH_MAX, RULE_NODES_MAX, WEIGHT_SUM_MAX

VARIANTS = {"one": 1, "two": 2}
ALL_OPERATORS: Json = {
    "if": [
        {"and": [True, {"or": [{"!": [False]}, {"!!": {"var": "a"}}]}]},
        {"==": [1, {"===": [1, {"!=": [1, {"!==": [1, 2]}]}]}]},
        {"<": [1, 2, {"<=": [1, 2]}]},
        {">": [1, {">=": [1, 2]}]},
        {"+": [1, {"-": [1]}, {"*": [1, 2]}, {"/": [1, 2]}, {"%": [1, 2]}, {"max": [1]}, {"min": [1, 2]}]},
        {"map": [[1], {"filter": [[1], {"all": [[1], {"none": [[1], {"some": [[1], {"var": ""}]}]}]}]}]},
        {"reduce": [[1], {"+": [{"var": "current"}, {"var": "accumulator"}]}, 0]},
        {"merge": [[1], {"missing": ["a", "b"]}, {"missing_some": [1, ["a", "b"]]}]},
        {"in": ["a", {"cat": ["a", {"substr": ["abc", 1]}, {"substr": ["abc", 1, 2]}]}]},
        {"starts_with": ["abc", {"ends_with": [{"var": ["a", "b"]}, "c"]}]},
        {"sem_ver": [{"var": "$flagd.timestamp"}, ">=", "v1.2"]},
        {"fractional": [{"var": "$flagd.flagKey"}, ["a", {"+": [1]}], ["b"], [{"fractional": [["c", 1.0]]}, 3]]},
        {"$ref": "segment"},
        None,
    ]
}


def problems_of(rule: Json, **options: Json) -> list[str]:
    """The problems of a rule, as printed."""
    problems = Problems()
    check_rule(rule, path="", problems=problems, **options)
    return [str(problem) for problem in problems.errors]


def operators_of(rule: Json) -> set[str]:
    """Every operator that stands in a rule."""
    parts = rule.values() if isinstance(rule, dict) else rule if isinstance(rule, list) else []
    return set(rule if isinstance(rule, dict) else ()).union(*map(operators_of, parts))


def test_every_operator_of_flagds_schema_is_accepted() -> None:
    """The rule above holds each of them, so that none can be forgotten."""
    assert {*ARITY, "$ref"} == operators_of(ALL_OPERATORS)
    assert problems_of(ALL_OPERATORS) == []


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ({"startswith": ["a", "b"]}, "/: unknown operator 'startswith'; did you mean 'starts_with'?"),
        ({"!": [{"log": [1]}]}, "/!/0: unknown operator 'log'"),
        ({"!": [{}]}, "/!/0: an object in a rule holds exactly one operator, this one is empty"),
        ({"==": [1, 1], "!=": [1, 1]}, "/: an object in a rule holds exactly one operator, this one holds 2: !=, =="),
        ({"==": [1]}, "/==: == takes 2 operands, not 1"),
        ({"<": [1]}, "/<: < takes 2 or 3 operands, not 1"),
        ({"and": []}, "/and: and takes 1 or more operands, not 0"),
        ({"!": [1, 2]}, "/!: ! takes 1 operand, not 2"),
        ({"or": True}, "/or: or takes a list of operands, not true"),
        ({"/": [1, 2, 3]}, "/~1: / takes 2 operands, not 3"),
        ({"var": "$flagd.flagkey"}, "/var: '$flagd.flagkey' does not exist; $flagd has: flagKey, timestamp"),
        ({"var": ["$flagd"]}, "/var: '$flagd' does not exist; $flagd has: flagKey, timestamp"),
        ({"var": {"var": "x"}}, "/var: var takes an attribute's name, not an object"),
        ({"var": ["x", [1]]}, "/var/1: the default of var must be a text, number, true, false or null"),
        ({"var": True}, "/var: var takes an attribute's name, not true"),
        ({"missing": ["a", 1]}, "/missing/1: missing takes names of attributes, not 1"),
        ({"missing_some": ["1", ["a"]]}, "/missing_some: missing_some takes a number and a list of attributes' names"),
        ({"starts_with": ["a", 1]}, "/starts_with/1: this operator compares texts, not 1"),
        ({"sem_ver": ["1", "*", "1"]}, "/sem_ver/1: '*' does not compare versions; use one of: = != > < >= <= ~ ^"),
        (
            {"sem_ver": [{"var": "v"}, "=", "1.2.3.4"]},
            "/sem_ver/2: '1.2.3.4' is not a version such as 1, 1.2 or 1.2.3-rc.1",
        ),
        ({"$ref": ["a"]}, "/$ref: $ref takes a segment's key, not a list"),
        (
            {"fractional": ["x", ["a", 1]]},
            "/fractional/0: fractional buckets by an expression such as a var, not by 'x'",
        ),
        ({"fractional": [{"var": "x"}]}, "/fractional: fractional has no [variant, weight] to choose from"),
        ({"fractional": [["a", 0], ["b", 0]]}, "/fractional: the sum of weights is 0, expected 1 or more"),
        (
            {"fractional": [["a", 1, 2]]},
            "/fractional/0: fractional chooses from lists of [variant] or [variant, weight]",
        ),
        ({"fractional": [["a", -1]]}, f"/fractional/0/1: a weight of -1 is not between 0 and {WEIGHT_SUM_MAX}"),
        (
            {"fractional": [["a", 0.5]]},
            "/fractional/0/1: a weight is a whole number from 0 on or an expression, not 0.5",
        ),
        (
            {"fractional": [["a", WEIGHT_SUM_MAX], ["b"]]},
            f"/fractional: the sum of weights is {WEIGHT_SUM_MAX + 1}, at most {WEIGHT_SUM_MAX} is allowed",
        ),
        (
            {"==": [{"var": "id"}, 2**53]},
            f"/==/1: {2**53} is beyond {2**53 - 1}, where numbers are no longer exact; write it as text",
        ),
        ([float("nan")], "/0: nan is not a number in JSON"),
        ([10**400], "/0: this number is too large for a 64-bit float"),
    ],
)
def test_a_wrong_rule_is_refused_with_its_path(rule: Json, problem: str) -> None:
    """One problem, and only that one."""
    assert problems_of(rule) == [problem]


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ("three", "/: variant 'three' does not exist; the flag has: one, two"),
        ({"if": [True, "three", "one"]}, "/if/1: variant 'three' does not exist; the flag has: one, two"),
        ({"if": ["x", "one", "y", "two", False]}, "/if/4: variant 'false' does not exist; the flag has: one, two"),
        ({"if": ["x", {"if": ["x", 3]}]}, "/if/1/if/1: variant '3' does not exist; the flag has: one, two"),
        ({"fractional": [["one"], ["x", 1]]}, "/fractional/1/0: variant 'x' does not exist; the flag has: one, two"),
        ({"and": ["x", "y", "one"]}, ""),
        ({"and": [0, "one"]}, "/and/0: variant '0' does not exist; the flag has: one, two"),
        ({"or": [0, None, "one"]}, ""),
        ({"or": ["x", "one"]}, "/or/0: variant 'x' does not exist; the flag has: one, two"),
        (
            {"if": [True, ["one"], None]},
            "/if/1: a list is not a variant; a rule gives a variant's key, true, false or null",
        ),
        ({"if": [{"fractional": [[True, 1], ["x", 1]]}, "one", {"cat": ["o", "ne"]}]}, ""),
    ],
)
def test_a_literal_result_must_be_a_variant(rule: Json, problem: str) -> None:
    """Only where it can become the result: conditions and operands may hold any text."""
    assert problems_of(rule, variants=VARIANTS) == [problem] * bool(problem)
    assert problems_of({"==": [rule, 1]}, variants={"true": 1, "false": 2}) == []


@pytest.mark.parametrize(
    ("rule", "start"),
    [
        ({"in": ["a", "b"]}, "/in: in gives true or false, but the flag has no variant 'true' and no 'false'; "),
        ({"or": [{"!": [1]}, "one"]}, "/or/0/!: ! gives true, but the flag has no variant 'true'; "),
        ({"and": [{"!": [1]}, "one"]}, "/and/0/!: ! gives false, but the flag has no variant 'false'; "),
    ],
)
def test_a_comparison_as_result_needs_variants_of_its_name(rule: Json, start: str) -> None:
    """Else flagd, and we, answer every such context with an error."""
    operator = start.split(" ")[1]
    helps = f'write {{"if": [{{"{operator}": ...}}, VARIANT, VARIANT]}}'

    assert problems_of(rule, variants=VARIANTS) == [start + helps]
    assert problems_of(rule, variants={**VARIANTS, "true": 3, "false": 4}) == []


def test_booleans_and_numbers_name_variants() -> None:
    """As flagd turns a rule's value into a key."""
    variants = {"true": 1, "false": 2, "3": 3, "0.5": 4}

    assert problems_of({"if": [1, True, 1, False, 1, 3, 1, 3.0, 1, 0.5]}, variants=variants) == []
    assert problems_of({"==": [1, 1]}, variants=variants) == []


def nested(depth: int) -> Json:
    """`!` inside `!`, this many of them."""
    rule: Json = True
    for _ in range(depth):
        rule = {"!": [rule]}
    return rule


def test_depth_nodes_and_lists_have_bounds() -> None:
    """The bound itself is accepted, one more is not, and a hostile rule is not followed."""
    assert problems_of(nested(RULE_DEPTH_MAX)) == []
    assert problems_of({"and": [1] * (RULE_NODES_MAX - 1)}) == []
    assert problems_of({"in": [1, list(range(LIST_ITEMS_MAX))]}) == []

    deep = f"/{'/'.join(['!/0'] * RULE_DEPTH_MAX)}: operators are nested more than {RULE_DEPTH_MAX} deep"
    assert problems_of(nested(100_000)) == [deep]
    many = f"the rule has more than {RULE_NODES_MAX} operators and operands"
    assert problems_of({"and": [1] * 5_000}) == [f"/and/{RULE_NODES_MAX - 1}: {many}"]
    assert problems_of({"or": [1, {"and": [1] * RULE_NODES_MAX}]}) == [f"/or/1/and/{RULE_NODES_MAX - 3}: {many}"]
    assert problems_of({"in": [1, ["x"] * (LIST_ITEMS_MAX + 1)]}) == [
        f"/in/1: the list has {LIST_ITEMS_MAX + 1} items, at most {LIST_ITEMS_MAX} are allowed"
    ]


@pytest.mark.parametrize(
    "part",
    [
        {"var": "a"},
        {"==": [{"var": "a"}, {"var": "b"}]},
        {"missing": ["a", "b", "c"]},
        {"sem_ver": [{"var": "a"}, "=", "1"]},
        {"fractional": [["a", 1], ["b", 1]]},
    ],
    ids=["var", "compare", "missing", "sem_ver", "fractional"],
)
def test_no_operator_steps_over_the_bound(part: Json) -> None:
    """Operators that count several nodes at once are refused as the others are, wherever the bound falls."""
    for before in range(5):
        [problem] = problems_of({"and": [1] * before + [part] * RULE_NODES_MAX})
        assert problem.endswith(f"the rule has more than {RULE_NODES_MAX} operators and operands")


def test_lenient_turns_problems_into_warnings_but_not_bounds() -> None:
    """Flagd would warn about an unknown operator; nobody may exhaust the server."""
    problems = Problems()
    check_rule({"or": [{"log": 1}, nested(40)]}, path="", problems=problems, lenient=True)

    assert [str(problem) for problem in problems.warnings] == ["/or/0: unknown operator 'log'"]
    assert len(problems.errors) == 1 and "nested" in problems.errors[0].message


@pytest.mark.parametrize(
    "hidden",
    [nested(100_000), {"a": [1] * (LIST_ITEMS_MAX + 1)}, [[[1]] * 2] * 2_000, {"a": [float("nan")]}],
    ids=["deep", "long", "many", "not finite"],
)
def test_what_is_not_understood_is_bounded_too(hidden: Json) -> None:
    """A lenient reader keeps an operand of an unknown operator, so whoever walks the rule later meets it."""
    problems = Problems()
    check_rule({"log": hidden}, path="", problems=problems, lenient=True)

    assert (len(problems.warnings), len(problems.errors)) == (1, 1)


def test_references_are_found_where_they_are_followed() -> None:
    """Not inside an object of two fields, which is no operator."""
    rule = {"if": [{"$ref": "a/b"}, {"!": {"$ref": "c"}}, {"$ref": 1}, {"$ref": "d", "x": 1}, [{"$ref": "a/b"}]]}

    assert references(rule) == {"a/b", "c"}
    assert sorted(str(key) for _, key in reference_paths(rule, "")) == ["a/b", "a/b", "c"]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"if": [True, {"fractional": [["a", 1]]}]}, True),
        ({"fractional": [{"var": "x"}, [{"fractional": [["a", 1]]}, 1]]}, True),
        ({"fractional": [{"var": "x"}, ["a", 1]]}, False),
        ({"fractional": [{"cat": [{"var": "x"}]}]}, False),
    ],
)
def test_shorthand_is_found_at_any_depth(rule: Json, expected: bool) -> None:
    """It hashes the key of the flag that it stands in."""
    assert uses_shorthand(rule) is expected
