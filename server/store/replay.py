"""Read back what an earlier commit did, from the audit trail that it left."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, select

from server.core import events
from server.core.audit import AuditEntry
from server.core.definitions.problems import Problems
from server.core.events import Event
from server.store import tables
from server.store.mapping import environment_from_text, parse, parse_flag, parse_segment, project_from_text


@dataclass(frozen=True, slots=True)
class Past:
    """What a commit did."""

    events: tuple[Event, ...]
    subjects: tuple[tuple[str, str], ...]
    elsewhere: Mapping[str, int]
    """Revisions of other environments than the one that was asked about."""

    revision: int
    """What the commit made of this environment; 0 when it left it alone."""


def read_past(connection: Connection, project: str, environment: str, *, request_id: str) -> Past:
    """What the commit with this request id did; nothing when it changed nothing."""
    columns = tables.audit_entries.c
    query = (
        select(tables.audit_entries)
        .where(columns.project == project, columns.request_id == request_id)
        .order_by(columns.sequence)
    )
    entries = [AuditEntry(**row) for row in connection.execute(query).mappings()]
    ours = ("", environment)
    here = [entry for entry in entries if entry.environment in ours]
    return Past(
        tuple(event for entry in here if (event := _event(entry)) is not None),
        tuple((entry.subject_kind, entry.subject_key) for entry in here),
        {entry.environment: entry.revision for entry in entries if entry.environment not in ours},
        max((entry.revision for entry in here), default=0),
    )


_TYPES: Final[Mapping[str, Callable[..., Event]]] = {event_type.type: event_type for event_type in events.TYPES}


def _event(entry: AuditEntry) -> Event | None:
    # A definition that is damaged, or that a later version reads differently, has no event; its subject is named.
    before, after = _value(entry, entry.before), _value(entry, entry.after)
    given = {name: value for name, value in (("before", before), ("after", after)) if value is not None}
    event_type = _TYPES.get(entry.action)
    wanted = {text for text, value in (("before", entry.before), ("after", entry.after)) if value is not None}
    if event_type is None or given.keys() != wanted:
        return None
    return event_type(key=entry.subject_key, **given)


def _value(entry: AuditEntry, text: str | None) -> Any:
    if text is None:
        return None
    match entry.subject_kind:
        case "flag":
            return parse_flag(entry.subject_key, parse(text), problems=Problems())
        case "segment":
            return parse_segment(entry.subject_key, parse(text), problems=Problems())
        case "environment":
            return environment_from_text(entry.project, entry.subject_key, text)
        case "project":
            return project_from_text(entry.subject_key, text)
    return None
