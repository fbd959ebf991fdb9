"""Make bad definitions of good ones: one flag or segment as JSON text, broken in a way that has happened somewhere.

What no Python value can express (NaN, a key that stands twice, bad UTF-8, a nest of 100,000 lists) is put into the
text in place of a mark.
"""

import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from server.core.definitions.documents import write_document
from server.core.definitions.flags import write_flag
from server.core.definitions.operators import ARITY
from server.core.definitions.segments import write_segment
from server.core.json import Json
from tests.fuzz import bases
from tests.laws.odd import COMPOUNDS, SCALARS

KEY: Final = "mutant"
FLAG: Final = "flag"
SEGMENT: Final = "segment"
BASES: Final = 24

_MARK: Final = "\ue000"
_FIELDS: Final = (
    *("type", "variants", "description", "kind", "temporary", "expectedLifetimeDays", "owner", "tags", "links"),
    *("metadata", "archivedAt", "enabled", "offVariant", "targets", "prerequisites", "rules", "default", "targeting"),
    *("lenient", "condition", "keys", "keyAttribute", "serve", "share", "weights", "salt", "bucketBy", "outside", "id"),
)
_RAW: Final = (
    *(b"NaN", b"-Infinity", b"1e999", b"-0", b"01", b"'x'", b"", b"nul", b"\xff", b'"\xff\xed\xa0\x80"', b'"\\ud800"'),
    *(b"9" * 300, b"9" * 400, b"9" * 5_000, b"-" + b"9" * 25, b"0.1e-400", b'"' + b"x" * 70_000 + b'"', b'"\\u0000"'),
    *(
        b'{"on": 1, "on": 2}',
        b"[" * 60 + b"]" * 60,
        b"[" * 500 + b"]" * 500,
        b"[" * 100_000,
        b'{"!": ' * 90 + b"1" + b"}" * 90,
    ),
    *(b'{"!": ' * 700 + b"1" + b"}" * 700, b'{"a": ' * 40 + b"1" + b"}" * 40, b"[" + b'"x",' * 10_000 + b'"x"]'),
    *(
        b"[" + b"[1]," * 3_000 + b"1]",
        b'{"or": [' + b'{"var": "x"},' * 1_200 + b"1]}",
        b'"\xef\xbf\xbf\xf4\x8f\xbf\xbf"',
    ),
)

Slot: TypeAlias = tuple[Any, str | int]
"""An object or list, and the key or index of one of its values."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A definition that is probably broken."""

    operation: str
    kind: str
    """FLAG or SEGMENT."""

    text: bytes

    def __str__(self) -> str:
        shown = self.text if len(self.text) <= 400 else self.text[:397] + b"..."
        return f"{self.operation} of a {self.kind}: {shown!r}"


@dataclass(frozen=True, slots=True)
class Base:
    """A good definition, with those it refers to."""

    kind: str
    document: str
    others: str
    """A document of ours with the set that it stands in."""


def bases_of(count: int = BASES) -> Sequence[Base]:
    """Every flag and segment of the shop and of sets that the strategies generate; always the same."""
    found: list[Base] = []
    for text in bases.documents(count):
        flag_set = bases.read(json.loads(text))
        others = json.dumps(write_document(flag_set))
        found += [Base(FLAG, json.dumps(write_flag(flag)), others) for flag in flag_set.flags.values()]
        found += [Base(SEGMENT, json.dumps(write_segment(each)), others) for each in flag_set.segments.values()]
    return found


def mutants(good: Sequence[Base], *, rng: random.Random) -> Iterator[tuple[Mutant, Base]]:
    """Mutants without end, each beside what it was made of."""
    names = list(_OPERATIONS)
    while True:
        base = rng.choice(good)
        document = json.loads(base.document)
        chosen = rng.choices(names, k=rng.choice((1, 1, 1, 2, 3)))
        marks: list[bytes] = []
        for name in chosen:
            document = _OPERATIONS[name](document, rng, marks)
        text = _text(document, marks)
        if rng.random() < 0.15:
            chosen.append("broken text")
            text = rng.choice(_TEXT_OPERATIONS)(text, rng)
        yield Mutant(" and ".join(chosen), base.kind, text), base


def _text(document: Json, marks: Sequence[bytes]) -> bytes:
    text = json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")
    pattern = re.compile(f'"{_MARK}([0-9]+){_MARK}"'.encode())
    # A later operation may have changed the number in a mark; then it stands for nothing.
    numbered = dict(enumerate(marks))
    return pattern.sub(lambda found: numbered.get(int(found[1]), found[0]), text)


def _slots(document: Json) -> list[Slot]:
    slots: list[Slot] = []
    stack = [document] if isinstance(document, dict | list) else []
    while stack:
        node = stack.pop()
        keys: Any = list(node) if isinstance(node, dict) else range(len(node))
        for key in keys:
            slots.append((node, key))
            if isinstance(node[key], dict | list):
                stack.append(node[key])
    return slots


def _slot(document: Json, rng: random.Random) -> Slot:
    slots = _slots(document)
    return rng.choice(slots) if slots else ({"": None}, "")


def _put(value: Callable[[random.Random], Json]) -> "_Operation":
    def operation(document: Json, rng: random.Random, _marks: list[bytes]) -> Json:
        container, key = _slot(document, rng)
        container[key] = value(rng)
        return document

    return operation


def _raw(document: Json, rng: random.Random, marks: list[bytes]) -> Json:
    container, key = _slot(document, rng)
    container[key] = f"{_MARK}{len(marks)}{_MARK}"
    marks.append(rng.choice(_RAW))
    return document


def _remove(document: Json, rng: random.Random, _marks: list[bytes]) -> Json:
    container, key = _slot(document, rng)
    del container[key]
    return document


def _twice(document: Json, rng: random.Random, marks: list[bytes]) -> Json:
    """A key that stands twice, with null first or last."""
    objects = [(node, key) for node, key in _slots(document) if isinstance(node, dict)]
    if objects:
        node, key = rng.choice(objects)
        value = json.dumps(node[key]).encode()
        node[key] = f"{_MARK}{len(marks)}{_MARK}"
        pair = [value, b"null"]
        rng.shuffle(pair)
        marks.append(pair[0] + b"," + json.dumps(key).encode() + b":" + pair[1])
    return document


def _rename(document: Json, rng: random.Random, _marks: list[bytes]) -> Json:
    objects = [(node, key) for node, key in _slots(document) if isinstance(node, dict)]
    if objects:
        node, key = rng.choice(objects)
        node[rng.choice((*_FIELDS, *ARITY, "=~", "log", "$ref", "", "on", "\ud800", "k" * 300))] = node.pop(key)
    return document


def _swap(document: Json, rng: random.Random, _marks: list[bytes]) -> Json:
    (one, first), (two, second) = _slot(document, rng), _slot(document, rng)
    # Copies: what contains itself is no JSON.
    a, b = json.dumps(one[first]), json.dumps(two[second])
    one[first] = json.loads(b)
    if any(node is two for node, _ in _slots(document)) and second in (
        two if isinstance(two, dict) else range(len(two))
    ):
        two[second] = json.loads(a)
    return document


def _wrap(document: Json, rng: random.Random, _marks: list[bytes]) -> Json:
    container, key = _slot(document, rng)
    value = container[key]
    container[key] = rng.choice(
        ([value], {"value": value}, [value] * 40, {rng.choice(list(ARITY)): value}, {"!": [value]})
    )
    return document


def _graft(document: Json, rng: random.Random, _marks: list[bytes]) -> Json:
    """A field where it belongs, or not, with a value that may be right elsewhere."""
    if isinstance(document, dict):
        document[rng.choice(_FIELDS)] = _slot_value(document, rng) if rng.random() < 0.5 else rng.choice(COMPOUNDS)
    return document


def _slot_value(document: Json, rng: random.Random) -> Json:
    container, key = _slot(document, rng)
    return json.loads(json.dumps(container[key]))


def _circle(document: Json, rng: random.Random, _marks: list[bytes]) -> Json:
    """A prerequisite or segment that leads back to itself, is unknown, or wants what is not there."""
    if isinstance(document, dict):
        key = rng.choice((KEY, KEY, "payments", "new-ui", "gone"))
        rule = {"$ref": rng.choice((KEY, KEY, "beta", "staff", "gone"))}
        if "variants" in document:
            document["prerequisites"] = [{"flag": key, "variants": [rng.choice(("on", "off", "gone"))]}]
            document["rules"] = [{"condition": rule, "serve": rng.choice(("on", "gone"))}]
        else:
            document.clear()
            document["condition"] = rng.choice((rule, {"or": [rule, rule]}, {"if": [rule, True, {"!": [rule]}]}))
    return document


def _no_variant(document: Json, rng: random.Random, _marks: list[bytes]) -> Json:
    variants = document.get("variants") if isinstance(document, dict) else None
    if isinstance(variants, dict) and variants:
        del variants[rng.choice(list(variants))]
    return document


def _no_object(_document: Json, rng: random.Random, _marks: list[bytes]) -> Json:
    return rng.choice((None, "", [], {}, 0, True, "null", [{}]))


_Operation: TypeAlias = Callable[[Json, random.Random, list[bytes]], Json]
_OPERATIONS: Final[dict[str, _Operation]] = {
    "blank": _put(lambda rng: rng.choice(("", " ", [], {}))),
    "null": _put(lambda _: None),
    "wrong type": _put(lambda rng: rng.choice((*SCALARS, *COMPOUNDS))),
    "giant number": _put(lambda rng: rng.choice((10**25, -(10**400), 1e308, 2**63, 2**53 + 1, 5e-324, 100_001))),
    "unsayable": _raw,
    "removed": _remove,
    "twice": _twice,
    "renamed": _rename,
    "swapped": _swap,
    "wrapped": _wrap,
    "grafted": _graft,
    "circle": _circle,
    "removed variant": _no_variant,
    "no object": _no_object,
}


def _cut(text: bytes, rng: random.Random) -> bytes:
    return text[: rng.randint(0, len(text))]


def _flip(text: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(text)) if text else 0
    return text[:at] + bytes((rng.randrange(256),)) + text[at + 1 :]


def _garble(text: bytes, rng: random.Random) -> bytes:
    at = rng.randint(0, len(text))
    return (
        text[:at]
        + rng.choice((b"\xff\xfe", b"\0", b"\xed\xa0\x80", b"{", b"}", b"]", b",", b"\xef\xbb\xbf"))
        + text[at:]
    )


_TEXT_OPERATIONS: Final = (_cut, _flip, _garble)
