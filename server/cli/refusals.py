"""Say why a server refused a call, in the words of its google.rpc details."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from server.core.errors import Problem
from server.core.json import Json

if TYPE_CHECKING:
    import grpc

_DETAILS: Final = "grpc-status-details-bin"
_NOT_REACHED: Final = ("UNAVAILABLE", "DEADLINE_EXCEEDED")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a call ended without its answer."""

    code: str
    """gRPC's name for it."""

    message: str
    problems: tuple[Problem, ...] = ()
    """What is wrong with the request, each with its path."""

    retry_after_s: float | None = None
    hint: str = ""

    @property
    def is_unreached(self) -> bool:
        """Whether the server, or the database behind it, could not be reached."""
        return self.code in _NOT_REACHED

    def described(self) -> dict[str, Json]:
        """As machines get it."""
        told: dict[str, Json] = {"code": self.code, "message": self.message}
        if self.problems:
            told["problems"] = [{"path": each.path, "message": each.message} for each in self.problems]
        if self.retry_after_s is not None:
            told["retryAfterS"] = self.retry_after_s
        if self.hint:
            told["hint"] = self.hint
        return told


def refusal_of(error: "grpc.RpcError", *, address: str) -> Refusal:
    """Read what a failed call ended with."""
    call: Any = error
    code, message = call.code().name, call.details() or ""
    problems, retry_after_s = _details(call)
    return Refusal(code, message, problems, retry_after_s, _hint(code, address, asked_to_wait=retry_after_s))


def _details(call: Any) -> tuple[tuple[Problem, ...], float | None]:
    from google.rpc import error_details_pb2, status_pb2

    problems: list[Problem] = []
    retry_after_s: float | None = None
    for name, value in call.trailing_metadata() or ():
        if name != _DETAILS:
            continue
        for detail in status_pb2.Status.FromString(value).details:
            violations, retry = error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
            if detail.Unpack(violations):
                problems += [Problem(each.field, each.description) for each in violations.field_violations]
            elif detail.Unpack(retry):
                retry_after_s = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
    return tuple(problems), retry_after_s


def _hint(code: str, address: str, *, asked_to_wait: float | None) -> str:
    match code:
        case "UNAVAILABLE" if asked_to_wait is None:
            return (
                f"is a server running at {address}? `flagstaff serve` starts one; --server or a profile names another, "
                "and --tls is for one that speaks TLS"
            )
        case "DEADLINE_EXCEEDED":
            return "the server did not answer in time; --timeout gives it longer, and a change may have been made"
        case "UNAUTHENTICATED":
            return "name a token by --token-file, FLAGSTAFF_TOKEN or a profile"
        case "UNIMPLEMENTED":
            return f"the server at {address} is of another version than this command"
    return ""
