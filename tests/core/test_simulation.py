"""What a change would do to evaluations: who moves, which laws break, what would be missing."""

from typing import Any, Final

from hypothesis import given
from hypothesis import strategies as st

from server.core.changes import Change, PutFlag, PutSegment, RemoveSegment, UpdateEnvironment, preview_all
from server.core.environments import Bucketing, Environment
from server.core.flagsets import FlagSet
from server.core.json import Json
from server.core.simulation.laws import Law
from server.core.simulation.moves import Arm, ArmKind, Because, Dangling, Simulated, simulate
from server.core.simulation.samples import generated
from tests.store.definitions import flag, segment
from tests.strategies import flag_sets

NOW: Final = 1_767_225_600
UNITS: Final = generated(1_000, {})


def _flag_set(*definitions: Any, segments: Any = (), bucketing: Bucketing = Bucketing.V2) -> FlagSet:
    environment = Environment("shop", "production", bucketing=bucketing)
    return FlagSet(environment, {each.key: each for each in definitions}, {each.key: each for each in segments})


def _simulated(before: FlagSet, *changes: Change, sample: Any = UNITS) -> Simulated:
    preview = preview_all(before, changes)
    return simulate(before, preview.flag_set, events=preview.events, sample=sample, now=NOW)


def _shared(parts: int, **more: Json) -> dict[str, Json]:
    return {"rules": [{"id": "beta", "serve": "on", "share": {"percent": parts / 1_000, **more}}]}


def _on(simulated: Simulated, key: str = "checkout") -> dict[tuple[str, str], int]:
    flag_moves = next(each for each in simulated.flags if each.key == key)
    return {(before.name, after.name): count for (before, after), count in flag_moves.matrix.items()}


def test_widening_a_share_only_adds() -> None:
    """Units go from off to on and none the other way; no law is broken."""
    simulated = _simulated(_flag_set(flag(**_shared(20_000))), PutFlag(flag(**_shared(40_000))))
    moves = _on(simulated)

    assert {("off", "off"), ("off", "on"), ("on", "on")} == moves.keys()
    assert 1_000 == sum(moves.values()) == simulated.context_count
    assert () == simulated.flags[0].broken_laws
    assert moves["off", "on"] == simulated.flags[0].moved_count


def test_another_salt_breaks_the_law() -> None:
    """A share that is wider and drawn anew puts units out that were in, and says so and why."""
    before = _flag_set(flag(**_shared(20_000)))
    simulated = _simulated(before, PutFlag(flag(**_shared(40_000, salt="other")), rerandomise=True))
    (broken,) = simulated.flags[0].broken_laws

    assert (Law.WIDENING_ONLY_ADDS, "beta") == (broken.law, broken.rule)
    assert broken.unit_count == _on(simulated)["on", "off"]
    assert "from 20 % to 40 %" in broken.message and "the salt goes from" in broken.message


def test_narrowing_with_another_key_breaks_the_law() -> None:
    """A narrower share by another attribute lets units in that were out."""
    people = [{"targetingKey": f"u{number}", "account": f"a{number % 50}"} for number in range(1_000)]
    before = _flag_set(flag(**_shared(40_000)))
    simulated = _simulated(before, PutFlag(flag(**_shared(30_000, bucketBy="account"))), sample=people)

    assert Law.NARROWING_ONLY_REMOVES in [each.law for each in simulated.flags[0].broken_laws]


def _split(*weights: tuple[str, int]) -> dict[str, Json]:
    return {"variants": {"a": 1, "b": 2, "c": 3}, "default": {"weights": dict(weights)}}


def test_neighbours_of_a_split_can_trade() -> None:
    """An arm that grows at the cost of the one beside it moves nobody else."""
    before = _flag_set(flag(**_split(("a", 10), ("b", 10), ("c", 80))))
    simulated = _simulated(before, PutFlag(flag(**_split(("a", 10), ("b", 30), ("c", 60)))))

    assert {("c", "b")} == {pair for pair in _on(simulated) if pair[0] != pair[1]}
    assert () == simulated.flags[0].broken_laws


def test_an_arm_that_does_not_shrink_must_keep_its_units() -> None:
    """An arm between the one that grows and the one that shrinks is pushed along, and that is told."""
    before = _flag_set(flag(**_split(("a", 10), ("b", 10), ("c", 80))))
    simulated = _simulated(before, PutFlag(flag(**_split(("a", 30), ("b", 10), ("c", 60)))))
    (broken,) = simulated.flags[0].broken_laws

    assert (Law.ARM_KEEPS_ITS_UNITS, "default") == (broken.law, broken.rule)
    assert "arm b" in broken.message


def test_another_bucketing_moves_units_of_every_flag() -> None:
    """It is a change of all flags, and breaks the law for those with shares."""
    before = _flag_set(flag(**_shared(50_000)), flag("plain"))
    simulated = _simulated(before, UpdateEnvironment(bucketing=Bucketing.V3))

    assert ["checkout", "plain"] == [each.key for each in simulated.flags]
    assert "bucketing goes from v2 to v3" in simulated.flags[0].broken_laws[0].message
    assert 0 == simulated.flags[1].moved_count


def test_dependents_are_simulated_too() -> None:
    """A flag that requires the changed one moves with it, and says by way of what."""
    payments = flag("payments", default="on")
    checkout = flag(default="on", offVariant="off", prerequisites=[{"flag": "payments", "variants": ["on"]}])
    simulated = _simulated(_flag_set(payments, checkout), PutFlag(flag("payments", default="off")))

    assert ["payments", "checkout"] == [each.key for each in simulated.flags]
    assert (Because.DEPENDS, (("flag", "payments"),)) == (simulated.flags[1].because, simulated.flags[1].via)
    assert {("on", "off"): 1_000} == _on(simulated)


def test_flags_that_use_a_segment_move_with_it() -> None:
    """Other members are other answers; a segment that only refers to it hands the change on."""
    inner, outer = segment("inner", {"==": [{"var": "plan"}, "pro"]}), segment("outer", {"$ref": "inner"})
    checkout = flag(rules=[{"id": "beta", "condition": {"$ref": "outer"}, "serve": "on"}])
    sample = [{"targetingKey": "1", "plan": "pro"}, {"targetingKey": "2", "plan": "free"}]
    before = _flag_set(checkout, segments=(inner, outer))
    simulated = _simulated(before, PutSegment(segment("inner", {"==": [{"var": "plan"}, "free"]})), sample=sample)

    assert {("on", "off"): 1, ("off", "on"): 1} == _on(simulated)
    assert (("segment", "outer"),) == simulated.flags[0].via


def test_what_would_be_missing_is_named() -> None:
    """A reference to what is taken away, and one to what never was."""
    beta = segment("beta", True)
    checkout = flag(rules=[{"id": "beta", "condition": {"$ref": "beta"}, "serve": "on"}])
    lost = flag("lost", rules=[{"id": "x", "condition": {"$ref": "nowhere"}, "serve": "on"}])
    simulated = _simulated(_flag_set(checkout, segments=[beta]), RemoveSegment("beta"), PutFlag(lost))

    assert (
        Dangling(("flag", "checkout"), ("segment", "beta"), because_removed=True),
        Dangling(("flag", "lost"), ("segment", "nowhere"), because_removed=False),
    ) == simulated.dangling


def test_a_new_value_is_no_move() -> None:
    """Who keeps the variant has not moved, and is counted as getting another value."""
    simulated = _simulated(_flag_set(flag(variants={"on": 1, "off": 0})), PutFlag(flag(variants={"on": 1, "off": 7})))

    assert (0, 1_000) == (simulated.flags[0].moved_count, simulated.flags[0].other_value_count)


def test_a_new_flag_comes_from_nowhere() -> None:
    """Units go from absent to what it serves."""
    simulated = _simulated(_flag_set(), PutFlag(flag()))

    assert {(Arm(ArmKind.ABSENT), Arm(ArmKind.VARIANT, "off")): 1_000} == simulated.flags[0].matrix


@given(flag_sets(), st.integers(0, 100_000), st.integers(0, 100_000), st.sampled_from(list(Bucketing)))
def test_no_change_of_width_breaks_a_law(flag_set: FlagSet, one: int, other: int, bucketing: Bucketing) -> None:
    """Whatever else there is in the set: with salt and key kept, a wider share adds and a narrower one removes."""
    before = FlagSet(Environment("shop", "production", bucketing=bucketing), dict(flag_set.flags), flag_set.segments)
    before = preview_all(before, [PutFlag(flag("ours", **_shared(one)))]).flag_set
    simulated = _simulated(before, PutFlag(flag("ours", **_shared(other))), sample=UNITS[:100])

    assert [] == [each.broken_laws for each in simulated.flags if each.broken_laws]


@given(flag_sets())
def test_nothing_moves_where_nothing_changes(flag_set: FlagSet) -> None:
    """Putting every flag as it is gives no events, so nothing is evaluated; compared with itself, nobody moves."""
    changes = [PutFlag(each) for each in flag_set.flags.values()]
    assert () == _simulated(flag_set, *changes).flags
    again = simulate(
        flag_set,
        flag_set,
        events=preview_all(FlagSet(flag_set.environment), changes).events,
        sample=UNITS[:50],
        now=NOW,
    )

    assert [] == [each for each in again.flags if each.moved_count or each.other_value_count or each.broken_laws]
