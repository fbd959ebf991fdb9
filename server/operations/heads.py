"""Sign the head of an audit trail, and check such a signature.

Ed25519, by a key that is derived from the server's secret: the database alone is not enough to make a head, and the
public key, which every head carries, is enough to check one.
"""

import binascii
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from server.core.audit import canonical_json
from server.core.errors import InvalidRequest, Refused
from server.core.json import Json
from server.core.tokens import derived_key
from server.core.trails import Mark

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

FORMAT: Final = "flagstaff-audit-head/1"
KEY_PURPOSE: Final = "audit head"


@dataclass(frozen=True, slots=True)
class SignedHead:
    """The last entry of a trail at an instant."""

    project: str
    sequence: int
    hash: str
    at: datetime
    public_key: bytes
    signature: bytes

    def mark(self) -> Mark:
        """What a verification compares the trail with."""
        return Mark(self.sequence, self.hash, f"the signed head of {self.at.astimezone(UTC).isoformat()}")


def sign_head(project: str, head: Mark, *, secret: bytes, now: datetime) -> SignedHead:
    """Sign what a trail ends with."""
    key = _private_key(secret)
    at = now.astimezone(UTC)
    signature = key.sign(_signed_text(project, head.sequence, head.hash, at))
    return SignedHead(project, head.sequence, head.hash, at, key.public_key().public_bytes_raw(), signature)


def public_key(secret: bytes) -> bytes:
    """By which heads of a server are checked. Shapes: 32 bytes."""
    return _private_key(secret).public_key().public_bytes_raw()


def check_head(head: SignedHead, *, signer: bytes) -> None:
    """Errors: Refused when the head is not, as it is, by the signer whose public key is given."""
    # As late as in `_private_key`, and why.
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415

    shown = f"the head of {head.project or 'the server'!s} at entry {head.sequence}"
    if head.public_key != signer:
        raise Refused(
            f"{shown} was signed by key {head.public_key.hex()[:16]}, expected {signer.hex()[:16]}; it is of another "
            "server, or the server's secret was changed since: name the key that you trust"
        )
    try:
        Ed25519PublicKey.from_public_bytes(signer).verify(
            head.signature, _signed_text(head.project, head.sequence, head.hash, head.at)
        )
    except (InvalidSignature, ValueError):
        raise Refused(f"{shown} was changed after it was signed; use the file as it was exported") from None


def head_document(head: SignedHead) -> dict[str, Json]:
    """A head as JSON."""
    return {
        "format": FORMAT,
        "project": head.project,
        "sequence": head.sequence,
        "hash": head.hash,
        "at": _instant(head.at),
        "publicKey": head.public_key.hex(),
        "signature": head.signature.hex(),
    }


def read_head_document(document: Json) -> SignedHead:
    """Errors: InvalidRequest when it is no head."""
    try:
        if document["format"] != FORMAT:
            raise InvalidRequest(
                f"a head of format {str(document['format'])[:40]!r} is not understood; expected {FORMAT}"
            )
        head = SignedHead(
            document["project"],
            document["sequence"],
            document["hash"],
            datetime.fromisoformat(document["at"]),
            bytes.fromhex(document["publicKey"]),
            bytes.fromhex(document["signature"]),
        )
    except (KeyError, TypeError, ValueError, binascii.Error):
        raise InvalidRequest("this is no signed head of an audit trail; `flagstaff audit head` writes one") from None
    types: dict[str, Any] = {"project": str, "sequence": int, "hash": str}
    if any(type(getattr(head, name)) is not kind for name, kind in types.items()) or head.at.tzinfo is None:
        raise InvalidRequest("this is no signed head of an audit trail; `flagstaff audit head` writes one")
    return head


def read_heads(text: str) -> list[SignedHead]:
    """Heads from JSON lines; lines that are entries of an export are passed over. Errors: InvalidRequest."""
    heads: list[SignedHead] = []
    for line in text.splitlines():
        if line.strip():
            try:
                document = json.loads(line)
            except ValueError:
                raise InvalidRequest("a head is one line of JSON; this file has other lines") from None
            if not (isinstance(document, dict) and "previousHash" in document):
                heads.append(read_head_document(document))
    return heads


def _private_key(secret: bytes) -> "Ed25519PrivateKey":
    # Loaded when the first head is signed: it takes 6 MB, and most processes never sign one.
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

    return Ed25519PrivateKey.from_private_bytes(derived_key(secret, KEY_PURPOSE))


def _signed_text(project: str, sequence: int, hash_: str, at: datetime) -> bytes:
    content = {"format": FORMAT, "project": project, "sequence": sequence, "hash": hash_, "at": _instant(at)}
    return canonical_json(content).encode()


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")
