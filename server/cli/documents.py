"""Write a protobuf message as JSON for scripts."""

import base64
from typing import TYPE_CHECKING, Any

from server.core.json import Json

if TYPE_CHECKING:
    from google.protobuf.message import Message


def as_document(message: "Message") -> Json:
    """A message as JSON: names in camelCase, 64-bit numbers as numbers, enums in lower case without their prefix.

    Fields without a value have their type's empty one; absent messages, and choices that were not made, are left out.
    """
    known = _well_known(message)
    if known is not None:
        return known[0]
    document: dict[str, Json] = {}
    for field in message.DESCRIPTOR.fields:
        if field.has_presence and not message.HasField(field.name):
            continue
        document[_camel(field.name)] = _field(field, getattr(message, field.name))
    return document


def enum_name(enum: Any, number: int) -> str:
    """`OUTCOME_WOULD_APPLY` of enum Outcome as `would-apply`; a number that this version does not know as digits."""
    value = enum.values_by_number.get(number)
    if value is None:
        return str(number)
    prefix = "".join(f"_{letter}" if letter.isupper() else letter for letter in enum.name).upper().lstrip("_")
    short: str = value.name.removeprefix(f"{prefix}_")
    return short.lower().replace("_", "-")


def _well_known(message: "Message") -> tuple[Json] | None:
    """The value that a message of google.protobuf stands for, if it does."""
    if not message.DESCRIPTOR.full_name.startswith("google.protobuf."):
        return None
    from google.protobuf.json_format import MessageToDict

    return (MessageToDict(message),)


def _field(field: Any, value: Any) -> Json:
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        of = entry.fields_by_name["value"]
        return {str(key): _value(of, value[key]) for key in sorted(value)}
    if field.is_repeated:
        return [_value(field, each) for each in value]
    return _value(field, value)


def _value(field: Any, value: Any) -> Json:
    if field.message_type is not None:
        return as_document(value)
    if field.enum_type is not None:
        return enum_name(field.enum_type, value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    given: Json = value
    return given


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.title() for word in rest)
