"""People's calendars read launch plans over HTTP, with a token as the password."""

import base64
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from server.core.access import Action, Asking, Grant, Principal, Role
from server.core.errors import StoreUnavailable
from server.web.access import Guarded
from server.web.calendars import calendar_route
from tests.rpc.access import House, new_house
from tests.web.asking import client_of

PATH = "/calendars/shop.ics"


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A database with tokens."""
    yield from new_house(tmp_path)


def told(principal: Principal, project: str) -> bytes:
    """A calendar that says who asked for what."""
    if project == "gone":
        raise StoreUnavailable("the database is gone")
    return f"{project} for {'somebody' if principal.grants else 'nobody'}".encode()


async def ask(house: House, asking: Asking, path: str = PATH, **headers: str) -> httpx.Response:
    """One request."""
    route = calendar_route(told, house.gate(asking))
    assert isinstance(route.endpoint, Guarded)
    assert route.endpoint.action is Action.READ
    async with client_of(Starlette(routes=[route])) as client:
        return await client.get(path, headers=headers)


def basic(text: str) -> str:
    """The header of basic authentication."""
    return f"Basic {base64.b64encode(text.encode()).decode()}"


async def test_a_token_is_the_password(house: House) -> None:
    """Whatever the name is; and a bearer is let in, too."""
    key = house.token(Grant(Role.READ, "shop")).text
    for header in (basic(f"ann:{key}"), basic(f":{key}"), f"Bearer {key}"):
        answer = await ask(house, Asking.MANAGERS, authorization=header)

        assert (200, "shop for somebody") == (answer.status_code, answer.text)
        assert "text/calendar; charset=utf-8" == answer.headers["content-type"]
        assert "private" in answer.headers["cache-control"]


@pytest.mark.parametrize(
    "header", [None, basic("ann:wrong"), basic("ann"), "Basic ###", "Basic", basic("ann:ffa_\u00fc")]
)
async def test_others_are_asked_who_they_are(house: House, header: str | None) -> None:
    """In the way that calendars understand."""
    answer = await ask(house, Asking.MANAGERS, **({} if header is None else {"authorization": header}))

    assert 401 == answer.status_code
    assert answer.headers["www-authenticate"].startswith("Basic realm=")


async def test_who_may_read_nothing_is_refused(house: House) -> None:
    """A token for evaluations is not enough; a server that asks nobody lets everybody in."""
    key = house.token(Grant(Role.EVALUATE)).text

    assert 403 == (await ask(house, Asking.MANAGERS, authorization=basic(f":{key}"))).status_code
    assert 200 == (await ask(house, Asking.NOBODY)).status_code
    assert 503 == (await ask(house, Asking.NOBODY, "/calendars/gone.ics")).status_code
