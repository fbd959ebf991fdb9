"""How a schedule goes on."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.access import Action
from server.core.errors import Refused
from server.core.schedules.machine import ARROWS, CLOSED, OUTCOMES, Happening, Progress, State, Step, advance, created

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
DUE = NOW + timedelta(hours=1)
LATER = DUE + timedelta(days=1)


def _new() -> Progress:
    return created(Step(Happening.CREATED, "ann", NOW, due_at=DUE), Action.EDIT)


def _step(happening: Happening, *, due_at: datetime | None = None, actor: str = "ann") -> Step:
    return Step(happening, actor, NOW, instant=DUE, due_at=due_at)


def test_one_instant() -> None:
    """It is done afterwards, and nothing more can happen to it."""
    done = advance(_new(), _step(Happening.EXECUTED))

    assert (State.DONE, None, 1, NOW) == (done.state, done.due_at, done.run_count, done.ran_at)
    for happening in Happening:
        with pytest.raises(Refused, match="schedule that is done cannot be"):
            advance(done, _step(happening))


@pytest.mark.parametrize("happening", sorted(OUTCOMES - {Happening.FAILED}))
def test_a_recurrence(happening: Happening) -> None:
    """It waits for its next instant, whatever became of this one."""
    after = advance(_new(), _step(happening, due_at=LATER))

    assert (State.PENDING, LATER) == (after.state, after.due_at)


def test_a_missed_instant_that_stops_it() -> None:
    """Also when others would follow; another time lets it go on."""
    failed = advance(_new(), _step(Happening.FAILED, due_at=LATER))
    assert (State.FAILED, None) == (failed.state, failed.due_at)
    again = advance(failed, _step(Happening.RESCHEDULED, due_at=LATER))

    assert (State.PENDING, LATER) == (again.state, again.due_at)


def test_what_was_agreed_to_is_for_what_was_read() -> None:
    """Another content or time takes the approvals away, and who changes it is an author."""
    approved = advance(_new(), _step(Happening.APPROVED, actor="bob"))
    assert ["bob"] == [each.actor for each in approved.approvals]
    for happening in (Happening.UPDATED, Happening.RESCHEDULED):
        changed = advance(approved, _step(happening, due_at=LATER, actor="eve"))

        assert ((), 2, ("ann", "eve"), "eve") == (
            changed.approvals,
            changed.content_number,
            changed.authors,
            changed.maker,
        )


@given(st.lists(st.tuples(st.sampled_from(list(Happening)), st.booleans())))
def test_the_table_is_never_left(happenings: list[tuple[Happening, bool]]) -> None:
    """What is refused changes nothing; a schedule waits exactly when it has a next instant; counts never fall."""
    progress = _new()
    for happening, follows in happenings:
        before = progress
        moves = happening in OUTCOMES or happening in (Happening.UPDATED, Happening.RESCHEDULED)
        due_at = LATER if follows or happening in (Happening.UPDATED, Happening.RESCHEDULED) else None
        try:
            progress = advance(progress, _step(happening, due_at=due_at))
        except Refused:
            assert (before.state, happening) not in ARROWS
            continue
        assert (before.state, happening) in ARROWS
        assert progress.state in {ARROWS[before.state, happening], State.PENDING}
        assert (progress.due_at is not None) is (progress.state is State.PENDING)
        assert before.state not in CLOSED
        assert progress.step_count == before.step_count + 1
        assert moves or progress.due_at in (before.due_at, None)
