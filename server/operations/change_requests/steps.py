"""Take one step with a change request, in one transaction with whatever comes of it."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, TypeAlias

from sqlalchemy import Connection, Engine

from server.core.access import Action, Principal, Scope, allowing
from server.core.change_requests.machine import Happening, State, Step, advance
from server.core.errors import ApprovalNeeded, FlagstaffError, Moved, Outdated, PermissionDenied, Stale
from server.core.limits import TEXT_CHARS_MAX
from server.operations.requesting import read_each
from server.operations.writes import Outcome, Write, Written
from server.store.change_request_steps import check_known, find_known
from server.store.change_requests import StoredRequest, read_request, save_step
from server.store.engine import writing
from server.store.versions import ABSENT

SERVER: Final = "server"
"""Who does what happens by itself, as the audit trail names it."""


@dataclass(frozen=True, slots=True)
class Went:
    """How a change request is after something was done to it."""

    request: StoredRequest
    written: Written = field(default_factory=lambda: Written(Outcome.APPLIED))


Work: TypeAlias = Callable[[Connection], Went | FlagstaffError]
"""What is done in a transaction. An error that is returned, not raised, is raised after what was found out is kept."""


class _TakenBack(Exception):
    """Ends the transaction of a dry run."""

    def __init__(self, went: Went | FlagstaffError) -> None:
        self.went = went


def carry_out(engine: Engine, project: str, work: Work, *, dry_run: bool = False) -> Went:
    """Do something in one transaction of a project, which commits to it wait for; a dry run takes it back.

    Errors: what the work raises or returns.
    """
    try:
        with writing(engine, about=f"project/{project}") as connection:
            went = work(connection)
            if dry_run:
                raise _TakenBack(went)
    except _TakenBack as taken:
        went = taken.went
    if isinstance(went, FlagstaffError):
        raise went
    if not dry_run or went.written.outcome is Outcome.UNCHANGED:
        return went
    return replace(went, written=replace(went.written, outcome=Outcome.WOULD_APPLY))


def answered_before(
    connection: Connection, write: Write, *, project: str, id: str, happenings: Collection[Happening]
) -> Went | None:
    """The first answer to a call that is sent again. Errors: Conflict when its id was used for something else."""
    known = find_known(connection, project=project, request_id=write.request_id)
    if known is None:
        return None
    check_known(known, request_id=write.request_id, id=id, happenings=happenings)
    request = read_request(connection, project=project, id=id)
    # What was so already when it was applied had no revision.
    was_so = Happening.APPLIED in happenings and not request.progress.revisions
    return Went(request, Written(Outcome.UNCHANGED if was_so else Outcome.APPLIED, request.progress.revisions or {}))


def keep(connection: Connection, before: StoredRequest, after: StoredRequest, step: Step, *, request_id: str) -> Went:
    """Store a step."""
    after = replace(after, updated_at=step.at)
    save_step(connection, before, after, step, request_id=request_id)
    return Went(after)


def go_on(connection: Connection, request: StoredRequest, step: Step, *, request_id: str = "") -> Went:
    """Take a step that changes nothing but how far it has come. Errors: Refused when its state has no such step."""
    after = replace(request, progress=advance(request.progress, step))
    return keep(connection, request, after, step, request_id=request_id)


def note(connection: Connection, request: StoredRequest, error: FlagstaffError, *, now: datetime) -> None:
    """Keep what an error tells of a change request: that it is stale, or lacks approvals that it had."""
    text = str(error)[:TEXT_CHARS_MAX]
    if isinstance(error, Outdated):
        go_on(connection, request, Step(Happening.OUTDATED, SERVER, now, text))
    elif isinstance(error, ApprovalNeeded) and request.progress.state is State.APPROVED:
        go_on(connection, request, Step(Happening.LACKING, SERVER, now, text))


def moved_since(connection: Connection, request: StoredRequest) -> list[Moved]:
    """What a change request would change that is not at the version any more by which it was asked for."""
    moved: list[Moved] = []
    for environment, versions in request.base.items():
        found = read_each(connection, request.project, environment, things=versions.keys())
        moved += [
            Moved(environment, kind, key, _known(version), _known(found[kind, key]))
            for (kind, key), version in versions.items()
            if found[kind, key] != version
        ]
    return moved


def outdated(connection: Connection, request: StoredRequest) -> Outdated | None:
    """The error for a change request that does not fit any more; None while it fits."""
    moved = moved_since(connection, request)
    if not moved:
        return None
    told = "; ".join(str(each) for each in moved[:3])
    more = f"; and {len(moved) - 3} more" if len(moved) > 3 else ""
    return Outdated(f"change request {request.id} is stale: {told}{more}; ask for it anew and have it reviewed", moved)


def check_expected(request: StoredRequest, write: Write) -> None:
    """Refuse when it asks for something else by now than the caller read. Errors: Stale."""
    number = request.progress.content_number
    if write.expected_version not in (None, number):
        raise Stale(
            f"change request {request.id} has content {number}, expected {write.expected_version}; "
            "read what it asks for now"
        )


def may_everywhere(principal: Principal, action: Action, request: StoredRequest) -> bool:
    """Whether somebody may do something in every environment that a change request reaches."""
    return all(principal.may(action, Scope(request.project, each)) for each in request.base)


def may_somewhere(principal: Principal, action: Action, request: StoredRequest) -> bool:
    """Whether somebody may do something in at least one of them."""
    return any(principal.may(action, Scope(request.project, each)) for each in request.base)


def denied(principal: Principal, action: Action, request: StoredRequest) -> PermissionDenied:
    """The error for somebody who may not."""
    places = ", ".join(f"{request.project}/{each}" for each in request.base)
    roles = " or ".join(f"`{role}`" for role in allowing(action))
    return PermissionDenied(f"{principal.actor} may not {action.value} in {places}; it needs the role {roles} there")


def _known(version: int) -> int | None:
    return None if version == ABSENT else version
