"""Say over HTTP what went wrong, as RFC 9457 has it: `application/problem+json`.

`code` is the error's code in gRPC's words; `errors` has every field that is at fault, as a JSON pointer into the body.
"""

from collections.abc import Mapping
from http import HTTPStatus
from math import ceil
from typing import Any, Final

from server.core.errors import (
    Code,
    FlagstaffError,
    InTheWay,
    InvalidDefinition,
    Limited,
    Refused,
    StoreUnavailable,
    Unauthenticated,
)
from server.core.json import Json
from server.web.replies import RETRY_AFTER_S, HeaderLines, Reply, compact

MEDIA_TYPE: Final = b"application/problem+json"
ERRORS_MAX: Final = 100
"""Fields that are told; a hostile body could have thousands."""

STATUS_BY_CODE: Final[Mapping[Code, int]] = {
    Code.INVALID_ARGUMENT: 400,
    Code.UNAUTHENTICATED: 401,
    Code.PERMISSION_DENIED: 403,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.ABORTED: 409,
    Code.FAILED_PRECONDITION: 409,
    Code.RESOURCE_EXHAUSTED: 413,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
}
"""For errors that Flagstaff raises. Limited is 429."""

CHALLENGE: Final = (b"www-authenticate", b"Bearer")


def problem(error: FlagstaffError, **more: Json) -> Reply:
    """The answer to what was refused; `more` are further members of it."""
    status = 429 if isinstance(error, Limited) else STATUS_BY_CODE[error.code]
    headers: HeaderLines = ()
    match error:
        case Limited():
            headers = (_retry(error.retry_after_s),)
        case StoreUnavailable():
            headers = (_retry(RETRY_AFTER_S),)
        case Unauthenticated():
            headers = (CHALLENGE,)
        case InvalidDefinition():
            more["errors"] = [_field(each.path, each.message) for each in error.problems[:ERRORS_MAX]]
        case InTheWay():
            more["errors"] = [{"kind": kind, "about": about, "detail": said} for kind, about, said in error.things]
    if isinstance(error, Refused):
        more["outcome"] = "rejected"
    return told(status, str(error), headers=headers, code=error.code.value, **more)


def told(status: int, detail: str, *, headers: HeaderLines = (), **more: Json) -> Reply:
    """A problem of this status."""
    members: dict[str, Any] = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    return Reply(status, compact({**members, "detail": detail, **more}), headers, MEDIA_TYPE)


def _field(pointer: str, detail: str) -> dict[str, str]:
    return {"pointer": f"#{pointer}", "detail": detail}


def _retry(after_s: float) -> tuple[bytes, bytes]:
    return b"retry-after", str(max(1, ceil(after_s))).encode()
