"""Write an action's inputs, and what becomes of it, as JSON Schema."""

from collections.abc import Mapping
from typing import Any, Final

from server.core.actions.inputs import LIST_MAX, all_inputs
from server.core.actions.values import ActionType, Input, Shape, Status
from server.core.limits import TEXT_CHARS_MAX

OPTIONS: Final[Mapping[str, Mapping[str, Any]]] = {
    "reason": {"type": "string", "title": "Reason", "description": "Why, for the audit trail.", "maxLength": 1_000},
    "cause": {
        "type": "string",
        "title": "Cause",
        "description": "Something outside that this belongs to: a ticket, an incident, a pipeline's run.",
        "maxLength": 1_000,
    },
    "dry_run": {
        "type": "boolean",
        "title": "Dry run",
        "description": "Check everything, say what would happen, and change nothing.",
    },
    "expected_version": {
        "type": "integer",
        "title": "Expected version",
        "description": "The version that was read; when the thing has another by now, 409. 0: not asked.",
        "minimum": -1,
        "maximum": 2**53 - 1,
    },
    "causation_id": {
        "type": "string",
        "title": "Causation",
        "description": "The id of the event because of which this is asked. The header Flagstaff-Causation says the "
        "same. With it, loops of automations are found.",
        "maxLength": 100,
    },
    "hops": {
        "type": "integer",
        "title": "Hops",
        "description": "The `hops` of that event. The header Flagstaff-Hops says the same.",
        "minimum": 0,
        "maximum": 1_000,
    },
}
"""What every action takes beside its own inputs."""

_SHAPES: Final[Mapping[Shape, Mapping[str, Any]]] = {
    Shape.TEXT: {"type": "string", "maxLength": TEXT_CHARS_MAX},
    Shape.BOOLEAN: {"type": "boolean"},
    Shape.INTEGER: {"type": "integer"},
    Shape.NUMBER: {"type": "number"},
    Shape.TEXTS: {"type": "array", "items": {"type": "string"}, "maxItems": LIST_MAX},
    Shape.NUMBERS: {"type": "array", "items": {"type": "number"}, "maxItems": LIST_MAX},
    Shape.INSTANT: {"type": "string", "format": "date-time"},
    Shape.OBJECT: {"type": "object"},
    Shape.VALUES: {"type": "object"},
}


def input_schema(type_: ActionType) -> dict[str, Any]:
    """The JSON Schema of what an action is sent; `x-pick` says where choices come from."""
    inputs = all_inputs(type_)
    options = OPTIONS if type_.writes else {}
    return {
        "title": type_.title,
        "description": type_.says,
        "type": "object",
        "properties": {**{each.name: _schema(each) for each in inputs}, **{k: dict(v) for k, v in options.items()}},
        "required": [each.name for each in inputs if each.required],
        "additionalProperties": False,
        "examples": [dict(type_.example)],
    }


def _schema(each: Input) -> dict[str, Any]:
    schema: dict[str, Any] = {**_SHAPES[each.shape], "title": each.title, "description": each.says}
    bounds = {"minimum": each.least, "maximum": each.most}
    bounds = {name: bound for name, bound in bounds.items() if bound is not None}
    if bounds and "items" in schema:
        schema["items"] = {**schema["items"], **bounds}
    else:
        schema.update(bounds)
    if each.choices:
        schema["enum"] = list(each.choices)
    if each.required and each.shape is Shape.TEXT:
        schema["minLength"] = 1
    if each.example is not None:
        schema["examples"] = [each.example]
    if each.pick:
        schema["x-pick"] = each.pick
    return schema


def _texts(says: str) -> dict[str, Any]:
    return {"type": "array", "items": {"type": "string"}, "description": says}


RESULT_SCHEMA: Final[Mapping[str, Any]] = {
    "title": "What became of an action",
    "type": "object",
    "properties": {
        "action_id": {"type": "string", "description": "Of this run; its events have it as their causation."},
        "action": {"type": "string"},
        "status": {"type": "string", "enum": [each.value for each in Status]},
        "version": {"type": ["integer", "null"], "description": "Of what was changed, for expected_version."},
        "revision": {"type": ["integer", "null"], "description": "Of the environment, where it moved."},
        "event_ids": _texts("The events that it led to."),
        "changes": _texts("What differs, a line each."),
        "warnings": _texts("What is allowed and looks unintended."),
        "change_request": {"type": "string", "description": "What others are to approve; empty where nobody is asked."},
        "subject_id": {"type": "string", "description": "The id of what was made or moved: a schedule, a release."},
        "items": {"type": "array", "items": {"type": "object"}, "description": "What a search found."},
    },
    "required": ["action_id", "action", "status", "version", "revision", "event_ids", "changes", "warnings"],
}
