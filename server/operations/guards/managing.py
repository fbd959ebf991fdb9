"""Manage guards and roll-back policies, and take signals and heartbeats."""

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine

from server.core.access import Action, Scope
from server.core.errors import InvalidRequest, NotFound, Refused, Stale
from server.core.guards.guards import Guard, check_guard
from server.core.guards.machine import Event, Happening, started
from server.core.guards.policies import Policy, TriggerKind, check_policy
from server.core.limits import KEY_CHARS_MAX, TEXT_CHARS_MAX
from server.operations.guards.going_on import GUARD, POLICY, Told, tell
from server.operations.guards.judging import NoProviders, Providers
from server.operations.guards.rolling_back import refuse_unknown
from server.operations.writes import Outcome, Write, Writer, Written, require
from server.store.engine import reading, writing
from server.store.environments import read_environment
from server.store.guard_evaluations import Evaluation, list_evaluations
from server.store.guards import (
    StoredGuard,
    delete_guard,
    insert_guard,
    list_guards,
    read_guard,
    save_guard,
)
from server.store.metrics import read_metric
from server.store.occurrences import Occurrence, note
from server.store.projects import read_project
from server.store.repeats import is_answered, note_done
from server.store.rollback_policies import (
    StoredPolicy,
    delete_policy,
    insert_policy,
    list_policies,
    policies_about,
    read_policy,
    save_policy,
)
from server.store.turns import take_turn

T = TypeVar("T")


class _TakenBack(Exception):
    """Ends the transaction of a dry run."""


@dataclass(frozen=True, slots=True)
class GuardWritten:
    """A guard after what was done to it."""

    stored: StoredGuard
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class PolicyWritten:
    """A policy after what was done to it."""

    stored: StoredPolicy
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Guards:
    """The guards and roll-back policies of one database."""

    writer: Writer
    providers: Providers = field(default_factory=NoProviders)
    wake: Callable[[], None] = lambda: None
    """Has the clockwork look at once."""

    @property
    def engine(self) -> Engine:
        """Of the writer."""
        return self.writer.engine

    def create_guard(self, project: str, guard: Guard, write: Write) -> GuardWritten:
        """Begin to watch. Errors: InvalidDefinition; InvalidRequest; Conflict; NotFound; TooLarge."""
        self._check(guard, write, project)

        def work(connection: Connection) -> GuardWritten:
            _refuse_missing(connection, project, guard)
            first_at = write.now + timedelta(seconds=guard.initial_delay_s)
            stored = StoredGuard(project, guard, 1, write.now, first_at, None, write.now)
            insert_guard(connection, stored)
            _note(connection, project, "created", guard, write)
            return GuardWritten(stored, Outcome.APPLIED)

        return self._written(project, work, write, asked=("create", guard), again=self._guard_again(project, guard.key))

    def update_guard(self, project: str, key: str, values: Mapping[str, Any], write: Write) -> GuardWritten:
        """Watch something else, or otherwise, by fields' names; it begins anew. Errors: as to create one, and Stale."""

        def work(connection: Connection) -> GuardWritten:
            before = read_guard(connection, project, key)
            _check_version(f"guard {key!r}", before.version, write)
            guard = replace(before.guard, **values)
            self._check(guard, write, project)
            if guard == before.guard:
                return GuardWritten(before, Outcome.UNCHANGED)
            _refuse_missing(connection, project, guard)
            first_at = write.now + timedelta(seconds=guard.initial_delay_s)
            after = replace(before, guard=guard, since=write.now, next_at=first_at, last=None, updated_at=write.now)
            stored = save_guard(connection, before, after)
            _note(connection, project, "updated", guard, write, before=before.guard)
            return GuardWritten(stored, Outcome.APPLIED)

        return self._written(project, work, write, asked=(GUARD, key, values), again=self._guard_again(project, key))

    def delete_guard(self, project: str, key: str, write: Write) -> Written:
        """Watch no more. Errors: NotFound; Stale; Refused while a policy waits for it."""

        def work(connection: Connection) -> Written:
            before = read_guard(connection, project, key)
            require(write.principal, write.action, Scope(project, before.guard.environment))
            _check_version(f"guard {key!r}", before.version, write)
            users = [each.policy.key for each in policies_about(connection, project, TriggerKind.METRIC, key)]
            if users:
                raise Refused(f"guard {key!r} is a trigger of: {', '.join(users)}; change or delete them first")
            delete_guard(connection, project, key)
            _note(connection, project, "deleted", before.guard, write)
            return Written(Outcome.APPLIED)

        return self._written(project, work, write, asked=("delete", GUARD, key), again=_gone)

    def create_policy(self, project: str, policy: Policy, write: Write) -> PolicyWritten:
        """Arm a policy. Errors: InvalidDefinition; InvalidRequest; Conflict; NotFound; Refused; TooLarge."""

        def work(connection: Connection) -> PolicyWritten:
            self._check_policy(connection, project, policy, write)
            progress = started(_armed(connection, project, policy, write.now))
            principal = write.principal
            stored = StoredPolicy(project, policy, progress, principal.actor, principal.grants, updated_at=write.now)
            insert_policy(connection, stored, now=write.now)
            _note(connection, project, "created", policy, write)
            return PolicyWritten(stored, Outcome.APPLIED)

        again = self._policy_again(project, policy.key)
        return self._written(project, work, write, asked=("create", policy), again=again)

    def update_policy(self, project: str, key: str, values: Mapping[str, Any], write: Write) -> PolicyWritten:
        """Change a policy by fields' names; it is armed anew, with what is there now as its anchor.

        Errors: as to create one; Stale.
        """

        def work(connection: Connection) -> PolicyWritten:
            before = read_policy(connection, project, key)
            _check_version(f"roll-back policy {key!r}", before.version, write)
            policy = replace(before.policy, **values)
            self._check_policy(connection, project, policy, write)
            if policy == before.policy:
                return PolicyWritten(before, Outcome.UNCHANGED)
            progress = replace(
                started(_armed(connection, project, policy, write.now)), step_count=before.progress.step_count + 1
            )
            principal = write.principal
            after = replace(
                before, policy=policy, progress=progress, author=principal.actor, grants=principal.grants, taken=()
            )
            stored = save_policy(connection, before, after, now=write.now)
            _note(connection, project, "updated", policy, write, before=before.policy)
            return PolicyWritten(stored, Outcome.APPLIED)

        return self._written(project, work, write, asked=(POLICY, key, values), again=self._policy_again(project, key))

    def set_armed(self, project: str, key: str, armed: bool, write: Write) -> PolicyWritten:
        """Arm a policy, with what is there now as its anchor, or turn it off. Errors: NotFound; Stale."""

        def work(connection: Connection) -> PolicyWritten:
            before = read_policy(connection, project, key)
            policy = before.policy
            require(write.principal, write.action, Scope(project, policy.environment))
            _check_version(f"roll-back policy {key!r}", before.version, write)
            event = _armed(connection, project, policy, write.now) if armed else Event(Happening.DISARMED, write.now)
            if armed:
                principal = write.principal
                before = replace(before, author=principal.actor, grants=principal.grants)
            tell(connection, before, event, self.writer)
            _note(connection, project, event.happening.value, policy, write)
            return PolicyWritten(read_policy(connection, project, key), Outcome.APPLIED)

        return self._written(project, work, write, asked=(POLICY, key, armed), again=self._policy_again(project, key))

    def delete_policy(self, project: str, key: str, write: Write) -> Written:
        """Watch no more. Errors: NotFound; Stale."""

        def work(connection: Connection) -> Written:
            before = read_policy(connection, project, key)
            require(write.principal, write.action, Scope(project, before.policy.environment))
            _check_version(f"roll-back policy {key!r}", before.version, write)
            delete_policy(connection, project, key)
            _note(connection, project, "deleted", before.policy, write)
            return Written(Outcome.APPLIED)

        return self._written(project, work, write, asked=("delete", POLICY, key), again=_gone)

    def signal(self, project: str, environment: str, event: Event, write: Write) -> list[Told]:
        """Tell the policies of an environment what somebody outside says; those that act have acted then.

        Errors: PermissionDenied; InvalidRequest; NotFound when no policy there listens to that name.
        """
        require(write.principal, Action.SIGNAL, Scope(project, environment))
        beats = event.happening is Happening.BEAT
        if not event.name or len(event.name) > KEY_CHARS_MAX or len(event.text) > TEXT_CHARS_MAX:
            raise InvalidRequest(f"name has 1 to {KEY_CHARS_MAX} characters, and the text at most {TEXT_CHARS_MAX}")

        def work(connection: Connection) -> list[Told]:
            kind = TriggerKind.HEARTBEAT if beats else TriggerKind.SIGNAL
            found = policies_about(connection, project, kind, event.name)
            listening = [each for each in found if each.policy.environment == environment]
            if not listening:
                raise NotFound(f"no roll-back policy of {project}/{environment} listens to the {kind} {event.name!r}")
            return [tell(connection, each, event, self.writer) for each in listening]

        told = take_turn(self.engine, f"project/{project}", work)
        self.wake()
        return told

    def guard(self, project: str, key: str) -> StoredGuard:
        """One guard. Errors: NotFound."""
        with reading(self.engine) as connection:
            return read_guard(connection, project, key)

    def guards(self, project: str) -> list[StoredGuard]:
        """All of a project, by key."""
        with reading(self.engine) as connection:
            read_project(connection, project)
            return list_guards(connection, project)

    def policy(self, project: str, key: str) -> StoredPolicy:
        """One policy. Errors: NotFound."""
        with reading(self.engine) as connection:
            return read_policy(connection, project, key)

    def policies(self, project: str) -> list[StoredPolicy]:
        """All of a project, by key."""
        with reading(self.engine) as connection:
            read_project(connection, project)
            return list_policies(connection, project)

    def evaluations(self, project: str, *, guard: str, policy: str, before: int | None, limit: int) -> list[Evaluation]:
        """What was said of guards and happened to policies, the newest first."""
        with reading(self.engine) as connection:
            read_project(connection, project)
            return list_evaluations(connection, project, guard=guard, policy=policy, before=before, limit=limit)

    def _check(self, guard: Guard, write: Write, project: str) -> None:
        check_guard(guard)
        require(write.principal, write.action, Scope(project, guard.environment))
        known: Collection[str] = self.providers.names()
        if guard.provider and guard.provider not in known:
            named = ", ".join(sorted(known)) or "none"
            raise InvalidRequest(f"provider {guard.provider!r} is not in this server's settings, which have: {named}")

    def _check_policy(self, connection: Connection, project: str, policy: Policy, write: Write) -> None:
        check_policy(policy)
        require(write.principal, write.action, Scope(project, policy.environment))
        read_environment(connection, project=project, environment=policy.environment)
        refuse_unknown(connection, project, policy)
        for trigger in policy.triggers:
            if trigger.kind is TriggerKind.METRIC:
                guard = read_guard(connection, project, trigger.name).guard
                if guard.environment != policy.environment:
                    raise InvalidRequest(
                        f"guard {guard.key!r} watches {guard.environment}, and the policy is about {policy.environment}"
                    )
            if trigger.at is not None and trigger.at <= write.now:
                raise InvalidRequest(f"the {trigger.kind} {trigger.at.isoformat()} is past")

    def _guard_again(self, project: str, key: str) -> Callable[[Connection], GuardWritten]:
        return lambda connection: GuardWritten(read_guard(connection, project, key), Outcome.APPLIED)

    def _policy_again(self, project: str, key: str) -> Callable[[Connection], PolicyWritten]:
        return lambda connection: PolicyWritten(read_policy(connection, project, key), Outcome.APPLIED)

    def _written(
        self,
        project: str,
        work: Callable[[Connection], T],
        write: Write,
        *,
        asked: object,
        again: Callable[[Connection], T],
    ) -> T:
        """Do something once for each request id, which `asked` says what it was used for; `again` answers later."""
        written: list[T] = []
        digest = hashlib.sha256(repr(asked).encode("utf-8", "backslashreplace")).hexdigest()
        try:
            with writing(self.engine, about=f"project/{project}") as connection:
                read_project(connection, project)
                if is_answered(connection, project, request_id=write.request_id, digest=digest):
                    return again(connection)
                written.append(work(connection))
                note_done(connection, project, request_id=write.request_id, digest=digest, at=write.now)
                if write.dry_run:
                    raise _TakenBack
        except _TakenBack:
            would: Any = written[0]
            dry: T = replace(would, outcome=Outcome.WOULD_APPLY)
            return dry
        self.wake()
        return written[0]


def _gone(_connection: Connection) -> Written:
    return Written(Outcome.APPLIED)


def _refuse_missing(connection: Connection, project: str, guard: Guard) -> None:
    read_environment(connection, project=project, environment=guard.environment)
    if guard.metric:
        read_metric(connection, project, guard.metric)


def _armed(connection: Connection, project: str, policy: Policy, now: datetime) -> Event:
    stored = read_environment(connection, project=project, environment=policy.environment)
    return Event(Happening.ARMED, now, revision=stored.revision)


def _check_version(what: str, version: int, write: Write) -> None:
    if write.expected_version not in (None, version):
        raise Stale(f"{what} has version {version}, expected {write.expected_version}; read it again")


def _note(
    connection: Connection,
    project: str,
    what: str,
    thing: Guard | Policy,
    write: Write,
    *,
    before: Guard | Policy | None = None,
) -> None:
    kind = GUARD if isinstance(thing, Guard) else POLICY
    occurrence = Occurrence(
        project=project,
        environment=thing.environment,
        kind=kind,
        key=thing.key,
        type=f"{kind}.{what}",
        actor=write.principal.actor,
        at=write.now,
        data=_described(thing),
        before=None if before is None else _described(before),
        reason=write.reason,
        cause=write.cause,
    )
    note(connection, occurrence)


def _described(thing: Guard | Policy) -> dict[str, Any]:
    return _told(thing) if isinstance(thing, Guard) else _said(thing)


def _told(guard: Guard) -> dict[str, Any]:
    return {
        "guard": guard.key,
        "metric": guard.metric,
        "provider": guard.provider,
        "query": guard.query,
        "guarded_flag": guard.flag,
        "variant": guard.variant,
        "method": guard.method.value,
        "low": guard.low,
        "high": guard.high,
        "window_s": guard.window_s,
        "interval_s": guard.interval_s,
    }


def _said(policy: Policy) -> dict[str, Any]:
    return {
        "policy": policy.key,
        "mode": policy.mode.value,
        "aim": policy.aim.value,
        "reach": policy.reach.kind.value,
        "flag": policy.reach.key,
        "triggers": ", ".join(f"{each.kind} {each.name}".strip() for each in policy.triggers),
        "confirm": policy.confirm,
        "confirm_of": policy.confirm_of,
        "cool_down_s": policy.cool_down_s,
    }
