"""Keep secrets in the database so that who steals it cannot read them: AES-256-GCM under keys that stand elsewhere.

A sealed text is `v1.<key id>.<base64 of nonce and ciphertext>`. What it belongs to (its row) is sealed with it, so a
text that is copied to another row does not open there. Several keys may open; the first one seals, and `reseal` moves
what others sealed to it.
"""

import base64
import binascii
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from webhooks.errors import InvalidSetting, SealBroken

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

VERSION: Final = "v1"
MASTER_BYTES_MIN: Final = 32
NONCE_BYTES: Final = 12
"""Random for each sealing: under one key 2**32 texts may be sealed, by NIST SP 800-38D."""


@dataclass(frozen=True, slots=True)
class SealingKey:
    """One key, and the id by which a sealed text names it; the id tells nothing of the key."""

    id: str
    cipher: "AESGCM" = field(repr=False)


def derive_key(master: bytes) -> SealingKey:
    """The key for sealing, of a secret of the server that serves other purposes too.

    Errors: InvalidSetting when it has less than 32 bytes.
    """
    if len(master) < MASTER_BYTES_MIN:
        raise InvalidSetting.at("/key", f"a key to seal with has {MASTER_BYTES_MIN} bytes or more, not {len(master)}")
    # Most servers seal nothing, and the library takes memory and a while to load.
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF  # noqa: PLC0415

    raw = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"flagstaff webhooks sealing").derive(master)
    return SealingKey(hashlib.sha256(b"id of " + raw).hexdigest()[:12], AESGCM(raw))


class Sealer:
    """Seals by the first of its keys, opens by any of them."""

    def __init__(self, keys: Iterable[SealingKey]) -> None:
        self._keys = tuple(keys)
        if not self._keys:
            raise InvalidSetting.at("/key", "secrets of endpoints need a key to be sealed with")
        self._by_id = {key.id: key for key in self._keys}

    def seal(self, text: str, belongs_to: str, *, nonce: bytes) -> str:
        """The sealed form of a secret; `nonce` is NONCE_BYTES random bytes, never the same twice.

        Errors: InvalidSetting for a nonce of another length.
        """
        if len(nonce) != NONCE_BYTES:
            raise InvalidSetting.at("/nonce", f"a nonce has {NONCE_BYTES} bytes, not {len(nonce)}")
        key = self._keys[0]
        sealed = nonce + key.cipher.encrypt(nonce, text.encode(), _bound(key.id, belongs_to))
        return f"{VERSION}.{key.id}.{base64.urlsafe_b64encode(sealed).decode('ascii')}"

    def unseal(self, sealed: str, belongs_to: str) -> str:
        """The secret.

        Errors: SealBroken for a text that was changed, that belongs elsewhere, or whose key is not here.
        """
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415

        version, _, rest = sealed.partition(".")
        key_id, _, encoded = rest.partition(".")
        key = self._by_id.get(key_id) if version == VERSION else None
        if key is None:
            raise SealBroken(f"a secret of {belongs_to} was sealed by a key that is not here; give that key as well")
        try:
            raw = base64.b64decode(encoded, altchars=b"-_", validate=True)
            opened = key.cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], _bound(key.id, belongs_to))
        except (InvalidTag, binascii.Error, ValueError):
            raise SealBroken(f"a secret of {belongs_to} was changed since it was sealed") from None
        return opened.decode()

    def is_current(self, sealed: str) -> bool:
        """Whether the first key sealed this, so that it need not be sealed again."""
        return sealed.startswith(f"{VERSION}.{self._keys[0].id}.")

    def reseal(self, sealed: str, belongs_to: str, *, nonce: bytes) -> str:
        """The same secret under the first key; errors as `unseal` has them."""
        return (
            sealed if self.is_current(sealed) else self.seal(self.unseal(sealed, belongs_to), belongs_to, nonce=nonce)
        )


def _bound(key_id: str, belongs_to: str) -> bytes:
    return f"{VERSION}.{key_id}.{belongs_to}".encode()
