"""Give what happened to rules the shape that others get."""

from collections.abc import Iterable
from typing import Final

from server.core.announcing.fields import EventType, Shape
from server.core.announcing.groups import Group, types_of

_TEXT, _INTEGER, _INSTANT, _TEXTS = Shape.TEXT, Shape.INTEGER, Shape.INSTANT, Shape.TEXTS
_RULE: Final = (
    ("rule_id", "key", _TEXT, "the rule"),
    ("rule_name", "rule_name", _TEXT, "what it is called"),
)
RULES: Final = Group(
    "rule.",
    {
        "created": "A rule is there: something is done by itself when something happens.",
        "updated": "It is another one.",
        "deleted": "It is gone.",
        "enabled": "It answers events again.",
        "disabled": "It answers no more events: somebody said so, or it failed for long.",
    },
    (
        *_RULE,
        ("action", "action", _TEXT, "the action that it has done; empty for a delivery"),
        ("endpoint_id", "endpoint_id", _TEXT, "the endpoint that it delivers to; empty for an action"),
        ("why", "why", _TEXT, "why it is disabled"),
        ("failing_since", "failing_since", _INSTANT, "its first failure since it last did something"),
        ("event_types", "event_types", _TEXTS, "what it answers"),
    ),
    frozenset({"failing_since"}),
    {"rule_id": "rule_5f1c0a9b2e", "rule_name": "Tell us of stale flags", "event_types": ["flag.stale"], "reason": ""},
)
RUN_FAILED: Final = Group(
    "rule.",
    {"run_failed": "A rule could not do what it is there for, and does not try it again."},
    (
        *_RULE,
        ("event_id", "event_id", _TEXT, "the event that it answered"),
        ("event_type", "event_type", _TEXT, "its type"),
        ("action", "action", _TEXT, "the action; empty for a delivery"),
        ("attempts", "attempts", _INTEGER, "how often it was tried"),
        ("error", "error", _TEXT, "why it failed"),
    ),
    frozenset(),
    {"rule_id": "rule_5f1c0a9b2e", "rule_name": "Archive stale flags", "event_type": "flag.stale", "attempts": 1},
)


def ruled_types() -> Iterable[tuple[EventType, Group]]:
    """Each type with the group that knows its data."""
    return types_of((RULES, RUN_FAILED))
