"""Serve flagstaff.v1.TokenService: make, list, revoke and rotate API tokens, and tell callers who they are."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from protos.flagstaff.v1 import common_pb2 as common
from protos.flagstaff.v1 import tokens_pb2 as messages
from server.core.access import Grant, Principal, Role, Scope
from server.core.errors import InvalidRequest
from server.core.tokens import TokenState
from server.operations.tokens import OVERLAP_S, Minted, NewToken, Tokens
from server.operations.writes import Outcome, Write
from server.rpc.management import OUTCOMES, Management, named
from server.rpc.table import Table, merge
from server.store.tokens import StoredToken

SERVICE: Final = "flagstaff.v1.TokenService"
PAGE_SIZE: Final = 100
PAGE_SIZE_MAX: Final = 1_000

_ROLES: Final = {messages.Role.Value(f"ROLE_{role.name}"): role for role in Role}
_ROLE_NUMBERS: Final = {role: number for number, role in _ROLES.items()}
_STATES: Final = {state: messages.TokenState.Value(f"TOKEN_STATE_{state.name}") for state in TokenState}


def token_table(management: Management, tokens: Tokens) -> Table:
    """The service's handlers."""
    service = TokenService(management.clock, tokens)
    return merge(
        management.writes(
            SERVICE,
            {
                "CreateToken": (messages.CreateTokenRequest, service.create),
                "RevokeToken": (messages.RevokeTokenRequest, service.revoke),
                "RotateToken": (messages.RotateTokenRequest, service.rotate),
            },
        ),
        management.reads(
            SERVICE,
            {
                "GetToken": (messages.GetTokenRequest, service.get),
                "ListTokens": (messages.ListTokensRequest, service.list),
                "WhoAmI": (messages.WhoAmIRequest, _who_am_i),
            },
        ),
    )


class TokenService:
    """The methods, also for a command that has the database itself. Errors: as server/operations/tokens.py."""

    def __init__(self, clock: Callable[[], datetime], tokens: Tokens) -> None:
        self._clock, self._tokens = clock, tokens

    def create(self, request: Any, write: Write) -> messages.CreateTokenResponse:
        """Make a token."""
        named(request, "name", "roles")
        wanted = NewToken(request.name, _grants(request.roles), _home(request), _instant(request, "expires_at"))
        minted = self._tokens.create(wanted, write)
        return messages.CreateTokenResponse(**self._minted(minted))

    def get(self, request: Any, _principal: Principal) -> messages.GetTokenResponse:
        """Show one."""
        named(request, "id")
        return messages.GetTokenResponse(token=self._token(self._tokens.get(request.id, _home(request))))

    def list(self, request: Any, _principal: Principal) -> messages.ListTokensResponse:
        """Show a page of them."""
        if not 0 <= request.page_size <= PAGE_SIZE_MAX:
            raise InvalidRequest(f"page_size is {request.page_size}, expected 0 to {PAGE_SIZE_MAX}")
        limit = request.page_size or PAGE_SIZE
        good_at = self._clock() if request.active_only else None
        home = _home(request)
        found, total = self._tokens.list(home, after=request.page_token, limit=limit, good_at=good_at)
        return messages.ListTokensResponse(
            tokens=[self._token(each) for each in found],
            next_page_token=found[-1].token.id if len(found) == limit else "",
            total_size=total,
        )

    def revoke(self, request: Any, write: Write) -> messages.RevokeTokenResponse:
        """End one."""
        named(request, "id")
        changed = self._tokens.revoke(request.id, _home(request), write)
        result = _result(changed.outcome, f"token {request.id} is revoked")
        return messages.RevokeTokenResponse(token=self._token(changed.stored), result=result)

    def rotate(self, request: Any, write: Write) -> messages.RotateTokenResponse:
        """Make one that takes over."""
        named(request, "id")
        overlap_s = OVERLAP_S
        if request.HasField("overlap"):
            overlap_s = request.overlap.ToTimedelta().total_seconds()
        expires_at = _instant(request, "expires_at")
        minted = self._tokens.rotate(request.id, _home(request), write, overlap_s=overlap_s, expires_at=expires_at)
        return messages.RotateTokenResponse(**self._minted(minted))

    def _minted(self, minted: Minted) -> dict[str, Any]:
        result = _result(minted.outcome, f"token {minted.token.id} is made")
        return {"token": self._token(minted.stored), "text": minted.text, "result": result}

    def _token(self, stored: StoredToken) -> messages.Token:
        token = stored.token
        return messages.Token(
            project=token.home.project,
            environment=token.home.environment,
            id=token.id,
            name=token.name,
            roles=[_role_grant(grant) for grant in token.grants],
            state=_STATES[token.state(self._clock())],
            created_at=_timestamp(token.created_at),
            created_by=token.created_by,
            expires_at=_timestamp(token.expires_at),
            revoked_at=_timestamp(token.revoked_at),
            last_used_at=_timestamp(token.last_used_at),
            replaced_by=token.replaced_by,
            version=stored.change,
        )


def _who_am_i(_request: Any, principal: Principal) -> messages.WhoAmIResponse:
    return messages.WhoAmIResponse(actor=principal.actor, roles=[_role_grant(grant) for grant in principal.grants])


def _home(request: Any) -> Scope:
    if request.environment and not request.project:
        raise InvalidRequest(f"environment {request.environment!r} is of no project; name the project")
    return Scope(request.project, request.environment)


def _grants(roles: Sequence[Any]) -> tuple[Grant, ...]:
    found = []
    for place, each in enumerate(roles):
        role = _ROLES.get(each.role)
        if role is None:
            raise InvalidRequest(f"roles[{place}]: role {each.role} is not one of flagstaff.v1.Role")
        # An empty name is no way to say "every one": it would be refused where a token is checked.
        project = each.project if each.HasField("project") else None
        found.append(Grant(role, project, each.environment if each.HasField("environment") else None))
    return tuple(found)


def _role_grant(grant: Grant) -> messages.RoleGrant:
    return messages.RoleGrant(
        role=_ROLE_NUMBERS[grant.role],
        project=grant.project,
        environment=grant.environment,
    )


def _instant(request: Any, name: str) -> datetime | None:
    if not request.HasField(name):
        return None
    stamp: Timestamp = getattr(request, name)
    try:
        return stamp.ToDatetime(UTC)
    except (ValueError, OverflowError):
        raise InvalidRequest(f"{name} is no instant between the years 1 and 9999") from None


def _timestamp(at: datetime | None) -> Timestamp | None:
    if at is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(at)
    return stamp


def _result(outcome: Outcome, change: str) -> common.WriteResult:
    changes = [] if outcome is Outcome.UNCHANGED else [change]
    return common.WriteResult(outcome=OUTCOMES[outcome], changes=changes)
