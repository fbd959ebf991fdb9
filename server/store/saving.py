"""Write what a commit decided: state, references, revisions, audit entries and announcements."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, exists

from server.core import references
from server.core.announcing.naming import killed
from server.core.audit import AuditEntry
from server.core.environments import Environment
from server.core.events import Event
from server.core.flags import Flag, FlagDefinition
from server.core.references import Target
from server.core.segments import Segment
from server.core.timelines import next_instant
from server.store import failpoints, tables
from server.store.announce import Announcement, announce, payload_text
from server.store.audit import append_entries
from server.store.locks import NO_KEY, Key
from server.store.mapping import FlagText, parse
from server.store.neighbourhood import Neighbourhood, is_placeholder
from server.store.standing import Standing, read_standing
from server.store.statements import delete_rows, insert_rows, together, update_rows
from server.store.sync_sizes import SyncCount, note_counts

TAG_SEPARATOR: Final = "\x1f"
IMPORT_FLAGS_MIN: Final = 100
"""From this many new flags on a commit counts as an import, for its failpoint."""

OWNER_COPY_CHARS_MAX: Final = 256


@dataclass(frozen=True, slots=True)
class Cause:
    """Who asked for a commit, and why; the same for all that it writes."""

    project: str
    actor: str
    now: datetime
    reason: str
    cause: str
    request_id: str
    key: Key = NO_KEY
    """What it has in hand to change flags that something else moves."""

    is_kill: bool = False
    """Whether flags are switched off as an emergency, which is told to others as such."""


@dataclass(frozen=True, slots=True)
class Record:
    """One thing that a commit touched, in one environment, as documents' texts."""

    environment: str
    """"" for what belongs to no environment."""

    revision: int
    type: str
    """An event's type, such as "flag.updated"."""

    kind: str
    key: str
    before: str | None
    after: str | None
    announced: str = ""
    """What others are told that it is, where that is finer than `type`."""


def save_flags(
    connection: Connection,
    environment: Environment,
    *,
    flags: Mapping[str, tuple[FlagDefinition, FlagText]],
    removed: Collection[str],
    stored: Neighbourhood,
    count: SyncCount,
    version: int,
    now: datetime,
) -> None:
    """Write flags and their configurations in one environment; shared parts that differ get this version."""
    here = {"project": environment.project, "environment": environment.key}
    delete_rows(connection, tables.flag_configs, [{**here, "key": key} for key in removed])
    delete_unconfigured(connection, environment.project, keys=removed)
    shared = [
        _flag_row(environment.project, definition.flag, text, version)
        for key, (definition, text) in flags.items()
        if stored.flag_parts.get(key) != text.flag
    ]
    insert_rows(connection, tables.flags, [row for row in shared if row["key"] not in stored.flag_parts])
    update_rows(connection, tables.flags, [row for row in shared if row["key"] in stored.flag_parts])
    configs = {
        key: {
            **here,
            "key": key,
            "document": text.config,
            "enabled": definition.config.enabled,
            "sync_bytes": count.bytes_of(key, stored),
            "settles_at": next_instant(definition.config, now),
        }
        for key, (definition, text) in flags.items()
        if stored.config_texts.get(key) != text.config
    }
    created = [row for key, row in configs.items() if key not in stored.config_texts]
    half = len(created) // 2 if len(created) >= IMPORT_FLAGS_MIN else 0
    insert_rows(connection, tables.flag_configs, created[:half])
    if half:
        failpoints.reach("import.half")
    insert_rows(connection, tables.flag_configs, created[half:])
    update_rows(connection, tables.flag_configs, [row for key, row in configs.items() if key in stored.config_texts])
    note_counts(connection, count, noted=configs.keys())


def delete_unconfigured(connection: Connection, project: str, *, keys: Collection[str]) -> None:
    """Delete those of these flags that no environment configures any more; their revisions stay."""
    if keys:
        flag, config = tables.flags.c, tables.flag_configs.c
        used = exists().where(config.project == flag.project, config.key == flag.key)
        connection.execute(
            delete(tables.flags).where(flag.project == project, flag.key == bindparam("own_key"), ~used),
            [{"own_key": key} for key in keys],
        )


def save_segments(
    connection: Connection,
    environment: Environment,
    *,
    texts: Mapping[str, str],
    removed: Collection[str],
    stored: Neighbourhood,
) -> None:
    """Write an environment's segments."""
    here = {"project": environment.project, "environment": environment.key}
    delete_rows(connection, tables.segments, [{**here, "key": key} for key in removed])
    rows = [{**here, "key": key, "document": text} for key, text in texts.items()]
    insert_rows(connection, tables.segments, [row for row in rows if row["key"] not in stored.segment_texts])
    update_rows(connection, tables.segments, [row for row in rows if row["key"] in stored.segment_texts])


def save_references(
    connection: Connection,
    environment: Environment,
    *,
    events: Iterable[Event],
    damaged: Collection[Target],
) -> None:
    """Write who refers to whom, where that changed."""
    here = {"project": environment.project, "environment": environment.key}
    gone: list[dict[str, Any]] = []
    added: list[dict[str, Any]] = []
    for event in events:
        if event.kind not in ("flag", "segment"):
            continue
        subject: Target = (event.kind, event.key)
        before, after = _references(event.before), _references(event.after)
        if before == after and subject not in damaged:
            continue
        if isinstance(event.after, FlagDefinition) and is_placeholder(event.after):
            # It was only turned off: its rules are what they were.
            continue
        own = {**here, "kind": event.kind, "key": event.key}
        if event.before is not None:
            gone.append(own)
        added.extend({**own, "target_kind": kind, "target_key": key} for kind, key in sorted(after))
    delete_rows(connection, tables.references, gone)
    insert_rows(connection, tables.references, added)


def save_records(
    connection: Connection,
    cause: Cause,
    *,
    records: Sequence[Record],
    damaged: Collection[Target],
    standing: Standing | None = None,
    totals: Mapping[str, int | None] | None = None,
) -> None:
    """Write revisions, audit entries and announcements; the environments' counters go up with them.

    The project's trail and events end as `standing` says. `totals` has the bytes of each environment's flags, where
    these are counted.
    """
    standing = standing or read_standing(connection, cause.project)
    counters: dict[str, dict[str, int | None]] = {
        record.environment: {"revision": record.revision} for record in records if record.environment
    }
    if totals is not None:
        counters = {key: {**counter, "sync_total": totals[key]} for key, counter in counters.items()}
    counted = [{"project": cause.project, "key": key, **counter} for key, counter in counters.items()]
    touched = [_revision_row(cause, record) for record in records if record.environment]
    entries = [_entry(cause, record) for record in records]
    announcements = [_announcement(cause, record, damaged=damaged) for record in records]
    with together(connection):
        update_rows(connection, tables.environments, counted)
        insert_rows(connection, tables.revisions, touched)
        failpoints.reach("commit.saved")
        append_entries(connection, cause.project, entries=entries, standing=standing)
        failpoints.reach("commit.audited")
        announce(connection, cause.project, announcements=announcements, standing=standing)


def separated(tags: Sequence[str]) -> str:
    """Tags as a text in which each is found between two separators."""
    return _kept(TAG_SEPARATOR.join(["", *tags, ""])) if tags else ""


def searched(key: str, description: str) -> str:
    """What a text is looked for in, case folded."""
    return _kept(f"{key}\n{description}").casefold()


def _flag_row(project: str, flag: Flag, text: FlagText, version: int) -> dict[str, Any]:
    return {
        "project": project,
        "key": flag.key,
        "type": flag.type.value,
        "kind": flag.kind.value,
        "owner": owner_copy(flag.owner),
        "archived_at": flag.archived_at,
        "document": text.flag,
        "tags": separated(flag.tags),
        "search": searched(flag.key, flag.description),
        "version": version,
    }


def owner_copy(owner: str) -> str:
    """An owner as flags are looked for by it: no longer than an index takes, and without what no column takes."""
    return _kept(owner)[:OWNER_COPY_CHARS_MAX]


def _kept(text: str) -> str:
    # PostgreSQL keeps no NUL in a column; documents have it escaped.
    return text.replace("\0", "")


def _references(value: object) -> frozenset[Target]:
    match value:
        case FlagDefinition():
            return references.of_flag(value)
        case Segment():
            return references.of_segment(value)
    return frozenset()


def _revision_row(cause: Cause, record: Record) -> dict[str, Any]:
    return {
        "project": cause.project,
        "environment": record.environment,
        "revision": record.revision,
        "kind": record.kind,
        "key": record.key,
        "document": record.after,
        "at": cause.now,
    }


def _entry(cause: Cause, record: Record) -> AuditEntry:
    return AuditEntry(
        project=cause.project,
        sequence=0,
        environment=record.environment,
        revision=record.revision,
        actor=cause.actor,
        action=record.type,
        subject_kind=record.kind,
        subject_key=record.key,
        before=record.before,
        after=record.after,
        reason=cause.reason,
        cause=cause.cause,
        request_id=cause.request_id,
        at=cause.now,
    )


def _announcement(cause: Cause, record: Record, *, damaged: Collection[Target]) -> Announcement:
    fields: dict[str, str | int] = {
        "project": cause.project,
        "environment": record.environment,
        "revision": record.revision,
        "kind": record.kind,
        "key": record.key,
        "actor": cause.actor,
        "reason": cause.reason,
        "cause": cause.cause,
        "requestId": cause.request_id,
    }
    # A damaged document may be no JSON at all; the payload must be.
    unsure = (record.kind, record.key) in damaged
    before, after = (None if unsure and parse(text) is None else text for text in (record.before, record.after))
    payload = payload_text(fields, before=before, after=after)
    type_ = record.announced or record.type
    return Announcement(record.environment, killed(type_) if cause.is_kill else type_, payload, cause.now)
