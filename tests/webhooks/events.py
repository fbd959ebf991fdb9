"""An example of every type of event, as its envelope."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from server.core.announcing.catalogue import API_VERSION, CATALOGUE
from webhooks.envelope import Actor, Event, envelope

AT = datetime(2026, 11, 25, 9, 0, tzinfo=UTC)


def examples() -> Iterator[dict[str, Any]]:
    """In the order of their names."""
    yield from map(example, CATALOGUE)


def example(type_: str, **data: Any) -> dict[str, Any]:
    """One of a type, with other data."""
    event = Event(
        id="evt_5f1c0a9b2e",
        type=type_,
        at=AT,
        project="shop",
        environment="production",
        sequence=48_211,
        actor=Actor("user", "u1", "Zoë"),
        api_version=API_VERSION,
        data={**CATALOGUE[type_].example, **data},
        links={"flag": "https://flags.example.com/shop/production/new-checkout"},
    )
    return envelope(event)
