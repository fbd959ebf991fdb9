"""Make the changes that were asked for: now, or when their time has come, each exactly once.

The change, the step that says so and their audit entries are one transaction, in which the state was read. So a change
request that two processes want to apply at once is applied by one, and the other finds it applied.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection

from server.core.access import Principal, Scope
from server.core.change_requests.approvals import lacking
from server.core.change_requests.machine import CLOSED, Happening, State, Step, advance
from server.core.environments import Environment
from server.core.errors import ApprovalNeeded, FlagstaffError, Outdated, StoreCorrupt, StoreUnavailable
from server.core.events import Event
from server.core.limits import TEXT_CHARS_MAX
from server.core.policies import Permit
from server.operations.change_requests.steps import (
    SERVER,
    Went,
    answered_before,
    carry_out,
    check_expected,
    denied,
    go_on,
    keep,
    may_everywhere,
    note,
    outdated,
)
from server.operations.requesting import parts_of
from server.operations.touching import touched
from server.operations.writes import BYPASS, Write, Writer, cause_of, may_bypass, written_of
from server.store.change_requests import StoredRequest, content_of, read_request
from server.store.commit import commit_within
from server.store.engine import reading


@dataclass(frozen=True, slots=True)
class Applying:
    """What makes the changes of one database's change requests."""

    writer: Writer

    def apply(self, write: Write, *, project: str, id: str) -> Went:
        """Make the change that was asked for.

        Errors: ApprovalNeeded, saying what is lacking; Outdated with everything that moved; Refused in another state;
        NotFound; PermissionDenied; Conflict for a request id that was used for something else; what policies raise; as
        `commit`.
        """

        def work(connection: Connection) -> Went | FlagstaffError:
            again = answered_before(connection, write, project=project, id=id, happenings=[Happening.APPLIED])
            if again is not None:
                return again
            request = read_request(connection, project=project, id=id)
            asked = replace(write, action=request.progress.action)
            if not may_everywhere(write.principal, asked.action, request):
                raise denied(write.principal, asked.action, request)
            check_expected(request, write)
            advance(request.progress, Step(Happening.APPLIED, write.principal.actor, write.now))
            stale = outdated(connection, request)
            if stale is not None:
                note(connection, request, stale, now=write.now)
                return stale
            savepoint = connection.begin_nested()
            try:
                went = self._apply(connection, request, asked)
            except (ApprovalNeeded, Outdated) as error:
                savepoint.rollback()
                note(connection, request, error, now=write.now)
                return error
            savepoint.commit()
            return went

        return carry_out(self.writer.engine, project, work, dry_run=write.dry_run)

    def _apply(self, connection: Connection, request: StoredRequest, write: Write) -> Went:
        content, reason = content_of(request), write.reason or request.title
        commit = replace(write, reason=reason, cause=f"change-request:{request.id}", request_id="")
        bypassed: list[str] = []
        committed = commit_within(
            connection,
            parts=parts_of(content, request.base),
            why=cause_of(commit, request.project),
            replace_variants=content.replace_variants,
            permit=self.writer.permit(commit, self._approvals(request, write, bypassed)),
        )
        written = written_of(committed, dry_run=False)
        text = f"{BYPASS}: {write.reason}" if bypassed else write.reason
        step = Step(Happening.APPLIED, write.principal.actor, write.now, text, revisions=written.revisions)
        applied = replace(request, progress=advance(request.progress, step))
        waiting = touched(connection, request.project, written.events)
        told = replace(written, warnings=(*written.warnings, *waiting))
        return replace(keep(connection, request, applied, step, request_id=write.request_id), written=told)

    def _approvals(self, request: StoredRequest, write: Write, bypassed: list[str]) -> Permit:
        def permit(environment: Environment, events: Sequence[Event]) -> None:
            _refuse_unreviewed(request, environment, events)
            needed = lacking(request.progress, environment, events, who_is=self.writer.who_is)
            if needed and write.bypass_approval:
                may_bypass(write, Scope(environment.project, environment.key), needed)
                bypassed.append(environment.key)
            elif needed:
                raise ApprovalNeeded(f"change request {request.id} cannot be applied yet: {needed}")

        return permit

    def apply_due(self, now: datetime, *, project: str, id: str) -> None:
        """Apply a change request whose time has come; what refuses it is noted, and it is not tried again by itself.

        Errors: StoreUnavailable, StoreCorrupt; it is still due then.
        """
        with reading(self.writer.engine) as connection:
            progress = read_request(connection, project=project, id=id).progress
        if progress.apply_at is None or progress.apply_at > now:
            return
        recorded = Principal(progress.scheduled_by, progress.scheduled_grants)
        principal = self.writer.who_is(progress.scheduled_by) or recorded
        try:
            self.apply(Write(principal, progress.action, now), project=project, id=id)
        except (StoreUnavailable, StoreCorrupt):
            raise
        except FlagstaffError as error:
            self._note_failure(now, project, id, str(error)[:TEXT_CHARS_MAX])

    def _note_failure(self, now: datetime, project: str, id: str, why: str) -> None:
        def work(connection: Connection) -> Went:
            request = read_request(connection, project=project, id=id)
            # The attempt may have found it stale, which took its time away.
            if request.progress.apply_at is None or request.progress.apply_at > now:
                return Went(request)
            return go_on(connection, request, Step(Happening.FAILED, SERVER, now, why))

        carry_out(self.writer.engine, project, work)

    def outdate(self, now: datetime, *, project: str, id: str) -> None:
        """Look whether a change request that waits still fits, and note it when it does not."""

        def work(connection: Connection) -> Went:
            request = read_request(connection, project=project, id=id)
            if request.progress.state in (State.OPEN, State.APPROVED):
                stale = outdated(connection, request)
                if stale is not None:
                    note(connection, request, stale, now=now)
            return Went(request)

        carry_out(self.writer.engine, project, work)

    def expire(self, now: datetime, *, project: str, id: str, since: datetime) -> None:
        """End a change request to which nothing happened since an instant."""

        def work(connection: Connection) -> Went:
            request = read_request(connection, project=project, id=id)
            if request.updated_at > since or request.progress.state in CLOSED:
                return Went(request)
            return go_on(connection, request, Step(Happening.EXPIRED, SERVER, now))

        carry_out(self.writer.engine, project, work)


def _refuse_unreviewed(request: StoredRequest, environment: Environment, events: Sequence[Event]) -> None:
    """Refuse what the change did not reach when it was asked for: an environment that has the flag only since then."""
    known = request.base.get(environment.key, {})
    for event in events:
        if event.kind != "project" and (event.kind, event.key) not in known:
            raise Outdated(
                f"change request {request.id} is stale: it would change {event.kind} {event.key!r} in "
                f"{environment.key!r} too by now, which nobody has seen; ask for it anew and have it reviewed"
            )
