"""Lay out the tables of actions: their answers, the rates of flags, and the addresses that have one done."""

from datetime import datetime
from typing import Final

from sqlalchemy import ForeignKeyConstraint, Index, Table

from server.store.rows import Base
from server.store.rows import instant_column as _instant
from server.store.rows import key_column as _key
from server.store.rows import measure_column as _measure
from server.store.rows import number_column as _number
from server.store.rows import text_column as _text


class ActionAnswer(Base, table=True):
    """What became of an action that its caller may ask for again."""

    __tablename__ = "action_answer"
    __table_args__ = (Index("ix_action_answer_at", "at"),)

    actor: str = _key()
    key: str = _key()
    """The idempotency key."""

    digest: str = _text()
    """SHA-256 of what was asked, so that the same key for something else is noticed."""

    answer: str = _text()
    at: datetime = _instant()


class ActionPace(Base, table=True):
    """How often automation may still change a flag: a bucket of tokens that all processes share."""

    __tablename__ = "action_pace"
    __table_args__ = (Index("ix_action_pace_at", "counted_at_s"),)

    project: str = _key()
    environment: str = _key()
    flag: str = _key()
    tokens: float = _measure()
    counted_at_s: float = _measure()
    """Seconds since 1970, by the database's clock."""


class Trigger(Base, table=True):
    """An address that has one action done, and nothing else."""

    __tablename__ = "trigger_url"
    __table_args__ = (
        ForeignKeyConstraint(["project"], ["project.key"]),
        Index("ix_trigger_url_digest", "digest", unique=True),
        Index("ix_trigger_url_project", "project", "id"),
    )

    id: str = _key()
    project: str = _text()
    environment: str = _text("")
    name: str = _text()
    preset: str = _text("")
    """Whose bodies it understands; "" for none's."""

    document: str = _text()
    """The actions with their inputs, as JSON."""

    digest: str = _text()
    """Of the secret part of its address, with the server's key."""

    signing: str = _text("")
    """What signatures are verified with, sealed; "" where none is asked for."""

    state: str = _text("enabled")
    maker: str = _text()
    """Whose rights it has, as they are when it is used."""

    grants: str = _text("[]")
    """Those of a maker whom nobody can be asked about."""

    use_count: int = _number(0)
    used_at: datetime | None = _instant()
    version: int = _number(1)
    created_at: datetime = _instant()
    updated_at: datetime = _instant()


def _table(name: str) -> Table:
    return Base.metadata.tables[name]


answers: Final = _table("action_answer")
paces: Final = _table("action_pace")
triggers: Final = _table("trigger_url")
