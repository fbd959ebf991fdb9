"""Lay out the tables of endpoints, and of what is delivered to them.

Instants are whole milliseconds since 1970 in UTC, by the database's clock: every kind of database compares them alike,
and the library needs no column type of its own. Projects and events are named and not referred to: their tables are
the owner's.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Final

from sqlalchemy import BigInteger, ForeignKeyConstraint, Index, Integer, MetaData, Table, Text, UniqueConstraint, text
from sqlmodel import Field, SQLModel

_WHOLE: Final = Integer().with_variant(BigInteger(), "postgresql")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_UNFINISHED: Final = text("due_at_ms IS NOT NULL")


class Base(SQLModel):
    """What the library's tables share: one collection of metadata, with names for every constraint."""

    metadata: ClassVar[MetaData] = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(referred_table_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        }
    )


def _key(**options: Any) -> Any:
    return Field(primary_key=True, sa_type=Text, **options)


def _text(default: str | None = None) -> Any:
    return Field(default=default, sa_type=Text)


def _number(default: int | None = None, **options: Any) -> Any:
    return Field(default=default, sa_type=_WHOLE, **options)


class Endpoint(Base, table=True):
    """Where deliveries of a project go."""

    __tablename__ = "endpoint"
    __table_args__ = (Index("ix_endpoint_project", "project"),)

    id: str = _key()
    project: str = _text()
    state: str = _text("enabled")
    why: str = _text("")
    """Why it is not enabled."""

    concurrency: int = _number()
    """Deliveries under way at once, at most, in all processes together."""

    ordering: str = _text("none")
    since_sequence: int = _number()
    """The project's last event when the endpoint was made: what came before is not delivered."""

    failing_since_ms: int | None = _number()
    """Its first failed attempt since the last one that did not fail; NULL while it does not fail."""


class Delivery(Base, table=True):
    """An event that goes to an endpoint, or what became of it."""

    __tablename__ = "delivery"
    __table_args__ = (
        ForeignKeyConstraint(["endpoint_id"], ["endpoint.id"]),
        UniqueConstraint("event_id", "endpoint_id"),
        # What is claimed by: finished deliveries, which are most of them, are no part of it.
        Index(
            "ix_delivery_due", "endpoint_id", "lane", "due_at_ms",
            sqlite_where=_UNFINISHED, postgresql_where=_UNFINISHED,
        ),
        Index(
            "ix_delivery_order", "endpoint_id", "ordering_key", "sequence",
            sqlite_where=_UNFINISHED, postgresql_where=_UNFINISHED,
        ),
        Index("ix_delivery_status", "endpoint_id", "status", "finished_at_ms"),
        Index("ix_delivery_finished_at_ms", "finished_at_ms"),
    )  # fmt: skip

    id: str = _key()
    event_id: str = _text()
    endpoint_id: str = _text()
    project: str = _text()
    sequence: int = _number()
    """The event's place in its project's order; project and sequence lead to its body."""

    event_type: str = _text()
    ordering_key: str = _text("")
    """Deliveries of one key come one after another, where the endpoint is ordered; "" is a key of its own."""

    status: str = _text("pending")
    lane: str = _text("fresh")
    due_at_ms: int | None = _number()
    """When it may be claimed: its next attempt, or the end of the lease of its claim; NULL once it is finished."""

    attempt_count: int = _number(0)
    round_start: int = _number(0)
    """Attempts before the last replay, which begins the schedule anew."""

    claim_id: str = _text("")
    """Who may say what became of it; "" for nobody."""

    created_at_ms: int = _number()
    finished_at_ms: int | None = _number()


class Attempt(Base, table=True):
    """One attempt of a delivery, written before anything is sent."""

    __tablename__ = "attempt"
    __table_args__ = (ForeignKeyConstraint(["delivery_id"], ["delivery.id"]),)

    delivery_id: str = _key()
    number: int = _number(primary_key=True, sa_column_kwargs={"autoincrement": False})
    claim_id: str = _text()
    outcome: str = _text("sending")
    status_code: int | None = _number()
    error: str = _text("")
    started_at_ms: int = _number()
    ended_at_ms: int | None = _number()


class FanOut(Base, table=True):
    """How far the events of a project have become deliveries."""

    __tablename__ = "fan_out"

    project: str = _key()
    sequence: int = _number(0)


def _table(name: str) -> Table:
    return Base.metadata.tables[name]


endpoints: Final = _table("endpoint")
deliveries: Final = _table("delivery")
attempts: Final = _table("attempt")
fan_outs: Final = _table("fan_out")


def to_ms(at: datetime) -> int:
    """Milliseconds since 1970 of an aware instant. Errors: TypeError for one without a time zone."""
    return (at - _EPOCH) // timedelta(milliseconds=1)
