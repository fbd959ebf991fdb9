"""Count evaluations, and keep what is told apart within bounds."""

from server.core.resolution import ErrorCode, Reason
from server.operations.counts import OTHER, Count, EvaluationCounts, both
from tests.fakes import answer, failure, snapshot_of


def test_answers_are_counted_by_reason_and_error() -> None:
    """An error is told by its code too; a batch counts many at once."""
    counts = EvaluationCounts()
    seen = counts.counter("ofrep")
    seen(snapshot_of(), answer("a", True))
    seen(snapshot_of(), answer("b", True), 41)
    seen(snapshot_of(), failure("c", ErrorCode.FLAG_NOT_FOUND, "gone"))

    assert [
        Count("ofrep", "default/production", "STATIC", "", 42),
        Count("ofrep", "default/production", "ERROR", "FLAG_NOT_FOUND", 1),
    ] == list(counts)


def test_a_new_revision_counts_on() -> None:
    """Counts belong to the flag set, not to the snapshot through which they are found."""
    counts = EvaluationCounts()
    seen = counts.counter("flagstaff")
    for revision in (1, 2):
        seen(snapshot_of(revision=revision), answer("a", True))

    assert [2] == [each.number for each in counts]


def test_protocols_are_told_apart() -> None:
    """The same snapshot, asked in two protocols."""
    counts, snapshot = EvaluationCounts(), snapshot_of()
    for protocol in ("flagd.v1", "flagd.v2"):
        counts.counter(protocol)(snapshot, answer("a", True))

    assert {"flagd.v1": 1, "flagd.v2": 1} == {each.protocol: each.number for each in counts}


def test_flag_sets_beyond_the_bound_are_counted_together() -> None:
    """Those that came first keep their names, in every protocol."""
    counts = EvaluationCounts(flag_sets_max=2)
    for protocol in ("flagstaff", "ofrep"):
        seen = counts.counter(protocol)
        for number in range(5):
            seen(snapshot_of(flag_set=f"shop/e{number}"), answer("a", True))

    one = {"shop/e0": 1, "shop/e1": 1, OTHER: 3}
    assert [one, one] == [
        {each.flag_set: each.number for each in counts if each.protocol == protocol}
        for protocol in ("flagstaff", "ofrep")
    ]


def test_two_can_be_told() -> None:
    """Both hear of the same answer and count."""
    first, second = EvaluationCounts(), EvaluationCounts()
    tell = both(first.counter("ofrep"), second.counter("ofrep"))
    tell(snapshot_of(), answer("a", 1, reason=Reason.DEFAULT), 3)

    assert list(first) == list(second) == [Count("ofrep", "default/production", "DEFAULT", "", 3)]
