"""Compare JSON values part by part, and say each difference in one line."""

import json
import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from server.core.definitions.problems import pointer
from server.core.descriptions.conditions import quoted
from server.core.json import Json, JsonObject

VALUE_CHARS_MAX: Final = 120
"""Characters of one value in a line; the whole of it is in the difference's `before` or `after`."""

NAMES_SHOWN_MAX: Final = 8
NONE: Final = "none"
_LEAD_CHARS: Final = 20


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not what it was.

    Shapes: path is a JSON pointer into the document, in which a rule is named by its id, a prerequisite by its flag and
    targets by their variant, because places move; "" is the whole. before and after are JSON values, None for what is
    not there. Of a list whose order means nothing (keys, targets, tags, links) they are what went and what came.
    """

    path: str
    before: Json
    after: Json
    text: str
    """For people: `share of rule beta 10 % -> 25 %`."""

    def __str__(self) -> str:
        return self.text


Differences: TypeAlias = Iterator[Difference]
Describer: TypeAlias = Callable[[str, Json, Json], Differences]
"""(path, before, after) -> what differs, for two values that are not the same."""

Show: TypeAlias = Callable[[Json], str]
"""Writes a value into a line."""


def same(before: Json, after: Json) -> bool:
    """Whether two values are one in JSON, the order of names included: 1, 1.0 and true are three values."""
    return before is after or (before == after and json.dumps(before) == json.dumps(after))


def difference(path: str, before: Json, after: Json, text: str) -> Difference:
    """A difference whose line no value can break: what does not print is escaped."""
    if not text.isprintable():
        text = "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in text)
    return Difference(path, before, after, text)


def changed(path: str, what: str, before: Json, after: Json, *, shown: Show = quoted, none: str = NONE) -> Difference:
    """`what BEFORE -> AFTER`."""
    old, new = (none if value is None else shown(value) for value in (before, after))
    if old == new:
        return difference(path, before, after, f"{what} written in another way: {shortened(new)}")
    old, new = _without_common_start(old, new)
    return difference(path, before, after, f"{what} {shortened(old)} -> {shortened(new)}")


def _without_common_start(before: str, after: str) -> tuple[str, str]:
    """Two long texts from where they begin to differ."""
    if max(len(before), len(after)) <= VALUE_CHARS_MAX:
        return before, after
    pairs = enumerate(zip(before, after, strict=False))
    first = next((place for place, (one, other) in pairs if one != other), min(len(before), len(after)))
    start = first - _LEAD_CHARS
    return (before, after) if start <= 0 else (f"...{before[start:]}", f"...{after[start:]}")


def shortened(text: str) -> str:
    """A value's text, cut to a readable length."""
    return text if len(text) <= VALUE_CHARS_MAX else f"{text[: VALUE_CHARS_MAX - 3]}..."


def few(names: Sequence[str]) -> str:
    """A few names, joined by commas."""
    more = f" and {len(names) - NAMES_SHOWN_MAX} more" if len(names) > NAMES_SHOWN_MAX else ""
    return shortened(", ".join(names[:NAMES_SHOWN_MAX]) or NONE) + more


def plain(text: Json) -> str:
    """A name without quotes, for what cannot be mistaken for anything else."""
    return text if isinstance(text, str) else quoted(text)


def yes_or_no(value: Json) -> str:
    """A switch."""
    return quoted(value) if not isinstance(value, bool) else "yes" if value else "no"


def as_object(value: Json) -> JsonObject:
    """A damaged or foreign document may have anything anywhere."""
    return value if isinstance(value, Mapping) else {}


def as_list(value: Json) -> Sequence[Json]:
    """As `as_object`."""
    return value if isinstance(value, list) else []


def field(what: str, *, shown: Show = quoted, none: str = NONE) -> Describer:
    """Describes one value by its name."""

    def describe(path: str, before: Json, after: Json) -> Differences:
        yield changed(path, what, before, after, shown=shown, none=none)

    return describe


def entries(what: str, plural: str) -> Describer:
    """Describes an object of named values, and their order."""

    def describe(path: str, before: Json, after: Json) -> Differences:
        old, new = as_object(before), as_object(after)
        for name in dict.fromkeys([*old, *new]):
            at = pointer(path, name)
            if name not in new:
                yield difference(at, old[name], None, f"{what} {name} removed")
            elif name not in old:
                yield difference(at, None, new[name], f"{what} {name} added: {shortened(quoted(new[name]))}")
            elif not same(old[name], new[name]):
                yield changed(at, f"{what} {name}:", old[name], new[name])
        yield from reordered(path, plural, list(old), list(new))

    return describe


def reordered(path: str, what: str, before: Sequence[str], after: Sequence[str]) -> Differences:
    """The order of what stands on both sides."""
    old, new = [name for name in before if name in set(after)], [name for name in after if name in set(before)]
    if old != new:
        yield difference(path, old, new, f"order of {what}: {few(old)} -> {few(new)}")


def members(what: str, *, named: bool = False) -> Describer:
    """Describes a list whose order means nothing: how many came and went, or which."""

    def describe(path: str, before: Json, after: Json) -> Differences:
        old, new = dict.fromkeys(map(plain, as_list(before))), dict.fromkeys(map(plain, as_list(after)))
        came, went = [name for name in new if name not in old], [name for name in old if name not in new]
        if came or went:
            signed = [*(f"+{name}" for name in came), *(f"-{name}" for name in went)]
            counted = [*([f"+{len(came)}"] if came else []), *([f"-{len(went)}"] if went else [])]
            text = few(signed) if named else " ".join(counted)
            yield difference(path, went or None, came or None, f"{what}: {text}")
        else:
            yield from reordered(path, what, list(old), list(new))

    return describe


def anything(what: str) -> Describer:
    """Describes what this version knows no words for, by its names; never nothing."""

    def describe(path: str, before: Json, after: Json) -> Differences:
        if not (isinstance(before, Mapping) and isinstance(after, Mapping)):
            yield changed(path, what, before, after)
            return
        for name in dict.fromkeys([*before, *after]):
            old, new = before.get(name), after.get(name)
            if same(old, new):
                yield from _null(pointer(path, name), f"{what} {words(name)}".strip(), name in before, name in after)
            else:
                yield from anything(f"{what} {words(name)}".strip())(pointer(path, name), old, new)
        yield from reordered(path, f"{what} entries".strip(), list(before), list(after))

    return describe


def described(
    path: str, before: JsonObject, after: JsonObject, *, table: Mapping[str, Describer], defaults: JsonObject
) -> Differences:
    """What differs between two objects, in the table's order; then what the table does not know."""
    for name in dict.fromkeys([*table, *before, *after]):
        default = defaults.get(name)
        old, new = before.get(name, default), after.get(name, default)
        at = pointer(path, name)
        if same(old, new):
            if default is None:
                yield from _null(at, words(name), name in before, name in after)
            continue
        found = list(table[name](at, old, new)) if name in table else []
        # Two damaged values may differ where nobody looks.
        yield from found or anything(words(name))(at, old, new)


def _null(path: str, what: str, was_written: bool, is_written: bool) -> Differences:
    """A null that is written out on one side only: no program of ours does so, and somebody did."""
    if was_written != is_written:
        yield difference(path, None, None, f"{what}: null {'added' if is_written else 'removed'}")


def words(name: str) -> str:
    """`approvalPolicy` as `approval policy`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).lower()


def moved(before: Sequence[str], after: Sequence[str]) -> list[str]:
    """The fewest of the names in both lists that have to be moved to get from one order to the other."""
    places = {name: place for place, name in enumerate(before)}
    common = [name for name in after if name in places]
    stay = _longest_rise(common, places)
    return [name for name in common if name not in stay]


def _longest_rise(names: Sequence[str], places: Mapping[str, int]) -> frozenset[str]:
    """A longest part of the names whose places rise, by patience sorting: each pile is known by its top."""
    tops: list[int] = []
    piles: list[str] = []
    below: dict[str, str | None] = {}
    for name in names:
        pile = bisect_left(tops, places[name])
        below[name] = piles[pile - 1] if pile else None
        tops[pile : pile + 1] = [places[name]]
        piles[pile : pile + 1] = [name]
    rise: set[str] = set()
    at = piles[-1] if piles else None
    while at is not None:
        rise.add(at)
        at = below[at]
    return frozenset(rise)
