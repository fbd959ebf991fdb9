"""Write a rule's definition as JSON, and read it back."""

from collections.abc import Mapping
from typing import Any, Final

from server.core.json import Json
from server.core.rules.rules import PER_MINUTE, Act, Definition, Deliver, Then, Wanted

_LISTS: Final = ("event_types", "environments", "tags", "owners")


def write_definition(definition: Definition) -> dict[str, Json]:
    """A definition as it is kept, shown in the audit trail and sent."""
    when = definition.when
    return {
        "name": definition.name,
        "description": definition.description,
        "when": {**{name: list(getattr(when, name)) for name in _LISTS}, "expression": when.expression},
        "then": _written(definition.then),
        "per_minute": definition.per_minute,
    }


def read_definition(data: Mapping[str, Any]) -> Definition:
    """Read what `write_definition` wrote. Errors: KeyError, TypeError, ValueError, AttributeError."""
    when, then = data["when"], data["then"]
    return Definition(
        name=str(data["name"]),
        when=Wanted(**{name: tuple(map(str, when.get(name, ()))) for name in _LISTS}, expression=when["expression"]),
        then=_read(then),
        description=str(data.get("description", "")),
        per_minute=int(data.get("per_minute", PER_MINUTE)),
    )


def _written(then: Then) -> dict[str, Json]:
    if isinstance(then, Deliver):
        return {"endpoint_id": then.endpoint_id}
    return {"action": then.action, "inputs": dict(then.inputs), "reason": then.reason}


def _read(then: Mapping[str, Any]) -> Then:
    if "endpoint_id" in then:
        return Deliver(str(then["endpoint_id"]))
    return Act(str(then["action"]), dict(then["inputs"]), str(then.get("reason", "")))
