"""Details of errors, as clients read them."""

from google.rpc import error_details_pb2, status_pb2

from server.core.errors import FlagstaffError, InvalidDefinition, Limited, NotFound, Problem, StoreUnavailable
from server.rpc.call import abort_for
from server.rpc.details import DETAILS_BYTES_MAX


def _details(error: FlagstaffError) -> status_pb2.Status:
    return status_pb2.Status.FromString(abort_for(error, "/a.B/C").details)


def test_each_problem_is_a_violation_of_its_field() -> None:
    """A client can show each problem beside the field that it is about."""
    told = _details(InvalidDefinition([Problem("/rules/0", "is bad"), Problem("", "is worse")]))
    request = error_details_pb2.BadRequest()

    assert told.details[0].Unpack(request)
    assert [("/rules/0", "is bad"), ("/", "is worse")] == [
        (violation.field, violation.description) for violation in request.field_violations
    ]


def test_a_thousand_problems_fit_into_a_header() -> None:
    """What has no room is left out; the first problems are there."""
    error = InvalidDefinition([Problem(f"/flags/{number}", "x" * 50) for number in range(1_000)])
    request = error_details_pb2.BadRequest()

    assert len(abort_for(error, "/a.B/C").details) <= DETAILS_BYTES_MAX
    assert _details(error).details[0].Unpack(request)
    assert "/flags/0" == request.field_violations[0].field


def test_who_is_limited_hears_when_to_come_again() -> None:
    """Limits, and a database that is away, tell when to retry."""
    retry = error_details_pb2.RetryInfo()

    assert _details(Limited("too many", 1.5)).details[0].Unpack(retry)
    assert (1, 500_000_000) == (retry.retry_delay.seconds, retry.retry_delay.nanos)
    assert _details(StoreUnavailable("gone")).details[0].Unpack(retry)
    assert b"" == abort_for(NotFound("nothing"), "/a.B/C").details
