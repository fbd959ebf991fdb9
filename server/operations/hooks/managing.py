"""Make hooks, change them, rotate their secrets, and take them away."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine

from server.core.access import Action, Principal
from server.core.errors import (
    FlagstaffError,
    InvalidDefinition,
    NotFound,
    Problem,
    Stale,
    StoreCorrupt,
    TooLarge,
)
from server.operations.hooks.scopes import may_with, require_with
from server.operations.hooks.telling import KIND, Noting, Shown, note_hook, shown
from server.operations.writes import Outcome, Write
from server.store.engine import reading, writing
from server.store.environments import list_environments
from server.store.outbox import last_event
from server.store.projects import read_project
from server.store.repeats import is_answered, note_done
from webhooks import endpoints as health
from webhooks import limits, subscribed
from webhooks.errors import InvalidSetting, SealBroken
from webhooks.rotation import OVERLAP_S, SECRET_BYTES, Secret, make_secret, rotated, take_secret
from webhooks.states import EndpointState
from webhooks.subscribed import Endpoint, Opened, Vault
from webhooks.subscriptions import Subscription, Surroundings, document_of, read_subscription

ID_CHARS: Final = 32
MANUAL: Final = "manual"
"""Why a hook is disabled that a person disabled."""

T = TypeVar("T")


class _TakenBack(Exception):
    """Ends the transaction of a dry run."""


@dataclass(frozen=True, slots=True)
class HookWritten:
    """A hook after what was done to it."""

    hook: Shown
    outcome: Outcome
    secret: str = field(default="", repr=False)
    """What receivers verify with, in the answer that makes it and in no other."""

    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SecretWanted:
    """How messages are to be signed."""

    text: str = field(default="", repr=False)
    """A secret of the owner's; "" to have one made."""

    asymmetric: bool = False


@dataclass(frozen=True, slots=True)
class Hooks:
    """The hooks of one database."""

    engine: Engine
    surroundings: Callable[[], Surroundings]
    """What they are read against."""

    vault: Callable[[], Vault]
    """What secrets are sealed with. Errors: InvalidRequest where no key is there and none can be made."""

    wake: Callable[[], None] = lambda: None
    """Has those look who deliver."""

    def create(self, project: str, document: Mapping[str, Any], wanted: SecretWanted, write: Write) -> HookWritten:
        """Begin to tell somebody.

        Errors: InvalidDefinition with every problem; PermissionDenied; NotFound for the project; TooLarge; Conflict.
        """
        vault = self.vault()
        subscription = self._read(document)
        require_with(write.principal, write.action, project, subscription.filter)
        secret = _new_secret(1, wanted, vault, write.now)
        id_ = new_id(project, write.request_id, vault)

        def work(connection: Connection) -> HookWritten:
            _refuse_unknown(connection, project, subscription)
            if subscribed.count_endpoints(connection, project) >= limits.ENDPOINTS_PER_PROJECT_MAX:
                raise TooLarge(
                    f"project {project!r} has {limits.ENDPOINTS_PER_PROJECT_MAX} hooks, the most there may be"
                )
            subscribed.add_endpoint(
                connection,
                subscription,
                secret,
                id=id_,
                project=project,
                since_sequence=last_event(connection, project),
                vault=vault,
                now=write.now,
            )
            hook = shown(_opened(_found(connection, project, id_), vault))
            note_hook(connection, "created", hook, write)
            return HookWritten(hook, Outcome.APPLIED, secret.public or secret.text)

        def again(connection: Connection) -> HookWritten:
            hook = shown(_opened(_found(connection, project, id_), vault))
            said = (
                f"hook {id_} was made before by this request id; its secret is not shown again, rotate it if it is lost"
            )
            return HookWritten(hook, Outcome.UNCHANGED, warnings=(said,))

        return self._written(project, work, write, asked=("create", _asked(subscription)), again=again)

    def read(self, project: str, id: str, principal: Principal) -> Shown:
        """One hook. Errors: NotFound, also where the caller may not read it."""
        with reading(self.engine) as connection:
            endpoint = _found(connection, project, id)
        self._check_readable(endpoint, principal)
        return self._shown(endpoint)

    def list_all(self, project: str, principal: Principal) -> list[Shown]:
        """All of a project that the caller may read, by id. Errors: NotFound for the project."""
        return [self._shown(each) for each in self.readable(project, principal)]

    def readable(self, project: str, principal: Principal) -> list[Endpoint]:
        """The same as they are kept."""
        with reading(self.engine) as connection:
            read_project(connection, project)
            found = subscribed.list_endpoints(connection, project)
        return [each for each in found if may_with(principal, Action.READ, project, each.filter)]

    def update(self, project: str, id: str, changes: Mapping[str, Any], write: Write) -> HookWritten:
        """Set fields of a hook's document. Errors: as `create`; NotFound; Stale."""
        vault = self.vault()

        def work(connection: Connection) -> HookWritten:
            before = self._mine(connection, project, id, write)
            opened = _opened(before, vault)
            subscription = self._read(_changed(opened.subscription, changes))
            require_with(write.principal, write.action, project, subscription.filter)
            if subscription == opened.subscription:
                return HookWritten(shown(opened), Outcome.UNCHANGED)
            _refuse_unknown(connection, project, subscription)
            _kept(subscribed.change_endpoint(connection, before, subscription, vault=vault, now=write.now), before)
            hook = shown(_opened(_found(connection, project, id), vault))
            note_hook(connection, "updated", hook, write, before=shown(opened))
            return HookWritten(hook, Outcome.APPLIED)

        # The request id knows it by its fields' names alone: their values may be secret, which nothing kept of it is.
        asked = ("update", id, sorted(changes))
        return self._written(project, work, write, asked=asked, again=self._again(project, id, write))

    def delete(self, project: str, id: str, write: Write) -> Outcome:
        """End a hook; one that is gone already is UNCHANGED.

        Errors: PermissionDenied; Stale; NotFound for the project.
        """

        def work(connection: Connection) -> Outcome:
            found = subscribed.find_endpoint(connection, id, lock=True)
            if found is None or found.project != project or found.deleted:
                return Outcome.UNCHANGED
            if not may_with(write.principal, Action.READ, project, found.filter):
                return Outcome.UNCHANGED
            before = self._mine(connection, project, id, write)
            note_hook(connection, "deleted", Shown(before), write)
            subscribed.delete_endpoint(connection, before, write.now)
            return Outcome.APPLIED

        try:
            with writing(self.engine, about=f"project/{project}") as connection:
                read_project(connection, project)
                outcome = work(connection)
                if write.dry_run and outcome is Outcome.APPLIED:
                    raise _TakenBack
        except _TakenBack:
            return Outcome.WOULD_APPLY
        return outcome

    def rotate(
        self, project: str, id: str, wanted: SecretWanted, write: Write, *, overlap_s: float = OVERLAP_S
    ) -> HookWritten:
        """Sign with another secret, and until the overlap ends with those before it, too.

        Errors: NotFound; Stale; PermissionDenied; InvalidDefinition for the secret or the overlap.
        """
        vault = self.vault()

        def work(connection: Connection) -> HookWritten:
            before = self._mine(connection, project, id, write)
            opened = _opened(before, vault)
            number = max((each.number for each in before.secrets), default=0) + 1
            secret = _new_secret(number, wanted, vault, write.now)
            secrets = _translated(lambda: rotated(opened.secrets, secret, overlap_s=overlap_s, now=write.now))
            _kept(subscribed.change_secrets(connection, before, secrets, vault=vault, now=write.now), before)
            hook = shown(_opened(_found(connection, project, id), vault))
            note_hook(connection, "updated", hook, write, before=shown(opened))
            return HookWritten(hook, Outcome.APPLIED, secret.public or secret.text)

        asked = ("rotate", id, overlap_s, wanted.asymmetric)
        return self._written(project, work, write, asked=asked, again=self._again(project, id, write))

    def enable(self, project: str, id: str, write: Write) -> HookWritten:
        """Deliver again; what was missed is replayed by who asks for it. Errors: NotFound; Stale; PermissionDenied."""

        def work(connection: Connection) -> HookWritten:
            before = self._mine(connection, project, id, write)
            done = health.enable(connection, id, notices=Noting(write, before))
            after = _found(connection, project, id)
            return HookWritten(self._shown(after), Outcome.APPLIED if done else Outcome.UNCHANGED)

        return self._written(project, work, write, asked=("enable", id), again=self._again(project, id, write))

    def disable(self, project: str, id: str, write: Write) -> HookWritten:
        """Deliver nothing more for now. Errors: NotFound; Stale; PermissionDenied."""

        def work(connection: Connection) -> HookWritten:
            before = self._mine(connection, project, id, write)
            if before.state is not EndpointState.ENABLED:
                return HookWritten(self._shown(before), Outcome.UNCHANGED)
            health.end(connection, id, EndpointState.DISABLED, why=MANUAL, notices=Noting(write, before), now=write.now)
            return HookWritten(self._shown(_found(connection, project, id)), Outcome.APPLIED)

        return self._written(project, work, write, asked=("disable", id), again=self._again(project, id, write))

    def mine(self, project: str, id: str, write: Write) -> Endpoint:
        """A hook with which the caller may do what they ask for. Errors: NotFound; Stale; PermissionDenied."""
        with reading(self.engine) as connection:
            return self._mine(connection, project, id, write, lock=False)

    def _mine(self, connection: Connection, project: str, id: str, write: Write, *, lock: bool = True) -> Endpoint:
        endpoint = _found(connection, project, id, lock=lock)
        self._check_readable(endpoint, write.principal, also=write.action)
        require_with(write.principal, write.action, project, endpoint.filter)
        if write.expected_version not in (None, endpoint.version):
            raise Stale(f"hook {id} has version {endpoint.version}, expected {write.expected_version}; read it again")
        return endpoint

    def _check_readable(self, endpoint: Endpoint, principal: Principal, *, also: Action = Action.READ) -> None:
        """Refuse as if it were not there, who may not even look. Errors: NotFound."""
        allowed = (may_with(principal, each, endpoint.project, endpoint.filter) for each in (Action.READ, also))
        if not any(allowed):
            raise _missing(endpoint.project, endpoint.id)

    def _shown(self, endpoint: Endpoint) -> Shown:
        """A hook; with the names of its headers where the key is there that they are sealed with."""
        if not endpoint.headers_sealed:
            return Shown(endpoint)
        try:
            return shown(subscribed.opened(endpoint, self.vault()))
        except (SealBroken, FlagstaffError):
            return Shown(endpoint)

    def _read(self, document: Mapping[str, Any]) -> Subscription:
        return _translated(lambda: read_subscription(document, self.surroundings()))

    def _again(self, project: str, id: str, write: Write) -> Callable[[Connection], HookWritten]:
        def again(connection: Connection) -> HookWritten:
            hook = self._shown(self._mine(connection, project, id, replace(write, expected_version=None)))
            return HookWritten(hook, Outcome.UNCHANGED, warnings=("this was done before by the same request id",))

        return again

    def _written(
        self,
        project: str,
        work: Callable[[Connection], HookWritten],
        write: Write,
        *,
        asked: object,
        again: Callable[[Connection], HookWritten],
    ) -> HookWritten:
        """Do something once for each request id, which `asked` says what it was used for; `again` answers later."""
        written: list[HookWritten] = []
        digest = hashlib.sha256(repr((KIND, asked)).encode("utf-8", "backslashreplace")).hexdigest()
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
            same = written[0].outcome is Outcome.UNCHANGED
            return replace(written[0], outcome=Outcome.UNCHANGED if same else Outcome.WOULD_APPLY, secret="")
        self.wake()
        return written[0]


def _changed(subscription: Subscription, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The document with other fields. A burst goes with the rate that it was given for."""
    document = document_of(subscription)
    if "rate_per_s" in changes and changes["rate_per_s"] is None:
        document["burst"] = None
    return {**document, **changes}


def new_id(project: str, request_id: str, vault: Vault) -> str:
    """The id of a new hook: by chance, or the same for a request that is sent again."""
    if not request_id:
        return f"ep_{vault.chance(ID_CHARS // 2).hex()}"
    digest = hashlib.sha256(f"hook\0{project}\0{request_id}".encode("utf-8", "backslashreplace"))
    return f"ep_{digest.hexdigest()[:ID_CHARS]}"


def _found(connection: Connection, project: str, id: str, *, lock: bool = False) -> Endpoint:
    found = subscribed.find_endpoint(connection, id, lock=lock)
    if found is None or found.project != project or found.deleted:
        raise _missing(project, id)
    return found


def _missing(project: str, id: str) -> NotFound:
    return NotFound(f"hook {id[:80]!r} does not exist in {project!r}; `flagstaff hook list` shows those that do")


def _opened(endpoint: Endpoint, vault: Vault) -> Opened:
    try:
        return subscribed.opened(endpoint, vault)
    except SealBroken as error:
        raise StoreCorrupt(f"hook {endpoint.id}: {error}") from None


def _kept(changed: bool, before: Endpoint) -> None:
    if not changed:
        raise Stale(f"hook {before.id} was changed meanwhile; read it again")


def _new_secret(number: int, wanted: SecretWanted, vault: Vault, now: datetime) -> Secret:
    if wanted.text and wanted.asymmetric:
        raise InvalidDefinition([Problem("/secret", "an Ed25519 key is made here, and cannot be given")])
    if wanted.text:
        return _translated(lambda: take_secret(number, wanted.text, now))
    return make_secret(number, vault.chance(SECRET_BYTES), asymmetric=wanted.asymmetric, now=now)


def _translated(read: Callable[[], T]) -> T:
    try:
        return read()
    except InvalidSetting as error:
        raise InvalidDefinition([Problem(each.path, each.message) for each in error.problems]) from None


def _refuse_unknown(connection: Connection, project: str, subscription: Subscription) -> None:
    known = {each.environment.key for each in list_environments(connection) if each.environment.project == project}
    problems = [
        Problem(f"/filter/environments/{place}", f"project {project!r} has no environment {each[:80]!r}")
        for place, each in enumerate(subscription.filter.environments)
        if each not in known
    ]
    if problems:
        raise InvalidDefinition(problems)


def _asked(subscription: Subscription) -> tuple[object, ...]:
    """What a request id stands for, without what is secret."""
    return (subscription.name, subscription.filter, subscription.format, subscription.source)
