"""Manage metrics, and take what is observed of them."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection, Engine, select

from server.core.errors import Refused, Stale
from server.core.limits import METRIC_FINE_KEPT_S, METRIC_FINE_S, SUMS_PER_REPLY_MAX
from server.core.metrics.batches import HOUR_S, Batch, Cell, Cells, Taken
from server.core.metrics.metrics import Metric, check_metric
from server.core.metrics.sums import EMPTY, Sums, merge
from server.operations.writes import Outcome, Write
from server.store import failpoints, tables
from server.store.engine import reading, writing
from server.store.flagsets import in_parts
from server.store.guards import guards_about
from server.store.metrics import (
    FOLDED_AT_ONCE,
    Ack,
    Chosen,
    StoredMetric,
    apply_batches,
    delete_metric,
    fold,
    forget,
    insert_metric,
    list_metrics,
    oldest_fine_s,
    read_cells,
    read_metric,
    save_metric,
)
from server.store.occurrences import Occurrence, note
from server.store.projects import read_project

KIND: Final = "metric"
"""As the audit trail names its subjects of this kind."""

FOLD_EVERY_S: Final = 600
"""So much of what is old is folded together."""

Recorded: TypeAlias = Callable[[Collection[tuple[str, str, str]]], None]
"""Told after observations are durable: (project, environment, metric) of each."""


def nobody_waits(_observed: Collection[tuple[str, str, str]]) -> None:
    """What is told where nothing listens to metrics."""


class _TakenBack(Exception):
    """Ends the transaction of a dry run."""


@dataclass(frozen=True, slots=True)
class MetricWritten:
    """A metric after what was done to it."""

    stored: StoredMetric
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Metrics:
    """The metrics of one database."""

    engine: Engine

    def create(self, project: str, metric: Metric, write: Write) -> MetricWritten:
        """Begin to measure something. Errors: InvalidRequest; Conflict; NotFound for the project; TooLarge."""
        check_metric(metric)

        def work(connection: Connection) -> MetricWritten:
            known = list_metrics(connection, project, keys=[metric.key])
            if known and write.request_id and known[0].metric == metric:
                return MetricWritten(known[0], Outcome.UNCHANGED)
            stored = insert_metric(connection, project, metric, now=write.now)
            _note(connection, project, "created", metric, write)
            return MetricWritten(stored, Outcome.APPLIED)

        return self._written(project, work, write)

    def update(self, project: str, key: str, changes: dict[str, Any], write: Write) -> MetricWritten:
        """Set fields of a metric. Errors: NotFound; InvalidRequest; Stale."""

        def work(connection: Connection) -> MetricWritten:
            before = read_metric(connection, project, key)
            if write.expected_version not in (None, before.version):
                raise Stale(f"metric {key!r} has version {before.version}, expected {write.expected_version}")
            metric = replace(before.metric, **changes)
            check_metric(metric)
            if metric == before.metric:
                return MetricWritten(before, Outcome.UNCHANGED)
            save_metric(connection, project, before, metric, now=write.now)
            _note(connection, project, "updated", metric, write, before=before.metric)
            return MetricWritten(read_metric(connection, project, key), Outcome.APPLIED)

        return self._written(project, work, write)

    def delete(self, project: str, key: str, write: Write) -> MetricWritten:
        """Forget a metric and its sums. Errors: NotFound; Stale; Refused while a guard watches it."""

        def work(connection: Connection) -> MetricWritten:
            before = read_metric(connection, project, key)
            if write.expected_version not in (None, before.version):
                raise Stale(f"metric {key!r} has version {before.version}, expected {write.expected_version}")
            watching = guards_about(connection, project, key)
            if watching:
                raise Refused(f"metric {key!r} is watched by guard {', '.join(watching)}; delete that first")
            delete_metric(connection, project, key)
            _note(connection, project, "deleted", before.metric, write)
            return MetricWritten(before, Outcome.APPLIED)

        return self._written(project, work, write)

    def read(self, project: str, key: str) -> StoredMetric:
        """One metric. Errors: NotFound."""
        with reading(self.engine) as connection:
            read_project(connection, project)
            return read_metric(connection, project, key)

    def list_all(self, project: str) -> list[StoredMetric]:
        """All of a project, by key. Errors: NotFound for the project."""
        with reading(self.engine) as connection:
            read_project(connection, project)
            return list_metrics(connection, project)

    def hours(self, project: str, chosen: Chosen) -> tuple[Metric, list[tuple[Cell, Sums]]]:
        """A metric, and its sums by hour, flag, variant and step. Errors: NotFound; TooLarge."""
        with reading(self.engine) as connection:
            read_project(connection, project)
            metric = read_metric(connection, project, chosen.metric).metric
            # Two hours of fine sums may stand beside the hours that are told.
            limit = SUMS_PER_REPLY_MAX + 2 * METRIC_FINE_KEPT_S // METRIC_FINE_S
            cells: Cells = {}
            for cell, sums in read_cells(connection, project, chosen, limit=limit):
                hour = replace(cell, width_s=HOUR_S, start_s=cell.start_s // HOUR_S * HOUR_S)
                cells[hour] = merge(cells.get(hour, EMPTY), sums)
        ordered = sorted(cells.items(), key=lambda each: (each[0].start_s, each[0].flag, each[0].variant, each[0].step))
        return metric, ordered

    def _written(self, project: str, work: Callable[[Connection], MetricWritten], write: Write) -> MetricWritten:
        written: list[MetricWritten] = []
        try:
            with writing(self.engine, about=f"project/{project}") as connection:
                read_project(connection, project)
                written.append(work(connection))
                if write.dry_run:
                    raise _TakenBack
        except _TakenBack:
            return replace(written[0], outcome=Outcome.WOULD_APPLY)
        return written[0]


@dataclass(frozen=True, slots=True)
class Observing:
    """Takes batches of observations into one database. Units: clock gives aware instants."""

    engine: Engine
    clock: Callable[[], datetime]
    recorded: Recorded = nobody_waits

    def take(self, batches: Sequence[Batch]) -> list[Ack]:
        """Sum batches up, all in one transaction a project; what became of each, in order.

        Errors: StoreUnavailable, StoreCorrupt; then batches may be sent again, and those that were applied are known.
        """
        acks: dict[int, Ack] = {}
        for project in dict.fromkeys(batch.project for batch in batches):
            mine = [place for place, batch in enumerate(batches) if batch.project == project]
            chosen = [batches[place] for place in mine]
            # What is observed interests nobody who watches for commits, and waits for none of its project's.
            with writing(self.engine, about=f"metrics/{project}", tells=False) as connection:
                flags = _flags(connection, project, chosen)
                taken = apply_batches(connection, project, chosen, flags_of=flags.get, now=self.clock())
                failpoints.reach("metrics.applied")
            failpoints.reach("metrics.committed")
            acks.update(zip(mine, taken, strict=True))
        applied = [batch for place, batch in enumerate(batches) if acks[place].taken is Taken.APPLIED]
        observed = {(each.project, each.environment, series.metric) for each in applied for series in each.series}
        if observed:
            self.recorded(observed)
        return [acks[place] for place in range(len(batches))]


@dataclass(slots=True)
class Folding:
    """Timed work: makes hours of old sums, and forgets what is too old."""

    engine: Engine
    name: str = "metrics"

    def next_at(self, connection: Connection) -> datetime | None:
        """When enough has become old; None while there is nothing."""
        oldest_s = oldest_fine_s(connection)
        if oldest_s is None:
            return None
        return datetime.fromtimestamp(oldest_s + METRIC_FINE_KEPT_S + FOLD_EVERY_S, UTC)

    def carry_on(self, now: datetime) -> None:
        """Fold all that is old, in transactions that keep nobody waiting. Errors: StoreUnavailable, StoreCorrupt."""
        while True:
            with writing(self.engine, unhurried=True, tells=False) as connection:
                if fold(connection, now=now) < FOLDED_AT_ONCE:
                    forget(connection, now=now)
                    return


def since_of(window_s: float, now: datetime) -> int:
    """Where a window that ends now begins, in seconds since 1970."""
    return int((now - timedelta(seconds=window_s)).timestamp())


def _flags(connection: Connection, project: str, batches: Sequence[Batch]) -> dict[str, set[str]]:
    """Environment -> those of its flags that the batches name; without those environments that there are not."""
    named: dict[str, set[str]] = {}
    for batch in batches:
        named.setdefault(batch.environment, set()).update(series.flag for series in batch.series)
    environments, configs = tables.environments.c, tables.flag_configs.c
    known = connection.execute(
        select(environments.key).where(
            environments.project == project, environments.key.in_(named), environments.deleted_at.is_(None)
        )
    ).scalars()
    found: dict[str, set[str]] = {}
    for environment in known:
        query = select(configs.key).where(configs.project == project, configs.environment == environment)
        parts = in_parts(query, configs.key, named[environment] - {""})
        found[environment] = {key for part in parts for key in connection.execute(part).scalars()}
    return found


def _note(
    connection: Connection, project: str, what: str, metric: Metric, write: Write, *, before: Metric | None = None
) -> None:
    occurrence = Occurrence(
        project=project,
        kind=KIND,
        key=metric.key,
        type=f"{KIND}.{what}",
        actor=write.principal.actor,
        at=write.now,
        data=_told(metric),
        before=None if before is None else _told(before),
        reason=write.reason,
        cause=write.cause,
    )
    note(connection, occurrence)


def _told(metric: Metric) -> dict[str, Any]:
    return {
        "metric_kind": metric.kind.value,
        "better": metric.better.value,
        "unit": metric.unit,
        "description": metric.description,
    }
