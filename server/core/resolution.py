"""The answer to an evaluation: value, variant, reason, error, metadata."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from server.core.flags import ValueType
from server.core.json import Json, Scalar


class Reason(StrEnum):
    """Why this value: OpenFeature's resolution reasons, those that flagd's clients know."""

    STATIC = "STATIC"
    TARGETING_MATCH = "TARGETING_MATCH"
    DEFAULT = "DEFAULT"
    DISABLED = "DISABLED"
    ERROR = "ERROR"


class ErrorCode(StrEnum):
    """OpenFeature's error codes that a server can answer with."""

    FLAG_NOT_FOUND = "FLAG_NOT_FOUND"
    PARSE_ERROR = "PARSE_ERROR"
    TYPE_MISMATCH = "TYPE_MISMATCH"
    INVALID_CONTEXT = "INVALID_CONTEXT"
    TARGETING_KEY_MISSING = "TARGETING_KEY_MISSING"
    GENERAL = "GENERAL"


@dataclass(frozen=True, slots=True, eq=False)
class Resolution:
    """One answer of one flag; made when the flag is compiled and shared by every evaluation that gives it.

    Two resolutions are the same answer when they are the same object.
    """

    flag_key: str
    type: ValueType | None
    """The flag's type; None when there is no such flag."""

    value: Json
    """The variant's value. None means absent: the caller uses its own default."""

    variant: str | None
    reason: Reason
    metadata: Mapping[str, Scalar] = field(default_factory=dict)
    """Flag-set metadata under the flag's own."""

    error_code: ErrorCode | None = None
    error_message: str = ""
    wire: dict[str, Any] = field(default_factory=dict, repr=False)
    """Encoded replies by protocol, filled by the transport at first need; never read here."""
