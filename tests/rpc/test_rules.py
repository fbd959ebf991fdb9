"""RuleService over a real server: rules are written, tried, turned on and off, and looked at."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

from protos.flagstaff.v1 import actions_pb2 as actions
from protos.flagstaff.v1 import common_pb2 as common
from protos.flagstaff.v1 import rules_pb2 as messages
from server.core.announcing.wanted import read_wanted
from server.core.changes import PutFlag
from server.operations.rules.finding import Finding
from server.store.engine import reading
from server.store.outbox import newest_events
from tests.announced import check_announced
from tests.rpc.asking import ServiceClient
from tests.rpc.conftest import Serve
from tests.rpc.managing import Manager, managing
from tests.store.definitions import flag, new_shop, put

INPUTS: Final = {"flag_key": "{{ data.flag_key }}"}


@dataclass
class Desk:
    """A server over a shop with a flag."""

    client: ServiceClient
    manager: Manager

    async def ask(self, method: str, by: str = "editor", **fields: Any) -> Any:
        """The reply to a request about the shop."""
        return await self.client.ask(method, by=by, project="shop", **fields)

    async def refused(self, method: str, by: str = "editor", **fields: Any) -> tuple[grpc.StatusCode, str]:
        """Status and message of one that is refused."""
        return await self.client.refused(method, by=by, project="shop", **fields)

    async def create(self, **fields: Any) -> Any:
        """Make a rule."""
        return (await self.ask("CreateRule", rule=kill_rule(), **fields)).rule


def kill_rule(**fields: Any) -> messages.AutomationRule:
    """A rule that kills the flag of an event."""
    held = Struct()
    held.update(INPUTS)
    act = messages.RuleAction(action="kill_flag", inputs=held, reason="{{ type }}")
    when = messages.RuleCondition(event_types=["flag.targeting_changed"], environments=["production"])
    return messages.AutomationRule(**{"name": "No changes", "when": when, "act": act, **fields})


@pytest.fixture
async def desk(tmp_path: Path, serve: Serve) -> AsyncIterator[Desk]:
    """A server over the shop."""
    shop = new_shop(tmp_path)
    put(shop, PutFlag(flag()))
    with managing(shop) as (manager, table):
        yield Desk(ServiceClient(serve, table, messages), manager)
    check_announced(shop)
    shop.dispose()


async def test_rules_are_managed(desk: Desk) -> None:
    """From the first version to the last."""
    made = await desk.create()
    mask = FieldMask(paths=["when", "per_minute"])
    other = kill_rule(id=made.id, name="ignored", when=messages.RuleCondition(event_types=["flag.stale"]))
    updated = await desk.ask("UpdateRule", rule=other, update_mask=mask)
    disabled = await desk.ask("DisableRule", id=made.id, options=common.WriteOptions(reason="too eager"))
    enabled = await desk.ask("EnableRule", id=made.id)
    listed = await desk.ask("ListRules", by="reader")
    shown = await desk.ask("GetRule", by="reader", id=made.id)
    deleted = await desk.ask("DeleteRule", id=made.id, options=common.WriteOptions(expected_version=4))

    assert (True, "token:editor", 1, 60) == (made.enabled, made.author, made.version, made.per_minute)
    assert INPUTS == MessageToDict(made.act.inputs)
    assert ("No changes", ["flag.stale"], []) == (
        updated.rule.name,
        list(updated.rule.when.event_types),
        list(updated.rule.when.environments),
    )
    assert (False, "too eager", True, "") == (
        disabled.rule.enabled,
        disabled.rule.why,
        enabled.rule.enabled,
        enabled.rule.why,
    )
    assert [shown.rule] == list(listed.rules)
    assert common.OUTCOME_APPLIED == deleted.result.outcome
    assert grpc.StatusCode.NOT_FOUND is (await desk.refused("GetRule", by="reader", id=made.id))[0]


async def test_a_rule_is_tried(desk: Desk) -> None:
    """On an event that happened, on one that is made up, and with what its action would come to."""
    put(desk.manager.engine, PutFlag(flag(default="on")))
    with reading(desk.manager.engine) as connection:
        ((event,), _) = newest_events(
            connection, "shop", read_wanted(["flag.targeting_changed"]), environment="", before=None, limit=1
        )
    made = await desk.create()
    tried = await desk.ask("TryRule", id=made.id, event_id=event.id)
    gone = Struct()
    gone.update({"type": "flag.targeting_changed", "environment": "production", "data": {"flag_key": "gone"}})
    refused = await desk.ask("TryRule", rule=kill_rule(), event=gone)
    gone.update({"environment": "staging"})
    unwanted = await desk.ask("TryRule", rule=kill_rule(), event=gone)

    assert (True, "", "flag.targeting_changed") == (tried.wanted, tried.problem, tried.act.reason)
    assert actions.ACTION_STATUS_WOULD_APPLY == tried.would.status
    assert "checkout" == tried.act.inputs["flag_key"]
    assert (True, True) == (refused.wanted, "gone" in refused.problem)
    assert (False, "") == (unwanted.wanted, unwanted.act.action)


async def test_runs_are_listed(desk: Desk) -> None:
    """The newest event first, page after page."""
    made = await desk.create()
    for default in ("on", "off", "on"):
        put(desk.manager.engine, PutFlag(flag(default=default)))
    Finding(desk.manager.engine).look()
    first = await desk.ask("ListRuleRuns", by="reader", id=made.id, page_size=2)
    second = await desk.ask("ListRuleRuns", by="reader", id=made.id, page_size=2, page_token=first.next_page_token)
    done = await desk.ask("ListRuleRuns", by="reader", id=made.id, states=[messages.RUN_STATE_DONE])
    runs = [*first.runs, *second.runs]

    assert (2, 1, "") == (len(first.runs), len(second.runs), second.next_page_token)
    assert sorted((each.sequence for each in runs), reverse=True) == [each.sequence for each in runs]
    assert {messages.RUN_STATE_PENDING} == {each.state for each in runs}
    assert ([], 3) == (list(done.runs), (await desk.ask("GetRule", by="reader", id=made.id)).rule.waiting)


async def test_presets_are_offered(desk: Desk) -> None:
    """And made, with what they lack."""
    listed = await desk.client.ask("ListRulePresets")
    made = await desk.ask("CreateRule", preset="kill-on-breach", disabled=True)
    lacking = await desk.refused("CreateRule", preset="stale-notice")

    assert {"stale-notice", "kill-notice", "kill-on-breach"} == {each.key for each in listed.presets}
    assert (False, ["guard.breached"]) == (made.rule.enabled, list(made.rule.when.event_types))
    assert (grpc.StatusCode.INVALID_ARGUMENT, "preset stale-notice needs an endpoint to deliver to") == lacking


@pytest.mark.parametrize(
    ("method", "fields", "says"),
    [
        ("CreateRule", {"rule": messages.AutomationRule(name="x")}, "a rule says what is done"),
        ("CreateRule", {"rule": kill_rule(name="")}, "/name: expected a text of 1 to 200 characters"),
        ("CreateRule", {"rule": kill_rule(per_minute=9_999)}, "/per_minute: expected 1 to 6000"),
        ("UpdateRule", {"rule": messages.AutomationRule(id="rule_1")}, "update_mask is empty"),
        ("UpdateRule", {}, "needs rule.id"),
        ("TryRule", {}, "name a rule by its id, or give one"),
        ("TryRule", {"rule": kill_rule()}, "name an event by its id, or give one"),
    ],
)
async def test_what_cannot_be_understood_is_refused(desk: Desk, method: str, fields: Any, says: str) -> None:
    """Naming what is wrong."""
    status, message = await desk.refused(method, **fields)

    assert grpc.StatusCode.INVALID_ARGUMENT is status
    assert says in message


async def test_readers_only_read(desk: Desk) -> None:
    """They may try a rule, but not what it does."""
    made = await desk.create()
    put(desk.manager.engine, PutFlag(flag(default="on")))
    event = Struct()
    event.update({"type": "flag.targeting_changed", "environment": "production", "data": {"flag_key": "checkout"}})
    tried = await desk.ask("TryRule", by="reader", id=made.id, event=event)

    assert grpc.StatusCode.PERMISSION_DENIED is (await desk.refused("DeleteRule", by="reader", id=made.id))[0]
    assert (True, True) == (tried.wanted, "may not kill" in tried.problem)
