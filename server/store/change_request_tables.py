"""Lay out the tables of change requests."""

from datetime import datetime
from typing import Final

from sqlalchemy import ForeignKeyConstraint, Index, Table

from server.store.rows import Base
from server.store.rows import instant_column as _instant
from server.store.rows import key_column as _key
from server.store.rows import number_column as _number
from server.store.rows import text_column as _text


class ChangeRequest(Base, table=True):
    """A change that waits for approvals, or what became of it."""

    __tablename__ = "change_request"
    __table_args__ = (
        Index("ix_change_request_state", "project", "state", "created_at"),
        Index("ix_change_request_author", "project", "author", "created_at"),
        Index("ix_change_request_apply_at", "apply_at"),
    )

    project: str = _key()
    id: str = _key()
    state: str = _text()
    author: str = _text()
    title: str = _text("")
    cause: str = _text("")
    content: str = _text()
    """What is asked for, as core's codec writes it."""

    base: str = _text()
    """The versions of the things that it would change, when it was asked for."""

    lines: str = _text("{}")
    """Environment -> what would differ there, line by line."""

    progress: str = _text()
    """State, approvals and schedule; the columns beside it are copies for searching."""

    step_count: int = _number()
    apply_at: datetime | None = _instant()
    created_at: datetime = _instant()
    updated_at: datetime = _instant()


class ChangeRequestSubject(Base, table=True):
    """What a change request would change."""

    __tablename__ = "change_request_subject"
    __table_args__ = (
        ForeignKeyConstraint(["project", "change_request"], ["change_request.project", "change_request.id"]),
        Index("ix_change_request_subject_subject", "project", "environment", "kind", "key"),
    )

    project: str = _key()
    change_request: str = _key()
    environment: str = _key()
    kind: str = _key()
    key: str = _key()


class ChangeRequestStep(Base, table=True):
    """One thing that happened to a change request, never changed again."""

    __tablename__ = "change_request_step"
    __table_args__ = (
        ForeignKeyConstraint(["project", "change_request"], ["change_request.project", "change_request.id"]),
        Index("ix_change_request_step_request_id", "project", "request_id"),
    )

    project: str = _key()
    change_request: str = _key()
    number: int = _number(primary_key=True, sa_column_kwargs={"autoincrement": False})
    happening: str = _text()
    actor: str = _text()
    text: str = _text("")
    content_number: int = _number()
    request_id: str = _text("")
    at: datetime = _instant()


def _table(name: str) -> Table:
    return Base.metadata.tables[name]


change_requests: Final = _table("change_request")
change_request_subjects: Final = _table("change_request_subject")
change_request_steps: Final = _table("change_request_step")
