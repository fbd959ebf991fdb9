"""Guards and policies on every kind of database: one judgement at a time, whoever judges."""

import threading
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import Engine

from server.core.access import Action
from server.core.changes import DeleteEnvironment, PutFlag
from server.core.errors import Conflict, NotFound, Stale
from server.core.guards.machine import State
from server.core.guards.policies import Aim, Trigger, TriggerKind
from server.core.metrics.batches import Batch, Series
from server.core.metrics.metrics import Metric, MetricKind
from server.operations.guards.judging import Judging
from server.operations.metrics import Metrics
from server.operations.writes import Write, Writer
from server.store.engine import reading, writing
from server.store.guard_evaluations import Evaluation, keep_evaluation, list_evaluations
from server.store.guards import insert_guard, read_guard, save_guard
from server.store.rollback_policies import insert_policy, list_policies, read_policy, save_policy
from tests.operations.guarding import EDITOR, ERRORS, POLICY, RULED, House
from tests.store.definitions import NOW, flag, put, stored


@pytest.fixture
def house(shop: Engine) -> House:
    """A guarded shop."""
    put(shop, PutFlag(RULED), PutFlag(flag("banner", tags=["sale"])))
    Metrics(shop).create("shop", Metric("errors", MetricKind.RATIO), Write(EDITOR, Action.EDIT, NOW))
    made = House(shop)
    made.make(policy=replace(POLICY, aim=Aim.ANCHOR, auto_resume=True, cool_down_s=5))
    return made


def test_processes_that_judge_at_once_act_once(house: House) -> None:
    """The guard's row says whose turn it is, and the policy's what was done."""
    put(house.engine, PutFlag(flag(default="on")))
    now = NOW + timedelta(seconds=20)
    others = [Judging(house.engine, Writer(house.engine), lambda: now, house.provider) for _ in range(4)]
    house.observing.take([Batch("shop", "production", "web-9", 1, [Series("errors", [90], [100], "checkout", "on")])])
    start = threading.Barrier(len(others))

    def judge(one: Judging) -> None:
        start.wait()
        one.carry_on(now)

    threads = [threading.Thread(target=judge, args=(each,)) for each in others]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert 1 == house.outcomes().count("rolled_back")
    assert (stored(house.engine).flags["checkout"] or {})["rules"]


def test_everything_is_kept_and_comes_back(house: House) -> None:
    """Written and read by the store alone."""
    house.observe(90, 100)
    with reading(house.engine) as connection:
        guard, policy = read_guard(connection, "shop", "errors"), read_policy(connection, "shop", "safe")
        kept = list_evaluations(connection, "shop", policy="safe")

    assert ERRORS == guard.guard
    assert guard.last is not None and 0.9 == guard.last.judgement.value
    assert (State.COOLING, EDITOR.actor, EDITOR.grants) == (policy.progress.state, policy.author, policy.grants)
    assert [("errors", "safe", guard.last.judgement)] == [(each.guard, each.policy, each.judgement) for each in kept]


def test_only_one_of_two_changes_is_kept(house: House) -> None:
    """Of a guard and of a policy; and none is made twice."""
    with writing(house.engine) as connection:
        guard, policy = read_guard(connection, "shop", "errors"), read_policy(connection, "shop", "safe")
        save_guard(connection, guard, guard)
        save_policy(connection, policy, policy, now=NOW)
        with pytest.raises(Stale):
            save_guard(connection, guard, guard)
        with pytest.raises(Stale):
            save_policy(connection, policy, policy, now=NOW)
        with pytest.raises(Conflict):
            insert_guard(connection, guard)
        with pytest.raises(Conflict):
            insert_policy(connection, policy, now=NOW)


def test_the_oldest_evaluations_are_forgotten(house: House) -> None:
    """Of each guard and each policy for itself."""
    house.observe(1, 100)
    (one,) = house.evaluations()
    with writing(house.engine) as connection:
        for number in range(200):
            keep_evaluation(connection, "shop", _of(one, "busy" if number else "rare"), kept_max=10)
        busy = list_evaluations(connection, "shop", policy="busy", limit=1_000)
        rare = list_evaluations(connection, "shop", policy="rare", limit=1_000)

    assert 10 <= len(busy) < 10 + 64
    assert 1 == len(rare)


def test_what_guarded_an_environment_goes_with_it(house: House) -> None:
    """Nothing is judged in a place that is no more."""
    trigger = (Trigger(TriggerKind.SIGNAL, "x"),)
    house.guards.create_policy("shop", replace(POLICY, key="other", triggers=trigger), house.write())
    put(house.engine, DeleteEnvironment())
    with reading(house.engine) as connection:
        assert [] == list_policies(connection, "shop")
        with pytest.raises(NotFound):
            read_guard(connection, "shop", "errors")


def _of(one: Evaluation, policy: str) -> Evaluation:
    return replace(one, policy=policy, guard="")
