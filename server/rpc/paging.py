"""Read which page of a list is wanted, and name the next one."""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol, TypeVar

from server.core.errors import InvalidRequest
from server.store.segments import KeyPage

PAGE_SIZE: Final = 100
PAGE_SIZE_MAX: Final = 1_000
LONG_SIZE: Final = 50
LONG_SIZE_MAX: Final = 100
"""Of lists whose entries are long: change requests, schedules, releases, launch plans."""

_NOT_OURS: Final = "page_token is not one of this list; send the next_page_token of the page before"
_DIGITS_MAX: Final = 19
"""No database counts further."""

Item = TypeVar("Item")


class ListRequest(Protocol):
    """What all requests for a list have."""

    page_size: int
    page_token: str


def size_of(request: ListRequest, *, usual: int = PAGE_SIZE, most: int = PAGE_SIZE_MAX) -> int:
    """How many are wanted. Errors: InvalidRequest."""
    if not 0 <= request.page_size <= most:
        raise InvalidRequest(f"page_size is {request.page_size}, expected 0 to {most}")
    return request.page_size or usual


def write_token(text: str) -> str:
    """Where a page ended, as its reader gets it."""
    return base64.urlsafe_b64encode(text.encode()).decode("ascii")


def read_token(token: str) -> str | None:
    """Where the page before ended; None when this is the first. Errors: InvalidRequest."""
    if not token:
        return None
    try:
        return base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise InvalidRequest(_NOT_OURS) from None


def write_place(created_at: datetime, id: str) -> str:
    """Where a page of a list ended that has the newest first."""
    return write_token(json.dumps([created_at.isoformat(), id]))


def read_place(token: str) -> tuple[datetime, str] | None:
    """After what was made when, and has which id, a page of such a list begins. Errors: InvalidRequest."""
    text = read_token(token)
    if text is None:
        return None
    try:
        at, id = json.loads(text)
        created_at = datetime.fromisoformat(at)
        if created_at.tzinfo is None or not isinstance(id, str):
            raise ValueError("no place")
    except (ValueError, TypeError):
        raise InvalidRequest(_NOT_OURS) from None
    return created_at, id


def read_number(token: str) -> int | None:
    """Before which entry of a numbered list a page begins; None when this is the first. Errors: InvalidRequest."""
    if not token:
        return None
    if not (token.isascii() and token.isdigit() and len(token) < _DIGITS_MAX):
        raise InvalidRequest("page_token is not one that this method gave; leave it out to begin anew")
    return int(token)


def key_page(request: Any, *, text: str = "") -> KeyPage:
    """A page of what is listed by its key. Errors: InvalidRequest."""
    if request.order_by not in ("", "key", "key asc", "key desc"):
        raise InvalidRequest(f"order_by is {request.order_by!r}, expected key or key desc")
    return KeyPage(size_of(request), read_token(request.page_token), request.order_by == "key desc", text)


@dataclass(frozen=True, slots=True)
class Paged:
    """One page of a short list that was read whole."""

    items: Sequence[Any]
    next_page_token: str
    total_size: int


def paged(items: Sequence[Item], request: Any, *, key: Callable[[Item], str]) -> Paged:
    """The page that is wanted. Errors: InvalidRequest."""
    page = key_page(request)
    ordered = sorted(items, key=key, reverse=page.descending)
    after = page.after
    if after is not None:
        ordered = [item for item in ordered if (key(item) < after if page.descending else key(item) > after)]
    chosen = ordered[: page.size]
    more = len(ordered) > page.size
    return Paged(chosen, write_token(key(chosen[-1])) if more else "", len(items))
