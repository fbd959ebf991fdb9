"""Addresses that have one action done: made over gRPC, called over HTTP by whoever knows them."""

import json
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
import jsonschema_rs
import pytest
from google.protobuf.json_format import ParseDict
from starlette.applications import Starlette

from protos.flagstaff.v1 import triggers_pb2 as messages
from server.core.access import OPEN, Action, Grant, Principal, Role
from server.core.announcing.wanted import read_wanted
from server.core.changes import PutFlag
from server.core.errors import FlagstaffError
from server.core.guards.policies import Policy, Reach, ReachKind, Trigger, TriggerKind
from server.core.pacing import Rate
from server.operations.actions import Ledger
from server.operations.feed import tellable
from server.operations.guards.managing import Guards
from server.operations.pace import Pace
from server.operations.triggers import Triggers
from server.operations.writes import Write, Writer
from server.rpc.actions.running import Actions
from server.rpc.actions.triggering import Triggering
from server.rpc.managed import management_table
from server.rpc.management import Management
from server.rpc.table import Table
from server.store.engine import reading
from server.store.outbox import newest_events
from server.web.openapi import description
from server.web.triggers import PATH, trigger_route
from tests.core.actions.test_presets import DATADOG, alertmanager
from tests.fakes import FakeCall
from tests.rpc.access import SECRET, House, new_house
from tests.store.definitions import flag, put
from tests.web.asking import client_of
from webhooks.signing import headers as signed_headers
from webhooks.signing import new_key_pair, read_key

OPENAPI: Final[dict[str, Any]] = description()
EDITOR: Final = Principal("token:editor", (Grant(Role.EDIT),))
KILL: Final = {"action": "kill_flag", "inputs": {"flag_key": "checkout"}}
ENABLE: Final = {"action": "set_flag_state", "inputs": {"flag_key": "checkout", "enabled": True}}


@dataclass
class Desk:
    """A shop in which addresses are made and called."""

    house: House
    table: Table
    app: Starlette
    people: dict[str, Principal] = field(default_factory=dict)
    """What those are allowed now who made addresses."""

    async def ask(self, method: str, by: Principal = EDITOR, **fields: Any) -> Any:
        """Call the service, with fields as JSON has them."""
        request = ParseDict({"project": "shop", **fields}, getattr(messages, f"{method}Request")())
        call = FakeCall()
        call.principal = by
        raw = await self.table[f"/flagstaff.v1.TriggerService/{method}"].function(request.SerializeToString(), call)
        name = method if method in ("GetTrigger", "ListTriggers") else "Trigger"
        return getattr(messages, f"{name}Response").FromString(raw)

    async def refused(self, method: str, by: Principal = EDITOR, **fields: Any) -> str:
        """The code of a call that is refused."""
        with pytest.raises(FlagstaffError) as caught:
            await self.ask(method, by, **fields)
        return caught.value.code.value

    async def made(self, by: Principal = EDITOR, **fields: Any) -> Any:
        """A new address in production that kills a flag."""
        given = {"name": "on fire", "environment": "production", "firing": KILL, **fields}
        return await self.ask("CreateTrigger", by, **{name: value for name, value in given.items() if value})

    async def call(self, path: str, body: Any = b"", **headers: str) -> httpx.Response:
        """Call an address."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with client_of(self.app) as client:
            reply = await client.post(path, content=content, headers=sent)
        if reply.headers["content-type"] != "text/plain; charset=utf-8":
            check_described(reply)
        return reply

    def events(self, *types: str) -> list[Any]:
        """The newest events."""
        with reading(self.house.tokens.engine) as connection:
            found, _ = newest_events(connection, "shop", read_wanted(types), environment="", before=None, limit=50)
        return [tellable(each) for each in found]


def check_described(reply: httpx.Response) -> None:
    """An answer is as the description has it."""
    content = OPENAPI["paths"][PATH]["post"]["responses"][str(reply.status_code)]["content"]
    schema = {**content[reply.headers["content-type"]]["schema"], "components": OPENAPI["components"]}
    assert [] == [str(error) for error in jsonschema_rs.Draft202012Validator(schema).iter_errors(reply.json())]


def results(reply: httpx.Response) -> list[tuple[str, str]]:
    """What a call came to: actions and statuses."""
    assert 200 == reply.status_code, reply.text
    return [(each["action"], each["status"]) for each in reply.json()["results"]]


@contextmanager
def desk_of(house: House, pace: Pace | None = None) -> Iterator[Desk]:
    """The services over a house's shop."""
    engine = house.tokens.engine
    people: dict[str, Principal] = {EDITOR.actor: EDITOR}
    writer = Writer(engine, who_is=people.get)
    with ThreadPoolExecutor(2) as threads:
        management = Management(lambda: datetime.now(UTC), threads)
        actions = Actions(management, Ledger(engine))
        table = management_table(management, engine, writer, tokens=house.tokens, actions=actions)
        triggering = Triggering(actions, Triggers(writer, lambda: SECRET), pace)
        app = Starlette(routes=[trigger_route(triggering.admit, triggering.use)])
        yield Desk(house, table, app, people)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A shop with a flag that is on."""
    for house in new_house(tmp_path, with_shop=True):
        for environment in ("production", "staging"):
            put(house.tokens.engine, PutFlag(flag()), environment=environment)
        yield house


@pytest.fixture
async def desk(house: House) -> AsyncIterator[Desk]:
    """The services."""
    with desk_of(house) as desk:
        yield desk


async def test_an_address_does_one_thing(desk: Desk) -> None:
    """Without a token or a body; the second time there is nothing to do. The audit trail names the trigger."""
    made = await desk.made()
    first, second = await desk.call(made.path, b"any body"), await desk.call(made.path)

    assert [("kill_flag", "applied")] == results(first)
    assert [("kill_flag", "noop")] == results(second)
    event = desk.events("flag.killed")[0]
    assert ("trigger", made.trigger.id, "trigger 'on fire'") == (event.actor.type, event.actor.id, event.data["reason"])
    listed = (await desk.ask("ListTriggers")).triggers
    assert [(made.trigger.id, 2, True)] == [(each.id, each.use_count, each.HasField("used_at")) for each in listed]


async def test_its_secret_is_shown_once(desk: Desk) -> None:
    """It is in no event, no list and no column; a rotated address does nothing any more."""
    made = await desk.made()
    rotated = await desk.ask("RotateTrigger", id=made.trigger.id)
    secret = made.path.rpartition("/")[2]

    assert (64, True) == (len(secret), made.path != rotated.path)
    assert 404 == (await desk.call(made.path)).status_code
    assert [("kill_flag", "applied")] == results(await desk.call(rotated.path))
    told = repr(desk.events()) + str(await desk.ask("GetTrigger", id=made.trigger.id))
    with desk.house.tokens.engine.connect() as connection:
        told += repr(connection.exec_driver_sql("SELECT * FROM trigger_url").all())
        told += repr(connection.exec_driver_sql("SELECT * FROM audit_entry").all())
    assert secret not in told and rotated.path.rpartition("/")[2] not in told
    assert ["trigger.rotated", "trigger.created"] == [each.type for each in desk.events("trigger.*")]


async def test_strangers_learn_nothing(desk: Desk) -> None:
    """An unknown address is 404 and not repeated; a disabled one says so to who knows it."""
    made = await desk.made()
    await desk.ask("DisableTrigger", id=made.trigger.id)
    unknown = await desk.call("/v1/triggers/guess")
    disabled = await desk.call(made.path)
    await desk.ask("EnableTrigger", id=made.trigger.id)
    enabled = await desk.call(made.path)
    await desk.ask("DeleteTrigger", id=made.trigger.id)

    assert (404, False) == (unknown.status_code, "guess" in unknown.text)
    assert (409, "rejected") == (disabled.status_code, disabled.json()["outcome"])
    assert 200 == enabled.status_code
    assert 404 == (await desk.call(made.path)).status_code
    assert 404 == (await desk.call("/v1/triggers/")).status_code


async def test_nobody_gives_what_they_do_not_have(desk: Desk) -> None:
    """Neither a reader, nor an editor of another place; what its maker may no more, it may no more."""
    reader = Principal("token:reader", (Grant(Role.READ),))
    elsewhere = Principal("token:elsewhere", (Grant(Role.EDIT, "shop", "staging"),))
    signal = {"action": "decide_change_request", "inputs": {"change_request_id": "cr_1", "decision": "approve"}}

    for by in (reader, elsewhere):
        given: dict[str, Any] = {"name": "x", "environment": "production", "firing": KILL}
        assert "PERMISSION_DENIED" == await desk.refused("CreateTrigger", by, **given)
    assert "INVALID_ARGUMENT" == await desk.refused("CreateTrigger", name="x", firing=ENABLE)
    await desk.made(environment="", firing=signal)

    made = await desk.made()
    desk.people[EDITOR.actor] = Principal(EDITOR.actor)
    assert 403 == (await desk.call(made.path)).status_code


async def test_it_reaches_its_own_place_only(desk: Desk) -> None:
    """Whatever its maker may elsewhere; others see it only where they may read."""
    made = await desk.made(by=OPEN)
    elsewhere = Principal("token:elsewhere", (Grant(Role.ADMIN, "shop", "staging"),))

    assert [("kill_flag", "applied")] == results(await desk.call(made.path))
    assert {"production"} == {each.environment for each in desk.events("flag.killed")}
    assert [] == list((await desk.ask("ListTriggers", elsewhere)).triggers)
    for method in ("GetTrigger", "RotateTrigger", "DeleteTrigger"):
        assert "PERMISSION_DENIED" == await desk.refused(method, elsewhere, id=made.trigger.id)


@pytest.mark.parametrize("kind", ["whsec", "whpk"])
async def test_a_signature(desk: Desk, kind: str) -> None:
    """By a secret that is made here, or a key of the caller's; a message that comes again does nothing again."""
    private, public = new_key_pair(bytes(range(32)))
    given = {"requireSignature": True} if kind == "whsec" else {"publicKey": public}
    made = await desk.made(firing=ENABLE, **given)
    key = read_key(made.signing_secret or private)
    body = b'{"reason": "signed"}'
    good = signed_headers("msg_1", int(time.time()), body, keys=[key])
    old = signed_headers("msg_2", int(time.time()) - 3600, body, keys=[key])

    assert (kind == "whsec") is made.signing_secret.startswith("whsec_")
    for wrong in ({}, old, {**good, "webhook-id": "msg_3"}):
        reply = await desk.call(made.path, body, **wrong)
        assert (401, True) == (reply.status_code, "signature" in reply.json()["detail"])
    killed = await desk.made(name="other")
    await desk.call(killed.path)
    first = await desk.call(made.path, body, **good)
    await desk.call(killed.path)
    again = await desk.call(made.path, body, **good)
    assert [("set_flag_state", "applied")] == results(first)
    assert first.json() == again.json()
    assert "signed" == desk.events("flag.enabled")[0].data["reason"]
    assert 1 == len(desk.events("flag.enabled"))


async def test_a_public_key_that_is_none(desk: Desk) -> None:
    """Nor a private one, which nobody should send."""
    private, _ = new_key_pair(bytes(range(32)))
    for key in ("whpk_x", private):
        given: dict[str, Any] = {"name": "x", "environment": "production", "firing": KILL, "publicKey": key}
        assert "INVALID_ARGUMENT" == await desk.refused("CreateTrigger", **given)


async def test_an_alert_and_its_end(desk: Desk) -> None:
    """One action when it fires, another one when it is over; other words of the tool do nothing."""
    made = await desk.made(preset="alertmanager", resolved=ENABLE)

    assert [("kill_flag", "applied")] == results(await desk.call(made.path, alertmanager("firing", "firing")))
    assert [("set_flag_state", "applied")] == results(await desk.call(made.path, alertmanager("resolved")))
    assert "CheckoutErrors: 5 % of payments fail" == desk.events("flag.enabled")[0].data["reason"]
    assert 400 == (await desk.call(made.path, {"alerts": [{}]})).status_code
    assert 400 == (await desk.call(made.path, b"no JSON")).status_code


async def test_an_alert_is_a_signal(desk: Desk) -> None:
    """For the policies that listen to its name; of one that nobody listens to it is said."""
    reach, when = Reach(ReachKind.FLAG, "checkout"), Trigger(TriggerKind.SIGNAL, "CheckoutErrors")
    write = Write(EDITOR, Action.EDIT, datetime.now(UTC))
    Guards(Writer(desk.house.tokens.engine)).create_policy("shop", Policy("safe", "production", (when,), reach), write)
    made = await desk.made(preset="grafana", firing=None)

    unheard = await desk.call(made.path, alertmanager("firing", name="Other"))
    heard = await desk.call(made.path, alertmanager("firing"))
    over = await desk.call(made.path, alertmanager("resolved"))

    assert [("send_signal", "noop")] == results(unheard)
    assert "listens to" in unheard.json()["results"][0]["warnings"][0]
    assert [("send_signal", "applied")] == results(heard)
    assert [("send_signal", "noop")] == results(over)
    assert [1] == [each.hops for each in desk.events("flag.disabled")]


async def test_loops_and_rates_hold_here_too(house: House) -> None:
    """By headers or the body; and an address may be called as often as a token."""
    with desk_of(house, Pace(Rate(0.001, 3), "token")) as desk:
        made = await desk.made(firing=ENABLE)

        assert 409 == (await desk.call(made.path, {"hops": 5})).status_code
        assert 409 == (await desk.call(made.path, flagstaff_hops="5")).status_code
        assert 200 == (await desk.call(made.path)).status_code
        assert 429 == (await desk.call(made.path)).status_code


async def test_requests_are_made_once(desk: Desk) -> None:
    """The second time the address cannot be shown again, which is said; a dry run makes nothing."""
    given: dict[str, Any] = {"name": "x", "environment": "production", "firing": KILL, "preset": "datadog"}
    dry = await desk.ask("CreateTrigger", **given, options={"dryRun": True})
    made = await desk.ask("CreateTrigger", **given, options={"requestId": "1"})
    stale = await desk.refused("RotateTrigger", id=made.trigger.id, options={"expectedVersion": 9})

    assert ("", "ABORTED") == (dry.path, stale)
    assert "ALREADY_EXISTS" == await desk.refused("CreateTrigger", **given, options={"requestId": "1"})
    assert 1 == len((await desk.ask("ListTriggers")).triggers)
    assert [("kill_flag", "applied")] == results(await desk.call(made.path, DATADOG))
