"""Keep what is known of tokens in a file beside the last known good flags, for a start without the database.

The file has digests and no secrets; without the server's secret key it opens nothing, and only its owner can read it.
"""

import json
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from server.core.access import Scope
from server.core.errors import StoreCorrupt
from server.core.tokens import Token, grants_of, stored_grants
from server.store.tokens import StoredToken

FORMAT: Final = 1
NAME: Final = "tokens.json"


@dataclass(frozen=True, slots=True)
class KeptTokens:
    """The file in a directory."""

    directory: Path

    @property
    def path(self) -> Path:
        """Where it is."""
        return self.directory / NAME

    def write(self, stored: Sequence[StoredToken]) -> None:
        """Replace the file at once or not at all. Errors: OSError."""
        content = json.dumps({"format": FORMAT, "tokens": [_document(each) for each in stored]}).encode()
        self.directory.mkdir(parents=True, exist_ok=True)
        part = self.directory / f"{NAME}.{os.getpid()}.{secrets.token_hex(4)}.new"
        try:
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.path)
        finally:
            part.unlink(missing_ok=True)

    def read(self) -> list[StoredToken]:
        """The tokens as they were last known; none when nothing is kept. Errors: StoreCorrupt, OSError."""
        try:
            content = json.loads(self.path.read_bytes())
            if content["format"] != FORMAT:
                raise ValueError
            return [_stored(each) for each in content["tokens"]]
        except FileNotFoundError:
            return []
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
            why = "is damaged, or of another version; tokens are known again when the database is there"
            raise StoreCorrupt(f"{self.path} {why}") from None


def _document(stored: StoredToken) -> dict[str, Any]:
    token = stored.token
    return {
        "id": token.id,
        "grants": stored_grants(token.grants),
        "digest": stored.digest,
        "keyName": stored.key_name,
        "createdAt": token.created_at.isoformat(),
        "expiresAt": token.expires_at and token.expires_at.isoformat(),
        "revokedAt": token.revoked_at and token.revoked_at.isoformat(),
    }


def _stored(document: Mapping[str, Any]) -> StoredToken:
    """What is kept is what it takes to recognise a token, and not what people call it."""

    def instant(name: str) -> datetime | None:
        return None if document[name] is None else datetime.fromisoformat(document[name])

    token = Token(
        id=document["id"],
        name="",
        grants=grants_of(document["grants"]),
        home=Scope(),
        created_at=datetime.fromisoformat(document["createdAt"]),
        created_by="",
        expires_at=instant("expiresAt"),
        revoked_at=instant("revokedAt"),
    )
    return StoredToken(token, document["digest"], document["keyName"])
