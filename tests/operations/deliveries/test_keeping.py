"""What is finished is forgotten in time; what is still to be delivered never is."""

from datetime import timedelta

import pytest
from sqlalchemy import Engine, func, select, update

from server.core.announcing.wanted import Wanted
from server.core.changes import PutFlag
from server.core.errors import Stale
from server.operations.deliveries.fanning import Fanning
from server.operations.deliveries.keeping import Retention, forget
from server.operations.feed import Feed
from server.store import tables
from server.store.engine import database_now, reading, writing
from tests.store.definitions import flag, put
from tests.webhooks.made import add_endpoint
from webhooks.tables import deliveries, to_ms

KEEP = Retention(delivered=10, dead=20, events=30)


def _flags(engine: Engine, count: int) -> None:
    for place in range(count):
        put(engine, PutFlag(flag(f"flag-{place}")))


def _age(engine: Engine, days: float) -> None:
    """Let everything have happened so long ago."""
    with writing(engine) as connection:
        then = database_now(connection) - timedelta(days=days)
        connection.execute(update(tables.outbox).values(at=then))
        connection.execute(
            update(deliveries).where(deliveries.c.finished_at_ms.is_not(None)).values(finished_at_ms=to_ms(then))
        )


def _finish(engine: Engine, status: str) -> None:
    with writing(engine) as connection:
        now_ms = to_ms(database_now(connection))
        connection.execute(update(deliveries).values(status=status, due_at_ms=None, finished_at_ms=now_ms))


def _counts(engine: Engine) -> tuple[int, int]:
    """(deliveries, events)."""
    with reading(engine) as connection:
        counted = [connection.execute(select(func.count()).select_from(each)) for each in (deliveries, tables.outbox)]
        return counted[0].scalar_one(), counted[1].scalar_one()


@pytest.mark.parametrize(
    ("status", "days", "kept"),
    [
        ("delivered", 9, (3, 3)),
        ("delivered", 11, (0, 3)),
        ("delivered", 31, (0, 1)),
        ("exhausted", 19, (3, 3)),
        ("missed", 21, (0, 3)),
        ("pending", 1_000, (3, 3)),
    ],
)
def test_each_kind_has_its_time(engine: Engine, status: str, days: float, kept: tuple[int, int]) -> None:
    """What arrived goes first, then dead letters, then events; and of those never the last, nor one that is awaited."""
    add_endpoint(engine)
    with writing(engine) as connection:
        connection.execute(tables.outbox.delete())
    _flags(engine, 3)
    Fanning(engine).look()
    if status != "pending":
        _finish(engine, status)
    _age(engine, days)

    before = _counts(engine)
    done = forget(engine, KEEP)
    assert kept == _counts(engine)
    assert sum(before) - sum(kept) == done
    assert 0 == forget(engine, KEEP)


def test_who_goes_on_behind_a_forgotten_event_is_told(engine: Engine) -> None:
    """And from the very beginning everything comes that is kept."""
    _flags(engine, 3)
    feed = Feed(engine)
    last = feed.last("shop")
    _age(engine, 31)
    forget(engine, KEEP)

    with pytest.raises(Stale, match=f"events up to {last - 1} are forgotten"):
        feed.behind("shop", Wanted(), environment="", sequence=1)
    for sequence in (0, last - 1):
        found, _ = feed.behind("shop", Wanted(), environment="", sequence=sequence)
        assert [last] == [each.sequence for each in found]
