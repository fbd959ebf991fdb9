"""Keep a few of the contexts that were evaluated lately, in memory alone, for simulations.

Attributes may be personal, so nothing is kept unless the operator asks for it, and what is kept is never logged,
stored, counted by or given out: a simulation evaluates with it and tells numbers. See decision 0017.
"""

import random
from collections.abc import Callable
from typing import Final

CONTEXT_BYTES_KEPT_MAX: Final = 4 * 1024
"""Larger contexts are left out, so that the memory has a bound: this, times places, times flag sets."""

FLAG_SETS_MAX: Final = 100


class RecentContexts:
    """A sample for each flag set, with a bias to what came lately.

    Every context takes a place by chance from an earlier one, so that one is kept for about as many evaluations as
    there are places, and all that were evaluated in that time had the same chance.
    """

    def __init__(self, places: int, *, chance: Callable[[], float] = random.random) -> None:
        self._places, self._chance = places, chance
        self._kept: dict[str, list[bytes]] = {}

    def note(self, flag_set: str, context: bytes) -> None:
        """Keep an encoded context, perhaps."""
        if not context or len(context) > CONTEXT_BYTES_KEPT_MAX:
            return
        kept = self._kept.get(flag_set)
        if kept is None:
            if len(self._kept) >= FLAG_SETS_MAX:
                return
            kept = self._kept[flag_set] = []
        if len(kept) < self._places:
            kept.append(context)
        else:
            kept[int(self._chance() * self._places)] = context

    def of(self, flag_set: str) -> list[bytes]:
        """What is kept for a flag set now."""
        return list(self._kept.get(flag_set, ()))
