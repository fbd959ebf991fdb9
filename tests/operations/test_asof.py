"""Evaluation as of an earlier moment: by what there was then, and why two moments differ."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine

from server.core.changes import PutFlag, PutSegment, RemoveFlag, UpdateEnvironment
from server.core.environments import Bucketing
from server.core.errors import InvalidRequest, NotFound
from server.core.evaluation.snapshots import build_snapshot
from server.core.json import Json
from server.core.resolution import Reason
from server.operations.asof import AsOf, Moments, answer_of
from server.operations.history import Place, When
from server.store.engine import reading
from server.store.flagsets import read_flag_set
from tests.announced import check_announced
from tests.laws.sizes import tried
from tests.store.definitions import NOW, flag, new_shop, put, segment
from tests.strategies import UNITS, contexts, flag_sets

HERE: Final = Place("shop", "production")
ANN: Final[dict[str, Json]] = {"targetingKey": "ann", "plan": "pro"}
RULE: Final = {"id": "beta", "condition": {"$ref": "beta"}, "serve": "on"}


def hours(count: int) -> datetime:
    """An instant of the shop's life."""
    return NOW + timedelta(hours=count)


@pytest.fixture
def lived(tmp_path: Path) -> Iterator[Engine]:
    """A shop with a past, an hour for each revision from the second one on.

    2: segment beta is free plans; flag base is on; 3: checkout asks beta; 4: beta is pro plans; 5: checkout requires
    base; 6: base is off; 7: something else; 8: checkout is removed.
    """
    engine = new_shop(tmp_path)
    for number, changes in enumerate(
        (
            (PutSegment(segment("beta", {"==": [{"var": "plan"}, "free"]})), PutFlag(flag("base", default="on"))),
            (PutFlag(flag(rules=[RULE])),),
            (PutSegment(segment("beta", {"==": [{"var": "plan"}, "pro"]})),),
            (PutFlag(flag(rules=[RULE], offVariant="off", prerequisites=[{"flag": "base", "variants": ["on"]}])),),
            (PutFlag(flag("base", default="off")),),
            (PutFlag(flag("other")),),
            (RemoveFlag("checkout"),),
        ),
        start=2,
    ):
        put(engine, *changes, now=hours(number), reason=f"step {number}")
    yield engine
    check_announced(engine)
    engine.dispose()


@pytest.mark.parametrize(
    ("revision", "variant"), [(3, "off"), (4, "on"), (5, "on"), (6, "off"), (7, "off"), (2, None), (8, None)]
)
def test_a_flag_is_evaluated_as_it_was(lived: Engine, revision: int, variant: str | None) -> None:
    """With the segments and prerequisites of then, whatever they are by now."""
    answer = AsOf(lived).evaluate(HERE, "checkout", ANN, when=When(revision=revision))

    assert (variant, revision) == (answer.resolution.variant, answer.moment.revision)


@pytest.mark.parametrize(("at", "revision"), [(hours(3), 3), (hours(4) - timedelta(seconds=1), 3), (hours(90), 8)])
def test_an_instant_is_the_last_revision_until_then(lived: Engine, at: datetime, revision: int) -> None:
    """The commit's own instant counts as after it."""
    assert revision == AsOf(lived).evaluate(HERE, "checkout", ANN, when=When(at=at)).moment.revision


def test_without_a_moment_it_is_now(lived: Engine) -> None:
    """As a server answers."""
    answer = AsOf(lived).evaluate(HERE, "base", ANN, when=When())

    assert ("off", 8) == (answer.resolution.variant, answer.moment.revision)


def test_steps_are_those_of_then(lived: Engine) -> None:
    """Why it answered so."""
    answer = AsOf(lived).evaluate(HERE, "checkout", ANN, when=When(revision=6), explained=True)
    steps = [(each.what, each.outcome) for each in answer.steps]

    assert ("prerequisite base", "not met") in steps


@pytest.mark.parametrize(
    ("place", "when", "message"),
    [
        (HERE, When(revision=9), "has revisions 1 to 8, asked for 9"),
        (HERE, When(at=NOW - timedelta(days=1)), "did not exist yet at 2025-12-31"),
        (Place("shop", "none"), When(revision=1), "'shop/none' does not exist and never did"),
        (Place("shop", "none"), When(), "'shop/none' does not exist and never did"),
    ],
)
def test_a_moment_that_never_was_is_not_found(lived: Engine, place: Place, when: When, message: str) -> None:
    """With those that were."""
    with pytest.raises(NotFound, match=message):
        AsOf(lived).evaluate(place, "checkout", ANN, when=when)


def test_rules_see_the_clock_of_then(lived: Engine) -> None:
    """The instant that is asked for; of a revision, that of its commit."""
    late = {"id": "late", "condition": {">=": [{"var": "$flagd.timestamp"}, int(hours(12).timestamp())]}, "serve": "on"}
    put(lived, PutFlag(flag("timed", rules=[late])), now=hours(10))
    past = AsOf(lived)
    variants = [
        past.evaluate(HERE, "timed", ANN, when=when).resolution.variant
        for when in (When(revision=9), When(at=hours(11)), When(at=hours(12)))
    ]

    assert ["off", "off", "on"] == variants


def test_what_was_compiled_stays_for_a_while(lived: Engine) -> None:
    """The ones used last, and no more than so many."""
    past = AsOf(lived, kept_max=2)
    one, again = (past.evaluate(HERE, "base", ANN, when=When(revision=4)).resolution for _ in range(2))
    for revision in (5, 6):
        past.evaluate(HERE, "base", ANN, when=When(revision=revision))

    assert one is again
    assert one is not past.evaluate(HERE, "base", ANN, when=When(revision=4)).resolution


def told(moments: Moments) -> dict[str, list[tuple[int, str | None, list[str]]]]:
    """Flag -> the revisions that moved it, what it answered after each, and what each did to what."""
    return {
        each.key: [
            (
                move.moment.revision,
                move.after.variant,
                [f"{entry.action} {entry.subject_key}" for entry in move.entries],
            )
            for move in each.moves
        ]
        for each in moments.moved
    }


def test_each_flag_is_told_with_what_moved_it(lived: Engine) -> None:
    """Also where it moved there and back: through a segment, a prerequisite, and its own end."""
    moments = AsOf(lived).compare(HERE, ANN, first=When(revision=3), second=When(revision=8))

    assert {
        "base": [(6, "off", ["flag.updated base"])],
        "checkout": [
            (4, "on", ["segment.updated beta"]),
            (6, "off", ["flag.updated base"]),
            (8, None, ["flag.removed checkout"]),
        ],
        "other": [(7, "off", ["flag.created other"])],
    } == told(moments)


def test_flags_are_asked_for_by_key(lived: Engine) -> None:
    """And instants may be, in place of revisions; the second is now when there is none."""
    past = AsOf(lived)
    moments = past.compare(HERE, ANN, first=When(at=hours(3)), second=When(at=hours(5)), keys=["checkout", "other"])

    assert {"checkout": [(4, "on", ["segment.updated beta"])]} == told(moments)
    assert ["base"] == list(told(past.compare(HERE, ANN, first=When(revision=5), second=When(), keys=["base"])))


def test_what_nobody_notices_is_no_move(lived: Engine) -> None:
    """Another context has its own answers."""
    free = {"targetingKey": "bob", "plan": "free"}
    moments = AsOf(lived).compare(HERE, free, first=When(revision=4), second=When(revision=5))

    assert () == moments.moved


def test_the_clock_may_have_moved_it(lived: Engine) -> None:
    """No commit did."""
    late = {"id": "late", "condition": {">=": [{"var": "$flagd.timestamp"}, int(hours(12).timestamp())]}, "serve": "on"}
    put(lived, PutFlag(flag("timed", rules=[late])), now=hours(10))
    (moved,) = AsOf(lived).compare(HERE, ANN, first=When(at=hours(11)), second=When(at=hours(13))).moved

    assert ("timed", (), True) == (moved.key, moved.moves, moved.by_clock)


def test_another_bucketing_moves_whom_it_moves(lived: Engine) -> None:
    """The environment's own change is told."""
    split: Any = {"weights": {"on": 50, "off": 50}, "bucketBy": "age"}
    put(lived, PutFlag(flag("half", default=split)), now=hours(10))
    put(lived, UpdateEnvironment(bucketing=Bucketing.V3), now=hours(11))
    past = AsOf(lived)
    found = [told(past.compare(HERE, {"age": float(age)}, first=When(revision=9), second=When())) for age in range(20)]

    assert {"half"} == {key for each in found for key in each}
    assert [10] == sorted({move[0] for each in found for moves in each.values() for move in moves})


def test_the_second_moment_is_not_before_the_first(lived: Engine) -> None:
    """Refused, and not told the other way round."""
    with pytest.raises(InvalidRequest, match=r"before the first \(revision 5\); exchange them"):
        AsOf(lived).compare(HERE, ANN, first=When(revision=5), second=When(revision=3))


@tried(15, long=400)
@given(st.lists(flag_sets(), min_size=2, max_size=4), contexts(), st.sampled_from(UNITS))
def test_as_of_is_what_was_served(tmp_path_factory: pytest.TempPathFactory, sets: Any, context: Any, unit: str) -> None:
    """Whatever the flags of an environment were: each revision answers as its snapshot did, and every flag that answers
    otherwise is told.
    """
    engine = new_shop(tmp_path_factory.mktemp("asof"))
    context = {**context, "targetingKey": unit}
    served: dict[int, dict[str, Any]] = {}
    for number, flag_set in enumerate(sets):
        with reading(engine) as connection:
            before = read_flag_set(connection, project="shop", environment="production")
        committed = put(
            engine,
            UpdateEnvironment(bucketing=flag_set.environment.bucketing),
            *(PutSegment(each) for each in flag_set.segments.values()),
            *(PutFlag(each, rerandomise=True) for each in flag_set.flags.values()),
            *(RemoveFlag(key) for key in before.flags.keys() - flag_set.flags.keys()),
            now=hours(number),
            replace_variants=True,
        )
        with reading(engine) as connection:
            now = read_flag_set(connection, project="shop", environment="production")
        snapshot = build_snapshot(now, revision=committed.revision)
        instant = int(hours(number).timestamp())
        served[committed.revision] = {
            key: answer_of(each.evaluate(context, instant)) for key, each in snapshot.flags.items()
        }
    past = AsOf(engine)
    for revision, answers in served.items():
        for key, expected in answers.items():
            answer = past.evaluate(HERE, key, context, when=When(revision=revision))
            assert Reason.ERROR is not answer.resolution.reason or answer.resolution.error_code is not None
            assert expected == answer_of(answer.resolution)
    first, *_, last = sorted(served) if len(served) > 1 else (*served, *served)
    moments = past.compare(HERE, context, first=When(revision=first), second=When(revision=last))
    engine.dispose()
    assert {
        key for key in served[first].keys() | served[last].keys() if served[first].get(key) != served[last].get(key)
    } == {each.key for each in moments.moved}
