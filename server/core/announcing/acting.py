"""Give what happened to addresses of actions the shape that others get."""

from collections.abc import Iterable
from typing import Final

from server.core.announcing.fields import EventType, Shape
from server.core.announcing.groups import Group, types_of

_TEXT: Final = Shape.TEXT

TRIGGERS: Final = Group(
    "trigger.",
    {
        "created": "There is an address that has one action done.",
        "rotated": "It has another address, and the old one does nothing any more.",
        "enabled": "It does what it is for again.",
        "disabled": "It does nothing until it is enabled.",
        "deleted": "It is gone.",
    },
    (
        ("trigger_id", "key", _TEXT, "the address's id, which is not its secret"),
        ("name", "name", _TEXT, "what it is called"),
        ("action", "action", _TEXT, "what it has done"),
        ("resolved_action", "resolvedAction", _TEXT, "what it has done when an alert is over"),
        ("preset", "preset", _TEXT, "whose alerts it understands"),
        ("signed", "signed", Shape.BOOLEAN, "whether it asks for signatures"),
    ),
    example={"trigger_id": "trg_5f1c0a9b2e", "name": "kill by Grafana", "action": "kill_flag", "preset": "grafana"},
)


def acting_types() -> Iterable[tuple[EventType, Group]]:
    """Each type with the group that knows its data."""
    return types_of((TRIGGERS,))
