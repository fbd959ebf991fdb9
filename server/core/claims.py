"""Turn what an issuer says of somebody into roles, by rules that the operator has written."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from server.core.access import Grant
from server.core.errors import InvalidRequest
from server.core.json import Json
from server.core.tokens import read_grant

ALGORITHMS: Final = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
)  # fmt: skip
"""What tokens may be signed with: by a key that only the issuer has, never by one that we would have to share."""

DEFAULT_ALGORITHMS: Final = ("RS256", "ES256")
SUBJECT_CHARS_MAX: Final = 256

_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_WORDS: Final = ("scope", "scp")
"""Claims whose text is several words."""

_RULE: Final = re.compile(r"([^=]+)=(.+):([^:]+)")


@dataclass(frozen=True, slots=True)
class ClaimRule:
    """Whoever has a value in a claim gets a role."""

    claim: str
    """Its name, or a path with dots such as realm_access.roles."""

    value: str
    grant: Grant


@dataclass(frozen=True, slots=True)
class IssuerTrust:
    """Whose tokens are taken, and for what."""

    issuer: str
    audiences: tuple[str, ...]
    rules: tuple[ClaimRule, ...]
    algorithms: tuple[str, ...] = DEFAULT_ALGORITHMS


def read_rule(text: str) -> ClaimRule:
    """CLAIM=VALUE:ROLE, with a role as tokens have it. Errors: InvalidRequest."""
    found = _RULE.fullmatch(text)
    if found is None:
        raise InvalidRequest(f"{text!r} is no rule; write CLAIM=VALUE:ROLE, such as groups=shop-team:edit@shop")
    return ClaimRule(found[1], found[2], read_grant(found[3]))


def check_trust(trust: IssuerTrust) -> None:
    """Refuse what would take tokens that were not meant for us. Errors: InvalidRequest."""
    check_url(trust.issuer, "the issuer")
    if not trust.audiences:
        raise InvalidRequest("tokens of an issuer need an audience, or those for its other services would count here")
    unknown = [each for each in trust.algorithms if each not in ALGORITHMS]
    if unknown or not trust.algorithms:
        raise InvalidRequest(
            f"{', '.join(unknown) or 'nothing'} is no algorithm to trust; there are: {', '.join(ALGORITHMS)}"
        )


def check_url(url: str, what: str) -> None:
    """Refuse an address that anybody in between could answer for. Errors: InvalidRequest."""
    parts = urlsplit(url)
    if parts.scheme == "https" and parts.hostname:
        return
    if parts.scheme == "http" and parts.hostname in _LOOPBACK:
        return
    raise InvalidRequest(f"{what} {url[:200]!r} is no https:// address; http:// is taken on this machine only")


def grants_of_claims(claims: Mapping[str, Json], rules: Iterable[ClaimRule]) -> tuple[Grant, ...]:
    """The roles that somebody with these claims has, in the order of the rules."""
    return tuple(dict.fromkeys(rule.grant for rule in rules if rule.value in _values(claims, rule.claim)))


def subject_of(claims: Mapping[str, Json]) -> str:
    """Whom a token is about, as the audit trail can have it. Errors: InvalidRequest."""
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= SUBJECT_CHARS_MAX or not subject.isprintable():
        raise InvalidRequest(f"the token's subject is no text of 1 to {SUBJECT_CHARS_MAX} printing characters")
    return subject


def _values(claims: Mapping[str, Json], name: str) -> Sequence[Json]:
    found: Json = claims.get(name) if name in claims else _by_path(claims, name)
    if isinstance(found, list):
        return found
    if isinstance(found, str) and name in _WORDS:
        return found.split()
    return [found] if isinstance(found, str) else []


def _by_path(claims: Mapping[str, Json], name: str) -> Json:
    found: Json = dict(claims)
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found
