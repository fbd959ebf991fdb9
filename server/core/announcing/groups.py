"""Describe types of events that share their fields, and make their data from what was kept of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from server.core.announcing.fields import EventType, Field, Shape
from server.core.json import Json

_EMPTY: Final[Mapping[Shape, Json]] = {Shape.TEXT: "", Shape.INTEGER: 0, Shape.NUMBER: 0.0, Shape.BOOLEAN: False}
_LISTS: Final = (Shape.TEXTS, Shape.CHANGES)


@dataclass(frozen=True, slots=True)
class Group:
    """Types of events whose data have the same fields."""

    prefix: str
    """What their names begin with, as they are stored."""

    fires: Mapping[str, str]
    """The rest of the name -> when it is told."""

    rows: tuple[tuple[str, str, Shape, str], ...]
    """(public name, stored name, shape, what it says); a shape that may be missing stands in `nullable`."""

    nullable: frozenset[str] = frozenset()
    example: Mapping[str, Json] = field(default_factory=dict)
    """Values by which its types are shown, where those that are made up for all would mislead."""

    def fields(self) -> tuple[Field, ...]:
        """The fields in their public order: what is one value first."""
        rows = sorted((*self.rows, *_COMMON), key=lambda row: row[2] in _LISTS)
        return tuple(Field(name, shape, says, name in self.nullable) for name, _, shape, says in rows)

    def data(self, payload: Mapping[str, Any]) -> dict[str, Json]:
        """The data of a stored payload. Shapes: every field is there; null, or empty, where nothing was said."""
        stored = {name: source for name, source, _, _ in (*self.rows, *_COMMON)}
        return {
            each.name: _value(payload.get(stored[each.name]), each.shape, nullable=each.nullable)
            for each in self.fields()
        }


def _value(given: Any, shape: Shape, *, nullable: bool) -> Json:
    if shape is Shape.TEXTS:
        if isinstance(given, Mapping):
            return [f"{name}: {value}" for name, value in given.items()]
        return [str(each) for each in given or ()]
    if given is None or (given == "" and nullable):
        return None if nullable else _EMPTY[shape]
    return given


_COMMON: Final = (
    ("reason", "reason", Shape.TEXT, "why, in the words of who did it, or of the machine"),
    ("cause", "cause", Shape.TEXT, "what led to it: a schedule's instant, a guard's evaluation, a ticket"),
)
_EXAMPLES: Final[Mapping[str, Json]] = {
    "state": "running",
    "name": "new checkout",
    "title": "Open the sale",
    "text": "step 3 of 7: 10 %",
    "reason": "its gates hold",
    "environments": ["production"],
    "revisions": ["production: 812"],
    "flags": ["production/new-checkout"],
    "flag_key": "new-checkout",
    "guard_id": "error-rate",
    "policy_id": "checkout-errors",
    "metric": "error-rate",
    "metric_key": "error-rate",
    "verdict": "fail",
    "step": 3,
    "steps_total": 7,
    "from_percent": 5.0,
    "to_percent": 10.0,
    "value": 0.034,
    "threshold": 0.01,
    "sample_count": 4_200,
    "zone": "Europe/Berlin",
}
_ITS_ID: Final = {
    "change_request_id": "cr_5f1c0a9b2e",
    "schedule_id": "sc_5f1c0a9b2e",
    "release_id": "rl_5f1c0a9b2e",
    "plan_id": "lp_5f1c0a9b2e",
    "endpoint_id": "ep_5f1c0a9b2e",
    "event_id": "evt_5f1c0a9b2e",
}


def types_of(groups: Iterable[Group]) -> Iterable[tuple[EventType, Group]]:
    """Each type of some groups; names as they are announced."""
    for group in groups:
        fields = group.fields()
        example = {each.name: group.example.get(each.name, _example(each)) for each in fields}
        for rest, fires in group.fires.items():
            yield EventType(announced_name(group.prefix + rest), fires, fields, example), group


def announced_name(type_: str) -> str:
    """A type as it is announced: in words of letters, digits and underscores, as Standard Webhooks asks for."""
    return type_.replace("-", "_")


def _example(field: Field) -> Json:
    known = {**_EXAMPLES, **_ITS_ID}
    if field.name in known:
        return known[field.name]
    if field.shape is Shape.INSTANT:
        return "2026-11-25T09:00:00+00:00"
    if field.shape in _LISTS:
        return []
    return None if field.nullable else _EMPTY[field.shape]
