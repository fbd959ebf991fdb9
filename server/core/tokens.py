"""Describe API tokens: how they are written and recognised, what they allow, and until when.

    ffa_k3Jd92Lq_<43 characters: 256 random bits><6 characters: a checksum>

The prefix tells people, and programs that look for leaked secrets, what it is; the eight characters behind it are the
token's public name, as logs and the audit trail have it. The checksum finds a token that was copied in part, before
anybody looks it up. All of it is letters, digits and underscores, so that a double click selects the whole.
"""

import binascii
import hmac
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from server.core.access import Grant, Principal, Role, Scope
from server.core.definitions.fields import name_problem
from server.core.errors import InvalidRequest
from server.core.json import Json

SECRET_BYTES: Final = 32
NAME_CHARS_MAX: Final = 128
GRANTS_MAX: Final = 32

_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_CHARS: Final = 8
_SECRET_CHARS: Final = 43
_CHECKSUM_CHARS: Final = 6
_SHAPE: Final = re.compile(rf"ff[sca]_([0-9A-Za-z]{{{_ID_CHARS}}})_[0-9A-Za-z]{{{_SECRET_CHARS + _CHECKSUM_CHARS}}}")


class TokenKind(StrEnum):
    """What a token is for, as its first letters tell."""

    CLIENT = "ffc"
    """For programs that anybody may take apart: pages, apps."""

    SERVER = "ffs"
    """For services that evaluate."""

    MANAGEMENT = "ffa"
    """For people and tools that manage flags. Nobody else should see it."""


class TokenState(StrEnum):
    """Whether a token is still good."""

    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Token:
    """Everything about a token but its secret, which nobody keeps."""

    id: str
    """Public: the second part of the token's text."""

    name: str
    grants: tuple[Grant, ...]
    home: Scope
    """Where it is managed; its grants reach no further. No project: this server."""

    created_at: datetime
    created_by: str
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None
    """To the minute or so; None when it never was."""

    replaced_by: str = ""
    """The id of the token that it was rotated to; "" when it was not."""

    @property
    def principal(self) -> Principal:
        """Whom the token stands for."""
        return Principal(f"token:{self.id}", self.grants)

    def state(self, now: datetime) -> TokenState:
        """Whether it is good at an instant; from `expires_at` on it is not."""
        if self.revoked_at is not None:
            return TokenState.REVOKED
        return TokenState.EXPIRED if self.expires_at is not None and now >= self.expires_at else TokenState.ACTIVE


def kind_of(grants: Collection[Grant]) -> TokenKind:
    """What a token with these grants is for."""
    roles = {grant.role for grant in grants}
    if roles <= {Role.EVALUATE_CLIENT}:
        return TokenKind.CLIENT
    return TokenKind.SERVER if roles <= {Role.EVALUATE_CLIENT, Role.EVALUATE} else TokenKind.MANAGEMENT


def token_id(chance: bytes) -> str:
    """A public name from some random bytes. Shapes: chance has 8 bytes or more."""
    return _base62(int.from_bytes(chance) % len(_ALPHABET) ** _ID_CHARS, _ID_CHARS)


def token_text(kind: TokenKind, identifier: str, *, secret: bytes) -> str:
    """The token as its owner gets it. Shapes: secret has SECRET_BYTES bytes."""
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"a secret has {len(secret)} bytes, expected {SECRET_BYTES}")
    body = f"{kind.value}_{identifier}_{_base62(int.from_bytes(secret), _SECRET_CHARS)}"
    return body + _checksum(body)


def read_id(text: str) -> str:
    """The public name in a token's text. Errors: InvalidRequest when it is no whole token; never repeats the text."""
    found = _SHAPE.fullmatch(text)
    if found is None:
        raise InvalidRequest("this is no token of Flagstaff; one is ffs_, ffc_ or ffa_ and 58 characters more")
    if _checksum(text[:-_CHECKSUM_CHARS]) != text[-_CHECKSUM_CHARS:]:
        raise InvalidRequest(f"token {found[1]} is not whole: its checksum does not fit; copy all of it")
    return found[1]


def token_digest(key: bytes, text: str) -> str:
    """What is kept of a token: HMAC-SHA256 in hexadecimal, with a key that is not in the database."""
    return hmac.digest(key, text.encode(), "sha256").hex()


def derived_key(secret: bytes, purpose: str) -> bytes:
    """A key for one purpose from the server's secret, so that no two purposes share one. Shapes: 32 bytes."""
    return hmac.digest(secret, f"flagstaff {purpose}".encode(), "sha256")


def key_name(key: bytes) -> str:
    """A name for a key that tells nothing of it, to see which key a digest was made with."""
    return hmac.digest(key, b"name", "sha256").hex()[:16]


def read_grant(text: str) -> Grant:
    """A grant as people write it: ROLE, ROLE@PROJECT or ROLE@PROJECT/ENVIRONMENT. Errors: InvalidRequest."""
    role, at, place = text.partition("@")
    project, slash, environment = place.partition("/")
    if role not in {each.value for each in Role}:
        raise InvalidRequest(f"{role!r} is no role; there are: {', '.join(Role)}")
    if (at and not project) or (slash and not environment):
        raise InvalidRequest(f"{text!r} names no place; write ROLE, ROLE@PROJECT or ROLE@PROJECT/ENVIRONMENT")
    return Grant(Role(role), project or None, environment or None)


def shown_grant(grant: Grant) -> str:
    """A grant as `read_grant` reads it."""
    place = "/".join(part for part in (grant.project, grant.environment) if part is not None)
    return f"{grant.role.value}@{place}" if place else grant.role.value


def check_token(name: str, grants: Sequence[Grant], home: Scope) -> None:
    """Refuse a token that says nothing or reaches beyond its home. Errors: InvalidRequest."""
    if not name or len(name) > NAME_CHARS_MAX or not name.isprintable():
        raise InvalidRequest(f"a token needs a name of 1 to {NAME_CHARS_MAX} printing characters: who or what uses it")
    if not 1 <= len(grants) <= GRANTS_MAX:
        raise InvalidRequest(f"a token needs 1 to {GRANTS_MAX} roles, {len(grants)} are given")
    for grant in grants:
        _check_grant(grant, home)


def _check_grant(grant: Grant, home: Scope) -> None:
    shown = shown_grant(grant)
    if grant.environment is not None and grant.project is None:
        raise InvalidRequest(f"role {grant.role} in environment {grant.environment!r} of no project; name the project")
    for place in (grant.project, grant.environment):
        if place is not None and (problem := name_problem(place)):
            raise InvalidRequest(f"role {shown!r}: {problem}")
    within = (not home.project or grant.project == home.project) and (
        not home.environment or grant.environment == home.environment
    )
    if not within:
        place = "/".join(part for part in (home.project, home.environment) if part)
        raise InvalidRequest(f"role {shown!r} reaches beyond {place}, where the token is managed; make it further out")


def token_document(token: Token) -> dict[str, Json]:
    """The token as the audit trail keeps it: nothing of its secret, and nothing that changes by use."""

    def shown(at: datetime | None) -> str | None:
        return None if at is None else at.isoformat()

    return {
        "id": token.id,
        "name": token.name,
        "project": token.home.project,
        "environment": token.home.environment,
        "roles": [shown_grant(grant) for grant in token.grants],
        "createdAt": shown(token.created_at),
        "createdBy": token.created_by,
        "expiresAt": shown(token.expires_at),
        "revokedAt": shown(token.revoked_at),
        "replacedBy": token.replaced_by,
    }


def grants_of(roles: Sequence[Mapping[str, str | None]]) -> tuple[Grant, ...]:
    """Grants from how they are stored. Errors: KeyError, ValueError for what no version of ours has written."""
    return tuple(Grant(Role(each["role"] or ""), each["project"], each["environment"]) for each in roles)


def stored_grants(grants: Sequence[Grant]) -> list[Json]:
    """Grants as they are stored; null is every place, and never the same as a name."""
    return [{"role": grant.role.value, "project": grant.project, "environment": grant.environment} for grant in grants]


def is_token_like(text: str) -> bool:
    """Whether a text wants to be one of our tokens, whole or not."""
    return text[:4] in {f"{kind.value}_" for kind in TokenKind}


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))


def _checksum(body: str) -> str:
    return _base62(binascii.crc32(body.encode()), _CHECKSUM_CHARS)
