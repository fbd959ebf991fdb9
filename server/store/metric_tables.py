"""Lay out the tables of metrics and of what is summed up for them."""

from datetime import datetime
from typing import Final

from sqlalchemy import ForeignKeyConstraint, Index, Table

from server.store.rows import Base
from server.store.rows import instant_column as _instant
from server.store.rows import key_column as _key
from server.store.rows import measure_column as _measure
from server.store.rows import number_column as _number
from server.store.rows import text_column as _text


class Metric(Base, table=True):
    """What is observed in a project."""

    __tablename__ = "metric"
    __table_args__ = (ForeignKeyConstraint(["project"], ["project.key"]),)

    project: str = _key()
    key: str = _key()
    document: str = _text()
    version: int = _number(1)
    created_at: datetime = _instant()
    updated_at: datetime = _instant()


class MetricSum(Base, table=True):
    """What was observed in one stretch of time; no observation is kept by itself."""

    __tablename__ = "metric_sum"
    __table_args__ = (
        ForeignKeyConstraint(["project", "metric"], ["metric.project", "metric.key"]),
        Index("ix_metric_sum_width", "width_s", "start_s"),
    )

    project: str = _key()
    environment: str = _key()
    metric: str = _key()
    flag: str = _key()
    """"" for what belongs to no flag."""

    variant: str = _key()
    step: int = _number(primary_key=True, sa_column_kwargs={"autoincrement": False})
    width_s: int = _number(primary_key=True, sa_column_kwargs={"autoincrement": False})
    """Of the stretch: some seconds while it is new, an hour later."""

    start_s: int = _number(primary_key=True, sa_column_kwargs={"autoincrement": False})
    """Seconds since 1970."""

    count: int = _number(0)
    mean: float = _measure(0.0)
    deviations: float = _measure(0.0)
    denominator_mean: float = _measure(0.0)
    denominator_deviations: float = _measure(0.0)
    cross_deviations: float = _measure(0.0)


class MetricProducer(Base, table=True):
    """Which of a producer's batches were applied, in the transaction that applied them."""

    __tablename__ = "metric_producer"
    __table_args__ = (
        ForeignKeyConstraint(["project"], ["project.key"]),
        Index("ix_metric_producer_at", "at"),
    )

    project: str = _key()
    producer: str = _key()
    newest: int = _number()
    seen: int = _number()
    """Bit i: `newest - i` was applied."""

    at: datetime = _instant()


def _table(name: str) -> Table:
    return Base.metadata.tables[name]


metrics: Final = _table("metric")
metric_sums: Final = _table("metric_sum")
metric_producers: Final = _table("metric_producer")
