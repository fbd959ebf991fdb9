"""ReleaseService over a real server, with callers who may different things."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from google.protobuf import json_format
from sqlalchemy import Engine

from protos.flagstaff.v1 import common_pb2 as common
from protos.flagstaff.v1 import releases_pb2 as messages
from server.core.access import Grant, Principal, Role
from server.core.changes import PutFlag
from server.operations.releases.moving import Releases
from server.operations.writes import Writer
from tests.rpc.conftest import Serve
from tests.rpc.managing import Manager, called, managing, token
from tests.store.definitions import NOW, flag, new_shop, put, stored

SERVICE: Final = "/flagstaff.v1.ReleaseService"
RULE: Final = {"id": "beta", "serve": "on", "share": {"percent": 0}}
CHECKOUT: Final = {"environment": "production", "flagKey": "checkout", "ruleId": "beta"}
HOURLY: Final = {"minimum": "3600s"}


@dataclass
class Desk:
    """A server over a shop with a rule to be released."""

    manager: Manager
    channel: Any

    async def call(self, method: str, by: str = "editor", **fields: Any) -> Any:
        """Call a method about the shop, with fields as JSON has them."""
        request = getattr(messages, f"{method}Request")()
        json_format.ParseDict({"project": "shop", **fields}, request)
        reply = {
            "GetRelease": messages.GetReleaseResponse,
            "ListReleases": messages.ListReleasesResponse,
            "ListReleaseTemplates": messages.ListReleaseTemplatesResponse,
            "PutReleaseTemplate": messages.ReleaseTemplateResponse,
            "DeleteReleaseTemplate": messages.ReleaseTemplateResponse,
        }.get(method, messages.ReleaseResponse)
        return await called(self.channel, f"{SERVICE}/{method}", request, reply, by=by)

    async def refused(self, method: str, by: str = "editor", **fields: Any) -> tuple[grpc.StatusCode, str]:
        """Call a method that is to be refused: status and message."""
        try:
            await self.call(method, by, **fields)
        except grpc.aio.AioRpcError as error:
            return error.code(), error.details() or ""
        raise AssertionError(f"{method} was not refused")

    async def created(self, **recipe: Any) -> str:
        """The id of a release by a recipe."""
        recipe = recipe or {"progressive": {**CHECKOUT, "custom": {"parts": [1_000, 100_000]}, "gates": HOURLY}}
        return str((await self.call("CreateRelease", plan={"name": "Checkout"}, **recipe)).release.id)

    def pass_time(self, hours: float) -> None:
        """Let time pass, and look what is due."""
        self.manager.now += timedelta(hours=hours)
        Releases(Writer(self.manager.engine)).carry_on(self.manager.now)

    def share(self) -> Any:
        """What is stored of the rule's share."""
        document = stored(self.manager.engine).flags["checkout"]
        assert document is not None
        return document["rules"][0]["share"]["percent"]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Engine]:
    """A shop with a rule that lets nobody in."""
    engine = new_shop(tmp_path)
    put(engine, PutFlag(flag(rules=[RULE])))
    yield engine
    engine.dispose()


@pytest.fixture
async def desk(shop: Engine, serve: Serve) -> AsyncIterator[Desk]:
    """A running server, and people."""
    with managing(shop) as (manager, table):
        manager.people["approver"] = Principal("token:approver", (Grant(Role.APPROVE),))
        manager.people["operator"] = Principal("token:operator", (Grant(Role.OPERATE),))
        running = await serve(table=table)
        yield Desk(manager, running.channel)


async def test_from_drawing_up_to_the_end(desk: Desk) -> None:
    """Each answer has it as it is then; the log has all of it, and gives the same again."""
    id = await desk.created()
    started = await desk.call("StartRelease", id=id, text="Go")
    desk.pass_time(1)
    read = await desk.call("GetRelease", "reader", id=id)

    assert (messages.RELEASE_STATE_RUNNING, 1) == (started.release.state, started.release.step)
    assert {"production": 3} == dict(started.result.revisions)
    assert ["time"] == [gate.kind for gate in started.release.gates]
    assert NOW + timedelta(hours=1) == started.release.projected_end.ToDatetime(NOW.tzinfo)
    assert (messages.RELEASE_STATE_COMPLETED, 100) == (read.release.state, desk.share())
    told = [(each.happening, each.from_step, each.to_step, each.actor) for each in read.events]
    itself = f"release:{id}"
    assert [
        ("created", 0, 0, "token:editor"),
        ("started", 0, 1, "token:editor"),
        ("advanced", 1, 2, itself),
        ("completed", 2, 2, itself),
    ] == told
    assert read.log_agrees


async def test_everything_that_a_plan_says_comes_back(desk: Desk) -> None:
    """As it was sent."""
    check = {"guard": "errors", "fail": {"policy": "VERDICT_POLICY_HOLD", "limit": 2}, "passes": 3, "dryRun": True}
    held = {"policy": "VERDICT_POLICY_WARN", "limit": 1}
    gates = {
        "minimum": "90s",
        "sampleMin": 5,
        "checks": [
            {**check, "inconclusive": held, "noData": held, "error": held, "initialDelay": "5s"},
            {**check, "guard": "latency", "dryRun": False, "inconclusive": held, "noData": held, "error": held}
            | {"initialDelay": "0s"},
        ],
        "externals": [
            {
                "name": "ci",
                "timeout": "60s",
                "onTimeout": "ON_SILENCE_ROLL_BACK",
                "onNoGo": "ON_SILENCE_ROLL_BACK",
            }
        ],
        "approvals": 2,
        "manual": True,
    }
    first = {
        **CHECKOUT,
        "shareParts": 1_000,
        "serve": {"split": {"weights": [{"variant": "on", "weight": "3"}], "salt": "checkout/beta/split"}},
        "condition": {"==": [{"var": "plan"}, "pro"]},
        "enabled": True,
        "prerequisites": {},
        "variants": [{"key": "other", "value": {"boolValue": True}}],
    }
    second = {**CHECKOUT, "removeRule": "gone", "condition": None, "ruleId": "beta"}
    plan = {
        "name": "Checkout",
        "description": "All of it",
        "kind": "RELEASE_KIND_PROGRESSIVE",
        "steps": [
            {"name": "one", "patches": [first], "gates": gates},
            {"name": "two", "patches": [second], "gates": {"minimum": "0s"}},
        ],
        "startApprovals": 1,
        "startsAt": "2026-02-01T00:00:00Z",
        "cutoffAt": "2026-03-01T00:00:00Z",
        "deadline": {"at": "2026-02-20T00:00:00Z", "policy": "VERDICT_POLICY_ROLL_BACK"},
        "lock": True,
        "backTo": {"to": "TO_STEP", "step": 1},
    }
    reply = await desk.call("CreateRelease", plan=plan)

    assert json_format.ParseDict(plan, messages.ReleasePlan()) == reply.release.plan


@pytest.mark.parametrize(
    ("recipe", "names"),
    [
        ({"progressive": {**CHECKOUT, "geometric": {"firstParts": 10_000}}}, ["10 %", "25 %", "50 %", "100 %"]),
        ({"progressive": {**CHECKOUT, "linear": {"firstParts": 20_000, "byParts": 40_000}}}, ["20 %", "60 %", "100 %"]),
        ({"progressive": {**CHECKOUT, "template": "careful"}}, ["1 %", "100 %"]),
        (
            {
                "canary": {
                    "environment": "production",
                    "flagKey": "checkout",
                    "treatment": "on",
                    "baseline": "off",
                    "parts": [1_000, 50_000],
                }
            },
            ["1 % beside 1 %", "50 % beside 50 %", "everybody"],
        ),
        (
            {
                "blueGreen": {
                    "flags": [{"environment": "production", "flagKey": "checkout", "preview": "on"}],
                    "audience": {"==": [{"var": "staff"}, True]},
                }
            },
            ["preview", "switched"],
        ),
    ],
)
async def test_recipes(desk: Desk, recipe: Any, names: list[str]) -> None:
    """A curve, a canary, a switch: steps that can be read and started."""
    steps = [{"shareParts": 1_000, "gates": HOURLY}, {"shareParts": 100_000}]
    await desk.call("PutReleaseTemplate", template={"name": "careful", "steps": steps})
    reply = await desk.call("CreateRelease", plan={"name": "Checkout"}, **recipe)
    started = await desk.call("StartRelease", id=reply.release.id)

    assert names == [step.name for step in reply.release.plan.steps]
    assert started.release.step == len(names) or started.release.gates


async def test_people_go_on_with_it(desk: Desk) -> None:
    """Each method does what it says, and none what its caller may not."""
    id = await desk.created(
        progressive={**CHECKOUT, "custom": {"parts": [1_000, 5_000, 100_000]}, "gates": {**HOURLY, "approvals": 1}}
    )
    await desk.call("StartRelease", id=id)
    for method, by, state in (
        ("PauseRelease", "operator", "PAUSED"),
        ("ResumeRelease", "editor", "RUNNING"),
        ("HoldRelease", "operator", "HELD"),
        ("AdvanceRelease", "editor", "RUNNING"),
        ("RollBackRelease", "operator", "ROLLED_BACK"),
        ("RestartRelease", "editor", "RUNNING"),
        ("CompleteRelease", "editor", "COMPLETED"),
        ("RollBackRelease", "operator", "ROLLED_BACK"),
        ("RestartRelease", "editor", "RUNNING"),
        ("AbortRelease", "editor", "ABORTED"),
    ):
        reply = await desk.call(method, by, id=id)
        assert f"RELEASE_STATE_{state}" == messages.ReleaseState.Name(reply.release.state), method
    code, details = await desk.refused("PauseRelease", id=id)
    assert (grpc.StatusCode.FAILED_PRECONDITION, "aborted cannot be paused" in details) == (code, True)
    for method in ("StartRelease", "AdvanceRelease", "ApproveRelease"):
        assert grpc.StatusCode.PERMISSION_DENIED == (await desk.refused(method, "operator", id=id))[0]
    assert grpc.StatusCode.PERMISSION_DENIED == (await desk.refused("GetRelease", "elsewhere", id=id))[0]
    assert grpc.StatusCode.NOT_FOUND == (await desk.refused("GetRelease", id="rel_none"))[0]


async def test_jumps_answers_and_approvals(desk: Desk) -> None:
    """Steps count from 1; who is asked is answered for; people are asked last."""
    asks = {"externals": [{"name": "ci"}], "approvals": 1}
    id = await desk.created(progressive={**CHECKOUT, "custom": {"parts": [1_000, 5_000, 100_000]}, "gates": asks})
    await desk.call("StartRelease", id=id)
    assert 5 == (await desk.call("JumpRelease", id=id, step=2)).release.plan.steps[1].patches[0].share_parts / 1_000
    code, details = await desk.refused("ApproveRelease", "approver", id=id)
    assert (grpc.StatusCode.FAILED_PRECONDITION, "nothing asks") == (code, details[:12])
    answered = await desk.call("AnswerRelease", id=id, name="ci", go=True)
    assert messages.RELEASE_STATE_AWAITING_APPROVAL == answered.release.state
    done = await desk.call("ApproveRelease", "approver", id=id)

    assert (messages.RELEASE_STATE_COMPLETED, 100) == (done.release.state, desk.share())
    assert grpc.StatusCode.INVALID_ARGUMENT == (await desk.refused("JumpRelease", id=id))[0]


async def test_lists_and_their_pages(desk: Desk) -> None:
    """By state, environment and flag; the newest first."""
    made = []
    for _ in range(3):
        desk.manager.now += timedelta(seconds=1)
        made.append(await desk.created())
    await desk.call("StartRelease", id=made[0])
    page = await desk.call("ListReleases", "reader", pageSize=2)
    rest = await desk.call("ListReleases", "reader", pageSize=2, pageToken=page.next_page_token)
    running = await desk.call("ListReleases", states=["RELEASE_STATE_RUNNING"], environment="production")
    none = await desk.call("ListReleases", flagKey="other")

    assert made[::-1] == [each.id for each in (*page.releases, *rest.releases)]
    assert (made[:1], []) == ([each.id for each in running.releases], list(none.releases))
    assert [] == list((await desk.call("ListReleases", "elsewhere")).releases)
    assert grpc.StatusCode.INVALID_ARGUMENT == (await desk.refused("ListReleases", pageToken="x"))[0]


async def test_watching(desk: Desk) -> None:
    """The release now with all that happened; then what happens, at once."""
    id = await desk.created()
    watch = desk.channel.unary_stream(
        f"{SERVICE}/WatchRelease",
        request_serializer=messages.WatchReleaseRequest.SerializeToString,
        response_deserializer=messages.WatchReleaseResponse.FromString,
    )
    stream = watch(messages.WatchReleaseRequest(project="shop", id=id), metadata=token("reader"))
    first = await stream.read()
    await desk.call("StartRelease", id=id)
    second = await stream.read()
    stream.cancel()

    assert (["created"], messages.RELEASE_STATE_CREATED) == (
        [each.happening for each in first.events],
        first.release.state,
    )
    assert (["started"], 1) == ([each.happening for each in second.events], second.release.step)


async def test_templates(desk: Desk) -> None:
    """They are kept, listed, replaced and taken away; what is not sound is refused."""
    template = {"name": "careful", "description": "Slow", "steps": [{"shareParts": 1_000, "gates": HOURLY}]}
    await desk.call("PutReleaseTemplate", template=template)
    listed = await desk.call("ListReleaseTemplates", "reader")
    shrinking = {"name": "odd", "steps": [{"shareParts": 5}, {"shareParts": 1}]}

    assert {**template} == json_format.MessageToDict(
        messages.ReleaseTemplate(
            name=listed.templates[0].name,
            description=listed.templates[0].description,
            steps=[messages.ReleaseTemplateStep(share_parts=1_000, gates=_only_minimum(listed.templates[0]))],
        )
    )
    assert "shrink" in (await desk.refused("PutReleaseTemplate", template=shrinking))[1]
    assert (
        grpc.StatusCode.PERMISSION_DENIED == (await desk.refused("PutReleaseTemplate", "reader", template=template))[0]
    )
    await desk.call("DeleteReleaseTemplate", name="careful")
    code, details = await desk.refused(
        "CreateRelease", plan={"name": "p"}, progressive={**CHECKOUT, "template": "careful"}
    )
    assert (grpc.StatusCode.NOT_FOUND, "there are: none" in details) == (code, True)


def _only_minimum(template: messages.ReleaseTemplate) -> messages.ReleaseGates:
    return messages.ReleaseGates(minimum=template.steps[0].gates.minimum)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "/name: a release needs a name"),
        ({"plan": {"name": "p"}}, "/steps: there are 0 steps"),
        ({"plan": {"name": "p", "steps": [{}]}, "canary": {}}, "steps and a recipe"),
        ({"plan": {"name": "p"}, "blueGreen": {}}, "names the flags"),
        ({"plan": {"name": "p"}, "progressive": {**CHECKOUT, "linear": {"firstParts": 9, "lastParts": 5}}}, "not rise"),
        ({"plan": {"name": "p"}, "progressive": {**CHECKOUT, "custom": {"parts": [200_000]}}}, "/share"),
        ({"plan": {"name": "p", "backTo": {"to": 9}}}, "9 is no target"),
    ],
)
async def test_what_cannot_be_drawn_up(desk: Desk, fields: Any, words: str) -> None:
    """It is refused, and says what is wrong where."""
    code, details = await desk.refused("CreateRelease", **fields)

    assert (grpc.StatusCode.INVALID_ARGUMENT, True) == (code, words in details), details


async def test_a_dry_run_of_a_recipe(desk: Desk) -> None:
    """Nothing is kept of it."""
    recipe = {**CHECKOUT, "custom": {"parts": [1_000]}}
    reply = await desk.call("CreateRelease", plan={"name": "p"}, progressive=recipe, options={"dryRun": True})

    assert common.OUTCOME_WOULD_APPLY == reply.result.outcome
    assert [] == list((await desk.call("ListReleases")).releases)
