"""Look at change requests, talk about them, agree or not, and ask for something else."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from sqlalchemy import Connection

from server.core.access import Action, Principal, Scope
from server.core.change_requests.approvals import approvers, lacking, may_approve
from server.core.change_requests.machine import CLOSED, Happening, Step, advance
from server.core.errors import FlagstaffError, InvalidRequest, Moved, Refused, TooLarge
from server.core.limits import TEXT_CHARS_MAX
from server.operations.change_requests.steps import (
    Went,
    answered_before,
    carry_out,
    check_expected,
    denied,
    go_on,
    keep,
    may_everywhere,
    may_somewhere,
    moved_since,
    note,
    outdated,
)
from server.operations.requesting import content_from, lines_of, try_content
from server.operations.writes import Write, Writer, cause_of, require
from server.store.change_request_steps import StoredStep, read_steps
from server.store.change_requests import StoredRequest, Wanted, content_of, content_text, list_requests, read_request
from server.store.commit import Part
from server.store.engine import reading
from server.store.environments import find_environment

SCHEDULED_AHEAD_MAX: Final = timedelta(days=366)

May: TypeAlias = Callable[[Principal, StoredRequest], None]
"""Errors: PermissionDenied."""


@dataclass(frozen=True, slots=True)
class Asked:
    """How many approvals an environment asks for by its policy of now, and whose count."""

    environment: str
    needed_count: int
    approvers: Sequence[str]


@dataclass(frozen=True, slots=True)
class Detail:
    """A change request with all that a reviewer looks at."""

    request: StoredRequest
    steps: Sequence[StoredStep]
    approvals: Sequence[Asked]
    moved: Sequence[Moved]


@dataclass(frozen=True, slots=True)
class Page:
    """Some change requests, and how many there are in all."""

    requests: Sequence[StoredRequest]
    count: int


@dataclass(frozen=True, slots=True)
class Review:
    """What people do with the change requests of one database. Writes are for one of a project, by its id.

    Every write but these has further Errors: NotFound; PermissionDenied; Refused in a state that has no such step;
    Conflict for a request id that was used for something else; Stale when its content is another than the caller
    expects.
    """

    writer: Writer

    def read(self, principal: Principal, *, project: str, id: str) -> StoredRequest:
        """A change request. Errors: NotFound; PermissionDenied."""
        with reading(self.writer.engine) as connection:
            request = read_request(connection, project=project, id=id)
        if not may_everywhere(principal, Action.READ, request):
            raise denied(principal, Action.READ, request)
        return request

    def read_detail(self, principal: Principal, *, project: str, id: str) -> Detail:
        """All that is to be known of a change request now. Errors: as `read`."""
        with reading(self.writer.engine) as connection:
            request = read_request(connection, project=project, id=id)
            if not may_everywhere(principal, Action.READ, request):
                raise denied(principal, Action.READ, request)
            is_open = request.progress.state not in CLOSED
            stored = [find_environment(connection, project=project, environment=each) for each in request.base]
            return Detail(
                request,
                read_steps(connection, project=project, id=id),
                [
                    Asked(
                        each.environment.key,
                        each.environment.approval_policy.approvals,
                        approvers(request.progress, each.environment, self.writer.who_is),
                    )
                    for each in stored
                    if is_open and each is not None and each.environment.approval_policy.approvals
                ],
                moved_since(connection, request) if is_open else [],
            )

    def page(
        self, principal: Principal, *, project: str, wanted: Wanted, after: tuple[datetime, str] | None, limit: int
    ) -> Page:
        """Those that the principal may read, the newest first. Errors: PermissionDenied."""
        require(principal, Action.READ, Scope(project, wanted.environment))
        found: list[StoredRequest] = []
        with reading(self.writer.engine) as connection:
            while True:
                page, count = list_requests(connection, project=project, wanted=wanted, after=after, limit=limit)
                found += [each for each in page if may_everywhere(principal, Action.READ, each)]
                if len(page) < limit or len(found) >= limit:
                    return Page(found[:limit], count)
                after = page[-1].created_at, page[-1].id

    def comment(self, write: Write, *, project: str, id: str, text: str) -> Went:
        """Say something. Errors: InvalidRequest without a text."""
        if not text.strip():
            raise InvalidRequest("a comment needs a text")
        return self._step(write, project, id, _Wish(Happening.COMMENTED, _somewhere(Action.PROPOSE), text))

    def withdraw(self, write: Write, *, project: str, id: str, text: str) -> Went:
        """Take it back: for those who asked for it, and who administers everything that it would change."""
        return self._step(write, project, id, _Wish(Happening.WITHDRAWN, _author_or_administrator, text))

    def reject(self, write: Write, *, project: str, id: str, text: str) -> Went:
        """Say no, and why. Errors: InvalidRequest without a text."""
        if not text.strip():
            raise InvalidRequest("a rejection needs a text that says why")
        return self._step(write, project, id, _Wish(Happening.REJECTED, _somewhere(Action.APPROVE), text))

    def schedule(self, write: Write, *, project: str, id: str, at: datetime) -> Went:
        """Have it applied at an instant, if it has its approvals then. Errors: InvalidRequest for another instant."""
        if not write.now < at <= write.now + SCHEDULED_AHEAD_MAX:
            raise InvalidRequest(f"{at.isoformat()} is not within a year from now, when a change can be scheduled")
        return self._step(write, project, id, _Wish(Happening.SCHEDULED, _maker, write.reason, at))

    def unschedule(self, write: Write, *, project: str, id: str) -> Went:
        """Leave it to somebody to apply it."""
        return self._step(write, project, id, _Wish(Happening.UNSCHEDULED, _maker, write.reason))

    def approve(self, write: Write, *, project: str, id: str, text: str) -> Went:
        """Say yes to what it asks for now.

        Errors: Refused when this principal's approval does not count, and why; Outdated with all that moved.
        """
        _check_length(text)

        def work(connection: Connection) -> Went | FlagstaffError:
            again = answered_before(connection, write, project=project, id=id, happenings=_YES)
            if again is not None:
                return again
            request = read_request(connection, project=project, id=id)
            _somewhere(Action.APPROVE)(write.principal, request)
            check_expected(request, write)
            step = Step(Happening.APPROVED, write.principal.actor, write.now, text, write.principal.grants)
            advance(request.progress, step)
            stale = outdated(connection, request)
            if stale is not None:
                note(connection, request, stale, now=write.now)
                return stale
            return self._approve(connection, request, step, write)

        return carry_out(self.writer.engine, project, work, dry_run=write.dry_run)

    def _approve(self, connection: Connection, request: StoredRequest, step: Step, write: Write) -> Went:
        tried = try_content(connection, content_of(request), cause_of(write, request.project))
        problem = may_approve(request.progress, write.principal, tried.asking)
        if problem:
            raise Refused(problem)
        progress = advance(request.progress, step)
        left = [
            lacking(progress, each, tried.events[key], who_is=self.writer.who_is) for key, each in tried.asking.items()
        ]
        if not any(left):
            step = replace(step, happening=Happening.COMPLETED)
        return go_on(connection, request, step, request_id=write.request_id)

    def revise(self, write: Write, *, project: str, id: str, parts: Sequence[Part], replace_variants: bool) -> Went:
        """Ask for something else. Whoever does must be allowed to make that change, and is one of its authors then."""
        content = content_text(content_from(parts, replace_variants=replace_variants))
        return self._revise(write, project, id, content)

    def rebase(self, write: Write, *, project: str, id: str) -> Went:
        """Ask for the same against what is there now."""
        return self._revise(write, project, id, None)

    def _revise(self, write: Write, project: str, id: str, content: str | None) -> Went:
        def work(connection: Connection) -> Went:
            again = answered_before(connection, write, project=project, id=id, happenings=[Happening.REVISED])
            if again is not None:
                return again
            request = read_request(connection, project=project, id=id)
            check_expected(request, write)
            if content is None:
                _maker(write.principal, request)
            action = request.progress.action if content is None else write.action
            step = Step(Happening.REVISED, write.principal.actor, write.now, write.reason)
            progress = replace(advance(request.progress, step), action=action)
            revised = replace(request, content=content or request.content, progress=progress)
            permit = self.writer.access(replace(write, action=action))
            tried = try_content(connection, content_of(revised), cause_of(write, project), permit=permit)
            title = write.reason or request.title
            revised = replace(revised, title=title, base=tried.base, lines=lines_of(tried.events))
            return keep(connection, request, revised, step, request_id=write.request_id)

        return carry_out(self.writer.engine, project, work, dry_run=write.dry_run)

    def _step(self, write: Write, project: str, id: str, wish: "_Wish") -> Went:
        _check_length(wish.text)

        def work(connection: Connection) -> Went:
            again = answered_before(connection, write, project=project, id=id, happenings=[wish.happening])
            if again is not None:
                return again
            request = read_request(connection, project=project, id=id)
            wish.may(write.principal, request)
            check_expected(request, write)
            principal = write.principal
            step = Step(wish.happening, principal.actor, write.now, wish.text, principal.grants, wish.apply_at)
            return go_on(connection, request, step, request_id=write.request_id)

        return carry_out(self.writer.engine, project, work, dry_run=write.dry_run)


@dataclass(frozen=True, slots=True)
class _Wish:
    happening: Happening
    may: May
    text: str
    apply_at: datetime | None = None


_YES: Final = (Happening.APPROVED, Happening.COMPLETED)


def _check_length(text: str) -> None:
    if len(text) > TEXT_CHARS_MAX:
        raise TooLarge(f"the text has {len(text)} characters, at most {TEXT_CHARS_MAX} are allowed")


def _somewhere(action: Action) -> May:
    def may(principal: Principal, request: StoredRequest) -> None:
        if not may_somewhere(principal, action, request):
            raise denied(principal, action, request)

    return may


def _maker(principal: Principal, request: StoredRequest) -> None:
    if not may_everywhere(principal, request.progress.action, request):
        raise denied(principal, request.progress.action, request)


def _author_or_administrator(principal: Principal, request: StoredRequest) -> None:
    if principal.actor not in request.progress.authors and not may_everywhere(principal, Action.ADMINISTER, request):
        raise denied(principal, Action.ADMINISTER, request)
