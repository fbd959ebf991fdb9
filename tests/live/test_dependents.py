"""The index of what flags were compiled from, and how it is carried from one snapshot to the next."""

from collections.abc import Mapping

from server.core.environments import Environment
from server.core.evaluation.snapshot import CompiledFlag, Snapshot
from server.live.dependents import Target, affected_by, carry_over, index_of
from tests.fakes import answer, static_flag

BETA: Target = ("segment", "beta")
OTHER: Target = ("flag", "other")


def a_flag(key: str, *references: Target, quarantine: str = "") -> CompiledFlag:
    """A flag that was compiled from these."""
    static = static_flag(answer(key, "on"))
    return CompiledFlag(
        key=key,
        type=static.type,
        evaluate=static.evaluate,
        reads=static.reads,
        references=frozenset(references),
        quarantine=quarantine,
    )


def a_snapshot(flags: Mapping[str, CompiledFlag]) -> Snapshot:
    """A snapshot without an index."""
    return Snapshot(environment=Environment("shop", "production"), revision=1, flags=flags)


def test_a_flag_is_affected_by_what_it_was_compiled_from() -> None:
    """Only flags that refer to something touched are compiled again."""
    snapshot = a_snapshot({"a": a_flag("a", BETA), "b": a_flag("b", OTHER), "c": a_flag("c")})

    assert {"a"} == affected_by(snapshot, [BETA])
    assert {"a", "b"} == affected_by(snapshot, [BETA, OTHER])
    assert not affected_by(snapshot, [("segment", "unknown")])


def test_a_quarantined_flag_is_affected_by_everything() -> None:
    """What would heal it is not known."""
    snapshot = a_snapshot({"a": a_flag("a", quarantine="broken"), "b": a_flag("b")})

    assert {"a"} == affected_by(snapshot, [])


def test_the_index_is_carried_over() -> None:
    """A flag that refers to something else, comes or goes changes the index as a new one would have it."""
    before = {"a": a_flag("a", BETA), "b": a_flag("b", ("segment", "old")), "c": a_flag("c", OTHER)}
    after = {"a": a_flag("a", OTHER), "c": before["c"], "d": a_flag("d", BETA, quarantine="broken")}
    carried, made = a_snapshot(after), a_snapshot(after)
    carry_over(a_snapshot(before), carried, keys={"a", "b", "d"})

    assert index_of(made) == index_of(carried)


def test_the_earlier_snapshot_keeps_its_index() -> None:
    """Snapshots are never edited, so an earlier one still answers for itself."""
    before, after = a_snapshot({"a": a_flag("a", BETA)}), a_snapshot({"a": a_flag("a")})
    carry_over(before, after, keys={"a"})

    assert {"a"} == affected_by(before, [BETA])
    assert not affected_by(after, [BETA])
