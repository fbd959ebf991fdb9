"""Make the secrets that sign an endpoint's messages, and replace them without a gap.

A new secret signs at once; the one before it goes on signing for a while, so that receivers which know either accept
every message.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from webhooks import limits
from webhooks.errors import InvalidSetting
from webhooks.signing import SYMMETRIC_PREFIX, Key, SigningKey, SymmetricKey, new_key_pair, new_secret, read_key

SECRET_BYTES: Final = 32
"""Random bytes of a secret that is made here, of either kind."""

OVERLAP_S: Final = 24 * 60 * 60.0
OVERLAP_S_MAX: Final = 7 * 24 * 60 * 60.0


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret with its text: a `whsec_` or a `whsk_` one."""

    number: int
    text: str = field(repr=False)
    public: str
    """The `whpk_` key of a `whsk_` one; else ""."""

    created_at: datetime
    expires_at: datetime | None = None
    """From when it signs no longer."""


def make_secret(number: int, random: bytes, *, asymmetric: bool, now: datetime) -> Secret:
    """A new secret of SECRET_BYTES random bytes."""
    if asymmetric:
        private, public = new_key_pair(random)
        return Secret(number, private, public, now)
    return Secret(number, new_secret(random), "", now)


def take_secret(number: int, text: str, now: datetime, path: str = "/secret") -> Secret:
    """A secret that its owner made. Errors: InvalidSetting, which never holds it."""
    key = read_key(text, path)
    if not isinstance(key, SymmetricKey):
        raise InvalidSetting.at(path, f"a secret of one's own starts with {SYMMETRIC_PREFIX}; others are made here")
    return Secret(number, text, "", now)


def rotated(secrets: Sequence[Secret], new: Secret, *, overlap_s: float, now: datetime) -> tuple[Secret, ...]:
    """The secrets after a rotation: the new one, and those that still sign until the overlap ends, or sooner.

    Errors: InvalidSetting for an overlap that is too long, and where too many would sign at once.
    """
    if not 0 <= overlap_s <= OVERLAP_S_MAX:
        raise InvalidSetting.at("/overlap_s", f"expected 0 to {OVERLAP_S_MAX:.0f} seconds, a week")
    until = now + timedelta(seconds=overlap_s)
    kept = [
        Secret(each.number, each.text, each.public, each.created_at, min(each.expires_at or until, until))
        for each in secrets
        if signs(each.expires_at, now) and overlap_s
    ]
    if len(kept) >= limits.SECRETS_PER_ENDPOINT_MAX:
        raise InvalidSetting.at(
            "",
            f"{len(kept)} secrets sign, {limits.SECRETS_PER_ENDPOINT_MAX} may; rotate later, or without overlap",
        )
    return (*kept, new)


def signs(expires_at: datetime | None, now: datetime) -> bool:
    """Whether a secret signs at an instant."""
    return expires_at is None or now < expires_at


def keys_of(secrets: Sequence[Secret], now: datetime) -> tuple[Key, ...]:
    """What signs now, the newest first."""
    newest_first = sorted(secrets, key=lambda each: each.number, reverse=True)
    keys = (read_key(each.text) for each in newest_first if signs(each.expires_at, now))
    return tuple(each for each in keys if isinstance(each, SymmetricKey | SigningKey))
