"""Write google.rpc.Status details for errors, so that a client need not parse messages."""

from typing import Final

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from server.core.errors import FlagstaffError, InTheWay, InvalidDefinition, Limited, Outdated, StoreUnavailable
from server.rpc.status import Status

DETAILS_BYTES_MAX: Final = 4 * 1024
"""They travel as a header, base64-encoded, and clients accept 8 KiB of those in all."""

MOVED_SHOWN_MAX: Final = 10
IN_THE_WAY_CHARS_MAX: Final = 200
STORE_RETRY_S: Final = 1.0
"""When to ask again while the database is away: it is looked for about as often."""


def details_of(error: FlagstaffError, code: Status, message: str) -> bytes:
    """An encoded google.rpc.Status; empty when there is nothing to say beyond the message."""
    match error:
        case InvalidDefinition():
            return _fitting(error, code, message)
        case Outdated():
            return _encoded(code, message, _moved(error))
        case InTheWay():
            return _encoded(code, message, _in_the_way(error))
        case Limited():
            return _encoded(code, message, _retry(error.retry_after_s))
        case StoreUnavailable():
            return _encoded(code, message, _retry(STORE_RETRY_S))
    return b""


def retry_details(code: Status, message: str) -> bytes:
    """Details that say when to ask again, of a status that comes from no error of ours."""
    return _encoded(code, message, _retry(STORE_RETRY_S))


def _fitting(error: InvalidDefinition, code: Status, message: str) -> bytes:
    """As many field violations as there is room for."""
    violations = [
        error_details_pb2.BadRequest.FieldViolation(field=problem.path or "/", description=problem.message)
        for problem in error.problems
    ]
    while violations:
        encoded = _encoded(code, message, error_details_pb2.BadRequest(field_violations=violations))
        if len(encoded) <= DETAILS_BYTES_MAX:
            return encoded
        del violations[len(violations) // 2 :]
    return b""


def _moved(error: Outdated) -> error_details_pb2.PreconditionFailure:
    return error_details_pb2.PreconditionFailure(
        violations=[
            error_details_pb2.PreconditionFailure.Violation(
                type="VERSION", subject=f"{each.environment}/{each.kind}/{each.key}", description=str(each)
            )
            for each in error.moved[:MOVED_SHOWN_MAX]
        ]
    )


def _in_the_way(error: InTheWay) -> error_details_pb2.PreconditionFailure:
    return error_details_pb2.PreconditionFailure(
        violations=[
            error_details_pb2.PreconditionFailure.Violation(
                type=kind, subject=subject, description=said[:IN_THE_WAY_CHARS_MAX]
            )
            for kind, subject, said in error.things[:MOVED_SHOWN_MAX]
        ]
    )


def _retry(seconds: float) -> error_details_pb2.RetryInfo:
    whole = int(seconds)
    return error_details_pb2.RetryInfo(retry_delay=Duration(seconds=whole, nanos=int((seconds - whole) * 1e9)))


def _encoded(code: Status, message: str, detail: Message) -> bytes:
    packed = AnyMessage()
    packed.Pack(detail)
    encoded: bytes = status_pb2.Status(code=int(code), message=message, details=[packed]).SerializeToString()
    return encoded
