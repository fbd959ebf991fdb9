"""Lay out the tables; the migrations build exactly these.

Documents are compact JSON text, not columns: a definition is read and replaced whole, and old revisions must stay
readable whatever later versions add. The columns beside a document are copies for searching. Keys are natural, so
that a row says what it is about without a join.
"""

from datetime import datetime
from typing import Final

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, LargeBinary, Table, Text, true
from sqlalchemy import text as sql_text
from sqlmodel import Field

from server.store import (
    action_tables,
    change_request_tables,
    guard_tables,
    launch_plan_tables,
    metric_tables,
    release_tables,
    rule_tables,
    schedule_tables,
    staleness_tables,
)
from server.store.rows import Base, Instant
from server.store.rows import instant_column as _instant
from server.store.rows import key_column as _key
from server.store.rows import number_column as _number
from server.store.rows import text_column as _text
from webhooks import tables as webhook_tables

__all__ = [
    "Base",
    "Instant",
    "action_tables",
    "launch_plan_tables",
    "release_tables",
    "rule_tables",
    "schedule_tables",
    "staleness_tables",
]


def _of_environment() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["project", "environment"], ["environment.project", "environment.key"])


class Project(Base, table=True):
    """A project, with the place in the order of its events.

    One row may have the key "": the server itself, for the trail and the events of what belongs to no project.
    """

    __tablename__ = "project"

    key: str = _key()
    name: str = _text("")
    description: str = _text("", sa_column_kwargs={"server_default": sql_text("''")})
    event_sequence: int = _number(0)
    """The last sequence number given to an event; kept here because announced events may be deleted one day."""

    created_at: datetime = _instant()
    deleted_at: datetime | None = _instant()
    """The row stays: what was done in the project stays known, and its counters go on when the key is used again."""


class Environment(Base, table=True):
    """An environment, with the counter of its commits."""

    __tablename__ = "environment"
    __table_args__ = (
        ForeignKeyConstraint(["project"], ["project.key"]),
        # The bucketing decides who gets what; a value that nobody understands must not get in by any way.
        CheckConstraint("bucketing IN ('v2', 'v3')", name="bucketing"),
        CheckConstraint("revision >= 0", name="revision"),
    )

    project: str = _key()
    key: str = _key()
    name: str = _text("")
    bucketing: str = _text("v2")
    critical: bool = Field(default=False)
    metadata_document: str = _text("{}")
    source: str = _text("")
    sync: bool = Field(default=True, sa_column_kwargs={"server_default": true()})
    protection_document: str = _text("{}", sa_column_kwargs={"server_default": sql_text("'{}'")})
    """Who has to agree to a change and when there may be none: approval policy and freeze windows."""

    sync_total: int | None = _number()
    """The sum of what its flags take of the text for in-process clients; NULL when it has to be counted anew."""

    revision: int = _number(0)
    created_at: datetime = _instant()
    deleted_at: datetime | None = _instant()
    """The row stays: revisions belong to it, and go on counting when the key is used again."""


class Flag(Base, table=True):
    """What a flag is in every environment of its project."""

    __tablename__ = "flag"
    __table_args__ = (
        ForeignKeyConstraint(["project"], ["project.key"]),
        Index("ix_flag_type", "project", "type"),
        Index("ix_flag_kind", "project", "kind"),
        Index("ix_flag_owner", "project", "owner"),
        Index("ix_flag_archived_at", "project", "archived_at"),
    )

    project: str = _key()
    key: str = _key()
    type: str = _text()
    kind: str = _text()
    owner: str = _text("")
    archived_at: datetime | None = _instant()
    document: str = _text()
    tags: str = Field(default="", sa_type=Text, sa_column_kwargs={"server_default": sql_text("''")})
    """Each between separators, as server/store/saving.py writes them."""

    search: str = Field(default="", sa_type=Text, sa_column_kwargs={"server_default": sql_text("''")})
    """What a text is looked for in: key and description, without a difference of case."""

    version: int = _number(0, sa_column_kwargs={"server_default": sql_text("0")})
    """The sequence number of the audit entry that its shared part changed with last."""


class FlagConfig(Base, table=True):
    """How a flag behaves in one environment."""

    __tablename__ = "flag_config"
    __table_args__ = (
        _of_environment(),
        ForeignKeyConstraint(["project", "key"], ["flag.project", "flag.key"]),
        Index("ix_flag_config_key", "project", "key"),
        # Has all that their sum needs, so that no document is read for it.
        Index("ix_flag_config_sync_bytes", "project", "environment", "sync_bytes"),
        Index("ix_flag_config_settles_at", "settles_at"),
    )

    project: str = _key()
    environment: str = _key()
    key: str = _key()
    document: str = _text()
    enabled: bool = Field(default=True, sa_column_kwargs={"server_default": true()})
    sync_bytes: int | None = _number()
    """What the flag takes of the text for in-process clients; NULL when that is not known, as where sync is off."""

    settles_at: datetime | None = _instant()
    """When the clock makes something of it that is to be written down; see core/timelines.py."""


class Segment(Base, table=True):
    """A named group of units in one environment."""

    __tablename__ = "segment"
    __table_args__ = (_of_environment(),)

    project: str = _key()
    environment: str = _key()
    key: str = _key()
    document: str = _text()


class SegmentChunk(Base, table=True):
    """Part of a large segment's keys, as it is looked up in; see core/keylists.py."""

    __tablename__ = "segment_chunk"
    __table_args__ = (_of_environment(),)

    project: str = _key()
    environment: str = _key()
    segment: str = _key()
    place: int = _number(primary_key=True, sa_column_kwargs={"autoincrement": False})
    key_count: int = _number()
    byte_count: int = _number()
    digest: bytes = Field(sa_type=LargeBinary)
    revision: int = _number()
    """The environment's revision when the keys here changed last."""

    packed: bytes = Field(sa_type=LargeBinary)
    """Stands last: what comes before it is read without it."""


class Reference(Base, table=True):
    """Who refers to whom inside one environment: the graph that a change has to look at, without reading documents."""

    __tablename__ = "reference"
    __table_args__ = (
        _of_environment(),
        Index("ix_reference_target", "project", "environment", "target_kind", "target_key"),
        {"sqlite_with_rowid": False},
    )

    project: str = _key()
    environment: str = _key()
    kind: str = _key()
    key: str = _key()
    target_kind: str = _key()
    target_key: str = _key()


class Revision(Base, table=True):
    """One thing as one commit left it; a row for every thing that the commit touched, never changed again."""

    __tablename__ = "revision"
    __table_args__ = (
        _of_environment(),
        Index("ix_revision_history", "project", "environment", "kind", "key", "revision"),
        Index("ix_revision_at", "project", "environment", "at", "revision"),
    )

    project: str = _key()
    environment: str = _key()
    revision: int = _number(primary_key=True, sa_column_kwargs={"autoincrement": False})
    kind: str = _key()
    key: str = _key()
    document: str | None = _text()
    """NULL when the commit removed it."""

    at: datetime = _instant()


class AuditEntry(Base, table=True):
    """Who changed what and why; chained by hashes within a project, never changed again."""

    __tablename__ = "audit_entry"
    __table_args__ = (
        ForeignKeyConstraint(["project"], ["project.key"]),
        Index("ix_audit_entry_subject", "project", "subject_kind", "subject_key", "environment", "sequence"),
        Index("ix_audit_entry_at", "project", "at", "sequence"),
        Index("ix_audit_entry_request", "project", "request_id"),
    )

    project: str = _key()
    sequence: int = _number(primary_key=True, sa_column_kwargs={"autoincrement": False})
    environment: str = _text("")
    revision: int = _number()
    """The environment's revision after the change; 0 for what belongs to no environment."""

    actor: str = _text()
    action: str = _text()
    subject_kind: str = _text()
    subject_key: str = _text()
    before: str | None = _text()
    after: str | None = _text()
    reason: str = _text("")
    cause: str = _text("")
    request_id: str = _text("")
    at: datetime = _instant()
    previous_hash: str = _text()
    hash: str = _text()


class Outbox(Base, table=True):
    """Events that were committed and are to be announced, in one order per project."""

    __tablename__ = "outbox"
    __table_args__ = (ForeignKeyConstraint(["project"], ["project.key"]), Index("ix_outbox_id", "id", unique=True))

    project: str = _key()
    sequence: int = _number(primary_key=True, sa_column_kwargs={"autoincrement": False})
    id: str = _text()
    environment: str = _text("")
    type: str = _text()
    payload: str = _text()
    at: datetime = _instant()


class Request(Base, table=True):
    """A commit that its sender may send again; the second time gets the first answer."""

    __tablename__ = "request"
    __table_args__ = (ForeignKeyConstraint(["project"], ["project.key"]),)

    project: str = _key()
    id: str = _key()
    digest: str = _text()
    """SHA-256 of what was asked, so that the same name for something else is noticed."""

    environment: str = _text()
    revision: int = _number()
    unchanged: bool = Field()
    at: datetime = _instant()


class Lease(Base, table=True):
    """Who does the work of this name at present; the row stays when nobody does."""

    __tablename__ = "lease"

    name: str = _key()
    holder: str = _text()
    token: int = _number()
    """Counts the hand-overs, so that a former holder is known by a lower one."""

    ttl_s: float = Field()
    expires_at: datetime = _instant()
    """By the database's clock."""


class Token(Base, table=True):
    """An API token without its secret. Rows are never deleted: the audit trail names them."""

    __tablename__ = "token"
    __table_args__ = (ForeignKeyConstraint(["project"], ["project.key"]), Index("ix_token_change", "change"))

    id: str = _key()
    project: str = _text("")
    """Where it is managed; "" for the server, and so for `environment`."""

    environment: str = _text("")
    name: str = _text()
    grants: str = _text()
    digest: str = _text()
    """HMAC-SHA256 of the token, in hexadecimal."""

    key_name: str = _text()
    """Which key the digest was made with."""

    created_at: datetime = _instant()
    created_by: str = _text()
    expires_at: datetime | None = _instant()
    revoked_at: datetime | None = _instant()
    last_used_at: datetime | None = _instant()
    replaced_by: str = _text("")
    change: int = _number()
    """Counts the changes of all tokens, but not their use; the highest one tells whether anything is new."""


def _table(name: str) -> Table:
    return Base.metadata.tables[name]


projects: Final = _table("project")
environments: Final = _table("environment")
flags: Final = _table("flag")
flag_configs: Final = _table("flag_config")
segments: Final = _table("segment")
segment_chunks: Final = _table("segment_chunk")
references: Final = _table("reference")
revisions: Final = _table("revision")
audit_entries: Final = _table("audit_entry")
outbox: Final = _table("outbox")
requests: Final = _table("request")
leases: Final = _table("lease")
tokens: Final = _table("token")
change_requests: Final = change_request_tables.change_requests
change_request_subjects: Final = change_request_tables.change_request_subjects
change_request_steps: Final = change_request_tables.change_request_steps
metrics: Final = metric_tables.metrics
metric_sums: Final = metric_tables.metric_sums
metric_producers: Final = metric_tables.metric_producers
guards: Final = guard_tables.guards
rollback_policies: Final = guard_tables.rollback_policies
rollback_triggers: Final = guard_tables.rollback_triggers
guard_evaluations: Final = guard_tables.guard_evaluations

# The library's own tables are part of the database too: of its schema, its backups and its restoring.
for _each in webhook_tables.Base.metadata.sorted_tables:
    _each.to_metadata(Base.metadata)
