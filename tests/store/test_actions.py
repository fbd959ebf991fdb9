"""What is kept of actions, on every kind of database."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import Engine, select

from server.core.access import Grant, Role
from server.core.actions.triggers import Effect, Trigger
from server.core.changes import DeleteEnvironment, PutFlag
from server.core.errors import Conflict, NotFound
from server.store import action_tables as tables
from server.store.actions import KEPT, PACES_KEPT_S, events_of, find_answer, hops_of, keep_answer, take_turn
from server.store.causing import Causing, caused_by
from server.store.engine import reading, writing
from server.store.triggers import (
    StoredTrigger,
    delete_trigger,
    find_trigger,
    insert_trigger,
    list_triggers,
    note_used,
    read_trigger,
    save_trigger,
)
from tests.store.definitions import NOW, flag, put
from webhooks.rates import Rate


def test_an_answer_is_kept_for_a_day(shop: Engine) -> None:
    """The first stays; another digest is refused; keys of others do not meet; old ones go when new ones come."""
    with writing(shop) as connection:
        keep_answer(connection, "a", key="k", digest="1", answer={"is": "first"}, now=NOW)
        keep_answer(connection, "a", key="k", digest="1", answer={"is": "second"}, now=NOW)
        assert {"is": "first"} == find_answer(connection, "a", key="k", digest="1", now=NOW)
        assert None is find_answer(connection, "b", key="k", digest="2", now=NOW)
        with pytest.raises(Conflict, match="'k' was used for something else"):
            find_answer(connection, "a", key="k", digest="2", now=NOW)
        assert None is find_answer(connection, "a", key="k", digest="2", now=NOW + KEPT)
        keep_answer(connection, "a", key="other", digest="1", answer={}, now=NOW + KEPT)
        assert ["other"] == list(connection.execute(select(tables.answers.c.key)).scalars())


def test_a_flag_has_a_bucket(shop: Engine) -> None:
    """Full at first; so long as it is empty somebody has to wait; those that nobody asks for go."""
    rate, here = Rate(0.5, 2), ("shop", "production", "checkout")
    with writing(shop) as connection:
        waits = [take_turn(connection, here, rate=rate, now_s=at) for at in (0.0, 0.0, 0.0, 1.0, 2.0)]
        assert [0.0, 0.0, 2.0, 1.0, 0.0] == waits
        assert 0.0 == take_turn(connection, ("shop", "staging", "checkout"), rate=rate, now_s=PACES_KEPT_S * 2)
        assert ["staging"] == list(connection.execute(select(tables.paces.c.environment)).scalars())


def test_events_are_found_by_their_action(shop: Engine) -> None:
    """Those that it led to, in their order, and how many automations led to each."""
    with caused_by(Causing("evt_before", 3, "act_1")):
        put(shop, PutFlag(flag("a")), PutFlag(flag("b")))
    put(shop, PutFlag(flag("c")))
    with reading(shop) as connection:
        found = events_of(connection, "shop", "act_1")
        assert (2, ()) == (len(found), events_of(connection, "shop", "act_2"))
        assert ([3, 3], 0) == ([hops_of(connection, "shop", each) for each in found], hops_of(connection, "shop", "x"))
        assert 0 == hops_of(connection, "bank", found[0])


def test_an_address_is_kept(shop: Engine) -> None:
    """Found by the digest of its secret; it goes with its environment."""
    trigger = Trigger(
        id="trg_1",
        project="shop",
        environment="staging",
        name="on fire",
        firing=Effect("kill_flag", {"flag_key": "checkout"}),
        resolved=Effect("set_flag_state", {"flag_key": "checkout", "enabled": True}),
        preset="grafana",
        signed=True,
        maker="token:ann",
        grants=(Grant(Role.EDIT, "shop"),),
        created_at=NOW,
        updated_at=NOW,
    )
    with writing(shop) as connection:
        insert_trigger(connection, StoredTrigger(trigger, "digest", "sealed"))
        insert_trigger(connection, StoredTrigger(replace(trigger, id="trg_2", environment=""), "2"))
        note_used(connection, "trg_1", NOW)
        stored = find_trigger(connection, "digest")
        assert stored is not None
        after = save_trigger(connection, stored, NOW + timedelta(hours=1))
        assert after == read_trigger(connection, "shop", "trg_1")
        assert (1, NOW, 2, trigger.resolved, trigger.grants) == (
            after.trigger.use_count,
            after.trigger.used_at,
            after.trigger.version,
            after.trigger.resolved,
            after.trigger.grants,
        )
        assert None is find_trigger(connection, "other")
    put(shop, DeleteEnvironment(), environment="staging")
    with writing(shop) as connection:
        assert ["trg_2"] == [each.trigger.id for each in list_triggers(connection, "shop")]
        delete_trigger(connection, "trg_2")
        with pytest.raises(NotFound, match="'trg_2' does not exist"):
            read_trigger(connection, "shop", "trg_2")
