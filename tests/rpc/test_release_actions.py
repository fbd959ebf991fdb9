"""Actions that move releases, by their ids or by a flag that they are under way on."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict

from server.core.access import OPEN, Action
from server.core.changes import UpdateEnvironment
from server.core.environments import ApprovalPolicy
from server.core.releases.plan import External, Gates, OnTimeout, Patch, Plan, Step
from server.core.releases.progress import Act
from server.operations.releases.moving import Releases
from server.operations.writes import Write, Writer
from tests.rpc.acting import Tool, status_of, tool_of
from tests.rpc.conftest import Serve
from tests.store.definitions import NOW, put


@pytest.fixture
async def tool(tmp_path: Path, serve: Serve) -> AsyncIterator[Tool]:
    """A shop with a flag that has a rule with a share, and a list of keys."""
    async with tool_of(tmp_path, serve) as tool:
        yield tool


async def test_a_release_is_moved(tool: Tool) -> None:
    """By the name of a flag that it is under way on, or its own; by what the action needs, and no more."""
    gates = Gates(manual=True)
    steps = tuple(
        Step((Patch("production", "checkout", "beta", share_parts=parts),), gates) for parts in (30_000, 50_000, 90_000)
    )
    made = Releases(Writer(tool.manager.engine)).create(
        Write(OPEN, Action.EDIT, NOW), project="shop", plan=Plan("Checkout", steps)
    )
    flag_key: dict[str, Any] = {"flag_key": "checkout"}
    id: dict[str, Any] = {"where": "", "release_id": made.stored.id}

    async def state() -> tuple[str, float]:
        (item,) = (await tool.run("get_release", by="reader", **flag_key)).items
        return item["state"], item["step"]

    assert grpc.StatusCode.PERMISSION_DENIED is (await tool.refused("start_release", by="operator", **id))[0]
    tried = await tool.run("start_release", **flag_key, options={"dry_run": True})
    started = await tool.run("start_release", **flag_key, options={"request_id": "go"})
    again = await tool.run("start_release", **flag_key, options={"request_id": "go"})
    assert ("would_apply", "applied", made.stored.id) == (status_of(tried), status_of(started), started.subject_id)
    assert (MessageToDict(started), ("running", 1)) == (MessageToDict(again), await state())
    await tool.run("pause_release", by="operator", **id)
    assert ("paused", 1) == await state()
    await tool.run("resume_release", **id)
    await tool.run("advance_release", **flag_key)
    assert ("running", 2) == await state()
    await tool.run("advance_release", **flag_key, to_step=3)
    assert ("running", 3) == await state()
    back = await tool.run("roll_back_release", by="operator", **id, to="step", to_step=1)
    assert ["applied", "release.rolled_back"] == [status_of(back), tool.events("release.rolled_back")[0].type]
    gone = await tool.refused("pause_release", flag_key="other")
    assert (grpc.StatusCode.NOT_FOUND, True) == (gone[0], "no release is under way" in gone[1])
    assert grpc.StatusCode.INVALID_ARGUMENT is (await tool.refused("pause_release"))[0]


async def test_a_release_waits_for_approvals(tool: Tool) -> None:
    """Where its environment asks for them."""
    put(tool.manager.engine, UpdateEnvironment(approval_policy=ApprovalPolicy(approvals=1)))
    steps = (Step((Patch("production", "checkout", "beta", share_parts=50_000),)),)
    Releases(Writer(tool.manager.engine)).create(
        Write(OPEN, Action.EDIT, NOW), project="shop", plan=Plan("Checkout", steps)
    )

    assert "pending_approval" == status_of(await tool.run("start_release", flag_key="checkout"))


@pytest.mark.parametrize(
    ("go", "told", "percent"), [(True, "release.step_advanced", 50.0), (False, "release.rolled_back", None)]
)
async def test_who_is_asked_outside_answers(tool: Tool, go: bool, told: str, percent: float | None) -> None:
    """All that an answer takes stands in the event that asks; what comes of it names the action that gave it."""
    gates = Gates(externals=(External("ci", 600.0, on_no_go=OnTimeout.ROLL_BACK),))
    steps = [
        Step((Patch("production", "checkout", "beta", share_parts=parts),), held)
        for parts, held in ((30_000, gates), (50_000, Gates(manual=True)))
    ]
    releases, write = Releases(Writer(tool.manager.engine)), Write(OPEN, Action.EDIT, NOW)
    id = releases.create(write, project="shop", plan=Plan("Checkout", tuple(steps))).stored.id
    releases.command(write, project="shop", id=id, act=Act.START)
    (asks, *_) = tool.events("release.go_asked")
    data = asks.data
    done = await tool.run(
        data["answer_with"],
        where="",
        by="editor",
        release_id=data["release_id"],
        name=data["asked"][0],
        go=go,
        causation_id=asks.id,
        hops=1,
    )
    (answered, *_), (came, *_) = tool.events("release.answered"), tool.events(told)

    assert ("applied", id, id) == (status_of(done), data["release_id"], came.data["release_id"])
    assert ("2026-01-01T12:10:00+00:00", ["ci: hold, at 2026-01-01T12:10:00+00:00"]) == (
        data["answer_by"],
        data["on_silence"],
    )
    assert (percent, 2, 2) == (came.data["to_percent"], answered.hops, came.hops)
    assert OPEN.actor == came.data["owner"]
