"""Hold conversions and comparisons to what JavaScript answers, ours and the reference's."""

from typing import Any

from server.core.evaluation import compare
from tests.oracle import javascript
from tests.oracle.javascript import to_javascript
from tests.vectors.tables import cases


@cases("numbers.json")
def test_number_text(row: list[Any]) -> None:
    """33333.0 is written 33333, 1e21 is written 1e+21."""
    number, expected = row

    assert expected == compare.to_text(number)
    assert expected == javascript.to_text(to_javascript(number))


@cases("to_text.json")
def test_to_text(row: list[Any]) -> None:
    """What `cat` makes of one value: null is empty, an array is joined by commas."""
    value, expected = row

    assert expected == compare.to_text(value)
    assert expected == javascript.join([to_javascript(value)], "")


@cases("to_number.json")
def test_to_number(row: list[Any]) -> None:
    """A text that is no number is NaN; the empty text is 0."""
    value, expected, expected_prefix = row

    assert expected == compare.to_text(compare.to_number(value))
    assert expected == javascript.to_text(javascript.to_number(to_javascript(value)))
    assert expected_prefix == compare.to_text(compare.parse_float(value))
    assert expected_prefix == javascript.to_text(javascript.parse_float(to_javascript(value)))


@cases("truthiness.json")
def test_truthy(row: list[Any]) -> None:
    """[] is false, "0" and {} are true."""
    value, expected = row

    assert expected is compare.truthy(value)
    assert expected is javascript.truthy(to_javascript(value))


def test_not_a_number_is_false() -> None:
    """NaN cannot stand in a table, and is false."""
    nan = float("nan")

    assert not compare.truthy(nan)
    assert not javascript.truthy(nan)


@cases("equality.json")
def test_equality(row: list[Any]) -> None:
    """`==` converts, `===` does not; both ways round."""
    left, right, loose, strict = row

    assert [loose, loose] == [compare.loose_equal(left, right), compare.loose_equal(right, left)]
    assert [strict, strict] == [compare.strict_equal(left, right), compare.strict_equal(right, left)]
    left, right = to_javascript(left), to_javascript(right)
    assert [loose, strict] == [javascript.loose_equal(left, right), javascript.strict_equal(left, right)]


@cases("comparison.json")
def test_comparison(row: list[Any]) -> None:
    """Texts compare by code unit, everything else as numbers."""
    left, right, less, less_equal = row

    assert [less, less_equal] == [compare.less(left, right), compare.less_equal(left, right)]
    left, right = to_javascript(left), to_javascript(right)
    assert [less, less_equal] == [javascript.less(left, right), javascript.less_equal(left, right)]
