"""Actions over HTTP: bodies, headers, answers and problems, for callers with tokens."""

import json
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import jsonschema_rs
import pytest
from starlette.applications import Starlette

from server.core.access import Action, Asking, Grant, Role
from server.core.actions.catalogue import CATALOGUE
from server.core.actions.values import Asked
from server.core.changes import PutFlag, PutSegment, UpdateEnvironment
from server.core.environments import ApprovalPolicy
from server.core.errors import InvalidRequest
from server.operations.actions import FLAG_RATE, Ledger
from server.operations.writes import Writer
from server.rpc.actions.choosing import choose
from server.rpc.actions.running import Actions
from server.rpc.drain import Drain
from server.rpc.evaluation import evaluation_table
from server.rpc.managed import management_table
from server.rpc.management import Management
from server.web.actions import PATH, action_routes, read_asked
from server.web.api import read_object
from server.web.choices import PATHS, choice_routes
from server.web.openapi import description
from tests.fakes import fake_clock
from tests.rpc.access import House, new_house
from tests.rpc.flag_service import BETA
from tests.store.definitions import flag, put
from tests.web.asking import client_of

OPENAPI: Final[dict[str, Any]] = description()
HERE: Final = {"project": "shop", "environment": "production"}
OFF: Final = {**HERE, "flag_key": "checkout", "enabled": False}


class Tool:
    """An automation tool with a token."""

    def __init__(self, house: House, app: Starlette) -> None:
        self.house, self.app = house, app
        self.engine = house.tokens.engine
        self.keys = {
            "editor": house.token(Grant(Role.EDIT)).text,
            "admin": house.token(Grant(Role.ADMIN)).text,
            "reader": house.token(Grant(Role.READ, "shop", "production")).text,
            "evaluator": house.token(Grant(Role.EVALUATE)).text,
        }

    async def ask(self, path: str, body: Any = None, *, by: str = "editor", **headers: str) -> httpx.Response:
        """A request; with a body it is a POST. Headers have underscores for hyphens."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if by:
            sent["authorization"] = f"Bearer {self.keys[by]}"
        async with client_of(self.app) as client:
            if body is None:
                return await client.get(path, headers=sent)
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            return await client.post(path, content=content, headers={"content-type": "application/json", **sent})

    async def run(self, name: str, body: Any, **options: Any) -> httpx.Response:
        """Have an action done."""
        reply = await self.ask(f"{PATH}/{name}", body, **options)
        assert [] == complaints(f"{PATH}/{name}", reply)
        return reply


def complaints(path: str, reply: httpx.Response) -> list[str]:
    """What the description has against an answer."""
    content = OPENAPI["paths"][path]["post"]["responses"][str(reply.status_code)]["content"]
    kind = reply.headers["content-type"]
    schema = {**content[kind]["schema"], "components": OPENAPI["components"]}
    return [str(error) for error in jsonschema_rs.Draft202012Validator(schema).iter_errors(reply.json())]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A shop with a flag in both environments."""
    for house in new_house(tmp_path, with_shop=True):
        rule = {"id": "beta", "condition": {"$ref": "beta"}, "serve": "on", "share": {"percent": 20}}
        for environment in ("production", "staging"):
            put(house.tokens.engine, PutSegment(BETA), PutFlag(flag(rules=[rule])), environment=environment)
        yield house


@pytest.fixture
async def tool(house: House) -> AsyncIterator[Tool]:
    """A tool before the whole of what tools may ask."""
    engine = house.tokens.engine
    gate = house.gate(Asking.EVERYONE)
    with ThreadPoolExecutor(2) as threads:
        management = Management(lambda: datetime.now(UTC), threads)
        actions = Actions(management, Ledger(engine))
        actions.serve(evaluation_table(house.holder, clock=fake_clock, drain=Drain()))
        management_table(management, engine, Writer(engine), tokens=house.tokens, actions=actions)
        routes = [*action_routes(actions.run, gate), *choice_routes(partial(choose, actions), gate)]
        yield Tool(house, Starlette(routes=routes))


async def test_a_flag_is_turned_off(tool: Tool) -> None:
    """200 with what became of it; again, with nothing to do."""
    first = await tool.run("set_flag_state", {**OFF, "reason": "quiet hours"})
    second = await tool.run("set_flag_state", OFF)

    told = first.json()
    assert (200, "applied", 1, 1) == (first.status_code, told["status"], len(told["event_ids"]), len(told["changes"]))
    assert told["version"] == told["revision"]
    assert ("noop", []) == (second.json()["status"], second.json()["event_ids"])


async def test_an_idempotency_key(tool: Tool) -> None:
    """The same answer for the same body, 409 for another."""
    first = await tool.run("set_flag_state", OFF, idempotency_key="zap-1")
    again = await tool.run("set_flag_state", OFF, idempotency_key="zap-1")
    other = await tool.run("set_flag_state", {**OFF, "enabled": True}, idempotency_key="zap-1")

    assert first.json() == again.json()
    assert (409, "ALREADY_EXISTS") == (other.status_code, other.json()["code"])


async def test_what_is_wrong_is_told_with_pointers(tool: Tool) -> None:
    """Inputs and options, all at once."""
    reply = await tool.run("set_flag_state", {"project": "shop", "flag_key": 3, "enabled": "no"})
    options = await tool.run("set_flag_state", {**OFF, "dry_run": "yes", "hops": -1, "expected_version": 1.5})

    assert (400, "application/problem+json") == (reply.status_code, reply.headers["content-type"])
    assert ["#/environment", "#/flag_key", "#/enabled"] == [each["pointer"] for each in reply.json()["errors"]]
    assert {"#/dry_run", "#/hops", "#/expected_version"} == {each["pointer"] for each in options.json()["errors"]}


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'"x"',
        b'{"a": NaN}',
        b'{"a": 1e999}',
        b'{"a": 12345678901234567890}',
        b'{"a": "\\ud800"}',
        b'{"a":' + b"[" * 100 + b"]" * 100 + b"}",
        b"\xff",
    ],
)
def test_a_body_that_cannot_be_kept_is_refused(body: bytes) -> None:
    """Before anything is made of it."""
    with pytest.raises(InvalidRequest):
        read_object(body)


async def test_bodies_have_bounds(tool: Tool) -> None:
    """In size and kind."""
    large = await tool.run("set_flag_state", b"{}" + b" " * 1024 * 1024)
    text = await tool.run("set_flag_state", OFF, content_type="text/plain")
    async with client_of(tool.app) as client:
        token = {"authorization": f"Bearer {tool.keys['editor']}"}
        silent = await client.post(f"{PATH}/set_flag_state", content=json.dumps(OFF), headers=token)

    assert (413, 415, 415) == (large.status_code, text.status_code, silent.status_code)


async def test_who_may(tool: Tool) -> None:
    """401 with a challenge, 403 with the role that helps, as for gRPC."""
    nobody = await tool.run("set_flag_state", OFF, by="")
    reader = await tool.run("set_flag_state", OFF, by="reader")

    assert (401, "Bearer") == (nobody.status_code, nobody.headers["www-authenticate"])
    assert (403, True) == (reader.status_code, "`edit`" in reader.json()["detail"])


async def test_a_protected_environment(tool: Tool) -> None:
    """202, with the change request that was opened."""
    put(tool.engine, UpdateEnvironment(approval_policy=ApprovalPolicy(approvals=1)))
    reply = await tool.run("set_rollout_share", {**HERE, "flag_key": "checkout", "percent": 50})

    assert (202, "pending_approval") == (reply.status_code, reply.json()["status"])
    assert reply.json()["change_request"].startswith("cr_")


async def test_versions_dry_runs_and_loops(tool: Tool) -> None:
    """409 for another version and for a loop, by header or body; a dry run changes nothing."""
    stale = await tool.run("set_flag_state", {**OFF, "expected_version": 1})
    dry = await tool.run("set_flag_state", {**OFF, "dry_run": True})
    loops = [
        await tool.run("set_flag_state", {**OFF, "hops": 5}),
        await tool.run("set_flag_state", OFF, flagstaff_hops="7"),
    ]
    strange = await tool.run("set_flag_state", OFF, flagstaff_hops="many")

    assert (409, "ABORTED") == (stale.status_code, stale.json()["code"])
    assert "would_apply" == dry.json()["status"]
    assert [(409, "rejected")] * 2 == [(each.status_code, each.json()["outcome"]) for each in loops]
    assert 400 == strange.status_code


async def test_automation_is_held_to_a_rate(tool: Tool) -> None:
    """429, and when to come again."""
    for turn in range(FLAG_RATE.burst):
        assert 200 == (await tool.run("set_flag_state", {**OFF, "enabled": bool(turn % 2)})).status_code
    reply = await tool.run("set_flag_state", OFF)

    assert (429, True) == (reply.status_code, 1 <= int(reply.headers["retry-after"]) <= 5)


async def test_searches(tool: Tool) -> None:
    """Flat items; for those who may read, or evaluate."""
    found = await tool.run("find_flags", {**HERE, "tag": "none"})
    flags = await tool.run("find_flags", HERE, by="reader")
    value = await tool.run("evaluate_flag", {**HERE, "flag_key": "gone", "targeting_key": "ann"}, by="evaluator")
    missing = await tool.run("get_release", {**HERE, "flag_key": "checkout"})

    assert [] == found.json()["items"]
    assert [("checkout", True)] == [(each["flag_key"], each["enabled"]) for each in flags.json()["items"]]
    assert "FLAG_NOT_FOUND" == value.json()["items"][0]["error_code"]
    assert 404 == missing.status_code


async def test_the_catalogue_is_served(tool: Tool) -> None:
    """To everyone who is somebody."""
    reply = await tool.ask(PATH, by="evaluator")

    assert list(CATALOGUE) == [each["name"] for each in reply.json()["items"]]
    assert 401 == (await tool.ask(PATH, by="")).status_code


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_example_fits(name: str) -> None:
    """An action's example is one that its schema allows, and that is read."""
    operation = OPENAPI["paths"][f"{PATH}/{name}"]["post"]["requestBody"]["content"]["application/json"]

    assert jsonschema_rs.Draft202012Validator(operation["schema"]).is_valid(operation["example"])
    assert isinstance(read_asked(name, operation["example"], {}), Asked)


def test_every_route_is_described(tool: Tool) -> None:
    """With its method, an operation of its own, and answers to whoever may not."""
    served: set[tuple[str, str]] = {
        (route.path.replace(":path}", "}"), method.lower())  # type: ignore[attr-defined]
        for route in tool.app.routes
        for method in route.methods - {"HEAD"}  # type: ignore[attr-defined]
    }
    operations = {
        (path, method): operation for path, methods in OPENAPI["paths"].items() for method, operation in methods.items()
    }

    assert set() == served - operations.keys()
    names = [operation["operationId"] for operation in operations.values()]
    assert len(set(names)) == len(names)
    assert all({"401", "403"} <= operations[each]["responses"].keys() for each in served)


def test_every_route_is_guarded(tool: Tool) -> None:
    """By what the action needs."""
    found = {route.path: route.endpoint.action for route in tool.app.routes}  # type: ignore[attr-defined]
    expected = {f"{PATH}/{name}": type_.permission for name, type_ in CATALOGUE.items()}

    assert {**expected, PATH: Action.IDENTIFY, **dict(PATHS.values())} == found


async def test_what_there_is_to_choose(tool: Tool) -> None:
    """Values with labels, searched and in pages, of what the caller may read."""

    async def items(path: str, by: str = "editor") -> list[str]:
        reply = await tool.ask(path, by=by)
        assert 200 == reply.status_code, reply.text
        return [each["value"] for each in reply.json()["items"]]

    assert ["shop"] == await items("/v1/projects?search=SHO")
    assert ["production", "staging"] == await items("/v1/projects/shop/environments")
    assert ["production"] == await items("/v1/projects/shop/environments", by="reader")
    assert ["checkout"] == await items("/v1/projects/shop/flags?environment=production&search=check", by="reader")
    assert ["off", "on"] == await items("/v1/projects/shop/flags/checkout/variants")
    assert ["beta"] == await items("/v1/projects/shop/environments/production/segments", by="reader")
    assert [] == await items("/v1/projects/shop/releases")

    page = (await tool.ask("/v1/projects/shop/environments?limit=1")).json()
    assert ["staging"] == await items(f"/v1/projects/shop/environments?page_token={page['next_page_token']}")
    statuses = [
        (await tool.ask(path, by=by)).status_code
        for path, by in (
            ("/v1/projects/shop/flags", "evaluator"),
            ("/v1/projects/shop/flags", "reader"),
            ("/v1/projects/shop/environments/staging/segments", "reader"),
            ("/v1/projects/bank/environments", "editor"),
            ("/v1/projects?limit=0", "editor"),
        )
    ]
    assert [403, 403, 403, 404, 400] == statuses
