"""Note what happened to things that are no part of a flag set: in the audit trail, and in the outbox."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection

from server.core.announcing.groups import announced_name
from server.core.audit import AuditEntry
from server.core.json import Json
from server.store.announce import Announcement, announce
from server.store.audit import append_entries
from server.store.mapping import compact
from server.store.standing import read_standing
from server.store.statements import together


@dataclass(frozen=True, slots=True)
class Occurrence:
    """Something that happened to a change request, a schedule, a release."""

    project: str
    kind: str
    """Of the thing, as the audit trail names its subjects: `change-request`."""

    key: str
    """The thing's key or id."""

    type: str
    """What happened, as events name it: `change-request.approved`."""

    actor: str
    at: datetime
    data: Mapping[str, Json] = field(default_factory=dict)
    """What is to be known of it: flat, and nothing secret. The audit trail keeps it as what is so now."""

    before: Mapping[str, Json] | None = None
    """What was so before, for the audit trail."""

    environment: str = ""
    """Where it happened; "" for what belongs to the project."""

    reason: str = ""
    cause: str = ""


def note(connection: Connection, occurrence: Occurrence) -> None:
    """Keep an audit entry, and an announcement, in the transaction of what they tell.

    No revision comes of it: flags and segments change by `commit` alone, which tells of them itself.
    """
    note_all(connection, occurrence.project, [occurrence])


def note_all(connection: Connection, project: str, occurrences: Sequence[Occurrence]) -> None:
    """The same for several of a project, in this order, with as few statements as one takes."""
    if not occurrences:
        return
    standing = read_standing(connection, project)
    with together(connection):
        append_entries(connection, project, entries=[_entry(each) for each in occurrences], standing=standing)
        announce(connection, project, announcements=[_announcement(each) for each in occurrences], standing=standing)


def _entry(occurrence: Occurrence) -> AuditEntry:
    return AuditEntry(
        project=occurrence.project,
        sequence=0,
        environment=occurrence.environment,
        revision=0,
        actor=occurrence.actor,
        action=occurrence.type,
        subject_kind=occurrence.kind,
        subject_key=occurrence.key,
        before=None if occurrence.before is None else compact(dict(occurrence.before)),
        after=compact(dict(occurrence.data)),
        reason=occurrence.reason,
        cause=occurrence.cause,
        # It belongs to the request's commit, whose first answer is read back from the entries that bear it.
        request_id="",
        at=occurrence.at,
    )


def _announcement(occurrence: Occurrence) -> Announcement:
    payload = {
        "project": occurrence.project,
        "environment": occurrence.environment,
        "kind": occurrence.kind,
        "key": occurrence.key,
        "actor": occurrence.actor,
        "reason": occurrence.reason,
        "cause": occurrence.cause,
        **occurrence.data,
    }
    return Announcement(occurrence.environment, announced_name(occurrence.type), compact(payload), occurrence.at)
