"""Hold callers to their rates, each token and each address to its own."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from server.core.errors import Limited
from server.core.pacing import Network, Rate, client_address, take

KEYS_MAX: Final = 100_000
"""Callers that are told apart at once. Beyond it, those that have been quiet for longest start anew."""

_DROPPED_PART: Final = 10


class Pace:
    """One rate for each of many callers. It is counted in this process alone."""

    def __init__(
        self, rate: Rate, what: str, *, clock: Callable[[], float] = time.monotonic, keys_max: int = KEYS_MAX
    ) -> None:
        """Shapes: what says in messages who has a rate. Units: clock gives seconds."""
        self._rate, self._what, self._clock, self._keys_max = rate, what, clock, keys_max
        self._full_at: dict[str, float] = {}

    def require(self, key: str) -> None:
        """Count one request. Errors: Limited, with the time after which the next one may come."""
        now = self._clock()
        full_at, wait_s = take(self._full_at.get(key, 0.0), self._rate, now)
        if wait_s:
            raise Limited(
                f"too many requests of one {self._what}: {self._rate.per_s:g} a second are allowed, "
                f"{self._rate.burst} at once; try again in {wait_s:.3g} s",
                wait_s,
            )
        if key not in self._full_at and len(self._full_at) >= self._keys_max:
            self._make_room(now)
        self._full_at[key] = full_at

    def _make_room(self, now: float) -> None:
        """Forget those whose bucket is full, which says nothing; if there are none, those that are fullest."""
        self._full_at = {key: full_at for key, full_at in self._full_at.items() if full_at > now}
        if len(self._full_at) >= self._keys_max:
            by_fullness = sorted(self._full_at, key=self._full_at.__getitem__)
            for key in by_fullness[: max(1, self._keys_max // _DROPPED_PART)]:
                del self._full_at[key]


@dataclass(frozen=True, slots=True)
class Paces:
    """The rates of a server; None where there is none."""

    per_token: Pace | None = None
    per_address: Pace | None = None
    trusted: Sequence[Network] = ()
    """Proxies that are believed when they say whose request they pass on."""

    def require_address(self, peer: str, forwarded: Callable[[], Sequence[str]]) -> None:
        """Count one request of an address. Errors: Limited."""
        if self.per_address is not None:
            self.per_address.require(client_address(peer, forwarded() if self.trusted else (), self.trusted))
