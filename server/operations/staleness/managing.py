"""Say what is known of stale flags, and take what people say of them: later, indeed, not at all, for ever."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, TypeVar

from sqlalchemy import Connection

from server.core.access import Scope
from server.core.edits import UpdateFlag
from server.core.errors import InvalidRequest, NotFound, Refused, Stale
from server.core.flags import Flag, FlagKind
from server.core.json import Json
from server.core.limits import STALE_DAYS_MAX, TEXT_CHARS_MAX
from server.core.staleness import Assessment, Exempt, Facts, StalePolicy, StaleState, assess, check_policy
from server.operations.flags import Flags
from server.operations.staleness.sweeping import Decision, decide, look_at_flags
from server.operations.staleness.telling import CLEARED, STALE, Turn, occurrence
from server.operations.writes import Outcome, Write, Writer, Written, require
from server.store.engine import reading
from server.store.occurrences import Occurrence, note
from server.store.projects import read_project
from server.store.stale_evidence import last_changes, read_written
from server.store.stale_lists import StaleFilter, StaleList, StalePage, list_stale
from server.store.staleness import StoredStaleness, look_at_all, read_look, read_stored, save_look, save_stored
from server.store.turns import take_turn

POLICY_KIND: Final = "staleness-policy"
"""As the audit trail names a project's terms."""


T = TypeVar("T")


class _TakenBack(Exception):
    """Ends the transaction of a dry run."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one flag."""

    flag: Flag
    stored: StoredStaleness
    assessed: Assessment
    holders: tuple[str, ...] = ()
    """What is still to change it."""


@dataclass(frozen=True, slots=True)
class StalenessWritten:
    """A flag after what was said of it."""

    known: Known
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class PolicyWritten:
    """A project's terms after what was done to them."""

    policy: StalePolicy
    version: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class _Said:
    """What others are told of what somebody said."""

    type: str
    by: str = ""


@dataclass(frozen=True, slots=True)
class Staleness:
    """How much the flags of one database are still of use. Writes raise PermissionDenied."""

    writer: Writer

    def read(self, project: str, key: str, now: datetime) -> Known:
        """What a flag is now, also one that nobody has looked at yet. Errors: NotFound, Refused for a damaged one."""
        with reading(self.writer.engine) as connection:
            read_project(connection, project)
            return _known(_decided(connection, project, key, now))

    def list(self, project: str, wanted: StaleFilter, page: StalePage) -> tuple[StaleList, StalePolicy]:
        """A page of flags that are as wanted, and the terms. Errors: NotFound for the project."""
        with reading(self.writer.engine) as connection:
            read_project(connection, project)
            return list_stale(connection, project, wanted, page), read_look(connection, project).policy

    def snooze(self, project: str, key: str, until: datetime, write: Write) -> StalenessWritten:
        """Have nobody hear of a flag until an instant. Errors: InvalidRequest; NotFound; Refused."""
        if not write.now < until <= write.now + timedelta(days=STALE_DAYS_MAX):
            raise InvalidRequest(f"until is {until.isoformat()}, expected an instant in the next {STALE_DAYS_MAX} days")

        def said(before: StoredStaleness) -> StoredStaleness:
            facts = replace(_sayable(key, before), snoozed_until=until, marked_at=None)
            return replace(before, facts=facts, said_by=write.principal.actor, said=write.reason)

        return self._say(project, key, write, said, _Said(CLEARED, "snooze"))

    def mark(self, project: str, key: str, write: Write) -> StalenessWritten:
        """Say that a flag is stale, whatever its terms. Errors: NotFound; Refused for a permanent or archived one."""

        def said(before: StoredStaleness) -> StoredStaleness:
            facts = _sayable(key, before)
            if before.state is StaleState.STALE:
                return before
            at = max(write.now, facts.changed_at)
            facts = replace(facts, marked_at=at, snoozed_until=None)
            return replace(before, facts=facts, said_by=write.principal.actor, said=write.reason)

        return self._say(project, key, write, said, _Said(STALE))

    def clear(self, project: str, key: str, write: Write) -> StalenessWritten:
        """Take back what was said of a flag; what it is then is decided anew. Errors: NotFound; Refused."""

        def said(before: StoredStaleness) -> StoredStaleness:
            if before.facts.snoozed_until is None and before.facts.marked_at is None:
                return before
            facts = replace(before.facts, marked_at=None, snoozed_until=None, noticed_at=None)
            return replace(before, facts=facts, said_by="", said="")

        return self._say(project, key, write, said, _Said(CLEARED, "person"))

    def mark_permanent(self, project: str, key: str, write: Write) -> Written:
        """Say that a flag is to stay. It is an edit of the flag: where others must agree to those, they are asked."""
        with reading(self.writer.engine) as connection:
            flag = _decided(connection, project, key, write.now).flag
        edit = UpdateFlag(key, replace(flag, temporary=False), ("temporary",))
        written = Flags(self.writer.engine, self.writer).edit_shared(project, edit, write)
        if written.outcome is Outcome.APPLIED:
            look_at_flags(self.writer.engine, project, [key], write.now)
        return written

    def policy(self, project: str) -> tuple[StalePolicy, int]:
        """A project's terms, and their version. Errors: NotFound."""
        with reading(self.writer.engine) as connection:
            read_project(connection, project)
            look = read_look(connection, project)
        return look.policy, look.policy_version

    def set_policy(self, project: str, changed: Callable[[StalePolicy], StalePolicy], write: Write) -> PolicyWritten:
        """Let flags become stale by other terms; all are looked at again. Errors: NotFound; InvalidRequest; Stale."""
        require(write.principal, write.action, Scope(project))

        def work(connection: Connection) -> PolicyWritten:
            read_project(connection, project)
            look = read_look(connection, project)
            if write.expected_version not in (None, look.policy_version):
                raise Stale(
                    f"the staleness policy of {project!r} has version {look.policy_version}, expected "
                    f"{write.expected_version}"
                )
            policy = changed(look.policy)
            check_policy(policy)
            if policy == look.policy:
                return PolicyWritten(policy, look.policy_version, Outcome.UNCHANGED)
            save_look(connection, replace(look, policy=policy, policy_version=look.policy_version + 1))
            look_at_all(connection, project)
            note(connection, _policy_set(project, look.policy, policy, write))
            return PolicyWritten(policy, look.policy_version + 1, Outcome.APPLIED)

        written = self._carried_out(project, work, write)
        return replace(written, outcome=_outcome(written.outcome, write))

    def _say(
        self, project: str, key: str, write: Write, said: Callable[[StoredStaleness], StoredStaleness], what: _Said
    ) -> StalenessWritten:
        require(write.principal, write.action, Scope(project))
        if write.expected_version is not None:
            raise InvalidRequest("what is said of a stale flag has no version; leave expected_version out")
        if len(write.reason) > TEXT_CHARS_MAX:
            raise InvalidRequest(f"reason has {len(write.reason)} characters, at most {TEXT_CHARS_MAX} are allowed")

        def work(connection: Connection) -> StalenessWritten:
            read_project(connection, project)
            decision = _decided(connection, project, key, write.now)
            before = decision.after
            after = said(before)
            if after == before:
                return StalenessWritten(_known(decision), Outcome.UNCHANGED)
            assessed = assess(after.facts, read_look(connection, project).policy, write.now)
            if what.type == CLEARED and assessed.state in (StaleState.POTENTIALLY_STALE, StaleState.STALE):
                # It is told so, and then looked at like any other.
                assessed = Assessment(StaleState.ACTIVE, next_at=write.now)
            facts = replace(after.facts, noticed_at=assessed.noticed_at)
            after = replace(
                after, state=assessed.state, facts=facts, stale_at=assessed.stale_at, next_at=assessed.next_at
            )
            save_stored(connection, project, [after], known=[] if decision.before is None else [key])
            turn = Turn(project, decision.flag, facts, decision.state_before, assessed, write.now)
            actor = write.principal.actor
            told = occurrence(what.type, turn, by=what.by, actor=actor, reason=write.reason, cause=write.cause)
            note(connection, told)
            return StalenessWritten(Known(decision.flag, after, assessed), Outcome.APPLIED)

        written = self._carried_out(project, work, write)
        return replace(written, outcome=_outcome(written.outcome, write))

    def _carried_out(self, project: str, work: Callable[[Connection], T], write: Write) -> T:
        found: list[T] = []

        def tried(connection: Connection) -> T:
            found.append(work(connection))
            if write.dry_run:
                raise _TakenBack
            return found[0]

        try:
            return take_turn(self.writer.engine, f"project/{project}", tried)
        except _TakenBack:
            return found[0]


def _sayable(key: str, before: StoredStaleness) -> Facts:
    """What is written of a flag of which somebody says something. Errors: Refused where that says nothing."""
    if before.facts.exempt in (Exempt.PERMANENT, Exempt.ARCHIVED):
        raise Refused(f"flag {key!r} is {before.facts.exempt.value}, so it is never stale")
    # Whatever is still to change it: people know better.
    return replace(before.facts, exempt=None) if before.facts.exempt is Exempt.HELD else before.facts


def _outcome(outcome: Outcome, write: Write) -> Outcome:
    return Outcome.WOULD_APPLY if write.dry_run and outcome is Outcome.APPLIED else outcome


def _decided(connection: Connection, project: str, key: str, now: datetime) -> Decision:
    """What a flag is now, by all that is known. Errors: NotFound; Refused for one that cannot be read."""
    written = read_written(connection, project, [key]).get(key)
    if written is None:
        if key in last_changes(connection, project, [key], only_there=True):
            raise Refused(f"flag {key!r} is damaged in every environment; mend it first")
        raise NotFound(f"flag {key!r} is not in project {project!r}")
    before = read_stored(connection, project, [key]).get(key)
    policy = read_look(connection, project).policy
    return decide(connection, project, written, before=before, policy=policy, now=now)


def _known(decision: Decision) -> Known:
    return Known(decision.flag, decision.after, decision.assessed, decision.holders)


def _policy_set(project: str, before: StalePolicy, after: StalePolicy, write: Write) -> Occurrence:
    return Occurrence(
        project=project,
        kind=POLICY_KIND,
        key=project,
        type="staleness_policy.updated",
        actor=write.principal.actor,
        at=write.now,
        data=_told(after),
        before=_told(before),
        reason=write.reason,
        cause=write.cause,
    )


def _told(policy: StalePolicy) -> Mapping[str, Json]:
    lifetimes = {
        kind.value: "none" if policy.lifetimes.get(kind) is None else f"{policy.lifetimes[kind]} days"
        for kind in FlagKind
    }
    return {
        "quiet_days": policy.quiet_days,
        "unchanged_days": policy.unchanged_days,
        "grace_days": policy.grace_days,
        "lifetimes": dict(lifetimes),
    }
