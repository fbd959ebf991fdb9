"""Lay out the tables of releases, and of who moves which flag."""

from datetime import datetime
from typing import Final

from sqlalchemy import ForeignKeyConstraint, Index, Table
from sqlmodel import Field

from server.store.rows import Base, instant_column, key_column, number_column, text_column


def _of_release() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["project", "release"], ["release.project", "release.id"])


class Release(Base, table=True):
    """A release: what it is to do, and how far it has come."""

    __tablename__ = "release"
    __table_args__ = (
        Index("ix_release_state", "project", "state", "created_at"),
        Index("ix_release_next_at", "next_at"),
    )

    project: str = key_column()
    id: str = key_column()
    state: str = text_column()
    kind: str = text_column()
    name: str = text_column()
    plan: str = text_column()
    progress: str = text_column()
    """How far it has come; the columns beside it are copies for searching."""

    anchors: str = text_column("[]")
    """The flags as they were when it began."""

    event_count: int = number_column()
    next_at: datetime | None = instant_column()
    """When time alone may make a difference."""

    created_by: str = text_column()
    created_at: datetime = instant_column()
    updated_at: datetime = instant_column()


class ReleaseSubject(Base, table=True):
    """A flag that a release changes, in one environment."""

    __tablename__ = "release_subject"
    __table_args__ = (_of_release(), Index("ix_release_subject_flag", "project", "environment", "flag"))

    project: str = key_column()
    release: str = key_column()
    environment: str = key_column()
    flag: str = key_column()


class ReleaseEvent(Base, table=True):
    """What came to a release and made a difference, never changed again: put in again, it gives the same."""

    __tablename__ = "release_event"
    __table_args__ = (_of_release(), Index("ix_release_event_request_id", "project", "request_id"))

    project: str = key_column()
    release: str = key_column()
    number: int = number_column(primary_key=True, sa_column_kwargs={"autoincrement": False})
    event: str = text_column()
    told: str = text_column()
    """What happened because of it, with the evidence."""

    move: str = text_column("")
    """"" when no flag was to move."""

    revisions: str = text_column("{}")
    """Environment -> its revision afterwards, where flags moved."""

    actor: str = text_column()
    cause: str = text_column("")
    request_id: str = text_column("")
    at: datetime = instant_column()


class ReleaseTemplate(Base, table=True):
    """Steps and gates that releases of a project are drawn up from."""

    __tablename__ = "release_template"
    __table_args__ = (ForeignKeyConstraint(["project"], ["project.key"]),)

    project: str = key_column()
    name: str = key_column()
    description: str = text_column("")
    steps: str = text_column()
    updated_by: str = text_column()
    updated_at: datetime = instant_column()


class FlagLock(Base, table=True):
    """Who moves a flag in an environment now, and whether others may change it meanwhile."""

    __tablename__ = "flag_lock"
    __table_args__ = (
        ForeignKeyConstraint(["project", "environment"], ["environment.project", "environment.key"]),
        Index("ix_flag_lock_holder", "project", "holder"),
    )

    project: str = key_column()
    environment: str = key_column()
    flag: str = key_column()
    holder: str = text_column()
    """As causes name it: `release:<id>`."""

    locks: bool = Field()


def _table(name: str) -> Table:
    return Base.metadata.tables[name]


releases: Final = _table("release")
release_subjects: Final = _table("release_subject")
release_events: Final = _table("release_event")
release_templates: Final = _table("release_template")
flag_locks: Final = _table("flag_lock")
