"""Chain audit entries by hashes, so that a changed or missing one shows."""

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from server.core.json import Json

GENESIS: Final = "0" * 64
"""Stands before a project's first entry."""

SERVER_TRAIL: Final = ""
"""The trail of what belongs to no project, such as a token for the whole server; no project can have this key."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Who changed what, and why.

    `before` and `after` are the documents' stored text, so the hash covers every byte of them.
    """

    project: str
    sequence: int
    environment: str
    """"" for what belongs to no environment."""

    revision: int
    actor: str
    action: str
    subject_kind: str
    subject_key: str
    before: str | None
    after: str | None
    reason: str
    cause: str
    request_id: str
    at: datetime
    previous_hash: str = ""
    hash: str = ""


def chain_hash(entry: AuditEntry, previous_hash: str) -> str:
    """SHA-256, in hexadecimal, over the entry as canonical JSON and the hash of the entry before it."""
    at = entry.at.astimezone(UTC).isoformat(timespec="microseconds")
    # The names are written out: a renamed field must not break the chains that exist.
    content = {
        "project": entry.project,
        "sequence": entry.sequence,
        "environment": entry.environment,
        "revision": entry.revision,
        "actor": entry.actor,
        "action": entry.action,
        "subjectKind": entry.subject_kind,
        "subjectKey": entry.subject_key,
        "before": entry.before,
        "after": entry.after,
        "reason": entry.reason,
        "cause": entry.cause,
        "requestId": entry.request_id,
        "at": at,
        "previousHash": previous_hash,
    }
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def canonical_json(value: Json) -> str:
    """One text for one value: sorted names, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
