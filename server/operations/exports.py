"""Write audit entries as JSON lines, and verify such an export by itself."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

from server.core.audit import AuditEntry, Row
from server.core.errors import InvalidRequest
from server.core.json import Json
from server.core.trails import Verification, Verified
from server.operations.heads import SignedHead, check_head, head_document, read_head_document

PORTION_ROWS: Final = 1_000


def entry_line(entry: AuditEntry) -> bytes:
    """An entry as a line; the documents are texts in it, so that the hash can be computed again."""
    return _line(
        {
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
            "at": entry.at.astimezone(UTC).isoformat(timespec="microseconds"),
            "previousHash": entry.previous_hash,
            "hash": entry.hash,
        }
    )


def head_line(head: SignedHead) -> bytes:
    """A head as a line: the last one of an export."""
    return _line(head_document(head))


def verify_export(lines: Iterable[str], *, signer: bytes = b"") -> tuple[Verified, SignedHead]:
    """Verify the export of a whole trail by itself, against the signed head that ends it.

    Without a signer the head is only known to be by whoever holds the key that it names.
    Errors: InvalidRequest when it is none, or has no head at its end; Refused when the head is not by the signer.
    """
    head = None
    portions: list[list[Row]] = [[]]
    for number, line in enumerate(lines, start=1):
        if head is not None:
            raise InvalidRequest(f"line {number}: an export ends with its head, and this one goes on")
        document = _read(line, number)
        if "previousHash" not in document:
            head = read_head_document(document)
        else:
            if len(portions[-1]) >= PORTION_ROWS:
                portions.append([])
            portions[-1].append(_row(document, number))
    if head is None:
        raise InvalidRequest("the export ends without its signed head: it was cut off, or is none")
    check_head(head, signer=signer or head.public_key)
    verification = Verification(head.project, marks=[head.mark()])
    for rows in portions:
        verification.take(rows)
    return verification.end(), head


def _line(document: Json) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=True).encode() + b"\n"


def _read(line: str, number: int) -> dict[str, Any]:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise InvalidRequest(f"line {number} is no JSON object; this is no export of an audit trail")
    return document


def _row(document: dict[str, Any], number: int) -> Row:
    try:
        return (
            document["sequence"],
            document["hash"],
            document["previousHash"],
            document["project"],
            document["environment"],
            document["revision"],
            document["actor"],
            document["action"],
            document["subjectKind"],
            document["subjectKey"],
            document["before"],
            document["after"],
            document["reason"],
            document["cause"],
            document["requestId"],
            datetime.fromisoformat(document["at"]).astimezone(UTC).replace(tzinfo=None),
        )
    except (KeyError, TypeError, ValueError):
        raise InvalidRequest(f"line {number} is no entry of an audit trail") from None
