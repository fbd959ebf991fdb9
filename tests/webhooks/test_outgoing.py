"""Integrations over real connections, and what an endpoint of theirs may be set to."""

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any, cast

import jsonschema_rs
import pytest
from aiohttp import web
from sqlalchemy import Engine, update

from server.core.announcing.fields import DIALECT
from server.store.engine import writing
from tests.webhooks.calling import GIVEN
from tests.webhooks.dispatching import columns, dispatching, happen, settled, subscribe
from tests.webhooks.hub import Hub
from tests.webhooks.receiver import Receiver, receiving
from tests.webhooks.sending import LOOPBACK, NOW, PATIENCE_S, TRUSTED
from tests.webhooks.subscribing import document
from webhooks.addresses import read_allowed
from webhooks.client import Client, open_client
from webhooks.envelope import Actor, Event
from webhooks.errors import InvalidSetting
from webhooks.integrations import INTEGRATIONS, SERIAL
from webhooks.integrations.outgoing import formats, outgoing
from webhooks.integrations.shapes import Prepared
from webhooks.sender import Outcome, Outgoing, send
from webhooks.subscribed import Endpoint, Opened
from webhooks.subscriptions import Subscription, Surroundings, read_subscription
from webhooks.tables import endpoints
from webhooks.urls import UrlRules

SURROUNDINGS = Surroundings(
    UrlRules(read_allowed(["127.0.0.1"])),
    ("flag.stale",),
    {name: each.check for name, each in INTEGRATIONS.items()},
)
SENDING = formats("https://flags.example.com")


def event(type_: str, id_: str = "evt_1") -> Event:
    """An event about one flag."""
    at, actor = datetime(2026, 11, 25, tzinfo=UTC), Actor("user", "u1", "Zoë")
    return Event(id_, type_, at, "shop", "production", 7, actor, "2026-11-01", {"flag_key": "old", "owner": "web"})


def subscription(name: str, **fields: Any) -> Subscription:
    """An endpoint of a format."""
    settings, secrets, template = GIVEN[name]
    made = {"event_types": ["flag.stale"], "format": name, "settings": settings}
    return read_subscription(document(**made, secrets=secrets, template=template) | fields, SURROUNDINGS)


def blank(url: str, headers: Mapping[str, str] | None = None) -> Outgoing:
    """A call without a body."""
    return Outgoing(url=url, body=b"", event_id="evt_1", attempt=1, timeout_s=PATIENCE_S, headers=headers or {})


@pytest.fixture
async def hub() -> AsyncIterator[tuple[Hub, str]]:
    """GitHub, and its URL."""
    kept = Hub()

    async def answer(request: web.Request) -> web.Response:
        body = kept.asked(
            request.method,
            request.path_qs.removeprefix("/api/v3"),
            await request.read(),
            request.headers["Authorization"],
        )
        return web.Response(body=body, status=201 if request.method == "POST" else 200)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield kept, f"http://127.0.0.1:{runner.addresses[0][1]}/api/v3/"
    await runner.cleanup()


async def tell(client: Client, url: str, told: Event) -> list[Outcome]:
    """Deliver an event as the dispatcher does."""
    target = Opened(cast(Endpoint, None), subscription("github_issue"), ())
    steps = SENDING["github_issue"](told, target, blank(url))
    outcomes: list[Outcome] = []
    call = next(steps, None)
    while call is not None:
        outcomes.append(await send(client, call, now=NOW))
        if not outcomes[-1].arrived:
            break
        try:
            call = steps.send(outcomes[-1])
        except StopIteration:
            call = None
    return outcomes


async def test_issues_are_opened_once_over_http(hub: tuple[Hub, str]) -> None:
    """The calls go where they should, with what they need, and their answers come back."""
    kept, url = hub
    async with open_client(LOOPBACK, ssl_context=TRUSTED) as client:
        first = await tell(client, url, event("flag.stale"))
        again = await tell(client, url, event("flag.stale"))
        over = await tell(client, url, event("flag.archived", "evt_2"))

    assert [[200, 201], [200, 200], [200, 200]] == [
        [each.status_code for each in told] for told in (first, again, over)
    ]
    assert [("closed", "Flag stale: old")] == [(each["state"], each["title"]) for each in kept.issues]


async def test_a_call_that_fails_is_the_last(hub: tuple[Hub, str]) -> None:
    """What it looked for is not known, so nothing is written."""
    kept, url = hub
    async with open_client(LOOPBACK, ssl_context=TRUSTED) as client:
        told = await tell(client, url.replace("/api/v3/", "/other"), event("flag.stale"))

    assert [500] == [each.status_code for each in told]
    assert [] == kept.issues


@pytest.mark.parametrize(
    ("url", "suffix", "expected"),
    [
        ("https://x.example/hook?sig=1", "", "https://x.example/hook?sig=1"),
        ("https://x.example", "/repos/a", "https://x.example/repos/a"),
        ("https://x.example/api/v3/?a=b", "/repos/a?c=d", "https://x.example/api/v3/repos/a?c=d"),
    ],
)
def test_a_call_goes_to_the_endpoint_or_below_it(url: str, suffix: str, expected: str) -> None:
    """With the endpoint's headers and its own."""
    made = outgoing(Prepared(b"x", url_suffix=suffix, headers={"A": "1"}), blank(url, {"B": "2", "A": "0"}))

    assert (expected, {"A": "1", "B": "2"}, b"x") == (made.url, made.headers, made.body)


def test_every_format_can_be_sent() -> None:
    """Also one that has nothing to tell of an event."""
    assert set(INTEGRATIONS) == set(SENDING)
    for name, calls in SENDING.items():
        target = Opened(cast(Endpoint, None), subscription(name), ())
        first = next(calls(event("flag.stale"), target, blank("https://example.com/x")), None)
        assert (first is None) == (name == "pagerduty")


@pytest.mark.parametrize("name", sorted(INTEGRATIONS))
def test_what_looks_before_it_writes_goes_one_by_one(name: str) -> None:
    """Two deliveries at a time would both find nothing."""
    assert (1 if name in SERIAL else 4) == subscription(name).concurrency
    if name in SERIAL:
        with pytest.raises(InvalidSetting, match="/concurrency"):
            subscription(name, concurrency=2)


@pytest.mark.parametrize("name", sorted(INTEGRATIONS))
def test_settings_have_a_schema(name: str) -> None:
    """By which a form can be made; it takes and refuses what the check does."""
    integration = INTEGRATIONS[name]
    schema = jsonschema_rs.validator_for({"$schema": DIALECT, **integration.settings_schema()})
    settings, secrets, _ = GIVEN[name]

    assert schema.is_valid(settings)
    assert not schema.is_valid({**settings, "x": 1})
    assert set(integration.secret_names()) >= set(secrets)
    assert all(not schema.is_valid({**settings, each.name: "\n"}) for each in integration.settings if each.pattern)


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_a_dispatcher_sends_every_format(engine: Engine) -> None:
    """What a format tells nothing of is done without a call, and says nothing of its receiver."""
    receiver = Receiver()
    async with receiving(receiver) as port:
        for name in INTEGRATIONS:
            settings, secrets, template = GIVEN[name]
            url = f"http://127.0.0.1:{port}/ok/{name}"
            subscribe(engine, url, f"ep_{name}", format=name, settings=settings, secrets=secrets, template=template)
        with writing(engine) as connection:
            connection.execute(update(endpoints).values(breaker_failures=2))
        async with dispatching(engine, formats=SENDING) as dispatcher:
            happen(engine)
            dispatcher.wake()
            await settled(engine, {"delivered": len(INTEGRATIONS) - 2, "pending": 2})

    silent = {"ep_pagerduty"}
    failed = {"ep_github_issue", "ep_jira_issue"}
    assert {each for each in INTEGRATIONS if f"ep_{each}" not in silent | failed} == {
        each.path.split("/")[2] for each in receiver.requests if each.body and "rest" not in each.path
    }
    rows = columns(engine, endpoints, "id", "breaker_failures", "failing_since_ms")
    assert silent == {id_ for id_, failures, since in rows if (failures, since) == (2, None)}
    assert failed == {id_ for id_, _, since in rows if since is not None}
