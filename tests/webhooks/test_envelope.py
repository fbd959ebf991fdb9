"""Bodies of events: the same bytes each time, and what is in them."""

import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from hypothesis import given
from hypothesis import strategies as st

from webhooks import limits
from webhooks.envelope import Actor, Event, capped, cloud_event_body, envelope, standard_body

EVENT: Final = Event(
    id="evt_1",
    type="flag.enabled",
    at=datetime(2026, 11, 25, 10, 0, 0, 123_456, timezone(timedelta(hours=1))),
    project="shop",
    environment="production",
    sequence=7,
    actor=Actor("user", "u1", "Zoë"),
    api_version="2026-11-01",
    data={"flag_key": "payments"},
)


def test_the_body_is_the_envelope() -> None:
    """Compact JSON in UTF-8, in one order, with an instant in UTC."""
    assert (
        '{"id":"evt_1","type":"flag.enabled","timestamp":"2026-11-25T09:00:00.123Z","api_version":"2026-11-01",'
        '"project":"shop","environment":"production","sequence":7,"actor":{"type":"user","id":"u1","name":"Zoë"},'
        '"causation_id":null,"hops":0,"links":{},"data":{"flag_key":"payments"}}'
    ).encode() == standard_body(EVENT)


def test_a_cloud_event_carries_the_envelope() -> None:
    """Their required attributes, and ours as the data; source and id are unique together."""
    body = json.loads(cloud_event_body(EVENT, "https://flags.example.com/"))

    assert envelope(EVENT) == body.pop("data")
    assert {
        "specversion": "1.0",
        "id": "evt_1",
        "source": "https://flags.example.com/shop/production",
        "type": "flag.enabled",
        "time": "2026-11-25T09:00:00.123Z",
        "datacontenttype": "application/json",
        "sequence": "7",
    } == body


@given(st.dictionaries(st.text(), st.text(st.characters(exclude_categories=[])) | st.integers() | st.none()))
def test_every_text_is_sent_and_read_again(data: dict[str, object]) -> None:
    """Whatever a name or a reason holds, the body is JSON that says the same."""
    event = Event("evt_1", "x.y", EVENT.at, "p", "e", 1, EVENT.actor, "2026-11-01", data)

    assert data == json.loads(standard_body(event))["data"]


@given(
    st.dictionaries(
        st.text(max_size=5),
        st.lists(st.text(max_size=20)) | st.text() | st.integers() | st.dictionaries(st.text(), st.integers()),
    )
)
def test_a_large_event_keeps_its_fields(data: dict[str, Any]) -> None:
    """Lists are emptied and texts cut, each of the same kind as before, and the event says which."""
    event = Event("evt_1", "x.y", EVENT.at, "p", "e", 1, EVENT.actor, "2026-11-01", data)
    large = {**data, "changes": ["x" * 1_000] * 100, "reason": "why" * 1_000, "size": 7}
    cut = capped(replace(event, data=large)).data

    assert capped(event) is event
    assert {name: type(value) for name, value in large.items()}.items() <= {
        name: type(value) for name, value in cut.items()
    }.items()
    assert [] == cut["changes"] and 200 == len(cut["reason"]) and 7 == cut["size"]
    assert {"changes", "reason"} <= set(cut["truncated"])
    assert limits.BODY_BYTES_MAX > len(standard_body(replace(event, data=cut)))
