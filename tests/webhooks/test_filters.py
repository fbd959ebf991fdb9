"""Filters: what they let through, what they refuse where they are written, and that none of them takes long."""

import json
from typing import Any, Final

import jmespath
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from server.core.announcing.catalogue import CATALOGUE
from webhooks import limits
from webhooks.errors import EvaluationFailed, InvalidSetting
from webhooks.expressions import compile_expression, is_true, weight
from webhooks.filters import Filter, Match, compile_filter, filter_json, places, read_filter

KNOWN: Final = (*CATALOGUE, "webhook.endpoint_disabled")
EVENT: Final[dict[str, Any]] = {
    "id": "evt_1",
    "type": "flag.targeting_changed",
    "project": "shop",
    "environment": "production",
    "sequence": 7,
    "actor": {"type": "user", "id": "u1", "name": "Zoë"},
    "hops": 0,
    "data": {
        "flag_key": "new-checkout",
        "owner": "",
        "to_percent": 25.0,
        "enabled": True,
        "tags": ["web", "checkout"],
        "changes": [
            {"path": "/rules/beta/share", "old": "10", "new": "25"},
            {"path": "/owner", "old": "a", "new": "b"},
        ],
    },
}


def wanted(filter_: Filter, *, tags: tuple[str, ...] = (), owners: tuple[str, ...] = (), **changed: Any) -> bool:
    """Whether a filter lets the event through, with other fields."""
    return compile_filter(filter_).matches({**EVENT, **changed}, tags, owners).wanted


@pytest.mark.parametrize(
    ("types", "type_", "expected"),
    [
        ((), "flag.killed", True),
        (("*",), "flag.killed", True),
        (("flag.*",), "flag.killed", True),
        (("flag.*",), "release.started", False),
        (("flag.*",), "flagship.sunk", False),
        (("flag.killed", "guard.*"), "flag.killed", True),
        (("flag.killed", "guard.*"), "guard.breached", True),
        (("flag.killed", "guard.*"), "flag.enabled", False),
        (("*",), "webhook.endpoint_disabled", False),
        ((), "webhook.endpoint_disabled", False),
        (("*", "webhook.*"), "webhook.endpoint_disabled", True),
        (("*", "webhook.*"), "flag.killed", True),
        (("webhook.endpoint_disabled",), "webhook.endpoint_disabled", True),
        (("webhook.*",), "flag.killed", False),
    ],
)
def test_types_are_names_beginnings_or_all(types: tuple[str, ...], type_: str, expected: bool) -> None:
    """What is told of endpoints goes to those who name it alone, so that no failing endpoint calls itself."""
    assert expected == wanted(Filter(event_types=types), type=type_)


@pytest.mark.parametrize(
    ("filter_", "expected"),
    [
        (Filter(environments=("production", "staging")), True),
        (Filter(environments=("staging",)), False),
        (Filter(tags=("web", "app")), True),
        (Filter(tags=("app",)), False),
        (Filter(owners=("checkout",)), True),
        (Filter(owners=("search",)), False),
        (Filter(("flag.*",), ("production",), ("web",), ("checkout",), "data.to_percent > `20`"), True),
        (Filter(("flag.*",), ("production",), ("web",), ("search",), "data.to_percent > `20`"), False),
        (Filter(("flag.*",), ("production",), ("web",), ("checkout",), "data.to_percent > `30`"), False),
    ],
)
def test_all_parts_must_hold(filter_: Filter, expected: bool) -> None:
    """Of the values of one part any will do."""
    assert expected == wanted(filter_, tags=("web", "checkout"), owners=("checkout",))


def test_an_event_of_several_environments_is_about_each() -> None:
    """It has none of its own, and its data name them, themselves or before their flags."""
    data = {"environments": ["staging"], "flags": ["production/new-checkout"]}

    assert {"staging", "production"} == places({"environment": "", "data": data})
    assert {"dev"} == places({"environment": "dev", "data": data})
    assert set() == places({"environment": "", "data": {}})


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("data.enabled", True),
        ("data.to_percent", True),
        ("hops", True),
        ("data.owner", False),
        ("data.nothing", False),
        ("`[]`", False),
        ("`{}`", False),
        ("`0`", True),
        ("contains(data.tags, 'web')", True),
        ("data.changes[?path == '/owner']", True),
        ("data.changes[?path == '/tags']", False),
        ("starts_with(data.flag_key, 'new-') && actor.type != 'release'", True),
        ('"data"."to_percent" >= `25`', True),
        ('contains(`["guard.breached", "flag.targeting_changed"]`, type)', True),
        ("sort_by(data.changes, &path)[0].path == '/owner'", True),
        ("length(join(',', data.changes[].path)) == `24`", True),
    ],
)
def test_truth_is_that_of_jmespath(expression: str, expected: bool) -> None:
    """False, null and what is empty do not let an event through; 0 does."""
    assert expected == wanted(Filter(expression=expression))


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("contains(data.nothing, 'x')", r"contains\(\) takes array or string, and was given null; .*data.tags &&"),
        ("sum(data.tags)", r"sum\(\) takes array-number, and was given str"),
        ("data.owner < `1`", "TypeError"),
        ("data.tags[::0]", "slice step cannot be zero"),
    ],
)
def test_no_answer_is_no_and_is_told(expression: str, problem: str) -> None:
    """Who wrote it learns why, and nothing is sent that was not asked for."""
    match = compile_filter(Filter(expression=expression)).matches(EVENT)

    assert not match.wanted
    with pytest.raises(AssertionError, match=problem):
        raise AssertionError(match.problem)


def test_every_problem_of_a_filter_is_told_with_its_place() -> None:
    """Not only the first one."""
    with pytest.raises(InvalidSetting) as caught:
        read_filter(
            {
                "event_types": ["flag.kiled", "relase.*", 3, "flag.killed"],
                "environments": "production",
                "tag": ["x"],
                "owners": ["", "o" * 201],
                "expression": "data.flag_key ==",
            },
            KNOWN,
        )

    assert {
        ("/filter", "a filter has no 'tag'; did you mean 'tags'?"),
        ("/filter/event_types/0", "no event is called 'flag.kiled'; did you mean 'flag.killed'?"),
        ("/filter/event_types/1", "no event is called 'relase.*'; did you mean 'release.*'?"),
        ("/filter/event_types/2", "expected a text of 1 to 200 characters"),
        ("/filter/environments", 'expected a list of texts such as ["x"]'),
        ("/filter/owners/0", "expected a text of 1 to 200 characters"),
        ("/filter/owners/1", "expected a text of 1 to 200 characters"),
        ("/filter/expression", "it ends too early, after 'data.flag_key =='"),
    } == {(each.path, each.message) for each in caught.value.problems}


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ([], r"^/filter: expected an object"),
        ({"event_types": ["flag.killed"] * 101}, "/filter/event_types: 101 entries, at most 100"),
        ({"event_types": ["fl*"]}, "no event is called 'fl\\*'"),
        ({"event_types": [".*"]}, "no event is called '.\\*'"),
        ({"expression": 1}, "/filter/expression: expected a text"),
    ],
)
def test_a_filter_of_another_shape_is_refused(given_: object, message: str) -> None:
    """Each is told what would be right."""
    with pytest.raises(InvalidSetting, match=message):
        read_filter(given_, KNOWN)


def test_a_filter_is_read_again_as_it_is_kept() -> None:
    """What it names twice is kept once."""
    given_ = {"event_types": ["flag.*", "flag.*"], "tags": ["web"], "expression": "hops"}
    read = read_filter(given_, KNOWN)

    assert Filter(event_types=("flag.*",), tags=("web",), expression="hops") == read
    assert read == read_filter(json.loads(json.dumps(filter_json(read))), KNOWN)
    assert Filter() == read_filter({"expression": None, "tags": None}, KNOWN)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (" ", "an expression has 1 to 2000 characters"),
        ("a" * 2_001, "an expression has 1 to 2000 characters"),
        ("data.flag_key = 'x'", "not JMESPath at character 15: \"= 'x'\""),
        ("a b", "not JMESPath at character 3"),
        ("a ? b", "not JMESPath at character 3"),
        ("a[", "ends too early"),
        ("a == 'x", "not JMESPath at character 6"),
        ("owner == `checkout`", "'checkout' at character 10 is no JSON; a text stands between"),
        ("containz(a, 'b')", r"there is no function 'containz'; did you mean 'contains'\?"),
        ("contains(a)", r"contains\(\) takes 2 arguments, not 1"),
        ("length(a, b)", r"length\(\) takes 1 argument, not 2"),
        ("not_null()", r"not_null\(\) takes at least 1 argument, not 0"),
        ("!" * 1_500 + "a", "nested deeper than 100"),
        ("(" * 900 + "a" + ")" * 900, "nested deeper than 100|not JMESPath"),
        ("`" + "[" * 900 + "]" * 900 + "`", "nested deeper than 100"),
        ("||".join("a" * 120), "nested deeper than 100; for many values write"),
    ],
)
def test_a_wrong_expression_is_refused_where_it_is_written(expression: str, message: str) -> None:
    """The message says where it stands and what helps."""
    with pytest.raises(InvalidSetting, match=message):
        compile_expression(expression, "/filter/expression")


@pytest.mark.parametrize(
    "expression",
    [
        "|".join(["[@,@][]"] * 40),
        "|".join(["[@,@]"] * 90) + "|to_string(@)",
        "|".join(["{a:@,b:@}"] * 90) + "|to_string(@)",
        "to_string(@)|" + "|".join(["join('',[@,@])"] * 40),
        "[" + "|".join(["[@,@]"] * 60) + "," + "|".join(["[@,@]"] * 60) + "]|[0]==[1]",
        f"map(&`{[0] * 450}`, `{[0] * 100}`)[]",
        "|".join(["merge(@, {a: values(@)})"] * 60),
        "|".join(["[@,@][]"] * 13) + "|[" + ",".join(["@"] * 150) + "]|contains(@, @)",
    ],
)
def test_what_would_grow_for_ever_is_stopped(expression: str) -> None:
    """By its steps: no clock is asked, so that the answer is the same on every machine."""
    with pytest.raises(EvaluationFailed, match="more than 20000 steps"):
        compile_expression(expression, "/filter/expression").value(EVENT)


def test_a_weight_is_not_counted_further_than_it_matters() -> None:
    """Else weighing would cost what it should save."""
    doubled: list[Any] = []
    for _ in range(60):
        doubled = [doubled, doubled]

    assert 101 == weight(doubled, 100)
    assert 1 + 1 + 1 + 2 == weight({"a": [1], "b": "x" * 32}, 100)


PARTS: Final = st.lists(
    st.sampled_from(
        [
            *("data", "tags", "changes", "path", "to_percent", "type", "actor", ".", ".", "[", "]", "[]", "[*]", "*"),
            *("(", ")", "|", "||", "&&", "!", "==", "<", ">=", "@", "&", ",", ":", "{", "}", "[?", "'x'", '"a"', "`1`"),
            *(
                "`null`",
                "`[1,2]`",
                "-1",
                "0",
                "::0",
                "contains(",
                "sort_by(",
                "map(&",
                "to_number(",
                "join('',",
                "'",
                "`",
            ),
            *("to_string(@)", "keys(@)", "max_by(@,&a)", "floor(`1e999`)", "avg(`[]`)", "reverse(@)", "\\", "é", " "),
        ]
    ),
    max_size=30,
).map("".join)


@given(PARTS | st.text(max_size=60))
@example("data.tags[?@ > `1`]")
@example("floor(`1e999`)")
@example("to_number('" + "9" * 1_990 + "')")
def test_no_expression_raises_anything_else(expression: str) -> None:
    """It is refused, gives no answer, or gives the one that the library gives."""
    try:
        compiled = compile_expression(expression, "/filter/expression")
        value = compiled.value(EVENT)
    except (InvalidSetting, EvaluationFailed):
        return

    assert repr(jmespath.search(expression, EVENT))[:20] == repr(value)[:20]
    assert is_true(value) == wanted(Filter(expression=expression))


JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda each: st.lists(each, max_size=4),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(list(filter_json(Filter()))) | st.text(max_size=5), JSON) | JSON)
def test_whatever_is_given_is_read_or_refused(given_: object) -> None:
    """And what is read can be compiled and asked."""
    try:
        read = read_filter(given_, KNOWN)
    except InvalidSetting as error:
        assert error.problems
        return

    assert isinstance(compile_filter(read).matches(EVENT), Match)
    assert len(read.event_types) <= limits.FILTER_VALUES_MAX
