"""Make one management write: who may, under which policies, through the one door for change.

Every service that changes flags, segments or environments ends here, so that access, freezes and approvals are asked
once for all of them, inside the transaction and for every environment that the change reaches.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Final, TypeAlias

from sqlalchemy import Engine

from server.core.access import Action, Principal, Scope, allowing
from server.core.change_requests.approvals import WhoIs, nobody_knows
from server.core.change_requests.machine import Happening
from server.core.environments import Environment
from server.core.errors import (
    ApprovalNeeded,
    FlagstaffError,
    PermissionDenied,
    Refused,
    StoreCorrupt,
    StoreUnavailable,
)
from server.core.events import Event, ProjectCreated
from server.core.policies import Permit, needs_approval
from server.operations.requesting import content_from, open_request
from server.operations.touching import touched
from server.store.change_request_steps import check_known, find_known
from server.store.change_requests import content_text, read_request
from server.store.commit import Committed, Part, Seen, commit_all
from server.store.conditions import check_revision
from server.store.engine import reading, writing
from server.store.locks import NO_KEY, Key
from server.store.saving import Cause
from server.store.versions import check_flag_versions, check_versions

BYPASS: Final = "bypass"
"""How the cause of a write begins that asked to step over what protects its environment."""

NO_PERMITS: Final[tuple["PermitFor", ...]] = ()


class Outcome(StrEnum):
    """What became of a write."""

    APPLIED = "applied"
    UNCHANGED = "unchanged"
    """Everything asked for was so already."""

    WOULD_APPLY = "would-apply"
    """It was a dry run."""

    REQUESTED = "requested"
    """A change request was opened, and nothing changed yet."""


@dataclass(frozen=True, slots=True)
class Write:
    """How a write is asked for, beside what it is to do."""

    principal: Principal
    action: Action
    """What the principal must be allowed in every environment that the write reaches."""

    now: datetime
    request_id: str = ""
    dry_run: bool = False
    reason: str = ""
    cause: str = ""
    expected_version: int | None = None
    """As core's `versions` count; ABSENT when the thing must not exist yet."""

    bypass_approval: bool = False

    instead: "Instead | None" = None
    """What is done with the change in place of making it: to put it into a change request that is there already."""

    trial: "Trial | None" = None
    """Where it is only tried: a dry run that tells this what it finds, also what would be refused."""


Instead: TypeAlias = Callable[[str, Sequence[Part], bool], "Written"]
"""(project, parts, whether variants may be replaced) -> what became of it."""


@dataclass(slots=True)
class Trial:
    """What a write that is only tried would change, and all that stands in its way."""

    seen: list[Seen] = field(default_factory=list)
    in_the_way: list[FlagstaffError] = field(default_factory=list)


PermitFor: TypeAlias = Callable[[Write], Permit]
"""Makes the policy that is asked for one write."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a write did, or would do."""

    outcome: Outcome
    revisions: Mapping[str, int] = field(default_factory=dict)
    """Environment -> its revision afterwards; every environment that was touched."""

    events: Mapping[str, tuple[Event, ...]] = field(default_factory=dict)
    """Environment -> what happened there."""

    warnings: tuple[str, ...] = ()
    change_request: str = ""


@dataclass(frozen=True, slots=True)
class Writer:
    """Makes writes to one database."""

    engine: Engine
    policies: Sequence[PermitFor] = NO_PERMITS
    """Asked in this order after access and approvals were."""

    who_is: WhoIs = nobody_knows
    """Tells what people are allowed now who said something before."""

    def write(self, project: str, parts: Sequence[Part], write: Write, *, replace_variants: bool = False) -> Written:
        """Make changes to environments of a project as one commit.

        Where an environment asks for approvals, a change request is opened instead, and nothing is changed.
        Errors: PermissionDenied, whatever the policies raise, and as `commit`.
        """
        if write.trial is not None:
            return self._try(project, parts, write, write.trial, replace_variants=replace_variants)
        for part in parts:
            require(write.principal, write.action, Scope(project, part.environment))
        if write.instead is not None:
            return write.instead(project, parts, replace_variants)
        requested = self._requested_before(project, parts, write.request_id, replace_variants=replace_variants)
        if requested is not None:
            return requested
        asking: list[str] = []
        try:
            committed = commit_all(
                self.engine,
                parts=parts,
                why=cause_of(write, project),
                replace_variants=replace_variants,
                permit=_each([_access(write), _approvals(write, asking), *(policy(write) for policy in self.policies)]),
                dry_run=write.dry_run,
            )
        except ApprovalNeeded:
            return self._request(project, parts, write, replace_variants=replace_variants)
        written = written_of(committed, dry_run=write.dry_run)
        return replace(written, warnings=(*written.warnings, *asking, *self._touched(project, written)))

    def _touched(self, project: str, written: Written) -> tuple[str, ...]:
        if not any(written.events.values()):
            return ()
        with reading(self.engine) as connection:
            return touched(connection, project, written.events)

    def access(self, write: Write) -> Permit:
        """Who may, and nothing else."""
        return _access(write)

    def permit(self, write: Write, approvals: Permit) -> Permit:
        """Who may, whether those agree who are asked, and all other policies, in this order."""
        return _each([_access(write), approvals, *(policy(write) for policy in self.policies)])

    def _requested_before(
        self, project: str, parts: Sequence[Part], request_id: str, *, replace_variants: bool
    ) -> Written | None:
        """The first answer to a write that is sent again, when that was a change request."""
        if not request_id:
            return None
        with reading(self.engine) as connection:
            known = find_known(connection, project=project, request_id=request_id)
            if known is None:
                return None
            request = read_request(connection, project=project, id=known.change_request)
        same = request.content == content_text(content_from(parts, replace_variants=replace_variants))
        check_known(known, request_id=request_id, id=request.id if same else "", happenings=[Happening.OPENED])
        return Written(Outcome.REQUESTED, change_request=request.id)

    def _request(self, project: str, parts: Sequence[Part], write: Write, *, replace_variants: bool) -> Written:
        why = cause_of(write, project)
        with writing(self.engine, about=f"project/{project}") as connection:
            request, tried = open_request(
                connection,
                parts,
                why,
                action=write.action,
                replace_variants=replace_variants,
                permit=_access(write),
            )
        return Written(Outcome.REQUESTED, events=tried.events, change_request=request.id)

    def _try(
        self, project: str, parts: Sequence[Part], write: Write, trial: Trial, *, replace_variants: bool
    ) -> Written:
        """Do all of a write but to keep it. What refuses it is noted, and what comes after it still tried.

        Errors: PermissionDenied when the principal may not even read what it would touch.
        """
        for part in parts:
            require(write.principal, Action.READ, Scope(project, part.environment))
        asked = replace(write, dry_run=False)
        permits = [_access(write), _approvals(asked, []), *(policy(write) for policy in self.policies)]

        def permit(environment: Environment, events: Sequence[Event]) -> None:
            require(write.principal, Action.READ, Scope(environment.project, environment.key))
            for each in permits:
                with _noted(trial):
                    each(environment, events)

        self._compare_versions(project, parts, trial)
        # The versions have been looked at, and a request id would be answered without looking at anything.
        unconditional = [
            replace(part, expected_revision=None, expected_versions={}, expected_flags={}) for part in parts
        ]
        why = replace(cause_of(write, project), request_id="")
        try:
            committed = commit_all(
                self.engine,
                parts=unconditional,
                why=why,
                replace_variants=replace_variants,
                permit=permit,
                observe=trial.seen.append,
                dry_run=True,
            )
        except (PermissionDenied, StoreUnavailable, StoreCorrupt):
            raise
        except FlagstaffError as error:
            trial.in_the_way.append(error)
            return Written(Outcome.WOULD_APPLY)
        return written_of(committed, dry_run=True)

    def _compare_versions(self, project: str, parts: Sequence[Part], trial: Trial) -> None:
        with reading(self.engine) as connection:
            for part in parts:
                for target, version in part.expected_versions.items():
                    with _noted(trial):
                        check_versions(connection, Environment(project, part.environment), expected={target: version})
                for key, version in part.expected_flags.items():
                    with _noted(trial):
                        check_flag_versions(connection, project, expected={key: version})
                with _noted(trial):
                    check_revision(connection, project, part)


@contextmanager
def _noted(trial: Trial) -> Iterator[None]:
    try:
        yield
    except (StoreUnavailable, StoreCorrupt):
        raise
    except FlagstaffError as error:
        trial.in_the_way.append(error)


def require(principal: Principal, action: Action, scope: Scope) -> None:
    """Refuse what nobody granted. Errors: PermissionDenied, naming the roles that would help."""
    if not principal.may(action, scope):
        place = "/".join(name for name in (scope.project, scope.environment) if name) or "this server"
        roles = " or ".join(f"`{role}`" for role in allowing(action))
        raise PermissionDenied(f"{principal.actor} may not {action.value} in {place}; it needs the role {roles} there")


def _cause(write: Write) -> str:
    # Whoever reads the audit trail must see that the usual way was not taken.
    if not write.bypass_approval:
        return write.cause
    return f"{BYPASS}: {write.cause}" if write.cause else BYPASS


def require_within(principal: Principal, action: Action, project: str) -> None:
    """Refuse what nobody granted anywhere in a project. Errors: PermissionDenied."""
    if not principal.may_within(action, project):
        require(principal, action, Scope(project))


def cause_of(write: Write, project: str) -> Cause:
    """Who makes a write and why, as its commit tells it."""
    emergency = write.bypass_approval and bool(write.reason.strip())
    key = Key(bypasser=write.principal) if emergency else NO_KEY
    actor, is_kill = write.principal.actor, write.action is Action.KILL
    return Cause(project, actor, write.now, write.reason, _cause(write), write.request_id, key, is_kill)


def may_bypass(write: Write, scope: Scope, needed: str) -> None:
    """Refuse an emergency that is none. Errors: PermissionDenied without the right to it, Refused without a reason."""
    if not write.principal.may(Action.BYPASS, scope):
        raise PermissionDenied(
            f"{needed}; {write.principal.actor} may not do without them, which takes the role `bypass` there"
        )
    if not write.reason.strip():
        raise Refused(f"{needed}; to do without them takes a reason, for the audit trail")


def _approvals(write: Write, asking: list[str]) -> Permit:
    """Refuse what others must agree to, but for kills and emergencies; a dry run tells it by `asking`."""

    def permit(environment: Environment, events: Sequence[Event]) -> None:
        # A kill of a flag that is broken changes more than its switch, and must pass all the same.
        if write.action is Action.KILL or not needs_approval(environment, events):
            return
        needed = f"{environment.flag_set} asks for {_count(environment.approval_policy.approvals)}"
        if write.bypass_approval:
            may_bypass(write, Scope(environment.project, environment.key), needed)
        elif write.dry_run:
            asking.append(f"{needed}: a change request would be opened")
        else:
            raise ApprovalNeeded(f"{needed} before this may be changed")

    return permit


def _count(approvals: int) -> str:
    return "one approval" if approvals == 1 else f"{approvals} approvals"


def _access(write: Write) -> Permit:
    def permit(environment: Environment, events: Sequence[Event]) -> None:
        if any(isinstance(event, ProjectCreated) for event in events):
            require(write.principal, write.action, Scope())
        require(write.principal, write.action, Scope(environment.project, environment.key))

    return permit


def _each(permits: Iterable[Permit]) -> Permit:
    asked = tuple(permits)

    def permit(environment: Environment, events: Sequence[Event]) -> None:
        for each in asked:
            each(environment, events)

    return permit


def written_of(committed: Mapping[str, Committed], *, dry_run: bool) -> Written:
    """What commits of several environments come to."""
    revisions: dict[str, int] = {}
    for environment, each in committed.items():
        revisions.update(each.elsewhere)
        if not each.unchanged and environment:
            revisions[environment] = max(each.revision, revisions.get(environment, 0))
    unchanged = all(each.unchanged for each in committed.values())
    outcome = Outcome.UNCHANGED if unchanged else Outcome.WOULD_APPLY if dry_run else Outcome.APPLIED
    events = {name: each.events for name, each in committed.items()}
    warnings = tuple(line for name, each in committed.items() for line in (*each.warnings, *_unsent(name, each.unsent)))
    return Written(outcome, revisions, events, warnings)


def _unsent(environment: str, unsent: Mapping[str, Collection[str]]) -> Iterator[str]:
    for key, large in unsent.items():
        named = ", ".join(sorted(large))
        yield (
            f"flag {key} of {environment} is evaluated by the server only: it needs the large segment {named}, so "
            "in-process clients are told that there is no such flag"
        )
