"""Actions over a real server: what they come to, once each, guarded, and what their events tell."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict

from server.core.actions.catalogue import CATALOGUE
from server.core.changes import UpdateEnvironment
from server.core.environments import ApprovalPolicy
from server.operations.actions import FLAG_RATE, HOPS_MAX
from server.rpc.actions.running import SCHEDULE, SEARCHES, WRITES
from tests.rpc.acting import Tool, status_of, tool_of
from tests.rpc.conftest import Serve
from tests.store.definitions import put


@pytest.fixture
async def tool(tmp_path: Path, serve: Serve) -> AsyncIterator[Tool]:
    """A shop with a flag that has a rule with a share, and a list of keys."""
    async with tool_of(tmp_path, serve) as tool:
        yield tool


def test_every_action_is_done_somehow() -> None:
    """What is listed can be done, and nothing else."""
    assert CATALOGUE.keys() == {SCHEDULE, *WRITES, *SEARCHES}
    assert {name for name, type_ in CATALOGUE.items() if not type_.writes} == SEARCHES.keys()


async def test_a_flag_is_turned_on_once(tool: Tool) -> None:
    """The change, its revision and its event are told; the second time there is nothing to do."""
    first = await tool.run("set_flag_state", flag_key="checkout", enabled=False, options={"reason": "quiet hours"})
    second = await tool.run("set_flag_state", flag_key="checkout", enabled=False)

    (event, *_) = tool.events("flag.disabled")
    assert ("applied", "noop") == (status_of(first), status_of(second))
    assert ([event.id], []) == (list(first.event_ids), list(second.event_ids))
    assert (first.action_id, 1, "quiet hours") == (event.causation_id, event.hops, event.data["reason"])
    assert first.version == first.revision > 0
    assert 1 == len(first.changes)


async def test_stale_flags_are_answered(tool: Tool) -> None:
    """Said, put off, taken back, and found; which is no version of the flag."""
    marked = await tool.run("mark_stale", where="", flag_key="checkout", options={"reason": "launched"})
    found = await tool.run("list_stale_flags", where="", state="stale")
    snoozed = await tool.run("snooze_stale", where="", flag_key="checkout", days=30)
    again = await tool.run("snooze_stale", where="", flag_key="checkout", days=30)
    cleared = await tool.run("clear_stale", where="", flag_key="checkout")
    permanent = await tool.run("mark_permanent", where="", flag_key="checkout")
    neither = await tool.refused("snooze_stale", where="", flag_key="checkout")

    assert ["applied", "applied", "noop", "applied", "applied"] == [
        status_of(each) for each in (marked, snoozed, again, cleared, permanent)
    ]
    assert [("checkout", "marked")] == [(each["flag_key"], each["rule"]) for each in found.items]
    assert (0, "/until: say until when") == (marked.version, neither[1][:22])
    assert [tool.events("flag.stale")[0].id] == list(marked.event_ids)


async def test_what_is_wrong_is_told_with_its_path(tool: Tool) -> None:
    """All of it at once."""
    status, message = await tool.refused("set_flag_state", flag_key=3, on=True)

    assert status is grpc.StatusCode.INVALID_ARGUMENT
    assert ["/on", "/flag_key", "/enabled"] == [line.partition(":")[0] for line in message.splitlines()]
    assert grpc.StatusCode.NOT_FOUND is (await tool.refused("explode"))[0]
    assert grpc.StatusCode.NOT_FOUND is (await tool.refused("archive_flag", where="", flag_key="gone"))[0]


async def test_the_door_is_the_same(tool: Tool) -> None:
    """Who may not do it otherwise may not do it so; a kill needs less than an edit."""
    for name, given in (("set_flag_state", {"enabled": False}), ("set_rollout_share", {"percent": 5})):
        for who in ("reader", "operator", "elsewhere"):
            assert (
                grpc.StatusCode.PERMISSION_DENIED is (await tool.refused(name, by=who, flag_key="checkout", **given))[0]
            )

    killed = await tool.run("kill_flag", by="operator", flag_key="checkout", incident_url="https://status/1")

    assert ("applied", "flag.killed") == (status_of(killed), tool.events()[0].type)


async def test_a_protected_environment_is_asked_first(tool: Tool) -> None:
    """A change request is opened, and nothing changes; a kill passes."""
    put(tool.manager.engine, UpdateEnvironment(approval_policy=ApprovalPolicy(approvals=1)))

    waits = await tool.run("set_rollout_share", flag_key="checkout", percent=50)
    decide: dict[str, Any] = {"where": "", "change_request_id": waits.change_request}
    theirs = await tool.refused("decide_change_request", **decide, decision="approve")
    agreed = await tool.run("decide_change_request", by="", **decide, decision="approve")
    applied = await tool.run("decide_change_request", **decide, decision="apply")
    killed = await tool.run("set_flag_state", flag_key="checkout", enabled=False)

    assert ["pending_approval", *["applied"] * 3] == [status_of(each) for each in (waits, agreed, applied, killed)]
    assert grpc.StatusCode.PERMISSION_DENIED is theirs[0]
    assert 1 == len(waits.event_ids)


async def test_a_request_is_done_once(tool: Tool) -> None:
    """The same key gets the same answer, and something else is refused; other callers have keys of their own."""
    once: dict[str, Any] = {"options": {"request_id": "run-1"}, "flag_key": "checkout"}
    first = await tool.run("set_flag_state", enabled=False, **once)
    await tool.run("set_flag_state", flag_key="checkout", enabled=True)
    again = await tool.run("set_flag_state", enabled=False, **once)
    other = await tool.refused("set_flag_state", enabled=True, **once)
    somebody = await tool.run("set_flag_state", by="", enabled=True, **once)

    assert MessageToDict(first) == MessageToDict(again)
    assert grpc.StatusCode.ALREADY_EXISTS is other[0]
    assert "noop" == status_of(somebody)


async def test_requests_that_cross_are_done_once(tool: Tool) -> None:
    """Whichever comes first: all of them get its answer."""
    once: dict[str, Any] = {"options": {"request_id": "twice"}, "flag_key": "checkout", "percent": 60}
    answers = await asyncio.gather(*(tool.run("set_rollout_share", **once) for _ in range(5)))

    assert 1 == len({str(MessageToDict(each)) for each in answers})
    assert 1 == len(tool.events("flag.targeting_changed"))


async def test_an_answer_that_got_lost_is_found_again(tool: Tool) -> None:
    """Whoever asks again after a crash between the change and its answer changes nothing, and is told of the events."""
    once: dict[str, Any] = {"options": {"request_id": "run-2"}, "flag_key": "checkout", "percent": 55}
    first = await tool.run("set_rollout_share", **once)
    with tool.manager.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM action_answer")
    again = await tool.run("set_rollout_share", **once)

    assert (first.action_id, first.event_ids, first.revision) == (again.action_id, again.event_ids, again.revision)
    assert 1 == len(tool.events("flag.targeting_changed"))


async def test_versions_and_dry_runs(tool: Tool) -> None:
    """What was read must still be so; a dry run says what would happen."""
    stale = await tool.refused("set_flag_state", flag_key="checkout", enabled=False, options={"expected_version": 1})
    dry = await tool.run("set_flag_state", flag_key="checkout", enabled=False, options={"dry_run": True})

    assert grpc.StatusCode.ABORTED is stale[0]
    assert ("would_apply", 1, 0) == (status_of(dry), len(dry.changes), len(dry.event_ids))
    assert [] == tool.events("flag.disabled")


async def test_a_share_is_set_where_there_is_one(tool: Tool) -> None:
    """The one rule that has a share; a flag without one gets a rule; of several one must be named."""
    widened = await tool.run("set_rollout_share", flag_key="checkout", percent=33.3)
    await tool.run("create_flag", where="", flag_key="plain", enabled_in=["production"])
    lacks = await tool.refused("set_rollout_share", flag_key="plain", percent=5)
    added = await tool.run("set_rollout_share", flag_key="plain", percent=5, variant="on")
    named = await tool.run("set_rollout_share", flag_key="plain", percent=6, rule_id="rollout")
    missing = await tool.refused("set_rollout_share", flag_key="plain", percent=6, rule_id="gone")

    assert ["flag checkout: share of rule beta 20 % -> 33.3 %"] == list(widened.changes)
    assert (grpc.StatusCode.INVALID_ARGUMENT, "/variant") == (lacks[0], lacks[1].partition(":")[0])
    assert ("applied", "applied") == (status_of(added), status_of(named))
    assert grpc.StatusCode.NOT_FOUND is missing[0]


async def test_flags_come_and_go(tool: Tool) -> None:
    """Created, described, archived and brought back; variants of any type."""
    wanted: dict[str, Any] = {
        "flag_key": "theme",
        "variants": {"dark": "#000", "light": "#fff"},
        "default_variant": "dark",
    }
    made = await tool.run("create_flag", where="", **wanted, owner="web", tags=["ui"], kind="permission")
    again = await tool.refused("create_flag", where="", **wanted)
    steps = [
        await tool.run("update_flag", where="", flag_key="theme", description="Colours", expected_lifetime_days=30),
        await tool.run("archive_flag", where="", flag_key="theme"),
        await tool.run("restore_flag", where="", flag_key="theme"),
    ]
    found = MessageToDict((await tool.run("find_flags", by="reader", text="colours")).items[0])

    assert ["applied"] * 4 == [status_of(each) for each in (made, *steps)]
    assert grpc.StatusCode.ALREADY_EXISTS is again[0]
    assert ("theme", "Colours", "web", ["ui"], "permission", "string", False) == tuple(
        found[name] for name in ("flag_key", "description", "owner", "tags", "kind", "type", "enabled")
    )


async def test_keys_of_a_segment(tool: Tool) -> None:
    """Both ways at once, each once."""
    once: dict[str, Any] = {
        "segment_key": "staff",
        "add": ["bob"],
        "remove": ["ann"],
        "options": {"request_id": "keys"},
    }
    changed = await tool.run("update_segment", **once)

    assert "applied" == status_of(changed)
    assert MessageToDict(changed) == MessageToDict(await tool.run("update_segment", **once))
    assert grpc.StatusCode.INVALID_ARGUMENT is (await tool.refused("update_segment", segment_key="staff"))[0]


async def test_a_change_is_scheduled(tool: Tool) -> None:
    """Any action on flags, at its time, and cancelled by its id; its inputs are checked now."""
    later: dict[str, Any] = {"action": "set_flag_state", "at": "2030-01-04T09:00:00+01:00"}
    wrong = await tool.refused("schedule_change", **later, inputs={"flag_key": "checkout"})
    scheduled = await tool.run("schedule_change", **later, inputs={"flag_key": "checkout", "enabled": False})
    twice = await tool.refused("schedule_change", **later, cron="0 9 * * *", inputs={"flag_key": "x", "enabled": True})
    cancelled = await tool.run("cancel_schedule", where="", schedule_id=scheduled.subject_id)

    assert (grpc.StatusCode.INVALID_ARGUMENT, "/inputs/enabled") == (wrong[0], wrong[1].partition(":")[0])
    assert ("scheduled", "applied") == (status_of(scheduled), status_of(cancelled))
    assert scheduled.subject_id.startswith("sc_")
    assert grpc.StatusCode.INVALID_ARGUMENT is twice[0]


async def test_a_signal_that_nobody_listens_to(tool: Tool) -> None:
    """It is refused, for its name may be misspelt; and none can be tried."""
    signal: dict[str, Any] = {"by": "operator", "name": "errors", "text": "5 % fail"}

    assert grpc.StatusCode.NOT_FOUND is (await tool.refused("send_signal", **signal))[0]
    tried = await tool.refused("send_signal", **signal, options={"dry_run": True})
    assert grpc.StatusCode.INVALID_ARGUMENT is tried[0]


async def test_what_a_flag_serves(tool: Tool) -> None:
    """Only where evaluations are served, and for those who may evaluate."""
    assert (
        grpc.StatusCode.PERMISSION_DENIED
        is (await tool.refused("evaluate_flag", by="operator", flag_key="checkout"))[0]
    )


async def test_a_loop_ends(tool: Tool) -> None:
    """Each answer counts one more, also when only the event's id is passed on; then it is refused."""
    cause, enabled = "", False
    for hops in range(1, HOPS_MAX + 1):
        done = await tool.run("set_flag_state", flag_key="checkout", enabled=enabled, causation_id=cause)
        event = tool.events()[0]
        assert (hops, cause or done.action_id) == (event.hops, event.causation_id)
        cause, enabled = event.id, not enabled

    for given in ({"causation_id": cause}, {"hops": HOPS_MAX}):
        status, message = await tool.refused("set_flag_state", flag_key="checkout", enabled=enabled, **given)
        assert (grpc.StatusCode.FAILED_PRECONDITION, True) == (status, "loop" in message)


async def test_automation_is_held_to_a_rate(tool: Tool) -> None:
    """Of each flag, for all tools together; what stops something passes, and so does a dry run."""
    for turn in range(FLAG_RATE.burst):
        await tool.run("set_flag_state", by="" if turn % 2 else "editor", flag_key="checkout", enabled=bool(turn % 2))

    refused = await tool.refused("set_flag_state", flag_key="checkout", enabled=True)
    dry = await tool.run("set_flag_state", flag_key="checkout", enabled=True, options={"dry_run": True})
    killed = await tool.run("kill_flag", flag_key="checkout")
    elsewhere = await tool.run("set_flag_state", where="staging", flag_key="checkout", enabled=False)

    assert grpc.StatusCode.RESOURCE_EXHAUSTED is refused[0]
    assert ["noop", "applied", "applied"] == [status_of(each) for each in (dry, killed, elsewhere)]


async def test_a_change_comes_again_and_again(tool: Tool) -> None:
    """By RRULE or cron, in a time zone."""
    nightly: dict[str, Any] = {"action": "kill_flag", "inputs": {"flag_key": "checkout"}}
    lacks = await tool.refused("schedule_change", **nightly, cron="0 22 * * *")
    found = [
        await tool.run("schedule_change", **nightly, **rule, time_zone="Europe/Berlin")
        for rule in ({"cron": "0 22 * * *"}, {"rrule": "FREQ=DAILY;BYHOUR=21;BYMINUTE=0"})
    ]

    assert (grpc.StatusCode.INVALID_ARGUMENT, "/time_zone") == (lacks[0], lacks[1].partition(":")[0])
    assert ["scheduled"] * 2 == [status_of(each) for each in found]


async def test_what_there_is_to_do(tool: Tool) -> None:
    """Every action is described, with a schema and an example."""
    listed = await tool.client.ask("ListActions", by="reader")

    assert list(CATALOGUE) == [each.name for each in listed.actions]
    schema = MessageToDict(listed.actions[0].schema)
    assert ["project", "environment", "flag_key", "enabled"] == schema["required"]
