"""What the clock makes of flags gets its revision, audit entry and event, once and for the very instant."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from server.core.changes import PutFlag, UpdateEnvironment
from server.core.environments import ApprovalPolicy, FreezeWindow
from server.operations.timelines import AGAIN_AFTER, Timelines
from server.store import tables
from server.store.audit import list_entries
from server.store.engine import reading, writing
from server.store.locks import take_locks
from tests.store.definitions import KINDS, NOW, behind_our_back, database, flag, put

T0 = datetime(2026, 1, 1, 13, tzinfo=UTC)
HOUR = timedelta(hours=1)
SHARE = {
    "percent": 1,
    "steps": [{"at": "2026-01-01T13:00:00Z", "percent": 10}, {"at": "2026-01-01T14:00:00Z", "percent": 100}],
}
RULE = {"id": "beta", "serve": "on", "share": SHARE, "until": "2026-01-01T15:00:00Z"}


@pytest.fixture(params=KINDS)
def shop(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """A shop whose flag grows at one and two o'clock and ends at three; it is noon."""
    with database(tmp_path, request.param, shop=True) as engine:
        put(engine, PutFlag(flag(rules=[RULE])))
        yield engine


def told(engine: Engine) -> list[tuple[str, datetime, str]]:
    """What the clock did, the oldest first."""
    with reading(engine) as connection:
        entries = [each for each in list_entries(connection, project="shop") if each.actor == "timeline"]
    return [(each.action, each.at, each.cause) for each in reversed(entries)]


def config_text(engine: Engine) -> str:
    """The flag's configuration as it is stored."""
    with reading(engine) as connection:
        return str(connection.execute(select(tables.flag_configs.c.document)).scalar_one())


def announced(engine: Engine) -> list[str]:
    """The types of all events, in order."""
    with reading(engine) as connection:
        return list(connection.execute(select(tables.outbox.c.type).order_by(tables.outbox.c.sequence)).scalars())


def next_at(timelines: Timelines) -> datetime | None:
    """When there is something to do."""
    with reading(timelines.engine) as connection:
        return timelines.next_at(connection)


def test_each_instant_is_settled_once(shop: Engine) -> None:
    """By whoever comes first, however many look; the entry is for the instant, not for the moment of looking."""
    one, other = Timelines(shop), Timelines(shop)
    assert T0 == next_at(one)
    one.carry_on(T0 - timedelta(seconds=1))
    assert [] == told(shop)
    for timelines in (one, other):
        timelines.carry_on(T0 + timedelta(milliseconds=40))

    assert [("flag.updated", T0, "timeline@2026-01-01T13:00:00Z")] == told(shop)
    share = json.loads(config_text(shop))["rules"][0]["share"]
    assert (10, 1) == (share["percent"], len(share["steps"]))
    assert T0 + HOUR == next_at(other)


def test_what_was_missed_is_told_in_order(shop: Engine) -> None:
    """Each instant with its own entry, also the end of a rule, which changes nothing that is written."""
    Timelines(shop).carry_on(T0 + 24 * HOUR)

    hours = [("flag.updated", 0), ("flag.updated", 1), ("flag.rule_ended", 2)]
    assert [(type_, T0 + hour * HOUR) for type_, hour in hours] == [(type_, at_) for type_, at_, _ in told(shop)]
    assert ["flag.targeting_changed", "flag.targeting_changed", "flag.rule_ended"] == announced(shop)[-3:]
    assert None is next_at(Timelines(shop))


def test_history_goes_forward(shop: Engine) -> None:
    """An instant that is settled after later changes is told when it is settled; its cause names it."""
    put(shop, PutFlag(flag("other")), now=T0 + HOUR / 2)
    Timelines(shop).carry_on(T0 + HOUR - timedelta(seconds=1))

    assert [("flag.updated", T0 + HOUR - timedelta(seconds=1), "timeline@2026-01-01T13:00:00Z")] == told(shop)


def test_nothing_holds_the_clock(shop: Engine) -> None:
    """Neither a freeze nor approvals nor a lock: every evaluator has switched already."""
    put(shop, UpdateEnvironment(freeze_windows=(FreezeWindow(NOW, NOW + 24 * HOUR, "Holidays"),)))
    put(shop, UpdateEnvironment(approval_policy=ApprovalPolicy(1)))
    with writing(shop) as connection:
        take_locks(connection, "shop", subjects=[("production", "checkout")], holder="release:rel_1", locks=True)
    Timelines(shop).carry_on(T0)

    assert 1 == len(told(shop))


def test_a_damaged_flag_holds_nobody_up(shop: Engine) -> None:
    """It is tried again after a while; others are settled meanwhile."""
    put(shop, PutFlag(flag("other", rules=[{**RULE, "id": "x"}])))
    with behind_our_back(shop) as outside:
        outside.execute("UPDATE flag_config SET document = ? WHERE key = ?", ("{broken", "checkout"))
    timelines = Timelines(shop)
    timelines.carry_on(T0)

    assert [("flag.updated", T0, "timeline@2026-01-01T13:00:00Z")] == told(shop)
    assert T0 + AGAIN_AFTER == next_at(timelines)
