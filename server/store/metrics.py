"""Keep metrics, and sum up what is observed of them; a batch is applied once, in the transaction that says so."""

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection, delete, func, insert, select, text, update

from server.core.change_requests.codec import read_value, write_value
from server.core.errors import Conflict, FlagstaffError, NotFound, Problem, Stale, StoreCorrupt, TooLarge
from server.core.limits import METRIC_DAYS, METRIC_FINE_KEPT_S, METRIC_FINE_S, METRICS_MAX, PRODUCER_DAYS
from server.core.metrics.batches import HOUR_S, Batch, Cell, Cells, Taken, check_batch, follows, sum_up
from server.core.metrics.metrics import Metric
from server.core.metrics.sums import EMPTY, Sums, merge
from server.store import tables
from server.store.flagsets import KEYS_PER_QUERY
from server.store.mapping import compact

FOLDED_AT_ONCE: Final = 5_000
"""Rows that become hours in one transaction."""

FlagsOf: TypeAlias = Callable[[str], Collection[str] | None]
"""Environment -> the keys of its flags; None when there is no such environment."""

_METRICS: Final = tables.metrics.c
_SUMS: Final = tables.metric_sums.c
_PRODUCERS: Final = tables.metric_producers.c
_CELL: Final = ("environment", "metric", "flag", "variant", "step", "width_s", "start_s")
_MOMENTS: Final = ("count", "mean", "deviations", "denominator_mean", "denominator_deviations", "cross_deviations")
_ALL: Final = ("project", *_CELL, *_MOMENTS)

_TOTAL: Final = "(metric_sum.count + excluded.count)"
_APART: Final = "(excluded.mean - metric_sum.mean)"
_DENOMINATORS_APART: Final = "(excluded.denominator_mean - metric_sum.denominator_mean)"
_WEIGHT: Final = f"(1.0 * metric_sum.count * excluded.count / {_TOTAL})"
_MERGED: Final = {
    "count": _TOTAL,
    "mean": f"metric_sum.mean + {_APART} * excluded.count / {_TOTAL}",
    "deviations": f"metric_sum.deviations + excluded.deviations + {_APART} * {_APART} * {_WEIGHT}",
    "denominator_mean": f"metric_sum.denominator_mean + {_DENOMINATORS_APART} * excluded.count / {_TOTAL}",
    "denominator_deviations": "metric_sum.denominator_deviations + excluded.denominator_deviations"
    f" + {_DENOMINATORS_APART} * {_DENOMINATORS_APART} * {_WEIGHT}",
    "cross_deviations": "metric_sum.cross_deviations + excluded.cross_deviations"
    f" + {_APART} * {_DENOMINATORS_APART} * {_WEIGHT}",
}
# The merge of server/core/metrics/sums.py, made where the other part is: no row has to be read for it.
_ADD: Final = text(
    f"INSERT INTO metric_sum ({', '.join(_ALL)}) VALUES ({', '.join(f':{name}' for name in _ALL)}) "
    f"ON CONFLICT (project, {', '.join(_CELL)}) DO UPDATE SET "
    + ", ".join(f"{name} = {merged}" for name, merged in _MERGED.items())
)


@dataclass(frozen=True, slots=True)
class StoredMetric:
    """A metric as it is kept."""

    metric: Metric
    version: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Ack:
    """What became of a batch."""

    taken: Taken
    problems: tuple[Problem, ...] = ()
    """What was left out of it, or why it was refused."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which sums are wanted; what is left out is not asked."""

    environment: str
    metric: str
    flag: str | None = None
    variant: str | None = None
    step: int | None = None
    since_s: int = 0
    """Seconds since 1970: stretches that begin then or later, but for the hour that it is in."""

    until_s: int = 2**62
    """Stretches that begin before."""


def insert_metric(connection: Connection, project: str, metric: Metric, *, now: datetime) -> StoredMetric:
    """Keep a new metric. Errors: Conflict when there is one of its key, TooLarge when there are too many."""
    keys = _keys(connection, project)
    if metric.key in keys:
        raise Conflict(f"metric {metric.key!r} is in project {project!r} already")
    if len(keys) >= METRICS_MAX:
        raise TooLarge(f"project {project!r} has {len(keys)} metrics, at most {METRICS_MAX} are allowed; delete some")
    row = {"project": project, "key": metric.key, "document": _document(metric), "version": 1}
    connection.execute(insert(tables.metrics), {**row, "created_at": now, "updated_at": now})
    return StoredMetric(metric, 1, now, now)


def save_metric(connection: Connection, project: str, before: StoredMetric, metric: Metric, *, now: datetime) -> None:
    """Keep a metric's other fields. Errors: Stale when it changed since it was read."""
    changed = connection.execute(
        update(tables.metrics)
        .where(_METRICS.project == project, _METRICS.key == metric.key, _METRICS.version == before.version)
        .values(document=_document(metric), version=before.version + 1, updated_at=now)
    )
    if changed.rowcount != 1:
        raise Stale(f"metric {metric.key!r} changed meanwhile; read it again and repeat")


def delete_metric(connection: Connection, project: str, key: str) -> None:
    """Forget a metric, and all that was observed of it."""
    connection.execute(delete(tables.metric_sums).where(_SUMS.project == project, _SUMS.metric == key))
    connection.execute(delete(tables.metrics).where(_METRICS.project == project, _METRICS.key == key))


def read_metric(connection: Connection, project: str, key: str) -> StoredMetric:
    """One metric. Errors: NotFound, StoreCorrupt."""
    found = list_metrics(connection, project, keys=[key])
    if not found:
        raise NotFound(f"metric {key!r} is not in project {project!r}")
    return found[0]


def list_metrics(connection: Connection, project: str, *, keys: Collection[str] | None = None) -> list[StoredMetric]:
    """A project's metrics, or some of them, by key. Errors: StoreCorrupt."""
    query = select(tables.metrics).where(_METRICS.project == project).order_by(_METRICS.key)
    # A project has not many more than a query takes.
    if keys is not None and len(keys) <= KEYS_PER_QUERY:
        query = query.where(_METRICS.key.in_(keys))
    return [_stored(row) for row in connection.execute(query).mappings()]


def apply_batches(
    connection: Connection, project: str, batches: Sequence[Batch], *, flags_of: FlagsOf, now: datetime
) -> list[Ack]:
    """Sum up batches of one project, each once, and say what became of each."""
    named = {series.metric for batch in batches for series in batch.series}
    metrics = {each.metric.key: each.metric for each in list_metrics(connection, project, keys=named)}
    known = _Known(metrics, () if named <= metrics.keys() else _keys(connection, project))
    producers = _Producers(connection, project, {batch.producer for batch in batches})
    cells: Cells = {}
    acks: list[Ack] = []
    for batch in batches:
        acks.append(_take(batch, known, flags_of, producers, cells, now))
    add_sums(connection, project, cells)
    producers.save(now)
    return acks


@dataclass(frozen=True, slots=True)
class _Known:
    metrics: Mapping[str, Metric]
    similar: Collection[str]
    """Keys that one may have meant who named a metric that there is not."""


def _take(
    batch: Batch,
    known: "_Known",
    flags_of: FlagsOf,
    producers: "_Producers",
    cells: Cells,
    now: datetime,
) -> Ack:
    try:
        check_batch(batch)
        flags = flags_of(batch.environment)
        if flags is None:
            raise NotFound(f"environment {batch.project}/{batch.environment} is not there; create it first")
    except FlagstaffError as error:
        return Ack(Taken.REFUSED, (Problem("", str(error)),))
    if not producers.note(batch.producer, batch.sequence):
        return Ack(Taken.DUPLICATE)
    found, problems = sum_up(batch, metrics=known.metrics, flags=flags, now=now, similar=known.similar)
    for cell, sums in found.items():
        cells[cell] = merge(cells.get(cell, EMPTY), sums)
    return Ack(Taken.APPLIED, tuple(problems))


def add_sums(connection: Connection, project: str, cells: Mapping[Cell, Sums]) -> None:
    """Merge sums into those that are kept."""
    rows = [
        {
            "project": project,
            **{name: getattr(cell, name) for name in _CELL},
            "count": sums.count,
            "mean": sums.mean,
            "deviations": sums.deviations,
            "denominator_mean": sums.denominator_mean,
            "denominator_deviations": sums.denominator_deviations,
            "cross_deviations": sums.cross,
        }
        for cell, sums in cells.items()
    ]
    if rows:
        connection.execute(_ADD, rows)


def read_cells(connection: Connection, project: str, chosen: Chosen, *, limit: int) -> list[tuple[Cell, Sums]]:
    """Sums as they are kept, by time. Errors: TooLarge when there are more."""
    query = _chosen(select(*(_SUMS[name] for name in (*_CELL, *_MOMENTS))), project, chosen)
    ordered = query.order_by(_SUMS.start_s, _SUMS.flag, _SUMS.variant, _SUMS.step, _SUMS.width_s).limit(limit + 1)
    rows = connection.execute(ordered).all()
    if len(rows) > limit:
        raise TooLarge(f"more than {limit} sums match; ask for a shorter time, or for one flag, variant or step")
    return [(Cell(*row[: len(_CELL)]), Sums(*row[len(_CELL) :])) for row in rows]


def read_sums(connection: Connection, project: str, chosen: Chosen) -> tuple[Sums, datetime | None]:
    """All sums that are chosen, as one, and until when the newest of them may reach.

    What it costs depends on the window, and not on how much was observed in it.
    """
    sums, newest_s = EMPTY, 0
    for row in connection.execute(_chosen(select(_SUMS.start_s, _SUMS.width_s, *_moments()), project, chosen)):
        sums = merge(sums, Sums(*row[2:]))
        newest_s = max(newest_s, row[0] + row[1])
    return sums, datetime.fromtimestamp(newest_s, UTC) if newest_s else None


def oldest_fine_s(connection: Connection) -> int | None:
    """When the oldest sum begins that is not an hour's, in seconds since 1970; None when there is none."""
    query = select(func.min(_SUMS.start_s)).where(_SUMS.width_s == METRIC_FINE_S)
    found: int | None = connection.execute(query).scalar()
    return found


def fold(connection: Connection, *, now: datetime, limit: int = FOLDED_AT_ONCE) -> int:
    """Make hours of sums that have become old; gives how many rows were folded, at most `limit`."""
    before_s = int(now.timestamp()) - METRIC_FINE_KEPT_S - METRIC_FINE_S
    query = (
        select(_SUMS.project, *(_SUMS[name] for name in (*_CELL, *_MOMENTS)))
        .where(_SUMS.width_s == METRIC_FINE_S, _SUMS.start_s < before_s)
        .order_by(_SUMS.start_s)
        .limit(limit)
    )
    rows = connection.execute(query).all()
    hours: dict[str, Cells] = {}
    for project, *values in rows:
        fine = Cell(*values[: len(_CELL)])
        cell = replace(fine, width_s=HOUR_S, start_s=fine.start_s // HOUR_S * HOUR_S)
        cells = hours.setdefault(project, {})
        cells[cell] = merge(cells.get(cell, EMPTY), Sums(*values[len(_CELL) :]))
    for project, cells in hours.items():
        add_sums(connection, project, cells)
    _delete_cells(connection, rows)
    return len(rows)


def forget(connection: Connection, *, now: datetime) -> None:
    """Forget sums and producers that are too old."""
    oldest_s = int((now - timedelta(days=METRIC_DAYS)).timestamp()) - HOUR_S
    connection.execute(delete(tables.metric_sums).where(_SUMS.width_s == HOUR_S, _SUMS.start_s < oldest_s))
    since = now - timedelta(days=PRODUCER_DAYS)
    connection.execute(delete(tables.metric_producers).where(_PRODUCERS.at < since))


class _Producers:
    """How far each producer has come, and what this transaction adds."""

    def __init__(self, connection: Connection, project: str, names: Collection[str]) -> None:
        self._connection, self._project = connection, project
        query = select(_PRODUCERS.producer, _PRODUCERS.newest, _PRODUCERS.seen).where(
            _PRODUCERS.project == project, _PRODUCERS.producer.in_(names)
        )
        self._before = {name: (newest, seen) for name, newest, seen in connection.execute(query)}
        self._after: dict[str, tuple[int, int]] = {}

    def note(self, producer: str, sequence: int) -> bool:
        """Whether a batch is to be applied; it counts as applied from now on."""
        newest, seen = self._after.get(producer) or self._before.get(producer, (0, 0))
        after = follows(newest, seen, sequence)
        if after is not None:
            self._after[producer] = after
        return after is not None

    def save(self, now: datetime) -> None:
        """Keep what was noted."""
        new = []
        for producer, (newest, seen) in self._after.items():
            row = {"newest": newest, "seen": seen, "at": now}
            if producer in self._before:
                mine = (_PRODUCERS.project == self._project) & (_PRODUCERS.producer == producer)
                self._connection.execute(update(tables.metric_producers).where(mine).values(row))
            else:
                new.append({"project": self._project, "producer": producer, **row})
        if new:
            self._connection.execute(insert(tables.metric_producers), new)


def _chosen(query: Any, project: str, chosen: Chosen) -> Any:
    query = query.where(
        _SUMS.project == project,
        _SUMS.environment == chosen.environment,
        _SUMS.metric == chosen.metric,
        # An hour that has begun before is taken whole: what is in it is known to the hour only.
        _SUMS.start_s > chosen.since_s - _SUMS.width_s,
        _SUMS.start_s < chosen.until_s,
    )
    for name in ("flag", "variant", "step"):
        wanted = getattr(chosen, name)
        if wanted is not None:
            query = query.where(_SUMS[name] == wanted)
    return query


def _moments() -> Iterable[Any]:
    return (_SUMS[name] for name in _MOMENTS)


def _delete_cells(connection: Connection, rows: Sequence[Any]) -> None:
    names = ("project", *_CELL)
    doomed = [{f"of_{name}": value for name, value in zip(names, row[: len(names)], strict=True)} for row in rows]
    if doomed:
        where = " AND ".join(f"{name} = :of_{name}" for name in names)
        connection.execute(text(f"DELETE FROM metric_sum WHERE {where}"), doomed)


def _keys(connection: Connection, project: str) -> set[str]:
    return set(connection.execute(select(_METRICS.key).where(_METRICS.project == project)).scalars())


def _document(metric: Metric) -> str:
    return compact(write_value(metric))


def _stored(row: Mapping[Any, Any]) -> StoredMetric:
    try:
        metric: Metric = read_value(Metric, json.loads(row["document"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreCorrupt(
            f"the stored metric {row['key']!r} is damaged ({type(error).__name__}); restore a backup"
        ) from None
    return StoredMetric(metric, row["version"], row["created_at"], row["updated_at"])
