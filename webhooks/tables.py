"""Lay out the tables of endpoints, and of what is delivered to them.

Instants are whole milliseconds since 1970 in UTC, by the database's clock: every kind of database compares them alike,
and the library needs no column type of its own. Projects and events are named and not referred to: their tables are
the owner's.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Final

from sqlalchemy import (
    BigInteger,
    Float,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlmodel import Field, SQLModel

_WHOLE: Final = Integer().with_variant(BigInteger(), "postgresql")
_REAL: Final = Float(53)
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


def _real() -> Any:
    return Field(default=None, sa_type=_REAL)


def _number(default: int | None = None, **options: Any) -> Any:
    return Field(default=default, sa_type=_WHOLE, **options)


class Endpoint(Base, table=True):
    """Where deliveries of a project go."""

    __tablename__ = "endpoint"
    __table_args__ = (Index("ix_endpoint_project", "project"),)

    id: str = _key()
    project: str = _text()
    name: str = _text("")
    url_sealed: str = _text("")
    """The whole URL, which may hold a secret: sealed, and read by nobody but the sender."""

    url_shown: str = _text("")
    """The same without what is secret in it."""

    format: str = _text("standard")
    settings: str = _text("{}")
    """What the format needs besides, and is no secret: JSON."""

    template: str = _text("")
    filter: str = _text("{}")
    """Which events it wants: JSON."""

    headers_sealed: str = _text("")
    """Headers, and secrets of its format, that go with each sending: sealed JSON, or ""."""

    state: str = _text("enabled")
    why: str = _text("")
    """Why it is not enabled."""

    rate_per_s: float | None = _real()
    """Sendings a second, in all processes together; NULL for as many as there are."""

    burst: int = _number(1)
    concurrency: int = _number()
    """Deliveries under way at once, at most, in all processes together."""

    schedule: str = _text("")
    """Seconds to wait before each attempt: JSON; "" for the usual ones."""

    ordering: str = _text("none")
    timeout_ms: int = _number(15_000)
    since_sequence: int = _number()
    """The project's last event when the endpoint was made: what came before is not delivered."""

    failing_since_ms: int | None = _number()
    """Its first failed attempt since the last one that did not fail; NULL while it does not fail."""

    breaker_state: str = _text("closed")
    breaker_failures: int = _number(0)
    breaker_opened: int = _number(0)
    breaker_until_ms: int = _number(0)
    bucket_tokens: float | None = _real()
    """What is left of its rate; NULL for a full bucket."""

    bucket_at_ms: int = _number(0)
    source: str = _text("")
    """Who asked for it, such as `zapier`."""

    version: int = _number(1)
    """Counts the changes of what its owner decides; how it fares is none of them."""

    created_at_ms: int = _number(0)
    updated_at_ms: int = _number(0)


class EndpointSecret(Base, table=True):
    """A secret that signs what an endpoint gets; several while they are rotated."""

    __tablename__ = "endpoint_secret"
    __table_args__ = (ForeignKeyConstraint(["endpoint_id"], ["endpoint.id"]),)

    endpoint_id: str = _key()
    number: int = _number(primary_key=True, sa_column_kwargs={"autoincrement": False})
    sealed: str = _text()
    public: str = _text("")
    """The public half of an Ed25519 key (`whpk_...`); "" for a secret that both sides share."""

    created_at_ms: int = _number()
    expires_at_ms: int | None = _number()
    """From when it signs no longer; NULL for the newest."""


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


class KeptNotice(Base, table=True):
    """Something that happened to deliveries, until the owner of the events has announced it."""

    __tablename__ = "notice"

    id: int | None = Field(default=None, primary_key=True, sa_type=_WHOLE)
    project: str = _text()
    type: str = _text()
    data: str = _text()
    """JSON."""


def _table(name: str) -> Table:
    return Base.metadata.tables[name]


endpoints: Final = _table("endpoint")
endpoint_secrets: Final = _table("endpoint_secret")
deliveries: Final = _table("delivery")
attempts: Final = _table("attempt")
fan_outs: Final = _table("fan_out")
notices: Final = _table("notice")


def to_ms(at: datetime) -> int:
    """Milliseconds since 1970 of an aware instant. Errors: TypeError for one without a time zone."""
    return (at - _EPOCH) // timedelta(milliseconds=1)


def from_ms(ms: int) -> datetime:
    """The instant of so many milliseconds since 1970."""
    return _EPOCH + timedelta(milliseconds=ms)
