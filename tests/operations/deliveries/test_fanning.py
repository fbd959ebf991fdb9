"""Committed events become deliveries of who wants them, and what became of deliveries becomes events."""

import json
from typing import Any

import pytest
from sqlalchemy import Engine, select

from server.core.changes import PutFlag
from server.operations.deliveries.fanning import Fanning
from server.store.announce import Announcement, announce
from server.store.engine import database_now, reading, writing
from server.store.occurrences import Occurrence, note
from server.store.projects import last_sequences
from tests.announced import announced, check_announced
from tests.store.definitions import NOW, flag, put
from tests.webhooks.made import add_endpoint
from webhooks import limits
from webhooks.endpoints import Notice, end
from webhooks.notices import KeptNotices
from webhooks.states import EndpointState
from webhooks.tables import deliveries


def _endpoint(engine: Engine, id_: str = "ep_1", **wanted: Any) -> None:
    with reading(engine) as connection:
        last = last_sequences(connection)["shop"]
    add_endpoint(engine, id_, filter=json.dumps(wanted), since_sequence=last)


def _delivered(engine: Engine, endpoint_id: str = "ep_1") -> list[tuple[str, str]]:
    """(type, ordering key) of each delivery to an endpoint."""
    column = deliveries.c
    query = select(column.event_type, column.ordering_key).where(column.endpoint_id == endpoint_id)
    with reading(engine) as connection:
        return [(type_, key) for type_, key in connection.execute(query.order_by(column.sequence))]


def test_it_is_delivered_to_who_wants_it(engine: Engine) -> None:
    """By its type, place, tags, owner and an expression; what came before the endpoint is not."""
    put(engine, PutFlag(flag("early")))
    _endpoint(engine, "ep_all")
    _endpoint(engine, "ep_killed", event_types=["flag.killed"])
    _endpoint(engine, "ep_staging", environments=["staging"])
    _endpoint(engine, "ep_tagged", tags=["checkout"], owners=["ada"])
    _endpoint(engine, "ep_expressed", expression="data.enabled && data.flag_key == 'late'")
    put(engine, PutFlag(flag("late", tags=["checkout"], owner="ada")))

    fanning = Fanning(engine)
    assert [1, 0] == [fanning.look(), fanning.look()]

    got = [("flag.created", "flag/late")]
    assert got == _delivered(engine, "ep_all") == _delivered(engine, "ep_tagged") == _delivered(engine, "ep_expressed")
    assert [] == _delivered(engine, "ep_killed") + _delivered(engine, "ep_staging")


def test_an_event_about_a_flag_has_that_flags_owner(engine: Engine) -> None:
    """A release's event has no tags of its own; whose the flag is decides, and its order is the flag's."""
    put(engine, PutFlag(flag("checkout", tags=["money"], owner="ada")))
    _endpoint(engine, "ep_money", tags=["money"], owners=["ada"])
    _endpoint(engine, "ep_other", tags=["games"])
    with writing(engine) as connection:
        told = Occurrence("shop", "release", "rl_1", "release.started", "token:ada", NOW, {"flagKey": "checkout"})
        note(connection, told)

    assert 1 == Fanning(engine).look()
    assert [("release.started", "flag/checkout")] == _delivered(engine, "ep_money")
    assert [] == _delivered(engine, "ep_other")


def test_more_events_than_a_portion(engine: Engine) -> None:
    """All become deliveries in one look."""
    _endpoint(engine)
    count = limits.EVENTS_PER_FAN_OUT_MAX + 1
    with writing(engine) as connection:
        payload = json.dumps({"kind": "metric", "key": "errors", "actor": "token:ada"})
        announce(connection, "shop", announcements=[Announcement("", "metric.updated", payload, NOW)] * count)

    assert count == Fanning(engine).look() == len(_delivered(engine))


def test_a_changed_filter_counts_from_then_on(engine: Engine) -> None:
    """Whoever compiled the old one sees its new version."""
    _endpoint(engine, event_types=["flag.killed"])
    fanning = Fanning(engine)
    put(engine, PutFlag(flag("first")))
    fanning.look()
    with writing(engine) as connection:
        connection.exec_driver_sql("UPDATE endpoint SET filter = '{}', version = version + 1")
    put(engine, PutFlag(flag("second")))
    fanning.look()

    assert [("flag.created", "flag/second")] == _delivered(engine)


def test_who_fails_is_not_told_of_it(engine: Engine) -> None:
    """Others are, where they ask for it by name; the event says since when and how much is kept."""
    _endpoint(engine, "ep_bad", event_types=["webhook.*"])
    _endpoint(engine, "ep_watch", event_types=["webhook.*"])
    _endpoint(engine, "ep_all")
    with writing(engine) as connection:
        end(
            connection,
            "ep_bad",
            EndpointState.DISABLED,
            why="failing",
            notices=KeptNotices(),
            now=database_now(connection),
        )
        told: dict[str, str | int] = {"endpoint_id": "ep_bad", "event_id": "evt_1", "event_type": "flag.killed"}
        told |= {"attempts": 10, "last_error": "503"}
        KeptNotices().write(connection, Notice("webhook.delivery_exhausted", "shop", told))

    fanning = Fanning(engine)
    assert [4, 0] == [fanning.look(), fanning.look()]

    assert ["webhook.endpoint_disabled", "webhook.delivery_exhausted"] == [
        type_ for type_, _ in _delivered(engine, "ep_watch")
    ]
    assert [] == _delivered(engine, "ep_bad") + _delivered(engine, "ep_all")
    check_announced(engine)
    assert {"why": "failing", "pending": 0}.items() <= announced(engine)[-2][1].items()


def test_a_ping_goes_to_whom_it_is_for(engine: Engine) -> None:
    """Whatever they want otherwise, and to nobody else."""
    _endpoint(engine, "ep_1", event_types=["flag.killed"])
    _endpoint(engine, "ep_2")
    with writing(engine) as connection:
        payload = json.dumps({"endpoint_id": "ep_1", "message": "hello", "actor": "token:ada"})
        announce(connection, "shop", announcements=[Announcement("", "system.ping", payload, NOW)])
    Fanning(engine).look()

    assert [("system.ping", "")] == _delivered(engine, "ep_1")
    assert [] == _delivered(engine, "ep_2")


def test_a_filter_that_cannot_be_read(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """It wants nothing, which is told, and the others get what they want."""
    _endpoint(engine, "ep_bad", expression="data.[")
    _endpoint(engine, "ep_good")
    put(engine, PutFlag(flag()))
    Fanning(engine).look()

    assert [] == _delivered(engine, "ep_bad")
    assert 1 == len(_delivered(engine, "ep_good"))
    assert "ep_bad" in caplog.text + str([record.__dict__ for record in caplog.records])
