"""The tree of errors that Flagstaff raises; every leaf has a code that a transport maps once.

FlagstaffError
  InvalidDefinition   every problem of a definition, each with its path
  NotFound            a project, environment, flag or segment that is not there
  Conflict            the thing exists already
  Stale               it changed since it was read
    Outdated          so did several things that somebody asked to change
  InvalidRequest      an argument that cannot be understood
  TooLarge            a bound of core/limits.py was passed
  LeaseLost           another process may do now what this one did alone
  Refused             the state of things does not allow it: dependents, a freeze
    ApprovalNeeded    others must agree first
    InTheWay          several things of known kinds stand in the way
  Unauthenticated     nobody knows who is calling
    Unrecognised      a whole token that is not known here, perhaps not yet
  PermissionDenied    the caller is known and may not do this
  Limited             too many requests; may be repeated later
  StoreUnavailable    the database cannot be reached or refuses to write
  StoreCorrupt        the database is there but cannot be trusted
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar


class Code(StrEnum):
    """What went wrong, in the words of gRPC's status codes."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    ABORTED = "ABORTED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    UNAVAILABLE = "UNAVAILABLE"
    DATA_LOSS = "DATA_LOSS"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a definition, and where.

    Shapes: path is an RFC 6901 JSON pointer into the document that was read ("" is its root).
    """

    path: str
    message: str
    warning: bool = False
    """Flagd would only warn about it, so a lenient import accepts it."""

    def __str__(self) -> str:
        return f"{self.path or '/'}: {self.message}"


class FlagstaffError(Exception):
    """Anything that Flagstaff refuses; the message says what, which thing, and what helps."""

    code: ClassVar[Code] = Code.INVALID_ARGUMENT


class InvalidDefinition(FlagstaffError):
    """A definition that was refused; carries every problem that was found, not only the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class InvalidRequest(FlagstaffError):
    """An argument that cannot be understood or does not fit."""


class NotFound(FlagstaffError):
    """A project, environment, flag, segment or revision that does not exist."""

    code = Code.NOT_FOUND


class Conflict(FlagstaffError):
    """The thing is there already."""

    code = Code.ALREADY_EXISTS


class Stale(FlagstaffError):
    """The thing changed since the caller read it; read it again and repeat."""

    code = Code.ABORTED


@dataclass(frozen=True, slots=True)
class Moved:
    """One thing that is not at the version by which it was known; None: it was not there, or is not."""

    environment: str
    kind: str
    key: str
    expected: int | None
    found: int | None

    def __str__(self) -> str:
        """Say it in words."""
        was = "did not exist" if self.expected is None else f"had version {self.expected}"
        now = "does not exist any more" if self.found is None else f"has version {self.found} now"
        return f"{self.kind} {self.key!r} in {self.environment!r} {was} and {now}"


class Outdated(Stale):
    """Things changed since somebody asked to change them; carries each."""

    def __init__(self, message: str, moved: Sequence[Moved] = ()) -> None:
        super().__init__(message)
        self.moved = tuple(moved)


class TooLarge(FlagstaffError):
    """A bound of core/limits.py was passed; the message has its figure."""

    code = Code.RESOURCE_EXHAUSTED


class LeaseLost(FlagstaffError):
    """What only one process may do at a time is another's now; nothing was done."""

    code = Code.ABORTED


class Refused(FlagstaffError):
    """The state of things does not allow it; the message says what stands in the way."""

    code = Code.FAILED_PRECONDITION


class ApprovalNeeded(Refused):
    """Others must agree first; the message says how many, and where."""


class InTheWay(Refused):
    """Several things stand in the way; carries what kind each is of, what it is about, and what is said of it."""

    def __init__(self, message: str, things: Sequence[tuple[str, str, str]]) -> None:
        super().__init__(message)
        self.things = tuple(things)


class Unauthenticated(FlagstaffError):
    """Nobody knows who is calling: no credentials, or ones that are not valid (any more)."""

    code = Code.UNAUTHENTICATED


class Unrecognised(Unauthenticated):
    """A token that is whole and not known here; another process may have made it a moment ago."""

    def __init__(self, message: str, mark: bytes) -> None:
        """Shapes: mark is a digest by which the same token is told when it comes again, and nothing else."""
        super().__init__(message)
        self.mark = mark


class PermissionDenied(FlagstaffError):
    """The caller is known and has no role that allows this here."""

    code = Code.PERMISSION_DENIED


class Limited(FlagstaffError):
    """Too many requests from one caller. Units: retry_after_s seconds until the next one may be taken."""

    code = Code.RESOURCE_EXHAUSTED

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StoreUnavailable(FlagstaffError):
    """The database cannot be reached, is locked for too long, or has no room; nothing was written."""

    code = Code.UNAVAILABLE


class StoreCorrupt(FlagstaffError):
    """The database answers but its schema or content cannot be trusted."""

    code = Code.DATA_LOSS
