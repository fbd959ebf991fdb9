"""Lay out the tables of schedules and of what happens to them."""

from datetime import datetime
from typing import Final

from sqlalchemy import ForeignKeyConstraint, Index, Table

from server.store.rows import Base
from server.store.rows import instant_column as _instant
from server.store.rows import key_column as _key
from server.store.rows import number_column as _number
from server.store.rows import text_column as _text


class Schedule(Base, table=True):
    """A change that is to be made at an instant, or again and again, or what became of it."""

    __tablename__ = "schedule"
    __table_args__ = (
        Index("ix_schedule_state", "project", "state", "created_at"),
        Index("ix_schedule_wake_at", "wake_at"),
    )

    project: str = _key()
    id: str = _key()
    state: str = _text()
    author: str = _text()
    title: str = _text("")
    cause: str = _text("")
    content: str = _text()
    """What is to be done, as core's codec writes it."""

    base: str = _text("{}")
    """The versions of the things that it would change; only where they must still have them."""

    lines: str = _text("{}")
    """Environment -> what would have differed there when it was made."""

    timing: str = _text()
    progress: str = _text()
    """State, approvals and next instant; the columns beside it are copies for searching."""

    step_count: int = _number()
    due_at: datetime | None = _instant()
    """The next instant; none when nothing is due any more."""

    wake_at: datetime | None = _instant()
    """When somebody has to look at it: to announce it, or at its instant."""

    created_at: datetime = _instant()
    updated_at: datetime = _instant()


class ScheduleSubject(Base, table=True):
    """A field that a schedule sets."""

    __tablename__ = "schedule_subject"
    __table_args__ = (
        ForeignKeyConstraint(["project", "schedule"], ["schedule.project", "schedule.id"]),
        Index("ix_schedule_subject_subject", "project", "environment", "kind", "key"),
    )

    project: str = _key()
    schedule: str = _key()
    environment: str = _key()
    kind: str = _key()
    key: str = _key()
    field: str = _key()
    """"" for the whole thing."""


class ScheduleStep(Base, table=True):
    """One thing that happened to a schedule, never changed again."""

    __tablename__ = "schedule_step"
    __table_args__ = (
        ForeignKeyConstraint(["project", "schedule"], ["schedule.project", "schedule.id"]),
        Index("ix_schedule_step_instant", "project", "schedule", "instant", unique=True),
        Index("ix_schedule_step_request_id", "project", "request_id"),
    )

    project: str = _key()
    schedule: str = _key()
    number: int = _number(primary_key=True, sa_column_kwargs={"autoincrement": False})
    happening: str = _text()
    actor: str = _text()
    text: str = _text("")
    content_number: int = _number()
    request_id: str = _text("")
    instant: datetime | None = _instant()
    """The instant whose outcome it is; each has one."""

    details: str = _text("{}")
    """Conflicts and revisions."""

    at: datetime = _instant()


def _table(name: str) -> Table:
    return Base.metadata.tables[name]


schedules: Final = _table("schedule")
schedule_subjects: Final = _table("schedule_subject")
schedule_steps: Final = _table("schedule_step")
