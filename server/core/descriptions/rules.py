"""Say what differs between two lists of rules, and what a rule or a default serves."""

from collections.abc import Callable, Mapping
from typing import Final

from server.core.definitions.problems import pointer
from server.core.descriptions.conditions import quoted, write_condition
from server.core.descriptions.parts import (
    Describer,
    Differences,
    as_list,
    as_object,
    changed,
    described,
    difference,
    field,
    moved,
    plain,
    same,
    shortened,
)
from server.core.flags import TARGETING_KEY, Outside
from server.core.json import Json, JsonObject

CALLERS_DEFAULT: Final = "the caller's default"


def rules(path: str, before: Json, after: Json) -> Differences:
    """Rules that came, went, moved or changed; they are known by their ids."""
    old, new = _by_id(before), _by_id(after)
    old_order, new_order = list(old), list(new)
    for key in old:
        if key not in new:
            yield difference(pointer(path, key), old[key], None, f"rule {key} removed")
    for key in new:
        if key not in old:
            text = f"rule {key} added {_place(new_order, key)}: {_summary(new[key])}"
            yield difference(pointer(path, key), None, new[key], text)
    for key in moved(old_order, new_order):
        at, places = f"{pointer(path, key)}/place", (old_order.index(key) + 1, new_order.index(key) + 1)
        yield difference(at, *places, f"rule {key} moved {_place(new_order, key)}")
    for key in new:
        if key in old:
            table = {name: describer(f"rule {key}") for name, describer in _FIELDS.items()}
            yield from described(pointer(path, key), old[key], new[key], table=table, defaults=_DEFAULTS)


def _by_id(value: Json) -> dict[str, JsonObject]:
    return {plain(rule.get("id")): rule for rule in as_list(value) if isinstance(rule, Mapping)}


def _place(order: list[str], key: str) -> str:
    place = order.index(key) + 1
    return f"before rule {order[place]}" if place < len(order) else "at the end"


def _summary(rule: JsonObject) -> str:
    condition, share = rule.get("condition"), rule.get("share")
    whom = "everybody" if condition is None else f"if {shortened(write_condition(condition))}"
    let_in = "" if share is None else f", share {_share_text(share)}"
    begin = f", from {plain(rule['from'])}" if "from" in rule else ""
    end = f", until {plain(rule['until'])}" if "until" in rule else ""
    return f"{whom}{let_in}{begin}{end}: {serve_text(rule.get('serve'))}"


def condition(what: str) -> Describer:
    """Describes a condition, or raw targeting; of a long one, the smallest part that differs."""

    def describe(path: str, before: Json, after: Json) -> Differences:
        texts = [write_condition(each) for each in (before, after) if each is not None]
        if all(shortened(text) == text for text in texts):
            is_told = len(set(texts)) == len(texts)
            yield changed(path, what, before, after, shown=write_condition if is_told else quoted)
            return
        inner, before, after = _narrowed(path, before, after)
        where = what if inner == path else f"{what} at {inner.removeprefix(path)}:"
        yield changed(inner, where, before, after, shown=write_condition)

    return describe


def _narrowed(path: str, before: Json, after: Json) -> tuple[str, Json, Json]:
    """The smallest part in which two rules differ, when it is one place."""
    while True:
        places: list[tuple[str | int, Json, Json]] = []
        if isinstance(before, Mapping) and isinstance(after, Mapping) and list(before) == list(after):
            places = [(name, before[name], after[name]) for name in before if not same(before[name], after[name])]
        elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
            pairs = enumerate(zip(before, after, strict=True))
            places = [(index, old, new) for index, (old, new) in pairs if not same(old, new)]
        if len(places) != 1:
            return path, before, after
        name, before, after = places[0]
        path = pointer(path, name)


def serve(what: str) -> Describer:
    """Describes what a rule or a default serves: `default on -> split on 50 / off 50`."""

    def describe(path: str, before: Json, after: Json) -> Differences:
        old, new = as_object(before), as_object(after)
        if not old or not new or not same(old.get("weights"), new.get("weights")):
            yield changed(path, what, before, after, shown=serve_text, none=CALLERS_DEFAULT)
        if old and new:
            yield from _bucketing(path, what, old, new)

    return describe


def serve_text(value: Json) -> str:
    """`on`, or `split on 50 / off 50`."""
    if not isinstance(value, Mapping):
        return CALLERS_DEFAULT if value is None else plain(value)
    weights = as_object(value.get("weights"))
    return f"split {' / '.join(f'{name} {quoted(weight)}' for name, weight in weights.items())}{_by_unit(value)}"


def _share(what: str) -> Describer:
    def describe(path: str, before: Json, after: Json) -> Differences:
        if before is None or after is None:
            yield changed(path, f"share of {what}", before, after, shown=_share_text)
            return
        old, new = as_object(before), as_object(after)
        percents = old.get("percent"), new.get("percent")
        if not same(*percents):
            yield changed(pointer(path, "percent"), f"share of {what}", *percents, shown=_percent)
        if not same(old.get("steps"), new.get("steps")):
            steps = old.get("steps"), new.get("steps")
            yield changed(pointer(path, "steps"), f"later share of {what}", *steps, shown=_steps_text)
        yield from _bucketing(path, f"share of {what}", old, new)

    return describe


def _share_text(share: Json) -> str:
    fields = as_object(share)
    later = f", {_steps_text(fields['steps'])}" if "steps" in fields else ""
    return _percent(fields.get("percent")) + later + _by_unit(fields)


def _steps_text(steps: Json) -> str:
    """`10 % from 2026-12-01T09:00:00Z, 100 % from 2026-12-02T09:00:00Z`."""
    read = [as_object(step) for step in as_list(steps)]
    return ", ".join(f"{_percent(step.get('percent'))} from {plain(step.get('at'))}" for step in read)


def _percent(value: Json) -> str:
    return f"{quoted(value)} %"


def _by_unit(fields: JsonObject) -> str:
    unit = fields.get("bucketBy", TARGETING_KEY)
    return "" if unit == TARGETING_KEY else f" by {plain(unit)}"


def _bucketing(path: str, what: str, before: JsonObject, after: JsonObject) -> Differences:
    """How units are dealt: the salt, and the attribute that is hashed with it."""
    for name, label, default in (("bucketBy", "unit", TARGETING_KEY), ("salt", "salt", None)):
        old, new = before.get(name, default), after.get(name, default)
        if not same(old, new):
            yield changed(pointer(path, name), f"units are dealt anew, {label} of {what}", old, new, shown=plain)


_FIELDS: Final[Mapping[str, Callable[[str], Describer]]] = {
    "condition": lambda rule: condition(f"condition of {rule}"),
    "share": _share,
    "from": lambda rule: field(f"begin of {rule}", shown=plain),
    "until": lambda rule: field(f"end of {rule}", shown=plain),
    "outside": lambda rule: field(f"outside the share of {rule}", shown=plain),
    "serve": lambda rule: serve(f"serve of {rule}"),
    "description": lambda rule: field(f"description of {rule}"),
}
_DEFAULTS: Final[JsonObject] = {"outside": Outside.NEXT.value, "description": ""}
