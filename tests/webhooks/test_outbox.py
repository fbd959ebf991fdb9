"""Committed events become deliveries, each once, wherever it is interrupted."""

import pytest
from sqlalchemy import Engine

from server.core.changes import PutFlag
from server.store.engine import writing
from tests.store.definitions import flag, put
from tests.webhooks.made import NOW, Events, Outbox, add_endpoint, statuses
from webhooks.outbox import Announced, EventSource, fan_out


def _everything(_endpoint_id: str, _event: Announced) -> bool:
    return True


def _fan_out(engine: Engine, source: EventSource, **options: int) -> int:
    with writing(engine) as connection:
        return fan_out(connection, source, project="shop", wants=_everything, now=NOW, **options)


def test_a_committed_flag_becomes_a_delivery(engine: Engine) -> None:
    """What the store announces is delivered, once, and nothing is left to do afterwards."""
    add_endpoint(engine)
    _fan_out(engine, Outbox())
    before = len(statuses(engine))
    put(engine, PutFlag(flag("checkout")))

    assert [1, 0] == [_fan_out(engine, Outbox()), _fan_out(engine, Outbox())]
    assert before + 1 == len(statuses(engine))


def test_it_goes_on_where_it_stopped(engine: Engine) -> None:
    """Few events at a time make the same deliveries as many."""
    add_endpoint(engine)
    events = Events()
    events.add("a", "b", "c")

    assert [2, 1, 0] == [_fan_out(engine, events, limit=2) for _ in range(3)]
    assert ["pending"] * 3 == statuses(engine)


def test_an_interrupted_one_leaves_nothing(engine: Engine) -> None:
    """Deliveries and the place in the order are kept together or not at all."""
    add_endpoint(engine)
    events = Events()
    events.add("a")
    with pytest.raises(KeyboardInterrupt), writing(engine) as connection:
        fan_out(connection, events, project="shop", wants=_everything, now=NOW)
        raise KeyboardInterrupt

    assert [] == statuses(engine)
    assert 1 == _fan_out(engine, events)
    assert ["pending"] == statuses(engine)


def test_a_delivery_that_is_there_is_not_doubled(engine: Engine) -> None:
    """An event that is read twice is delivered once to each endpoint."""
    add_endpoint(engine)

    class Repeating:
        def events_after(self, *_place: object, limit: int) -> list[Announced]:
            return [Announced("evt_1", 1, "flag.updated", "")][:limit]

    assert [1, 1] == [_fan_out(engine, Repeating()), _fan_out(engine, Repeating())]
    assert ["pending"] == statuses(engine)


def test_only_who_wants_it_gets_it(engine: Engine) -> None:
    """Not other projects, nor what came before the endpoint, nor one that is gone, nor what is unwanted."""
    add_endpoint(engine, "ep_other", project="other")
    add_endpoint(engine, "ep_late", since_sequence=1)
    add_endpoint(engine, "ep_gone", state="gone")
    add_endpoint(engine, "ep_picky")
    events = Events()
    events.add("a")
    with writing(engine) as connection:
        fan_out(connection, events, project="shop", wants=lambda endpoint, _event: endpoint != "ep_picky", now=NOW)

    assert [] == statuses(engine)


def test_a_disabled_endpoint_misses_it(engine: Engine) -> None:
    """It is kept as missed, so that it can be made up for."""
    add_endpoint(engine, state="disabled")
    events = Events()
    events.add("a")
    _fan_out(engine, events)

    assert ["missed"] == statuses(engine)
