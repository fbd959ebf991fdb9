"""If this then that: each event once for each rule, whoever fails or crashes."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from server.core.access import Principal
from server.core.actions.values import Asked, Done
from server.core.changes import PutFlag
from server.core.errors import (
    InvalidDefinition,
    NotFound,
    Refused,
    StoreUnavailable,
)
from server.core.limits import RULE_RUNS_WAITING_MAX
from server.core.rules.rules import Act, Deliver, RuleState, Wanted
from server.operations.actions import HOPS_MAX
from server.operations.rules.running import COME
from server.store import rules as stored_rules
from server.store.causing import Causing, caused_by
from server.store.engine import writing
from tests.announced import check_announced
from tests.operations.ruling import House, applied
from tests.store.definitions import KINDS, NOW, another, database, flag, put
from webhooks.tables import deliveries


@pytest.fixture(params=KINDS)
def house(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[House]:
    """A shop with two flags."""
    with database(tmp_path, request.param, shop=True) as engine:
        put(engine, PutFlag(flag(owner="web", tags=["shop"])), PutFlag(flag("banner", owner="ads")))
        yield House(engine)
        check_announced(engine)


@pytest.fixture
def one(tmp_path: Path) -> Iterator[House]:
    """The same on SQLite."""
    with database(tmp_path, "sqlite", shop=True) as engine:
        put(engine, PutFlag(flag(owner="web", tags=["shop"])), PutFlag(flag("banner", owner="ads")))
        yield House(engine)
        check_announced(engine)


def test_an_event_is_answered_once(house: House) -> None:
    """With what was made of it, as the rule's own actor, and because of that event."""
    house.flip()
    id = house.create()
    house.flip()
    assert COME == house.next_at()
    for _ in range(3):
        house.carry_on()

    ((asked, principal),) = house.done
    (run,) = house.runs(id)
    assert {"flag_key": "checkout", "project": "shop", "environment": "production"} == asked.inputs
    assert ("flag.targeting_changed by ", run.event, 0) == (asked.reason, asked.causation.id, asked.causation.hops)
    assert (f"rule:{id}", f"{id}:{run.event}") == (principal.actor, asked.idempotency_key)
    assert [("done", "applied")] == house.results(id)
    assert house.next_at() is None


def test_several_processes_answer_an_event_once(house: House) -> None:
    """At the same moment, with connections of their own."""
    id = house.create(per_minute=6_000)
    for number in range(12):
        house.flip(f"flag-{number % 3}")
    engines = [another(house.engine) for _ in range(3)]
    threads = [threading.Thread(target=house.running(engine).carry_on, args=(NOW,)) for engine in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for engine in engines:
        engine.dispose()

    events = [asked.causation.id for asked, _ in house.done]
    assert len(set(events)) == len(events) == len(house.runs(id))
    assert {"done"} == {state for state, _ in house.results(id)}


@pytest.mark.parametrize(
    ("when", "keys"),
    [
        (Wanted(("flag.*",)), ["checkout", "banner"]),
        (Wanted(("flag.*",), owners=("ads",)), ["banner"]),
        (Wanted(("flag.*",), tags=("shop", "other")), ["checkout"]),
        (Wanted(("flag.*",), environments=("staging",)), []),
        (Wanted(("flag.*",), expression="data.flag_key == 'banner'"), ["banner"]),
        (Wanted(("release.*",)), []),
    ],
)
def test_a_rule_answers_what_it_wants(one: House, when: Wanted, keys: list[str]) -> None:
    """By type, place, tag, owner and expression."""
    inputs = {"flag_key": "{{ data.flag_key | default: 'none' }}"}
    one.create(Act("kill_flag", inputs), when)
    one.flip(owner="web", tags=["shop"])
    one.flip("banner", owner="ads")
    one.carry_on()

    assert keys == [asked.inputs["flag_key"] for asked, _ in one.done]


def test_texts_become_what_the_action_takes(one: House) -> None:
    """Numbers and booleans; and the environment is the event's, unless another is named."""
    inputs = {"flag_key": "{{ data.flag_key }}", "percent": "{{ data.revision }}", "environment": "staging"}
    one.create(Act("set_rollout_share", inputs))
    one.flip()
    one.carry_on()

    assert [("staging", 3)] == [(asked.inputs["environment"], asked.inputs["percent"]) for asked, _ in one.done]


def test_a_crash_between_doing_and_keeping_doubles_nothing(one: House) -> None:
    """It is asked for again with the same key, by which whoever does it knows it."""
    id = one.create()
    one.flip()
    running = one.running()
    running.finding.look()

    def crash(_asked: Asked, _principal: Principal) -> Done:
        raise KeyboardInterrupt

    one.answer = crash
    with pytest.raises(KeyboardInterrupt):
        running.run_some()
    assert ["claimed"] == [each.state.value for each in one.runs(id)]
    assert 0 == one.running().run_some()
    one.make_due()
    one.answer = applied
    one.carry_on()

    assert 1 == len({asked.idempotency_key for asked, _ in one.done})
    assert [("done", "applied", 2)] == [(*each, one.runs(id)[0].attempt_count) for each in one.results(id)]


def test_whose_claim_is_over_keeps_nothing(one: House) -> None:
    """What became of it is said by who took it up again."""
    id = one.create()
    one.flip()
    slow, quick = one.running(), one.running()
    slow.finding.look()

    def answered(asked: Asked, principal: Principal) -> Done:
        one.make_due()
        one.answer = applied
        quick.run_some()
        raise Refused("too late")

    one.answer = answered
    slow.run_some()

    assert [("done", "applied")] == one.results(id)
    assert [] == one.told("rule.run_failed")


def test_what_may_pass_is_tried_again(one: House) -> None:
    """After a wait; what becomes of it then counts."""
    id = one.create()
    one.flip()

    def unavailable(_asked: Asked, _principal: Principal) -> Done:
        raise StoreUnavailable("gone for a moment")

    one.answer = unavailable
    one.carry_on()
    assert [("pending", "gone for a moment")] == one.results(id)
    one.carry_on()
    assert 1 == len(one.done)
    one.answer = applied
    one.make_due()
    one.carry_on()
    assert [("done", "applied")] == one.results(id)


def test_what_stays_wrong_is_told(one: House) -> None:
    """Once, with the event and why; and the rule goes on."""
    id = one.create()
    one.flip()

    def refused(_asked: Asked, _principal: Principal) -> Done:
        raise NotFound("flag 'checkout' is not there")

    one.answer = refused
    one.carry_on()
    ((_, data),) = one.told("rule.run_failed")

    assert [("failed", "flag 'checkout' is not there")] == one.results(id)
    assert (id, "kill_flag", 1, "flag 'checkout' is not there") == tuple(
        data[name] for name in ("rule_id", "action", "attempts", "error")
    )
    assert 1 == one.rules.read("shop", id)[0].health.failure_count
    one.answer = applied
    one.flip()
    one.carry_on()
    assert 0 == one.rules.read("shop", id)[0].health.failure_count


def test_a_rule_that_fails_for_long_is_disabled(one: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an event; what waits is dropped."""
    monkeypatch.setattr("server.core.rules.rules.FAILURES_MAX", 2)
    id = one.create()

    def refused(_asked: Asked, _principal: Principal) -> Done:
        raise NotFound("gone")

    one.answer = refused
    one.flip()
    one.carry_on()
    with writing(one.engine) as connection:
        rule = stored_rules.read_rule(connection, "shop", id)
        stored_rules.save_health(connection, "shop", id, replace(rule.health, failing_since=NOW))
    one.flip()
    one.carry_on()
    rule, waiting = one.rules.read("shop", id)

    assert (RuleState.DISABLED, 0) == (rule.state, waiting)
    assert "every run has failed since 2026-01-01 12:00 UTC" == rule.why
    assert ["rule.created", "rule.run_failed", "rule.run_failed", "rule.disabled"] == [type_ for type_, _ in one.told()]
    one.flip()
    one.carry_on()
    assert 2 == len(one.runs(id))


def test_rules_that_answer_one_another_end(one: House) -> None:
    """At five hops, and somebody is told; that is not answered for ever either."""
    one.create(name="ping")
    one.create(Act("kill_flag", {"flag_key": "checkout"}), Wanted(("rule.*",)), name="pong")
    with caused_by(Causing("evt_1", HOPS_MAX, "act_1")):
        one.flip()
    for _ in range(10):
        one.carry_on()

    assert [] == one.done
    assert ["run_failed"] == [type_.removeprefix("rule.") for type_, _ in one.told("rule.run_failed")]
    assert "automations led here, one after the other" in one.told("rule.run_failed")[0][1]["error"]


def test_an_answer_has_one_more_hop(one: House) -> None:
    """What tells of a failure, too."""
    one.create()

    def refused(_asked: Asked, _principal: Principal) -> Done:
        raise NotFound("gone")

    one.answer = refused
    with caused_by(Causing("evt_1", 2, "act_1")):
        one.flip()
    one.carry_on()
    one.create(Act("kill_flag", {"flag_key": "checkout"}), Wanted(("rule.run_failed",)), name="other")
    one.flip()
    one.carry_on()
    one.carry_on()

    assert [2, 0, 1] == [asked.causation.hops for asked, _ in one.done]


def test_everything_stands_for_everything_but_rules(one: House) -> None:
    """What becomes of rules is answered only where it is named."""
    one.create(Act("kill_flag", {"flag_key": "checkout"}), Wanted(("*",)))
    one.create(name="another")
    one.carry_on()

    assert [] == one.done


def test_a_rate_holds_runs_back(one: House) -> None:
    """They wait, and none is lost."""
    id = one.create(per_minute=10)
    for number in range(3):
        one.flip(f"flag-{number}")
        one.flip(f"flag-{number}")
    one.carry_on()
    states = [each.state.value for each in one.runs(id)]

    assert ["done", *["pending"] * (len(states) - 1)] == states
    assert len(states) > 2


def test_too_much_that_waits_is_refused(one: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a bound that has a name."""
    assert RULE_RUNS_WAITING_MAX >= 1_000
    monkeypatch.setattr("server.operations.rules.finding.RULE_RUNS_WAITING_MAX", 1)
    id = one.create()
    one.flip()
    one.flip()
    one.carry_on()

    assert [("done", "applied"), ("failed", "1 runs of the rule wait already")] == one.results(id)


def test_a_delivery_is_made_once(house: House) -> None:
    """Whatever the endpoint wants itself; one that is disabled misses it."""
    house.add_endpoint()
    house.add_endpoint("ep_2", "disabled")
    ids = [house.create(Deliver(id)) for id in ("ep_1", "ep_2")]
    house.flip()
    house.carry_on()
    with writing(house.engine) as connection:
        rows = connection.execute(select(deliveries.c.endpoint_id, deliveries.c.status, deliveries.c.ordering_key))
        found = sorted(tuple(row) for row in rows)

    assert [("ep_1", "pending", "flag/checkout"), ("ep_2", "missed", "flag/checkout")] == found
    assert [[("done", "delivering")], [("done", "missed: the endpoint is disabled")]] == [
        house.results(id) for id in ids
    ]


def test_a_deleted_endpoint_is_told(one: House) -> None:
    """As any other failure."""
    one.add_endpoint()
    id = one.create(Deliver("ep_1"))
    with writing(one.engine) as connection:
        connection.exec_driver_sql("DELETE FROM endpoint")
    one.flip()
    one.carry_on()

    assert [("failed", "there is no endpoint 'ep_1' any more")] == one.results(id)
    with pytest.raises(InvalidDefinition, match="/then/endpoint_id: there is no endpoint 'ep_9' in project 'shop'"):
        one.create(Deliver("ep_9"))
