"""Manage addresses that have one action done, and let in whoever calls one.

The secret part of an address is kept as a digest, with a key that is not in the database, and shown once. What
signatures are verified with is sealed under the same server's secret.
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, Engine

from server.core.access import Action, Grant, Principal, Scope
from server.core.actions.triggers import Trigger, check_trigger, permissions
from server.core.errors import Conflict, InvalidDefinition, NotFound, Problem, Refused, Stale, TooLarge, Unauthenticated
from server.core.tokens import derived_key, token_digest
from server.operations.writes import Outcome, Write, Writer, require, require_within
from server.store import triggers as store
from server.store.engine import reading, writing
from server.store.environments import read_environment
from server.store.occurrences import Occurrence, note
from server.store.projects import read_project
from server.store.repeats import is_answered, note_done
from server.store.triggers import StoredTrigger
from webhooks.errors import InvalidSetting, SignatureRefused
from webhooks.sealing import NONCE_BYTES, Sealer, derive_key
from webhooks.signing import Signed, SymmetricKey, VerifyingKey, new_secret, read_key, verify

TRIGGERS_MAX: Final = 1_000
"""Of one project."""

SECRET_BYTES: Final = 32
ID_BYTES: Final = 8
SIGNING_BYTES: Final = 32
KEY_PURPOSE: Final = "triggers"
SEAL_PURPOSE: Final = "trigger signatures"
UNKNOWN: Final = "there is no such trigger; a rotated or deleted one does nothing any more"


@dataclass(frozen=True, slots=True)
class Made:
    """An address after what was done to it; what is secret is shown now and never again."""

    trigger: Trigger
    outcome: Outcome
    secret: str = ""
    """The last part of its path."""

    signing_secret: str = ""


@dataclass(frozen=True, slots=True)
class Admitted:
    """Whoever called an address, and what they may."""

    trigger: Trigger
    principal: Principal


@dataclass(frozen=True, slots=True)
class Triggers:
    """The addresses of one database."""

    writer: Writer
    secret: Callable[[], bytes]
    """Gives the server's secret key, made when there is none yet."""

    chance: Callable[[int], bytes] = secrets.token_bytes

    @property
    def engine(self) -> Engine:
        """Of the writer."""
        return self.writer.engine

    def create(self, wanted: Trigger, write: Write, *, require_signature: bool = False, public_key: str = "") -> Made:
        """Make an address that does what its maker may do.

        Errors: InvalidDefinition; PermissionDenied; NotFound; Conflict; TooLarge.
        """
        check_trigger(wanted)
        _require(write.principal, Action.EDIT, wanted)
        for type_ in permissions(wanted):
            # Nobody gives what they do not have.
            _require(write.principal, type_.permission, wanted)
        trigger = replace(
            wanted,
            id=f"trg_{self.chance(ID_BYTES).hex()}",
            signed=require_signature or bool(public_key),
            maker=write.principal.actor,
            grants=write.principal.grants,
            created_at=write.now,
            updated_at=write.now,
        )
        secret, digest = self._new_secret()
        signing_secret, signing = self._signing(trigger, public_key)
        with writing(self.engine, about=f"project/{trigger.project}") as connection:
            read_project(connection, trigger.project)
            if trigger.environment:
                read_environment(connection, project=trigger.project, environment=trigger.environment)
            _once(connection, trigger.project, write, "create")
            if store.count_triggers(connection, trigger.project) >= TRIGGERS_MAX:
                raise TooLarge(f"project {trigger.project!r} has {TRIGGERS_MAX} triggers, the most there may be")
            if write.dry_run:
                return Made(trigger, Outcome.WOULD_APPLY)
            store.insert_trigger(connection, StoredTrigger(trigger, digest, signing))
            _note(connection, trigger, "created", write)
        return Made(trigger, Outcome.APPLIED, secret, signing_secret)

    def rotate(self, project: str, id: str, write: Write) -> Made:
        """Give it another address, and another signing secret where it has one; the old ones are good no more.

        Errors: NotFound; PermissionDenied; Stale; Conflict.
        """
        secret, digest = self._new_secret()
        with writing(self.engine, about=f"project/{project}") as connection:
            stored = _found(connection, project, id, write)
            _once(connection, project, write, f"rotate {id}")
            key = self._key_of(stored)
            made = SymmetricKey if stored.signing else None
            signing_secret, signing = "", stored.signing
            if made is not None and isinstance(key, made):
                signing_secret, signing = self._signing(stored.trigger, "")
            if write.dry_run:
                return Made(stored.trigger, Outcome.WOULD_APPLY)
            after = store.save_trigger(connection, replace(stored, digest=digest, signing=signing), write.now)
            _note(connection, after.trigger, "rotated", write)
        return Made(after.trigger, Outcome.APPLIED, secret, signing_secret)

    def set_enabled(self, project: str, id: str, enabled: bool, write: Write) -> Made:
        """Have it do what it is for, or nothing. Errors: as `rotate`."""
        with writing(self.engine, about=f"project/{project}") as connection:
            stored = _found(connection, project, id, write)
            if stored.trigger.enabled is enabled:
                return Made(stored.trigger, Outcome.UNCHANGED)
            after = replace(stored, trigger=replace(stored.trigger, enabled=enabled))
            if write.dry_run:
                return Made(after.trigger, Outcome.WOULD_APPLY)
            after = store.save_trigger(connection, after, write.now)
            _note(connection, after.trigger, "enabled" if enabled else "disabled", write)
        return Made(after.trigger, Outcome.APPLIED)

    def delete(self, project: str, id: str, write: Write) -> Made:
        """Have it gone. Errors: as `rotate`."""
        with writing(self.engine, about=f"project/{project}") as connection:
            stored = _found(connection, project, id, write)
            if write.dry_run:
                return Made(stored.trigger, Outcome.WOULD_APPLY)
            store.delete_trigger(connection, id)
            _note(connection, stored.trigger, "deleted", write)
        return Made(stored.trigger, Outcome.APPLIED)

    def get(self, principal: Principal, project: str, id: str) -> Trigger:
        """One. Errors: NotFound; PermissionDenied."""
        with reading(self.engine) as connection:
            trigger = store.read_trigger(connection, project, id).trigger
        _require(principal, Action.READ, trigger)
        return trigger

    def list(self, principal: Principal, project: str) -> Sequence[Trigger]:
        """Those of a project that somebody may read."""
        with reading(self.engine) as connection:
            found = [each.trigger for each in store.list_triggers(connection, project)]
        return [each for each in found if _may(principal, Action.READ, each)]

    def admit(self, secret: str, signed: Signed, now: datetime) -> Admitted:
        """Let in whoever knows an address, and signs where that is asked for.

        They may do what its maker may now, in its place and no further.
        Errors: NotFound; Unauthenticated for a signature; Refused for one that is disabled.
        """
        digest = token_digest(derived_key(self.secret(), KEY_PURPOSE), secret)
        with reading(self.engine) as connection:
            stored = store.find_trigger(connection, digest)
        if stored is None:
            raise NotFound(UNKNOWN)
        key = self._key_of(stored)
        if key is not None:
            try:
                verify(signed, keys=[key], now=now.timestamp())
            except SignatureRefused as error:
                raise Unauthenticated(f"this trigger asks for a signature by Standard Webhooks: {error}") from None
        trigger = stored.trigger
        if not trigger.enabled:
            raise Refused(f"trigger {trigger.id} is disabled; `flagstaff trigger enable` has it work again")
        maker = self.writer.who_is(trigger.maker) or Principal(trigger.maker, trigger.grants)
        return Admitted(trigger, Principal(trigger.actor, tuple(_within(maker.grants, trigger))))

    def note_used(self, trigger: Trigger, now: datetime) -> None:
        """Count a use."""
        with writing(self.engine, about=f"trigger/{trigger.id}", tells=False) as connection:
            store.note_used(connection, trigger.id, now)

    def _new_secret(self) -> tuple[str, str]:
        text = secrets_text(self.chance(SECRET_BYTES))
        return text, token_digest(derived_key(self.secret(), KEY_PURPOSE), text)

    def _sealer(self) -> Sealer:
        return Sealer([derive_key(derived_key(self.secret(), SEAL_PURPOSE))])

    def _signing(self, trigger: Trigger, public_key: str) -> tuple[str, str]:
        """What is shown, and what is kept. Errors: InvalidDefinition for a public key that is none."""
        if not trigger.signed:
            return "", ""
        if public_key:
            try:
                is_public = isinstance(read_key(public_key), VerifyingKey)
            except InvalidSetting:
                is_public = False
            if not is_public:
                what = "expected a public Ed25519 key, which begins with whpk_"
                raise InvalidDefinition([Problem("/public_key", what)])
        text = public_key or new_secret(self.chance(SIGNING_BYTES))
        sealed = self._sealer().seal(text, trigger.id, nonce=self.chance(NONCE_BYTES))
        return "" if public_key else text, sealed

    def _key_of(self, stored: StoredTrigger) -> SymmetricKey | VerifyingKey | None:
        if not stored.signing:
            return None
        key = read_key(self._sealer().unseal(stored.signing, stored.trigger.id))
        assert isinstance(key, SymmetricKey | VerifyingKey)
        return key


def secrets_text(chance: bytes) -> str:
    """The secret part of an address."""
    return chance.hex()


def _within(grants: Sequence[Grant], trigger: Trigger) -> Sequence[Grant]:
    """What grants allow in a trigger's place."""
    narrowed = []
    for grant in grants:
        if grant.project not in (None, trigger.project):
            continue
        if trigger.environment and grant.environment not in (None, trigger.environment):
            continue
        narrowed.append(Grant(grant.role, trigger.project, trigger.environment or grant.environment))
    return narrowed


def _require(principal: Principal, action: Action, trigger: Trigger) -> None:
    if trigger.environment:
        require(principal, action, Scope(trigger.project, trigger.environment))
    else:
        require_within(principal, action, trigger.project)


def _may(principal: Principal, action: Action, trigger: Trigger) -> bool:
    if trigger.environment:
        return principal.may(action, Scope(trigger.project, trigger.environment))
    return principal.may_within(action, trigger.project)


def _found(connection: Connection, project: str, id: str, write: Write) -> StoredTrigger:
    stored = store.read_trigger(connection, project, id)
    _require(write.principal, Action.EDIT, stored.trigger)
    version = stored.trigger.version
    if write.expected_version not in (None, version):
        raise Stale(f"trigger {id} has version {version}, expected {write.expected_version}; read it again")
    return stored


def _once(connection: Connection, project: str, write: Write, what: str) -> None:
    """Refuse a request that was made before: what is secret is shown once. Errors: Conflict."""
    digest = f"trigger {what}"
    if is_answered(connection, project, request_id=write.request_id, digest=digest):
        raise Conflict(
            f"request id {write.request_id!r} did this before, and an address is shown once; rotate it instead"
        )
    if not write.dry_run:
        note_done(connection, project, request_id=write.request_id, digest=digest, at=write.now)


def _note(connection: Connection, trigger: Trigger, what: str, write: Write) -> None:
    occurrence = Occurrence(
        project=trigger.project,
        environment=trigger.environment,
        kind="trigger",
        key=trigger.id,
        type=f"trigger.{what}",
        actor=write.principal.actor,
        at=write.now,
        data={
            "name": trigger.name,
            "action": trigger.firing.action,
            "resolvedAction": "" if trigger.resolved is None else trigger.resolved.action,
            "preset": trigger.preset,
            "signed": trigger.signed,
            "version": trigger.version,
        },
        reason=write.reason,
        cause=write.cause,
    )
    note(connection, occurrence)
