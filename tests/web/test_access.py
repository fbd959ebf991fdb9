"""Over HTTP the same rules hold as over gRPC: who may ask, about which flag set, and until when."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.routing import Route

from server.core.access import Action, Asking, Grant, Role, Scope
from server.live.watch import Hub
from server.web.access import Guarded
from server.web.app import make_app
from server.web.metrics import metrics_route
from tests.fakes import fake_clock
from tests.rpc.access import House, as_admin, new_house
from tests.web.asking import BULK, EVENTS, SINGLE, client_of

PUBLIC: Final = {"/healthz", "/readyz", "/openapi.json"}
SHOP: Final = {"flagd-selector": "flagSetId=shop/production"}


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A database with tokens."""
    yield from new_house(tmp_path)


def app_of(house: House, asking: Asking = Asking.EVERYONE) -> Starlette:
    """The whole application behind a gate."""
    gate = house.gate(asking)
    more = [metrics_route(CollectorRegistry(), gate=gate)]
    return make_app(house.holder, Hub(), clock=fake_clock, leaving=lambda: False, gate=gate, more_routes=more)


async def ask(app: Starlette, path: str, *, key: str = "", method: str = "POST", **headers: str) -> httpx.Response:
    """One request with a token."""
    given = {**({"authorization": f"Bearer {key}"} if key else {}), **headers}
    async with client_of(app) as client:
        return await client.request(method, path, headers=given, json={} if method == "POST" else None)


async def statuses(app: Starlette, key: str) -> dict[str, int]:
    """What each evaluation comes to that does not last: by its path."""
    paths = {SINGLE + "x": "POST", BULK: "POST"}
    return {path: (await ask(app, path, key=key, method=method, **SHOP)).status_code for path, method in paths.items()}


def test_every_route_is_guarded_or_public(house: House) -> None:
    """A new one that says nothing of access fails here."""
    routes = {route.path: route for route in app_of(house).routes if isinstance(route, Route)}
    endpoints: dict[str, Any] = {path: route.endpoint for path, route in routes.items()}

    assert PUBLIC == {path for path, endpoint in endpoints.items() if not isinstance(endpoint, Guarded)}
    assert {Action.EVALUATE, Action.READ} == {endpoints[path].action for path in endpoints.keys() - PUBLIC}


@pytest.mark.parametrize("role", Role)
async def test_each_role(house: House, role: Role) -> None:
    """In the flag set's place: those that evaluate. Elsewhere none."""
    may = role not in (Role.OPERATE, Role.SUBSCRIBE, Role.BYPASS)
    app = app_of(house)
    for grant in (Grant(role), Grant(role, "shop"), Grant(role, "shop", "production")):
        expected = {SINGLE + "x": 404, BULK: 200} if may else {SINGLE + "x": 403, BULK: 403}
        assert expected == await statuses(app, house.token(grant).text)
    for grant in (Grant(role, "bank"), Grant(role, "shop", "staging")):
        assert {403} == set((await statuses(app, house.token(grant).text)).values())


async def test_without_a_good_token(house: House) -> None:
    """401, a challenge, and what helps; revoked, expired, unknown and absent alike."""
    app = app_of(house)
    role = Grant(Role.EVALUATE)
    for key in (house.revoked(role).text, house.expired(role).text, house.unknown(role), "", "x"):
        for path, method in ((SINGLE + "x", "POST"), (BULK, "POST"), (EVENTS, "GET"), ("/metrics", "GET")):
            reply = await ask(app, path, key=key, method=method)

            assert (401, "Bearer") == (reply.status_code, reply.headers["www-authenticate"])
            assert reply.json()["errorDetails"]
            assert not key or key not in reply.text or key == "x"


async def test_a_key_as_ofrep_has_it(house: House) -> None:
    """`X-API-Key` says the same; of both, `Authorization` counts."""
    app = app_of(house)
    text = house.token(Grant(Role.EVALUATE_CLIENT)).text

    assert 200 == (await ask(app, BULK, **{"x-api-key": text})).status_code
    assert 401 == (await ask(app, BULK, key="x", **{"x-api-key": text})).status_code


async def test_public_routes_need_nothing_and_tell_little(house: House) -> None:
    """Health says whether, and not which flag sets there are, unless everyone may evaluate them."""
    closed, open_one = app_of(house), app_of(house, Asking.MANAGERS)
    replies = [await ask(each, "/readyz", method="GET") for each in (closed, open_one)]

    assert [200, 200] == [(await ask(closed, path, method="GET")).status_code for path in ("/healthz", "/openapi.json")]
    assert [(200, False), (200, True)] == [(each.status_code, "flagSets" in each.json()) for each in replies]


@pytest.mark.parametrize("asking", [Asking.NOBODY, Asking.MANAGERS])
async def test_where_everyone_may_evaluate_nothing_is_wrapped(house: House, asking: Asking) -> None:
    """So it costs nothing, and credentials for somebody else do no harm."""
    app = app_of(house, asking)
    evaluating = [route for route in app.routes if isinstance(route, Route) and route.path.startswith("/ofrep")]

    assert [False] * 3 == [isinstance(route.endpoint, Guarded) for route in evaluating]
    assert 200 == (await ask(app, BULK, key="eyJhbGciOiJub25lIn0", **{"x-api-key": "x"})).status_code


async def test_metrics_are_for_who_reads_everything(house: House) -> None:
    """A role in one project is not enough: the figures are of all."""
    app = app_of(house)
    keys = [house.token(grant).text for grant in (Grant(Role.READ), Grant(Role.READ, "shop"), Grant(Role.EVALUATE))]

    assert [200, 403, 403] == [(await ask(app, "/metrics", key=key, method="GET")).status_code for key in keys]


async def test_events_are_of_a_flag_set(house: House) -> None:
    """By its name in the query; a set that does not exist tells nothing of those that do."""
    app = app_of(house)
    key = house.token(Grant(Role.EVALUATE_CLIENT, "shop", "production")).text
    asked = {
        name: await ask(app, f"{EVENTS}?flagSetId={name}", key=key, method="GET") for name in ("bank/production", "x")
    }

    assert [403, 403] == [each.status_code for each in asked.values()]
    assert "there is no such set" in asked["x"].text
    assert "default/production" not in asked["x"].text


async def test_an_event_stream_ends_with_its_token(house: House) -> None:
    """What was said is ended in order, so that the client comes back and is told."""
    app = app_of(house)
    minted = house.token(Grant(Role.EVALUATE_CLIENT, "shop"))
    sent: list[Any] = []
    began = asyncio.Event()

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)
        began.set()

    scope = {
        "type": "http", "method": "GET", "path": EVENTS, "query_string": b"flagSetId=shop/production",
        "headers": [(b"authorization", f"Bearer {minted.text}".encode())],
    }  # fmt: skip
    serving = asyncio.ensure_future(app(scope, receive, send))
    await began.wait()
    house.tokens.revoke(minted.token.id, Scope(), as_admin())
    house.callers.look()
    await serving

    assert (200, False) == (sent[0]["status"], sent[-1].get("more_body", False))
    assert 0 == house.sessions.count
