"""A list is read as a number without its whole text, and gives the number that the text would give."""

import time

from hypothesis import given
from hypothesis import strategies as st

from server.core.environments import Bucketing
from server.core.evaluation.compare import less, less_equal, loose_equal, number_text, parse_float, text_of, to_number
from server.core.evaluation.compiler import compile_rule
from server.core.json import Json
from tests.laws.odd import COMPOUNDS, SCALARS

WORST_S = 0.005

items: st.SearchStrategy[Json] = st.recursive(
    st.one_of(st.sampled_from((*SCALARS, *COMPOUNDS)), st.text(max_size=5), st.floats(), st.integers()),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)


@given(st.lists(items, max_size=3))
def test_a_list_is_the_number_of_its_text(values: list[Json]) -> None:
    """For ToNumber and for parseFloat."""
    text = text_of(values)

    assert number_text(to_number(text)) == number_text(to_number(values))
    assert number_text(parse_float(text)) == number_text(parse_float(values))


@given(st.lists(items, max_size=3), st.one_of(st.booleans(), st.floats(), st.integers(), st.sampled_from(SCALARS)))
def test_a_list_compares_as_its_text(values: list[Json], other: Json) -> None:
    """With anything but null, which equals only null."""
    text = text_of(values)

    assert less(text, other) == less(values, other)
    assert less_equal(other, text) == less_equal(other, values)
    assert (other is not None and loose_equal(text, other)) == loose_equal(values, other)


def test_long_lists_cost_nothing() -> None:
    """Hundreds of comparisons of a caller's longest list with a number stay within what one evaluation may cost."""
    context = {"numbers": [number + 0.123456789 for number in range(620)]}
    rule = {
        "or": [{"and": [{operator: [{"var": "numbers"}, 1]}, False]} for operator in ("<", ">=", "==", "+", "-") * 60]
    }
    evaluate = compile_rule(rule, flag_key="f", bucketing=Bucketing.V2)
    best = float("inf")
    for _ in range(7):
        started = time.thread_time()
        evaluate(context, 0)
        best = min(best, time.thread_time() - started)

    assert best < WORST_S
