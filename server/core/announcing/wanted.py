"""Say which types of events somebody wants, and refuse wishes that nothing can meet."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from server.core.announcing.catalogue import CATALOGUE
from server.core.errors import InvalidRequest

TYPES_MAX: Final = 100
REST: Final = ".*"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Types of events; no names and no beginnings: all of them."""

    names: frozenset[str] = frozenset()
    beginnings: tuple[str, ...] = ()
    """With their dot: `flag.`."""

    @property
    def is_all(self) -> bool:
        """Whether every type is wanted."""
        return not self.names and not self.beginnings


def read_wanted(types: Iterable[str]) -> Wanted:
    """Read `flag.killed`, `release.*` or `*`. Errors: InvalidRequest for what no event is called."""
    given = list(types)
    if len(given) > TYPES_MAX:
        raise InvalidRequest(f"types has {len(given)} entries, at most {TYPES_MAX} are allowed")
    names: set[str] = set()
    beginnings: set[str] = set()
    for place, each in enumerate(given):
        if each == "*":
            return Wanted()
        beginning = each.removesuffix("*")
        if each.endswith(REST) and any(name.startswith(beginning) for name in CATALOGUE):
            beginnings.add(beginning)
        elif each in CATALOGUE:
            names.add(each)
        else:
            raise InvalidRequest(
                f"types[{place}] is {each[:80]!r}, which no event is called; `flagstaff event types` lists them, and "
                "`flag.*` stands for all that begin so"
            )
    return Wanted(frozenset(names), tuple(sorted(beginnings)))
