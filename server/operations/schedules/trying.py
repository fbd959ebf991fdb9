"""Try a scheduled change on what is there now, and tell all that stands in its way."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from sqlalchemy import Connection

from server.core.change_requests.approvals import Agreed, lacking
from server.core.change_requests.codec import Content
from server.core.change_requests.machine import Approval
from server.core.changes import Change
from server.core.edits import ArchiveFlag
from server.core.environments import Environment
from server.core.errors import FlagstaffError, PermissionDenied, Refused, StoreCorrupt, StoreUnavailable
from server.core.events import Event
from server.core.policies import Permit
from server.core.schedules.conflicts import ConflictKind, Planned, ScheduleConflict, conflict_of, overlaps
from server.core.schedules.fields import Field, fields_of
from server.core.schedules.timing import Timing, due_instants
from server.operations.requesting import Tried, parts_of, try_parts
from server.operations.writes import Write, Writer
from server.store.change_requests import Versions
from server.store.commit import Part
from server.store.saving import Cause
from server.store.schedule_subjects import pending_about


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a scheduled change would do now, and what stands in its way."""

    tried: Tried | None
    """None when it cannot be made as things are now."""

    conflicts: Sequence[ScheduleConflict]

    @property
    def blocking(self) -> list[ScheduleConflict]:
        """Those for which a schedule is not kept."""
        return [each for each in self.conflicts if each.blocking]


class InTheWayHere(Exception):
    """Ends a commit by what a permit found in the way; carries it."""

    def __init__(self, conflict: ScheduleConflict) -> None:
        super().__init__(conflict.text)
        self.conflict = conflict


def content_fields(content: Content) -> frozenset[Field]:
    """What a scheduled change sets."""
    return frozenset(each for part in content.parts for each in fields_of(part.environment, part.changes))


def timed_parts(content: Content, base: Versions, now: datetime) -> list[Part]:
    """A scheduled change as a commit takes it at an instant."""
    return [replace(part, changes=[_timed(each, now) for each in part.changes]) for part in parts_of(content, base)]


def _timed(change: Change, now: datetime) -> Change:
    # It says when the flag was archived, which is not when somebody scheduled that.
    return replace(change, at=now) if isinstance(change, ArchiveFlag) else change


@dataclass(frozen=True, slots=True)
class NobodyYet:
    """The approvals of what is only just asked for."""

    authors: tuple[str, ...]
    approvals: tuple[Approval, ...] = ()


@dataclass(frozen=True, slots=True)
class Asked:
    """A scheduled change with what it takes to try or to make it."""

    content: Content
    base: Versions
    write: Write
    """In whose name, and when, so that access and freezes are asked as of then."""

    why: Cause
    agreed: Agreed
    """Whose approvals count."""


def typed_permit(writer: Writer, asked: Asked) -> Permit:
    """Who may, whether those agree who are asked, and all policies; what refuses says of which kind it is.

    Errors, when it is asked: InTheWayHere.
    """
    access = writer.access(asked.write)
    policies = [policy(asked.write) for policy in writer.policies]

    def permit(environment: Environment, events: Sequence[Event]) -> None:
        with _of_kind(ConflictKind.NOT_ALLOWED, environment):
            access(environment, events)
        needed = _needed(writer, asked, environment, events)
        if needed:
            raise InTheWayHere(ScheduleConflict(ConflictKind.APPROVAL_MISSING, needed, environment.key))
        for policy in policies:
            with _of_kind(ConflictKind.FROZEN, environment):
                policy(environment, events)

    return permit


class _of_kind:
    """Turns what is refused in the block into a conflict of a kind."""

    def __init__(self, kind: ConflictKind, environment: Environment) -> None:
        self._kind, self._environment = kind, environment

    def __enter__(self) -> None:
        return None

    def __exit__(self, _type: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, FlagstaffError) and not isinstance(error, StoreUnavailable | StoreCorrupt):
            raise InTheWayHere(ScheduleConflict(self._kind, str(error), self._environment.key)) from None


def _needed(writer: Writer, asked: Asked, environment: Environment, events: Sequence[Event]) -> str:
    return lacking(asked.agreed, environment, events, who_is=writer.who_is)


def attempt(
    connection: Connection,
    writer: Writer,
    asked: Asked,
    *,
    at: datetime,
    timing: Timing | None = None,
    id: str = "",
    parts: Sequence[Part] | None = None,
) -> Attempt:
    """Try it on what is there now, with freezes and approvals as of the instant at which it is due.

    With a `timing`, schedules that set the same fields are looked for, too. `parts` may ask for versions of now.
    Errors: PermissionDenied when the principal may not make the change; StoreUnavailable, StoreCorrupt.
    """
    found: list[ScheduleConflict] = []
    then = replace(asked, write=replace(asked.write, now=at))
    watching = _Watching(writer, then, found)
    tried: Tried | None = None
    try:
        tried = try_parts(
            connection,
            parts or timed_parts(asked.content, asked.base, at),
            asked.why,
            replace_variants=asked.content.replace_variants,
            permit=watching.permit,
        )
    except (PermissionDenied, StoreUnavailable, StoreCorrupt):
        raise
    except FlagstaffError as error:
        found.append(conflict_of(error))
    for key, environment in ({} if tried is None else tried.asking).items():
        needed = _needed(writer, then, environment, tried.events[key] if tried else ())
        if needed:
            found.append(ScheduleConflict(ConflictKind.APPROVAL_MISSING, needed, key, blocking=False))
    if timing is not None:
        found += _overlaps(connection, asked, timing, id=id, now=asked.write.now)
    return Attempt(tried, found)


@dataclass(frozen=True, slots=True)
class _Watching:
    """Lets through what is only to be told."""

    writer: Writer
    asked: Asked
    found: list[ScheduleConflict] = field(default_factory=list)

    def permit(self, environment: Environment, events: Sequence[Event]) -> None:
        self.writer.access(self.asked.write)(environment, events)
        for policy in self.writer.policies:
            try:
                policy(self.asked.write)(environment, events)
            except Refused as error:
                # It may be another window by then, and is asked again.
                told = ScheduleConflict(ConflictKind.FROZEN, str(error), environment.key, blocking=False)
                self.found.append(told)


def _overlaps(
    connection: Connection, asked: Asked, timing: Timing, *, id: str, now: datetime
) -> list[ScheduleConflict]:
    mine = content_fields(asked.content)
    things: dict[str, set[tuple[str, str]]] = {}
    for each in mine:
        things.setdefault(each.environment, set()).add((each.kind, each.key))
    others = pending_about(connection, project=asked.why.project, things=things)
    planned = [Planned(each.id, each.fields, due_instants(each.timing, now)) for each in others if each.id != id]
    return overlaps(Planned(id, mine, due_instants(timing, now)), planned)
