"""Count evaluations by protocol, flag set and reason, with a bound on what is told apart.

Plain numbers in plain dictionaries, written and read on the event loop: a count costs a fraction of a microsecond and
no lock. Neither a flag's key nor anything of a context is ever told apart.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from server.core.evaluation.snapshot import Snapshot
from server.core.resolution import ErrorCode, Reason, Resolution

FLAG_SETS_MAX: Final = 100
"""Flag sets that figures tell apart; those that come later are counted together."""

OTHER: Final = "other"
"""Stands for all flag sets beyond the bound. No flag set has this name: theirs have a slash."""

Counts: TypeAlias = defaultdict[Reason | ErrorCode, int]


class Seen(Protocol):
    """What handlers call after an evaluation: with the snapshot, the answer, and how often it was given."""

    def __call__(self, snapshot: Snapshot, answer: Resolution, count: int = 1, /) -> None:
        """Take note; never raises."""
        ...


SeenBy: TypeAlias = Callable[[str], Seen]
"""Protocol -> what its handlers call."""


def unseen(snapshot: Snapshot, answer: Resolution, count: int = 1, /) -> None:
    """Take no note."""


def seen_by_nobody(protocol: str) -> Seen:
    """For handlers whose evaluations nobody counts."""
    return unseen


def both(first: Seen, second: Seen) -> Seen:
    """Tell two of an evaluation."""

    def tell(snapshot: Snapshot, answer: Resolution, count: int = 1, /) -> None:
        first(snapshot, answer, count)
        second(snapshot, answer, count)

    return tell


@dataclass(frozen=True, slots=True)
class Count:
    """How often one protocol gave answers of one kind from one flag set."""

    protocol: str
    flag_set: str
    reason: str
    error_code: str
    """"" for an answer without an error."""

    number: int


class EvaluationCounts:
    """What has been evaluated since the process began."""

    def __init__(self, *, flag_sets_max: int = FLAG_SETS_MAX) -> None:
        self._flag_sets_max = flag_sets_max
        self._names: set[str] = set()
        self._counts: dict[tuple[str, str], Counts] = {}

    def counter(self, protocol: str) -> Seen:
        """What the handlers of a protocol call."""
        slot = f"counts.{id(self)}.{protocol}"
        opened = self._opener(protocol)

        def count_evaluation(snapshot: Snapshot, answer: Resolution, count: int = 1, /) -> None:
            # Found through the snapshot, which is quicker than by the flag set's name.
            counts = snapshot.wire.get(slot)
            if counts is None:
                counts = snapshot.wire[slot] = opened(snapshot.flag_set)
            counts[answer.error_code or answer.reason] += count

        return count_evaluation

    def __iter__(self) -> Iterator[Count]:
        for (protocol, flag_set), counts in self._counts.items():
            for kind, number in counts.items():
                if isinstance(kind, ErrorCode):
                    yield Count(protocol, flag_set, Reason.ERROR.value, kind.value, number)
                else:
                    yield Count(protocol, flag_set, kind.value, "", number)

    def _opener(self, protocol: str) -> Callable[[str], Counts]:
        def opened(flag_set: str) -> Counts:
            if flag_set not in self._names and len(self._names) >= self._flag_sets_max:
                flag_set = OTHER
            else:
                self._names.add(flag_set)
            return self._counts.setdefault((protocol, flag_set), defaultdict(int))

        return opened
