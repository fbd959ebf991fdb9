"""An answer under a type, and a batch that agrees with single evaluations."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.errors import InvalidRequest, NotFound, StoreUnavailable
from server.core.flags import ValueType
from server.core.json import Json
from server.core.resolution import ErrorCode, Reason
from server.live.holder import Holder
from server.operations.evaluate import (
    as_type,
    attributes_read,
    find,
    resolve,
    resolve_all,
    resolve_batch,
    select,
)
from tests.fakes import answer, chooses, failure, holder_of, rule_flag, snapshot_of, static_flag


@pytest.mark.parametrize(
    ("value", "expected", "given_back"),
    [
        (True, ValueType.BOOLEAN, True),
        ("x", ValueType.STRING, "x"),
        (10, ValueType.INTEGER, 10),
        (10.0, ValueType.INTEGER, 10),
        (10, ValueType.FLOAT, 10.0),
        (2**53 - 1, ValueType.FLOAT, 2.0**53 - 1),
        (-(2.0**53 - 1), ValueType.INTEGER, -(2**53 - 1)),
        (2**63 - 1, ValueType.INTEGER, 2**63 - 1),
        (-(2**63), ValueType.INTEGER, -(2**63)),
        ({}, ValueType.OBJECT, {}),
    ],
)
def test_type_without_loss(value: Json, expected: ValueType, given_back: Json) -> None:
    """Integers and floats stand for each other where nothing is lost; what comes back has the asked type."""
    typed = as_type(answer("f", value), expected)

    assert (given_back, type(given_back)) == (typed.value, type(typed.value))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, ValueType.INTEGER),
        (1, ValueType.BOOLEAN),
        ("1", ValueType.INTEGER),
        (3.14, ValueType.INTEGER),
        (2**53, ValueType.FLOAT),
        (2.0**53, ValueType.INTEGER),
        (2**63, ValueType.INTEGER),
        (10**5000, ValueType.INTEGER),
        (float("inf"), ValueType.INTEGER),
        (float("nan"), ValueType.INTEGER),
        ([1], ValueType.OBJECT),
        ({}, ValueType.STRING),
    ],
    ids=[
        *("boolean", "integer as boolean", "text", "fraction", "beyond double", "float beyond double", "beyond int64"),
        *("thousands of digits", "infinite", "not a number", "list", "object as text"),
    ],
)
def test_type_with_loss(value: Json, expected: ValueType) -> None:
    """What would lose something is a TYPE_MISMATCH that names the flag and the type."""
    typed = as_type(answer("f", value), expected)

    assert (Reason.ERROR, ErrorCode.TYPE_MISMATCH, None) == (typed.reason, typed.error_code, typed.value)
    assert "'f'" in typed.error_message
    assert expected.value in typed.error_message


def test_type_is_worked_out_once() -> None:
    """The same answer under the same type is the same object, also when it is a mismatch."""
    number = answer("f", 3.5)

    assert as_type(number, ValueType.STRING) is as_type(number, ValueType.STRING)
    assert as_type(number, ValueType.FLOAT) is number


def test_absent_value_is_of_every_type() -> None:
    """The caller's own default, and an error, pass every type check."""
    absent = answer("f", None, variant=None, reason=Reason.DISABLED)
    broken = failure("f", ErrorCode.PARSE_ERROR, "no")

    assert all(as_type(each, expected) is each for each in (absent, broken) for expected in ValueType)


def test_unknown_flag_answers() -> None:
    """A flag that is not there is an answer, not an exception."""
    missing = resolve(snapshot_of(), "gone", context={}, now=0, expected=ValueType.STRING)

    assert (Reason.ERROR, ErrorCode.FLAG_NOT_FOUND) == (missing.reason, missing.error_code)


def test_all_flags_come_by_key() -> None:
    """Every flag of a set, sorted by key."""
    snapshot = snapshot_of(static_flag(answer("b", 1)), static_flag(answer("a", 2)))

    assert [("a", 2), ("b", 1)] == [(key, each.value) for key, each in resolve_all(snapshot, {}, now=0).items()]


def test_attributes_read_are_united() -> None:
    """A batch decodes what any of its flags reads, and everything when one may read anything."""
    greedy = rule_flag("c", lambda context, now: answer("c", True), reads=None, type_=ValueType.BOOLEAN)
    snapshot = snapshot_of(chooses("a", "x", bool), chooses("b", "y", bool), static_flag(answer("s", 1)), greedy)

    assert frozenset({"x", "y"}) == attributes_read(snapshot, ["a", "b", "s", "gone"])
    assert attributes_read(snapshot, ["a", "c"]) is None


@given(
    st.lists(st.sampled_from(["even", "big", "constant", "fresh", "gone"]), max_size=7),
    st.lists(st.integers(0, 9), max_size=12),
)
def test_batch_agrees_with_single_evaluations(keys: list[str], numbers: list[int]) -> None:
    """The answer at each place of a batch is what asking for it alone gives."""
    snapshot = snapshot_of(
        chooses("even", "n", lambda n: n % 2 == 0),
        chooses("big", "n", lambda n: n > 5),
        static_flag(answer("constant", "same")),
        # A flag that makes a new answer each time, as one with an error message of its own does.
        rule_flag("fresh", lambda context, now: answer("fresh", context["n"]), reads=["n"], type_=ValueType.INTEGER),
    )
    contexts = [{"n": number} for number in numbers]
    answers = asyncio.run(resolve_batch(snapshot, keys, contexts=contexts, now=0))

    for column, key in enumerate(keys):
        for row, context in enumerate(contexts):
            alone = resolve(snapshot, key, context=context, now=0)
            found = answers.distinct[answers.columns[column][row]]
            assert (alone.flag_key, alone.value, alone.error_code) == (found.flag_key, found.value, found.error_code)
    stable = [each for each in answers.distinct if each.flag_key in ("even", "big", "constant")]
    assert len(stable) == len({(each.flag_key, each.value) for each in stable})


async def test_large_batch_lets_others_in() -> None:
    """While a large batch runs, another task gets its turn."""
    snapshot = snapshot_of(*(chooses(f"f{n}", "n", bool) for n in range(20)))
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counter = asyncio.create_task(count_turns())
    await resolve_batch(snapshot, [f"f{n}" for n in range(20)], contexts=[{}] * 1_000, now=0)
    counter.cancel()

    assert turns >= 3


def test_flag_set_by_name_and_selector() -> None:
    """A flag set is found by its name, by flagSetId and by the source it came from; "" is the default set."""
    default, other = snapshot_of(), snapshot_of(flag_set="shop/staging")
    holder = holder_of(default, other, aliases={("source", "shop.json"): "shop/staging"})

    assert find(holder, "") is default
    assert find(holder, "shop/staging") is other
    assert (other, ("flagSetId", "shop/staging")) == select(holder, "flagSetId=shop/staging")
    assert (other, ("source", "shop.json")) == select(holder, "shop.json")


def test_unknown_flag_set_names_those_that_exist() -> None:
    """Who asks for a set that is not there is told which ones are."""
    holder = holder_of(snapshot_of())

    with pytest.raises(NotFound, match="default/production"):
        find(holder, "nope/nope")
    with pytest.raises(NotFound, match="default/production"):
        select(holder, "flagSetId=nope")
    with pytest.raises(InvalidRequest, match="flagSetId=NAME"):
        select(holder, "colour=red")


def test_nothing_is_found_before_anything_was_loaded() -> None:
    """Before the first load a set is not unknown: the server is not ready."""
    with pytest.raises(StoreUnavailable, match="loaded"):
        find(Holder("default/production"), "")
    with pytest.raises(StoreUnavailable, match="loaded"):
        select(Holder("default/production"), "flagSetId=a/b")
