"""Sign and verify messages as Standard Webhooks 1.0 has it: `v1` by HMAC-SHA256, `v1a` by Ed25519.

Signed are the bytes `{id}.{timestamp}.{body}`; the header is a list of `<version>,<base64>` with spaces between, and a
receiver accepts a message of which any signature holds. So keys are rotated by signing with the old one and the new one
for a while.

Source: standard-webhooks/standard-webhooks, spec/standard-webhooks.md.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from webhooks import limits
from webhooks.errors import InvalidSetting, SignatureRefused

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

ID_HEADER: Final = "webhook-id"
TIMESTAMP_HEADER: Final = "webhook-timestamp"
SIGNATURE_HEADER: Final = "webhook-signature"

SYMMETRIC_PREFIX: Final = "whsec_"
PRIVATE_PREFIX: Final = "whsk_"
PUBLIC_PREFIX: Final = "whpk_"

_ED25519_BYTES = 32
_TIMESTAMP = re.compile(r"[0-9]{1,11}")


@dataclass(frozen=True, slots=True)
class SymmetricKey:
    """A secret that signs and verifies; its text is never shown."""

    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private Ed25519 key."""

    private: "Ed25519PrivateKey" = field(repr=False)


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A public Ed25519 key."""

    public: "Ed25519PublicKey"


Key = SymmetricKey | SigningKey | VerifyingKey


def new_secret(random: bytes) -> str:
    """A `whsec_` secret of random bytes.

    Errors: InvalidSetting when they are too few or too many.
    """
    return _symmetric_text(random, "/secret")


def new_key_pair(random: bytes) -> tuple[str, str]:
    """A `whsk_` private key and its `whpk_` public one, of 32 random bytes.

    Errors: InvalidSetting when they are not 32.
    """
    if len(random) != _ED25519_BYTES:
        raise InvalidSetting.at("/secret", f"an Ed25519 key has {_ED25519_BYTES} bytes, not {len(random)}")
    private = PRIVATE_PREFIX + base64.b64encode(random).decode("ascii")
    return private, public_text(private)


def public_text(private: str) -> str:
    """The `whpk_` key that verifies what this `whsk_` key signs, for receivers.

    Errors: InvalidSetting when it is no private key.
    """
    key = read_key(private)
    if not isinstance(key, SigningKey):
        raise InvalidSetting.at("/secret", f"expected a private key, which starts with {PRIVATE_PREFIX}")
    return PUBLIC_PREFIX + base64.b64encode(key.private.public_key().public_bytes_raw()).decode("ascii")


def read_key(text: str, path: str = "/secret") -> Key:
    """The key that a text with its prefix stands for.

    Errors: InvalidSetting at `path`; its message says what is wrong and never holds the text.
    """
    for prefix in (SYMMETRIC_PREFIX, PRIVATE_PREFIX, PUBLIC_PREFIX):
        if text.startswith(prefix):
            return _key_of(prefix, _decoded(text.removeprefix(prefix), path), path)
    raise InvalidSetting.at(
        path, f"a secret starts with {SYMMETRIC_PREFIX} (HMAC), {PRIVATE_PREFIX} or {PUBLIC_PREFIX} (Ed25519)"
    )


def sign(message_id: str, timestamp: int, body: bytes, *, keys: Sequence[Key]) -> str:
    """The signature header of a message: one signature a key, in the keys' order.

    Units: timestamp in Unix seconds, of this attempt.
    Errors: InvalidSetting for an id with a dot, which would let bytes move between id and timestamp, for no key or too
    many, and for a public key.
    """
    if not message_id or "." in message_id:
        raise InvalidSetting.at("/id", "a message's id has no dot and is not empty")
    if not 1 <= len(keys) <= limits.SECRETS_PER_ENDPOINT_MAX:
        raise InvalidSetting.at(
            "/secrets", f"{len(keys)} secrets, expected 1 to {limits.SECRETS_PER_ENDPOINT_MAX} that are valid now"
        )
    content = _content(message_id, timestamp, body)
    return " ".join(_signature(content, key) for key in keys)


def headers(message_id: str, timestamp: int, body: bytes, *, keys: Sequence[Key]) -> dict[str, str]:
    """The three headers of one attempt; errors as `sign` has them."""
    return {
        ID_HEADER: message_id,
        TIMESTAMP_HEADER: str(timestamp),
        SIGNATURE_HEADER: sign(message_id, timestamp, body, keys=keys),
    }


@dataclass(frozen=True, slots=True)
class Signed:
    """What an inbound message says of itself: its three headers as text, and its body as it came."""

    message_id: str
    timestamp: str
    signature: str
    body: bytes


def verify(message: Signed, *, keys: Iterable[Key], now: float, tolerance_s: float = limits.TOLERANCE_S) -> None:
    """Return when any signature of the message holds for any of the keys and its timestamp is near `now`.

    Units: now in Unix seconds.
    Errors: SignatureRefused, whatever a header holds; its message says what kind of thing is wrong and no more.
    """
    if not message.message_id or not message.signature:
        raise SignatureRefused(f"the message has no {ID_HEADER} or no {SIGNATURE_HEADER}")
    if not _TIMESTAMP.fullmatch(message.timestamp):
        raise SignatureRefused(f"{TIMESTAMP_HEADER} is not a whole number of Unix seconds")
    timestamp = int(message.timestamp)
    if abs(now - timestamp) > tolerance_s:
        raise SignatureRefused(
            f"{TIMESTAMP_HEADER} lies more than {tolerance_s:g} s from now; a message signed long ago may be a replay, "
            "and a clock may be wrong"
        )
    content = b"%b.%b.%b" % (_utf8(message.message_id), _utf8(message.timestamp), message.body)
    given = message.signature.split(" ", limits.SIGNATURES_READ_MAX)[: limits.SIGNATURES_READ_MAX]
    # Every key is tried, so that the time tells nothing of which one holds.
    if not any([_holds(content, key, given) for key in keys]):
        raise SignatureRefused(f"no signature in {SIGNATURE_HEADER} holds for this body and these keys")


def _key_of(prefix: str, raw: bytes, path: str) -> Key:
    if prefix == SYMMETRIC_PREFIX:
        _check_length(raw, path)
        return SymmetricKey(raw)
    if len(raw) != _ED25519_BYTES:
        raise InvalidSetting.at(path, f"an Ed25519 key has {_ED25519_BYTES} bytes, not {len(raw)}")
    # Loaded by those who use such keys: it takes memory and a while.
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

    if prefix == PRIVATE_PREFIX:
        return SigningKey(Ed25519PrivateKey.from_private_bytes(raw))
    return VerifyingKey(Ed25519PublicKey.from_public_bytes(raw))


def _decoded(text: str, path: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        # Without the cause: it is told to logs, and some versions print what they could not read.
        raise InvalidSetting.at(path, "what follows the prefix is not base64") from None


def _symmetric_text(raw: bytes, path: str) -> str:
    _check_length(raw, path)
    return SYMMETRIC_PREFIX + base64.b64encode(raw).decode("ascii")


def _check_length(raw: bytes, path: str) -> None:
    if not limits.SECRET_BYTES_MIN <= len(raw) <= limits.SECRET_BYTES_MAX:
        raise InvalidSetting.at(
            path,
            f"an HMAC secret has {limits.SECRET_BYTES_MIN} to {limits.SECRET_BYTES_MAX} bytes, not {len(raw)}",
        )


def _content(message_id: str, timestamp: int, body: bytes) -> bytes:
    return b"%b.%d.%b" % (message_id.encode(), timestamp, body)


def _signature(content: bytes, key: Key) -> str:
    if isinstance(key, SymmetricKey):
        return "v1," + base64.b64encode(hmac.digest(key.secret, content, hashlib.sha256)).decode("ascii")
    if isinstance(key, SigningKey):
        return "v1a," + base64.b64encode(key.private.sign(content)).decode("ascii")
    raise InvalidSetting.at("/secrets", f"a public key ({PUBLIC_PREFIX}) verifies and cannot sign")


def _holds(content: bytes, key: Key, given: Sequence[str]) -> bool:
    if isinstance(key, SymmetricKey):
        expected = _signature(content, key).encode("ascii")
        return any([hmac.compare_digest(expected, _utf8(one)) for one in given])
    public = key.private.public_key() if isinstance(key, SigningKey) else key.public
    return any([_holds_ed25519(content, public, one) for one in given])


def _holds_ed25519(content: bytes, public: "Ed25519PublicKey", given: str) -> bool:
    version, _, encoded = given.partition(",")
    if version != "v1a":
        return False
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415

    try:
        public.verify(base64.b64decode(encoded, validate=True), content)
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True


def _utf8(text: str) -> bytes:
    # A header may hold anything, also halves of surrogate pairs.
    return text.encode("utf-8", "surrogatepass")
