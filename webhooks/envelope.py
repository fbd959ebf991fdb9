"""Write an event as the bytes that are sent, the same ones at every attempt.

By default a body of Standard Webhooks, whose `id` is also the header `webhook-id`: one value to know an event by.
CloudEvents 1.0 in structured mode is the same envelope inside their attributes; their binary mode is not offered, since
signatures cover the body and not the headers that it would use.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from webhooks import limits

STANDARD_TYPE: Final = "application/json"
CLOUD_EVENTS_TYPE: Final = "application/cloudevents+json"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who or what caused an event: type is token, user, release, guard, schedule, automation and so on."""

    type: str
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, and its place in the project's one order.

    Shapes: data is flat JSON, scalars first, without secrets, as api_version says. Units: hops counts the automations
    that led here.
    """

    id: str
    type: str
    at: datetime
    project: str
    environment: str
    sequence: int
    actor: Actor
    api_version: str
    data: Mapping[str, Any]
    causation_id: str | None = None
    hops: int = 0
    links: Mapping[str, str] = field(default_factory=dict)


def envelope(event: Event) -> dict[str, Any]:
    """The envelope as plain JSON values, in the order in which it is written; filters and templates read it."""
    return {
        "id": event.id,
        "type": event.type,
        "timestamp": timestamp_text(event.at),
        "api_version": event.api_version,
        "project": event.project,
        "environment": event.environment,
        "sequence": event.sequence,
        "actor": {"type": event.actor.type, "id": event.actor.id, "name": event.actor.name},
        "causation_id": event.causation_id,
        "hops": event.hops,
        "links": dict(event.links),
        "data": dict(event.data),
    }


def standard_body(event: Event) -> bytes:
    """The body by default: the envelope as compact JSON."""
    return compact(envelope(event))


def cloud_event_body(event: Event, source: str) -> bytes:
    """The same event as a structured CloudEvent; `source` names this server, such as `https://flags.example.com`."""
    return cloud_event(envelope(event), source)


def cloud_event(document: Mapping[str, Any], source: str) -> bytes:
    """The same of an envelope.

    Source: CloudEvents 1.0.2, JSON format; `sequence` is their extension of that name, which is a text.
    """
    return compact(
        {
            "specversion": "1.0",
            "id": document["id"],
            "source": f"{source.rstrip('/')}/{document['project']}/{document['environment']}",
            "type": document["type"],
            "time": document["timestamp"],
            "datacontenttype": STANDARD_TYPE,
            "sequence": str(document["sequence"]),
            "data": document,
        }
    )


def capped(event: Event, bytes_max: int = limits.BODY_BYTES_MAX) -> Event:
    """The same event, without its lists and with shorter texts if its body would be too large.

    Every field stays, so a body keeps its schema; `data.truncated` names those that lost something, and whoever wants
    all of them asks for the event by its id.
    """
    if len(standard_body(event)) <= bytes_max:
        return event
    lists = {name for name, value in event.data.items() if isinstance(value, list | dict) and value}
    texts = {
        name: value[: limits.CUT_TEXT_CHARS]
        for name, value in event.data.items()
        if isinstance(value, str) and len(value) > limits.CUT_TEXT_CHARS
    }
    emptied = {name: type(event.data[name])() for name in lists}
    return replace(event, data={**event.data, **emptied, **texts, "truncated": sorted({*lists, *texts})})


def timestamp_text(at: datetime) -> str:
    """An instant as RFC 3339 in UTC with milliseconds."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def compact(value: object) -> bytes:
    """Compact JSON in UTF-8.

    Errors: ValueError for a number that JSON has not.
    """
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    # Half of a surrogate pair is no text in UTF-8; JSON can still write it by its number.
    return text.encode("utf-8", "backslashreplace")
