"""Lay out the tables of rules, what they have done, and how far they have looked."""

from datetime import datetime
from typing import Final

from sqlalchemy import ForeignKeyConstraint, Index, Table

from server.store.rows import Base
from server.store.rows import instant_column as _instant
from server.store.rows import key_column as _key
from server.store.rows import measure_column as _measure
from server.store.rows import number_column as _number
from server.store.rows import text_column as _text


class Rule(Base, table=True):
    """What is done by itself when something happens."""

    __tablename__ = "rule"
    __table_args__ = (
        ForeignKeyConstraint(["project"], ["project.key"]),
        Index("ix_rule_state", "state", "project"),
    )

    project: str = _key()
    id: str = _key()
    name: str = _text()
    document: str = _text()
    state: str = _text()
    why: str = _text("")
    """Why it is disabled."""

    author: str = _text()
    grants: str = _text()
    """What the author was allowed when they wrote it."""

    since_sequence: int = _number(0)
    """It answers what happens behind this event."""

    failing_since: datetime | None = _instant()
    failure_count: int = _number(0)
    tokens: float = _measure(0.0)
    """Of its rate, and when they were counted, in seconds since 1970."""

    counted_at_s: float = _measure(0.0)
    version: int = _number(1)
    created_at: datetime = _instant()
    updated_at: datetime = _instant()


class RuleRun(Base, table=True):
    """One event that a rule answers; a row for each pair, so that it is answered once."""

    __tablename__ = "rule_run"
    __table_args__ = (
        ForeignKeyConstraint(["project", "rule"], ["rule.project", "rule.id"]),
        Index("ix_rule_run_due_at", "due_at"),
        Index("ix_rule_run_history", "project", "rule", "sequence"),
    )

    project: str = _key()
    rule: str = _key()
    event: str = _key()
    sequence: int = _number()
    """Of the event, in its project."""

    event_type: str = _text()
    hops: int = _number(0)
    state: str = _text()
    request: str = _text()
    """What is asked for, as it was made of the event when that was found to fit."""

    result: str = _text("")
    """What came of it, or why not."""

    attempt_count: int = _number(0)
    due_at: datetime | None = _instant()
    """When it is to be tried, or when its claim ends; NULL when it is over."""

    claim: str = _text("")
    created_at: datetime = _instant()
    finished_at: datetime | None = _instant()


class RuleLook(Base, table=True):
    """Up to which event a project's rules have looked."""

    __tablename__ = "rule_look"
    __table_args__ = (ForeignKeyConstraint(["project"], ["project.key"]),)

    project: str = _key()
    sequence: int = _number(0)


rules: Final[Table] = Base.metadata.tables["rule"]
rule_runs: Final[Table] = Base.metadata.tables["rule_run"]
rule_looks: Final[Table] = Base.metadata.tables["rule_look"]
