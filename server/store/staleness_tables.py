"""Lay out the tables of how much flags are still of use."""

from datetime import datetime
from typing import Final

from sqlalchemy import ForeignKeyConstraint, Index, Table
from sqlmodel import Field

from server.store.rows import Base
from server.store.rows import instant_column as _instant
from server.store.rows import key_column as _key
from server.store.rows import number_column as _number
from server.store.rows import text_column as _text


class FlagStaleness(Base, table=True):
    """What was decided of a flag last, and on what that rests; a flag that nobody has looked at yet has no row."""

    __tablename__ = "flag_staleness"
    __table_args__ = (
        ForeignKeyConstraint(["project"], ["project.key"]),
        Index("ix_flag_staleness_next_at", "next_at"),
        Index("ix_flag_staleness_state", "project", "state", "noticed_at", "key"),
    )

    project: str = _key()
    key: str = _key()
    state: str = _text()
    exempt: str = _text("")
    created_at: datetime = _instant()
    changed_at: datetime = _instant()
    is_one: bool = Field(default=False)
    """Whether everybody gets the same."""

    served: str | None = _text()
    """What that is; NULL for the caller's own default."""

    lifetime_days: int | None = _number()
    snoozed_until: datetime | None = _instant()
    marked_at: datetime | None = _instant()
    said_by: str = _text("")
    """Who snoozed or marked it,"""

    said: str = _text("")
    """and why."""

    noticed_at: datetime | None = _instant()
    stale_at: datetime | None = _instant()
    next_at: datetime | None = _instant()


class StalenessLook(Base, table=True):
    """How far a project's flags have been looked at, and what its policy is."""

    __tablename__ = "staleness_look"
    __table_args__ = (ForeignKeyConstraint(["project"], ["project.key"]),)

    project: str = _key()
    sequence: int = _number(0)
    """The audit entry up to which changes of flags were seen."""

    filled_after: str | None = _text("")
    """All flags are to be looked at behind this key; NULL: none but those that change."""

    policy: str = _text("")
    """"" for the usual one."""

    policy_version: int = _number(0)


flag_staleness: Final[Table] = Base.metadata.tables["flag_staleness"]
staleness_looks: Final[Table] = Base.metadata.tables["staleness_look"]
