"""Map what went wrong to gRPC's status codes, once for every service and door."""

from enum import IntEnum
from typing import Final

from server.core.errors import Code
from server.core.resolution import ErrorCode


class Status(IntEnum):
    """gRPC's status codes, by their numbers on the wire."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


STATUS_BY_CODE: Final[dict[Code, Status]] = {code: Status[code.name] for code in Code}
"""For errors that Flagstaff raises. A code without a namesake among the statuses fails at import."""

STATUS_BY_ERROR_CODE: Final[dict[ErrorCode, Status]] = {
    ErrorCode.FLAG_NOT_FOUND: Status.NOT_FOUND,
    ErrorCode.TYPE_MISMATCH: Status.INVALID_ARGUMENT,
    ErrorCode.PARSE_ERROR: Status.DATA_LOSS,
    ErrorCode.INVALID_CONTEXT: Status.INVALID_ARGUMENT,
    ErrorCode.TARGETING_KEY_MISSING: Status.INVALID_ARGUMENT,
    # Not UNKNOWN as flagd: its providers retry UNKNOWN for up to 13 seconds, and read INTERNAL as GENERAL at once.
    ErrorCode.GENERAL: Status.INTERNAL,
}
"""For answers with reason ERROR, where a protocol has no room for them in its reply (flagd's evaluation)."""
