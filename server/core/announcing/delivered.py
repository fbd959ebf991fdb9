"""Give what happened to hooks and their deliveries the shape that others get."""

from collections.abc import Iterable
from typing import Final

from server.core.announcing.fields import EventType, Shape
from server.core.announcing.groups import Group, types_of

_TEXT, _INTEGER, _INSTANT, _TEXTS = Shape.TEXT, Shape.INTEGER, Shape.INSTANT, Shape.TEXTS

ENDPOINTS: Final = Group(
    "webhook.",
    {
        "endpoint_disabled": "Nothing is delivered to an endpoint any more.",
        "endpoint_recovered": "Deliveries to an endpoint go on.",
    },
    (
        ("endpoint_id", "endpoint_id", _TEXT, "the endpoint"),
        ("why", "why", _TEXT, "failing for long, gone, asked by the endpoint itself, or by a person"),
        ("failing_since", "failing_since", _INSTANT, "its first failure since it last answered well"),
        ("pending", "pending", _INTEGER, "deliveries that it had not got and that are kept for it"),
    ),
    frozenset({"failing_since"}),
)
EXHAUSTED: Final = Group(
    "webhook.",
    {"delivery_exhausted": "A delivery was tried as often as its schedule allows, and is kept as a dead letter."},
    (
        ("endpoint_id", "endpoint_id", _TEXT, "the endpoint"),
        ("event_id", "event_id", _TEXT, "the event that did not arrive"),
        ("event_type", "event_type", _TEXT, "its type"),
        ("attempts", "attempts", _INTEGER, "how often it was tried"),
        ("last_error", "last_error", _TEXT, "why the last attempt failed"),
    ),
)
HOOKS: Final = Group(
    "hook.",
    {
        "created": "Somebody is told of events from now on.",
        "updated": "It is told of others, or otherwise, or signed with another secret.",
        "deleted": "It is told of nothing more.",
    },
    (
        ("endpoint_id", "key", _TEXT, "the hook"),
        ("name", "name", _TEXT, "what it is called"),
        ("target_url", "target_url", _TEXT, "where it leads, without what is secret in it"),
        ("format", "format", _TEXT, "what is sent"),
        ("state", "state", _TEXT, "enabled, disabled or gone"),
        ("source", "source", _TEXT, "who asked for it, such as zapier"),
        ("expression", "expression", _TEXT, "what events must fulfil"),
        ("secret_number", "secret_number", _INTEGER, "counts its signing secrets"),
        ("event_types", "event_types", _TEXTS, "the types of events that it gets"),
        ("environments", "environments", _TEXTS, "the environments whose events it gets; none: all"),
        ("tags", "tags", _TEXTS, "tags of which an event's flag must have one"),
        ("owners", "owners", _TEXTS, "owners of which an event's flag must have one"),
    ),
)
PING: Final = Group(
    "system.",
    {"ping": "Somebody tries whether deliveries arrive."},
    (
        ("endpoint_id", "endpoint_id", _TEXT, "the endpoint that is tried"),
        ("message", "message", _TEXT, "a greeting"),
    ),
)


def delivered_types() -> Iterable[tuple[EventType, Group]]:
    """Each type with the group that knows its data."""
    return types_of((ENDPOINTS, EXHAUSTED, HOOKS, PING))
