"""Turn instants into protobuf's, and back."""

from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from server.core.definitions.fields import write_instant
from server.core.errors import InvalidRequest


def timestamp(at: datetime) -> Timestamp:
    """An instant for a message."""
    message = Timestamp()
    message.FromDatetime(at.astimezone(UTC))
    return message


def instant(message: Any, field: str) -> datetime:
    """An instant from a message, to the microsecond. Errors: InvalidRequest, naming the field."""
    try:
        at: datetime = message.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise InvalidRequest(f"{field} is not an instant from year 1 to 9999") from None
    return at


def document_instant(given: Timestamp) -> str:
    """An instant as documents have it; one that is out of range as a text that their reader refuses, with its path."""
    try:
        return write_instant(given.ToDatetime(tzinfo=UTC))
    except (ValueError, OverflowError):
        return f"{given.seconds} seconds"
