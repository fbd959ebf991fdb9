"""Describe what an event's data holds, as values from which a JSON Schema is made."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from server.core.json import Json

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


class Shape(StrEnum):
    """What a field holds."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    INSTANT = "instant"
    """RFC 3339, with its offset."""

    TEXTS = "texts"
    CHANGES = "changes"
    """What differs: path (a JSON pointer), old and new (JSON as text, cut), text (for people)."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an event's data; every event of its type has it."""

    name: str
    shape: Shape
    says: str
    nullable: bool = False


@dataclass(frozen=True, slots=True)
class EventType:
    """A kind of event that others may ask for."""

    name: str
    fires: str
    """When it is told, as a sentence."""

    fields: tuple[Field, ...]
    example: Mapping[str, Json]
    """Data as it may come."""


_SCHEMAS: Final[Mapping[Shape, dict[str, Any]]] = {
    Shape.TEXT: {"type": "string"},
    Shape.INTEGER: {"type": "integer"},
    Shape.NUMBER: {"type": "number"},
    Shape.BOOLEAN: {"type": "boolean"},
    Shape.INSTANT: {"type": "string", "format": "date-time"},
    Shape.TEXTS: {"type": "array", "items": {"type": "string"}},
    Shape.CHANGES: {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {name: {"type": "string"} for name in ("path", "old", "new", "text")},
            "required": ["path", "old", "new", "text"],
        },
    },
}


def data_schema(type_: EventType) -> dict[str, Any]:
    """The JSON Schema of an event's data. Further fields may come: receivers must let them pass."""
    return {
        "$schema": DIALECT,
        "title": type_.name,
        "description": type_.fires,
        "type": "object",
        "properties": {each.name: _schema(each) for each in type_.fields},
        "required": [each.name for each in type_.fields],
        "examples": [dict(type_.example)],
    }


def _schema(field: Field) -> dict[str, Any]:
    schema = {**_SCHEMAS[field.shape], "description": field.says}
    if field.nullable:
        schema["type"] = [schema["type"], "null"]
    return schema
