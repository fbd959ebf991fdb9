"""Say what all tables have in common: the names of their constraints, and the kinds of columns."""

from datetime import UTC, datetime
from typing import Any, ClassVar, Final

from sqlalchemy import DateTime, Dialect, Double, MetaData, Text
from sqlalchemy.types import TypeDecorator, TypeEngine
from sqlmodel import Field, SQLModel

from server.store.columns import POSTGRESQL, WholeNumber

NAMING: Final = {
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(referred_table_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
}


class Instant(TypeDecorator[datetime]):
    """An aware instant in UTC; a database without time zones gets it without one."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[datetime]:
        """With a time zone, where there are any."""
        return dialect.type_descriptor(DateTime(timezone=dialect.name == POSTGRESQL))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse a naive instant: nobody knows when it was."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"instant {value} has no time zone, expected an aware one")
        in_utc = value.astimezone(UTC)
        return in_utc if dialect.name == POSTGRESQL else in_utc.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Give back what was put in."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(SQLModel):
    """What all tables share: one collection of metadata, with names for every constraint."""

    metadata: ClassVar[MetaData] = MetaData(naming_convention=NAMING)


def key_column(**options: Any) -> Any:
    """A text that is part of the primary key."""
    return Field(primary_key=True, sa_type=Text, **options)


def text_column(default: str | None = None, **options: Any) -> Any:
    """A text of any length."""
    return Field(default=default, sa_type=Text, **options)


def number_column(default: int | None = None, **options: Any) -> Any:
    """A whole number."""
    return Field(default=default, sa_type=WholeNumber, **options)


def instant_column(default: datetime | None = None) -> Any:
    """An instant."""
    return Field(default=default, sa_type=Instant)


def measure_column(default: float | None = None, **options: Any) -> Any:
    """A measured number, of 64 bits."""
    return Field(default=default, sa_type=Double, **options)
