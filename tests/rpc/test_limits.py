"""Too many requests of one token or address are refused, with the time after which to come again."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from google.rpc import error_details_pb2, status_pb2
from starlette.routing import Route

from server.core.access import Asking, Grant, Role
from server.core.errors import Limited
from server.core.methods import ACTIONS
from server.core.pacing import Rate, read_network
from server.live.watch import Hub
from server.operations.pace import Pace, Paces
from server.rpc.access import guarded
from server.rpc.call import abort_for
from server.rpc.limits import limited
from server.rpc.status import Status
from server.web.app import make_app
from server.web.limits import limited as limited_http
from tests.fakes import FakeCall, fake_clock
from tests.rpc.access import REACHED, House, ask, by, hollow, new_house
from tests.web.asking import BULK, client_of

EVALUATE: Final = "/flagstaff.v1.EvaluationService/Evaluate"
STREAM: Final = "/flagstaff.v1.EvaluationService/EvaluateStream"
TWO: Final = Rate(1, 2)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A database with tokens."""
    yield from new_house(tmp_path)


def pace(what: str = "address", **options: Any) -> Pace:
    """Two requests, and no further ones: its clock stands still."""
    return Pace(TWO, what, clock=lambda: 100.0, **options)


@pytest.mark.parametrize("path", sorted(ACTIONS))
async def test_every_method_but_health_is_limited(path: str) -> None:
    """By the address; another one is served all the same."""
    table = limited(hollow(), Paces(per_address=pace()))
    here, there = FakeCall(peer="ipv4:192.0.2.1:1"), FakeCall(peer="ipv4:192.0.2.2:1")
    if path.startswith("/grpc.health"):
        assert [[REACHED]] * 3 == [await ask(table[path], here) for _ in range(3)]
        return
    for _ in range(2):
        try:
            await ask(table[path], here)
        except Limited:
            # A stream of messages takes one for itself and one for each message.
            break

    with pytest.raises(Limited, match="of one address: 1 a second are allowed, 2 at once"):
        await ask(table[path], here)
    assert [REACHED] == await ask(table[path], there)


async def test_a_token_has_its_own_rate(house: House) -> None:
    """Wherever it comes from; another token is not held up."""
    gate = house.gate(Asking.EVERYONE)
    table = guarded(hollow(), type(gate)(gate.identity, gate.holder, gate.sessions, pace("token")))
    one, other = (house.token(Grant(Role.EVALUATE)).text for _ in range(2))
    for address in ("ipv4:192.0.2.1:1", "ipv4:192.0.2.2:1"):
        call = by(one)
        call.peer = address
        await ask(table[EVALUATE], call)

    with pytest.raises(Limited, match="of one token"):
        await ask(table[EVALUATE], by(one))
    assert [REACHED] == await ask(table[EVALUATE], by(other))


async def test_messages_of_a_stream_count(house: House) -> None:
    """Else one stream would be a way around."""
    gate = house.gate(Asking.EVERYONE)
    table = guarded(hollow(), type(gate)(gate.identity, gate.holder, gate.sessions, pace("token")))
    text = house.token(Grant(Role.EVALUATE)).text

    with pytest.raises(Limited, match="of one token"):
        await ask(table[STREAM], by(text), b"", b"", b"")


def test_the_refusal_says_when_to_come_again() -> None:
    """RESOURCE_EXHAUSTED with google.rpc.RetryInfo."""
    limit = pace()
    for _ in range(2):
        limit.require("x")
    with pytest.raises(Limited) as refused:
        limit.require("x")
    abort = abort_for(refused.value, EVALUATE)
    retry = error_details_pb2.RetryInfo()
    (detail,) = status_pb2.Status.FromString(abort.details).details
    detail.Unpack(retry)

    assert (Status.RESOURCE_EXHAUSTED, 1.0) == (abort.code, retry.retry_delay.ToTimedelta().total_seconds())


def test_memory_is_bounded() -> None:
    """Whoever changes addresses all the time pushes out those that have asked least, and not those over their rate."""
    limit = pace(keys_max=10)
    for _ in range(2):
        limit.require("busy")
    for place in range(100):
        limit.require(str(place))

    assert len(limit._full_at) <= 10
    with pytest.raises(Limited):
        limit.require("busy")


@pytest.mark.parametrize("path", [BULK, "/metrics", "/nothing", "/openapi.json"])
async def test_http_is_limited_alike(house: House, path: str) -> None:
    """429 with Retry-After in seconds; health goes on."""
    app = make_app(house.holder, Hub(), clock=fake_clock, leaving=lambda: False)
    trusted = [read_network("127.0.0.1")]
    async with client_of(limited_http(app, Paces(per_address=pace(), trusted=trusted))) as client:
        replies = [await client.post(path, json={}, headers={"x-forwarded-for": "203.0.113.9"}) for _ in range(3)]
        other = await client.post(path, json={}, headers={"x-forwarded-for": "203.0.113.10"})
        health = [await client.get(each) for each in ("/healthz", "/readyz") for _ in range(3)]

    assert (429, "1") == (replies[2].status_code, replies[2].headers["retry-after"])
    assert "try again in" in replies[2].json()["errorDetails"]
    assert 429 not in [each.status_code for each in (*replies[:2], other, *health)]


async def test_a_token_is_limited_over_http(house: House) -> None:
    """By the same rate as over gRPC: they are one caller."""
    gate = house.gate(Asking.EVERYONE)
    limits = pace("token")
    gate = type(gate)(gate.identity, gate.holder, gate.sessions, limits)
    app = make_app(house.holder, Hub(), clock=fake_clock, leaving=lambda: False, gate=gate)
    assert any(isinstance(route, Route) for route in app.routes)
    text = house.token(Grant(Role.EVALUATE)).text
    await ask(guarded(hollow(), gate)[EVALUATE], by(text))
    async with client_of(app) as client:
        found = [
            (await client.post(BULK, json={}, headers={"authorization": f"Bearer {text}"})).status_code
            for _ in range(2)
        ]

    assert [200, 429] == found


def test_without_a_rate_nothing_is_wrapped(house: House) -> None:
    """So it costs nothing."""
    table = hollow()
    app = make_app(house.holder, Hub(), clock=fake_clock, leaving=lambda: False)

    assert (True, True) == (limited(table, Paces()) is table, limited_http(app, Paces()) is app)
