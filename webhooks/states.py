"""Name the states of endpoints, deliveries and attempts."""

from enum import StrEnum
from typing import Final


class EndpointState(StrEnum):
    """Whether deliveries are made to an endpoint."""

    ENABLED = "enabled"
    DISABLED = "disabled"
    GONE = "gone"
    """It said itself that it is no more, or was deleted."""


class Ordering(StrEnum):
    """Which deliveries of an endpoint wait for each other."""

    NONE = "none"
    PER_KEY = "per_key"
    """Those of events about the same thing, such as a flag."""


class Lane(StrEnum):
    """A queue of its own, so that what is tried again does not keep waiting what is new."""

    FRESH = "fresh"
    RETRY = "retry"


class Status(StrEnum):
    """What became of a delivery."""

    PENDING = "pending"
    CLAIMED = "claimed"
    DELIVERED = "delivered"
    EXHAUSTED = "exhausted"
    """Tried as often as its schedule allows."""

    MISSED = "missed"
    """Its endpoint was disabled or gone."""

    ABORTED = "aborted"
    """Its receiver asked not to be sent it again."""


class Outcome(StrEnum):
    """What became of an attempt."""

    SENDING = "sending"
    """Under way, or nobody knows: it was written before anything was sent."""

    LOST = "lost"
    """Its lease ended before anybody said what became of it; it may have arrived."""

    DELIVERED = "delivered"
    FAILED = "failed"


DEAD: Final = (Status.EXHAUSTED, Status.MISSED, Status.ABORTED)
"""Dead letters: finished, and not delivered."""
