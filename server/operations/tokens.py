"""Make, list, revoke and rotate API tokens."""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, Engine

from server.core.access import ALLOWED, Action, Grant, Role, Scope
from server.core.audit import SERVER_TRAIL
from server.core.errors import Conflict, InvalidRequest, PermissionDenied, Refused, Stale, TooLarge
from server.core.tokens import (
    SECRET_BYTES,
    Token,
    TokenState,
    check_token,
    derived_key,
    key_name,
    kind_of,
    shown_grant,
    token_digest,
    token_id,
    token_text,
)
from server.operations.writes import Outcome, Write, require
from server.store import tokens as store
from server.store.audit import list_entries
from server.store.engine import reading, writing
from server.store.projects import list_projects
from server.store.saving import Cause
from server.store.tokens import StoredToken

ACTIVE_MAX: Final = 10_000
"""Tokens that are good at once; each process has all of them in memory."""

OVERLAP_S: Final = 24 * 3600.0
"""How long a token that is rotated stays good, unless somebody says otherwise."""

OVERLAP_S_MAX: Final = 90 * 24 * 3600.0
SERVER: Final = Scope()
KEY_PURPOSE: Final = "tokens"


@dataclass(frozen=True, slots=True)
class NewToken:
    """What a token is to be."""

    name: str
    grants: tuple[Grant, ...]
    home: Scope = SERVER
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Minted:
    """A new token with its text, which is shown now and never again; "" when nothing was made."""

    stored: StoredToken
    text: str
    outcome: Outcome

    @property
    def token(self) -> Token:
        """What the text stands for."""
        return self.stored.token


@dataclass(frozen=True, slots=True)
class Changed:
    """A token after what was done to it."""

    stored: StoredToken
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of one database."""

    engine: Engine
    secret: Callable[[], bytes]
    """Gives the server's secret key, made when there is none yet."""

    chance: Callable[[int], bytes] = secrets.token_bytes
    changed: Callable[[], None] = lambda: None
    """Told after each change, so that this process need not wait until it looks."""

    def create(self, wanted: NewToken, write: Write) -> Minted:
        """Make a token. Nobody gives what they do not have.

        Errors: InvalidRequest; PermissionDenied; Conflict when the request id was used before; TooLarge;
        StoreUnavailable.
        """
        require(write.principal, Action.ADMINISTER, wanted.home)
        check_token(wanted.name, wanted.grants, wanted.home)
        _require_grants(write, wanted.grants)
        if wanted.expires_at is not None and wanted.expires_at <= write.now:
            raise InvalidRequest(f"the token would have expired already, at {wanted.expires_at.isoformat()}")
        with writing(self.engine) as connection:
            self._check_new(connection, wanted, write)
            minted = self._minted(wanted, write)
            if not write.dry_run:
                store.add_token(connection, minted.stored, _cause(write))
        return self._told(minted)

    def create_first(self, write: Write) -> Minted | None:
        """Make a token that may administer everything, unless there is or was any token. Errors: StoreUnavailable."""
        wanted = NewToken("first administrator", (Grant(Role.ADMIN),))
        with writing(self.engine) as connection:
            if store.has_tokens(connection):
                return None
            minted = self._minted(wanted, write)
            store.add_token(connection, minted.stored, _cause(write))
        return self._told(minted)

    def get(self, identifier: str, home: Scope) -> StoredToken:
        """One token of a place. Errors: NotFound, StoreUnavailable."""
        with reading(self.engine) as connection:
            return store.read_token(connection, identifier, home)

    def list(
        self, home: Scope, *, after: str = "", limit: int = 1_000, good_at: datetime | None = None
    ) -> tuple[Sequence[StoredToken], int]:
        """Tokens of a place by id, from the one behind `after` on, and how many there are in all.

        With `good_at` only those that are good at that instant.
        """
        with reading(self.engine) as connection:
            found = store.list_tokens(connection, home, after=after, limit=limit, good_at=good_at)
            return found, store.count_tokens(connection, home, good_at=good_at)

    def revoke(self, identifier: str, home: Scope, write: Write) -> Changed:
        """End a token at once. Errors: NotFound, PermissionDenied, Stale, StoreUnavailable."""
        with writing(self.engine) as connection:
            before = self._found(connection, identifier, home, write=write)
            if before.token.revoked_at is not None:
                return Changed(before, Outcome.UNCHANGED)
            after = replace(before.token, revoked_at=write.now)
            if not write.dry_run:
                store.change_token(connection, before.token, after, event="token.revoked", cause=_cause(write))
        if not write.dry_run:
            self.changed()
        return Changed(replace(before, token=after), _outcome(write))

    def rotate(
        self,
        identifier: str,
        home: Scope,
        write: Write,
        *,
        overlap_s: float = OVERLAP_S,
        expires_at: datetime | None = None,
    ) -> Minted:
        """Make another token that may do the same; the old one stays good for `overlap_s`, and no longer than before.

        Without `expires_at` the new one lasts as long as the old one did.
        Errors: as `create`; NotFound; Stale; Refused when the token is not good any more.
        """
        if not 0 <= overlap_s <= OVERLAP_S_MAX:
            raise InvalidRequest(f"the overlap is {overlap_s:g} s, expected 0 to {OVERLAP_S_MAX:.0f}")
        with writing(self.engine) as connection:
            before = self._found(connection, identifier, home, write=write).token
            if before.state(write.now) is not TokenState.ACTIVE or before.replaced_by:
                what = "was rotated already" if before.replaced_by else f"is {before.state(write.now)}"
                raise Refused(f"token {before.id} {what}; make another one with `flagstaff token create`")
            _require_grants(write, before.grants)
            wanted = NewToken(before.name, before.grants, before.home, expires_at or _same_term(before, write.now))
            self._check_new(connection, wanted, write)
            minted = self._minted(wanted, write)
            until = write.now + timedelta(seconds=overlap_s)
            ends_at = until if before.expires_at is None else min(until, before.expires_at)
            after = replace(before, expires_at=ends_at, replaced_by=minted.token.id)
            if not write.dry_run:
                store.add_token(connection, minted.stored, _cause(write))
                store.change_token(connection, before, after, event="token.rotated", cause=_cause(write))
        return self._told(minted)

    def _found(self, connection: Connection, identifier: str, home: Scope, *, write: Write) -> StoredToken:
        require(write.principal, Action.ADMINISTER, home)
        stored = store.read_token(connection, identifier, home)
        if write.expected_version not in (None, stored.change):
            raise Stale(
                f"token {identifier} is at version {stored.change}, expected {write.expected_version}; read it again"
            )
        return stored

    def _check_new(self, connection: Connection, wanted: NewToken, write: Write) -> None:
        home = wanted.home
        if home.project and all(project.key != home.project for project in list_projects(connection)):
            raise InvalidRequest(f"project {home.project!r} does not exist; create it first")
        if write.request_id:
            trail = home.project or SERVER_TRAIL
            before = list_entries(connection, project=trail, request_id=write.request_id, limit=1)
            if before:
                raise Conflict(
                    f"request id {write.request_id!r} made {before[0].subject_kind} {before[0].subject_key} before; "
                    "a token is shown once only, so rotate that one, or use another id"
                )
        if store.count_tokens(connection, SERVER, good_at=write.now) >= ACTIVE_MAX:
            raise TooLarge(f"{ACTIVE_MAX} tokens are good, the most that there may be; revoke some")

    def _minted(self, wanted: NewToken, write: Write) -> Minted:
        identifier = token_id(self.chance(8))
        text = token_text(kind_of(wanted.grants), identifier, secret=self.chance(SECRET_BYTES))
        key = derived_key(self.secret(), KEY_PURPOSE)
        token = Token(
            id=identifier,
            name=wanted.name,
            grants=wanted.grants,
            home=wanted.home,
            created_at=write.now,
            created_by=write.principal.actor,
            expires_at=wanted.expires_at,
        )
        stored = StoredToken(token, token_digest(key, text), key_name(key))
        return Minted(stored, "" if write.dry_run else text, _outcome(write))

    def _told(self, minted: Minted) -> Minted:
        if minted.text:
            self.changed()
        return minted


def _require_grants(write: Write, grants: Sequence[Grant]) -> None:
    for grant in grants:
        scope = Scope(grant.project or "", grant.environment or "")
        for action in sorted(ALLOWED[grant.role]):
            if not write.principal.may(action, scope):
                raise PermissionDenied(
                    f"{write.principal.actor} may not {action.value} where role {shown_grant(grant)!r} reaches, "
                    "and nobody gives a role that allows more than they may do themselves"
                )


def _same_term(token: Token, now: datetime) -> datetime | None:
    return None if token.expires_at is None else now + (token.expires_at - token.created_at)


def _outcome(write: Write) -> Outcome:
    return Outcome.WOULD_APPLY if write.dry_run else Outcome.APPLIED


def _cause(write: Write) -> Cause:
    return Cause(SERVER_TRAIL, write.principal.actor, write.now, write.reason, write.cause, write.request_id)
