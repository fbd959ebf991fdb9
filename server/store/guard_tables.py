"""Lay out the tables of guards, roll-back policies, and what was said and done of them."""

from datetime import datetime
from typing import Final

from sqlalchemy import ForeignKeyConstraint, Index, Table

from server.store.rows import Base
from server.store.rows import instant_column as _instant
from server.store.rows import key_column as _key
from server.store.rows import measure_column as _measure
from server.store.rows import number_column as _number
from server.store.rows import text_column as _text


class Guard(Base, table=True):
    """What is watched."""

    __tablename__ = "guard"
    __table_args__ = (
        ForeignKeyConstraint(["project"], ["project.key"]),
        Index("ix_guard_next_at", "next_at"),
        Index("ix_guard_metric", "project", "environment", "metric"),
    )

    project: str = _key()
    key: str = _key()
    environment: str = _text()
    metric: str = _text("")
    document: str = _text()
    version: int = _number(1)
    since: datetime = _instant()
    """What was observed before says nothing to it."""

    next_at: datetime | None = _instant()
    judgement: str = _text("")
    """The last one, and when it was; "" before the first."""

    updated_at: datetime = _instant()


class RollbackPolicy(Base, table=True):
    """When flags are taken back by themselves."""

    __tablename__ = "rollback_policy"
    __table_args__ = (
        ForeignKeyConstraint(["project"], ["project.key"]),
        Index("ix_rollback_policy_next_at", "next_at"),
    )

    project: str = _key()
    key: str = _key()
    environment: str = _text()
    state: str = _text()
    document: str = _text()
    progress: str = _text()
    taken: str = _text("")
    """What it took back last, with what was there before, so that it can come again."""

    author: str = _text()
    grants: str = _text()
    """What the author was allowed when they said so last."""

    version: int = _number(1)
    next_at: datetime | None = _instant()
    updated_at: datetime = _instant()


class RollbackTrigger(Base, table=True):
    """Which policies something concerns; a copy for searching."""

    __tablename__ = "rollback_trigger"
    __table_args__ = (
        ForeignKeyConstraint(["project", "policy"], ["rollback_policy.project", "rollback_policy.key"]),
        Index("ix_rollback_trigger_name", "project", "kind", "name"),
    )

    project: str = _key()
    policy: str = _key()
    kind: str = _key()
    name: str = _key()


class GuardEvaluation(Base, table=True):
    """One judgement of a guard, or one thing that happened to a policy, and what came of it; never changed again."""

    __tablename__ = "guard_evaluation"
    __table_args__ = (
        ForeignKeyConstraint(["project"], ["project.key"]),
        Index("ix_guard_evaluation_guard", "project", "guard", "number"),
        Index("ix_guard_evaluation_policy", "project", "policy", "number"),
    )

    project: str = _key()
    number: int = _number(primary_key=True, sa_column_kwargs={"autoincrement": False})
    environment: str = _text()
    guard: str = _text("")
    policy: str = _text("")
    happening: str = _text()
    name: str = _text("")
    """Of the signal or heartbeat."""

    verdict: str = _text("")
    value: float | None = _measure()
    threshold: float | None = _measure()
    control_value: float | None = _measure()
    sample_count: int | None = _number()
    method: str = _text("")
    text: str = _text("")
    outcome: str = _text("")
    """What was done or would have been; "" for nothing."""

    event: str = _text("")
    """What a policy was told, from which the same can be decided again."""

    at: datetime = _instant()


def _table(name: str) -> Table:
    return Base.metadata.tables[name]


guards: Final = _table("guard")
rollback_policies: Final = _table("rollback_policy")
rollback_triggers: Final = _table("rollback_trigger")
guard_evaluations: Final = _table("guard_evaluation")
