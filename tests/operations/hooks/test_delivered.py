"""Deliveries are found by those who may read their hook, and dead ones are sent again, in portions."""

import pytest
from sqlalchemy import Engine, select

from server.core.access import Principal
from server.core.errors import InvalidRequest, NotFound, PermissionDenied, Refused
from server.operations.hooks import delivered
from server.operations.hooks.delivered import EVERYTHING, Selection, list_deliveries, read_delivery, replay
from server.operations.hooks.managing import Hooks
from server.operations.writes import Outcome
from server.store.engine import reading
from tests.operations.hooking import NARROW, READER, deliver, hooks_of, made, write
from tests.store.definitions import NOW
from webhooks import limits
from webhooks.looking import Place
from webhooks.states import Status
from webhooks.tables import deliveries, to_ms

_ALL = (Status.PENDING, Status.DELIVERED, Status.EXHAUSTED, Status.MISSED, Status.ABORTED)


def _listed(hooks: Hooks, selection: Selection = EVERYTHING, *, id_: str = "", by: Principal = READER) -> list[str]:
    return [each.id for each in list_deliveries(hooks, "shop", selection, by, id=id_, limit=100)]


def _pending(engine: Engine) -> list[str]:
    query = select(deliveries.c.id).where(deliveries.c.status == Status.PENDING).order_by(deliveries.c.id)
    with reading(engine) as connection:
        return list(connection.execute(query).scalars())


def test_the_newest_events_first(engine: Engine) -> None:
    """Of one hook or all, by status, id and type, and in pages."""
    hooks = hooks_of(engine)
    one, other = made(hooks), made(hooks)
    deliver(engine, one, *_ALL)
    deliver(engine, other, Status.DELIVERED, type_="flag.created", prefix="e")

    assert ["d00005", "d00004", "d00003", "d00002", "d00001", "e00001"] == _listed(hooks)
    assert ["e00001"] == _listed(hooks, id_=other) == _listed(hooks, Selection(event_types=("flag.created",)))
    assert ["d00004", "d00003"] == _listed(hooks, Selection((Status.EXHAUSTED, Status.MISSED)))
    assert ["d00002"] == _listed(hooks, Selection(ids=("d00002", "e00009")))
    page = list_deliveries(hooks, "shop", EVERYTHING, READER, after=Place(3, "d00003"), limit=2)
    assert ["d00002", "d00001"] == [each.id for each in page]


def test_by_time(engine: Engine) -> None:
    """From an instant on, and up to and without another."""
    hooks = hooks_of(engine)
    deliver(engine, made(hooks), *_ALL)
    with reading(engine) as connection:
        first = connection.execute(select(deliveries.c.created_at_ms).order_by(deliveries.c.id)).scalar()
    assert first == to_ms(NOW) + 1
    since, until = (list_deliveries(hooks, "shop", EVERYTHING, READER, limit=9)[place].created_at for place in (3, 1))

    assert ["d00003", "d00002"] == _listed(hooks, Selection(since=since, until=until))


def test_what_a_narrow_token_sees(engine: Engine) -> None:
    """Deliveries of the hooks that it may read, and of no other."""
    hooks = hooks_of(engine)
    deliver(engine, made(hooks), Status.DELIVERED)
    mine = made(hooks, filter={"environments": ["staging"]})
    deliver(engine, mine, Status.DELIVERED, prefix="e")

    assert ["e00001"] == _listed(hooks, by=NARROW)
    assert "e00001" == read_delivery(hooks, "shop", "e00001", NARROW).id
    for project, id_ in (("shop", "d00001"), ("market", "e00001"), ("shop", "x")):
        with pytest.raises(NotFound):
            read_delivery(hooks, project, id_, NARROW)


def test_dead_letters_are_sent_again(engine: Engine) -> None:
    """Without a status that is what is finished and did not arrive; what arrived is only by name."""
    hooks = hooks_of(engine)
    id_ = made(hooks)
    deliver(engine, id_, *_ALL)

    would = replay(hooks, "shop", id_, EVERYTHING, write(dry_run=True))
    assert (3, Outcome.WOULD_APPLY, ["d00001"]) == (would.count, would.outcome, _pending(engine))
    done = replay(hooks, "shop", id_, EVERYTHING, write())
    assert (3, None, Outcome.APPLIED) == (done.count, done.finished_by, done.outcome)
    assert ["d00001", "d00003", "d00004", "d00005"] == _pending(engine)
    assert Outcome.UNCHANGED is replay(hooks, "shop", id_, EVERYTHING, write()).outcome
    assert 1 == replay(hooks, "shop", id_, Selection((Status.DELIVERED,), ids=("d00002",)), write()).count


def test_a_long_replay_goes_on(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """One call does some portions, and says from where another goes on; nothing is sent twice."""
    monkeypatch.setattr(limits, "ROWS_PER_SWEEP_MAX", 2)
    monkeypatch.setattr(delivered, "PORTIONS_PER_CALL", 2)
    hooks = hooks_of(engine)
    id_ = made(hooks)
    deliver(engine, id_, *[Status.MISSED] * 5)
    first = replay(hooks, "shop", id_, EVERYTHING, write())
    second = replay(hooks, "shop", id_, EVERYTHING, write(), finished_by=first.finished_by)

    assert (4, 1, None) == (first.count, second.count, second.finished_by)
    assert 5 == len(_pending(engine))


def test_what_cannot_be_replayed(engine: Engine) -> None:
    """What is sent anyway, by who may only read, and for a hook that is not enabled."""
    hooks = hooks_of(engine)
    id_ = made(hooks)

    with pytest.raises(InvalidRequest, match="pending"):
        replay(hooks, "shop", id_, Selection((Status.PENDING,)), write())
    with pytest.raises(PermissionDenied):
        replay(hooks, "shop", id_, EVERYTHING, write(READER))
    hooks.disable("shop", id_, write())
    with pytest.raises(Refused, match="hook enable"):
        replay(hooks, "shop", id_, EVERYTHING, write())
