"""Feed any text to the parser of versions and to sem_ver: an answer or null, never an exception, and consistent."""

from server.core.evaluation.operators import parse_version, semantic_version

OPERATORS = ("=", "!=", ">", "<", ">=", "<=", "^", "~")


def test_one(data: bytes) -> None:
    """Two versions, split by a line break."""
    first, _, second = data.decode("utf-8", "surrogateescape").partition("\n")
    one, two = parse_version(first), parse_version(second)
    answers = {operator: semantic_version(first, operator, second) for operator in OPERATORS}
    if one is None or two is None:
        assert set(answers.values()) == {None}, f"{first!r} and {second!r} are not versions but compare: {answers}"
        return
    order = [answers["<"], answers["="], answers[">"]]
    assert sorted(map(bool, order)) == [False, False, True], f"{first!r} and {second!r} have no order: {answers}"
    assert answers["!="] is not answers["="]
    assert answers["<="] is (answers["<"] or answers["="])
    assert answers[">="] is (answers[">"] or answers["="])
