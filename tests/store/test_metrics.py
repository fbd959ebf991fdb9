"""Observations are summed up once, whatever comes again, and their sums stay right when they become hours."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import pytest
from sqlalchemy import Engine, func, select

from server.core.errors import Conflict, NotFound, Stale, TooLarge
from server.core.limits import METRIC_DAYS, PRODUCER_DAYS
from server.core.metrics.batches import Batch, Series, Taken
from server.core.metrics.metrics import Metric, MetricKind
from server.core.metrics.sums import Sums, sums_of
from server.store import tables
from server.store.engine import reading, writing
from server.store.metrics import (
    Ack,
    Chosen,
    StoredMetric,
    apply_batches,
    delete_metric,
    fold,
    forget,
    insert_metric,
    list_metrics,
    read_cells,
    read_metric,
    read_sums,
    save_metric,
)
from tests.store.definitions import NOW

LATENCY: Final = Metric("latency", MetricKind.MEAN, unit="ms")
ERRORS: Final = Metric("errors", MetricKind.RATIO)
ALL: Final = Chosen("production", "latency")


@pytest.fixture
def measured(shop: Engine) -> Engine:
    """A shop with two metrics."""
    with writing(shop) as connection:
        for metric in (LATENCY, ERRORS):
            insert_metric(connection, "shop", metric, now=NOW)
    return shop


def record(engine: Engine, *batches: Batch, later_s: float = 0) -> list[Ack]:
    """Apply batches in one transaction."""
    with writing(engine) as connection:
        now = NOW + timedelta(seconds=later_s)
        return apply_batches(connection, "shop", batches, flags_of={"production": {"checkout"}}.get, now=now)


def batch(sequence: int, values: Sequence[float], *, producer: str = "web-1", variant: str = "on") -> Batch:
    """Some latencies of a variant."""
    series = Series("latency", values, flag="checkout", variant=variant)
    return Batch("shop", "production", producer, sequence, [series])


def total(engine: Engine, chosen: Chosen = ALL) -> Sums:
    """All that was summed up."""
    with reading(engine) as connection:
        return read_sums(connection, "shop", chosen)[0]


def count_rows(engine: Engine, width_s: int | None = None) -> int:
    """Stored sums."""
    query = select(func.count()).select_from(tables.metric_sums)
    if width_s is not None:
        query = query.where(tables.metric_sums.c.width_s == width_s)
    with reading(engine) as connection:
        return int(connection.execute(query).scalar_one())


def same(one: Sums, other: Sums) -> None:
    """To rounding."""
    assert one.count == other.count
    for name in ("mean", "deviations", "denominator_mean", "denominator_deviations", "cross"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-9, abs=1e-9)


def test_parts_are_summed_up_as_one(measured: Engine) -> None:
    """By the database, in several transactions, as by one pass over all."""
    values = [1.0, 2.5, 1e6, -3.0, 7.25]
    for sequence, value in enumerate(values, start=1):
        record(measured, batch(sequence, [value]))

    same(total(measured), sums_of(values))
    assert 1 == count_rows(measured)


def test_ratios_have_all_moments(measured: Engine) -> None:
    """Numerator, denominator and what they have in common."""
    errors, requests = [1.0, 0.0, 3.0, 2.0], [10.0, 12.0, 15.0, 9.0]
    for place in range(4):
        series = Series("errors", errors[place : place + 1], requests[place : place + 1])
        record(measured, Batch("shop", "production", "web-1", place + 1, [series]))

    same(total(measured, Chosen("production", "errors")), sums_of(errors, requests))


def test_a_batch_that_comes_again_counts_once(measured: Engine) -> None:
    """In the same transaction and in a later one."""
    first = record(measured, batch(1, [1.0]), batch(1, [1.0]))
    again = record(measured, batch(1, [1.0]), batch(2, [2.0]))

    assert [Taken.APPLIED, Taken.DUPLICATE] == [each.taken for each in first]
    assert [Taken.DUPLICATE, Taken.APPLIED] == [each.taken for each in again]
    same(total(measured), sums_of([1.0, 2.0]))


def test_producers_count_for_themselves(measured: Engine) -> None:
    """Another one's sequence numbers say nothing."""
    record(measured, batch(7, [1.0]), batch(7, [3.0], producer="web-2"), batch(5, [5.0]))

    same(total(measured), sums_of([1.0, 3.0, 5.0]))


def test_what_is_not_committed_may_come_again(measured: Engine) -> None:
    """A crash in between loses neither the sums nor the right to send them again."""
    with pytest.raises(ZeroDivisionError), writing(measured) as connection:
        apply_batches(connection, "shop", [batch(1, [1.0])], flags_of={"production": {"checkout"}}.get, now=NOW)
        raise ZeroDivisionError
    assert [Ack(Taken.APPLIED)] == record(measured, batch(1, [1.0]))
    assert 1 == total(measured).count


def test_what_cannot_be_taken_is_told(measured: Engine) -> None:
    """A refused batch was not applied and may be sent again, mended; a part that is left out is told."""
    odd = Batch("shop", "production", "web-1", 1, [Series("latency", [1.0]), Series("lag", [2.0])])
    elsewhere = Batch("shop", "moon", "web-1", 2, [Series("latency", [1.0])])
    taken = record(measured, odd, elsewhere, Batch("shop", "production", "", 3, []))

    assert [Taken.APPLIED, Taken.REFUSED, Taken.REFUSED] == [each.taken for each in taken]
    assert [["/series/1/metric: there is no metric 'lag'"]] == [[str(each) for each in taken[0].problems]]
    assert "environment shop/moon is not there; create it first" == taken[1].problems[0].message
    same(total(measured), sums_of([1.0]))


def test_windows_and_arms_are_chosen(measured: Engine) -> None:
    """By variant and time."""
    record(measured, batch(1, [1.0]), batch(2, [5.0], variant="off"))
    record(measured, batch(3, [9.0]), later_s=100)
    now_s = int(NOW.timestamp())

    same(total(measured, Chosen("production", "latency", variant="off")), sums_of([5.0]))
    same(total(measured, Chosen("production", "latency", since_s=now_s + 50)), sums_of([9.0]))
    same(total(measured, Chosen("production", "latency", "checkout", "on", until_s=now_s + 50)), sums_of([1.0]))
    same(total(measured, Chosen("production", "latency", step=1)), Sums())


def test_old_sums_become_hours(measured: Engine) -> None:
    """Their total stays what it was, and new ones stay fine."""
    values = [float(each) for each in range(8)]
    for place, value in enumerate(values):
        record(measured, batch(place + 1, [value]), later_s=600 * place)
    before = total(measured)
    now = NOW + timedelta(hours=3)
    with writing(measured) as connection:
        folded = [fold(connection, now=now, limit=4), fold(connection, now=now), fold(connection, now=now)]

    assert [4, 2, 0] == folded
    assert (2, 1) == (count_rows(measured, 10), count_rows(measured, 3_600))
    same(total(measured), before)


def test_what_is_too_old_is_forgotten(measured: Engine) -> None:
    """Hours after months, and producers after days: what they sent before counts again then."""
    record(measured, batch(1, [1.0]))
    with writing(measured) as connection:
        fold(connection, now=NOW + timedelta(days=1))
        forget(connection, now=NOW + timedelta(days=PRODUCER_DAYS, seconds=1))
    assert [Ack(Taken.APPLIED)] == record(measured, batch(1, [1.0]))
    with writing(measured) as connection:
        fold(connection, now=NOW + timedelta(days=1))
        forget(connection, now=NOW + timedelta(days=METRIC_DAYS + 1))

    assert 0 == count_rows(measured)


def test_too_many_sums_are_asked_for_in_parts(measured: Engine) -> None:
    """The error says how."""
    record(measured, batch(1, [1.0]), batch(2, [1.0], variant="off"))
    with reading(measured) as connection:
        assert 2 == len(read_cells(connection, "shop", ALL, limit=2))
        with pytest.raises(TooLarge, match="more than 1 sums match"):
            read_cells(connection, "shop", ALL, limit=1)


def test_metrics_are_kept(measured: Engine) -> None:
    """Made once, changed by those who read them, and gone with their sums."""
    record(measured, batch(1, [1.0]))
    with writing(measured) as connection:
        with pytest.raises(Conflict):
            insert_metric(connection, "shop", LATENCY, now=NOW)
        stored = read_metric(connection, "shop", "latency")
        changed = Metric("latency", MetricKind.MEAN, unit="s")
        save_metric(connection, "shop", stored, changed, now=NOW)
        with pytest.raises(Stale):
            save_metric(connection, "shop", stored, changed, now=NOW)
        assert StoredMetric(changed, 2, NOW, NOW) == read_metric(connection, "shop", "latency")
        delete_metric(connection, "shop", "latency")
        with pytest.raises(NotFound):
            read_metric(connection, "shop", "latency")
        assert ["errors"] == [each.metric.key for each in list_metrics(connection, "shop")]
    assert 0 == count_rows(measured)
