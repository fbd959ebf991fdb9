"""Chain audit entries by hashes, so that a changed or missing one shows."""

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

import orjson

from server.core.json import Json

GENESIS: Final = "0" * 64
"""Stands before a project's first entry."""

SERVER_TRAIL: Final = ""
"""The trail of what belongs to no project, such as a token for the whole server; no project can have this key."""

_DELETE: Final = b"\x7f"
"""The one ASCII character that only canonical JSON escapes."""


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
    at = entry.at.astimezone(UTC).replace(tzinfo=None)
    return row_hash(
        (
            entry.sequence,
            entry.hash,
            previous_hash,
            entry.project,
            entry.environment,
            entry.revision,
            entry.actor,
            entry.action,
            entry.subject_kind,
            entry.subject_key,
            entry.before,
            entry.after,
            entry.reason,
            entry.cause,
            entry.request_id,
            at,
        )
    )


Row: TypeAlias = tuple[Any, ...]
"""An entry as its values in the order of ROW. Reading a trail makes no objects of it.

`at` is in UTC without a time zone, or its text as SQLite keeps it: `2026-01-01 12:00:00.000000`.
"""

ROW: Final = (
    *("sequence", "hash", "previous_hash", "project", "environment", "revision", "actor", "action", "subject_kind"),
    *("subject_key", "before", "after", "reason", "cause", "request_id", "at"),
)


def row_hash(row: Row) -> str:
    """The hash of an entry, from its values. Errors: TypeError or AttributeError when one has not its column's type."""
    (
        sequence,
        _,
        previous_hash,
        project,
        environment,
        revision,
        actor,
        action,
        subject_kind,
        subject_key,
        before,
        after,
        reason,
        cause,
        request_id,
        at,
    ) = row
    # In the order of canonical JSON. The names are written out: a renamed field must not break the chains that exist.
    content = {
        "action": action,
        "actor": actor,
        "after": after,
        "at": f"{at[:10]}T{at[11:]}+00:00" if type(at) is str else f"{at.isoformat(timespec='microseconds')}+00:00",
        "before": before,
        "cause": cause,
        "environment": environment,
        "previousHash": previous_hash,
        "project": project,
        "reason": reason,
        "requestId": request_id,
        "revision": revision,
        "sequence": sequence,
        "subjectKey": subject_key,
        "subjectKind": subject_kind,
    }
    return hashlib.sha256(_canonical_bytes(content)).hexdigest()


def _canonical_bytes(content: dict[str, Any]) -> bytes:
    """What `canonical_json` writes of an object whose names are in order, in a quarter of the time where it can be."""
    try:
        text = orjson.dumps(content)
    except orjson.JSONEncodeError:
        # Half of a surrogate pair, which canonical JSON escapes.
        return canonical_json(content).encode()
    return text if text.isascii() and _DELETE not in text else canonical_json(content).encode()


def canonical_json(value: Json) -> str:
    """One text for one value: sorted names, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
