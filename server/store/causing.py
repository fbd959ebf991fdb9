"""Say what led to the changes that are being made, for the events that tell of them.

It belongs to whatever runs, as a trace does, and not to any one change: what an action does may be told by the commit
of a flag, a change request, a release. So it is not handed from function to function, and no way that events take to
the outbox can forget it.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

PAYLOAD_FIELD: Final = "causedBy"


@dataclass(frozen=True, slots=True)
class Causing:
    """What led to changes. Units: hops counts the automations up to here, this one included."""

    causation_id: str
    """The event that an automation answers, or else the action itself."""

    hops: int
    action_id: str


_current: ContextVar[Causing | None] = ContextVar("flagstaff_causing", default=None)


@contextmanager
def caused_by(causing: Causing) -> Iterator[None]:
    """Everything that is announced inside the block was caused by this."""
    token = _current.set(causing)
    try:
        yield
    finally:
        _current.reset(token)


def with_cause(payload: str) -> str:
    """An event's payload, JSON text, with what led to it; as it is where nothing did."""
    causing = _current.get()
    if causing is None:
        return payload
    told = json.dumps({"id": causing.causation_id, "hops": causing.hops, "action": causing.action_id})
    return f'{payload[:-1]},"{PAYLOAD_FIELD}":{told}}}'
