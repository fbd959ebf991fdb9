"""Lay out the tables of launch plans."""

from datetime import datetime
from typing import Final

from sqlalchemy import ForeignKeyConstraint, Index, Table

from server.store.rows import Base
from server.store.rows import instant_column as _instant
from server.store.rows import key_column as _key
from server.store.rows import number_column as _number
from server.store.rows import text_column as _text


class LaunchPlan(Base, table=True):
    """A launch plan, or what became of it."""

    __tablename__ = "launch_plan"
    __table_args__ = (
        Index("ix_launch_plan_state", "project", "state", "created_at"),
        Index("ix_launch_plan_next_at", "next_at"),
    )

    project: str = _key()
    id: str = _key()
    state: str = _text()
    name: str = _text()
    plan: str = _text()
    """As core writes it, with the changes of each item."""

    base: str = _text()
    """The versions of the things that it would change, when it was made or last went on."""

    progress: str = _text()
    """State, answers, approvals and what was done; the columns beside it are copies for searching."""

    step_count: int = _number()
    next_at: datetime | None = _instant()
    """When it has work."""

    created_at: datetime = _instant()
    updated_at: datetime = _instant()


class LaunchPlanSubject(Base, table=True):
    """What a launch plan would change."""

    __tablename__ = "launch_plan_subject"
    __table_args__ = (
        ForeignKeyConstraint(["project", "launch_plan"], ["launch_plan.project", "launch_plan.id"]),
        Index("ix_launch_plan_subject_subject", "project", "environment", "kind", "key"),
    )

    project: str = _key()
    launch_plan: str = _key()
    environment: str = _key()
    kind: str = _key()
    key: str = _key()


class LaunchPlanStep(Base, table=True):
    """One thing that happened to a launch plan, never changed again."""

    __tablename__ = "launch_plan_step"
    __table_args__ = (
        ForeignKeyConstraint(["project", "launch_plan"], ["launch_plan.project", "launch_plan.id"]),
        Index("ix_launch_plan_step_request_id", "project", "request_id"),
    )

    project: str = _key()
    launch_plan: str = _key()
    number: int = _number(primary_key=True, sa_column_kwargs={"autoincrement": False})
    happening: str = _text()
    actor: str = _text()
    text: str = _text("")
    items: str = _text("[]")
    """Ids of the items that it was about, as JSON."""

    request_id: str = _text("")
    at: datetime = _instant()


def _table(name: str) -> Table:
    return Base.metadata.tables[name]


launch_plans: Final = _table("launch_plan")
launch_plan_subjects: Final = _table("launch_plan_subject")
launch_plan_steps: Final = _table("launch_plan_step")
