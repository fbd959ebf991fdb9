"""What is told to who watches guards: what is other than it was told, and nothing twice."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from server.core.changes import PutFlag
from server.core.metrics.metrics import Metric, MetricKind
from server.operations.guards.watching import Wanted, last, look
from server.operations.metrics import Metrics
from tests.operations.guarding import ERRORS, RULED, House
from tests.store.definitions import new_shop, put

SHOP = Wanted("shop")


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A guard that watches errors, and a policy that waits for it."""
    engine = new_shop(tmp_path)
    put(engine, PutFlag(RULED))
    house = House(engine)
    Metrics(engine).create("shop", Metric("errors", MetricKind.RATIO), house.write())
    house.make()
    yield house
    engine.dispose()


def test_verdicts_are_told_when_they_change(house: House) -> None:
    """The first one, not the same again, the breach with what came of it; and the number grows with each."""
    news = look(house.engine, SHOP, None)
    numbers, told = [last(house.engine, "shop")], []
    for errors in (0, 0, 50):
        house.observe(errors, 100)
        news = look(house.engine, SHOP, news.known)
        told.append([(each.event.verdict, each.outcome) for each in news.evaluations])
        numbers.append(last(house.engine, "shop"))

    assert [[("pass", "")], [], [("fail", "rolled_back")]] == told
    assert sorted(set(numbers)) == numbers
    assert (["errors"], ["cooling"]) == (
        [each.guard.key for each in news.guards],
        [each.progress.state for each in news.policies],
    )
    assert not look(house.engine, SHOP, news.known)


def test_only_what_is_wanted(house: House) -> None:
    """By environment, and by guards with their policies."""
    house.guards.create_guard("shop", replace(ERRORS, key="more", environment="staging"), house.write())
    found = {
        wanted: ([each.guard.key for each in news.guards], len(news.policies))
        for wanted in ("", "production", "staging", "more")
        for news in [
            look(house.engine, Wanted("shop", wanted.replace("more", ""), ["more"] if wanted == "more" else ()), None)
        ]
    }

    assert {
        "": (["errors", "more"], 1),
        "production": (["errors"], 1),
        "staging": (["more"], 0),
        "more": (["more"], 0),
    } == found


def test_what_is_gone_is_told(house: House) -> None:
    """Once."""
    known = look(house.engine, SHOP, None).known
    house.guards.delete_policy("shop", "safe", house.write())
    house.guards.delete_guard("shop", "errors", house.write())
    news = look(house.engine, SHOP, known)

    assert (("errors",), ("safe",)) == (news.gone_guards, news.gone_policies)
    assert not look(house.engine, SHOP, news.known)
