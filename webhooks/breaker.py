"""Stop asking a receiver that fails, and try it again by one probe: a circuit breaker as a value in the endpoint's row.

Closed, deliveries go. After so many failures in a row it is open: they wait, and no attempt of theirs is used up. When
its time is over, one delivery is let through as a probe (half-open), and what comes of it closes or opens it again.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class State(StrEnum):
    """What a breaker lets through: all, nothing, one probe."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


FAILURES_TO_OPEN: Final = 5
OPEN_S: Final = 30.0
"""How long it is open the first time; each failed probe doubles it."""

OPEN_S_MAX: Final = 15 * 60.0
PROBE_S: Final = 120.0
"""After so long without an answer a probe counts as lost, with the process that sent it, and another is sent."""


@dataclass(frozen=True, slots=True)
class Breaker:
    """Where a breaker stands.

    Units: until_s in the caller's seconds: when it is open no longer, or when its probe counts as lost.
    """

    state: State = State.CLOSED
    failures: int = 0
    opened: int = 0
    """How often it was opened since it was last closed."""

    until_s: float = 0.0


def let_through(breaker: Breaker, now_s: float) -> tuple[Breaker, bool]:
    """Whether a delivery may be sent now, and the breaker after that; a probe must be kept before it is sent."""
    if breaker.state is State.CLOSED:
        return breaker, True
    if now_s < breaker.until_s:
        return breaker, False
    return Breaker(State.HALF_OPEN, breaker.failures, breaker.opened, now_s + PROBE_S), True


def succeeded(breaker: Breaker) -> Breaker:
    """After a delivery that was accepted: closed, whatever it was. A late answer proves as much as a probe does."""
    return Breaker() if breaker != Breaker() else breaker


def failed(breaker: Breaker, now_s: float, *, chance: float = 0.5) -> Breaker:
    """After a delivery that failed. One that was under way when it opened changes nothing.

    Shapes: chance from 0 to 1 spreads the time that it is open by 20 %, so that breakers do not open together.
    """
    failures = breaker.failures + 1
    if breaker.state is State.OPEN:
        return breaker
    if breaker.state is State.CLOSED and failures < FAILURES_TO_OPEN:
        return Breaker(State.CLOSED, failures)
    # The exponent is bounded, too: a receiver may be gone for months.
    wait_s = min(OPEN_S * 2.0 ** min(breaker.opened, 10), OPEN_S_MAX)
    return Breaker(State.OPEN, failures, breaker.opened + 1, now_s + wait_s * (1 + 0.2 * (2 * chance - 1)))


def asked_to_wait(breaker: Breaker, until_s: float) -> Breaker:
    """After an answer that said when to come again: until then nothing is sent, and then one probe."""
    return Breaker(State.OPEN, breaker.failures + 1, breaker.opened, max(until_s, breaker.until_s))
