"""Say where a page of a list ended that has the newest first."""

import base64
import binascii
import json
from datetime import datetime
from typing import Final

from server.core.errors import InvalidRequest

PAGE_SIZE: Final = 50
PAGE_SIZE_MAX: Final = 100


def page_size(given: int) -> int:
    """How many a page has. Errors: InvalidRequest."""
    if not 0 <= given <= PAGE_SIZE_MAX:
        raise InvalidRequest(f"page_size is {given}, expected 1 to {PAGE_SIZE_MAX}, or 0 for {PAGE_SIZE}")
    return given or PAGE_SIZE


def write_token(created_at: datetime, id: str) -> str:
    """Where the next page begins: after what was made then and has this id."""
    return base64.urlsafe_b64encode(json.dumps([created_at.isoformat(), id]).encode()).decode()


def read_token(token: str) -> tuple[datetime, str] | None:
    """What `write_token` wrote; None without one. Errors: InvalidRequest."""
    if not token:
        return None
    try:
        at, id = json.loads(base64.urlsafe_b64decode(token))
        instant = datetime.fromisoformat(at)
        if instant.tzinfo is None or not isinstance(id, str):
            raise ValueError("no place")
        return instant, id
    except (binascii.Error, ValueError, TypeError, AttributeError):
        raise InvalidRequest("page_token is not one that was given out; begin without it") from None
